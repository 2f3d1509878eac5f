/** Rows of one-hot spans are an input of their own: the client sends keys of point functions, which the parties expand (ring/dpf.ts). */
import { type GraphNode, ModelError } from '../../graph/graph.ts';
import type { Lowering } from './lowering.ts';

export function oneHotRows(low: Lowering, node: GraphNode): void {
  const places = low.graph.inputs.find((i) => i.name === node.inputs[0]);
  if (!places) throw new ModelError(`${node.name}: places that the run itself computes cannot become rows; they must be an input`);
  const [rows] = node.outputs;
  low.b.layer = 'input';
  const value = low.define(rows);
  value.shares.set(0, low.b.input(places.name, places.shape, 1, low.bound(value), rows, { dpf: node.attrs.spans as number[] }));
  low.inputBits.set(rows, 0);
}
