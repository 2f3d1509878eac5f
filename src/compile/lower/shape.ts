/** Operators that move values or are linear with constants: nothing is opened for them. */
import { type GraphNode, ModelError, type Tensor } from '../../graph/graph.ts';
import { type Dim, dimAttr } from '../../program/program.ts';
import type { T } from '../builder.ts';
import { expanded } from './broadcast.ts';
import { activationBits, type Lowering, room } from './lowering.ts';

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
  return { t: low.plain(v, f), f };
}

/** Anything that keeps all values: the shape is what calibration saw. */
export function reshape(low: Lowering, node: GraphNode): void {
  const { t, f } = plainShare(low, node.inputs[0]);
  const shape = low.range(node.outputs[0]).shape;
  low.defineShare(
    node.outputs[0],
    low.b.gate('reshape', [t], { shape: shape.map(dimAttr) }, { ...t, shape, label: node.outputs[0] })[0],
    f,
  );
}

export function transpose(low: Lowering, node: GraphNode): void {
  const { t, f } = plainShare(low, node.inputs[0]);
  const perm = (node.attrs.perm as number[] | undefined) ?? t.shape.map((_, i) => t.shape.length - 1 - i);
  low.defineShare(
    node.outputs[0],
    low.b.gate('permute', [t], { perm }, { ...t, shape: perm.map((i) => t.shape[i]), label: node.outputs[0] })[0],
    f,
  );
}

export function concat(low: Lowering, node: GraphNode): void {
  const f = Math.min(...node.inputs.map((i) => (low.constant(i) ? activationBits : low.bits(low.value(i)))));
  const shape = low.range(node.outputs[0]).shape;
  const parts = node.inputs.map((i) =>
    low.constant(i) ? publicShare(low, node, i, low.constant(i)!, f) : low.plainExact(low.value(i), f),
  );
  const axis = axisOf(node.attrs.axis as number, shape.length);
  low.defineShare(
    node.outputs[0],
    low.b.gate('concat', parts, { axis }, { ...parts[0], shape, bound: low.bound(low.define(node.outputs[0])), label: node.outputs[0] })[0],
    f,
  );
}

/** A constant as a share: an input times zero plus the constant would do; a gate says it. */
function publicShare(low: Lowering, node: GraphNode, name: string, c: Tensor, f: number): T {
  const values = Int32Array.from(c.data as Float32Array, (v) => Math.round(v * 2 ** f));
  const weight = low.b.weight(`${node.name}.${name}`, [...c.shape], values);
  return low.b.gate(
    'constant',
    [],
    { weight, shape: [...c.shape], private: low.b.private },
    { kind: 'share', bits: 32, scale: 2 ** f, bound: 2 * Math.max(2 ** -6, ...Array.from(c.data, Math.abs)), shape: [...c.shape] },
  )[0];
}

function sliceOf(low: Lowering, t: T, axis: number, from: number, to: number, out: string): T {
  const shape = low.range(out).shape;
  return low.b.gate('slice', [t], { axis, from, to }, { ...t, shape, label: out })[0];
}

export function slice(low: Lowering, node: GraphNode): void {
  const { t, f } = plainShare(low, node.inputs[0]);
  const [starts, ends, axes, steps] = [1, 2, 3, 4].map((i) => constantOf(low, node, i));
  if (steps?.some((s) => s !== 1)) throw new ModelError(`${node.name}: a slice with steps ${steps} is not supported`);
  const wanted = low.range(node.outputs[0]).shape;
  let x = t;
  for (const [i, start] of starts!.entries()) {
    const axis = axisOf(axes ? axes[i] : i, t.shape.length);
    const d = x.shape[axis];
    const [from, to] = [position(start, d), position(ends![i], d)];
    const shape = x.shape.map((s, j): Dim => (j === axis ? wanted[axis] : s));
    x = low.b.gate('slice', [x], { axis, from: dimAttr(from), to: dimAttr(to) }, { ...x, shape, label: undefined })[0];
  }
  low.defineShare(node.outputs[0], x, f);
}

/** The last row of each of a step's sequences (last-rows.ts). */
export function lastRow(low: Lowering, node: GraphNode): void {
  const { t, f } = plainShare(low, node.inputs[0]);
  const shape = low.range(node.outputs[0]).shape;
  low.defineShare(node.outputs[0], low.b.gate('lastRows', [t], { sequences: dimAttr('sequences') }, { ...t, shape, label: node.outputs[0] })[0], f);
}

/** A start or an end on an axis whose size may be a parameter: from the end where it is negative, at most the size. */
function position(v: number, d: Dim): Dim {
  if (typeof d === 'number') return Math.max(0, Math.min(d, v < 0 ? v + d : v));
  // A parameter is at least as long as what calibration saw to be taken of it.
  return v < 0 ? `${d}-${-v}` : v > 2 ** 24 ? d : v;
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
  if (index?.data.length !== 1) throw new ModelError(`${node.name}: only one constant position can be gathered from shares`);
  const axis = axisOf((node.attrs.axis as number | undefined) ?? 0, t.shape.length);
  const d = t.shape[axis];
  const [from, to] = [position(index.data[0], d), index.data[0] === -1 ? d : position(index.data[0] + 1, d)];
  const kept = low.b.gate(
    'slice',
    [t],
    { axis, from: dimAttr(from), to: dimAttr(to) },
    { ...t, shape: t.shape.map((s, i): Dim => (i === axis ? 1 : s)), label: undefined },
  )[0];
  const shape = low.range(node.outputs[0]).shape;
  low.defineShare(
    node.outputs[0],
    low.b.gate('reshape', [kept], { shape: shape.map(dimAttr) }, { ...kept, shape, label: node.outputs[0] })[0],
    f,
  );
}

/** Mean or sum over some axes: the divisor goes into the scale. */
export function reduce(low: Lowering, node: GraphNode): void {
  const x = low.value(node.inputs[0]);
  const mean = node.op === 'ReduceMean';
  const given = constantOf(low, node, 1)?.map((a) => axisOf(a, x.shape.length)) ?? [];
  const axes = given.length > 0 ? given : x.shape.map((_, i) => i);
  const keep = (node.attrs.keepdims as number | undefined) !== 0;
  const count = axes.reduce((p, a) => p * (typeof x.shape[a] === 'number' ? (x.shape[a] as number) : 1), 1);
  // A mean over an axis whose size is a parameter has a scale that is an expression; it goes last.
  axes.sort((a, b) => Number(typeof x.shape[a] === 'string') - Number(typeof x.shape[b] === 'string') || b - a);
  const v = low.define(node.outputs[0]);
  const f = Math.min(low.bits(x), Math.floor(room - 1 - Math.log2(low.bound(v) * (mean ? count : 1))));
  let t = axes.some((a) => typeof x.shape[a] === 'string') ? low.plainExact(x, f) : low.plain(x, f);
  const left = x.shape.map((_, i) => i);
  axes.forEach((a, i) => {
    const axis = left.indexOf(a);
    const d = t.shape[axis];
    const scale = !mean ? t.scale : typeof d === 'number' ? (t.scale as number) * d : dimAttr(`${t.scale}*${d}`);
    const shape = t.shape.flatMap((size, j): Dim[] => (j === axis ? (keep ? [1] : []) : [size]));
    const last = i === axes.length - 1;
    t = low.b.gate(
      'sumAxis',
      [t],
      { axis, keep },
      { ...t, shape, scale, bound: last || !mean ? low.bound(v) : t.bound, label: last ? node.outputs[0] : undefined },
    )[0];
    if (!keep) left.splice(axis, 1);
  });
  v.raw = t;
}

/** The value under another name. */
export function identity(low: Lowering, node: GraphNode): void {
  const x = low.value(node.inputs[0]);
  const f = low.bits(x);
  low.inputBits.set(node.outputs[0], f);
  low.define(node.outputs[0], { lazy: (g) => (g === f ? low.plain(x, f) : low.plainExact(x, g)) });
}

/** Repeats axes of size one. */
export function expand(low: Lowering, node: GraphNode): void {
  const { t, f } = plainShare(low, node.inputs[0]);
  const v = low.define(node.outputs[0]);
  v.shares.set(f, expanded(low, node, t, v.shape));
}

/** A constant around the value; it is public. */
export function pad(low: Lowering, node: GraphNode): void {
  const { t, f } = plainShare(low, node.inputs[0]);
  const mode = (node.attrs.mode as string | undefined) ?? 'constant';
  const fill = constantOf(low, node, 2)?.[0] ?? 0;
  const widths = constantOf(low, node, 1)!;
  const axes = constantOf(low, node, 3)?.map((a) => axisOf(a, t.shape.length)) ?? t.shape.map((_, i) => i);
  if (mode !== 'constant' || widths.some((w) => w < 0))
    throw new ModelError(`${node.name}: padding by a constant is supported, not '${mode}' with widths [${widths}]`);
  const v = low.define(node.outputs[0]);
  const bound = low.bound(v);
  let x = t;
  for (const [i, axis] of axes.entries()) {
    const [before, after] = [widths[i], widths[i + axes.length]];
    if (before === 0 && after === 0) continue;
    const sized = (n: Dim): Dim[] => x.shape.map((d, j) => (j === axis ? n : d));
    const one = low.b.gate('slice', [x], { axis, from: 0, to: 1 }, { ...x, shape: sized(1), label: undefined })[0];
    const edge = low.b.map(
      'affine',
      [one],
      { mul: [0], ...(fill === 0 ? {} : { add: [Math.round(fill * (x.scale as number))] }) },
      { bound, label: undefined },
    );
    const parts = [
      ...(before > 0 ? [expanded(low, node, edge, sized(before))] : []),
      x,
      ...(after > 0 ? [expanded(low, node, edge, sized(after))] : []),
    ];
    x = low.b.gate('concat', parts, { axis }, { ...x, bound, shape: sized(v.shape[axis]), label: undefined })[0];
  }
  v.shares.set(f, x);
}
