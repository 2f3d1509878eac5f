/**
 * rotary: positions as turns (RoPE; Su et al., RoFormer, 2021). Pairs of values of a head turn by position · frequency: public integers of
 * each party's own words, nothing is opened, nothing drawn.
 *
 * Both parties must have the same integers to the last bit, and the language does not fix the digits of its sine: so cosine and sine are
 * sums of powers here, made of operations that IEEE 754 rounds alike everywhere.
 */
import { free, type Gate, ProgramError } from './gate.ts';

export interface RotaryAttrs {
  /** Width of a head; the turned pairs are the first 2·frequencies of its values, the rest pass. */
  readonly d: number;
  /** Radians a position, one for each pair. */
  readonly frequencies: readonly number[];
  /** Pairs are (2j, 2j+1) instead of (j, j + pairs). */
  readonly interleaved?: boolean;
  /** cos and sin are rounded to multiples of 2^-bits; values grow by 2^bits. */
  readonly bits: number;
  /** Magnitude of the turned values (YaRN); default 1. */
  readonly magnitude?: number;
}

/** cos and sin of 2π·t for any t ≥ 0, off by less than 1e-15·max(1, t). */
export function turn(t: number): [cos: number, sin: number] {
  const quarters = 4 * (t - Math.floor(t));
  const q = Math.round(quarters);
  const x = (quarters - q) * (Math.PI / 2);
  const xx = x * x;
  let [c, s] = [0, 0];
  for (let k = 9; k >= 1; k--) {
    c = (-xx / ((2 * k - 1) * (2 * k))) * (1 + c);
    s = (-xx / (2 * k * (2 * k + 1))) * (1 + s);
  }
  const [cos, sin] = [1 + c, x * (1 + s)];
  return q % 4 === 0 ? [cos, sin] : q % 4 === 1 ? [-sin, cos] : q % 4 === 2 ? [-cos, -sin] : [sin, -cos];
}

/** Integers of one position: cos and sin of every pair. */
function turns(a: RotaryAttrs, position: number): { cos: Int32Array; sin: Int32Array } {
  const one = 2 ** a.bits * (a.magnitude ?? 1);
  const cos = new Int32Array(a.frequencies.length);
  const sin = new Int32Array(a.frequencies.length);
  a.frequencies.forEach((f, j) => {
    const [c, s] = turn((position * f) / (2 * Math.PI));
    cos[j] = Math.round(one * c);
    sin[j] = Math.round(one * s);
  });
  return { cos, sin };
}

/** The two places of pair j in a head. */
const pair = (a: RotaryAttrs, j: number): [number, number] => (a.interleaved ? [2 * j, 2 * j + 1] : [j, j + a.frequencies.length]);

/** share [n, heads·d] at scale s → the same at s·2^bits. Row i stands at position past+i. */
export const rotary: Gate<RotaryAttrs> = {
  name: 'rotary',
  shapes(a, [x]) {
    if (x.at(-1)! % a.d !== 0 || 2 * a.frequencies.length > a.d) throw new ProgramError(`rotary: heads of ${a.d} with ${a.frequencies.length} pairs in [${x}]`);
    return [x];
  },
  cost: () => free,
  *party(p, g) {
    const { d, frequencies, bits, magnitude = 1 } = g.attrs;
    const [x, y] = [g.ins[0].at / 4, g.outs[0].at / 4];
    const width = g.ins[0].shape.at(-1)!;
    const { u32 } = p.k;
    const one = Math.round(2 ** bits * magnitude);
    for (let row = 0; row < g.ins[0].size / width; row++) {
      const { cos, sin } = turns(g.attrs, p.params.past + row);
      for (let head = row * width; head < (row + 1) * width; head += d) {
        for (let j = 0; j < frequencies.length; j++) {
          const [l, r] = pair(g.attrs, j);
          const [a, b] = [u32[x + head + l], u32[x + head + r]];
          u32[y + head + l] = Math.imul(a, cos[j]) - Math.imul(b, sin[j]);
          u32[y + head + r] = Math.imul(b, cos[j]) + Math.imul(a, sin[j]);
        }
        for (let c = 2 * frequencies.length; c < d; c++) u32[y + head + c] = Math.imul(u32[x + head + c], one);
      }
    }
  },
  plain(a, [x], _w, _outs, { past }) {
    const width = x.shape.at(-1)!;
    const one = Math.round(2 ** a.bits * (a.magnitude ?? 1));
    const y = x.data.map((v) => v * one);
    for (let row = 0; row < x.data.length / width; row++) {
      const { cos, sin } = turns(a, past + row);
      for (let head = row * width; head < (row + 1) * width; head += a.d)
        for (let j = 0; j < a.frequencies.length; j++) {
          const [l, r] = pair(a, j);
          y[head + l] = x.data[head + l] * cos[j] - x.data[head + r] * sin[j];
          y[head + r] = x.data[head + r] * cos[j] + x.data[head + l] * sin[j];
        }
    }
    return [y];
  },
};
