/**
 * Attention: softmax(q·kᵀ·scale)·v, head by head, with the softmax taken by cooling and squaring.
 *
 *   a = exp((s − c)/2^J)              c, J public constants of the head
 *   b = a²/Σa²                        temperature 2^(J−1)
 *   b ← b²/Σb²                        J − 1 times: temperature 1, exactly softmax(s)
 *
 * No maximum is taken: after J coolings every row sum lies in a range fixed by the row length, and the exponential's range is 2^J times
 * shorter. Reciprocals but the last may be crude, since a row factor cancels at the next stage; the last divides after the product with v.
 * Heads with the same J run together; groups share rounds.
 */
import { type GraphNode, ModelError } from '../../graph/graph.ts';
import { type Dim, byParam, dimAttr } from '../../program/program.ts';
import { chooseRow, chooseSmooth, type RowGate, type SmoothGate } from '../fit/index.ts';
import { lastDim, onCases, onCases2, product as productOf, type T } from '../builder.ts';
import type { HeadRange } from '../calibrate.ts';
import { activationBits, type Lowering, room, type Val } from './lowering.ts';
import { nearest, rowAttrs } from './row.ts';

/** Row means of the cooled exponential below this need another cooling. */
const faintest = 0.03;
const fewestStages = 2;
const mostStages = 6;
/** Largest ratio that the first, crude reciprocal serves. */
const widestSquares = 500;
/**
 * Fit and words of the exponential. Its errors grow 2^J times on the way to the softmax, relative to a value of about 0.1: t = u = 12 leaves
 * 5e-3 r.m.s. per probability there, 11 twice that. `step` is the score's own rounding.
 */
const exponential = { epsilon: 3e-4, t: 12, u: 12, slope: 0, step: 1e-3 };
/** c lies this far above the largest calibrated score. */
const headroom = 2.5;
/** Scale of the normalised b: 2^15 less what keeps b² below 2^30 for b up to 1.08. */
const fine = 30000;

interface Head {
  index: number;
  range: HeadRange;
  stages: number;
}

export function attention(low: Lowering, node: GraphNode): void {
  const [q, k, v] = node.inputs.map((name) => low.value(name));
  const heads = node.attrs.heads as number;
  const softScale = node.attrs.scale as number;
  const ranges = low.calibration.heads.get(node.name);
  if (!ranges) throw new ModelError(`${node.name}: not seen when calibrating`);
  if (q.shape.length > 3 || (q.shape.length === 3 && q.shape[0] !== 1)) throw new ModelError(`${node.name}: a batch of sequences is not supported; queries are [${q.shape}]`);
  const d = lastDim(q) / heads;
  const list = ranges.map((range, index): Head => ({ index, range, stages: stagesOf(range) }));
  // Heads of a group lie together: their weights are taken in this order, and the next layer's rows too.
  list.sort((a, b) => b.stages - a.stages || a.index - b.index);
  const order = list.flatMap((h) => Array.from({ length: d }, (_, c) => h.index * d + c));
  const inOrder = order.every((c, i) => c === i) || [q, k, v].every((x) => x.accumulate && !x.raw);
  if (!inOrder) {
    list.sort((a, b) => a.index - b.index);
    const most = Math.max(...list.map((h) => h.stages));
    for (const h of list) h.stages = most;
  }
  new AttentionLowering(low, node, q, k, v, list, d, softScale, inOrder ? order : undefined).lower();
}

/** Coolings of a head: the fewest after which the calibrated row means of the exponential are not faint. */
function stagesOf(r: HeadRange): number {
  const c = r.hi + headroom;
  for (let j = fewestStages; j < mostStages; j++) {
    const squares = squareMeans([{ range: r, stages: j }]);
    if (Math.exp(r.logMean[j] - c / 2 ** j) >= faintest && squares.hi / squares.lo <= widestSquares) return j;
  }
  return mostStages;
}

/** Range of Σa²/n₂ for these heads, with margin: n₂ may be almost twice the row's length, and other inputs go further than calibrated ones. */
function squareMeans(heads: readonly { range: HeadRange; stages: number }[]): { lo: number; hi: number } {
  const mean = (h: { range: HeadRange; stages: number }, log: readonly number[]): number => Math.exp(log[h.stages - 1] - (h.range.hi + headroom) / 2 ** (h.stages - 1));
  return {
    lo: 0.4 * Math.min(...heads.map((h) => mean(h, h.range.logMean))),
    hi: Math.min(1, 2 * Math.max(...heads.map((h) => mean(h, h.range.logMeanHi)))),
  };
}

class AttentionLowering {
  private readonly n: Dim;
  private readonly keys: Dim;

  constructor(
    private readonly low: Lowering,
    private readonly node: GraphNode,
    private readonly q: Val,
    private readonly k: Val,
    private readonly v: Val,
    private readonly heads: readonly Head[],
    private readonly d: number,
    private readonly softScale: number,
    private readonly order: readonly number[] | undefined,
  ) {
    this.n = q.shape.at(-2)!;
    this.keys = k.shape.at(-2)!;
  }

  lower(): void {
    const { low, d, heads } = this;
    const { b } = low;
    const width = heads.length * d;
    const kBits = Math.min(activationBits, Math.floor(room - 1 - Math.log2(low.bound(this.k))));
    const fits = heads.map((h) => this.exponential(h));
    const qScale = fits.flatMap((f) => new Array<number>(d).fill((f.scale * this.softScale) / 2 ** kBits));
    const q = b.open(this.projected(this.q, qScale, this.order));
    const k = b.open(this.projected(this.k, new Array<number>(width).fill(2 ** kBits), this.order));
    // v is kept at the bits that b²·v leaves it: see `weighted`.
    const vScale = this.valueScale();
    const vShare = this.projected(this.v, new Array<number>(width).fill(2 ** activationBits), this.order);
    const lowered = b.extend(vShare, { s: onCases(vScale, (s) => activationBits - s), scale: onCases(vScale, (s) => 2 ** s), bound: low.bound(this.v) });
    const v = b.open(lowered.share!);
    const parts: T[] = [];
    for (let from = 0; from < heads.length; ) {
      let to = from;
      while (to < heads.length && heads[to].stages === heads[from].stages) to++;
      parts.push(this.group(q, k, v, from, to, fits));
      from = to;
    }
    const shape = this.q.shape;
    const t = parts.length === 1 ? parts[0] : b.gate('concat', parts, { axis: parts[0].shape.length - 1 }, { ...parts[0], shape: [this.n, width] })[0];
    const out = shape.length === 2 ? t : b.gate('reshape', [t], { shape: [1, dimAttr(this.n), width] }, { ...t, shape: [1, this.n, width] })[0];
    const value = low.defineShare(this.node.outputs[0], out, activationBits);
    value.order = this.order;
  }

  /** A projection at an exact scale per channel, in the heads' order. */
  private projected(x: Val, scale: readonly number[], order: readonly number[] | undefined): T {
    const { b } = this.low;
    if (!x.accumulate || x.raw) {
      // Something else already holds it: rescale that, channel by channel, with integer factors.
      const bits = this.low.bits(x);
      const t = this.low.share(x, bits);
      if (scale.every((s) => s === 2 ** bits)) return t;
      const s = 12;
      return b.extend(t, { s, mul: scale.map((v) => Math.round((v / (t.scale as number)) * 2 ** s)), scale, bound: this.low.bound(x) }).share!;
    }
    // scale is given in the heads' order; the accumulator wants it by channel.
    const byChannel = new Array<number>(scale.length);
    (order ?? scale.map((_, i) => i)).forEach((c, i) => {
      byChannel[c] = scale[i];
    });
    const raw = this.low.accumulator(x, { scale: byChannel, order });
    const scales = typeof raw.scale === 'number' ? scale.map(() => raw.scale as number) : (raw.scale as number[]);
    const drops = scales.map((r, i) => Math.round(Math.log2(r / scale[i])));
    const s = Math.max(0, ...drops);
    const mul = drops.every((x) => x === s) ? undefined : drops.map((x) => 2 ** (s - x));
    const uniform = scale.every((v) => v === scale[0]) ? scale[0] : scale;
    return b.extend(raw, { s, mul, scale: uniform, bound: this.low.bound(x) }).share!;
  }

  /** exp((s − c)/2^J) of one head, and the scores' scale for it: a real number, such that the ring over al is the fit's period. */
  private exponential(h: Head): { scale: number; gate: SmoothGate; phase: number } {
    const spread = 1.2 * (h.range.hi - h.range.lo) + headroom + 2;
    const length = [4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 128, 160, 192, 256].find((v) => v >= spread) ?? spread;
    const most = Math.min(2 ** 24 * 1.4, 2 ** room / (2 * Math.max(Math.abs(h.range.lo), Math.abs(h.range.hi))));
    const period = 1.12 * length;
    const al = Math.max(1, Math.ceil(2 ** 32 / (period * most)));
    const scale = 2 ** 32 / (period * al);
    const cool = 2 ** h.stages;
    const gate = chooseSmooth((y) => Math.exp(y / cool), { key: `exp(x/${cool})`, lo: -length, hi: 0, ...exponential, fractionBits: Math.log2(scale) });
    return { scale, gate, phase: h.range.hi + headroom };
  }

  /** One value for each row length the program serves. */
  private byLength<V>(f: (n: number) => V): V {
    if (typeof this.keys === 'number') return f(this.keys);
    return byParam(this.keys, this.low.buckets, this.low.buckets.map(f));
  }

  /** log2 of v's scale: b² and v share 31 bits less v's bound; longer rows need more of them in b². */
  private valueScale(): number {
    const total = Math.floor(31 - Math.log2(this.low.bound(this.v) * 1.1));
    return this.byLength((n) => Math.min(activationBits, total - squareBits(n)));
  }

  /** Heads from … to−1: their context [n, heads·d] as a share at 2^12. */
  private group(q: T, k: T, v: T, from: number, to: number, fits: readonly { scale: number; gate: SmoothGate; phase: number }[]): T {
    const { low, d, n, keys, heads } = this;
    const { b } = low;
    const G = to - from;
    const width = heads.length * d;
    const stages = heads[from].stages;
    const rows = { kind: 'share' as const, bits: 32, shape: [G, n] as Dim[] };
    const square = { kind: 'share' as const, bits: 32, shape: [G, n, keys] as Dim[] };
    const area = dimAttr(productOf([n, keys]));
    const range = heads.slice(from, to).map((h) => h.range);
    const scores = b.gate('matmulShared', [q, k], {
      batch: G, M: dimAttr(n), N: dimAttr(keys), K: d,
      a: { offset: from * d, batch: d, row: width },
      b: { offset: from * d, batch: d, row: width, transposed: true },
      c: { offset: 0, batch: area, row: dimAttr(keys) },
      shape: [G, dimAttr(n), dimAttr(keys)],
    }, { ...square, scale: fits[from].scale, bound: 2 * Math.max(...range.map((r) => Math.max(Math.abs(r.lo), Math.abs(r.hi)))) })[0];
    const squares = squareMeans(heads.slice(from, to));
    const a = this.exp(scores, fits.slice(from, to), squares.hi);
    let { wire } = this.first(a, squares, rows, square);
    // After the first stage the temperature is 2^(J−1); the squares' sums of the next have the range calibrated there.
    for (let stage = 2; stage < stages; stage++) wire = this.stage(wire, least(range, stages - stage + 1), rows, square);
    return this.weighted(wire, v, from, G, least(range, 1), rows, square);
  }

  /** a at f0 bits, as a wire. */
  private exp(scores: T, fits: readonly { scale: number; gate: SmoothGate; phase: number }[], hi: number): T {
    const { b } = this.low;
    const t = Math.min(...fits.map((f) => f.gate.t));
    const u = Math.min(...fits.map((f) => f.gate.u));
    const m = Math.max(...fits.map((f) => f.gate.m));
    const w = t + u + 2;
    const y = b.gate('harmonic', [scores], {
      f: 'exp',
      axis: 0,
      lanes: false,
      m, t, u, w,
      strips: fits.map((f, i) => ({ to: i + 1, K: f.gate.fit.a.length })),
      // f is fitted on [−length, 0]; the score's own zero is c further down: the series turned by c.
      series: fits.map((f) => turned(f.gate, f.phase)),
      which: fits.map((_, i) => i),
      multiplier: fits.map((f) => f.gate.al),
      constant: fits.map((f) => Math.round(f.gate.fit.c0 * 2 ** (t + u))),
    }, { ...scores, bits: w, scale: 2 ** (t + u), bound: 1 })[0];
    return b.extend(y, { s: this.byLength((n) => t + u - firstBits(n, hi)), share: false, wire: true }).wire!;
  }

  /** b = a²/Σa² from the unnormalised a: (a·g)·a with g = n₂/Σa², in that order, since g has a wide range. */
  private first(a: T, { lo: lowest, hi }: { lo: number; hi: number }, rows: Partial<T>, square: Partial<T>): { wire: T } {
    const { b } = this.low;
    const share = { kind: 'share' as const, bits: 32 };
    const fits = (n: number): RowGate => chooseRow('reciprocal', { lo: lowest, hi, within: [0.8, 1.1], unitsPerOne: padded(n) * 4 ** firstBits(n, hi), maxK: 256 });
    const q = b.gate('rowSquares', [a], null, { ...share, ...rows, scale: onCases(a.scale as number, (s) => s * s), bound: 1 } as T)[0];
    const g = this.rows(q, fits, '1/x', 1 / lowest, fine / 2 ** 15);
    const bits = (n: number): number => Math.floor(29.6 - firstBits(n, hi) - 0.5 * Math.log2(padded(n) / lowest));
    const inverse = b.extend(g, { s: this.byLength((n) => fits(n).t + fits(n).u - bits(n)), share: false, wire: true }).wire!;
    const c = b.gate('mul', [a, inverse], null, { ...share, ...square, scale: onCases2(a.scale as number, inverse.scale as number, (x, y) => x * y), bound: this.byLength((n) => Math.sqrt(padded(n) / lowest)) } as T)[0];
    const half = (n: number): number => Math.floor(29.5 - firstBits(n, hi) - Math.log2(padded(n)));
    const cWire = b.extend(c, { s: this.byLength((n) => bits(n) + firstBits(n, hi) - half(n)), share: false, wire: true }).wire!;
    // a²·n₂/Σa², read as a²/Σa² at n₂ times the scale.
    const scale = this.byLength((n) => (fine / 2 ** 15) * 2 ** (firstBits(n, hi) + half(n)) * padded(n));
    const z = b.gate('mul', [cWire, a], null, { ...share, ...square, scale, bound: 1.2 } as T)[0];
    return { wire: b.extend(z, { s: this.byLength((n) => firstBits(n, hi) + half(n) + Math.log2(padded(n)) - 15), share: false, wire: true }).wire! };
  }

  /** b ← b²/Σb²: b² at 20 bits times g at about 9, g to 20 %. */
  private stage(x: T, lowest: number, rows: Partial<T>, square: Partial<T>): T {
    const { b } = this.low;
    const [squared, q] = this.squares(x, rows, square);
    const fits = (n: number): RowGate => chooseRow('reciprocal', { lo: sumRange(lowest, n), hi: 1.3, within: [0.8, 1.1], unitsPerOne: fine ** 2, maxK: 256 });
    const g = this.rows(q, fits, '1/x', this.byLength((n) => 2 / sumRange(lowest, n)), 2 ** 15 / fine);
    const gWire = b.extend(g, { s: this.byLength((n) => fits(n).t + fits(n).u - 9), share: false, wire: true }).wire!;
    const bWire = b.extend(squared, { s: 10, share: false, wire: true }).wire!;
    const scale = onCases2(bWire.scale as number, gWire.scale as number, (p, r) => p * r);
    const z = b.gate('mul', [bWire, gWire], null, { kind: 'share', bits: 32, ...square, scale, bound: 1.2 } as T)[0];
    return b.extend(z, { s: 14, share: false, wire: true }).wire!;
  }

  private squares(x: T, rows: Partial<T>, square: Partial<T>): [T, T] {
    const { b } = this.low;
    const scale = onCases(x.scale as number, (s) => s * s);
    const squared = b.gate('square', [x], null, { kind: 'share', bits: 32, ...square, scale, bound: 1.1 } as T)[0];
    return [squared, b.gate('sumAxis', [squared], { axis: 2 }, { kind: 'share', bits: 32, ...rows, scale, bound: 1.2 } as T)[0]];
  }

  /** (b²·v)/Σb²: the last division has d values a row in place of the row's length. */
  private weighted(x: T, v: T, from: number, G: number, lowest: number, rows: Partial<T>, square: Partial<T>): T {
    const { low, d, n, keys, heads } = this;
    const { b } = low;
    const [squared, q] = this.squares(x, rows, square);
    const fits = (l: number): RowGate => lastReciprocal(sumRange(lowest, l));
    const bound = low.bound(this.v);
    const vBits = Math.floor(Math.log2(bound) + 1);
    const g = this.rows(q, fits, '1/x', this.byLength((l) => 2 / sumRange(lowest, l)));
    const gWire = b.extend(g, { s: this.byLength((l) => fits(l).t + fits(l).u - (29 - 15 - vBits)), share: false, wire: true }).wire!;
    const p = b.extend(squared, { s: this.byLength((l) => Math.round(Math.log2(fine ** 2) - squareBits(l))), bound: 1.1 }).share!;
    const P = b.open(p);
    const width = heads.length * d;
    const scale = onCases2(P.scale as number, v.scale as number, (s, r) => s * r);
    const nd = dimAttr(productOf([n, d]));
    const z = b.gate('matmulShared', [P, v], {
      batch: G, M: dimAttr(n), N: d, K: dimAttr(keys),
      a: { offset: 0, batch: dimAttr(productOf([n, keys])), row: dimAttr(keys) },
      b: { offset: from * d, batch: d, row: width },
      c: { offset: 0, batch: nd, row: d },
      shape: [G, dimAttr(n), d],
    }, { kind: 'share', bits: 32, scale, bound: bound * 1.1, shape: [G, n, d] })[0];
    const zWire = b.extend(z, { s: onCases(scale, (s) => Math.max(0, Math.round(Math.log2(s)) - 15)), share: false, wire: true }).wire!;
    const y = b.gate('mul', [zWire, gWire], null, { kind: 'share', bits: 32, scale: onCases2(zWire.scale as number, gWire.scale as number, (s, r) => s * r), bound, shape: [G, n, d] })[0];
    const out = b.extend(y, { s: Math.floor(Math.log2(y.scale as number)) - activationBits, bound }).share!;
    const turnedOut = b.gate('permute', [out], { perm: [1, 0, 2] }, { ...out, shape: [n, G, d] })[0];
    return b.gate('reshape', [turnedOut], { shape: [dimAttr(n), G * d] }, { ...turnedOut, shape: [n, G * d], label: heads.length === G && !this.order ? this.node.outputs[0] : undefined })[0];
  }

  private rows(x: T, fits: (n: number) => RowGate, f: string, bound: number, times = 1): T {
    const { b } = this.low;
    const G = x.shape[0] as number;
    const attrs = this.byLength((n) => rowAttrs(fits(n), f, G, 0, times));
    return b.gate('harmonic', [x], attrs, { ...x, scale: this.byLength((n) => times * 2 ** (fits(n).t + fits(n).u)), bound, label: undefined })[0];
  }
}

/** Row lengths count as the next power of two, so that means are shifts. */
const padded = (n: number): number => 2 ** Math.ceil(Math.log2(n));
/** Bits of the unnormalised a, so that its squares' row sum stays below 2^32/1.15: the sum's mean is below `hi`. */
const firstBits = (n: number, hi: number): number => Math.min(16, Math.floor((31.7 - Math.log2(padded(n) * hi)) / 2));
/** Bits of b² in the product with v. */
const squareBits = (n: number): number => 14 + Math.ceil(Math.log2(padded(n)) / 2);

/** 1/x to 2e-3 where that takes no more than 128 harmonics, else as near as they come (5e-3 at 128 tokens). */
const lastReciprocal = (lo: number): RowGate => nearest('reciprocal', { lo, hi: 1.3, unitsPerOne: fine ** 2 }, [[2e-3, 128]]);

/** Smallest calibrated Σp² at temperature 2^j over these heads. */
const least = (heads: readonly HeadRange[], j: number): number => Math.min(...heads.map((h) => h.squares[j]));
/** Smallest Σb² a stage must serve: half the calibrated one, or what rows of this length can have when their sum is 0.8. */
const sumRange = (lowest: number, n: number): number => Math.max(0.5 * lowest, 0.6 / n);

/** The series of y ↦ f(y − phase). */
function turned(gate: SmoothGate, phase: number): { a: number[]; b: number[] } {
  const { a, b, period } = gate.fit;
  const angle = (k: number): number => (2 * Math.PI * (k + 1) * phase) / period;
  return {
    a: a.map((ak, k) => ak * Math.cos(angle(k)) - b[k] * Math.sin(angle(k))),
    b: a.map((ak, k) => ak * Math.sin(angle(k)) + b[k] * Math.cos(angle(k))),
  };
}
