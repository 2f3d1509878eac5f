/** Products with constant matrices become Linear, and constants around them move into weights and bias. */
import { type GraphNode, type Tensor, tensor } from '../graph.ts';
import { permute } from '../ops/common.ts';
import type { Rule, View } from './view.ts';

/** x·W = Linear(x; W), W a constant matrix. */
export const matmulToLinear: Rule = (node, v) => {
  if (node.op !== 'MatMul') return undefined;
  const w = v.constant(node.inputs[1]);
  if (w === undefined || w.shape.length !== 2 || w.dtype !== 'f32') return undefined;
  return [{ op: 'Linear', name: v.nameFor(node, 'Linear'), inputs: node.inputs, outputs: node.outputs, attrs: {} }];
};

/** α·x·W (Wᵀ when transB) + β·c = Linear(x; α·W, β·c), for a constant W and a constant c that is one row. */
export const gemmToLinear: Rule = (node, v) => {
  if (node.op !== 'Gemm' || (node.attrs.transA ?? 0) !== 0) return undefined;
  const given = v.constant(node.inputs[1]);
  if (given === undefined || given.shape.length !== 2) return undefined;
  const [alpha, beta] = [Number(node.attrs.alpha ?? 1), Number(node.attrs.beta ?? 1)];
  const turned = node.attrs.transB ? permute(given, [1, 0]) : given;
  const width = turned.shape[1];
  const c = node.inputs[2] ? v.constant(node.inputs[2]) : undefined;
  if (node.inputs[2] && (c === undefined || (c.data.length !== 1 && (c.data.length !== width || c.shape.at(-1) !== width))))
    return undefined;
  const w =
    alpha === 1 && turned === given
      ? node.inputs[1]
      : v.add(
          `${node.inputs[1]}.linear`,
          map(turned, (x) => alpha * x),
        );
  const bias =
    c === undefined
      ? []
      : c.data.length === width && c.shape.length === 1 && beta === 1
        ? [node.inputs[2]]
        : [v.add(`${node.inputs[2]}.linear`, row(c, width, beta))];
  return [{ op: 'Linear', name: v.nameFor(node, 'Linear'), inputs: [node.inputs[0], w, ...bias], outputs: node.outputs, attrs: {} }];
};

const map = (t: Tensor, f: (x: number, i: number) => number): Tensor => tensor(Array.from(t.data, f), t.shape);
const row = (t: Tensor, width: number, factor: number): Tensor =>
  tensor(
    Array.from({ length: width }, (_, i) => factor * t.data[t.data.length === 1 ? 0 : i]),
    [width],
  );

/** A constant that is one row along the last axis of `x` (or one number), as that row. */
function rowConstant(name: string, x: string, width: number, v: View): number[] | undefined {
  const t = v.constant(name);
  const rank = v.rank(x);
  if (t === undefined || t.dtype !== 'f32' || rank === undefined || t.shape.length > rank) return undefined;
  if (t.data.length !== 1 && (t.data.length !== width || t.shape.at(-1) !== width)) return undefined;
  return Array.from({ length: width }, (_, i) => t.data[t.data.length === 1 ? 0 : i]);
}

/** (x·W + b) ∘ c for ∘ in + − · /, c a constant row (or number): into b, or into W and b. */
const fold =
  (operators: readonly string[]): Rule =>
  (node, v) => {
    if (!operators.includes(node.op)) return undefined;
    const orders = node.op === 'Add' || node.op === 'Mul' ? [node.inputs, [node.inputs[1], node.inputs[0]]] : [node.inputs];
    for (const [x, c] of orders) {
      const linear = v.maker(x, 'Linear');
      const w = linear && v.constant(linear.inputs[1]);
      if (linear === undefined || w === undefined || v.uses(x) !== 1) continue;
      const width = w.shape[1];
      const k = rowConstant(c, x, width, v);
      const bias = linear.inputs[2] ? v.constant(linear.inputs[2]) : undefined;
      if (k === undefined || (linear.inputs[2] && bias === undefined)) continue;
      return [{ ...linear, inputs: folded(node, linear, w, bias, c, k, v), outputs: node.outputs }];
    }
    return undefined;
  };

function folded(
  node: GraphNode,
  linear: GraphNode,
  w: Tensor,
  bias: Tensor | undefined,
  c: string,
  k: readonly number[],
  v: View,
): string[] {
  const width = k.length;
  if (node.op === 'Add' || node.op === 'Sub') {
    const given = v.constant(c);
    if (bias === undefined && node.op === 'Add' && given?.shape.length === 1 && given.data.length === width)
      return [linear.inputs[0], linear.inputs[1], c];
    const sign = node.op === 'Add' ? 1 : -1;
    return [
      linear.inputs[0],
      linear.inputs[1],
      v.add(
        `${linear.name}.bias`,
        tensor(
          k.map((e, i) => (bias?.data[i] ?? 0) + sign * e),
          [width],
        ),
      ),
    ];
  }
  const factor = node.op === 'Mul' ? k : k.map((e) => 1 / e);
  const inputs = [
    linear.inputs[0],
    v.add(
      `${linear.name}.weight`,
      map(w, (x, i) => x * factor[i % width]),
    ),
  ];
  return bias
    ? [
        ...inputs,
        v.add(
          `${linear.name}.bias`,
          map(bias, (x, i) => x * factor[i]),
        ),
      ]
    : inputs;
}

export const addToLinear = fold(['Add', 'Sub']);
export const scaleLinear = fold(['Mul', 'Div']);

/** Which axis of a value a per-channel constant lies along: its values, when it has `channels` (or one) along axis 1 of rank `rank`. */
function channelConstant(name: string, channels: number, rank: number, v: View): number[] | undefined {
  const t = v.constant(name);
  if (t === undefined || t.dtype !== 'f32' || t.shape.length > rank) return undefined;
  const fits =
    t.data.length === 1 || (t.data.length === channels && t.shape.length >= rank - 1 && t.shape[t.shape.length - rank + 1] === channels);
  return fits ? Array.from({ length: channels }, (_, i) => t.data[t.data.length === 1 ? 0 : i]) : undefined;
}

/** A per-channel map y = g·x + h after a convolution: Conv(x; W, b)·g + h = Conv(x; g·W, g·b + h). */
function convAffine(conv: GraphNode, outputs: string[], g: readonly number[], h: readonly number[], v: View): GraphNode[] | undefined {
  const w = v.constant(conv.inputs[1]);
  const b = conv.inputs[2] ? v.constant(conv.inputs[2]) : undefined;
  if (w === undefined || (conv.inputs[2] && b === undefined) || v.uses(conv.outputs[0]) !== 1) return undefined;
  const per = w.data.length / w.shape[0];
  const weight = g.every((e) => e === 1)
    ? conv.inputs[1]
    : v.add(
        `${conv.name}.weight`,
        map(w, (x, i) => x * g[Math.floor(i / per)]),
      );
  const bias = v.add(
    `${conv.name}.bias`,
    tensor(
      h.map((e, i) => (b?.data[i] ?? 0) * g[i] + e),
      [h.length],
    ),
  );
  return [{ ...conv, inputs: [conv.inputs[0], weight, bias], outputs }];
}

/** Conv ∘ c for a per-channel constant c. */
export const scaleConv: Rule = (node, v) => {
  if (!['Mul', 'Div', 'Add', 'Sub'].includes(node.op)) return undefined;
  const orders = node.op === 'Add' || node.op === 'Mul' ? [node.inputs, [node.inputs[1], node.inputs[0]]] : [node.inputs];
  for (const [x, c] of orders) {
    const conv = v.maker(x, 'Conv');
    const channels = conv && v.constant(conv.inputs[1])?.shape[0];
    const rank = v.rank(x);
    if (conv === undefined || channels === undefined || rank === undefined) continue;
    const k = channelConstant(c, channels, rank, v);
    if (k === undefined) continue;
    const [zero, one] = [k.map(() => 0), k.map(() => 1)];
    const [g, h] = { Mul: [k, zero], Div: [k.map((e) => 1 / e), zero], Add: [one, k], Sub: [one, k.map((e) => -e)] }[
      node.op as 'Mul' | 'Div' | 'Add' | 'Sub'
    ];
    const out = convAffine(conv, node.outputs, g, h, v);
    if (out) return out;
  }
  return undefined;
};

/** BatchNorm at inference is y = g·x + h per channel, g = scale/√(variance + ε), h = bias − mean·g: into the Conv or Linear before it. */
export const batchNorm: Rule = (node, v) => {
  if (node.op !== 'BatchNormalization') return undefined;
  const [scale, bias, mean, variance] = node.inputs.slice(1).map((name) => v.constant(name)?.data);
  if (!scale || !bias || !mean || !variance) return undefined;
  const epsilon = Number(node.attrs.epsilon ?? 1e-5);
  const g = Array.from(scale, (s, i) => s / Math.sqrt(variance[i] + epsilon));
  const h = g.map((e, i) => bias[i] - mean[i] * e);
  const before = v.maker(node.inputs[0], 'Conv', 'Linear');
  if (before === undefined) return undefined;
  if (before.op === 'Conv') return convAffine(before, node.outputs, g, h, v);
  const w = v.constant(before.inputs[1]);
  const b = before.inputs[2] ? v.constant(before.inputs[2]) : undefined;
  if (w === undefined || (before.inputs[2] && b === undefined) || v.rank(node.inputs[0]) !== 2 || v.uses(node.inputs[0]) !== 1)
    return undefined;
  const weight = v.add(
    `${before.name}.weight`,
    map(w, (x, i) => x * g[i % g.length]),
  );
  const shift = v.add(
    `${before.name}.bias`,
    tensor(
      h.map((e, i) => (b?.data[i] ?? 0) * g[i] + e),
      [h.length],
    ),
  );
  return [{ ...before, inputs: [before.inputs[0], weight, shift], outputs: node.outputs }];
};

/** Norm(x; s, b)·k + h = Norm(x; s·k, b·k + h) for per-channel constants k, h, where a norm scales channels (axis 1) last. */
export const channelsAfterNorm: Rule = (node, v) => {
  if (node.op !== 'Mul' && node.op !== 'Add') return undefined;
  for (const [x, c] of [node.inputs, [node.inputs[1], node.inputs[0]]]) {
    const bn = v.maker(x, 'BatchNormalization', 'GroupNormalization', 'InstanceNormalization');
    const [scale, bias] = bn ? [v.constant(bn.inputs[1]), v.constant(bn.inputs[2])] : [];
    const rank = v.rank(x);
    if (bn === undefined || scale === undefined || bias === undefined || rank === undefined || v.uses(x) !== 1) continue;
    const k = channelConstant(c, scale.data.length, rank, v);
    if (k === undefined) continue;
    const s =
      node.op === 'Mul'
        ? v.add(
            `${bn.name}.scale`,
            map(scale, (e, i) => e * k[i]),
          )
        : bn.inputs[1];
    const b = v.add(
      `${bn.name}.bias`,
      map(bias, (e, i) => (node.op === 'Mul' ? e * k[i] : e + k[i])),
    );
    return [{ ...bn, inputs: [bn.inputs[0], s, b, ...bn.inputs.slice(3)], outputs: node.outputs }];
  }
  return undefined;
};
