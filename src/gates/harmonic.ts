/**
 * harmonic: any smooth function of one bounded variable, in one round.
 *
 * On its range f is fitted by a line and a short Fourier series on a slightly longer period P (docs/papers.md, Fourier extensions):
 *   f(y) ≈ slope·y + c_0 + Σ_k a_k cos(2πky/P) + b_k sin(2πky/P).
 * The share is multiplied by the public integer al = 2^B/(P·scale), so that the ring's own wrap is the period, and cut to its top m bits:
 * y in Z_2^m is the angle. Then c = y + r mod 2^m is opened once, and with the dealer's shares of C_k = 2^t cos(2πkr/2^m), S_k likewise
 *   2^(t+u)·Σ_k … = Σ_k p_k·[C_k] + q_k·[S_k],   θ = 2πc/2^m,
 *   p_k = 2^u (a_k cos kθ + b_k sin kθ),   q_k = 2^u (a_k sin kθ − b_k cos kθ)
 * is a public linear combination of shares: cos k(θ−ρ) and sin k(θ−ρ) by the angle addition formulas. Coefficients are per channel.
 *
 * Opened: c, uniform in Z_2^m, because r is m fresh mask bits. C_k and S_k depend on r alone. Outside the range the value aliases, silently:
 * ranges carry a guard band, and the output word has room for f over it.
 */
import { harmonicScratch, packedBytes, stripBytes, stripValues, type Ptr } from '../ring/kernels/kernels.ts';
import { ProgramError, free, size, stream, type BoundGate, type Gate, type PartyContext, type RoleWeights } from './gate.ts';
import { strides } from './local.ts';

export interface Series {
  readonly a: readonly number[];
  readonly b: readonly number[];
}

export interface HarmonicAttrs {
  /** The function, for people. */
  readonly f: string;
  /** The channel axis. Where it is the last one, a range of channels may be taken: from … to−1. */
  readonly axis: number;
  readonly from?: number;
  readonly to?: number;
  /** Bits of the opened angle; of cosines and coefficients; of the output ring. Output scale: 2^(t+u). */
  readonly m: number;
  readonly t: number;
  readonly u: number;
  readonly w: number;
  /** Runs of channels with the same K, ending before `to` (relative to `from`). */
  readonly strips: readonly { readonly to: number; readonly K: number }[];
  /** Distinct series, and which one each channel has. A channel's series has its strip's K terms. */
  readonly series: readonly Series[];
  readonly which: readonly number[];
  /** al, per channel. */
  readonly multiplier: readonly number[];
  /** Integers per channel, times the input truncated by `shift` bits: the line at scale 2^(t+u); or absent. */
  readonly slope?: readonly number[];
  readonly shift?: number;
  /** 2^(t+u)·(c_0 − centre), per channel. */
  readonly constant: readonly number[];
  /** Channels lie along the last axis, each with its own coefficients; otherwise a channel is a run of values with one set. */
  readonly lanes: boolean;
  /** Row gate: large K, f64 angles, words up to 48 bits. */
  readonly row?: boolean;
}

interface Loaded {
  multiplier: Ptr;
  slope: Ptr;
  constant: Ptr;
  /** One block of coefficients per strip. */
  coef: Ptr[];
}

type Bound = BoundGate<HarmonicAttrs, Loaded>;

interface Strip {
  /** First word of the strip in the compact tensor, row stride, rows, width, terms. */
  first: number;
  stride: number;
  rows: number;
  width: number;
  K: number;
  splat: boolean;
}

interface Layout {
  channels: number;
  inner: number;
  n: number;
  strips: Strip[];
}

function layoutOf(g: BoundGate<HarmonicAttrs>): Layout {
  const a = g.attrs;
  const shape = g.outs[0].shape;
  const channels = shape[a.axis];
  const inner = size(shape.slice(a.axis + 1));
  const outer = size(shape.slice(0, a.axis));
  const n = size(shape);
  if (a.which.length !== channels || a.multiplier.length !== channels || a.strips.at(-1)?.to !== channels)
    throw new ProgramError(`harmonic ${g.id}: constants for ${a.which.length} channels, tensor has ${channels}`);
  const strips: Strip[] = [];
  let from = 0;
  for (const { to, K } of a.strips) {
    if (a.lanes) strips.push({ first: from, stride: channels, rows: outer, width: to - from, K, splat: false });
    else for (let c = from; c < to; c++) strips.push({ first: c * inner, stride: channels * inner, rows: outer, width: inner, K, splat: true });
    from = to;
  }
  return { channels, inner, n, strips };
}

/** Correction bytes of the row gate and of the strips. */
function correctionSizes(g: BoundGate<HarmonicAttrs>): number[] {
  const { n, strips } = layoutOf(g);
  const { row, w } = g.attrs;
  return row ? [stripBytes(2 * strips[0].K * n, w)] : strips.map((s) => stripBytes(stripValues(s.rows, s.width, s.K), w));
}

export const harmonic: Gate<HarmonicAttrs, Loaded> = {
  name: 'harmonic',
  shapes(a, [x]) {
    if (a.from === undefined) return [x];
    if (a.axis !== x.length - 1) throw new ProgramError('harmonic: a range of channels needs them on the last axis');
    return [[...x.slice(0, -1), a.to! - a.from]];
  },
  cost(g) {
    return {
      ...free,
      rounds: 1,
      openedBytes: packedBytes(g.attrs.m, g.outs[0].size),
      correctionBytes: correctionSizes(g).reduce((s, b) => s + b, 0),
    };
  },
  load(w: RoleWeights, a) {
    if (w.role === 'dealer') return { multiplier: 0, slope: 0, constant: 0, coef: [] };
    const lower = a.shift !== undefined && a.shift < 0 ? 2 ** -a.shift : 1;
    return {
      multiplier: w.keepWords(a.multiplier),
      slope: a.slope ? w.keepWords(a.slope.map((s) => s * lower)) : 0,
      constant: w.role === 'p0' ? w.keepWords(a.constant) : 0,
      coef: coefficients(w, a),
    };
  },
  dealer(d, g) {
    const { n, strips } = layoutOf(g);
    const { m, t, w, row } = g.attrs;
    const r = d.temp(n);
    const scratch = d.temp(harmonicScratch / 4);
    d.mask(r, stream.maskX, m, n);
    const sizes = correctionSizes(g);
    if (row) d.k.dealHarmonicRow(d.correctionBytes(sizes[0]), r, n, strips[0].K, t, w, m, d.keys[0], d.step, d.gate, stream.strip, scratch);
    else strips.forEach((s, i) => d.k.dealHarmonic(d.correctionBytes(sizes[i]), r + 4 * s.first, s.stride, s.rows, s.width, s.K, t, w, m, d.keys[0], d.step, d.gate, stream.strip + i, scratch));
  },
  *party(p, g) {
    const { channels, inner, n } = layoutOf(g);
    const a = g.attrs;
    const B = g.ins[0].bits;
    const x = compact(p, g, n);
    const c = p.words(n);
    const r = p.temp(n);
    p.mask(r, stream.maskX, a.m, n);
    p.k.truncate(c, x, g.loaded.multiplier, 0, channels, inner, r, 0, B, B - a.m, a.m, p.index, n);
    const out = g.outs[0].at;
    linearPart(p, g, x, out, channels, inner, n);
    yield [{ at: c, bits: a.m, n }];
    series(p, g, out, c);
  },
  plain(a, [x], _w, [out]) {
    return [harmonicPlain(a, x.data, x.shape, out.shape, x.bits ?? 32)];
  },
};

/** Words of x's channel range, in the output's shape. */
function compact(p: PartyContext, g: Bound, n: number): Ptr {
  const { from, to } = g.attrs;
  const x = g.ins[0];
  if (from === undefined) return x.at;
  const all = x.shape.at(-1)!;
  const at = p.temp(n);
  const width = to! - from;
  p.k.copyBox(at, x.at + 4 * from, 1, 1, n / width, width, 0, 0, all, 1, 0, 0, width, 1);
  return at;
}

/** out = slope·x + constant at scale 2^(t+u) mod 2^w; the row gate's wide words have no line. */
function linearPart(p: PartyContext, g: Bound, x: Ptr, out: Ptr, channels: number, inner: number, n: number): void {
  const { slope, shift, row, w } = g.attrs;
  if (row && w > 32) {
    p.k.fill(out, 0, 2 * n);
    if (g.loaded.constant) wideConstant(p, g, out, n);
    return;
  }
  if (!slope) {
    p.k.fill(out, 0, n);
    if (g.loaded.constant) p.k.affine(out, out, 0, g.loaded.constant, channels, inner, n);
    return;
  }
  const s = Math.max(0, shift!);
  const B = g.ins[0].bits;
  p.k.truncate(out, x, 0, 0, 1, 1, 0, 0, B, s, B - s, p.index, n);
  p.k.affine(out, out, g.loaded.slope, g.loaded.constant, channels, inner, n);
}

/** Party 0's constant in 64-bit words; row gates have one channel. */
function wideConstant(p: PartyContext, g: Bound, out: Ptr, n: number): void {
  const c = BigInt(Math.round(g.attrs.constant[0]));
  p.k.fill64(out, Number(BigInt.asUintN(32, c)), Number(BigInt.asUintN(32, c >> 32n)), n);
}

function series(p: PartyContext, g: Bound, out: Ptr, c: Ptr): void {
  const { strips, channels, inner, n } = layoutOf(g);
  const { row, w, m } = g.attrs;
  const scratch = p.temp(harmonicScratch / 4);
  const sizes = correctionSizes(g);
  if (row) {
    p.k.harmonicRow(out, c, n, g.loaded.coef[0], channels, inner, strips[0].K, w, m, p.correctionBytes(sizes[0]), p.key, p.step, p.gate, stream.strip, scratch);
    return;
  }
  strips.forEach((s, i) => {
    p.k.harmonic(out + 4 * s.first, c + 4 * s.first, s.stride, s.rows, s.width, g.loaded.coef[i], s.splat ? 1 : 0, s.K, w, m, p.correctionBytes(sizes[i]), p.key, p.step, p.gate, stream.strip + i, scratch);
  });
}

/** The kernels' coefficient blocks, times 2^u. */
function coefficients(w: RoleWeights, a: HarmonicAttrs): Ptr[] {
  const scale = 2 ** a.u;
  const term = (channel: number, k: number): [number, number] => {
    const s = a.series[a.which[channel]];
    return [(s.a[k] ?? 0) * scale, (s.b[k] ?? 0) * scale];
  };
  if (a.row) {
    const K = a.strips[0].K;
    return [w.keepF64(a.which.flatMap((_, c) => Array.from({ length: K }, (_, k) => term(c, k)).flat()))];
  }
  // A splat strip is one channel with its value in all four lanes; a lane strip holds blocks of four channels, the last one padded.
  const { lanes } = a;
  const blocks: Ptr[] = [];
  let from = 0;
  for (const { to, K } of a.strips) {
    const rows = lanes ? Array.from({ length: Math.ceil((to - from) / 4) }, (_, b) => [0, 1, 2, 3].map((l) => Math.min(from + 4 * b + l, to - 1))) : Array.from({ length: to - from }, (_, c) => Array(4).fill(from + c));
    const block = (four: number[]): number[] => Array.from({ length: K }, (_, k) => [0, 1].flatMap((ab) => four.map((c) => term(c, k)[ab]))).flat();
    if (lanes) blocks.push(w.keepF32(rows.flatMap(block)));
    else for (const four of rows) blocks.push(w.keepF32(block(four)));
    from = to;
  }
  return blocks;
}

/** The fitted function itself in real arithmetic, on integers at the input's scale, at output scale 2^(t+u). */
export function harmonicPlain(a: HarmonicAttrs, x: Float64Array, shape: readonly number[], out: readonly number[], B: number): Float64Array {
  const st = strides(out);
  const inner = size(out.slice(a.axis + 1));
  const channels = out[a.axis];
  const inStrides = strides(shape);
  return Float64Array.from({ length: size(out) }, (_, i) => {
    const at = out.reduce((o, d, j) => o + ((Math.floor(i / st[j]) % d) + (j === a.axis ? (a.from ?? 0) : 0)) * inStrides[j], 0);
    const c = Math.floor(i / inner) % channels;
    const s = a.series[a.which[c]];
    const theta = (2 * Math.PI * x[at] * a.multiplier[c]) / 2 ** B;
    let v = 0;
    s.a.forEach((ak, k) => {
      v += ak * Math.cos((k + 1) * theta) + s.b[k] * Math.sin((k + 1) * theta);
    });
    const line = a.slope ? (a.slope[c] * x[at]) / 2 ** a.shift! : 0;
    return v * 2 ** (a.t + a.u) + a.constant[c] + line;
  });
}
