/**
 * Products of shared values: x·y elementwise (one value a row too), x², x/y, matrix times matrix.
 *
 * Both operands are opened once, under masks of their own; what bits the product's bound leaves are dealt to the operand with the
 * least relative precision. A quotient is a product with 1/y, which a row gate finds to a relative error over y's calibrated range.
 */
import { type GraphNode, ModelError } from '../../graph/graph.ts';
import { type Dim, dimAttr } from '../../program/program.ts';
import { product as productOf, type T } from '../builder.ts';
import { expanded } from './broadcast.ts';
import { gated } from './gated.ts';
import { type Lowering, room, type Val } from './lowering.ts';
import { nearest, rowGate } from './row.ts';

/** Fraction bits of two operands whose product, below `bound`, must fit: what each has, less from the finer one. */
export function shareBits(low: Lowering, a: Val, b: Val, bound: number): [number, number] {
  const total = Math.floor(room - 0.5 - Math.log2(bound));
  let [f, g] = [low.bits(a), low.bits(b)];
  const [x, y] = [Math.log2(low.bound(a)), Math.log2(low.bound(b))];
  while (f + g > total) {
    if (f + x >= g + y) f--;
    else g--;
  }
  return [f, g];
}

const product = (x: T, y: T): number => (x.scale as number) * (y.scale as number);
const same = (a: readonly Dim[], b: readonly Dim[]): boolean => JSON.stringify(a) === JSON.stringify(b);

/** Whether y has one value for each run of x: the same leading axes, then ones. */
function perRow(x: readonly Dim[], y: readonly Dim[]): boolean {
  const padded = [...new Array<Dim>(Math.max(0, x.length - y.length)).fill(1), ...y];
  if (padded.length !== x.length) return false;
  let at = 0;
  while (at < x.length && padded[at] === x[at]) at++;
  return padded.slice(at).every((d) => d === 1);
}

/** x·y, an accumulator. */
export function elementWise(low: Lowering, node: GraphNode, a: Val, b: Val): void {
  if (a.gate) return gated(low, node, a, b);
  if (b.gate) return gated(low, node, b, a);
  const out = low.define(node.outputs[0]);
  const [x, y] = perRow(a.shape, b.shape) ? [a, b] : [b, a];
  const [f, g] = shareBits(low, x, y, low.bound(out));
  const left = low.elementWire(x, f).wire;
  if (perRow(x.shape, y.shape)) {
    const right = low.elementWire(y, g).wire;
    out.raw = low.b.gate('mul', [left, right], null, {
      kind: 'share',
      bits: 32,
      shape: x.shape,
      scale: product(left, right),
      bound: low.bound(out),
      label: node.outputs[0],
    })[0];
    return;
  }
  const [s, t] = [expanded(low, node, low.plain(x, f), out.shape), expanded(low, node, low.plain(y, g), out.shape)];
  out.raw = low.b.gate('mul', [low.b.open(s), low.b.open(t)], null, {
    kind: 'share',
    bits: 32,
    shape: out.shape,
    scale: product(s, t),
    bound: low.bound(out),
    label: node.outputs[0],
  })[0];
}

/** x², an accumulator. */
export function squareGate(low: Lowering, x: Val, bound: number, label?: string): T {
  const f = Math.min(low.bits(x), Math.floor((room - 0.5 - Math.log2(bound)) / 2));
  const { wire } = low.elementWire(x, f);
  return low.b.gate('square', [wire], null, {
    kind: 'share',
    bits: 32,
    shape: x.shape,
    scale: (wire.scale as number) ** 2,
    bound,
    label,
  })[0];
}

export function squareOf(low: Lowering, node: GraphNode, x: Val): void {
  const out = low.define(node.outputs[0]);
  out.raw = squareGate(low, x, low.bound(out), node.outputs[0]);
}

/** 1/y needs y on one side of zero; its range is the calibrated one, widened. */
const widen = { lo: 1.6, hi: 1.6 };
const wishes = [
  [5e-4, 96],
  [1e-3, 192],
  [2e-3, 384],
] as const;

/** 1/y as a value, at a scale of its own. */
export function reciprocal(low: Lowering, node: GraphNode, y: Val): Val {
  const c = y.range.channels;
  const [least, most] = c ? [Math.min(...c.lo), Math.max(...c.hi)] : [-Infinity, y.range.max];
  if (least <= 0)
    throw new ModelError(
      `${node.name}: divides by a value that is not always positive (calibrated from ${least}); add a small constant to it, or divide by something that is`,
    );
  const [lo, hi] = [least / widen.lo, most * widen.hi];
  const t = low.share(y);
  const unitsPerOne = Math.min(t.scale as number, 2 ** 31 / (1.15 * hi));
  const fit = nearest('reciprocal', { key: 'reciprocal', lo, hi, unitsPerOne }, wishes);
  const g = rowGate(low, t, fit, '1/x', 1 / lo);
  const bits = fit.t + fit.u;
  const v: Val = {
    name: `${node.outputs[0]}.reciprocal`,
    shape: y.shape,
    range: { shape: [...y.shape], max: 1 / least },
    raw: g,
    shares: new Map(),
    wires: new Map(),
    order: y.order,
  };
  low.inputBits.set(v.name, Math.min(bits, Math.floor(room - 1 - Math.log2(low.bound(v)))));
  return v;
}

export function reciprocalOf(low: Lowering, node: GraphNode): void {
  const r = reciprocal(low, node, low.value(node.inputs[0]));
  const out = low.define(node.outputs[0]);
  out.raw = r.raw;
  out.order = r.order;
}

/** Where the batches of [.., rows, cols] lie: one after the other, or one for all. */
function batchOf(shape: readonly Dim[], lead: readonly Dim[], node: GraphNode): { batch: number; row: number; offset: number } {
  const [rows, cols] = shape.slice(-2);
  const own = shape.slice(0, -2);
  const single = own.every((d) => d === 1);
  if (!single && !same(own, lead)) throw new ModelError(`${node.name}: batches [${own}] of [${lead}] are not supported on shares`);
  return { offset: 0, batch: single ? 0 : dimAttr(productOf([rows, cols])), row: dimAttr(cols) };
}

/** x·y of two shared matrices, or batches of them. */
export function matmul(low: Lowering, node: GraphNode): void {
  const constant = node.inputs.find((i) => low.constant(i));
  if (constant)
    throw new ModelError(
      `${node.name}: a product with the constant [${low.constant(constant)!.shape}] on this side is not supported; a matrix [in, out] on the right is`,
    );
  const [a, b] = node.inputs.map((i) => low.value(i));
  if (a.shape.length < 2 || b.shape.length < 2)
    throw new ModelError(`${node.name}: a product of [${a.shape}] and [${b.shape}] is not supported on shares`);
  const out = low.define(node.outputs[0]);
  const [f, g] = shareBits(low, a, b, low.bound(out));
  const [x, y] = [a, b].map((v, i) => (v.order ? low.b.open(low.plain(v, i === 0 ? f : g)) : low.wire(v, i === 0 ? f : g)));
  const lead = out.shape.slice(0, -2);
  const [M, K] = a.shape.slice(-2);
  const N = b.shape.at(-1)!;
  const views = {
    a: batchOf(a.shape, lead, node),
    b: batchOf(b.shape, lead, node),
    c: { offset: 0, batch: dimAttr(productOf([M, N])), row: dimAttr(N) },
  };
  const attrs = { batch: dimAttr(productOf(lead)), M: dimAttr(M), N: dimAttr(N), K: dimAttr(K), ...views, shape: out.shape.map(dimAttr) };
  out.raw = low.b.gate('matmulShared', [x, y], attrs, {
    kind: 'share',
    bits: 32,
    shape: out.shape,
    scale: product(x, y),
    bound: low.bound(out),
    label: node.outputs[0],
  })[0];
}
