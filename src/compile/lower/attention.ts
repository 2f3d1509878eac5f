/**
 * Attention: softmax(q·kᵀ·scale)·v, head by head, with the softmax taken by cooling and squaring.
 *
 *   a = exp((s − c)/2^J)              c, J public constants of the head
 *   b = a²/Σa²                        temperature 2^(J−1)
 *   b ← b²/Σb²                        J − 1 times: temperature 1, exactly softmax(s)
 *
 * No maximum is taken: after J coolings every row sum lies in a range fixed by the row length, and the exponential's range is 2^J times
 * shorter. Reciprocals but the last may be crude, since a row factor cancels at the next stage; the last divides after the product with v,
 * or before it where the precision asks for that.
 * Heads with the same J run together; groups share rounds.
 */
import { type GraphNode, ModelError } from '../../graph/graph.ts';
import { type Dim, dimAttr } from '../../program/program.ts';
import { lastDim, onCases, onCases2, product as productOf, type T } from '../builder.ts';
import type { RowGate } from '../fit/index.ts';
import { activationBits, type Lowering, room, type Val } from './lowering.ts';
import {
  type Exponential,
  fine,
  finer,
  type Head,
  lastReciprocal,
  least,
  mostStages,
  padded,
  productBits,
  type Seen,
  Stages,
  squareBits,
  squareMeans,
  stagesOf,
  sumRange,
  widestLevelled,
} from './softmax.ts';

const ratio = (heads: readonly Head[]): number => squareMeans(heads).hi / squareMeans(heads).lo;

export function attention(low: Lowering, node: GraphNode): void {
  const [q, k, v] = node.inputs.slice(0, 3).map((name) => low.value(name));
  const heads = node.attrs.heads as number;
  const shares = heads / ((node.attrs.kvHeads as number | undefined) ?? heads);
  const cached = node.inputs.length > 3;
  if (node.attrs.causal && !cached)
    throw new ModelError(`${node.name}: causal attention without a cache is not supported; decoders have one`);
  const softScale = node.attrs.scale as number;
  const ranges = low.calibration.heads.get(node.name);
  if (!ranges) throw new ModelError(`${node.name}: not seen when calibrating`);
  if (q.shape.length > 3 || (q.shape.length === 3 && q.shape[0] !== 1))
    throw new ModelError(`${node.name}: a batch of sequences is not supported; queries are [${q.shape}]`);
  const d = lastDim(q) / heads;
  const list = ranges.map(
    (range, index): Head => ({ index, range, stages: stagesOf(range, low.precision.faintestLate, cached ? widestLevelled : undefined) }),
  );
  // Heads of a group lie together: their weights are taken in this order, and the next layer's rows too.
  list.sort((a, b) => b.stages - a.stages || a.index - b.index);
  const order = list.flatMap((h) => Array.from({ length: d }, (_, c) => h.index * d + c));
  // Rows of a cache, and keys that heads share, stay where they are.
  const inOrder = shares === 1 && !cached && (order.every((c, i) => c === i) || [q, k, v].every((x) => x.accumulate && !x.raw));
  if (!inOrder) {
    list.sort((a, b) => a.index - b.index);
    const together = (stages: number): Head[] => list.map((h) => ({ ...h, stages }));
    let most = Math.max(...list.map((h) => h.stages));
    // One reciprocal serves them all.
    while (cached && most < mostStages && ratio(together(most)) > widestLevelled) most++;
    for (const h of list) h.stages = most;
  }
  new AttentionLowering(low, node, q, k, v, list, d, shares, softScale, inOrder ? order : undefined).lower();
}

class AttentionLowering {
  private readonly n: Dim;
  private readonly keys: Dim;
  private readonly cached: boolean;
  /** What rows of a decoder see; its heads are one group. */
  private readonly seen: Seen | undefined;
  private readonly soft: Stages;
  private readonly vBound: number;

  constructor(
    private readonly low: Lowering,
    private readonly node: GraphNode,
    private readonly q: Val,
    private readonly k: Val,
    private readonly v: Val,
    private readonly heads: readonly Head[],
    private readonly d: number,
    /** Heads that read one key. */
    private readonly shares: number,
    private readonly softScale: number,
    private readonly order: readonly number[] | undefined,
  ) {
    const [, , , , past] = node.inputs;
    this.cached = past !== undefined;
    this.n = q.shape.at(-2)!;
    this.keys = this.cached ? 'keys' : k.shape.at(-2)!;
    const window = (node.attrs.window as number | undefined) || undefined;
    this.seen = this.cached ? { groups: heads.length, n: dimAttr(this.n), keys: dimAttr(this.keys), sequences: dimAttr('sequences'), window } : undefined;
    this.soft = new Stages(low, this.keys, this.seen);
    const prefix = low.prefix.get(node.inputs[5] ?? '');
    this.vBound = Math.max(low.bound(v), ...(prefix ? Array.from(prefix.data as Float32Array, (x) => 1.01 * Math.abs(x)) : []));
  }

  /** Rows that join those of earlier steps: `input` names the cache. */
  private rows(wire: T, input: string): T {
    if (!this.cached) return wire;
    const { b, prefix } = this.low;
    const first = prefix.get(input);
    const width = lastDim(wire);
    const scale = (c: number): number => (typeof wire.scale === 'number' ? wire.scale : wire.scale[c]);
    const kept = first && {
      weight: b.weight(
        `${input}.prefix`,
        first.shape,
        Int32Array.from(first.data as Float32Array, (x, i) => Math.round(x * scale(i % width))),
      ),
      rows: first.shape[0],
      private: b.private,
    };
    return b.gate('cache', [wire], { keys: dimAttr(this.keys), prefix: kept }, { ...wire, shape: [this.keys, width], label: undefined })[0];
  }

  lower(): void {
    const { low, d, heads } = this;
    const { b } = low;
    const width = heads.length * d;
    const kvWidth = width / this.shares;
    const kBits = Math.min(activationBits, Math.floor(room - 1 - Math.log2(low.bound(this.k))));
    const fits = heads.map((h) => this.soft.exponential(h));
    const qScale = fits.flatMap((f) => new Array<number>(d).fill((f.scale * this.softScale) / 2 ** kBits));
    const q = b.open(projected(low, this.q, qScale, this.order));
    const k = this.rows(b.open(projected(low, this.k, new Array<number>(kvWidth).fill(2 ** kBits), this.order)), this.node.inputs[4]);
    // v is kept at the bits that b²·v leaves it: see `weighted`.
    const v = this.rows(b.open(this.values(kvWidth)), this.node.inputs[5]);
    const parts: T[] = [];
    for (let from = 0; from < heads.length; ) {
      let to = from;
      while (to < heads.length && heads[to].stages === heads[from].stages) to++;
      parts.push(this.group(q, k, v, from, to, fits));
      from = to;
    }
    const shape = this.q.shape;
    const t =
      parts.length === 1
        ? parts[0]
        : b.gate('concat', parts, { axis: parts[0].shape.length - 1 }, { ...parts[0], shape: [this.n, width] })[0];
    const out =
      shape.length === 2 ? t : b.gate('reshape', [t], { shape: [1, dimAttr(this.n), width] }, { ...t, shape: [1, this.n, width] })[0];
    const value = low.defineShare(this.node.outputs[0], out, activationBits);
    value.order = this.order;
  }

  /** v as a share, at scales that may differ by length only by way of a second rescale. */
  private values(width: number): T {
    const { low } = this;
    const scale = this.valueScale();
    const at = (bits: number): T => projected(low, this.v, new Array<number>(width).fill(2 ** bits), this.order);
    if (typeof scale === 'number') return at(scale);
    return low.b.extend(at(activationBits), {
      s: onCases(scale, (s) => activationBits - s),
      scale: onCases(scale, (s) => 2 ** s),
      bound: low.bound(this.v),
    }).share!;
  }

  /** Fraction bits that the probabilities and v share: their product's row sums stay below v's bound. */
  private sharedBits(): number {
    return Math.floor(room - Math.log2(0.8 * this.vBound));
  }

  /** log2 of v's scale: longer rows need more of the shared bits in the probabilities, whose rounding errors add up, or in b². */
  private valueScale(): number {
    const most = (n: number): number =>
      this.low.precision.divideFirst ? Math.floor((this.sharedBits() - Math.log2(padded(n)) / 2) / 2) : this.sharedBits() - squareBits(n);
    // What a cache keeps serves steps of every length.
    if (this.cached) return Math.min(activationBits, ...this.low.buckets.map(most));
    return this.soft.byLength((n) => Math.min(activationBits, most(n)));
  }

  /** Heads from … to−1: their context [n, heads·d] as a share at 2^12. */
  private group(q: T, k: T, v: T, from: number, to: number, fits: readonly Exponential[]): T {
    const { low, d, n, keys, heads } = this;
    const { b } = low;
    const G = to - from;
    const width = heads.length * d;
    const stages = heads[from].stages;
    // Cells of a decoder are fewer: see gates/causal.ts.
    const rows = { kind: 'share' as const, bits: 32, shape: (this.seen ? [1, productOf([n, G])] : [G, n]) as Dim[] };
    const square = { kind: 'share' as const, bits: 32, shape: (this.seen ? [1, productOf([G, n, keys])] : [G, n, keys]) as Dim[] };
    const area = dimAttr(productOf([n, keys]));
    const range = heads.slice(from, to).map((h) => h.range);
    const made = { ...square, scale: fits[from].scale, bound: 2 * Math.max(...range.map((r) => Math.max(Math.abs(r.lo), Math.abs(r.hi)))) };
    const a0 = { offset: from * d, batch: d, row: width };
    const scores = this.seen
      ? b.gate(
          'attendScores',
          [q, k],
          { ...this.seen, window: undefined, d, q: a0, kv: this.shared(from) },
          { ...made, shape: [G, productOf([n, keys])] },
        )[0]
      : b.gate(
          'matmulShared',
          [q, k],
          {
            batch: G,
            M: dimAttr(n),
            N: dimAttr(keys),
            K: d,
            a: a0,
            b: { ...this.shared(from), transposed: true },
            c: { offset: 0, batch: area, row: dimAttr(keys) },
            shape: [G, dimAttr(n), dimAttr(keys)],
          },
          made,
        )[0];
    const squares = this.rounded(squareMeans(heads.slice(from, to)));
    const a = this.soft.exp(scores, fits.slice(from, to), squares.hi);
    const lowest = (j: number): number => this.rounded({ lo: least(range, j), hi: 1 }).lo;
    const { divideFirst } = low.precision;
    const scale = (left: number): number => (divideFirst && left === 0 ? finer : fine);
    let wire = this.soft.first(a, squares, rows, square, scale(stages - 2));
    // After the first stage the temperature is 2^(J−1); the squares' sums of the next have the range calibrated there.
    for (let left = stages - 2; left > 0; left--) wire = this.soft.stage(wire, lowest(left + 1), rows, square, scale(left - 1));
    if (divideFirst) return this.divided(wire, v, from, G, lowest(1), rows, square);
    return this.weighted(wire, v, from, G, lowest(1), rows, square);
  }

  /** Decoders have many layers: ranges outwards to powers of √2, so that most of them share their fits. */
  private rounded({ lo, hi }: { lo: number; hi: number }): { lo: number; hi: number } {
    if (!this.cached) return { lo, hi };
    return { lo: 2 ** (Math.floor(2 * Math.log2(lo)) / 2), hi: Math.min(1, 2 ** (Math.ceil(2 * Math.log2(hi)) / 2)) };
  }

  /** (b²/Σb²)·v: the probabilities of a flat row are as precise as those of a steep one. */
  private divided(x: T, v: T, from: number, G: number, lowest: number, rows: Partial<T>, square: Partial<T>): T {
    const { b } = this.low;
    const s = onCases(this.valueScale(), (f) => Math.max(productBits - 20, productBits - this.sharedBits() + f));
    const p = b.extend(this.soft.last(x, lowest, rows, square), { s, bound: 1.1 }).share!;
    const y = this.times(b.open(p), v, from, G);
    const drop = onCases(y.scale as number, (scale) => Math.log2(scale) - activationBits);
    return this.joined(b.extend(y, { s: drop, bound: this.low.bound(this.v) }).share!, G);
  }

  /** (b²·v)/Σb²: the last division has d values a row in place of the row's length. */
  private weighted(x: T, v: T, from: number, G: number, lowest: number, rows: Partial<T>, square: Partial<T>): T {
    const { low } = this;
    const { b } = low;
    const [squared, q] = this.soft.squares(x, rows, square);
    const fits = (l: number): RowGate => lastReciprocal(low, sumRange(lowest, l));
    const bound = this.vBound;
    const vBits = Math.floor(Math.log2(bound) + 1);
    const g = this.soft.rows(
      q,
      fits,
      '1/x',
      this.soft.byLength((l) => 1.2 / sumRange(lowest, l)),
    );
    const gWire = b.extend(g, { s: this.soft.byLength((l) => fits(l).t + fits(l).u - (29 - 15 - vBits)), share: false, wire: true }).wire!;
    const p = b.extend(squared, { s: this.soft.byLength((l) => Math.round(Math.log2(fine ** 2) - squareBits(l))), bound: 1.1 }).share!;
    const z = this.times(b.open(p), v, from, G);
    const scale = z.scale as number;
    const zWire = b.extend(z, { s: onCases(scale, (s) => Math.max(0, Math.round(Math.log2(s)) - 15)), share: false, wire: true }).wire!;
    const y = b.gate('mul', [zWire, gWire], null, {
      kind: 'share',
      bits: 32,
      scale: onCases2(zWire.scale as number, gWire.scale as number, (s, r) => s * r),
      bound,
      shape: z.shape,
    })[0];
    const out = b.extend(y, { s: Math.floor(Math.log2(y.scale as number)) - activationBits, bound }).share!;
    return this.joined(out, G);
  }

  /** Where the keys, or values, of heads from … on lie. */
  private shared(from: number): { offset: number; batch: number; row: number; repeat?: number } {
    const { d, shares, heads } = this;
    return { offset: (from / shares) * d, batch: d, row: (heads.length / shares) * d, repeat: shares > 1 ? shares : undefined };
  }

  /** P·v of these heads, an accumulator. */
  private times(P: T, v: T, from: number, G: number): T {
    const { low, d, n, keys, heads } = this;
    const width = heads.length * d;
    const nd = dimAttr(productOf([n, d]));
    const scale = onCases2(P.scale as number, v.scale as number, (s, r) => s * r);
    const made = { kind: 'share' as const, bits: 32, scale, bound: this.vBound * 1.1, shape: this.seen ? [n, G, d] : [G, n, d] };
    if (this.seen) return low.b.gate('attendValues', [P, v], { ...this.seen, window: undefined, d, kv: this.shared(from) }, made)[0];
    return low.b.gate(
      'matmulShared',
      [P, v],
      {
        batch: G,
        M: dimAttr(n),
        N: d,
        K: dimAttr(keys),
        a: { offset: 0, batch: dimAttr(productOf([n, keys])), row: dimAttr(keys) },
        b: this.shared(from),
        c: { offset: 0, batch: nd, row: d },
        shape: [G, dimAttr(n), d],
      },
      made,
    )[0];
  }

  /** Heads next to each other again. */
  private joined(out: T, G: number): T {
    const { d, n, heads } = this;
    const { b } = this.low;
    const turnedOut = this.seen ? out : b.gate('permute', [out], { perm: [1, 0, 2] }, { ...out, shape: [n, G, d] })[0];
    return b.gate(
      'reshape',
      [turnedOut],
      { shape: [dimAttr(n), G * d] },
      { ...turnedOut, shape: [n, G * d], label: heads.length === G && !this.order ? this.node.outputs[0] : undefined },
    )[0];
  }
}

/** A value at an exact scale for each channel, in the heads' order where there is one. */
export function projected(low: Lowering, x: Val, scale: readonly number[], order?: readonly number[]): T {
  const { b } = low;
  if (x.project) return x.project(scale);
  if (!x.accumulate || x.raw) {
    // Something else already holds it: rescale that, channel by channel, with integer factors.
    const bits = low.bits(x);
    const t = low.share(x, bits);
    if (scale.every((s) => s === 2 ** bits)) return t;
    const s = 12;
    return b.extend(t, { s, mul: scale.map((v) => Math.round((v / (t.scale as number)) * 2 ** s)), scale, bound: low.bound(x) }).share!;
  }
  // scale is given in the heads' order; the accumulator wants it by channel.
  const byChannel = new Array<number>(scale.length);
  (order ?? scale.map((_, i) => i)).forEach((c, i) => {
    byChannel[c] = scale[i];
  });
  const raw = low.accumulator(x, { scale: byChannel, order });
  const scales = typeof raw.scale === 'number' ? scale.map(() => raw.scale as number) : (raw.scale as number[]);
  const drops = scales.map((r, i) => Math.round(Math.log2(r / scale[i])));
  const s = Math.max(0, ...drops);
  const mul = drops.every((x) => x === s) ? undefined : drops.map((x) => 2 ** (s - x));
  const uniform = scale.every((v) => v === scale[0]) ? scale[0] : scale;
  return b.extend(raw, { s, mul, scale: uniform, bound: low.bound(x) }).share!;
}
