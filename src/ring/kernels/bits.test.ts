import { expect, test } from 'vitest';
import type { Kernels } from './kernels.ts';
import { firstFree, newMemory } from './memory.ts';
import { plainKernels } from './plain.ts';
import { wasmKernels } from './wasm.ts';

const both = [plainKernels(newMemory(1 << 20)), wasmKernels(newMemory(1 << 20))];
const [a, b, c, d, end] = [0, 1, 2, 3, 4].map((i) => firstFree + 1024 * i);
const sizes = [0, 1, 2, 3, 4, 5, 7, 130];
let seed = 9;
const word = (): number => {
  seed = (Math.imul(seed, 1664525) + 1013904223) | 0;
  return (seed ^ (seed >>> 15)) >>> 0;
};

/** Runs a call on the same random memory in both implementations; returns the memory after it, and holds them equal everywhere. */
function run(call: (k: Kernels) => void): [before: Uint32Array, after: Uint32Array] {
  const before = Uint32Array.from({ length: (end - firstFree) / 4 }, word);
  const after = both.map((k) => {
    k.u32.set(before, firstFree / 4);
    call(k);
    return k.u32.slice(firstFree / 4, end / 4);
  });
  expect(Buffer.compare(Buffer.from(after[0].buffer), Buffer.from(after[1].buffer))).toBe(0);
  return [before, after[0]];
}
const share = (words: Uint32Array, n: number): number[] => [...words.slice(0, n)];
const at = (words: Uint32Array, p: number, i: number): number => words[(p - firstFree) / 4 + i];

test.each(sizes)('xor, xorAnd of %i words', (n) => {
  const [x, y] = run((k) => k.xor(a, b, c, n));
  for (let i = 0; i < n; i++) expect(at(y, a, i)).toBe((at(x, b, i) ^ at(x, c, i)) >>> 0);
  const [u, v] = run((k) => k.xorAnd(a, b, c, n));
  for (let i = 0; i < n; i++) expect(at(v, a, i)).toBe((at(u, a, i) ^ (at(u, b, i) & at(u, c, i))) >>> 0);
});

test.each(sizes)('oneHot and pickBits of %i words: two shares of a table say whether the chunk equals, or exceeds, the one in it', (n) => {
  for (let width = 1; width <= 5; width++)
    for (const shift of [0, 3, 31 - width, 32 - width]) {
      const [m, hot] = run((k) => k.oneHot(a, b, shift, width, n));
      const last = 2 ** width - 1;
      const mine = (i: number): number => (~at(m, b, i) >>> shift) & last;
      expect(share(hot, n)).toEqual(Array.from({ length: n }, (_, i) => (mine(i) === last ? 0 : 2 ** mine(i))));
      // Shares of `hot`: random words and their difference; the public chunks are those of m's area c.
      const share0 = Uint32Array.from({ length: n }, word);
      const sums = [0, 1].map((party) => {
        const table = share0.map((s, i) => (party === 0 ? s : s ^ at(hot, a, i)));
        return run((k) => {
          k.u32.set(m.subarray((c - firstFree) / 4, (c - firstFree) / 4 + n), c / 4);
          k.u32.set(table, d / 4);
          k.pickBits(a, b, c, d, shift, width, party, n);
        })[1];
      });
      for (let i = 0; i < n; i++) {
        const v = (at(m, c, i) >>> shift) & last;
        expect([at(sums[0], a, i) ^ at(sums[1], a, i), at(sums[0], b, i) ^ at(sums[1], b, i)]).toEqual([
          v === mine(i) ? 1 : 0,
          v > mine(i) ? 1 : 0,
        ]);
      }
    }
  run((k) => k.pickBits(0, b, c, d, 4, 4, 0, n));
});
