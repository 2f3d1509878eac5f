import { readFileSync } from 'node:fs';
import { instantiateKernels } from './instance.ts';
import type { Kernels } from './kernels.ts';

const compiled = new Map<string, WebAssembly.Module>();

/** The compiled module for a plain or a shared memory, made by `npm run build:kernels`. */
export function kernelModule(shared: boolean): WebAssembly.Module {
  const name = shared ? 'kernels.shared.wasm' : 'kernels.wasm';
  let module = compiled.get(name);
  if (!module) {
    // From src/ring/kernels and from dist/ring/kernels alike the root is three levels up.
    const path = new URL(`../../../dist/ring/kernels/${name}`, import.meta.url);
    let bytes: Buffer<ArrayBuffer>;
    try {
      bytes = readFileSync(path) as Buffer<ArrayBuffer>;
    } catch {
      throw new Error(`kernels: no ${path.pathname}; run npm run build:kernels`);
    }
    module = new WebAssembly.Module(bytes);
    compiled.set(name, module);
  }
  return module;
}

/** The fast kernels over this memory, plain or shared. */
export function wasmKernels(memory: WebAssembly.Memory): Kernels {
  return instantiateKernels(kernelModule(!(memory.buffer instanceof ArrayBuffer)), memory);
}
