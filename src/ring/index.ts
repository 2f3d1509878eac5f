export { checkedKernels } from './kernels/check.ts';
export { instantiateKernels } from './kernels/instance.ts';
export * from './kernels/kernels.ts';
export { firstFree, newMemory } from './kernels/memory.ts';
export { type ParallelKernels, parallelKernels } from './kernels/parallel.ts';
export { plainKernels } from './kernels/plain.ts';
export { kernelModule, wasmKernels } from './kernels/wasm.ts';
