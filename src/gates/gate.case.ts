/** What every gate's test leans on: a program of a few gates run by two parties and a dealer in this process, against `plain`. */
import { plainKernels } from '../ring/kernels/plain.ts';
import { newMemory } from '../ring/kernels/memory.ts';
import type { Kernels } from '../ring/kernels/kernels.ts';
import { LocalCluster, type LocalOptions, type Revealed, random } from '../runtime/local.ts';
import { loadModel, type WeightSource } from '../runtime/model.ts';
import type { Json, Params, Program, TensorDecl } from '../program/program.ts';

export type Weights = Readonly<Record<string, { readonly shape: readonly number[]; readonly data: Int32Array }>>;

const memories: Kernels[] = [];
/** Kernels over three memories, reused by all cases of a test file. */
export function threeKernels(): Kernels[] {
  while (memories.length < 3) memories.push(plainKernels(newMemory(2 ** 31)));
  return memories;
}

/** Builds a program gate by gate. Tensors are numbered as they are declared. */
export class Case {
  readonly tensors: TensorDecl[] = [];
  readonly inputs: Program['inputs'][number][] = [];
  readonly gates: Program['gates'][number][] = [];
  readonly outputs: Program['outputs'][number][] = [];

  constructor(readonly weights: Weights = {}, readonly privateWeights = false) {}

  input(shape: readonly number[], decl: Partial<TensorDecl> = {}): number {
    const tensor = this.declare(decl);
    this.inputs.push({ name: `x${this.inputs.length}`, tensor, shape, scale: 1, bound: 2 ** 31 });
    return tensor;
  }
  declare(decl: Partial<TensorDecl>): number {
    return this.tensors.push({ kind: 'share', bits: 32, scale: 1, bound: 2 ** 31, ...decl }) - 1;
  }
  gate(gate: string, ins: readonly number[], attrs: unknown, ...outs: Partial<TensorDecl>[]): number {
    const out = (outs.length ? outs : [{}]).map((d) => this.declare(d));
    this.gates.push({ id: this.gates.length, gate, layer: 'case', in: ins, out, attrs: attrs as Json });
    return out[0];
  }
  /** Makes a tensor an output as it is, without the reveal gate, so that its exact words are seen. */
  output(tensor: number): this {
    this.outputs.push({ name: `y${this.outputs.length}`, tensor });
    return this;
  }
  program(params: Record<string, { min: number; max: number }> = {}): Program {
    return { format: 'subrosa-program/1', name: 'case', weights: this.privateWeights ? 'private' : 'public', weightsHash: '', params, tensors: this.tensors, inputs: this.inputs, outputs: this.outputs, gates: this.gates };
  }
  cluster(program = this.program()): LocalCluster {
    const [k0, k1, kd] = threeKernels();
    const masks = new Map<string, Int32Array>();
    const mask = (party: 0 | 1, name: string): Int32Array => {
      const key = `${party}${name}`;
      if (!masks.has(key)) masks.set(key, new Int32Array(random(4 * this.weights[name].data.length).buffer));
      return masks.get(key)!;
    };
    const source: WeightSource = {
      words: (name) => {
        const { shape, data } = this.weights[name];
        if (!this.privateWeights) return { shape, data };
        const [b0, b1] = [mask(0, name), mask(1, name)];
        return { shape, data: data.map((v, i) => v - b0[i] - b1[i]) };
      },
      weightMask: (party, name) => ({ shape: this.weights[name].shape, data: mask(party, name) }),
    };
    return new LocalCluster({ p0: loadModel(program, 'p0', k0, source), p1: loadModel(program, 'p1', k1, source), dealer: loadModel(program, 'dealer', kd, source) });
  }
  run(inputs: readonly ArrayLike<number>[], options: LocalOptions = {}, params: Params = {}): Revealed[] {
    const named = Object.fromEntries(this.inputs.map((i, j) => [i.name, inputs[j]]));
    const out = this.cluster().run(params, named, options);
    return this.outputs.map((o) => out[o.name]);
  }
}

/** Random integers of |v| < bound. */
export const integers = (n: number, bound: number): number[] => Array.from(new Uint32Array(random(4 * n).buffer), (w) => Math.floor(((w / 2 ** 32) * 2 - 1) * bound));
