import type { Kernels, Ptr } from '../kernels.ts';
import type { Views } from '../memory.ts';
import { streamWords } from './chacha.ts';

export const maskOf = (bits: number): number => (bits === 32 ? -1 : (1 << bits) - 1);

/** Value i of packed words; see `pack` in kernels.ts for the layout. */
export function packedValue(words: Uint32Array, at: number, bits: number, i: number): number {
  const bit = ((i & 127) >> 2) * bits;
  const w = at + (i >>> 7) * 4 * bits + 4 * (bit >>> 5) + (i & 3);
  const low = bit & 31;
  const value = low + bits > 32 ? (words[w] >>> low) | (words[w + 4] << (32 - low)) : words[w] >>> low;
  return (value & maskOf(bits)) >>> 0;
}

export function packValues(words: Uint32Array, at: number, values: Uint32Array, bits: number): void {
  const blocks = Math.ceil(values.length / 128);
  words.fill(0, at, at + blocks * 4 * bits);
  values.forEach((value, i) => {
    const bit = ((i & 127) >> 2) * bits;
    const w = at + (i >>> 7) * 4 * bits + 4 * (bit >>> 5) + (i & 3);
    const low = bit & 31;
    const masked = (value & maskOf(bits)) >>> 0;
    words[w] |= masked << low;
    if (low + bits > 32) words[w + 4] |= masked >>> (32 - low);
  });
}

/** Values first … first+n−1 of a PRG stream, as an array. */
export function prgValues(
  v: Views,
  key: Ptr,
  step: number,
  gate: number,
  stream: number,
  bits: number,
  first: number,
  n: number,
): Uint32Array {
  const words = Math.ceil(n / 128) * 4 * bits;
  const stored = streamWords(v.u32.slice(key >>> 2, (key >>> 2) + 8), step, gate, stream, (first * bits) / 4096, Math.ceil(words / 128));
  return Uint32Array.from({ length: n }, (_, i) => packedValue(stored, 0, bits, i));
}

export function plainStreams(v: Views): Pick<Kernels, 'prg' | 'pack' | 'unpack' | 'openSum'> {
  const { u32 } = v;
  return {
    prg(dst, key, step, gate, stream, bits, first, n) {
      u32.set(prgValues(v, key, step, gate, stream, bits, first, n), dst >>> 2);
    },
    pack(dst, src, bits, n) {
      packValues(u32, dst >>> 2, u32.slice(src >>> 2, (src >>> 2) + n), bits);
    },
    unpack(dst, src, bits, n) {
      for (let i = 0; i < n; i++) u32[(dst >>> 2) + i] = packedValue(u32, src >>> 2, bits, i);
    },
    openSum(dst, mine, theirs, bits, n) {
      for (let i = 0; i < n; i++) u32[(dst >>> 2) + i] = (u32[(mine >>> 2) + i] + packedValue(u32, theirs >>> 2, bits, i)) & maskOf(bits);
    },
  };
}
