/** Tensors from nothing or from a shape. */
import type { GraphNode, Tensor } from '../graph.ts';
import { alloc, type Family, fail, type Inputs, intAttr, intsOf, maxElements, need } from './common.ts';

function shapeOf(x: Inputs, node: GraphNode): Tensor[] {
  const t = need(x, 0);
  const rank = t.shape.length;
  const clamp = (v: number): number => Math.min(rank, Math.max(0, v < 0 ? v + rank : v));
  const dims = t.shape.slice(clamp(intAttr(node, 'start', 0)), clamp(intAttr(node, 'end', rank)));
  return [{ dtype: 'i64', shape: [dims.length], data: Float64Array.from(dims) }];
}

function constant(_: Inputs, node: GraphNode): Tensor[] {
  const v = node.attrs.value;
  return typeof v === 'object' && 'dtype' in v ? [v] : fail('attribute value is not a tensor');
}

function constantOfShape(x: Inputs, node: GraphNode): Tensor[] {
  const v = node.attrs.value;
  if (v !== undefined && !(typeof v === 'object' && 'dtype' in v && v.data.length === 1)) return fail('attribute value is not one value');
  const y = alloc(v?.dtype ?? 'f32', intsOf(need(x, 0)));
  if (v !== undefined) y.data.fill(v.data[0]);
  return [y];
}

function range(x: Inputs): Tensor[] {
  const [from, to, step] = [0, 1, 2].map((i) => need(x, i).data[0]);
  const n = Math.max(0, Math.ceil((to - from) / step));
  if (!(n <= maxElements)) return fail(`from ${from} to ${to} in steps of ${step}`);
  const y = alloc(need(x, 0).dtype, [n]);
  for (let i = 0; i < n; i++) y.data[i] = from + i * step;
  return [y];
}

/** Keeps the upper (or lower) triangle of the last two axes. */
function trilu(x: Inputs, node: GraphNode): Tensor[] {
  const t = need(x, 0);
  const [rows, cols] = t.shape.slice(-2);
  if (cols === undefined) return fail(`[${t.shape}] is not a matrix`);
  const upper = intAttr(node, 'upper', 1) !== 0;
  const k = x[1] === undefined ? 0 : x[1].data[0];
  const y = alloc(t.dtype, t.shape);
  for (let i = 0; i < t.data.length; i++) {
    const distance = (i % cols) - (Math.floor(i / cols) % rows);
    y.data[i] = (upper ? distance >= k : distance <= k) ? t.data[i] : 0;
  }
  return [y];
}

function eyeLike(x: Inputs, node: GraphNode): Tensor[] {
  const [rows, cols] = need(x, 0).shape;
  const k = intAttr(node, 'k', 0);
  const y = alloc(node.attrs.dtype === undefined ? need(x, 0).dtype : 'f32', [rows, cols]);
  for (let i = 0; i < rows; i++) if (i + k >= 0 && i + k < cols) y.data[i * cols + i + k] = 1;
  return [y];
}

export const sources: Family = {
  Shape: shapeOf,
  Size: (x) => [{ dtype: 'i64', shape: [], data: Float64Array.of(need(x, 0).data.length) }],
  Constant: constant,
  ConstantOfShape: constantOfShape,
  Range: range,
  Trilu: trilu,
  EyeLike: eyeLike,
};
