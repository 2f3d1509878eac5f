/** Lends the WebAssembly kernels to the interpreter's products (Node only: they are read from the build). */
import { firstFree, newMemory } from '../ring/kernels/memory.ts';
import { wasmKernels } from '../ring/kernels/wasm.ts';
import { useKernels } from './gemm.ts';

let tried: boolean | undefined;

/** True when the kernels now serve; false when they are not built, and products stay scalar. Reserves `bytes` of address space. */
export function fastProducts(bytes: number = 1 << 30): boolean {
  if (tried === undefined) {
    try {
      useKernels(wasmKernels(newMemory(bytes)), firstFree);
      tried = true;
    } catch {
      tried = false;
    }
  }
  return tried;
}
