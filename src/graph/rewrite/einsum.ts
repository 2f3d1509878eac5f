/** Einsum of two operands as transposes around one matrix product, when each kind of label is a single axis. */
import type { GraphNode } from '../graph.ts';
import { parseEinsum } from '../ops/einsum.ts';
import type { Rule, View } from './view.ts';

/**
 * With batch labels β (in both operands and the result), one summed label k, one own label i of a and j of b:
 *   einsum(a, b) = transpose(transpose(a; β i k) · transpose(b; β k j)).
 */
export const einsumToMatMul: Rule = (node, v) => {
  if (node.op !== 'Einsum' || node.inputs.length !== 2 || typeof node.attrs.equation !== 'string') return undefined;
  const [ra, rb] = node.inputs.map((i) => v.rank(i));
  if (ra === undefined || rb === undefined || v.dtype(node.inputs[0]) !== 'f32') return undefined;
  const { terms, out } = parseEinsum(node.attrs.equation, [ra, rb]);
  const [a, b] = terms;
  if (new Set(a).size !== a.length || new Set(b).size !== b.length) return undefined;
  const batch = a.filter((l) => b.includes(l) && out.includes(l));
  const summed = a.filter((l) => b.includes(l) && !out.includes(l));
  const [i, j] = [a.filter((l) => !b.includes(l)), b.filter((l) => !a.includes(l))];
  if (summed.length !== 1 || i.length !== 1 || j.length !== 1 || !out.includes(i[0]) || !out.includes(j[0])) return undefined;
  // Einsum repeats axes of size 1; MatMul does so for batches but not for the summed one.
  if (!shared(node, a.indexOf(summed[0]), b.indexOf(summed[0]), v)) return undefined;
  const made: GraphNode[] = [];
  const turn = (x: string, from: readonly string[], to: readonly string[], hint: string, y?: string): string => {
    const perm = to.map((l) => from.indexOf(l));
    if (y === undefined && perm.every((p, at) => p === at)) return x;
    const name = y ?? v.fresh(`${node.name}.${hint}.out`);
    made.push({ op: 'Transpose', name: v.fresh(`${node.name}.${hint}`), inputs: [x], outputs: [name], attrs: { perm } });
    const shapes = v.fact(x)?.shapes.map((s) => perm.map((p) => s[p]));
    if (shapes && y === undefined) v.note(name, { dtype: 'f32', shapes });
    return name;
  };
  const left = turn(node.inputs[0], a, [...batch, i[0], summed[0]], 'a');
  const right = turn(node.inputs[1], b, [...batch, summed[0], j[0]], 'b');
  const plain = [...batch, i[0], j[0]];
  const direct = plain.every((l, at) => l === out[at]);
  const product = direct ? node.outputs[0] : v.fresh(`${node.name}.product`);
  made.push({ op: 'MatMul', name: v.nameFor(node, 'MatMul'), inputs: [left, right], outputs: [product], attrs: {} });
  if (!direct) {
    const shapes = v.fact(node.outputs[0])?.shapes.map((s) => plain.map((l) => s[out.indexOf(l)]));
    if (shapes) v.note(product, { dtype: 'f32', shapes });
    turn(product, plain, out, 'turn', node.outputs[0]);
  }
  return made;
};

function shared(node: GraphNode, axisA: number, axisB: number, v: View): boolean {
  const [a, b] = node.inputs.map((i) => v.fact(i)?.shapes);
  return a !== undefined && b !== undefined && a.every((s, p) => s[axisA] === b[p][axisB]);
}
