/**
 * rotary: positions as turns (RoPE; Su et al., RoFormer, 2021). Pairs of values of a head turn by position · frequency: public integers of
 * each party's own words, nothing is opened, nothing drawn.
 *
 * Both parties must have the same integers to the last bit, and the language does not fix the digits of its sine: so cosine and sine are
 * sums of powers here, made of operations that IEEE 754 rounds alike everywhere.
 */
import { positions } from './causal.ts';
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

interface Turns {
  readonly cos: Int32Array;
  readonly sin: Int32Array;
}
/** All layers of a step turn alike. */
let last: { readonly key: string; readonly turns: Turns } | undefined;

/** One head's integers at each of these positions: value c becomes x[c]·cos[c] + x[partner of c]·sin[c]. What does not turn has cosine 1. */
function turns(a: RotaryAttrs, at: readonly number[]): Turns {
  const key = JSON.stringify([a, at]);
  if (last?.key !== key) last = { key, turns: made(a, at) };
  return last.turns;
}

function made(a: RotaryAttrs, positions: readonly number[]): Turns {
  const one = 2 ** a.bits * (a.magnitude ?? 1);
  const cos = new Int32Array(positions.length * a.d).fill(Math.round(one));
  const sin = new Int32Array(positions.length * a.d);
  a.frequencies.forEach((f, j) => {
    const [l, r] = pair(a, j);
    for (const [row, position] of positions.entries()) {
      const [c, s] = turn((position * f) / (2 * Math.PI));
      const at = row * a.d;
      cos[at + l] = cos[at + r] = Math.round(one * c);
      sin[at + r] = Math.round(one * s);
      sin[at + l] = -sin[at + r];
    }
  });
  return { cos, sin };
}

/** The two places of pair j in a head. */
const pair = (a: RotaryAttrs, j: number): [number, number] => (a.interleaved ? [2 * j, 2 * j + 1] : [j, j + a.frequencies.length]);

/** share [n, heads·d] at scale s → the same at s·2^bits, by the rows' positions (causal.ts). */
export const rotary: Gate<RotaryAttrs> = {
  name: 'rotary',
  shapes(a, [x]) {
    if (x.at(-1)! % a.d !== 0 || 2 * a.frequencies.length > a.d) throw new ProgramError(`rotary: heads of ${a.d} with ${a.frequencies.length} pairs in [${x}]`);
    return [x];
  },
  cost: () => free,
  *party(p, g) {
    const { d, frequencies, interleaved } = g.attrs;
    const [x, y] = [g.ins[0], g.outs[0]];
    const width = x.shape.at(-1)!;
    const [rows, heads, pairs] = [x.size / width, width / d, frequencies.length];
    const { k } = p;
    const { cos, sin } = turns(g.attrs, positions(rows, p.params));
    const [table, factors, partners] = [p.temp(rows * d), p.temp(x.size), p.temp(x.size)];
    /** factors = values, the same for every head. */
    const spread = (values: Int32Array): void => {
      k.i32.set(values, table / 4);
      k.copyBox(factors, table, 1, rows, heads, d, 0, d, 0, 1, 0, width, d, 1);
    };
    spread(cos);
    k.mul(y.at, x.at, factors, x.size);
    spread(sin);
    // Those without a partner have sine 0, whatever stands here.
    k.copy(partners, x.at, x.size);
    const [across, along] = interleaved ? [1, 2] : [pairs, 1];
    for (const [to, from] of [[0, 4 * across], [4 * across, 0]]) k.copyBox(partners + to, x.at + from, 1, 1, rows * heads, pairs, 0, 0, d, along, 0, 0, d, along);
    k.mul(partners, partners, factors, x.size);
    k.add(y.at, y.at, partners, x.size);
  },
  plain(a, [x], _w, _outs, params) {
    const width = x.shape.at(-1)!;
    const { cos, sin } = turns(a, positions(x.data.length / width, params));
    const partner = Int32Array.from({ length: a.d }, (_, c) => c);
    a.frequencies.forEach((_, j) => {
      const [l, r] = pair(a, j);
      [partner[l], partner[r]] = [r, l];
    });
    return [
      x.data.map((v, i) => {
        const c = i % a.d;
        const at = Math.floor(i / width) * a.d + c;
        return v * cos[at] + x.data[i - c + partner[c]] * sin[at];
      }),
    ];
  },
};
