/** Rules that only remove: constants computed once, operators that change nothing, shape operators that undo or follow each other. */
import { type GraphNode, type Tensor, tensor } from '../graph.ts';
import { runNode } from '../interpret.ts';
import { castTarget } from '../ops/elementwise.ts';
import type { Rule, View } from './view.ts';

/** A folded constant may not be much larger than what it was made from. */
const maxGrown = 1 << 20;

const identity = (node: GraphNode, input: string): GraphNode[] => [
  { op: 'Identity', name: node.name, inputs: [input], outputs: [node.outputs[0]], attrs: {} },
];

/** f(constants) = constant. */
export const foldConstants: Rule = (node, v) => {
  const x: (Tensor | undefined)[] = [];
  let size = 0;
  for (const name of node.inputs) {
    const t = name === '' ? undefined : v.constant(name);
    if (name !== '' && t === undefined) return undefined;
    size += t?.data.length ?? 0;
    x.push(t);
  }
  const known = node.outputs.filter((o) => o !== '').map((o) => v.shape(o));
  if (known.some((s) => s === undefined || s.reduce((a, b) => a * b, 1) > Math.max(maxGrown, 2 * size))) return undefined;
  runNode(node, x).forEach((t, i) => {
    if (node.outputs[i]) v.define(node.outputs[i], t);
  });
  return [];
};

/** Whatever a shape computation gives alike at every setting of the parameters is a constant: it depends on static sizes only. */
export const foldShapes: Rule = (node, v) => {
  if (!['Shape', 'Size'].includes(node.op)) return undefined;
  const input = node.inputs[0];
  const whole = v.shape(input);
  const ints = v.fact(node.outputs[0])?.ints;
  if (whole === undefined || ints === undefined) return undefined;
  v.define(node.outputs[0], { dtype: 'i64', shape: v.fact(node.outputs[0])?.shapes[0] ?? [], data: Float64Array.from(ints[0]) });
  return [];
};

/**
 * Gather(Shape(x), i) = a static size of x, though other sizes are parameters. Sound because the entry is Shape's own and x's axis is
 * the same at every setting.
 */
export const foldSizes: Rule = (node, v) => {
  const shape = v.maker(node.inputs[0], 'Shape');
  const ints = v.fact(node.outputs[0])?.ints;
  if (
    shape === undefined ||
    ints === undefined ||
    !['Gather', 'Slice'].includes(node.op) ||
    node.inputs.slice(1).some((i) => i !== '' && v.constant(i) === undefined)
  )
    return undefined;
  if (!ints.every((list) => list.every((d, i) => d === ints[0][i]))) return undefined;
  v.define(node.outputs[0], { dtype: 'i64', shape: v.fact(node.outputs[0])?.shapes[0] ?? [], data: Float64Array.from(ints[0]) });
  return [];
};

/**
 * Reshape(x, computed target) = Reshape(x, constant target): entries that are the same at every setting are written out, one that
 * varies becomes −1 (the count of values leaves it no other value), others 0 where they copy x's own axis.
 */
export const staticReshape: Rule = (node, v) => {
  if (node.op !== 'Reshape' || node.attrs.allowzero === 1 || v.constant(node.inputs[1]) !== undefined) return undefined;
  const to = v.fact(node.outputs[0])?.shapes;
  const from = v.fact(node.inputs[0])?.shapes;
  if (to === undefined || from === undefined || to[0].some((d) => d === 0)) return undefined;
  const varying = to[0].map((_, i) => i).filter((i) => to.some((s) => s[i] !== to[0][i]));
  const copies = (i: number): boolean => to.every((s, p) => s[i] === from[p][i]);
  const open = varying.length === 1 ? varying : varying.filter((i) => !copies(i));
  if (open.length > 1) return undefined;
  const target = to[0].map((d, i) => (open.includes(i) ? -1 : varying.includes(i) ? 0 : d));
  const name = v.add(`${node.name}.target`, { dtype: 'i64', shape: [target.length], data: Float64Array.from(target) });
  return [{ ...node, inputs: [node.inputs[0], name], attrs: {} }];
};

/** Operators that give back their input: reshapes to the same shape, casts to the same type, x + 0, x · 1, x / 1, x − 0. */
export const dropNoOps: Rule = (node, v) => {
  const [x, y] = node.inputs;
  const same = v.sameShape(x, node.outputs[0]);
  switch (node.op) {
    case 'Dropout':
      return node.outputs.length === 1 || v.uses(node.outputs[1]) === 0 ? identity(node, x) : undefined;
    case 'Cast':
      return v.dtype(x) === v.dtype(node.outputs[0]) && [1, 6, 7, 9, 10, 11, 16].includes(castTarget(node)) ? identity(node, x) : undefined;
    case 'Reshape':
    case 'Flatten':
    case 'Squeeze':
    case 'Unsqueeze':
    case 'Expand':
    case 'Tile':
    case 'Slice':
    case 'Pad':
      return same && (node.op !== 'Slice' || wholeSlice(node, v)) && (node.op !== 'Pad' || noPads(node, v)) ? identity(node, x) : undefined;
    case 'Transpose':
      return same && isIdentity(node.attrs.perm) ? identity(node, x) : undefined;
    case 'Concat':
    case 'Sum':
    case 'Max':
    case 'Min':
      return node.inputs.length === 1 ? identity(node, x) : undefined;
    case 'Add':
      if (same && v.scalar(y) === 0) return identity(node, x);
      return v.sameShape(y, node.outputs[0]) && v.scalar(x) === 0 ? identity(node, y) : undefined;
    case 'Mul':
      if (same && v.scalar(y) === 1) return identity(node, x);
      return v.sameShape(y, node.outputs[0]) && v.scalar(x) === 1 ? identity(node, y) : undefined;
    case 'Sub':
      return same && v.scalar(y) === 0 ? identity(node, x) : undefined;
    case 'Div':
      return same && v.scalar(y) === 1 ? identity(node, x) : undefined;
    case 'Pow':
      return same && v.scalar(y) === 1 ? identity(node, x) : undefined;
    default:
      return undefined;
  }
};

const isIdentity = (perm: unknown): boolean => Array.isArray(perm) && perm.every((p, i) => p === i);

/** Same shape and only forward steps: nothing was cut or turned around. */
function wholeSlice(node: GraphNode, v: View): boolean {
  const steps = node.inputs[4] === undefined || node.inputs[4] === '' ? undefined : v.constant(node.inputs[4]);
  return node.inputs[4] === undefined || node.inputs[4] === '' || (steps?.data.every((s: number) => s === 1) ?? false);
}

function noPads(node: GraphNode, v: View): boolean {
  return v.constant(node.inputs[1])?.data.every((p: number) => p === 0) ?? false;
}

/** Reshape(Reshape(x)) = Reshape(x); a target that copied axes of the first result is written out. */
export const mergeReshapes: Rule = (node, v) => {
  if (node.op !== 'Reshape') return undefined;
  const inner = v.maker(node.inputs[0], 'Reshape', 'Flatten', 'Squeeze', 'Unsqueeze');
  const target = v.constant(node.inputs[1]);
  if (inner === undefined || target === undefined) return undefined;
  if (!target.data.some((d: number) => d === 0)) return [{ ...node, inputs: [inner.inputs[0], node.inputs[1]] }];
  const written = staticTarget(v.fact(node.outputs[0])?.shapes ?? [[0]]);
  if (written === undefined) return undefined;
  return [{ ...node, inputs: [inner.inputs[0], v.add(`${node.name}.target`, tensor(written, [written.length], 'i64'))], attrs: {} }];
};

/** A Reshape target for shapes of which at most one axis varies: the count of values decides that one. */
export function staticTarget(shapes: readonly (readonly number[])[]): number[] | undefined {
  const varying = shapes[0].map((_, i) => i).filter((i) => shapes.some((s) => s[i] !== shapes[0][i]));
  if (varying.length > 1 || shapes[0].some((d) => d === 0)) return undefined;
  return shapes[0].map((d, i) => (varying.includes(i) ? -1 : d));
}

/** Transpose(Transpose(x, p), q) = Transpose(x, p∘q). */
export const mergeTransposes: Rule = (node, v) => {
  const inner = node.op === 'Transpose' ? v.maker(node.inputs[0], 'Transpose') : undefined;
  const [p, q] = [inner?.attrs.perm, node.attrs.perm];
  if (inner === undefined || !Array.isArray(p) || !Array.isArray(q)) return undefined;
  return [{ ...node, inputs: [inner.inputs[0]], attrs: { perm: q.map((i) => Number(p[Number(i)])) } }];
};

/** Two nodes with the same operator, inputs and attributes compute the same: the second reads the first. */
export function shareCommon(): Rule {
  let seen = new Map<string, GraphNode>();
  return (node, v) => {
    if (node === v.nodes[0]) seen = new Map();
    if (node.outputs.length !== 1) return undefined;
    const key = JSON.stringify([
      node.op,
      node.inputs,
      Object.entries(node.attrs)
        .sort()
        .map(([k, a]) => [k, typeof a === 'object' && 'dtype' in a ? Array.from(a.data) : a]),
    ]);
    const twin = seen.get(key);
    if (twin === undefined || twin === node) {
      seen.set(key, node);
      return undefined;
    }
    return identity(node, twin.outputs[0]);
  };
}
