/**
 * Shapes and types of every value, found by running the graph on zeros: the interpreter is the one place that knows them. A graph
 * with public parameters (sequence length …) runs at two settings; a dimension that differs between them is not static. Large
 * products are not computed, only given their shape: no shape depends on their values.
 */
import { type DType, type Graph, type GraphNode, ModelError, type Tensor } from '../graph.ts';
import { runNode } from '../interpret.ts';
import { alloc, broadcastShape, intAttr } from '../ops/common.ts';
import { windowOf } from '../ops/window.ts';

/** What the probes saw of one value. */
export interface Fact {
  readonly dtype: DType;
  /** One shape a probe. */
  readonly shapes: readonly (readonly number[])[];
  /** The values of short integer tensors (shapes on their way to a Reshape), one list a probe. */
  readonly ints?: readonly (readonly number[])[];
}

/** Parameter settings tried until one runs: some graphs have a least size, or want a multiple of something. */
const settings: readonly (readonly [number, number])[] = [[7, 12], [8, 16], [32, 64], [224, 256], [1, 2]];

export function parametersOf(graph: Graph): string[] {
  return [...new Set(graph.inputs.flatMap((i) => i.shape.filter((d) => typeof d === 'string')))];
}

/** Facts by value name. Throws the ModelError of the first setting when none of them runs. */
export function probe(graph: Graph): Map<string, Fact> {
  const names = parametersOf(graph);
  if (names.length === 0) return merge([run(graph, new Map())]);
  let first: unknown;
  for (const pair of settings) {
    try {
      return merge(pair.map((size) => run(graph, new Map(names.map((n, i) => [n, size + 3 * i])))));
    } catch (e) {
      first ??= e;
    }
  }
  throw first;
}

function merge(runs: readonly Map<string, Tensor>[]): Map<string, Fact> {
  const facts = new Map<string, Fact>();
  for (const [name, t] of runs[0]) {
    const seen = runs.map((r) => r.get(name) ?? t);
    const short = t.dtype === 'i64' && seen.every((s) => s.data.length <= 16);
    facts.set(name, { dtype: t.dtype, shapes: seen.map((s) => s.shape), ints: short ? seen.map((s) => Array.from(s.data)) : undefined });
  }
  return facts;
}

function run(graph: Graph, sizes: ReadonlyMap<string, number>): Map<string, Tensor> {
  const all = new Map<string, Tensor>(graph.constants);
  for (const input of graph.inputs) all.set(input.name, alloc(input.dtype, input.shape.map((d) => (typeof d === 'number' ? d : (sizes.get(d) ?? 1)))));
  for (const node of graph.nodes) {
    const x = node.inputs.map((name) => (name === '' ? undefined : all.get(name)));
    const results = product(node, x) ?? runNode(node, x);
    node.outputs.forEach((name, i) => {
      if (name !== '' && results[i] !== undefined) all.set(name, results[i]);
    });
  }
  return all;
}

/** The shape of a large product, as zeros. */
function product(node: GraphNode, x: readonly (Tensor | undefined)[]): Tensor[] | undefined {
  const [a, b] = x;
  if (a === undefined || b === undefined || a.dtype !== 'f32' || a.data.length * b.data.length < 1e6) return undefined;
  if (a.shape.length < 2 || b.shape.length < 2) return undefined;
  try {
    if (node.op === 'MatMul' && a.shape.at(-1) === b.shape.at(-2)) {
      return [alloc('f32', [...broadcastShape(a.shape.slice(0, -2), b.shape.slice(0, -2)), a.shape.at(-2) as number, b.shape.at(-1) as number])];
    }
    if (node.op === 'Linear' && a.shape.at(-1) === b.shape[0]) return [alloc('f32', [...a.shape.slice(0, -1), b.shape[1]])];
    if (node.op === 'Conv' && a.shape.length === b.shape.length && a.shape[1] === b.shape[1] * intAttr(node, 'group', 1)) {
      const win = windowOf(node, a.shape.slice(2), b.shape.slice(2));
      return [alloc('f32', [a.shape[0], b.shape[0], ...(a.shape.length === 3 ? [win.out[1]] : win.out)])];
    }
  } catch (e) {
    throw e instanceof ModelError ? new ModelError(`${node.name} (${node.op}): ${e.message}`, { cause: e }) : e;
  }
  return undefined;
}
