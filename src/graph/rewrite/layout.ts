/** Shape operators put where others can swallow them. All of it is local: nothing here changes a value. */
import { type GraphNode, tensor } from '../graph.ts';
import { staticTarget } from './tidy.ts';
import type { Rule, View } from './view.ts';

function reshape(node: GraphNode, input: string, v: View): GraphNode[] | undefined {
  const target = staticTarget(v.fact(node.outputs[0])?.shapes ?? [[0]]);
  if (target === undefined) return undefined;
  const to = v.add(`${node.name}.target`, tensor(target, [target.length], 'i64'));
  return [{ op: 'Reshape', name: v.nameFor(node, 'Reshape'), inputs: [input, to], outputs: [node.outputs[0]], attrs: {} }];
}

/** A transpose that only moves axes of size 1 is a reshape. */
export const transposeOfOnes: Rule = (node, v) => {
  const perm = node.op === 'Transpose' ? node.attrs.perm : undefined;
  if (!Array.isArray(perm)) return undefined;
  const real = perm.map(Number).filter((axis) => v.dim(node.inputs[0], axis) !== 1);
  return real.every((axis, i) => i === 0 || axis > real[i - 1]) ? reshape(node, node.inputs[0], v) : undefined;
};

/** Linear(Reshape(x)) = Reshape(Linear(x)), when the reshape keeps the last axis: rows stay rows. */
export const linearBeforeReshape: Rule = (node, v) => {
  const before = node.op === 'Linear' ? v.maker(node.inputs[0], 'Reshape') : undefined;
  const weight = v.constant(node.inputs[1]);
  const width = before && v.dim(before.inputs[0], -1);
  if (before === undefined || weight === undefined || width === undefined || width !== weight.shape[0]) return undefined;
  const from = v.fact(before.inputs[0]);
  if (from === undefined) return undefined;
  const out = v.fresh(`${node.name}.out`);
  const after = reshape(node, out, v);
  if (after === undefined) return undefined;
  v.note(out, { dtype: 'f32', shapes: from.shapes.map((s) => [...s.slice(0, -1), weight.shape[1]]) });
  return [{ ...node, inputs: [before.inputs[0], ...node.inputs.slice(1)], outputs: [out] }, ...after];
};

/** table[C[a:b]] = (table[C])[a:b] for constant table and C: rows chosen by position become a slice of one constant. */
export const sliceOfTable: Rule = (node, v) => {
  if (node.op !== 'Gather' || (node.attrs.axis ?? 0) !== 0) return undefined;
  const slice = v.maker(node.inputs[1], 'Slice');
  const [table, index] = [v.constant(node.inputs[0]), slice && v.constant(slice.inputs[0])];
  const axes = slice?.inputs[3] ? v.constant(slice.inputs[3]) : undefined;
  if (!slice || !table || !index || !axes || index.data.length * (table.data.length / table.shape[0]) > 2 * table.data.length)
    return undefined;
  const rows = v.fresh(`${node.name}.rows`);
  const shape = [...index.shape, ...table.shape.slice(1)];
  v.note(rows, { dtype: table.dtype, shapes: (v.fact(node.outputs[0])?.shapes ?? []).map(() => shape) });
  const at = v.add(
    `${node.name}.axes`,
    tensor(
      Array.from(axes.data, (a: number) => (a < 0 ? a + index.shape.length : a)),
      axes.shape,
      'i64',
    ),
  );
  return [
    { op: 'Gather', name: rows, inputs: [node.inputs[0], slice.inputs[0]], outputs: [rows], attrs: { axis: 0 } },
    {
      ...slice,
      name: v.nameFor(node, 'Slice'),
      inputs: [rows, slice.inputs[1], slice.inputs[2], at, ...slice.inputs.slice(4)],
      outputs: node.outputs,
    },
  ];
};
