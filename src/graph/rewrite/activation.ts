/**
 * Activations from their parts, recognised as polynomials rather than as trees: a product or sum is expanded in x and in
 * t = erf(u), tanh(u) or sigmoid(u), and u in x. So every order of factors, and every way to write ½ or 1/√2, is the same pattern.
 */
import type { AttrValue, GraphNode } from '../graph.ts';
import type { Rule, View } from './view.ts';

/** Coefficients by 'i,j' for xⁱ·tʲ. */
type Poly = Map<string, number>;

const monomial = (i: number, j: number, c: number): Poly => new Map([[`${i},${j}`, c]]);

function plus(a: Poly, b: Poly, factor = 1): Poly {
  const out = new Map(a);
  for (const [k, c] of b) out.set(k, (out.get(k) ?? 0) + factor * c);
  return out;
}

function times(a: Poly, b: Poly): Poly | undefined {
  const out: Poly = new Map();
  for (const [ka, ca] of a) {
    for (const [kb, cb] of b) {
      const [i, j] = ka.split(',').map(Number);
      const [k, l] = kb.split(',').map(Number);
      if (i + k > 4 || j + l > 1) return undefined;
      const key = `${i + k},${j + l}`;
      out.set(key, (out.get(key) ?? 0) + ca * cb);
    }
  }
  return out;
}

/** The value as a polynomial in x and t, or undefined when it is not one (within a few nodes). */
function expand(name: string, x: string, t: string, v: View, depth = 8): Poly | undefined {
  if (name === x) return monomial(1, 0, 1);
  if (name === t) return monomial(0, 1, 1);
  const c = v.scalar(name);
  if (c !== undefined) return monomial(0, 0, c);
  const node = v.maker(name, 'Add', 'Sub', 'Mul', 'Div', 'Pow', 'Neg');
  if (node === undefined || depth === 0) return undefined;
  const a = expand(node.inputs[0], x, t, v, depth - 1);
  if (a === undefined) return undefined;
  if (node.op === 'Neg') return plus(new Map(), a, -1);
  if (node.op === 'Div') {
    const d = v.scalar(node.inputs[1]);
    return d ? plus(new Map(), a, 1 / d) : undefined;
  }
  if (node.op === 'Pow') {
    const p = v.scalar(node.inputs[1]);
    if (p !== 2 && p !== 3) return undefined;
    const square = times(a, a);
    return p === 2 || square === undefined ? square : times(square, a);
  }
  const b = expand(node.inputs[1], x, t, v, depth - 1);
  if (b === undefined) return undefined;
  return node.op === 'Mul' ? times(a, b) : plus(a, b, node.op === 'Add' ? 1 : -1);
}

/** Same coefficients, to float32 accuracy of how constants are written in files. */
function is(p: Poly | undefined, want: Record<string, number>): boolean {
  if (p === undefined) return false;
  return [...new Set([...p.keys(), ...Object.keys(want)])].every((k) => {
    const [got, expected] = [p.get(k) ?? 0, want[k] ?? 0];
    return Math.abs(got - expected) <= 2e-5 * Math.abs(expected) + 1e-12;
  });
}

/** Values within a few steps below `name`, through the operators `expand` follows. */
function below(name: string, v: View, depth: number, found: Set<string>): Set<string> {
  if (v.constant(name) !== undefined || found.has(name)) return found;
  found.add(name);
  const node = depth > 0 ? v.maker(name, 'Add', 'Sub', 'Mul', 'Div', 'Pow', 'Neg') : undefined;
  for (const i of node?.inputs ?? []) below(i, v, depth - 1, found);
  return found;
}

interface Form {
  readonly inner: string;
  readonly outer: Record<string, number>;
  readonly argument: Record<string, number>;
  readonly op: string;
  readonly attrs: Record<string, AttrValue>;
  /** Bounds of an inner Clip. */
  readonly bounds?: readonly [number, number];
}

const root = Math.sqrt(2 / Math.PI);
const forms: readonly Form[] = [
  // ½·x·(1 + erf(x/√2))
  { inner: 'Erf', outer: { '1,0': 0.5, '1,1': 0.5 }, argument: { '1,0': Math.SQRT1_2 }, op: 'Gelu', attrs: { approximate: 'none' } },
  // ½·x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))
  {
    inner: 'Tanh',
    outer: { '1,0': 0.5, '1,1': 0.5 },
    argument: { '1,0': root, '3,0': 0.044715 * root },
    op: 'Gelu',
    attrs: { approximate: 'tanh' },
  },
  // x·sigmoid(x)
  { inner: 'Sigmoid', outer: { '1,1': 1 }, argument: { '1,0': 1 }, op: 'Silu', attrs: {} },
  // x·sigmoid(1.702·x), the quick form of GELU
  { inner: 'Sigmoid', outer: { '1,1': 1 }, argument: { '1,0': 1.702 }, op: 'Swish', attrs: { alpha: 1.702 } },
  // x·clip(x + 3, 0, 6)/6
  { inner: 'Clip', outer: { '1,1': 1 / 6 }, argument: { '1,0': 1, '0,0': 3 }, op: 'HardSwish', attrs: {}, bounds: [0, 6] },
  // x·tanh(softplus(x)) is found below: its argument is no polynomial.
];

const bounded = (inner: GraphNode, f: Form, v: View): boolean =>
  f.bounds === undefined || f.bounds.every((b, i) => inner.inputs[i + 1] !== undefined && v.scalar(inner.inputs[i + 1]) === b);

export const activations: Rule = (node, v) => {
  if (node.op !== 'Mul' && node.op !== 'Add' && node.op !== 'Div') return undefined;
  const near = [...below(node.outputs[0], v, 5, new Set())];
  for (const t of near) {
    const inner = v.maker(t, 'Erf', 'Tanh', 'Sigmoid', 'Clip');
    if (inner === undefined) continue;
    const candidates = new Set(
      [...below(inner.inputs[0], v, 5, new Set())].filter((x) => near.includes(x) && v.sameShape(x, node.outputs[0])),
    );
    for (const x of candidates) {
      const outer = expand(node.outputs[0], x, t, v);
      if (outer === undefined) continue;
      const form = forms.find(
        (f) => f.inner === inner.op && bounded(inner, f, v) && is(outer, f.outer) && is(expand(inner.inputs[0], x, '', v), f.argument),
      );
      if (form) return [{ op: form.op, name: v.nameFor(node, form.op), inputs: [x], outputs: node.outputs, attrs: { ...form.attrs } }];
    }
  }
  return undefined;
};

/** Σ-free forms of one step: x·tanh(softplus(x)) = mish(x). */
export const mish: Rule = (node, v) => {
  if (node.op !== 'Mul') return undefined;
  for (const [x, t] of [node.inputs, [node.inputs[1], node.inputs[0]]]) {
    const tanh = v.maker(t, 'Tanh');
    const softplus = tanh && v.maker(tanh.inputs[0], 'Softplus');
    if (softplus && softplus.inputs[0] === x)
      return [{ op: 'Mish', name: v.nameFor(node, 'Mish'), inputs: [x], outputs: node.outputs, attrs: {} }];
  }
  return undefined;
};

const axisOfReduce = (node: GraphNode, v: View): number | undefined => {
  const axes = node.inputs[1] ? v.constant(node.inputs[1]) : undefined;
  const rank = v.rank(node.inputs[0]);
  if (axes?.data.length !== 1 || rank === undefined || (node.attrs.keepdims ?? 1) !== 1) return undefined;
  return axes.data[0] < 0 ? axes.data[0] + rank : axes.data[0];
};

/** exp(x − c) / Σ exp(x − c) = softmax(x), for c = max x along the same axis, or no c at all. */
export const softmax: Rule = (node, v) => {
  if (node.op !== 'Div') return undefined;
  const exp = v.maker(node.inputs[0], 'Exp');
  const sum = v.maker(node.inputs[1], 'ReduceSum');
  const axis = sum && axisOfReduce(sum, v);
  if (exp === undefined || sum === undefined || axis === undefined || sum.inputs[0] !== exp.outputs[0]) return undefined;
  let x = exp.inputs[0];
  const shifted = v.maker(x, 'Sub');
  const top = shifted && v.maker(shifted.inputs[1], 'ReduceMax');
  if (shifted && top && top.inputs[0] === shifted.inputs[0] && axisOfReduce(top, v) === axis) x = shifted.inputs[0];
  const last = axis + 1 === v.rank(x);
  return [{ op: 'Softmax', name: v.nameFor(node, 'Softmax'), inputs: [x], outputs: node.outputs, attrs: { axis: last ? -1 : axis } }];
};

/** x·hardsigmoid(x; 1/6, 1/2) = hardswish(x). */
export const hardSwish: Rule = (node, v) => {
  if (node.op !== 'Mul') return undefined;
  for (const [x, t] of [node.inputs, [node.inputs[1], node.inputs[0]]]) {
    const gate = v.maker(t, 'HardSigmoid');
    if (gate?.inputs[0] !== x) continue;
    const [alpha, beta] = [Number(gate.attrs.alpha ?? 0.2), Number(gate.attrs.beta ?? 0.5)];
    if (Math.abs(alpha - 1 / 6) > 1e-6 || Math.abs(beta - 0.5) > 1e-6) continue;
    return [{ op: 'HardSwish', name: v.nameFor(node, 'HardSwish'), inputs: [x], outputs: node.outputs, attrs: {} }];
  }
  return undefined;
};

/** Reshape(Softmax(Flatten(x)), shape of x) = Softmax(x) over the last axis, when rows of the flat form are x's own (softmax before opset 13). */
export const rowSoftmax: Rule = (node, v) => {
  if (node.op !== 'Reshape') return undefined;
  const soft = v.maker(node.inputs[0], 'Softmax', 'LogSoftmax');
  const flat = soft && v.maker(soft.inputs[0], 'Flatten');
  const x = flat?.inputs[0];
  const rank = x === undefined ? undefined : v.rank(x);
  if (!soft || !flat || !x || !rank || soft.attrs.axis !== -1 || !v.sameShape(x, node.outputs[0])) return undefined;
  const axis = Number(flat.attrs.axis ?? 1);
  if ((axis < 0 ? axis + rank : axis) !== rank - 1) return undefined;
  return [{ ...soft, inputs: [x], outputs: node.outputs }];
};
