/** Reductions over any axes, softmax, and the positions of extremes. Sums are kept in double precision. */
import type { GraphNode, Tensor } from '../graph.ts';
import {
  alloc,
  around,
  axisOf,
  type Family,
  fail,
  floats,
  type Inputs,
  intAttr,
  intsOf,
  need,
  type OpFn,
  permute,
  withShape,
} from './common.ts';

/** axes (input 1; empty or absent: all, unless noop_with_empty_axes) sorted, distinct and non-negative. */
function axesOf(x: Inputs, node: GraphNode, rank: number): number[] {
  const given = x[1] === undefined ? [] : intsOf(x[1]);
  if (given.length === 0) return intAttr(node, 'noop_with_empty_axes', 0) ? [] : Array.from({ length: rank }, (_, i) => i);
  const axes = [...new Set(given.map((a) => axisOf(a, rank)))].sort((a, b) => a - b);
  return axes.length === given.length ? axes : fail(`repeated axes [${given}]`);
}

/** Folds the values of each group; `empty` is what a group without values gives, or undefined where that is an error. */
const reduction =
  (start: number, step: (acc: number, v: number) => number, finish: (acc: number, count: number) => number, emptyOk = true): OpFn =>
  (x, node) => {
    const t = need(x, 0);
    const rank = t.shape.length;
    const axes = axesOf(x, node, rank);
    const kept = Array.from({ length: rank }, (_, i) => i).filter((i) => !axes.includes(i));
    // The reduced axes go last, unless they are last already.
    const inOrder = [...kept, ...axes].every((a, i) => a === i);
    const data = (inOrder ? t : permute(t, [...kept, ...axes])).data;
    const shape = intAttr(node, 'keepdims', 1) ? t.shape.map((d, i) => (axes.includes(i) ? 1 : d)) : kept.map((i) => t.shape[i]);
    const count = axes.reduce((n, a) => n * t.shape[a], 1);
    if (count === 0 && !emptyOk) fail('nothing to reduce');
    const y = alloc(t.dtype, shape);
    for (let i = 0, at = 0; i < y.data.length; i++) {
      let acc = start;
      for (const end = at + count; at < end; at++) acc = step(acc, data[at]);
      const v = finish(acc, count);
      y.data[i] = t.dtype === 'i64' ? Math.trunc(v) : v;
    }
    return [y];
  };

const keep = (acc: number): number => acc;
const add = (acc: number, v: number): number => acc + v;

/** log Σ exp, with the maximum taken out first. */
const logSumExp: OpFn = (x, node) => {
  const keepdims = { ...node, attrs: { ...node.attrs, keepdims: 1 } };
  const t = need(x, 0);
  const [top] = reduce.ReduceMax([t, x[1]], keepdims);
  const shifted = alloc('f32', t.shape);
  const [full] = [broadcastLike(top, t)];
  for (let i = 0; i < shifted.data.length; i++) shifted.data[i] = Math.exp(t.data[i] - full[i]);
  const [sum] = reduce.ReduceSum([shifted, x[1]], node);
  for (let i = 0; i < sum.data.length; i++) sum.data[i] = Math.log(sum.data[i]) + top.data[i];
  return [sum];
};

function broadcastLike(t: Tensor, like: Tensor): Float32Array {
  const out = new Float32Array(like.data.length);
  const index = like.shape.map(() => 0);
  for (let i = 0; i < out.length; i++) {
    let at = 0;
    for (let a = 0; a < index.length; a++) at = at * t.shape[a] + (t.shape[a] === 1 ? 0 : index[a]);
    out[i] = t.data[at];
    for (let a = index.length - 1; a >= 0 && ++index[a] === like.shape[a]; a--) index[a] = 0;
  }
  return out;
}

/** Softmax (log = false) or LogSoftmax along one axis; exponentials and sums in double precision. */
export function softmax(t: Tensor, axis: number, log = false): Tensor {
  const x = floats(t);
  const y = alloc('f32', t.shape);
  const [outer, count, inner] = around(t.shape, axis);
  const e = new Float64Array(count);
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < inner; i++) {
      const at = o * count * inner + i;
      let top = Number.NEGATIVE_INFINITY;
      for (let a = 0; a < count; a++) if (x[at + a * inner] > top) top = x[at + a * inner];
      let sum = 0;
      for (let a = 0; a < count; a++) {
        e[a] = Math.exp(x[at + a * inner] - top);
        sum += e[a];
      }
      const shift = top + Math.log(sum);
      for (let a = 0; a < count; a++) y.data[at + a * inner] = log ? x[at + a * inner] - shift : e[a] / sum;
    }
  }
  return y;
}

/** Index of the largest (sign = 1) or smallest (sign = −1) value along an axis. */
const extreme =
  (sign: number): OpFn =>
  (x, node) => {
    const t = need(x, 0);
    const axis = axisOf(intAttr(node, 'axis', 0), t.shape.length);
    const last = intAttr(node, 'select_last_index', 0) !== 0;
    const [outer, count, inner] = around(t.shape, axis);
    if (count === 0) fail('nothing to choose from');
    const y = alloc(
      'i64',
      t.shape.map((d, i) => (i === axis ? 1 : d)),
    );
    for (let o = 0; o < outer; o++) {
      for (let i = 0; i < inner; i++) {
        const at = o * count * inner + i;
        let best = 0;
        for (let a = 1; a < count; a++) {
          const d = sign * (t.data[at + a * inner] - t.data[at + best * inner]);
          if (d > 0 || (d === 0 && last)) best = a;
        }
        y.data[o * inner + i] = best;
      }
    }
    return [
      intAttr(node, 'keepdims', 1)
        ? y
        : withShape(
            y,
            t.shape.filter((_, i) => i !== axis),
          ),
    ];
  };

const cumSum: OpFn = (x, node) => {
  const t = need(x, 0);
  const axis = axisOf(need(x, 1).data[0], t.shape.length);
  const reverse = intAttr(node, 'reverse', 0) !== 0;
  const exclusive = intAttr(node, 'exclusive', 0) !== 0;
  const [outer, count, inner] = around(t.shape, axis);
  const y = alloc(t.dtype, t.shape);
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < inner; i++) {
      let sum = 0;
      for (let a = 0; a < count; a++) {
        const at = (o * count + (reverse ? count - 1 - a : a)) * inner + i;
        const before = sum;
        sum += t.data[at];
        y.data[at] = exclusive ? before : sum;
      }
    }
  }
  return [y];
};

export const reduce: Family = {
  ReduceSum: reduction(0, add, keep),
  ReduceMean: reduction(0, add, (acc, n) => acc / n, false),
  ReduceMax: reduction(Number.NEGATIVE_INFINITY, Math.max, keep, false),
  ReduceMin: reduction(Number.POSITIVE_INFINITY, Math.min, keep, false),
  ReduceProd: reduction(1, (acc, v) => acc * v, keep),
  ReduceSumSquare: reduction(0, (acc, v) => acc + v * v, keep),
  ReduceL1: reduction(0, (acc, v) => acc + Math.abs(v), keep),
  ReduceL2: reduction(0, (acc, v) => acc + v * v, Math.sqrt),
  ReduceLogSum: reduction(0, add, Math.log),
  ReduceLogSumExp: logSumExp,
  Softmax: (x, node) => [softmax(need(x, 0), axisOf(intAttr(node, 'axis', -1), need(x, 0).shape.length))],
  LogSoftmax: (x, node) => [softmax(need(x, 0), axisOf(intAttr(node, 'axis', -1), need(x, 0).shape.length), true)],
  ArgMax: extreme(1),
  ArgMin: extreme(-1),
  CumSum: cumSum,
};
