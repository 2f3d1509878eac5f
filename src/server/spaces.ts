/**
 * WebAssembly memories for models that come and go. Each is reserved at full reach and backed where it is written to. One that a model
 * leaves is wiped and goes to the next model, threads and all; one of which that model would leave more than half unused is given back.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { checkedKernels } from '../ring/kernels/check.ts';
import type { Kernels } from '../ring/kernels/kernels.ts';
import { firstFree, newMemory } from '../ring/kernels/memory.ts';
import { parallelKernels } from '../ring/kernels/parallel.ts';
import { largestMemory } from '../runtime/footprint.ts';

export class Space {
  private kernels?: Kernels & { close?(): void };

  private constructor(
    threads: number,
    private touched: number,
  ) {
    this.kernels = threads > 1 ? parallelKernels(newMemory(largestMemory, true), threads) : checkedKernels(newMemory(largestMemory));
  }

  /** A space for `bytes`: the best of those that others left, or a new one. What is left then is given back. */
  static for(bytes: number, left: readonly Space[], threads: number): Space {
    const [best] = left.filter((s) => s.touched <= 2 * bytes).sort((a, b) => b.touched - a.touched);
    Space.giveBack(left.filter((s) => s !== best));
    if (!best) return new Space(threads, bytes);
    best.kernels?.u8.fill(0, firstFree, best.touched);
    best.touched = Math.max(bytes, best.touched);
    return best;
  }

  /**
   * To the system. The engine frees a memory when it collects what leads to it, and it collects by the size of its own heap, to which one
   * shared with threads adds nothing (fifty of 200 MB: 8 GB resident): so it is asked to, 10 to 50 ms. Worker threads keep theirs until they
   * have ended, some ms later.
   */
  static giveBack(spaces: readonly Space[]): void {
    for (const s of spaces) s.drop();
    if (spaces.length === 0) return;
    setFlagsFromString('--expose-gc');
    (runInNewContext('gc') as () => void)();
  }

  /** Bytes that may be backed. */
  get bytes(): number {
    return this.touched;
  }

  /** Kernels for a model of `bytes`: it sees no more of the memory than that. */
  view(bytes: number): Kernels {
    if (!this.kernels) throw new Error('internal: this space was given back');
    return { ...this.kernels, u8: this.kernels.u8.subarray(0, bytes) };
  }

  private drop(): void {
    this.kernels?.close?.();
    this.kernels = undefined;
  }
}
