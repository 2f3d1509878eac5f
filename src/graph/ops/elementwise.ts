/**
 * Elementwise operators of one input. Smooth functions and kinked ones are kept in two tables of plain float functions, because
 * a private run has one gate for every smooth function and other gates for kinks: the compiler reads the same tables.
 */
import type { GraphNode, Tensor } from '../graph.ts';
import { erf, roundEven, sigmoid, softplus } from '../math.ts';
import { alloc, type Family, fail, floatAttr, type Inputs, need, type OpFn, strAttr } from './common.ts';

/** A float function, once the node's attributes are known. */
export type Scalar = (node: GraphNode) => (x: number) => number;

const tanhGelu = (x: number): number => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x * x * x)));

/** Functions without a kink on their domain. f(node)(x). */
export const smooth: Readonly<Record<string, Scalar>> = {
  Erf: () => erf,
  Exp: () => Math.exp,
  Log: () => Math.log,
  Sqrt: () => Math.sqrt,
  Reciprocal: () => (x) => 1 / x,
  Tanh: () => Math.tanh,
  Sigmoid: () => sigmoid,
  Softplus: () => softplus,
  Softsign: () => (x) => x / (1 + Math.abs(x)),
  Gelu: (node) => (strAttr(node, 'approximate', 'none') === 'tanh' ? tanhGelu : (x) => 0.5 * x * (1 + erf(x * Math.SQRT1_2))),
  Silu: () => (x) => x * sigmoid(x),
  Swish: (node) => {
    const alpha = floatAttr(node, 'alpha', 1);
    return (x) => x * sigmoid(alpha * x);
  },
  Mish: () => (x) => x * Math.tanh(softplus(x)),
  Elu: (node) => {
    const alpha = floatAttr(node, 'alpha', 1);
    return (x) => (x < 0 ? alpha * Math.expm1(x) : x);
  },
  Selu: (node) => {
    const alpha = floatAttr(node, 'alpha', 1.6732631921768188);
    const gamma = floatAttr(node, 'gamma', 1.0507010221481323);
    return (x) => gamma * (x < 0 ? alpha * Math.expm1(x) : x);
  },
  Celu: (node) => {
    const alpha = floatAttr(node, 'alpha', 1);
    return (x) => (x < 0 ? alpha * Math.expm1(x / alpha) : x);
  },
  Sin: () => Math.sin,
  Cos: () => Math.cos,
  Tan: () => Math.tan,
  Asin: () => Math.asin,
  Acos: () => Math.acos,
  Atan: () => Math.atan,
  Sinh: () => Math.sinh,
  Cosh: () => Math.cosh,
  Asinh: () => Math.asinh,
  Acosh: () => Math.acosh,
  Atanh: () => Math.atanh,
};

/** Functions with a kink or a jump: exact comparisons in a private run. */
export const kinked: Readonly<Record<string, Scalar>> = {
  Relu: () => (x) => Math.max(0, x),
  LeakyRelu: (node) => {
    const alpha = floatAttr(node, 'alpha', 0.01);
    return (x) => (x < 0 ? alpha * x : x);
  },
  ThresholdedRelu: (node) => {
    const alpha = floatAttr(node, 'alpha', 1);
    return (x) => (x > alpha ? x : 0);
  },
  HardSigmoid: (node) => {
    const alpha = floatAttr(node, 'alpha', 0.2);
    const beta = floatAttr(node, 'beta', 0.5);
    return (x) => Math.min(1, Math.max(0, alpha * x + beta));
  },
  HardSwish: () => (x) => x * Math.min(1, Math.max(0, x / 6 + 0.5)),
  Shrink: (node) => {
    const lambd = floatAttr(node, 'lambd', 0.5);
    const bias = floatAttr(node, 'bias', 0);
    return (x) => (x < -lambd ? x + bias : x > lambd ? x - bias : 0);
  },
  Abs: () => Math.abs,
  Neg: () => (x) => -x,
  Sign: () => (x) => (x > 0 ? 1 : x < 0 ? -1 : x),
  Floor: () => Math.floor,
  Ceil: () => Math.ceil,
  Round: () => roundEven,
};

/** y[i] = f(x[i]) in x's type. */
export function map(x: Tensor, f: (x: number) => number): Tensor {
  const y = alloc(x.dtype, x.shape);
  for (let i = 0; i < x.data.length; i++) y.data[i] = f(x.data[i]);
  return y;
}

const operator =
  (scalar: Scalar): OpFn =>
  (x, node) => {
    const t = need(x, 0);
    if (t.dtype === 'bool') fail('expected numbers, got bool');
    return [map(t, scalar(node))];
  };

function clip(x: Inputs): Tensor[] {
  const t = need(x, 0);
  const bound = (b: Tensor | undefined, otherwise: number): number =>
    b === undefined ? otherwise : b.data.length === 1 ? b.data[0] : fail(`a bound of shape [${b.shape}]`);
  const lo = bound(x[1], Number.NEGATIVE_INFINITY);
  const hi = bound(x[2], Number.POSITIVE_INFINITY);
  return [map(t, (v) => Math.min(hi, Math.max(lo, v)))];
}

const test =
  (f: (x: number) => boolean): OpFn =>
  (x) => {
    const t = need(x, 0);
    const y = alloc('bool', t.shape);
    for (let i = 0; i < t.data.length; i++) y.data[i] = f(t.data[i]) ? 1 : 0;
    return [y];
  };

/** ONNX's element types that we keep as f32, i64 or bool (enum TensorProto.DataType). */
export function dtypeOf(onnxType: number): 'f32' | 'i64' | 'bool' {
  if ([1, 10, 11, 16].includes(onnxType)) return 'f32';
  if ([2, 3, 4, 5, 6, 7, 12, 13].includes(onnxType)) return 'i64';
  return onnxType === 9 ? 'bool' : fail(`element type ${onnxType} is not supported`);
}

/** Floats go to integers by dropping the fraction; narrow integers wrap as they do in C. */
export function cast(t: Tensor, onnxType: number): Tensor {
  const to = dtypeOf(onnxType);
  if (to === t.dtype && to !== 'i64') return t;
  const bits = { 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 12: 32 }[onnxType] ?? 64;
  const signed = [3, 5, 6, 7].includes(onnxType);
  const wrap = (v: number): number => {
    const i = Math.trunc(v);
    if (bits === 64) return Number.isNaN(i) ? 0 : Math.min(Number.MAX_SAFE_INTEGER, Math.max(-Number.MAX_SAFE_INTEGER, i)) + 0;
    const w = Number(BigInt.asUintN(bits, BigInt(Number.isFinite(i) ? i : 0)));
    return signed && w >= 2 ** (bits - 1) ? w - 2 ** bits : w;
  };
  const y = alloc(to, t.shape);
  for (let i = 0; i < y.data.length; i++) {
    const v = t.data[i];
    y.data[i] = to === 'bool' ? (v !== 0 ? 1 : 0) : to === 'i64' ? wrap(v) : v;
  }
  return y;
}

/** The element type a Cast aims at, as ONNX numbers it. */
export function castTarget(node: GraphNode): number {
  const to = node.attrs.to;
  return typeof to === 'number' ? to : fail('attribute to is missing');
}

export const elementwise: Family = {
  ...Object.fromEntries([...Object.entries(smooth), ...Object.entries(kinked)].map(([name, s]) => [name, operator(s)])),
  Clip: clip,
  Not: test((v) => v === 0),
  IsNaN: test(Number.isNaN),
  IsInf: test((v) => v === Number.POSITIVE_INFINITY || v === Number.NEGATIVE_INFINITY),
  Identity: (x) => [need(x, 0)],
  Dropout: (x) => {
    const t = need(x, 0);
    if (x[2] !== undefined && x[2].data[0] !== 0) fail('training mode');
    const mask = alloc('bool', t.shape);
    mask.data.fill(1);
    return [t, mask];
  },
  Cast: (x, node) => [cast(need(x, 0), castTarget(node))],
  CastLike: (x) => [cast(need(x, 0), { f32: 1, i64: 7, bool: 9 }[need(x, 1).dtype])],
};
