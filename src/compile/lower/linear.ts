/**
 * Linear: y = x·W + b, exact in the ring, at a scale per output channel as large as its range and the weights' precision allow.
 * A normalisation's γ and β before it go into W and b; a channel order before it goes into W's rows.
 */
import { type GraphNode, type LowBit, ModelError } from '../../graph/graph.ts';
import { ProgramError } from '../../program/program.ts';
import type { T } from '../builder.ts';
import type { ValueRange } from '../calibrate.ts';
import { blocksOf } from './blocks.ts';
import { type Lowering, type RawOptions, room, type Val, weightBits } from './lowering.ts';

/** Channels quieter than this part of the tensor get the bound of this part: their maxima are poorly known. */
const quietest = 0.02;
/** Fraction bits of a product whose input has none. */
const tableBits = 20;
/** Margin over calibrated channel maxima. */
const margin = 4;

/** Powers of two such that |value|·scale stays below 2^30 with margin, per channel. */
export function channelScales(range: ValueRange, channels: number, most: number): number[] {
  const { lo, hi } = range.channels ?? { lo: new Float64Array(channels).fill(-range.max), hi: new Float64Array(channels).fill(range.max) };
  return Array.from({ length: channels }, (_, j) => {
    const top = margin * Math.max(-lo[j], hi[j], quietest * range.max, 2 ** -10);
    return 2 ** Math.min(Math.floor(room - Math.log2(top)), most);
  });
}

export function linear(low: Lowering, node: GraphNode): void {
  const x = low.value(node.inputs[0]);
  const W = low.constant(node.inputs[1]);
  if (W?.shape.length !== 2) throw new ModelError(`${node.name}: weights must be a constant matrix`);
  const bias = node.inputs[2] ? low.constant(node.inputs[2]) : undefined;
  const [K, N] = W.shape;
  const out = node.outputs[0];
  const weights: Weights = {
    K,
    N,
    get W() {
      return W.data;
    },
    bias: bias?.data,
    lowBit: W.lowBit,
  };
  low.define(out, matrix(low, node.name, x, weights, low.range(out), out));
}

/** x·W + b in the forms a value can be had in. */
export const matrix = (
  low: Lowering,
  name: string,
  x: Val,
  weights: Weights,
  range: ValueRange,
  label?: string,
): Pick<Val, 'accumulate' | 'rescale'> => ({
  accumulate: (o) => product(low, name, x, weights, range, o, label),
  rescale: (f) => withLoudChannels(low, name, x, weights, range, f, label),
});

/** Channels taken out of the matrix at most: a few, or this part of a wide one (decoders have more of them). */
export const mostLoud = (channels: number): number => Math.max(16, channels >> 3);

/**
 * The product at 2^f where a few channels are far louder than the rest (feed-forward layers of transformers have some). All channels leave
 * a truncation in one ring, which has room for the loudest only if the others give up precision. So the loud ones get a small product of
 * their own, truncated in a ring of their own, and are put back by a matrix of zeros and ones. Undefined where no channel is loud.
 */
function withLoudChannels(low: Lowering, name: string, x: Val, w: Weights, range: ValueRange, f: number, label?: string): T | undefined {
  const bound = 2 * Math.max(range.max, 2 ** -6);
  const drops = channelScales(range, w.N, f + weightBits).map((s) => Math.log2(s) - f);
  const sorted = [...drops].sort((a, b) => a - b);
  const most = sorted.at(-1)!;
  // Dropping s bits everywhere, a channel fits if its own scale allows as many.
  const s = sorted[Math.min(mostLoud(w.N), w.N - 1)];
  const loud = drops.flatMap((d, j) => (d < s ? [j] : []));
  const { b } = low;
  if (loud.length === 0) {
    if (s === most) return undefined;
    // Too many to take out: all keep to the loudest's bits.
    const all = product(low, name, x, w, range, { scale: new Array(w.N).fill(2 ** (f + s)), exact: true }, label);
    return b.extend(all, { s, scale: 2 ** f, bound, label }).share!;
  }
  const isLoud = new Set(loud);
  const quietRange = channelsOnly(range, (j) => !isLoud.has(j));
  const few: Weights = {
    K: w.K,
    N: loud.length,
    get W() {
      const { W } = w;
      return Float32Array.from({ length: w.K * loud.length }, (_, i) => W[Math.floor(i / loud.length) * w.N + loud[i % loud.length]]);
    },
    bias: w.bias && loud.map((j) => w.bias![j]),
  };
  const rest = product(low, name, x, w, quietRange, { scale: new Array(w.N).fill(2 ** (f + s)), exact: true, silent: isLoud });
  const main = b.extend(rest, { s, scale: 2 ** f, bound: 2 * quietRange.max }).share!;
  const lowest = 2 ** (f + Math.min(...loud.map((j) => drops[j])));
  const alone = product(
    low,
    `${name}.loud`,
    x,
    few,
    channelsOnly(range, (j) => isLoud.has(j), loud),
    { scale: new Array(few.N).fill(lowest), exact: true },
  );
  const small = b.extend(alone, { s: Math.log2(lowest) - f, scale: 2 ** f, bound }).share!;
  const spread = b.gate('spread', [small], { places: loud, width: w.N }, { ...small, shape: [...small.shape.slice(0, -1), w.N] })[0];
  return b.gate('add', [main, spread], null, { ...main, bound, label })[0];
}

/** The range with channels that are kept: the others count as silent, or leave (`list`). */
function channelsOnly(range: ValueRange, keep: (j: number) => boolean, list?: readonly number[]): ValueRange {
  const { lo, hi, axis } = range.channels!;
  const pick = (v: Float64Array): Float64Array => (list ? Float64Array.from(list, (j) => v[j]) : v.map((x, j) => (keep(j) ? x : 0)));
  const channels = { axis, lo: pick(lo), hi: pick(hi) };
  return { ...range, channels, max: Math.max(...channels.hi, ...channels.lo.map((v) => -v)) };
}

export interface Weights {
  readonly K: number;
  readonly N: number;
  /** [K, N] */
  readonly W: ArrayLike<number>;
  readonly bias?: ArrayLike<number>;
  /** What W was made from, where its file has it in few bits. */
  readonly lowBit?: LowBit;
}

/** Fraction bits that weights want, and that an input keeps in any case. */
const [wantedBits, fewestBits] = [11, 7];

/**
 * Fraction bits of a product's input. Those of the product are shared out between it and the weights; where a loud output channel leaves few,
 * the input, if it has not been rounded yet, gives some of its own to the weights.
 */
function inputBits(low: Lowering, x: Val, scales: readonly number[]): number {
  const usual = low.bits(x);
  if (!(x.raw || x.accumulate) || x.shares.has(usual)) return usual;
  const least = Math.log2(Math.min(...scales));
  return Math.min(usual, Math.max(fewestBits, Math.floor(least) - wantedBits));
}

/** x·W + b as an accumulator. */
export function product(low: Lowering, name: string, x: Val, w: Weights, range: ValueRange, o: RawOptions = {}, label?: string): T {
  const { scale: wanted, order } = o;
  const { K, N } = w;
  const base = x.affine?.base ?? x;
  const powersAt = (most: number): number[] => channelScales(range, N, most);
  const bits = inputBits(low, base, wanted ?? powersAt(tableBits + weightBits));
  // Whole inputs (one-hot rows) leave the fraction to the weights.
  const most = Math.max(Math.min(bits + weightBits, o.most ?? Infinity), tableBits);
  const powers = powersAt(most);
  // One truncation takes all channels down to the wanted scale: before it, each has as many whole bits more as the loudest can have.
  const extra = wanted ? Math.floor(room - Math.log2(Math.max(range.max, 2 ** -6) * Math.max(...wanted))) : 0;
  const scales = wanted ? wanted.map((s, j) => (o.exact ? s : s * 2 ** Math.min(extra, Math.floor(Math.log2(powers[j] / s))))) : powers;
  const columns = order ?? Array.from({ length: N }, (_, j) => j);
  const silent = o.silent ?? new Set<number>();
  // A value asked for in two forms is two products, each with weights (and masks) of its own.
  const { b } = low;
  if (b.weights.has(`${name}.weight`)) return product(low, `${name}.again`, x, w, range, o, label);
  // Factors of the input's channels would tear blocks apart: they are multiplied out before, in a round more, to exactly 2^bits. An order of its
  // channels would, too: they are put back into the graph's order, which costs nothing.
  const before = x.affine ? 2 ** bits : (low.share(base, bits).scale as number);
  const blocks = w.lowBit && !b.private ? blocksOf(w.lowBit, order, scales.map((s) => s / before), silent) : undefined;
  const folded = blocks ? undefined : x.affine;
  const rows = blocks ? undefined : base.order;
  const input = blocks ? low.plain(x, bits) : low.share(base, bits);
  const S = input.scale as number;
  const made = blocks ? scales.map((s, c) => s / blocks.fewer[c]) : scales;
  const integers = (): Int32Array => {
    const data = new Int32Array(K * N);
    const { W } = w;
    for (let k = 0; k < K; k++) {
      const source = rows ? rows[k] : k;
      const gamma = folded ? folded.mul[source] : 1;
      for (let j = 0; j < N; j++) {
        const c = columns[j];
        if (!silent.has(c)) data[k * N + j] = Math.round((W[source * N + c] * gamma * made[c]) / S);
      }
    }
    return data;
  };
  const weight = b.weight(`${name}.weight`, [K, N], integers, blocks?.bytes);
  const biasName = w.bias || folded ? b.weight(`${name}.bias`, [N], biases(w, folded, made, columns, silent)) : undefined;
  const uniform = (of: readonly number[]): number | number[] => (of.every((s) => s === of[0]) ? of[0] : columns.map((c) => of[c]));
  const out = {
    kind: 'share' as const,
    bits: 32,
    scale: uniform(made),
    bound: 2 * Math.max(range.max, 2 ** -6),
    shape: [...input.shape.slice(0, -1), N],
    label: order ? undefined : label,
  };
  const attrs = { weight, bias: biasName, K, N, blocks: blocks?.format };
  if (b.private) return b.gate('matmulPrivate', [low.wire(base, bits)], attrs, out)[0];
  const [z] = b.gate('matmulPublic', [input], attrs, out);
  if (!blocks?.fewer.some((f) => f > 1)) return z;
  // At the scale that was asked for again: each party multiplies its share, nothing is sent.
  return b.map('affine', [z], { mul: columns.map((c) => blocks.fewer[c]) }, { scale: uniform(scales) });
}

/** Integers of the bias, and of what the input's own zero makes of the weights. */
function biases(w: Weights, folded: Val['affine'], scales: readonly number[], columns: readonly number[], silent: ReadonlySet<number>): Int32Array {
  const offset = new Float64Array(w.N);
  if (folded?.add.some((v) => v !== 0)) {
    const { W } = w;
    for (let k = 0; k < w.K; k++) for (let j = 0; j < w.N; j++) offset[j] += folded.add[k] * W[k * w.N + columns[j]];
  }
  return Int32Array.from(offset, (v, j) => (silent.has(columns[j]) ? 0 : Math.round((v + (w.bias ? w.bias[columns[j]] : 0)) * scales[columns[j]])));
}
