/** Operators that move values or are linear with constants: nothing is opened for them. */
import { type GraphNode, ModelError, type Tensor } from '../../graph/graph.ts';
import { dimAttr, type Dim } from '../../program/program.ts';
import type { T } from '../builder.ts';
import { product as matrix } from './linear.ts';
import { activationBits, type Lowering, room, type Val } from './lowering.ts';

const axisOf = (axis: number, rank: number): number => (axis < 0 ? axis + rank : axis);
const constantOf = (low: Lowering, node: GraphNode, i: number): number[] | undefined => {
  const name = node.inputs[i];
  if (!name) return undefined;
  const t = low.constant(name);
  if (!t) throw new ModelError(`${node.name}: input ${i} must be a constant`);
  return Array.from(t.data);
};

/** The input as a share, in the graph's channel order. */
export function plainShare(low: Lowering, name: string): { t: T; f: number } {
  const v = low.value(name);
  const f = low.bits(v);
  const t = low.share(v, f);
  if (!v.order) return { t, f };
  throw new ModelError(`internal: '${name}' is in another channel order`);
}

/** Anything that keeps all values: the shape is what calibration saw. */
export function reshape(low: Lowering, node: GraphNode): void {
  const { t, f } = plainShare(low, node.inputs[0]);
  const shape = low.range(node.outputs[0]).shape;
  low.defineShare(node.outputs[0], low.b.gate('reshape', [t], { shape: shape.map(dimAttr) }, { ...t, shape, label: node.outputs[0] })[0], f);
}

export function transpose(low: Lowering, node: GraphNode): void {
  const { t, f } = plainShare(low, node.inputs[0]);
  const perm = (node.attrs.perm as number[] | undefined) ?? t.shape.map((_, i) => t.shape.length - 1 - i);
  low.defineShare(node.outputs[0], low.b.gate('permute', [t], { perm }, { ...t, shape: perm.map((i) => t.shape[i]), label: node.outputs[0] })[0], f);
}

export function concat(low: Lowering, node: GraphNode): void {
  const f = Math.min(...node.inputs.map((i) => (low.constant(i) ? activationBits : low.bits(low.value(i)))));
  const shape = low.range(node.outputs[0]).shape;
  const parts = node.inputs.map((i) => (low.constant(i) ? publicShare(low, node, i, low.constant(i)!, f) : low.exact(low.value(i), f)));
  const axis = axisOf(node.attrs.axis as number, shape.length);
  low.defineShare(node.outputs[0], low.b.gate('concat', parts, { axis }, { ...parts[0], shape, bound: low.bound(low.define(node.outputs[0])), label: node.outputs[0] })[0], f);
}

/** A constant as a share: an input times zero plus the constant would do; a gate says it. */
function publicShare(low: Lowering, node: GraphNode, name: string, c: Tensor, f: number): T {
  const values = Int32Array.from(c.data as Float32Array, (v) => Math.round(v * 2 ** f));
  const weight = low.b.weight(`${node.name}.${name}`, [...c.shape], values);
  return low.b.gate('constant', [], { weight, shape: [...c.shape], private: low.b.private }, { kind: 'share', bits: 32, scale: 2 ** f, bound: 2 * Math.max(2 ** -6, ...Array.from(c.data, Math.abs)), shape: [...c.shape] })[0];
}

function sliceOf(low: Lowering, t: T, axis: number, from: number, to: number, out: string): T {
  const shape = low.range(out).shape;
  return low.b.gate('slice', [t], { axis, from, to }, { ...t, shape, label: out })[0];
}

export function slice(low: Lowering, node: GraphNode): void {
  const { t, f } = plainShare(low, node.inputs[0]);
  const [starts, ends, axes, steps] = [1, 2, 3, 4].map((i) => constantOf(low, node, i));
  if (steps?.some((s) => s !== 1)) throw new ModelError(`${node.name}: a slice with steps ${steps} is not supported`);
  let x = t;
  starts!.forEach((start, i) => {
    const axis = axisOf(axes ? axes[i] : i, t.shape.length);
    const d = x.shape[axis];
    if (typeof d !== 'number') throw new ModelError(`${node.name}: cannot slice the axis of size '${d}'`);
    const clamp = (v: number): number => Math.max(0, Math.min(d, v < 0 ? v + d : v));
    const [from, to] = [clamp(start), clamp(ends![i])];
    const shape = x.shape.map((s, j): Dim => (j === axis ? to - from : s));
    x = low.b.gate('slice', [x], { axis, from, to }, { ...x, shape, label: undefined })[0];
  });
  low.defineShare(node.outputs[0], x, f);
}

export function split(low: Lowering, node: GraphNode): void {
  const { t, f } = plainShare(low, node.inputs[0]);
  const axis = axisOf((node.attrs.axis as number | undefined) ?? 0, t.shape.length);
  let from = 0;
  for (const out of node.outputs) {
    const size = low.range(out).shape[axis] as number;
    low.defineShare(out, sliceOf(low, t, axis, from, from + size, out), f);
    from += size;
  }
}

export function gather(low: Lowering, node: GraphNode): void {
  const { t, f } = plainShare(low, node.inputs[0]);
  const index = low.constant(node.inputs[1]);
  if (!index || index.data.length !== 1) throw new ModelError(`${node.name}: only one constant position can be gathered from shares`);
  const axis = axisOf((node.attrs.axis as number | undefined) ?? 0, t.shape.length);
  const d = t.shape[axis] as number;
  const at = index.data[0] < 0 ? index.data[0] + d : index.data[0];
  const kept = low.b.gate('slice', [t], { axis, from: at, to: at + 1 }, { ...t, shape: t.shape.map((s, i): Dim => (i === axis ? 1 : s)), label: undefined })[0];
  const shape = low.range(node.outputs[0]).shape;
  low.defineShare(node.outputs[0], low.b.gate('reshape', [kept], { shape: shape.map(dimAttr) }, { ...kept, shape, label: node.outputs[0] })[0], f);
}

/** x + y: both in one stream; a constant is added by party 0, or from its masked form when weights are private. */
export function add(low: Lowering, node: GraphNode): void {
  const constant = node.inputs.findIndex((i) => low.constant(i) !== undefined);
  if (constant >= 0) return addConstant(low, node, node.inputs[1 - constant], node.inputs[constant]);
  const [a, b] = node.inputs.map((i) => low.value(i));
  if (a.order || b.order || JSON.stringify(a.shape) !== JSON.stringify(b.shape)) throw new ModelError(`${node.name}: shapes [${a.shape}] and [${b.shape}] cannot be added on shares`);
  low.define(node.outputs[0], { sum: [a, b] });
}

function addConstant(low: Lowering, node: GraphNode, x: string, name: string): void {
  const v = low.value(x);
  const c = low.constant(name)!;
  const f = Math.min(low.bits(v), Math.floor(room - 1 - Math.log2(2 * Math.max(2 ** -6, low.range(node.outputs[0]).max))));
  const t = low.exact(v, f);
  const size = t.shape.every((d) => typeof d === 'number') ? (t.shape as number[]).reduce((a, b) => a * b, 1) : undefined;
  const values = Array.from(c.data, (x) => Math.round(x * 2 ** f));
  if (values.length !== 1 && values.length !== size && values.length !== t.shape.at(-1)) throw new ModelError(`${node.name}: a constant of shape [${c.shape}] cannot be added to [${t.shape}]`);
  const out = { ...t, bound: low.bound(low.define(node.outputs[0])), label: node.outputs[0] };
  const made = low.b.private
    ? low.b.gate('addPrivate', [t], { weight: low.b.weight(`${node.name}.constant`, [values.length], Int32Array.from(values)), length: values.length }, out)[0]
    : low.b.gate('affine', [t], { add: values }, out)[0];
  low.defineShare(node.outputs[0], made, f);
}

/** Mean or sum over one axis: the divisor goes into the scale. */
export function reduce(low: Lowering, node: GraphNode): void {
  const { t, f } = plainShare(low, node.inputs[0]);
  const axes = (constantOf(low, node, 1) ?? []).map((a) => axisOf(a, t.shape.length));
  if (axes.length !== 1) throw new ModelError(`${node.name}: a reduction over axes [${axes}] is not supported on shares; one axis is`);
  const [axis] = axes;
  const keep = (node.attrs.keepdims as number | undefined) !== 0;
  const shape = t.shape.flatMap((d, i): Dim[] => (i === axis ? (keep ? [1] : []) : [d]));
  const count = t.shape[axis];
  const mean = node.op === 'ReduceMean';
  const scale = mean ? (typeof count === 'number' ? 2 ** f * count : dimAttr(`${2 ** f}*${count}`)) : 2 ** f;
  const v = low.define(node.outputs[0]);
  v.raw = low.b.gate('sumAxis', [low.exact(low.value(node.inputs[0]), f)], { axis, keep }, { ...t, shape, scale, bound: low.bound(v), label: node.outputs[0] })[0];
}

/** x·c with a constant: one factor, or one per channel of the last axis; an accumulator that keeps its scale. */
export function scale(low: Lowering, node: GraphNode): void {
  const constant = node.inputs.findIndex((i) => low.constant(i) !== undefined);
  if (constant < 0) return multiply(low, node);
  const c = low.constant(node.inputs[constant])!;
  const x = low.value(node.inputs[1 - constant]);
  const channels = x.shape.at(-1);
  if (low.b.private || (c.data.length !== 1 && c.data.length !== channels)) {
    if (typeof channels !== 'number' || (c.data.length !== 1 && c.data.length !== channels)) throw new ModelError(`${node.name}: a factor of shape [${c.shape}] on [${x.shape}] is not supported`);
  }
  const mul = Float64Array.from({ length: channels as number }, (_, j) => Number(c.data[c.data.length === 1 ? 0 : j]));
  low.define(node.outputs[0], { affine: { base: x, mul, add: new Float64Array(mul.length), names: [`${node.name}.factor`, `${node.name}.zero`] } });
}

/** x·y of two shared values. */
function multiply(low: Lowering, node: GraphNode): void {
  const [a, b] = node.inputs.map((i) => low.value(i));
  const out = low.define(node.outputs[0]);
  const half = Math.floor((room - 1 - Math.log2(low.bound(a) * low.bound(b))) / 2);
  const f = Math.min(activationBits, half);
  const [x, y] = [low.wire(a, f), low.wire(b, f)];
  if (JSON.stringify(x.shape) !== JSON.stringify(y.shape)) throw new ModelError(`${node.name}: shapes [${x.shape}] and [${y.shape}] cannot be multiplied on shares`);
  out.raw = low.b.gate('mul', [x, y], null, { ...x, kind: 'share', scale: (x.scale as number) * (y.scale as number), bound: low.bound(out), label: node.outputs[0] })[0];
}

/** A convolution of one image: patches as rows, times the kernel as a matrix. Groups are not supported. */
export function conv(low: Lowering, node: GraphNode): void {
  const { t } = plainShare(low, node.inputs[0]);
  const W = low.constant(node.inputs[1]);
  const bias = node.inputs[2] ? low.constant(node.inputs[2]) : undefined;
  if (!W || W.shape.length !== 4 || ((node.attrs.group as number | undefined) ?? 1) !== 1) throw new ModelError(`${node.name}: only 2D convolutions without groups and with constant kernels are supported`);
  const [M, C, kh, kw] = W.shape;
  const out = low.range(node.outputs[0]);
  const [, , oh, ow] = out.shape as number[];
  const pair = (name: string, otherwise: number[]): number[] => (node.attrs[name] as number[] | undefined) ?? otherwise;
  const attrs = { kernel: [kh, kw], strides: pair('strides', [1, 1]), pads: pair('pads', [0, 0, 0, 0]), dilations: pair('dilations', [1, 1]) };
  const K = C * kh * kw;
  const patches = low.b.gate('im2col', [t], attrs, { ...t, shape: [oh * ow, K], label: undefined })[0];
  const name = `${node.outputs[0]}.patches`;
  const x = { ...low.value(node.inputs[0]), name, shape: [oh * ow, K], affine: undefined, shares: new Map([[low.bits(low.value(node.inputs[0])), patches]]), wires: new Map() };
  const turned = Float32Array.from({ length: K * M }, (_, i) => W.data[(i % M) * K + Math.floor(i / M)] as number);
  const range = { ...out, channels: out.channels && { ...out.channels, axis: 1 } };
  const raw = matrix(low, node.name, x, { K, N: M, W: turned, bias: bias?.data }, range);
  const rows: Val = { name, shape: raw.shape, range, raw, shares: new Map(), wires: new Map() };
  const f = low.bits(rows);
  const channelsFirst = low.b.gate('permute', [low.share(rows, f)], { perm: [1, 0] }, { ...low.share(rows, f), shape: [M, oh * ow] })[0];
  const image = low.b.gate('reshape', [channelsFirst], { shape: [1, M, oh, ow] }, { ...channelsFirst, shape: [1, M, oh, ow], label: node.outputs[0] })[0];
  low.defineShare(node.outputs[0], image, f);
}
