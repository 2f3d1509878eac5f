/** Elementwise operators of two and more inputs, with ONNX's (numpy's) broadcasting. */
import type { DType, Tensor } from '../graph.ts';
import { alloc, broadcastShape, broadcastStrides, broadcastTo, type Family, fail, intAttr, need, type OpFn } from './common.ts';

type Pair = (a: number, b: number) => number;

/** y = f(a, b) broadcast; the result's type is `dtype`. */
export function zip(a: Tensor, b: Tensor, dtype: DType, f: Pair): Tensor {
  const shape = broadcastShape(a.shape, b.shape);
  const y = alloc(dtype, shape);
  const [p, q, out] = [a.data, b.data, y.data];
  const n = out.length;
  if (n === 0) return y;
  if (p.length === n && q.length === n) for (let i = 0; i < n; i++) out[i] = f(p[i], q[i]);
  else if (p.length === n && q.length === 1) for (let i = 0, v = q[0]; i < n; i++) out[i] = f(p[i], v);
  else if (p.length === 1 && q.length === n) for (let i = 0, v = p[0]; i < n; i++) out[i] = f(v, q[i]);
  else if (p.length === n && isSuffix(b.shape, shape))
    for (let i = 0; i < n; i += q.length) for (let j = 0; j < q.length; j++) out[i + j] = f(p[i + j], q[j]);
  else walk(out, p, q, shape, broadcastStrides(a.shape, shape), broadcastStrides(b.shape, shape), f);
  return y;
}

/** b, its leading ones dropped, is the tail of `shape`. */
function isSuffix(b: readonly number[], shape: readonly number[]): boolean {
  const first = b.findIndex((d) => d !== 1);
  const tail = first < 0 ? [] : b.slice(first);
  return tail.every((d, i) => d === shape[shape.length - tail.length + i]);
}

type Data = Tensor['data'];

function walk(out: Data, p: Data, q: Data, shape: readonly number[], sa: readonly number[], sb: readonly number[], f: Pair): void {
  const rank = shape.length;
  const index = new Array<number>(rank).fill(0);
  const inner = shape[rank - 1];
  const [da, db] = [sa[rank - 1], sb[rank - 1]];
  for (let o = 0, ia = 0, ib = 0; o < out.length; o += inner) {
    for (let i = 0, x = ia, y = ib; i < inner; i++, x += da, y += db) out[o + i] = f(p[x], q[y]);
    for (let axis = rank - 2; axis >= 0; axis--) {
      ia += sa[axis];
      ib += sb[axis];
      if (++index[axis] < shape[axis]) break;
      ia -= sa[axis] * shape[axis];
      ib -= sb[axis] * shape[axis];
      index[axis] = 0;
    }
  }
}

/** Two numbers of one type in, the same type out; integers may need another function. */
const arithmetic =
  (f: Pair, integer: Pair = f): OpFn =>
  (x) => {
    const [a, b] = [need(x, 0), need(x, 1)];
    if (a.dtype !== b.dtype || a.dtype === 'bool') fail(`operands are ${a.dtype} and ${b.dtype}`);
    return [zip(a, b, a.dtype, a.dtype === 'i64' ? integer : f)];
  };

const comparison =
  (f: (a: number, b: number) => boolean): OpFn =>
  (x) => {
    const [a, b] = [need(x, 0), need(x, 1)];
    if (a.dtype !== b.dtype) fail(`operands are ${a.dtype} and ${b.dtype}`);
    return [zip(a, b, 'bool', (p, q) => (f(p, q) ? 1 : 0))];
  };

const logical =
  (f: Pair): OpFn =>
  (x) => {
    const [a, b] = [need(x, 0), need(x, 1)];
    if (a.dtype !== 'bool' || b.dtype !== 'bool') fail(`operands are ${a.dtype} and ${b.dtype}`);
    return [zip(a, b, 'bool', f)];
  };

/** Any number of operands, folded from the left. */
const fold =
  (f: Pair, finish: (total: number, count: number) => number = (t) => t): OpFn =>
  (x) => {
    let y = need(x, 0);
    for (let i = 1; i < x.length; i++) {
      const b = need(x, i);
      if (b.dtype !== y.dtype) fail(`operands are ${y.dtype} and ${b.dtype}`);
      y = zip(y, b, y.dtype, f);
    }
    const out = alloc(y.dtype, y.shape);
    for (let i = 0; i < y.data.length; i++) out.data[i] = finish(y.data[i], x.length);
    return [out];
  };

const intDiv: Pair = (a, b) => (b === 0 ? fail('integer division by zero') : Math.trunc(a / b));
/** The remainder with the divisor's sign. */
const floorMod: Pair = (a, b) => (b === 0 ? fail('integer division by zero') : a - b * Math.floor(a / b));

function pow(x: readonly (Tensor | undefined)[]): Tensor[] {
  const [a, b] = [need(x, 0), need(x, 1)];
  if (b.data.length === 1 && b.data[0] === 2 && b.shape.length <= a.shape.length) return [zip(a, a, a.dtype, (p) => p * p)];
  return [zip(a, b, a.dtype, a.dtype === 'i64' ? (p, q) => Math.trunc(p ** q) : (p, q) => p ** q)];
}

function where(x: readonly (Tensor | undefined)[]): Tensor[] {
  const [c, a, b] = [need(x, 0), need(x, 1), need(x, 2)];
  if (c.dtype !== 'bool' || a.dtype !== b.dtype) fail(`operands are ${c.dtype}, ${a.dtype} and ${b.dtype}`);
  const shape = broadcastShape(c.shape, a.shape, b.shape);
  const [pc, pa, pb] = [c, a, b].map((t) => broadcastTo(t, shape).data);
  const y = alloc(a.dtype, shape);
  for (let i = 0; i < y.data.length; i++) y.data[i] = pc[i] ? pa[i] : pb[i];
  return [y];
}

/** slope has one value per channel (or broadcasts); ONNX broadcasts it one way, to x. */
function prelu(x: readonly (Tensor | undefined)[]): Tensor[] {
  const [t, slope] = [need(x, 0), need(x, 1)];
  return [zip(t, slope, t.dtype, (v, s) => (v < 0 ? v * s : v))];
}

export const binary: Family = {
  Add: arithmetic((a, b) => a + b),
  Sub: arithmetic((a, b) => a - b),
  Mul: arithmetic((a, b) => a * b),
  Div: arithmetic((a, b) => a / b, intDiv),
  Mod: (x, node) =>
    arithmetic((a, b) => a % b, intAttr(node, 'fmod', 0) ? (a, b) => (b === 0 ? fail('integer division by zero') : a % b) : floorMod)(
      x,
      node,
    ),
  Pow: pow,
  PRelu: prelu,
  Min: fold(Math.min),
  Max: fold(Math.max),
  Sum: fold((a, b) => a + b),
  Mean: fold(
    (a, b) => a + b,
    (t, n) => t / n,
  ),
  Where: where,
  Equal: comparison((a, b) => a === b),
  Less: comparison((a, b) => a < b),
  LessOrEqual: comparison((a, b) => a <= b),
  Greater: comparison((a, b) => a > b),
  GreaterOrEqual: comparison((a, b) => a >= b),
  And: logical((a, b) => a & b),
  Or: logical((a, b) => a | b),
  Xor: logical((a, b) => a ^ b),
};
