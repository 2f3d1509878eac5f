/** lower: graph to program, operator by operator. An operator that runs on shares is one line here. */
import { type Graph, type GraphNode, ModelError } from '../../graph/graph.ts';
import { smooth as plainFunctions } from '../../graph/ops/index.ts';
import { functions } from '../fit/index.ts';
import { argMax, reduceMax } from './argmax.ts';
import { add, batchNorm, div, mul, neg, pow, prelu, sub } from './arith.ts';
import { attention } from './attention.ts';
import { linear } from './linear.ts';
import type { Lowering } from './lowering.ts';
import { layerNorm } from './norm.ts';
import { oneHotRows } from './one-hot.ts';
import { matmul, reciprocalOf } from './products.ts';
import { rotary } from './rotary.ts';
import { abs, clip, extremum, hardSigmoid, hardSwish, leakyRelu, relu } from './relu.ts';
import { concat, expand, gather, identity, lastRow, pad, reduce, reshape, slice, split, transpose } from './shape.ts';
import { type SmoothFunction, smooth } from './smooth.ts';
import { softmax } from './softmax.ts';
import { averagePool, conv, maxPool } from './windows.ts';

export type Lower = (low: Lowering, node: GraphNode) => void;

/** Smooth functions by operator. A new activation is one line: a float function, and the slope that leaves it bounded. */
const activations: Readonly<Record<string, Omit<SmoothFunction, 'name'>>> = {
  Silu: { f: functions.silu, slope: 0.5 },
  Erf: { f: functions.erf, slope: 0 },
  Tanh: { f: Math.tanh, slope: 0 },
  Sigmoid: { f: functions.sigmoid, slope: 0 },
  Exp: { f: Math.exp, slope: 0 },
  Sin: { f: Math.sin, slope: 0 },
  Cos: { f: Math.cos, slope: 0 },
  Softplus: { f: functions.softplus, slope: 0.5 },
  Mish: { f: functions.mish, slope: 0.5 },
  Log: { f: Math.log, slope: 0, domain: [0, Infinity] },
  Sqrt: { f: Math.sqrt, slope: 0, domain: [0, Infinity] },
};

const registered = new Map<string, SmoothFunction>();
/** Makes operator `op` run privately as the smooth function f of one variable. Its plain meaning must be registered with the interpreter. */
export function registerActivation(
  op: string,
  f: (x: number) => number,
  options: { slope?: number; domain?: readonly [number, number] } = {},
): void {
  registered.set(op, { name: op, f, slope: options.slope ?? 0, domain: options.domain });
}

const operators: Readonly<Record<string, Lower>> = {
  Linear: linear,
  OneHotRows: oneHotRows,
  LayerNormalization: layerNorm,
  RMSNormalization: layerNorm,
  Attention: attention,
  Rotary: rotary,
  Gelu: (low, node) =>
    smooth(
      low,
      node,
      node.attrs.approximate === 'tanh'
        ? { name: 'geluTanh', f: functions.geluTanh, slope: 0.5 }
        : { name: 'gelu', f: functions.gelu, slope: 0.5 },
    ),
  Add: add,
  Sub: sub,
  Mul: mul,
  Div: div,
  Reciprocal: reciprocalOf,
  Neg: neg,
  Pow: pow,
  MatMul: matmul,
  Softmax: softmax,
  Relu: relu,
  LeakyRelu: leakyRelu,
  PRelu: prelu,
  Clip: clip,
  HardSigmoid: hardSigmoid,
  HardSwish: hardSwish,
  Abs: abs,
  ArgMax: argMax,
  ReduceMax: reduceMax,
  Max: extremum,
  Min: extremum,
  Conv: conv,
  BatchNormalization: batchNorm,
  MaxPool: maxPool,
  GlobalMaxPool: maxPool,
  AveragePool: averagePool,
  GlobalAveragePool: averagePool,
  ReduceMean: reduce,
  ReduceSum: reduce,
  Concat: concat,
  Slice: slice,
  LastRow: lastRow,
  Split: split,
  Gather: gather,
  Expand: expand,
  Pad: pad,
  Identity: identity,
  Dropout: identity,
  Transpose: transpose,
  Reshape: reshape,
  Flatten: reshape,
  Squeeze: reshape,
  Unsqueeze: reshape,
};

export function lowerOf(op: string): Lower | undefined {
  if (Object.hasOwn(operators, op)) return operators[op];
  const fn = registered.get(op) ?? (Object.hasOwn(activations, op) ? { name: op.toLowerCase(), ...activations[op] } : undefined);
  if (fn) return (low, node) => smooth(low, node, fn);
  // Whatever else the interpreter knows as smooth, with the node's own attributes.
  if (!Object.hasOwn(plainFunctions, op)) return undefined;
  return (low, node) =>
    smooth(low, node, {
      name: `${op.toLowerCase()} ${JSON.stringify(node.attrs)}`,
      f: plainFunctions[op](node),
      slope: halfLine.has(op) ? 0.5 : 0,
    });
}

/** Functions that go from 0 to a line of slope 1: half of it leaves them bounded, or nearly even. */
const halfLine = new Set(['Swish', 'Elu', 'Celu']);

/** Every operator of the graph that cannot run on shares, named with its node; empty when all can. */
export const unsupported = (graph: Graph): string[] => graph.nodes.filter((n) => !lowerOf(n.op)).map((n) => `${n.name} (${n.op})`);

export function lowerNode(low: Lowering, node: GraphNode): void {
  low.b.layer = layerOf(node.name);
  const lower = lowerOf(node.op);
  if (!lower) throw new ModelError(`${node.name}: operator ${node.op} cannot run privately`);
  lower(low, node);
  // What the client gets is in the graph's order.
  for (const name of node.outputs.filter((o) => low.graph.outputs.includes(o))) {
    const v = low.values.get(name);
    if (!v?.order) continue;
    const f = low.bits(v);
    const t = low.plain(v, f);
    v.order = undefined;
    v.shares.clear();
    v.wires.clear();
    v.shares.set(f, t);
  }
}

/** '/encoder/layer.0/attention/query' → 'encoder.layer.0.attention' */
const layerOf = (name: string): string => name.split('/').filter(Boolean).slice(0, -1).join('.') || name.replace(/^\//, '');
