/**
 * The plain interpreter: runs a graph in floats, node by node, in the order given. It is the project's oracle (what a private run
 * must come close to), the engine of calibration, and what runs the parts of a model that stay with the client.
 */
import { markConstant } from './gemm.ts';
import { type Graph, type GraphInput, type GraphNode, type Listener, ModelError, type Tensor } from './graph.ts';
import { ops } from './ops/index.ts';

/**
 * The graph's outputs by name. `listener` hears every value a node computes.
 * Throws ModelError when an input is missing or misshapen, or a node cannot run (its name comes first).
 */
export function interpret(graph: Graph, inputs: Record<string, Tensor>, listener?: Listener): Record<string, Tensor> {
  const values = new Map<string, Tensor>();
  for (const t of graph.constants.values()) markConstant(t);
  bind(graph, inputs, values);
  const lastUse = lastUses(graph);
  graph.nodes.forEach((node, position) => {
    const results = runNode(
      node,
      node.inputs.map((name) => (name === '' ? undefined : find(graph, values, name, node))),
    );
    node.outputs.forEach((name, i) => {
      if (name === '') return;
      const t = results[i];
      if (t === undefined) throw new ModelError(`${node.name} (${node.op}): no output ${i}`);
      values.set(name, t);
      listener?.(name, t, node);
    });
    for (const name of lastUse.get(position) ?? []) values.delete(name);
  });
  return Object.fromEntries(graph.outputs.map((name) => [name, find(graph, values, name)]));
}

/** One node on given tensors; whatever goes wrong is a ModelError that names it. */
export function runNode(node: GraphNode, x: (Tensor | undefined)[]): Tensor[] {
  const run = ops.get(node.op);
  if (run === undefined) throw new ModelError(`${node.name}: operator ${node.op} is not supported`);
  try {
    return run(x, node);
  } catch (e) {
    const why = e instanceof Error ? e.message : String(e);
    throw new ModelError(`${node.name} (${node.op}): ${why}`, { cause: e });
  }
}

function find(graph: Graph, values: ReadonlyMap<string, Tensor>, name: string, node?: GraphNode): Tensor {
  const t = values.get(name) ?? graph.constants.get(name);
  if (t === undefined) throw new ModelError(`${node ? `${node.name} (${node.op})` : graph.name}: value '${name}' is not computed`);
  return t;
}

/** Checks the inputs against what the graph declares; a named dimension must have one size everywhere. */
function bind(graph: Graph, inputs: Record<string, Tensor>, values: Map<string, Tensor>): void {
  const sizes = new Map<string, number>();
  for (const input of graph.inputs) {
    const t = Object.hasOwn(inputs, input.name) ? inputs[input.name] : undefined;
    if (t === undefined) throw new ModelError(`input '${input.name}' ${describe(input)} is missing`);
    const fits =
      t.shape.length === input.shape.length &&
      input.shape.every((d, i) => {
        if (typeof d === 'number') return t.shape[i] === d;
        const known = sizes.get(d);
        sizes.set(d, t.shape[i]);
        return known === undefined || known === t.shape[i];
      });
    if (!fits || t.dtype !== input.dtype)
      throw new ModelError(`input '${input.name}': expected ${describe(input)}, got ${t.dtype} [${t.shape}]`);
    values.set(input.name, t);
  }
}

const describe = (input: GraphInput): string => `${input.dtype} [${input.shape}]`;

/** Which values no later node reads, by position; outputs live on. */
function lastUses(graph: Graph): Map<number, string[]> {
  const last = new Map<string, number>();
  graph.nodes.forEach((node, i) => {
    for (const name of node.outputs) last.set(name, i);
    for (const name of node.inputs) last.set(name, i);
  });
  for (const name of graph.outputs) last.delete(name);
  const at = new Map<number, string[]>();
  for (const [name, i] of last) at.set(i, [...(at.get(i) ?? []), name]);
  return at;
}
