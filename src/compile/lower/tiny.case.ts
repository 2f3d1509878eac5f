/** What the lowering tests lean on: a small graph, calibrated, compiled and run by two parties and a dealer, against the interpreter. */
import { threeKernels } from '../../gates/gate.case.ts';
import { type AttrValue, type Graph, type GraphNode, sizeOf, type Tensor, tensor } from '../../graph/graph.ts';
import { interpret } from '../../graph/interpret.ts';
import { cost } from '../../program/cost.ts';
import { LocalCluster, random } from '../../runtime/local.ts';
import { loadModel, type WeightSource } from '../../runtime/model.ts';
import { calibrate } from '../calibrate.ts';
import { type Compiled, compile } from '../compile.ts';

/** A generator of reproducible numbers in (−1, 1), roughly normal. */
export function noise(seed: number): () => number {
  let s = seed >>> 0;
  const next = (): number => {
    s = (Math.imul(s, 1664525) + 1013904223) >>> 0;
    return s / 2 ** 32;
  };
  return () => (next() + next() + next() + next() - 2) / 1.2;
}

/** Builds a graph node by node; values are named by what makes them. */
export class Tiny {
  readonly nodes: GraphNode[] = [];
  readonly constants = new Map<string, Tensor>();
  readonly inputs: Graph['inputs'][number][] = [];
  private readonly draw: () => number;

  constructor(seed = 1) {
    this.draw = noise(seed);
  }

  input(shape: readonly (number | string)[], name = 'x'): string {
    this.inputs.push({ name, dtype: 'f32', shape });
    return name;
  }

  constant(data: ArrayLike<number>, shape: readonly number[], dtype: 'f32' | 'i64' = 'f32'): string {
    const name = `c${this.constants.size}`;
    this.constants.set(name, tensor(data, shape, dtype));
    return name;
  }

  ints(...data: number[]): string {
    return this.constant(data, [data.length], 'i64');
  }

  /** Random weights times `gain`, plus `mean`. */
  weight(shape: readonly number[], gain = 1, mean = 0): string {
    return this.constant(
      Array.from({ length: sizeOf(shape) }, () => mean + gain * this.draw()),
      shape,
    );
  }

  op(op: string, inputs: readonly string[], attrs: Record<string, AttrValue> = {}, outputs?: number): string {
    const i = this.nodes.length;
    const name = `${op.toLowerCase()}${i}`;
    const outs = Array.from({ length: outputs ?? 1 }, (_, j) => (j === 0 ? name : `${name}.${j}`));
    this.nodes.push({ op, name: `/net/${name}`, inputs: [...inputs], outputs: outs, attrs });
    return name;
  }

  linear(x: string, K: number, N: number, bias = true): string {
    return this.op('Linear', [x, this.weight([K, N], 1.5 / Math.sqrt(K)), ...(bias ? [this.weight([N], 0.3)] : [])]);
  }

  graph(...outputs: string[]): Graph {
    return { name: 'tiny', inputs: this.inputs, outputs, nodes: this.nodes, constants: this.constants };
  }
}

export interface Outcome {
  /** Largest error of each output. */
  readonly error: Record<string, number>;
  /** Largest value of each output in plaintext. */
  readonly size: Record<string, number>;
  readonly rounds: number;
  readonly bytes: number;
  readonly compiled: Compiled;
}

export interface RunOptions {
  readonly weights?: 'public' | 'private';
  readonly samples?: number;
  readonly runs?: number;
  readonly seed?: number;
  /** Values of the graph's parameters: while calibrating (in turn), and in the runs. */
  readonly params?: { readonly calibrate: readonly Record<string, number>[]; readonly run: readonly Record<string, number>[] };
  /** Makes an input's values. */
  readonly draw?: (name: string, next: () => number) => number;
}

/** Calibrates on random inputs, compiles, runs others, and compares. */
export function run(graph: Graph, options: RunOptions = {}): Outcome {
  const { weights = 'public', samples = 24, runs = 3, seed = 7, draw = (_, next) => next() } = options;
  const next = noise(seed);
  const given = (params: Record<string, number>): Record<string, Tensor> =>
    Object.fromEntries(
      graph.inputs.map((i) => {
        const shape = i.shape.map((d) => (typeof d === 'number' ? d : params[d]));
        return [
          i.name,
          tensor(
            Array.from({ length: sizeOf(shape) }, () => draw(i.name, next)),
            shape,
          ),
        ];
      }),
    );
  const among = (list: readonly Record<string, number>[] | undefined, i: number): Record<string, number> =>
    list ? list[i % list.length] : {};
  const calibration = calibrate(
    graph,
    Array.from({ length: samples }, (_, i) => given(among(options.params?.calibrate, i))),
  );
  const compiled = compile(graph, calibration, { weights });
  const { program } = compiled;
  const cluster = clusterOf(compiled);
  const error: Record<string, number> = Object.fromEntries(graph.outputs.map((o) => [o, 0]));
  const size = { ...error };
  let total = { rounds: 0, bytes: 0 };
  for (let i = 0; i < runs; i++) {
    const params = among(options.params?.run, i);
    const input = given(params);
    const want = interpret(graph, input);
    const got = cluster.run(
      params,
      Object.fromEntries(program.inputs.map((p) => [p.name, Array.from(input[p.name].data, (v) => Math.round(v * p.scale))])),
    );
    const { rounds, bytes } = cost(program, params);
    total = { rounds, bytes: bytes.p0p1 + bytes.dealer };
    for (const o of program.outputs) {
      const scale = resolved(program.tensors[o.tensor].scale, params);
      const { data, shape } = got[o.name];
      if (`${shape}` !== `${want[o.name].shape}`) throw new Error(`${o.name}: shape [${shape}], expected [${want[o.name].shape}]`);
      want[o.name].data.forEach((v, j) => {
        error[o.name] = Math.max(error[o.name], Math.abs(v - data[j] / scale));
        size[o.name] = Math.max(size[o.name], Math.abs(v));
      });
    }
  }
  return { error, size, rounds: total.rounds, bytes: total.bytes, compiled };
}

function resolved(scale: unknown, params: Record<string, number>): number {
  if (typeof scale === 'number') return scale;
  return (scale as { dim: string }).dim.split('*').reduce((p, t) => p * (params[t] ?? Number(t)), 1);
}

/** The largest error of all outputs, with public and with private weights. */
export function errors(graph: Graph, options: Omit<RunOptions, 'weights'> = {}): number {
  return Math.max(...(['public', 'private'] as const).flatMap((weights) => Object.values(run(graph, { ...options, weights }).error)));
}

/** Two parties and a dealer in this process; private weights w are held as F = w − B, B = B_0 + B_1. */
export function clusterOf({ program, weights }: Compiled): LocalCluster {
  const masks = new Map([...weights].map(([name, w]) => [name, [0, 1].map(() => new Int32Array(random(4 * w.data.length).buffer))]));
  const source: WeightSource = {
    words(name) {
      const w = weights.get(name)!;
      const [b0, b1] = masks.get(name)!;
      return program.weights === 'public' ? w : { shape: w.shape, data: w.data.map((v, i) => v - b0[i] - b1[i]) };
    },
    weightMask: (party, name) => ({ shape: weights.get(name)!.shape, data: masks.get(name)![party] }),
    bytes: (name) => weights.get(name)!.blocks!,
  };
  const kernels = threeKernels();
  const [p0, p1, dealer] = (['p0', 'p1', 'dealer'] as const).map((role, i) => loadModel(program, role, kernels[i], source));
  return new LocalCluster({ p0, p1, dealer });
}
