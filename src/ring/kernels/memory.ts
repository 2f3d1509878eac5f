import type { Kernels } from './kernels.ts';

export type Views = Pick<Kernels, 'memory' | 'u8' | 'u32' | 'i32' | 'f32' | 'f64'>;

/** Bytes at the start of every memory that belong to the kernel module; callers place their data from here on. */
export const firstFree = 65536;
const pageBytes = 65536;

/**
 * A memory of full size from the start. Growing would detach every view; reserving costs nothing, because pages are
 * backed when first touched.
 */
export function newMemory(bytes: number, shared = false): WebAssembly.Memory {
  const pages = Math.ceil(bytes / pageBytes);
  if (!(pages >= 1 && pages <= 65536)) throw new RangeError(`memory: expected 1 byte to 4 GiB, got ${bytes}`);
  return new WebAssembly.Memory({ initial: pages, maximum: pages, shared });
}

export function viewsOf(memory: WebAssembly.Memory): Views {
  const { buffer } = memory;
  return {
    memory,
    u8: new Uint8Array(buffer),
    u32: new Uint32Array(buffer),
    i32: new Int32Array(buffer),
    f32: new Float32Array(buffer),
    f64: new Float64Array(buffer),
  };
}
