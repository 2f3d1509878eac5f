/**
 * The stages of a softmax by cooling and squaring (see attention.ts), and the softmax that stands alone.
 *
 * A softmax on its own has no row statistics, only its input's range: the coolings are as many as bring the whole range down to where the
 * exponential's row sums cannot be faint, and Σb² may be anything down to 1/n. Its result is kept at 15 bits.
 */
import type { CausalRows, SeenAttrs } from '../../gates/causal.ts';
import { type GraphNode, ModelError } from '../../graph/graph.ts';
import { byParam, type Dim, dimAttr } from '../../program/program.ts';
import { onCases, onCases2, product as productOf, type T } from '../builder.ts';
import { capped, type HeadRange, temperatures, type ValueRange } from '../calibrate.ts';
import { chooseRow, chooseSmooth, type RowGate, type SmoothGate } from '../fit/index.ts';
import { type Lowering, room } from './lowering.ts';
import { nearest, rowAttrs } from './row.ts';

/** Row means of the cooled exponential below this need another cooling. */
const faintest = 0.03;
const fewestStages = 2;
export const mostStages = 6;
/** Largest ratio that the first, crude reciprocal serves; causal rows have their sums levelled to within a factor 2 of it. */
const widestSquares = 500;
export const widestLevelled = widestSquares / 2;
/** c lies this far above the largest calibrated score. */
const headroom = 2.5;
/** Scale of the normalised b: 2^15 less what keeps b² below 2^30 for b up to 1.14: crude reciprocals let it reach 1.1. */
export const fine = 28672;
/** The same where b² is never extended: only Σb², the angle of a reciprocal, must fit the ring. */
export const finer = 49152;

export interface Head {
  index: number;
  range: HeadRange;
  stages: number;
}

/** Coolings of a head: the fewest after which the calibrated row means of the exponential are not faint. */
export function stagesOf(r: HeadRange, late = faintest, widest = widestSquares): number {
  const c = topOf(r);
  for (let j = fewestStages; j < mostStages; j++) {
    const squares = squareMeans([{ range: r, stages: j }]);
    if (Math.exp(r.logMean[j] - c / 2 ** j) >= (j > fewestStages + 1 ? late : faintest) && squares.hi / squares.lo <= widest) return j;
  }
  return mostStages;
}

/** Range of Σa²/n₂ for these heads, with margin: n₂ may be almost twice the row's length, and other inputs go further than calibrated ones. */
export function squareMeans(heads: readonly { range: HeadRange; stages: number }[]): { lo: number; hi: number } {
  const mean = (h: { range: HeadRange; stages: number }, log: readonly number[]): number =>
    Math.exp(log[h.stages - 1] - topOf(h.range) / 2 ** (h.stages - 1));
  return {
    lo: 0.4 * Math.min(...heads.map((h) => mean(h, h.range.logMean))),
    hi: Math.min(1, 2 * Math.max(...heads.map((h) => mean(h, h.range.logMeanHi)))),
  };
}

/** Where a head's exponential is fitted, and how far above that its scores lie. */
interface Core {
  readonly lo: number;
  readonly hi: number;
  readonly phase: number;
}

const lengths = [4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 128, 160, 192, 256];

/**
 * A capped score's exponential is another function wherever it is shifted to, so it is fitted where the scores lie. Where the cap has made
 * it flat the upper end lies further off, and c hardly higher. Ends are rounded: heads share fits.
 */
function coreOf({ lo, hi, cap }: HeadRange): Core {
  if (!cap) {
    const spread = 1.2 * (hi - lo) + headroom + 2;
    return { lo: -(lengths.find((v) => v >= spread) ?? spread), hi: 0, phase: hi + headroom };
  }
  const slack = 0.2 * (hi - lo);
  const above = Math.min(headroom / (1 - Math.tanh(hi / cap) ** 2), headroom + slack);
  const grid = 2 ** Math.floor(Math.log2((hi - lo + headroom) / 16));
  return { lo: grid * Math.floor((lo - slack - 2) / grid), hi: grid * Math.ceil((hi + above) / grid), phase: 0 };
}

/** c: the score whose a is 1. */
function topOf(r: HeadRange): number {
  const { hi, phase } = coreOf(r);
  return capped(hi, r.cap) + phase;
}

/** Bits of the probabilities of a softmax on its own. */
const probabilityBits = 15;
/** Bits of the product b·(b·g), which `last` leaves. */
export const productBits = 29;

/** A head's exponential: the scores' scale, the gate, and how far above it the scores lie. */
export interface Exponential {
  readonly scale: number;
  readonly gate: SmoothGate;
  readonly phase: number;
}

/** What gates/causal.ts wants to know; n and keys as attributes. */
export type Seen = SeenAttrs;

/** The gates of the stages, for rows of `keys` values. */
export class Stages {
  constructor(
    readonly low: Lowering,
    readonly keys: Dim,
    /** Rows see those before them alone, and cells lie in causal blocks: see gates/causal.ts. */
    private readonly seen?: Seen,
  ) {}

  /** Attributes of gates that work on rows. */
  private get causal(): { causal?: CausalRows } {
    if (!this.seen) return {};
    const { groups, n, keys, sequences } = this.seen;
    return { causal: { groups, n, keys, sequences } };
  }

  /** exp((s − c)/2^J) of one head, and the scores' scale for it: a real number, such that the ring over al is the fit's period. */
  exponential(h: Head): Exponential {
    const { lo, hi } = coreOf(h.range);
    const most = Math.min(2 ** 24 * 1.4, 2 ** room / (2 * Math.max(Math.abs(h.range.lo), Math.abs(h.range.hi))));
    const period = 1.12 * (hi - lo);
    const al = Math.max(1, Math.ceil(2 ** 32 / (period * most)));
    return this.fitted(h, 2 ** 32 / (period * al));
  }

  /** The same of scores at a scale that is given. */
  fitted({ range, stages }: Head, scale: number): Exponential {
    const { cap } = range;
    const { lo, hi, phase } = coreOf(range);
    const cool = 2 ** stages;
    const top = capped(hi, cap);
    const gate = chooseSmooth((y) => Math.exp((capped(y, cap) - top) / cool), {
      key: `exp(${cap ? `capped(x, ${cap})` : 'x'}/${cool})`,
      lo,
      hi,
      ...this.low.precision.exponential,
      fractionBits: Math.log2(scale),
    });
    return { scale, gate, phase };
  }

  /** One value for each row length the program serves. */
  byLength<V>(f: (n: number) => V): V {
    if (typeof this.keys === 'number') return f(this.keys);
    return byParam(this.keys, this.low.buckets, this.low.buckets.map(f));
  }

  /** a at f0 bits, as a wire. */
  exp(scores: T, fits: readonly Exponential[], hi: number): T {
    const { b } = this.low;
    const t = Math.min(...fits.map((f) => f.gate.t));
    const u = Math.min(...fits.map((f) => f.gate.u));
    const m = Math.max(...fits.map((f) => f.gate.m));
    const w = t + u + 2;
    const y = b.gate(
      'harmonic',
      [scores],
      {
        f: 'exp',
        axis: 0,
        lanes: false,
        m,
        t,
        u,
        w,
        strips: fits.map((f, i) => ({ to: i + 1, K: f.gate.fit.a.length })),
        // Where f is fitted on [−length, 0], the score's own zero is c further down: the series turned by c.
        series: fits.map((f) => turned(f.gate, f.phase)),
        which: fits.map((_, i) => i),
        multiplier: fits.map((f) => f.gate.al),
        constant: fits.map((f) => Math.round(f.gate.fit.c0 * 2 ** (t + u))),
      },
      { ...scores, bits: w, scale: 2 ** (t + u), bound: 1 },
    )[0];
    const visible = this.seen ? b.map('causal', [y], this.seen, { shape: flat(y.shape) }) : y;
    return b.extend(visible, { s: this.byLength((n) => t + u - this.firstBits(n, hi)), share: false, wire: true }).wire!;
  }

  /** b = a²/Σa² from the unnormalised a: (a·g)·a with g = n₂/Σa², in that order, since g has a wide range. */
  first(a: T, squares: { lo: number; hi: number }, rows: Partial<T>, square: Partial<T>, to = fine): T {
    if (this.goesTogether) return this.together(a, squares, rows, square, to);
    const { b } = this.low;
    const { lo: lowest, hi } = squares;
    const whole = Math.ceil(Math.log2(to));
    const share = { kind: 'share' as const, bits: 32 };
    const fits = (n: number): RowGate =>
      chooseRow('reciprocal', { lo: lowest, hi, within: [0.8, 1.1], unitsPerOne: padded(n) * 4 ** firstBits(n, hi), maxK: 256 });
    const q = b.gate('rowSquares', [a], null, { ...share, ...rows, scale: onCases(a.scale as number, (s) => s * s), bound: 1 } as T)[0];
    const g = this.rows(q, fits, '1/x', 1 / lowest, to / 2 ** whole);
    const bits = (n: number): number => Math.floor(29.6 - firstBits(n, hi) - 0.5 * Math.log2(padded(n) / lowest));
    const inverse = b.extend(g, { s: this.byLength((n) => fits(n).t + fits(n).u - bits(n)), share: false, wire: true }).wire!;
    const c = b.gate('mul', [a, inverse], null, {
      ...share,
      ...square,
      scale: onCases2(a.scale as number, inverse.scale as number, (x, y) => x * y),
      bound: this.byLength((n) => Math.sqrt(padded(n) / lowest)),
    } as T)[0];
    const half = (n: number): number => Math.floor(29.5 - firstBits(n, hi) - Math.log2(padded(n)));
    const cWire = b.extend(c, { s: this.byLength((n) => bits(n) + firstBits(n, hi) - half(n)), share: false, wire: true }).wire!;
    // a²·n₂/Σa², read as a²/Σa² at n₂ times the scale.
    const scale = this.byLength((n) => to * 2 ** (firstBits(n, hi) + half(n) - whole) * padded(n));
    const z = b.gate('mul', [cWire, a], null, { ...share, ...square, scale, bound: 1.2 } as T)[0];
    return b.extend(z, { s: this.byLength((n) => firstBits(n, hi) + half(n) + Math.log2(padded(n)) - whole), share: false, wire: true })
      .wire!;
  }

  /**
   * `first` in one round less: a² is extended while its sum is inverted, and multiplied with g = n₂/Σa² once. g is at least 1/hi: its
   * rounding, at most 2^−6 of it, is a row factor like the fit's own error, and the next stage takes it out. All other bits go to a²: in
   * a row as flat as any they leave 2^−14 of b.
   */
  private together(a: T, { lo, hi }: { lo: number; hi: number }, rows: Partial<T>, square: Partial<T>, to: number): T {
    const { b } = this.low;
    // A row of few positions has its sum raised by floor(n₂/positions): nearly the mean that others have.
    const lowest = this.seen ? lo / 2 : lo;
    const level = (x: T): T => (this.seen ? b.map('perSeen', [x], { ...this.seen, numerator: this.byLength(padded) }) : x);
    const whole = Math.ceil(Math.log2(to));
    const units = (n: number): number => 2 * this.firstBits(n, hi);
    const fits = (n: number): RowGate =>
      chooseRow('reciprocal', { lo: lowest, hi, within: [0.8, 1.1], unitsPerOne: padded(n) * 2 ** units(n), maxK: 256 });
    const [squared, q] = this.squares(a, rows, square);
    const g = this.rows(level(q), fits, '1/x', 1 / lowest, to / 2 ** whole);
    const gBits = Math.max(0, 6 + Math.ceil(Math.log2(hi)));
    const bits = (n: number): number => Math.min(units(n), Math.floor(room - 0.2 - gBits - Math.log2(padded(n))));
    const inverse = b.extend(g, { s: this.byLength((n) => fits(n).t + fits(n).u - gBits), share: false, wire: true }).wire!;
    const top = b.extend(squared, { s: this.byLength((n) => units(n) - bits(n)), share: false, wire: true }).wire!;
    // a²·n₂/Σa², read as a²/Σa² at n₂ times the scale.
    const scale = this.byLength((n) => to * 2 ** (bits(n) + gBits - whole) * padded(n));
    const z = b.gate('mul', [top, inverse], this.causal, { kind: 'share', bits: 32, ...square, scale, bound: 1.2 } as T)[0];
    return b.extend(level(z), { s: this.byLength((n) => bits(n) + gBits + Math.log2(padded(n)) - whole), share: false, wire: true }).wire!;
  }

  private get goesTogether(): boolean {
    return this.low.precision.together === true || this.seen !== undefined;
  }

  /** Bits of a: its single squares are extended where its first stage goes together. */
  private firstBits(n: number, hi: number): number {
    return Math.min(this.goesTogether ? 14 : 16, firstBits(n, hi));
  }

  /** b ← b²/Σb²: b² at 20 bits times g at about 9, g to 20 %. */
  stage(x: T, lowest: number, rows: Partial<T>, square: Partial<T>, to = fine): T {
    const { b } = this.low;
    // b²·g has 28 bits or a little less.
    const s = 28 - Math.floor(Math.log2(to));
    const [squared, q] = this.squares(x, rows, square);
    const fits = (n: number): RowGate =>
      chooseRow('reciprocal', { lo: sumRange(lowest, n), hi: 1.3, within: [0.8, 1.1], unitsPerOne: fine ** 2, maxK: 256 });
    const g = this.rows(
      q,
      fits,
      '1/x',
      this.byLength((n) => 1.2 / sumRange(lowest, n)),
      (to * 2 ** (s + 1)) / fine ** 2,
    );
    const gWire = b.extend(g, { s: this.byLength((n) => fits(n).t + fits(n).u - 9), share: false, wire: true }).wire!;
    const bWire = b.extend(squared, { s: 10, share: false, wire: true }).wire!;
    const scale = onCases2(bWire.scale as number, gWire.scale as number, (p, r) => p * r);
    const z = b.gate('mul', [bWire, gWire], this.causal, { kind: 'share', bits: 32, ...square, scale, bound: 1.2 } as T)[0];
    return b.extend(z, { s, share: false, wire: true }).wire!;
  }

  /** b²/Σb² as an accumulator at 2^29, from b at `finer`: (b·g)·b with a precise g = 1/Σb², in that order, since flat rows have small b² and a large g. */
  last(x: T, lowest: number, rows: Partial<T>, square: Partial<T>): T {
    const { b } = this.low;
    const share = { kind: 'share' as const, bits: 32 };
    const times = 2 ** productBits / finer ** 2;
    const fits = (n: number): RowGate => lastReciprocal(this.low, sumRange(lowest, n), finer, times);
    const largest = (n: number): number => 1.2 / sumRange(lowest, n);
    const q = b.gate('rowSquares', [x], this.causal, { ...share, ...rows, scale: finer ** 2, bound: 1.2 } as T)[0];
    const g = this.rows(q, fits, '1/x', this.byLength(largest), times);
    // b·g = b/Σb² is at most √g.
    const bits = (n: number): number => Math.floor(room - 0.2 - Math.log2(finer * times * Math.sqrt(largest(n))));
    const inverse = b.extend(g, { s: this.byLength((n) => fits(n).t + fits(n).u - bits(n)), share: false, wire: true }).wire!;
    const c = b.gate('mul', [x, inverse], this.causal, {
      ...share,
      ...square,
      scale: onCases(inverse.scale as number, (r) => finer * r),
      bound: this.byLength((n) => Math.sqrt(largest(n))),
    } as T)[0];
    const cWire = b.extend(c, { s: this.byLength(bits), share: false, wire: true }).wire!;
    return b.gate('mul', [cWire, x], null, { ...share, ...square, scale: 2 ** productBits, bound: 1.1 } as T)[0];
  }

  squares(x: T, rows: Partial<T>, square: Partial<T>): [T, T] {
    const { b } = this.low;
    const scale = onCases(x.scale as number, (s) => s * s);
    const squared = b.gate('square', [x], null, { kind: 'share', bits: 32, ...square, scale, bound: 1.1 } as T)[0];
    return [
      squared,
      b.gate('sumAxis', [squared], { axis: 2, ...this.causal }, { kind: 'share', bits: 32, ...rows, scale, bound: 1.2 } as T)[0],
    ];
  }

  rows(x: T, fits: (n: number) => RowGate, f: string, bound: number, times = 1): T {
    const { b } = this.low;
    const G = x.shape[0] as number;
    const attrs = this.byLength((n) => rowAttrs(fits(n), f, G, 0, times));
    return b.gate('harmonic', [x], attrs, {
      ...x,
      scale: this.byLength((n) => times * 2 ** (fits(n).t + fits(n).u)),
      bound,
      label: undefined,
    })[0];
  }
}

/** All of it in one group. */
const flat = (shape: readonly Dim[]): Dim[] => [1, productOf(shape)];

/** Range of a value's calibrated entries. */
function extent(r: ValueRange): { lo: number; hi: number } {
  const c = r.channels;
  return c ? { lo: Math.min(...c.lo), hi: Math.max(...c.hi) } : { lo: -r.max, hi: r.max };
}

/** Coolings serve scores this far apart: those of a mask of −10,000 are not. */
const widest = 150;

export function softmax(low: Lowering, node: GraphNode): void {
  const { b } = low;
  const x = low.value(node.inputs[0]);
  const rank = x.shape.length;
  const axis = (node.attrs.axis as number | undefined) ?? -1;
  if ((axis < 0 ? axis + rank : axis) !== rank - 1)
    throw new ModelError(`${node.name}: softmax over axis ${axis} of [${x.shape}] is not supported; over the last axis it is`);
  const { lo, hi } = extent(x.range);
  if (hi - lo > widest)
    throw new ModelError(
      `${node.name}: scores from ${lo} to ${hi} are too far apart for a private softmax (${widest}); leave out positions rather than mask them`,
    );
  const at = (f: (cool: number) => number): number[] => Array.from({ length: temperatures }, (_, j) => f(2 ** j));
  const range: HeadRange = { lo, hi, logMean: at((t) => lo / t), logMeanHi: at((t) => hi / t), squares: at(() => 0) };
  const head: Head = { index: 0, range, stages: stagesOf(range, low.precision.faintestLate) };
  const keys = x.shape.at(-1)!;
  const n = productOf(x.shape.slice(0, -1));
  const soft = new Stages(low, keys);
  const { lo: end } = coreOf(range);
  // The accumulator of a product with room for the exponential's range needs no rescale before it.
  const raw = x.raw && !x.order && typeof x.raw.scale === 'number' && 2 ** 32 / x.raw.scale >= 1.7 * -end ? x.raw : low.plain(x);
  const scores = b.gate('reshape', [raw], { shape: [1, dimAttr(n), dimAttr(keys)] }, { ...raw, shape: [1, n, keys], label: undefined })[0];
  const rows = { kind: 'share' as const, bits: 32, shape: [1, n] as Dim[] };
  const square = { kind: 'share' as const, bits: 32, shape: [1, n, keys] as Dim[] };
  const squares = squareMeans([head]);
  const a = soft.exp(scores, [soft.fitted(head, raw.scale as number)], squares.hi);
  let wire = soft.first(a, squares, rows, square, head.stages === 2 ? finer : fine);
  for (let left = head.stages - 2; left > 0; left--) wire = soft.stage(wire, 0, rows, square, left === 1 ? finer : fine);
  const z = soft.last(wire, 0, rows, square);
  const p = b.extend(z, { s: productBits - probabilityBits }).share!;
  const out = node.outputs[0];
  low.inputBits.set(out, probabilityBits);
  low.defineShare(out, b.gate('reshape', [p], { shape: x.shape.map(dimAttr) }, { ...p, shape: x.shape, label: out })[0], probabilityBits);
}

/** Row lengths count as the next power of two, so that means are shifts. */
export const padded = (n: number): number => 2 ** Math.ceil(Math.log2(n));
/** Bits of the unnormalised a, so that its squares' row sum stays below 2^32/1.15: the sum's mean is below `hi`. */
const firstBits = (n: number, hi: number): number => Math.min(16, Math.floor((31.7 - Math.log2(padded(n) * hi)) / 2));
/** Bits of b² in the product with v. */
export const squareBits = (n: number): number => 14 + Math.ceil(Math.log2(padded(n)) / 2);

/** `times`/x as precise as wished, else as near as that many harmonics come (usual: 5e-3 at 128 tokens). A small factor leaves the words more bits. */
export const lastReciprocal = (low: Lowering, lo: number, scale = fine, times = 1): RowGate =>
  nearest(
    'reciprocal',
    { lo, hi: 1.3, unitsPerOne: scale ** 2, budget: Math.floor(29.7 - Math.log2(times / lo)) },
    low.precision.reciprocal,
  );

/** Smallest calibrated Σp² at temperature 2^j over these heads. */
export const least = (heads: readonly HeadRange[], j: number): number => Math.min(...heads.map((h) => h.squares[j]));
/** Smallest Σb² a stage must serve: half the calibrated one, or what rows of this length can have when their sum is 0.8. */
export const sumRange = (lowest: number, n: number): number => Math.max(0.5 * lowest, 0.6 / n);

/** The series of y ↦ f(y − phase). */
function turned(gate: SmoothGate, phase: number): { a: number[]; b: number[] } {
  const { a, b, period } = gate.fit;
  const angle = (k: number): number => (2 * Math.PI * (k + 1) * phase) / period;
  return {
    a: a.map((ak, k) => ak * Math.cos(angle(k)) - b[k] * Math.sin(angle(k))),
    b: a.map((ak, k) => ak * Math.sin(angle(k)) + b[k] * Math.cos(angle(k))),
  };
}
