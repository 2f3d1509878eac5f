/**
 * What a decoder answers follows from the last row of each sequence: of its last layer, rows that nothing else reads are not computed.
 *
 * A slice of the last row is taken as early as it can be: before all row by row operators whose results only such slices read, queries of
 * attention among them. Keys and values are of all rows. This comes after calibration, which learns from every row.
 *
 * A step has several sequences, one after the other: a last row is one of each, [sequences, width].
 */
import type { Graph, GraphNode } from '../graph/graph.ts';
import type { Calibration, ValueRange } from './calibrate.ts';

const normalisation = /^(LayerNormalization|RMSNormalization)$/;
/** Operators whose row i follows from row i of their inputs; of the first alone. */
const byRow = /^(Linear|Add|Sub|Mul|Silu|Gelu|Relu|Tanh|Sigmoid|LayerNormalization|RMSNormalization)$/;
const byFirst = /^(Rotary|Attention)$/;

export function lastRowsOnly(graph: Graph, calibration: Calibration): { graph: Graph; calibration: Calibration } {
  if (!graph.caches) return { graph, calibration };
  const rows = new Set([...calibration.values].filter(([, { shape }]) => shape.length === 2 && shape[0] === 'n').map(([name]) => name));
  const consumers = new Map<string, GraphNode[]>();
  for (const node of graph.nodes) for (const name of node.inputs) consumers.set(name, [...(consumers.get(name) ?? []), node]);
  const producers = new Map(graph.nodes.flatMap((node) => node.outputs.map((name) => [name, node] as const)));
  const rowInputs = ({ op, inputs }: GraphNode): readonly string[] =>
    (byRow.test(op) ? inputs : byFirst.test(op) ? inputs.slice(0, 1) : []).filter((name) => rows.has(name));

  // Values of which only last rows are read; consumers first.
  const short = new Set<string>();
  for (const { outputs } of [...graph.nodes].reverse())
    for (const name of outputs) {
      const readers = consumers.get(name) ?? [];
      const lastOnly = (c: GraphNode): boolean =>
        isLastRow(graph, c) || (short.has(c.outputs[0]) && rowInputs(c).includes(name) && !readsWhole(c, name));
      if (
        rows.has(name) &&
        readers.length > 0 &&
        !graph.outputs.includes(name) &&
        rowInputs(producers.get(name)!).length > 0 &&
        readers.every(lastOnly)
      )
        short.add(name);
    }

  const values = new Map(calibration.values);
  const nodes: GraphNode[] = [];
  const renamed = new Map<string, string>();
  const made = new Map<string, string>();
  /** The value's last rows under another name. */
  const takeLast = (name: string): string => {
    if (short.has(name)) return name;
    const known = made.get(name);
    if (known) return known;
    const last = `${name}.last`;
    made.set(name, last);
    values.set(last, ofSequences(values.get(name)!));
    const producer = producers.get(name);
    // A normalisation's factors belong to the product that reads it: it is done again for the few rows.
    if (producer && normalisation.test(producer.op)) {
      const [x, ...rest] = producer.inputs;
      nodes.push({ ...producer, name: `${producer.name}.last`, inputs: [takeLast(x), ...rest], outputs: [last] });
    } else nodes.push({ op: 'LastRow', name: last, inputs: [name], outputs: [last], attrs: {} });
    return last;
  };
  const sequences = new Set<string>();
  for (const node of graph.nodes) {
    if (isLastRow(graph, node)) {
      const last = takeLast(node.inputs[0]);
      // Of values that a normalisation reads, rows have been measured as it read them: the last ones here.
      values.set(last, { rows: values.get(node.outputs[0])!.rows, ...values.get(last)! });
      renamed.set(node.outputs[0], last);
      sequences.add(last);
      continue;
    }
    const few = short.has(node.outputs[0]);
    const wanted = few ? rowInputs(node) : [];
    const inputs = node.inputs.map((name) => (wanted.includes(name) ? takeLast(name) : (renamed.get(name) ?? name)));
    nodes.push({ ...node, inputs });
    if (!few && !inputs.some((name) => sequences.has(name))) continue;
    for (const name of node.outputs) {
      sequences.add(name);
      values.set(name, ofSequences(values.get(name)!));
    }
  }
  return { graph: { ...graph, nodes }, calibration: { ...calibration, values } };
}

const ofSequences = (range: ValueRange): ValueRange => ({ ...range, shape: ['sequences', ...range.shape.slice(1)] });

/** Attention of a value with itself: as a key it is read whole. */
const readsWhole = (node: GraphNode, name: string): boolean => node.op === 'Attention' && node.inputs.indexOf(name, 1) >= 0;

function isLastRow(graph: Graph, { op, inputs }: GraphNode): boolean {
  if (op !== 'Slice') return false;
  const [starts, ends, axes, steps] = inputs.slice(1).map((name) => graph.constants.get(name)?.data);
  return (
    starts?.length === 1 &&
    starts[0] === -1 &&
    ends !== undefined &&
    ends[0] >= 2 ** 31 &&
    axes?.[0] === 0 &&
    (steps === undefined || steps[0] === 1)
  );
}
