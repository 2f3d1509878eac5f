/**
 * A private embedding table: the lookup moves from the client, who would need the table, into the run.
 *
 * The client sends rows of zeros with a one for its word, its position and its type; the table's rows, stacked, are one more private
 * matrix, so the sum of the three embeddings is a matrix product. A client that sends other rows learns a combination of private
 * rows: it is one of the queries that the threat model allows (docs/security.md).
 */
import type { Calibration } from '../../compile/calibrate.ts';
import { type Graph, type GraphNode, ModelError, tensor } from '../../graph/graph.ts';

export interface Lookup {
  /** The private graph, its input `rows` [n, width] in place of `embeddings`. */
  readonly graph: Graph;
  /** The client's part: ids → rows. No table in it. */
  readonly before: Graph;
  readonly width: number;
}

interface Table {
  readonly ids: string;
  readonly rows: number;
  readonly data: Float32Array;
}

/** Throws ModelError where the client's graph is not a sum of looked-up rows. */
export function privateLookup(graph: Graph, before: Graph): Lookup {
  const output = before.outputs[0];
  const input = graph.inputs.find((i) => i.name === output);
  const tables = before.nodes.filter((n) => n.op === 'Gather').map((n) => tableOf(before, n));
  if (!input || tables.length === 0 || before.nodes.some((n) => n.op !== 'Gather' && n.op !== 'Add'))
    throw new ModelError(
      `${graph.name}: its embeddings are not a sum of table rows, so the table cannot be kept from the client; use --client-embedding`,
    );
  const hidden = input.shape.at(-1) as number;
  const width = tables.reduce((s, t) => s + t.rows, 0);
  const stacked = new Float32Array(width * hidden);
  let at = 0;
  for (const t of tables) {
    stacked.set(t.data, at);
    at += t.data.length;
  }
  const lookup: GraphNode = {
    op: 'Linear',
    name: '/embeddings/lookup',
    inputs: ['rows', 'embeddings.table'],
    outputs: [output],
    attrs: {},
  };
  return {
    width,
    graph: {
      ...graph,
      inputs: graph.inputs.map((i) => (i === input ? { name: 'rows', dtype: 'f32', shape: [input.shape[0], width] } : i)),
      nodes: [lookup, ...graph.nodes],
      constants: new Map([...graph.constants, ['embeddings.table', tensor(stacked, [width, hidden])]]),
    },
    before: oneHots(before, tables),
  };
}

/** What calibration saw of the model also holds with the lookup inside; only the new input is missing. */
export const withRows = (calibration: Calibration, width: number): Calibration => ({
  ...calibration,
  values: new Map([...calibration.values, ['rows', { shape: ['n', width], max: 1, integers: true }]]),
});

function tableOf(before: Graph, node: GraphNode): Table {
  const table = before.constants.get(node.inputs[0]);
  if (!table || table.shape.length !== 2) throw new ModelError(`${node.name}: looks up in something that is not a table`);
  return { ids: node.inputs[1], rows: table.shape[0], data: table.data as Float32Array };
}

function oneHots(before: Graph, tables: readonly Table[]): Graph {
  const constants = new Map([['values', tensor([0, 1], [2])]]);
  const nodes = tables.map((t, i): GraphNode => {
    constants.set(`depth${i}`, tensor([t.rows], [1], 'i64'));
    return {
      op: 'OneHot',
      name: `/embeddings/one_hot${i}`,
      inputs: [t.ids, `depth${i}`, 'values'],
      outputs: [`hot${i}`],
      attrs: { axis: -1 },
    };
  });
  nodes.push({ op: 'Concat', name: '/embeddings/rows', inputs: nodes.map((n) => n.outputs[0]), outputs: ['rows'], attrs: { axis: 1 } });
  return { ...before, nodes, constants, outputs: ['rows'] };
}
