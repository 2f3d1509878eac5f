export { instantiateKernels } from './kernels/instance.ts';
export * from './kernels/kernels.ts';
export { firstFree, newMemory } from './kernels/memory.ts';
export { plainKernels } from './kernels/plain.ts';
export { wasmKernels } from './kernels/wasm.ts';
