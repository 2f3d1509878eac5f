/**
 * Values that are one number everywhere, though their size depends on parameters: what an attention mask of ones becomes on its way
 * to the scores. Their number is known without running (per probe, since a sum over tokens counts them), and what they leave alone
 * can drop them. This is how a graph exported with a mask becomes the graph without one once the mask is bound.
 */
import { type Graph, type GraphNode, ModelError, tensor } from '../graph.ts';
import { runNode } from '../interpret.ts';
import type { Rule, View } from './view.ts';

/**
 * The graph with some inputs bound to one value everywhere (attention_mask: 1, token_type_ids: 0). Each takes its sizes from an input
 * of the same shape that stays, or has none but fixed ones. Throws ModelError for a name that is no input, or a size nobody gives.
 */
export function bindInputs(graph: Graph, values: Readonly<Record<string, number>>): Graph {
  const constants = new Map(graph.constants);
  const nodes: GraphNode[] = [];
  const kept = graph.inputs.filter((i) => !Object.hasOwn(values, i.name));
  for (const [name, value] of Object.entries(values)) {
    const input = graph.inputs.find((i) => i.name === name);
    if (input === undefined)
      throw new ModelError(`no input is named '${name}'; the graph has ${graph.inputs.map((i) => i.name).join(', ')}`);
    const fill = tensor([value], [1], input.dtype);
    const sizes = input.shape.filter((d) => typeof d === 'number');
    if (sizes.length === input.shape.length) {
      constants.set(`${name}.shape`, tensor(sizes, [sizes.length], 'i64'));
      nodes.push({ op: 'ConstantOfShape', name: `${name}.bound`, inputs: [`${name}.shape`], outputs: [name], attrs: { value: fill } });
      continue;
    }
    const like = kept.find((i) => `${i.shape}` === `${input.shape}`);
    if (like === undefined) throw new ModelError(`input '${name}' [${input.shape}] cannot be bound: no other input has its shape`);
    nodes.push({ op: 'Shape', name: `${name}.shape`, inputs: [like.name], outputs: [`${name}.shape`], attrs: {} });
    nodes.push({ op: 'ConstantOfShape', name: `${name}.bound`, inputs: [`${name}.shape`], outputs: [name], attrs: { value: fill } });
  }
  return { ...graph, inputs: kept, nodes: [...nodes, ...graph.nodes], constants };
}

const elementwise = new Set([
  'Add',
  'Sub',
  'Mul',
  'Div',
  'Pow',
  'Neg',
  'Abs',
  'Sqrt',
  'Not',
  'And',
  'Or',
  'Equal',
  'Less',
  'Greater',
  'LessOrEqual',
  'GreaterOrEqual',
  'Where',
  'Clip',
  'Min',
  'Max',
  'Cast',
]);
const moving = new Set(['Unsqueeze', 'Squeeze', 'Reshape', 'Transpose', 'Expand', 'Slice', 'Tile', 'Flatten', 'Identity', 'Dropout']);

/** The number a value holds everywhere, one a probe; undefined when it is not known to be uniform. */
export function uniform(name: string, v: View, depth = 40): readonly number[] | undefined {
  const fact = v.fact(name);
  if (fact === undefined || depth === 0) return undefined;
  const t = v.constant(name);
  if (t !== undefined) {
    const first = t.data[0];
    return t.data.length > 0 && t.data.length <= 4096 && t.data.every((x: number) => x === first)
      ? fact.shapes.map(() => first)
      : undefined;
  }
  const node = v.maker(name);
  if (node === undefined || node.outputs[0] !== name) return undefined;
  const of = (i: number): readonly number[] | undefined => uniform(node.inputs[i], v, depth - 1);
  if (node.op === 'ConstantOfShape') {
    const value = node.attrs.value;
    return fact.shapes.map(() => (typeof value === 'object' && 'dtype' in value ? value.data[0] : 0));
  }
  if (moving.has(node.op)) return of(0);
  if (node.op === 'ReduceMean' || node.op === 'ReduceMax' || node.op === 'ReduceMin') return of(0);
  if (node.op === 'ReduceSum') {
    const from = v.fact(node.inputs[0])?.shapes;
    const each = of(0);
    return from && each?.map((u, p) => (u * count(from[p])) / count(fact.shapes[p]));
  }
  if (!elementwise.has(node.op)) return undefined;
  const parts = node.inputs.map((i) => (i === '' ? [] : uniform(i, v, depth - 1)));
  if (parts.some((p) => p === undefined)) return undefined;
  return fact.shapes.map((_, p) => {
    const x = node.inputs.map((i, k) => (i === '' ? undefined : tensor([parts[k]?.[p] ?? 0], [], v.dtype(i))));
    return runNode(node, x)[0].data[0];
  });
}

const count = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

const is = (u: readonly number[] | undefined, value: number): boolean => u?.every((x) => x === value) ?? false;
const identity = (node: GraphNode, input: string): GraphNode[] => [
  { op: 'Identity', name: node.name, inputs: [input], outputs: node.outputs, attrs: {} },
];

/** x + 0, x − 0, x · 1, x / 1 and where(true, x, ·), where(false, ·, x), for values that are that number everywhere. */
export const dropUniform: Rule = (node, v) => {
  const out = node.outputs[0];
  if (node.op === 'Where') {
    const chosen = uniform(node.inputs[0], v);
    const x = is(chosen, 1) ? node.inputs[1] : is(chosen, 0) ? node.inputs[2] : undefined;
    return x !== undefined && v.sameShape(x, out) ? identity(node, x) : undefined;
  }
  const neutral = { Add: 0, Sub: 0, Mul: 1, Div: 1 }[node.op];
  if (neutral === undefined) return undefined;
  const [a, b] = node.inputs;
  if (v.sameShape(a, out) && is(uniform(b, v), neutral)) return identity(node, a);
  return (node.op === 'Add' || node.op === 'Mul') && v.sameShape(b, out) && is(uniform(a, v), neutral) ? identity(node, b) : undefined;
};

/** x + table[i] for one public i everywhere = x + that row, broadcast (token types that are all 0). */
export const uniformRow: Rule = (node, v) => {
  if (node.op !== 'Add') return undefined;
  for (const [x, g] of [node.inputs, [node.inputs[1], node.inputs[0]]]) {
    const gather = v.maker(g, 'Gather');
    const table = gather && v.constant(gather.inputs[0]);
    if (!gather || !table || table.shape.length !== 2 || (gather.attrs.axis ?? 0) !== 0 || !v.sameShape(x, node.outputs[0])) continue;
    const index = uniform(gather.inputs[1], v);
    const [rows, width] = table.shape;
    if (index === undefined || !is(index, index[0])) continue;
    const row = index[0] < 0 ? index[0] + rows : index[0];
    if (!(row >= 0 && row < rows)) continue;
    const c = v.add(`${gather.name}.row`, tensor(table.data.slice(row * width, (row + 1) * width), [width]));
    return [{ ...node, inputs: [x, c] }];
  }
  return undefined;
};

/** Σ x / c = mean x, where c counts the summed values at every setting (a mean over tokens with a mask of ones). */
export const uniformMean: Rule = (node, v) => {
  const sum = node.op === 'Div' ? v.maker(node.inputs[0], 'ReduceSum') : undefined;
  const divisor = sum && uniform(node.inputs[1], v);
  const [from, to] = [sum && v.fact(sum.inputs[0])?.shapes, v.fact(node.outputs[0])?.shapes];
  if (!sum || !divisor || !from || !to || v.dtype(sum.inputs[0]) !== 'f32' || !v.sameShape(sum.outputs[0], node.outputs[0]))
    return undefined;
  if (!divisor.every((d, p) => d === count(from[p]) / count(to[p]))) return undefined;
  return [{ ...sum, op: 'ReduceMean', name: v.nameFor(node, 'ReduceMean'), outputs: node.outputs }];
};
