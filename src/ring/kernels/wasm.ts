import { readFileSync } from 'node:fs';
import { instantiateKernels } from './instance.ts';
import type { Kernels } from './kernels.ts';

const compiled = new Map<string, WebAssembly.Module>();

const nameOf = (shared: boolean): string => (shared ? 'kernels.shared.wasm' : 'kernels.wasm');

function moduleBytes(shared: boolean): Buffer {
  // From src/ring/kernels and from dist/ring/kernels alike the root is three levels up.
  const path = new URL(`../../../dist/ring/kernels/${nameOf(shared)}`, import.meta.url);
  try {
    return readFileSync(path);
  } catch {
    throw new Error(`kernels: no ${path.pathname}; run npm run build:kernels`);
  }
}

/** The compiled module for a plain or a shared memory, made by `npm run build:kernels`. */
export function kernelModule(shared: boolean): WebAssembly.Module {
  let module = compiled.get(nameOf(shared));
  if (!module) {
    module = new WebAssembly.Module(new Uint8Array(moduleBytes(shared)));
    compiled.set(nameOf(shared), module);
  }
  return module;
}

/** Compiles anew, for when code compiled before must not be used: the engine shares code between modules of the same bytes. */
export function recompiledModule(shared: boolean): WebAssembly.Module {
  // A custom section (id 0) of one byte, its empty name, makes the bytes different and means nothing.
  const module = new WebAssembly.Module(Buffer.concat([moduleBytes(shared), Uint8Array.of(0, 1, 0)]));
  compiled.set(nameOf(shared), module);
  return module;
}

/** The fast kernels over this memory, plain or shared. */
export function wasmKernels(memory: WebAssembly.Memory): Kernels {
  return instantiateKernels(kernelModule(!(memory.buffer instanceof ArrayBuffer)), memory);
}
