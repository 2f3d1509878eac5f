/**
 * f(x)·u, the gate of a feed-forward layer (SwiGLU, GeGLU; Shazeer, 2020), for a linear layer: x, u and the product have their channels in one
 * order, that of classes of channels. In a class
 *   f(x)   is a harmonic gate of the class's word width, read off x's accumulator
 *   u      keeps as many bits of its accumulator as its loudest channel leaves; loud channels are classes of their own
 * and both are extended to wires of the product, so that neither is opened a second time. A wire has f(x) without the centre that narrowed its
 * words: centre·u comes from u's share.
 */
import type { GraphNode } from '../../graph/graph.ts';
import { lastDim, type T } from '../builder.ts';
import { channelScales, mostLoud } from './linear.ts';
import { type Lowering, type Val, weightBits } from './lowering.ts';
import { shareBits } from './products.ts';
import { type Class, classesOf, concat, rangesOf, scalesOf, series } from './smooth.ts';

/** Channels that a word width must have here: a part costs five gates. */
const fewest = 128;

export function gated(low: Lowering, node: GraphNode, f: Val, u: Val): void {
  const { b } = low;
  const { x, fn } = f.gate!;
  const out = low.define(node.outputs[0]);
  const bound = low.bound(out);
  const [fBits, uBits] = shareBits(low, f, u, bound);
  const ranges = rangesOf(x, fn);
  const drops = channelScales(u.range, ranges.length, uBits + weightBits).map((s) => Math.log2(s) - uBits);
  const quiet = [...drops].sort((p, q) => p - q)[Math.min(mostLoud(drops.length), drops.length - 1)];
  const some = (loud: boolean): number[] => [...drops.keys()].filter((j) => drops[j] < quiet === loud);
  const classes = [...classesOf(fn, ranges, some(false), fewest), ...classesOf(fn, ranges, some(true), Number.POSITIVE_INFINITY)];
  const drop = ({ list }: Class): number => Math.min(...list.map((m) => drops[m.channel]));
  const order = classes.flatMap((c) => c.list.map((m) => m.channel));
  const xRaw = low.accumulator(x, { scale: scalesOf(classes), order, exact: true });
  const uRaw = low.accumulator(u, { scale: scalesOf(classes.map((c) => ({ ...c, bits: uBits + drop(c) }))), order, exact: true });
  const axis = xRaw.shape.length - 1;
  const factors: number[] = [];
  const products: T[] = [];
  const others: T[] = [];
  for (const c of classes) {
    const [from, to] = [factors.length, factors.length + c.list.length];
    const shape = [...xRaw.shape.slice(0, -1), to - from];
    const { y, centres } = series(low, node.outputs[0], fn, xRaw, c.list, from, to);
    const left = b.extend(y, { s: Math.log2(y.scale as number) - fBits, share: false, wire: true }).wire!;
    const uTop = Math.max(...c.list.map(({ channel }) => loudest(u, channel)), 2 ** -6);
    const scale = 2 ** (uBits + drop(c));
    const part = b.gate('slice', [uRaw], { axis, from, to }, { ...uRaw, shape, scale, bound: 2 * uTop })[0];
    const right = b.extend(part, { s: drop(c), share: true, wire: true });
    products.push(b.gate('mul', [left, right.wire!], null, { kind: 'share', bits: 32, shape, scale: 2 ** (fBits + uBits), bound })[0]);
    others.push(right.share!);
    factors.push(...centres.map((v) => Math.round(v * 2 ** fBits)));
  }
  const product = concat(low, products);
  const centred = b.map('affine', [concat(low, others)], { mul: factors }, { scale: product.scale, bound });
  // Either term may leave the bound, and the ring: their sum does not.
  out.raw = b.gate('add', [product, centred], null, { ...product, shape: [...product.shape.slice(0, -1), lastDim(xRaw)] })[0];
  out.order = order;
}

function loudest(u: Val, channel: number): number {
  const c = u.range.channels;
  return c ? Math.max(-c.lo[channel], c.hi[channel]) : u.range.max;
}
