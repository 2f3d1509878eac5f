/** LayerNorm and RMSNorm from their parts. */
import type { GraphNode } from '../graph.ts';
import { tensor } from '../graph.ts';
import type { Rule, View } from './view.ts';

/** The node is a mean over the last axis with keepdims, of a value named `of` (any, when undefined). Returns what it averages. */
function lastMean(name: string, v: View): string | undefined {
  const node = v.maker(name, 'ReduceMean');
  if (node === undefined || (node.attrs.keepdims ?? 1) !== 1) return undefined;
  const axes = node.inputs[1] ? v.constant(node.inputs[1]) : undefined;
  const rank = v.rank(node.inputs[0]);
  return axes?.data.length === 1 && (axes.data[0] === -1 || axes.data[0] + 1 === rank) ? node.inputs[0] : undefined;
}

/** The value squared by this one: x², x·x. */
function squared(name: string, v: View): string | undefined {
  const node = v.maker(name, 'Pow', 'Mul');
  if (node === undefined) return undefined;
  if (node.op === 'Mul') return node.inputs[0] === node.inputs[1] ? node.inputs[0] : undefined;
  return v.scalar(node.inputs[1]) === 2 ? node.inputs[0] : undefined;
}

/** (value, number) when a node joins a value and a one-value constant, in either order. */
export function withScalar(node: GraphNode, v: View): [string, number] | undefined {
  for (const [x, c] of [node.inputs, [node.inputs[1], node.inputs[0]]]) {
    const s = v.scalar(c);
    if (s !== undefined && v.constant(x) === undefined) return [x, s];
  }
  return undefined;
}

/** mean(d²) + ε with its d and ε. */
function variance(name: string, v: View): { of: string; epsilon: number } | undefined {
  const sum = v.maker(name, 'Add');
  const [mean, epsilon] = (sum && withScalar(sum, v)) ?? [name, 0];
  const square = lastMean(mean, v);
  const of = square === undefined ? undefined : squared(square, v);
  return of === undefined ? undefined : { of, epsilon };
}

/** The value of which this one is the square root, or whose inverse square root it is: √x, x^0.5; 1/√x, x^−0.5. */
function root(name: string, v: View, inverse: boolean): string | undefined {
  const power = v.maker(name, 'Pow');
  if (power !== undefined && v.scalar(power.inputs[1]) === (inverse ? -0.5 : 0.5)) return power.inputs[0];
  if (!inverse) return v.maker(name, 'Sqrt')?.inputs[0];
  const reciprocal = v.maker(name, 'Reciprocal');
  if (reciprocal !== undefined) return root(reciprocal.inputs[0], v, false);
  const division = v.maker(name, 'Div');
  return division !== undefined && v.scalar(division.inputs[0]) === 1 ? root(division.inputs[1], v, false) : undefined;
}

/** d / √(mean(d²) + ε) = RMSNorm(d; ones), over the last axis. */
export const rmsNorm: Rule = (node, v) => {
  const candidates: [string, string | undefined][] =
    node.op === 'Div'
      ? [[node.inputs[0], root(node.inputs[1], v, false)]]
      : node.op === 'Mul'
        ? [
            [node.inputs[0], root(node.inputs[1], v, true)],
            [node.inputs[1], root(node.inputs[0], v, true)],
          ]
        : [];
  for (const [d, under] of candidates) {
    const stats = under === undefined ? undefined : variance(under, v);
    const width = v.dim(d, -1);
    if (stats?.of !== d || width === undefined || !v.sameShape(d, node.outputs[0])) continue;
    const name = v.nameFor(node, 'RMSNormalization');
    const ones = v.add(`${name}.scale`, tensor(new Array<number>(width).fill(1), [width]));
    return [{ op: 'RMSNormalization', name, inputs: [d, ones], outputs: node.outputs, attrs: { axis: -1, epsilon: stats.epsilon } }];
  }
  return undefined;
};

/** RMSNorm(x − mean(x); g) = LayerNorm(x; g, 0): the variance is the mean square of what is centred. */
export const layerNorm: Rule = (node, v) => {
  if (node.op !== 'RMSNormalization' || (node.attrs.axis ?? -1) !== -1) return undefined;
  const centred = v.maker(node.inputs[0], 'Sub');
  const width = v.dim(node.inputs[0], -1);
  if (centred === undefined || width === undefined || lastMean(centred.inputs[1], v) !== centred.inputs[0]) return undefined;
  const name = v.nameFor(node, 'LayerNormalization');
  const zeros = v.add(`${name}.bias`, tensor(new Array<number>(width).fill(0), [width]));
  return [{ ...node, op: 'LayerNormalization', name, inputs: [centred.inputs[0], node.inputs[1], zeros] }];
};

/** The constant along the last axis a node joins to `op`'s output: [other value name, width values], shape [.., 1, width]. */
function lastAxisConstant(name: string, width: number, rank: number, v: View): ArrayLike<number> | undefined {
  const t = v.constant(name);
  if (t === undefined || t.dtype !== 'f32' || t.shape.length > rank) return undefined;
  if (t.data.length === 1) return new Float32Array(width).fill(t.data[0]);
  return t.data.length === width && t.shape.at(-1) === width ? t.data : undefined;
}

/**
 * Norm(x; g, b)·c = Norm(x; g·c, b·c) and LayerNorm(x; g, b) + c = LayerNorm(x; g, b + c), c constant along the last axis.
 * A product is folded while the bias is still zero or scales with it.
 */
export const normScale: Rule = (node, v) => {
  if (node.op !== 'Mul' && node.op !== 'Add') return undefined;
  for (const [x, c] of [node.inputs, [node.inputs[1], node.inputs[0]]]) {
    const norm = v.maker(x, 'LayerNormalization', 'RMSNormalization');
    if (norm === undefined || v.uses(x) !== 1 || (norm.attrs.axis ?? -1) !== -1) continue;
    if (node.op === 'Add' && norm.op !== 'LayerNormalization') continue;
    const scale = v.constant(norm.inputs[1]);
    const bias = norm.inputs[2] ? v.constant(norm.inputs[2]) : undefined;
    const [width, rank] = [v.dim(x, -1), v.rank(x)];
    if (scale === undefined || width === undefined || rank === undefined || (norm.inputs[2] && bias === undefined)) continue;
    if (scale.data.length !== width || (bias && bias.data.length !== width)) continue;
    const k = lastAxisConstant(c, width, rank, v);
    if (k === undefined) continue;
    const name = norm.name;
    const times = node.op === 'Mul';
    const g = times
      ? v.add(
          `${name}.scale`,
          tensor(
            Array.from(scale.data, (s, i) => s * k[i]),
            [width],
          ),
        )
      : norm.inputs[1];
    const b = bias
      ? v.add(
          `${name}.bias`,
          tensor(
            Array.from(bias.data, (s, i) => (times ? s * k[i] : s + k[i])),
            [width],
          ),
        )
      : times
        ? ''
        : v.add(`${name}.bias`, tensor(k, [width]));
    return [{ ...norm, name, inputs: [norm.inputs[0], g, ...(b ? [b] : [])], outputs: node.outputs }];
  }
  return undefined;
};

/** Σ x / n = mean x, over a last axis of n values. */
export const sumToMean: Rule = (node, v) => {
  if (node.op !== 'Div' && node.op !== 'Mul') return undefined;
  const joined = node.op === 'Div' ? ([node.inputs[0], v.scalar(node.inputs[1])] as const) : withScalar(node, v);
  if (joined === undefined || joined[1] === undefined) return undefined;
  const sum = v.maker(joined[0], 'ReduceSum');
  const axes = sum?.inputs[1] ? v.constant(sum.inputs[1]) : undefined;
  if (sum === undefined || axes === undefined || axes.data.length === 0) return undefined;
  const sizes = Array.from(axes.data, (a: number) => v.dim(sum.inputs[0], a));
  if (sizes.some((s) => s === undefined) || v.dtype(sum.inputs[0]) !== 'f32') return undefined;
  const n = sizes.reduce<number>((a, b) => a * (b ?? 0), 1);
  const factor = node.op === 'Div' ? 1 / joined[1] : joined[1];
  if (Math.abs(factor * n - 1) > 1e-6) return undefined;
  return [{ ...sum, op: 'ReduceMean', name: v.nameFor(node, 'ReduceMean'), outputs: node.outputs }];
};

/** Groups of channels joined into one for InstanceNorm and taken apart again: Reshape(InstanceNorm(Reshape(x))) = GroupNorm(x). */
export const groupNorm: Rule = (node, v) => {
  const norm = node.op === 'Reshape' ? v.maker(node.inputs[0], 'InstanceNormalization') : undefined;
  const join = norm && v.maker(norm.inputs[0], 'Reshape');
  if (!norm || !join || !v.sameShape(join.inputs[0], node.outputs[0])) return undefined;
  const [x, joined] = [join.inputs[0], norm.inputs[0]];
  const [channels, groups] = [v.dim(x, 1), v.dim(joined, 1)];
  const [scale, bias] = [v.constant(norm.inputs[1]), v.constant(norm.inputs[2])];
  if (
    !channels ||
    !groups ||
    !scale ||
    !bias ||
    channels % groups !== 0 ||
    (v.rank(x) ?? 0) < 3 ||
    v.dim(x, 0) === undefined ||
    v.dim(x, 0) !== v.dim(joined, 0)
  )
    return undefined;
  const name = v.nameFor(node, 'GroupNormalization');
  const spread = (p: ArrayLike<number>): number[] => Array.from({ length: channels }, (_, c) => p[Math.floor((c * groups) / channels)]);
  const inputs = [
    x,
    v.add(`${name}.scale`, tensor(spread(scale.data), [channels])),
    v.add(`${name}.bias`, tensor(spread(bias.data), [channels])),
  ];
  return [
    { op: 'GroupNormalization', name, inputs, outputs: node.outputs, attrs: { num_groups: groups, epsilon: norm.attrs.epsilon ?? 1e-5 } },
  ];
};
