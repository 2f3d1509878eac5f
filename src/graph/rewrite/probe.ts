/**
 * Shapes and types of every value, found by running the graph on zeros: the interpreter is the one place that knows them. A graph
 * with public parameters (sequence length …) runs at two settings; a dimension that differs between them is not static. Large
 * products are not computed, only given their shape. Where a shape depends on the data itself (a Reshape to a target that was an
 * input), nothing is claimed of it, nor of what follows.
 */
import { type DType, type Graph, type GraphNode, ModelError, sizeOf, type Tensor } from '../graph.ts';
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
const settings: readonly (readonly [number, number])[] = [
  [7, 12],
  [8, 16],
  [32, 64],
  [224, 256],
  [1, 2],
];

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
    const seen = runs.map((r) => r.get(name)).filter((s) => s !== undefined);
    if (seen.length < runs.length) continue;
    const short = t.dtype === 'i64' && seen.every((s) => s.data.length <= 16);
    facts.set(name, { dtype: t.dtype, shapes: seen.map((s) => s.shape), ints: short ? seen.map((s) => Array.from(s.data)) : undefined });
  }
  return facts;
}

/** Inputs whose values decide the shape of the output. */
const deciding: Readonly<Record<string, readonly number[]>> = {
  Reshape: [1],
  Expand: [1],
  Range: [0, 1, 2],
  ConstantOfShape: [0],
  Slice: [1, 2, 3, 4],
  Tile: [1],
  Pad: [1, 3],
  Resize: [2, 3],
  TopK: [1],
  OneHot: [1],
  Split: [1],
  Squeeze: [1],
  Unsqueeze: [1],
};

/** One run. Values whose shape depends on data are left out. */
function run(graph: Graph, sizes: ReadonlyMap<string, number>): Map<string, Tensor> {
  const all = new Map<string, Tensor>(graph.constants);
  const data = new Set<string>();
  for (const input of graph.inputs) {
    data.add(input.name);
    all.set(
      input.name,
      alloc(
        input.dtype,
        input.shape.map((d) => (typeof d === 'number' ? d : (sizes.get(d) ?? 1))),
      ),
    );
  }
  for (const node of graph.nodes) {
    const x = node.inputs.map((name) => (name === '' ? undefined : all.get(name)));
    const depends = node.inputs.some((name) => data.has(name)) && node.op !== 'Shape' && node.op !== 'Size';
    if (depends) for (const name of node.outputs) data.add(name);
    const unknown = node.inputs.some((name, i) => name !== '' && x[i] === undefined);
    const decides = node.op.startsWith('Reduce') ? [1] : (deciding[node.op] ?? []);
    if (unknown || decides.some((i) => data.has(node.inputs[i]))) {
      for (const name of node.outputs) data.add(name);
      continue;
    }
    let results: Tensor[];
    try {
      results = product(node, x) ?? runNode(node, x);
    } catch (e) {
      // Zeros are no index and no divisor everywhere: an integer operator on data may fail here and run later.
      if (depends && x.some((t, i) => t?.dtype === 'i64' && data.has(node.inputs[i]))) continue;
      throw e;
    }
    node.outputs.forEach((name, i) => {
      if (name !== '' && results[i] !== undefined) all.set(name, results[i]);
    });
  }
  return all;
}

/** The shape of a large product, as zeros. */
function product(node: GraphNode, x: readonly (Tensor | undefined)[]): Tensor[] | undefined {
  const [a, b] = x;
  if (a === undefined || b === undefined || a.dtype !== 'f32' || sizeOf(a.shape) * sizeOf(b.shape) < 1e6) return undefined;
  if (a.shape.length < 2 || b.shape.length < 2) return undefined;
  try {
    if (node.op === 'MatMul' && a.shape.at(-1) === b.shape.at(-2)) {
      return [
        alloc('f32', [...broadcastShape(a.shape.slice(0, -2), b.shape.slice(0, -2)), a.shape.at(-2) as number, b.shape.at(-1) as number]),
      ];
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
