/**
 * Embeddings looked up inside the run, so that clients need no table: rows of zeros with a one for the word, the position and the type, times
 * the tables' rows, stacked. So the sum of three embeddings is a matrix product.
 *
 * The client's part ends in places, a column for each table. Either it makes the rows and shares them (one-hot), or it sends keys of point
 * functions which the parties expand to shares of the rows (dpf). A client that sends other rows, or other keys, learns a combination of the
 * tables' rows: it is one of the queries that the threat model allows (docs/security.md).
 */
import type { Calibration } from '../../compile/calibrate.ts';
import { type Graph, type GraphNode, ModelError, sizeOf, tensor } from '../../graph/graph.ts';

export interface Lookup {
  /** The private graph; its input is `rows` [n, width], or `places` [n, tables]. */
  readonly graph: Graph;
  /** The client's part: ids → rows, or places. No table in it. */
  readonly before: Graph;
  /** Rows of each table. */
  readonly spans: readonly number[];
}

interface Table {
  readonly ids: string;
  readonly rows: number;
  readonly data: Float32Array;
}

/** Throws ModelError where the client's graph is not a sum of looked-up rows, each times a number perhaps. */
export function privateLookup(graph: Graph, before: Graph, encoding: 'dpf' | 'one-hot'): Lookup {
  const output = before.outputs[0];
  const input = graph.inputs.find((i) => i.name === output);
  const tables = before.nodes.filter((n) => n.op === 'Gather').map((n) => tableOf(before, n));
  if (!input || tables.length === 0 || before.nodes.some((n) => !/^(Gather|Add)$/.test(n.op) && !scaling(before, n)))
    throw new ModelError(
      `${graph.name}: its embeddings are not a sum of table rows, so they cannot be looked up inside the run; use --embedding client`,
    );
  const hidden = input.shape.at(-1) as number;
  const spans = tables.map((t) => t.rows);
  const width = spans.reduce((a, b) => a + b, 0);
  const stacked = new Float32Array(width * hidden);
  let at = 0;
  for (const t of tables) {
    stacked.set(t.data, at);
    at += t.data.length;
  }
  const oneHot: GraphNode = { op: 'OneHotRows', name: '/embeddings/one_hot', inputs: ['places'], outputs: ['rows'], attrs: { spans } };
  const lookup: GraphNode = {
    op: 'Linear',
    name: '/embeddings/lookup',
    inputs: ['rows', 'embeddings.table'],
    outputs: [output],
    attrs: {},
  };
  const keys = encoding === 'dpf';
  const given = keys
    ? ({ name: 'places', dtype: 'i64', shape: [input.shape[0], tables.length] } as const)
    : ({ name: 'rows', dtype: 'f32', shape: [input.shape[0], width] } as const);
  const places = placesOf(before, tables);
  return {
    spans,
    graph: {
      ...graph,
      inputs: graph.inputs.map((i) => (i === input ? given : i)),
      nodes: [...(keys ? [oneHot] : []), lookup, ...graph.nodes],
      constants: new Map([...graph.constants, ['embeddings.table', tensor(stacked, [width, hidden])]]),
    },
    before: keys ? places : { ...places, nodes: [...places.nodes, oneHot], outputs: ['rows'] },
  };
}

/** What calibration saw of the model also holds with the lookup inside; only the rows are missing. */
export const withRows = (calibration: Calibration, { spans }: Lookup): Calibration => ({
  ...calibration,
  values: new Map([...calibration.values, ['rows', { shape: ['n', spans.reduce((a, b) => a + b, 0)], max: 1, integers: true }]]),
});

/** The number that a product multiplies looked-up rows by, if it is one. */
function scaling(before: Graph, node: GraphNode): number | undefined {
  if (node.op !== 'Mul') return undefined;
  const factor = node.inputs.map((i) => before.constants.get(i)).find((c) => c && sizeOf(c.shape) === 1);
  const rows = before.nodes.some((n) => n.op === 'Gather' && node.inputs.includes(n.outputs[0]));
  return rows ? factor?.data[0] : undefined;
}

function tableOf(before: Graph, node: GraphNode): Table {
  const table = before.constants.get(node.inputs[0]);
  if (table?.shape.length !== 2) throw new ModelError(`${node.name}: looks up in something that is not a table`);
  const readers = before.nodes.filter((n) => n.inputs.includes(node.outputs[0]));
  const factor = readers.length === 1 ? scaling(before, readers[0]) : undefined;
  const data = table.data as Float32Array;
  return { ids: node.inputs[1], rows: table.shape[0], data: factor === undefined ? data : data.map((v) => v * factor) };
}

/** The ids side by side: [n, tables]. */
function placesOf(before: Graph, tables: readonly Table[]): Graph {
  const constants = new Map([['axis', tensor([1], [1], 'i64')]]);
  const columns = tables.map(({ ids }, i): GraphNode => {
    return { op: 'Unsqueeze', name: `/embeddings/column${i}`, inputs: [ids, 'axis'], outputs: [`column${i}`], attrs: {} };
  });
  const inputs = columns.map((n) => n.outputs[0]);
  const nodes = [...columns, { op: 'Concat', name: '/embeddings/places', inputs, outputs: ['places'], attrs: { axis: 1 } }];
  return { ...before, nodes, constants, outputs: ['places'] };
}
