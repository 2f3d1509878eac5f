/**
 * Smooth functions of one variable, by harmonic gates with a range per channel.
 *
 * A channel's range is far narrower than its tensor's, and the number of harmonics grows with it. Each channel's calibrated ends are
 * widened (core) and rounded up to a short list, so that few fits serve all; channels are put in an order in which equal word widths and
 * equal K lie together, when the layers around can take their weights in that order. A guard band beyond the core is fitted loosely.
 */
import type { GraphNode } from '../../graph/graph.ts';
import { type Dim, dimAttr, ProgramError } from '../../program/program.ts';
import type { T } from '../builder.ts';
import type { Precision } from '../precision.ts';
import { chooseSmooth, guardWidth, type SmoothGate } from '../fit/index.ts';
import { activationBits, type Lowering, room, type Val } from './lowering.ts';

export interface SmoothFunction {
  /** Error and bits; filled in from the program's precision. */
  readonly words?: Precision['smooth'];
  readonly name: string;
  readonly f: (y: number) => number;
  /** Slope taken from the input itself: 1/2 for GELU and SiLU, which leaves an even function; 0 for bounded functions. */
  readonly slope: number;
  /** Where f is smooth; everywhere by default. */
  readonly domain?: readonly [number, number];
}

/** Ends of ranges. */
const ends = [0.5, 1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 192, 256];
const core = 1.25;
const guardRatio = 1.4;
/** Output words: most channels fit the narrowest. */
const widths = [24, 26, 28, 30, 32];
/** Channels a word width must have to be worth a gate of its own. */
const fewest = 32;

const roundUp = (v: number): number => ends.find((e) => e >= v) ?? v;

export interface Range {
  lo: number;
  hi: number;
}

function widened(range: Range, fn: SmoothFunction): Range {
  if (!fn.domain) return { lo: -roundUp(Math.max(0.5, -core * range.lo)), hi: roundUp(Math.max(0.5, core * range.hi)) };
  const slack = (core - 1) * (range.hi - range.lo) + 1e-3;
  const [from, to] = fn.domain;
  return {
    lo: Math.max(range.lo - slack, from + (range.lo - from) / 1.5),
    hi: to === Infinity ? range.hi + slack : Math.min(range.hi + slack, to - (to - range.hi) / 1.5),
  };
}

export interface Channel {
  channel: number;
  gate: SmoothGate;
}

/** Fraction bits of the input for words of width w: the line's exactness, a period at least 6 units of al long, 12 bits of weight. */
function inputBits(r: Range, fn: SmoothFunction, w: number): number {
  const g = guardWidth(r.lo, r.hi, guardRatio);
  const width = 1.1 * (r.hi - r.lo + 2 * g);
  const line = fn.slope === 0 ? 32 : 31 + 2 * fn.words!.bits - w;
  return Math.min(24, line, Math.floor(32 - Math.log2(6 * width)), Math.floor(room - Math.log2(Math.max(-r.lo, r.hi) + g)));
}

function fitted(fn: SmoothFunction, r: Range, fractionBits: number, w: number): SmoothGate {
  const guard = fn.domain ? 0 : guardWidth(r.lo, r.hi, guardRatio);
  return chooseSmooth(fn.f, {
    key: fn.name,
    lo: r.lo,
    hi: r.hi,
    guard,
    epsilon: fn.words!.epsilon,
    fractionBits,
    slope: fn.slope,
    maxWord: w,
    t: fn.words!.bits,
    u: fn.words!.bits,
  });
}

/** The narrowest width whose fit needs no fewer bits than the precision asks for. */
function narrowest(fn: SmoothFunction, r: Range): { w: number; gate: SmoothGate; bits: number } {
  for (const w of widths) {
    const bits = inputBits(r, fn, w);
    const gate = fitted(fn, r, bits, 32);
    if (gate.word.need <= w && gate.t + gate.u === 2 * fn.words!.bits) return { w, gate, bits };
  }
  const bits = inputBits(r, fn, 32);
  return { w: 32, gate: fitted(fn, r, bits, 32), bits };
}

export function smooth(low: Lowering, node: GraphNode, f: SmoothFunction): void {
  const fn = { ...f, words: low.precision.smooth };
  const x = low.value(node.inputs[0]);
  const c = x.range.channels;
  const last = x.shape.length - 1;
  const channels = x.shape[last];
  if (c?.axis !== last || typeof channels !== 'number') {
    elsewhere(low, node, fn, x);
    return;
  }
  const ranges = rangesOf(x, fn);
  const permutable = orderable(low, x) && feedsLinear(low, node.outputs[0]);
  if (orderable(low, x) && gates(low, node.outputs[0])) {
    low.define(node.outputs[0], { gate: { x, fn } });
    return;
  }
  const out = permutable ? byClasses(low, node, fn, x, ranges) : inPlace(low, node, fn, x, ranges);
  const v = low.defineShare(node.outputs[0], out.t, activationBits);
  v.order = out.order;
}

/** Channels on another axis (images), each with its range; or one range for all. */
function elsewhere(low: Lowering, node: GraphNode, fn: SmoothFunction, x: Val): void {
  const c = x.range.channels;
  const perChannel = c !== undefined && c.axis < x.shape.length - 1 && x.shape[c.axis] === c.lo.length;
  const whole = c ? { lo: Math.min(...c.lo), hi: Math.max(...c.hi) } : { lo: -x.range.max, hi: x.range.max };
  const ranges = perChannel ? Array.from(c.lo, (lo, j) => widened({ lo, hi: c.hi[j] }, fn)) : [widened(whole, fn)];
  const { bits, w } = common(fn, ranges);
  const input = low.plain(x, bits);
  const list = ranges.map((r, j) => ({ channel: j, gate: fitted(fn, r, Math.log2(input.scale as number), w) }));
  const shape = perChannel ? x.shape : [1, ...x.shape];
  const reshaped = (t: T, to: readonly Dim[], attr: readonly number[]): T =>
    perChannel ? t : low.b.gate('reshape', [t], { shape: attr }, { ...t, shape: to, label: undefined })[0];
  // One range: the whole value is one channel, whose size may be a parameter.
  const t = gate(low, node.outputs[0], fn, reshaped(input, shape, [1, -1]), list, 0, list.length, {
    axis: perChannel ? c.axis : 0,
    lanes: false,
  });
  low.defineShare(node.outputs[0], reshaped(t, x.shape, x.shape.map(dimAttr)), activationBits);
}

/** Calibrated ranges of the last axis' channels, widened. */
export const rangesOf = (x: Val, fn: SmoothFunction): Range[] =>
  Array.from(x.range.channels!.lo, (lo, j) => widened({ lo, hi: x.range.channels!.hi[j] }, fn));

/** A linear layer's result that nobody has asked for yet, and that one operator reads: its channels may come in any order. */
export const orderable = (low: Lowering, x: Val): boolean =>
  x.accumulate !== undefined && !x.whole && x.raw === undefined && x.shares.size === 0 && only(low, x.name);

/** Whether `name` is only multiplied with a linear layer's result, for a linear layer: both can take the order of gated.ts. */
function gates(low: Lowering, name: string): boolean {
  const [product] = low.consumers.get(name) ?? [];
  if (!only(low, name) || product.op !== 'Mul' || !feedsLinear(low, product.outputs[0])) return false;
  const other = product.inputs.find((i) => i !== name);
  return other !== undefined && only(low, other) && low.graph.nodes.some((n) => n.op === 'Linear' && n.outputs[0] === other);
}

const only = (low: Lowering, name: string): boolean => low.consumers.get(name)?.length === 1 && !low.graph.outputs.includes(name);
const feedsLinear = (low: Lowering, name: string): boolean =>
  !low.graph.outputs.includes(name) && (low.consumers.get(name) ?? []).every((n) => n.op === 'Linear' && n.inputs[0] === name);

export interface Class {
  /** Fraction bits of the input. */
  readonly bits: number;
  readonly list: readonly Channel[];
}

/** Channels by word width, in each sorted by K: one gate a width, one strip a K. A width with few channels joins the next wider. */
export function classesOf(fn: SmoothFunction, ranges: readonly Range[], channels: readonly number[], few = fewest): Class[] {
  const widthOf = new Map(channels.map((j) => [j, narrowest(fn, ranges[j]).w]));
  for (const w of widths.slice(0, -1)) {
    const members = channels.filter((j) => widthOf.get(j) === w);
    const wider = [...widthOf.values()].filter((v) => v > w);
    if (members.length < few && wider.length > 0) for (const j of members) widthOf.set(j, Math.min(...wider));
  }
  const present = [...new Set(widthOf.values())].sort((a, b) => a - b);
  return present.map((w) => {
    const members = channels.filter((j) => widthOf.get(j) === w);
    const bits = Math.min(...members.map((j) => inputBits(ranges[j], fn, w)));
    const list: Channel[] = members.map((j) => ({ channel: j, gate: fitted(fn, ranges[j], bits, w) }));
    list.sort((a, b) => b.gate.fit.a.length - a.gate.fit.a.length || a.channel - b.channel);
    return { bits, list };
  });
}

/** By channel: the scale its class wants. */
export function scalesOf(classes: readonly Class[]): number[] {
  const scale: number[] = [];
  for (const { bits, list } of classes) for (const { channel } of list) scale[channel] = 2 ** bits;
  return scale;
}

/** Channels in the order of their classes. */
function byClasses(low: Lowering, node: GraphNode, fn: SmoothFunction, x: Val, ranges: readonly Range[]): { t: T; order?: number[] } {
  const classes = classesOf(fn, ranges, [...ranges.keys()]);
  const order = classes.flatMap((c) => c.list.map((m) => m.channel));
  const raw = low.accumulator(x, { scale: scalesOf(classes), order, exact: true });
  let from = 0;
  const parts = classes.map(({ list }) => {
    const part = gate(low, node.outputs[0], fn, raw, list, from, from + list.length);
    from += list.length;
    return part;
  });
  return { t: concat(low, parts), order };
}

/** Parts of the last axis side by side. */
export function concat(low: Lowering, parts: readonly T[]): T {
  if (parts.length === 1) return parts[0];
  const [first] = parts;
  const axis = first.shape.length - 1;
  const shape = [...first.shape.slice(0, -1), parts.reduce((sum, p) => sum + (p.shape[axis] as number), 0)];
  return low.b.gate('concat', parts, { axis }, { ...first, shape, bound: Math.max(...parts.map((p) => p.bound)) })[0];
}

/** Word width and input bits that serve all these ranges. */
function common(fn: SmoothFunction, ranges: readonly Range[]): { w: number; bits: number } {
  const widest = ranges.reduce((a, r) => ({ lo: Math.min(a.lo, r.lo), hi: Math.max(a.hi, r.hi) }));
  const { w } = narrowest(fn, widest);
  return { w, bits: Math.min(16, inputBits(widest, fn, w)) };
}

/** Channels as they come, one gate for all. */
function inPlace(
  low: Lowering,
  node: GraphNode,
  fn: SmoothFunction,
  x: Val,
  ranges: readonly Range[],
): { t: T; order?: readonly number[] } {
  const { bits, w } = common(fn, ranges);
  const input = low.share(x, bits);
  const ordered = x.order ?? ranges.map((_, j) => j);
  const list = ordered.map((j) => ({ channel: j, gate: fitted(fn, ranges[j], Math.log2(input.scale as number), w) }));
  return { t: gate(low, node.outputs[0], fn, input, list, 0, list.length, { axis: x.shape.length - 1, lanes: true }), order: x.order };
}

/** One harmonic gate over channels from … to−1 of `raw`, and the extension to a share at 2^12. */
function gate(
  low: Lowering,
  label: string,
  fn: SmoothFunction,
  raw: T,
  list: readonly Channel[],
  from: number,
  to: number,
  whole?: { axis: number; lanes: boolean },
): T {
  const { y, axis, centres, top } = series(low, label, fn, raw, list, from, to, whole);
  const s = Math.log2(y.scale as number) - activationBits;
  const after = centres.map((c) => Math.round(c * 2 ** activationBits));
  return low.b.extend(y, { s, after, bound: top, axis: whole && !whole.lanes ? axis : undefined }).share!;
}

/** f less its `centres` over channels from … to−1 of `raw`, in the gate's words. `top`: what |f| stays below. */
export function series(
  low: Lowering,
  label: string,
  fn: SmoothFunction,
  raw: T,
  list: readonly Channel[],
  from: number,
  to: number,
  whole?: { axis: number; lanes: boolean },
): { y: T; axis: number; centres: number[]; top: number } {
  const { b } = low;
  const t = Math.min(...list.map((c) => c.gate.t));
  const u = Math.min(...list.map((c) => c.gate.u));
  const scale = 2 ** (t + u);
  const w = Math.max(...list.map((c) => c.gate.word.need + t + u - c.gate.t - c.gate.u));
  const m = Math.max(...list.map((c) => c.gate.m));
  const fits: { a: readonly number[]; b: readonly number[] }[] = [];
  const indices = new Map<SmoothGate, number>();
  const which = list.map(({ gate: g }) => {
    if (!indices.has(g)) indices.set(g, fits.push({ a: g.fit.a, b: g.fit.b }) - 1);
    return indices.get(g)!;
  });
  const slopeBits = fn.slope === 0 ? 0 : 1;
  const channels = to - from;
  const F = Math.log2((Array.isArray(raw.scale) ? raw.scale[from] : raw.scale) as number);
  const shift = F - (t + u - slopeBits);
  if (fn.slope !== 0 && 32 - Math.max(0, shift) < w)
    throw new ProgramError(`${label}: words of ${w} bits and ${F} fraction bits leave the line of ${fn.name} no room`);
  const axis = whole?.axis ?? raw.shape.length - 1;
  const shape = whole ? raw.shape : [...raw.shape.slice(0, -1), channels];
  const bound = Math.max(...list.map((c) => c.gate.word.half)) + 2 ** -8;
  const y = b.gate(
    'harmonic',
    [raw],
    {
      f: fn.name,
      axis,
      lanes: whole?.lanes ?? true,
      ...(whole ? {} : { from, to }),
      m,
      t,
      u,
      w,
      strips: strips(list.map((c) => c.gate.fit.a.length)),
      series: fits,
      which,
      multiplier: list.map((c) => c.gate.al),
      ...(fn.slope === 0 ? {} : { slope: list.map(() => fn.slope * 2 ** slopeBits), shift }),
      constant: list.map((c) => Math.round((c.gate.fit.c0 - c.gate.word.centre) * scale)),
    },
    { kind: 'share', bits: w, scale, bound, shape },
  )[0];
  const centres = list.map((c) => c.gate.word.centre);
  const top = Math.max(...list.map((c) => Math.abs(c.gate.word.centre) + c.gate.word.half));
  return { y, axis, centres, top };
}

/** Runs of channels with one K, each a multiple of 4 wide: a strip goes on, with its larger K, to the next such place. */
function strips(K: readonly number[]): { to: number; K: number }[] {
  const out: { to: number; K: number }[] = [];
  let at = 0;
  while (at < K.length) {
    let most = K[at];
    let end = at;
    while (end < K.length && (K[end] === most || (end - at) % 4 !== 0)) most = Math.max(most, K[end++]);
    const last = out.at(-1);
    if (last && last.K === most) last.to = end;
    else out.push({ to: end, K: most });
    at = end;
  }
  return out;
}
