import { type AttrValue, type Graph, type GraphInput, type GraphNode, ModelError, sizeOf, type Tensor, tensor } from '../../graph/graph.ts';
import { lowBitTensor, transpose } from '../gguf/low-bit.ts';
import type { TensorFile } from './family.ts';

/**
 * What every family builds with: a checkpoint that notes what is asked of it, and a graph under construction.
 * A missing or misshapen tensor does not stop the build: it goes on with an empty one, so that `checkWeights` can list all that is wrong at once.
 */
export interface Weights {
  has(name: string): boolean;
  /** The tensor of that shape. */
  take(name: string, shape: readonly number[]): Tensor;
  /** A dense layer's weight: stored [out, in], wanted [in, out]. */
  takeTransposed(name: string, shape: readonly [number, number]): Tensor;
  /** Throws when something was missing or misshapen, or stays unasked for and is none of `unused`. */
  check(unused: RegExp): void;
}

/** `aliases` maps a stored name to the one the family asks for ('bert.' taken off, LayerNorm.gamma → LayerNorm.weight). */
export function weightsOf(file: TensorFile, alias: (stored: string) => string): Weights {
  const stored = new Map<string, string>();
  for (const name of file.tensors.keys()) {
    const other = stored.get(alias(name));
    if (other !== undefined) throw new ModelError(`${file.label}: '${other}' and '${name}' both stand for ${alias(name)}`);
    stored.set(alias(name), name);
  }
  const asked = new Set<string>();
  const wrong: string[] = [];
  const take = (name: string, shape: readonly number[]): Tensor => {
    asked.add(name);
    const key = stored.get(name);
    const found = key === undefined ? undefined : file.tensors.get(key);
    if (key === undefined || !found) wrong.push(`missing    ${name} [${shape}]`);
    else if (found.shape.length !== shape.length || found.shape.some((d, i) => d !== shape[i]))
      wrong.push(`misshapen  ${key}: expected [${shape}], got [${found.shape}]`);
    else {
      const t = file.tensor(key);
      if (t.dtype === 'f32') return t;
      wrong.push(`not float  ${key}: ${found.dtype}`);
    }
    return { dtype: 'f32', shape, data: new Float32Array(0) };
  };
  return {
    has: (name) => stored.has(name),
    take,
    takeTransposed(name, [rows, cols]) {
      const key = stored.get(name);
      const found = key === undefined ? undefined : file.tensors.get(key);
      const blocks = key !== undefined && found?.shape[0] === rows && found.shape[1] === cols ? file.lowBit?.(key) : undefined;
      if (blocks === undefined) return transposed(take(name, [rows, cols]));
      asked.add(name);
      return lowBitTensor(blocks.type, [rows, cols], blocks.bytes);
    },
    check(unused) {
      for (const [name, key] of stored)
        if (!asked.has(name) && !unused.test(name)) wrong.push(`unexpected ${key} [${file.tensors.get(key)?.shape}]`);
      if (wrong.length === 0) return;
      const more = wrong.length > mostFaults ? [`and ${wrong.length - mostFaults} more`] : [];
      throw new ModelError(`${file.label} and config.json disagree:\n  ${[...wrong.slice(0, mostFaults), ...more].join('\n  ')}`);
    },
  };
}

/** A wrong number of layers makes thousands. */
const mostFaults = 40;

export function transposed(t: Tensor): Tensor {
  const [rows, cols] = t.shape;
  if (t.data.length !== rows * cols) return { ...t, shape: [cols, rows] };
  return { dtype: 'f32', shape: [cols, rows], data: transpose(t.data as Float32Array, rows, cols) };
}

export interface Builder {
  readonly graph: Graph;
  input(name: string, dtype: GraphInput['dtype'], shape: GraphInput['shape']): string;
  constant(name: string, value: Tensor): string;
  /** Appends a node with one output, called `output` or after the node, and returns that name. */
  node(op: string, name: string, inputs: string[], attrs?: Record<string, AttrValue>, output?: string): string;
}

export function builder(name: string): Builder {
  const graph: Graph = { name, inputs: [], outputs: [], nodes: [], constants: new Map() };
  const names = new Set<string>();
  const define = (value: string): string => {
    if (names.has(value)) throw new Error(`'${value}' is defined twice`);
    names.add(value);
    return value;
  };
  return {
    graph,
    input(name, dtype, shape) {
      graph.inputs.push({ name, dtype, shape });
      return define(name);
    },
    constant(name, value) {
      graph.constants.set(name, value);
      return define(name);
    },
    node(op, name, inputs, attrs = {}, output = name) {
      graph.nodes.push({ op, name, inputs, outputs: [define(output)], attrs });
      return output;
    },
  };
}

/** Integer constants: axes, shapes, indices. */
export const ints = (...values: number[]): Tensor => tensor(values, [values.length], 'i64');

/** A dense layer stored as NAME.weight [out, in] and NAME.bias [out]. */
export function linear(
  b: Builder,
  w: Weights,
  node: string,
  stored: string,
  x: string,
  [from, to]: readonly [number, number],
  bias = true,
  output?: string,
): string {
  const inputs = [x, b.constant(`${stored}.weight`, w.takeTransposed(`${stored}.weight`, [to, from]))];
  if (bias) inputs.push(b.constant(`${stored}.bias`, w.take(`${stored}.bias`, [to])));
  return b.node('Linear', node, inputs, {}, output);
}

export function layerNorm(
  b: Builder,
  w: Weights,
  node: string,
  stored: string,
  x: string,
  hidden: number,
  epsilon: number,
  output?: string,
): string {
  const scale = b.constant(`${stored}.weight`, w.take(`${stored}.weight`, [hidden]));
  const bias = b.constant(`${stored}.bias`, w.take(`${stored}.bias`, [hidden]));
  return b.node('LayerNormalization', node, [x, scale, bias], { axis: -1, epsilon }, output);
}

/** Row `at` of a [rows, width] value, as [1, width]. at −1 is the last. */
export function row(b: Builder, node: string, x: string, at: number, output?: string): string {
  const end = at === -1 ? Number.MAX_SAFE_INTEGER : at + 1;
  const part = (name: string, value: number): string => b.constant(`${node}/${name}`, ints(value));
  return b.node('Slice', node, [x, part('starts', at), part('ends', end), part('axes', 0)], {}, output);
}

const ACTIVATIONS: Record<string, [op: string, attrs: Record<string, AttrValue>]> = {
  gelu: ['Gelu', { approximate: 'none' }],
  gelu_new: ['Gelu', { approximate: 'tanh' }],
  gelu_pytorch_tanh: ['Gelu', { approximate: 'tanh' }],
  gelu_fast: ['Gelu', { approximate: 'tanh' }],
  relu: ['Relu', {}],
  silu: ['Silu', {}],
  swish: ['Silu', {}],
  tanh: ['Tanh', {}],
  sigmoid: ['Sigmoid', {}],
};
export function activation(b: Builder, kind: string, node: string, x: string, output?: string): string {
  const known = Object.hasOwn(ACTIVATIONS, kind) ? ACTIVATIONS[kind] : undefined;
  if (!known) throw new ModelError(`config.json: activation '${kind}' is not one of ${Object.keys(ACTIVATIONS).join(', ')}`);
  return b.node(known[0], node, [x], known[1], output);
}

/** The graph cut down to what the outputs need; inputs stay, they are the interface. */
export function finish(b: Builder, outputs: readonly string[]): Graph {
  const { graph } = b;
  const made = new Map(graph.nodes.flatMap((n) => n.outputs.map((o) => [o, n] as const)));
  const needed = new Set<string>();
  const visit = (value: string): void => {
    if (needed.has(value)) return;
    needed.add(value);
    for (const input of made.get(value)?.inputs ?? []) visit(input);
  };
  for (const output of outputs) {
    if (!made.has(output) && !graph.inputs.some((i) => i.name === output))
      throw new ModelError(`${graph.name} has no output '${output}'; it can give ${graph.outputs.join(', ')}`);
    visit(output);
  }
  const nodes: GraphNode[] = graph.nodes.filter((n) => n.outputs.some((o) => needed.has(o)));
  const constants = new Map([...graph.constants].filter(([name]) => needed.has(name)));
  return { ...graph, nodes, constants, outputs: [...outputs] };
}

/** How many parameters a graph holds. */
export const parameters = (graph: Graph): number =>
  [...graph.constants.values()].reduce((n, t) => n + (t.dtype === 'f32' ? sizeOf(t.shape) : 0), 0);
