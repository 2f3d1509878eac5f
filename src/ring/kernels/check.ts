import type { Kernels } from './kernels.ts';
import { wasmKernels } from './wasm.ts';
export function checkedKernels(memory: WebAssembly.Memory): Kernels {
  return wasmKernels(memory);
}
