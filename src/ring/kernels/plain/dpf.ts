import type { Kernels } from '../kernels.ts';
import type { Views } from '../memory.ts';
import { chachaBlock } from './chacha.ts';

/** Second nonce word of the tree's PRG: no other use of the cipher has it with a zero step. */
export const dpfTag = 0x66_70_64;

export function plainDpf({ u32 }: Views): Pick<Kernels, 'dpfLevel'> {
  const key = new Uint32Array(8);
  const block = new Uint32Array(16);
  return {
    dpfLevel(below, tBelow, seeds, t, correction, parents) {
      const [w, to, tTo] = [correction >>> 2, below >>> 2, tBelow >>> 2];
      for (let node = 0; node < parents; node++) {
        const from = (seeds >>> 2) + 4 * node;
        key.set(u32.subarray(from, from + 4));
        key.set(u32.subarray(w + 8, w + 12), 4);
        chachaBlock(block, 0, 1, key, 0, dpfTag, 0, 0, 12);
        // By arithmetic, not by branches: the time shall not tell t.
        const on = u32[(t >>> 2) + node];
        for (let i = 0; i < 8; i++) u32[to + 8 * node + i] = block[i] ^ (u32[w + (i & 3)] & on);
        for (let side = 0; side < 2; side++) u32[tTo + 2 * node + side] = -((block[8] >>> side) & 1) ^ (u32[w + 4 + side] & on);
      }
    },
  };
}
