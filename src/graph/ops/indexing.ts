/** Operators that pick or place values by index. Indices are public: a secret index has its own gate. */
import type { GraphNode, Tensor } from '../graph.ts';
import { sizeOf } from '../graph.ts';
import { alloc, around, axisOf, type Family, fail, type Inputs, intAttr, intsAttr, intsOf, need, stridesOf } from './common.ts';

function place(index: number, size: number): number {
  const i = index < 0 ? index + size : index;
  return Number.isInteger(i) && i >= 0 && i < size ? i : fail(`index ${index} of an axis of ${size}`);
}

/** Rows (along axis) picked by a tensor of indices. */
function gather(x: Inputs, node: GraphNode): Tensor[] {
  const [t, index] = [need(x, 0), need(x, 1)];
  if (index.dtype !== 'i64') return fail(`indices are ${index.dtype}`);
  const axis = axisOf(intAttr(node, 'axis', 0), t.shape.length);
  const [outer, size, inner] = around(t.shape, axis);
  const y = alloc(t.dtype, [...t.shape.slice(0, axis), ...index.shape, ...t.shape.slice(axis + 1)]);
  const n = index.data.length;
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < n; i++) {
      const from = (o * size + place(index.data[i], size)) * inner;
      if (inner === 1) y.data[o * n + i] = t.data[from];
      else y.data.set(t.data.subarray(from, from + inner), (o * n + i) * inner);
    }
  }
  return [y];
}

function gatherElements(x: Inputs, node: GraphNode): Tensor[] {
  const [t, index] = [need(x, 0), need(x, 1)];
  const axis = axisOf(intAttr(node, 'axis', 0), t.shape.length);
  if (index.shape.length !== t.shape.length || index.shape.some((d, i) => i !== axis && d > t.shape[i]))
    return fail(`indices [${index.shape}] into [${t.shape}]`);
  const strides = stridesOf(t.shape);
  const own = stridesOf(index.shape);
  const y = alloc(t.dtype, index.shape);
  for (let i = 0; i < y.data.length; i++) {
    let at = 0;
    for (let a = 0; a < own.length; a++)
      at += (a === axis ? place(index.data[i], t.shape[a]) : Math.floor(i / own[a]) % index.shape[a]) * strides[a];
    y.data[i] = t.data[at];
  }
  return [y];
}

/** Each last-axis row of indices names a place in the leading axes of data (batch_dims = 0). */
function gatherND(x: Inputs, node: GraphNode): Tensor[] {
  const [t, index] = [need(x, 0), need(x, 1)];
  if (intAttr(node, 'batch_dims', 0) !== 0) return fail('batch_dims is not supported');
  const depth = index.shape.at(-1) ?? fail('scalar indices');
  if (depth > t.shape.length) return fail(`indices [${index.shape}] into [${t.shape}]`);
  const strides = stridesOf(t.shape);
  const inner = sizeOf(t.shape.slice(depth));
  const y = alloc(t.dtype, [...index.shape.slice(0, -1), ...t.shape.slice(depth)]);
  for (let r = 0; r < sizeOf(index.shape.slice(0, -1)); r++) {
    let at = 0;
    for (let d = 0; d < depth; d++) at += place(index.data[r * depth + d], t.shape[d]) * strides[d];
    y.data.set(t.data.subarray(at, at + inner), r * inner);
  }
  return [y];
}

function scatterND(x: Inputs, node: GraphNode): Tensor[] {
  const [t, index, updates] = [need(x, 0), need(x, 1), need(x, 2)];
  if (node.attrs.reduction !== undefined && node.attrs.reduction !== 'none') return fail(`reduction ${String(node.attrs.reduction)}`);
  const depth = index.shape.at(-1) ?? fail('scalar indices');
  const rows = sizeOf(index.shape.slice(0, -1));
  const inner = sizeOf(t.shape.slice(depth));
  if (depth > t.shape.length || updates.data.length !== rows * inner || updates.dtype !== t.dtype)
    return fail(`updates [${updates.shape}] at [${index.shape}] into [${t.shape}]`);
  const strides = stridesOf(t.shape);
  const y = alloc(t.dtype, t.shape);
  y.data.set(t.data);
  for (let r = 0; r < rows; r++) {
    let at = 0;
    for (let d = 0; d < depth; d++) at += place(index.data[r * depth + d], t.shape[d]) * strides[d];
    y.data.set(updates.data.subarray(r * inner, (r + 1) * inner), at);
  }
  return [y];
}

/** Inputs: indices, depth, [off, on]. Indices outside −depth … depth−1 give a row of `off`. */
function oneHot(x: Inputs, node: GraphNode): Tensor[] {
  const [index, depth, values] = [need(x, 0), intsOf(need(x, 1))[0], need(x, 2)];
  if (depth === undefined || depth < 1 || values.data.length !== 2) return fail('depth or values');
  const rank = index.shape.length + 1;
  const axis = axisOf(intAttr(node, 'axis', -1), rank);
  const y = alloc(values.dtype, [...index.shape.slice(0, axis), depth, ...index.shape.slice(axis)]);
  y.data.fill(values.data[0]);
  const inner = sizeOf(index.shape.slice(axis));
  for (let i = 0; i < index.data.length; i++) {
    const v = index.data[i] < 0 ? index.data[i] + depth : index.data[i];
    if (v >= 0 && v < depth) y.data[(Math.floor(i / inner) * depth + v) * inner + (i % inner)] = values.data[1];
  }
  return [y];
}

/** Rows of places → rows of as many values as attr `spans` has together: a one in each span, at its place. */
function oneHotRows(x: Inputs, node: GraphNode): Tensor[] {
  const [places, spans] = [need(x, 0), intsAttr(node, 'spans') ?? fail('no spans')];
  if (places.dtype !== 'i64' || places.shape.at(-1) !== spans.length) return fail(`places are ${places.dtype} [${places.shape}]`);
  const width = spans.reduce((a, b) => a + b, 0);
  const y = alloc('f32', [...places.shape.slice(0, -1), width]);
  let from = 0;
  places.data.forEach((v, i) => {
    const span = spans[i % spans.length];
    if (!(Number.isInteger(v) && v >= 0 && v < span)) fail(`place ${v} of ${span}`);
    y.data[from + v] = 1;
    from += span;
  });
  return [y];
}

/** The k largest (or smallest) along an axis, in order, and where they were; ties to the lower index. */
function topK(x: Inputs, node: GraphNode): Tensor[] {
  const t = need(x, 0);
  const axis = axisOf(intAttr(node, 'axis', -1), t.shape.length);
  const sign = intAttr(node, 'largest', 1) ? -1 : 1;
  const [outer, size, inner] = around(t.shape, axis);
  const k = intsOf(need(x, 1))[0];
  if (k === undefined || k < 0 || k > size) return fail(`${k} of ${size} values`);
  const shape = t.shape.map((d, i) => (i === axis ? k : d));
  const [y, where] = [alloc(t.dtype, shape), alloc('i64', shape)];
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < inner; i++) {
      const value = (a: number): number => t.data[(o * size + a) * inner + i];
      const order = Array.from({ length: size }, (_, a) => a).sort((a, b) => sign * (value(a) - value(b)) || a - b);
      for (let a = 0; a < k; a++) {
        y.data[(o * k + a) * inner + i] = value(order[a]);
        where.data[(o * k + a) * inner + i] = order[a];
      }
    }
  }
  return [y, where];
}

export const indexing: Family = {
  Gather: gather,
  GatherElements: gatherElements,
  GatherND: gatherND,
  ScatterND: scatterND,
  OneHot: oneHot,
  OneHotRows: oneHotRows,
  TopK: topK,
};
