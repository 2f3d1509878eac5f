/** What every gate's test leans on: a program of a few gates run by two parties and a dealer in this process, against `plain`. */

import type { Json, Params, Program, TensorDecl } from '../program/program.ts';
import type { Kernels } from '../ring/kernels/kernels.ts';
import { newMemory } from '../ring/kernels/memory.ts';
import { wasmKernels } from '../ring/kernels/wasm.ts';
import { Ledger, ledgered } from '../runtime/ledger.ts';
import { LocalCluster, type LocalOptions, type Revealed, random } from '../runtime/local.ts';
import { loadModel, type WeightSource } from '../runtime/model.ts';
import { hidesOpenings } from './gate.ts';

export type Weights = Readonly<Record<string, { readonly shape: readonly number[]; readonly data: Int32Array }>>;

const memories: Kernels[] = [];
/** Kernels over three memories, reused by all cases of a test file. */
export function threeKernels(): Kernels[] {
  while (memories.length < 3) memories.push(wasmKernels(newMemory(2 ** 31)));
  return memories;
}

/** Builds a program gate by gate. Tensors are numbered as they are declared. */
export class Case {
  readonly tensors: TensorDecl[] = [];
  readonly inputs: Program['inputs'][number][] = [];
  readonly gates: Program['gates'][number][] = [];
  readonly outputs: Program['outputs'][number][] = [];

  /** Off where a value is meant to leave a gate's range. */
  checkPlain = true;
  /** Overrides the gates' stated error. */
  error?: number;
  wrapKernels = (k: Kernels): Kernels => k;

  constructor(
    readonly weights: Weights = {},
    readonly privateWeights = false,
  ) {}

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
    return {
      format: 'subrosa-program/2',
      name: 'case',
      weights: this.privateWeights ? 'private' : 'public',
      weightsHash: '',
      params,
      tensors: this.tensors,
      inputs: this.inputs,
      outputs: this.outputs,
      gates: this.gates,
    };
  }
  cluster(program = this.program(), ledgers?: readonly Ledger[]): LocalCluster {
    const [k0, k1, kd] = threeKernels().map((k, i) => this.wrapKernels(ledgers ? ledgered(k, ledgers[i]) : k));
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
    return new LocalCluster({
      p0: loadModel(program, 'p0', k0, source),
      p1: loadModel(program, 'p1', k1, source),
      dealer: loadModel(program, 'dealer', kd, source),
    });
  }
  /**
   * Runs the program and holds it to every promise a gate makes: each message and each block of corrections has the bytes of the
   * costs, no mask word is drawn twice, no gate opens more bits than it has drawn masks for, and every gate's output is its `plain`
   * of its inputs, within its error.
   */
  run(inputs: readonly ArrayLike<number>[], options: LocalOptions = {}, params: Params = {}): Revealed[] {
    const ledgers = ['p0', 'p1', 'dealer'].map((role) => new Ledger(role, hidesOpenings));
    const cluster = this.cluster(this.program(), ledgers);
    const { binding } = cluster.prepare(params).p0;
    const named = Object.fromEntries(this.inputs.map((i, j) => [i.name, inputs[j]]));
    const transcript = options.transcript ?? { p0: [], p1: [], dealer: [] };
    const values = new Map<number, Float64Array>(this.inputs.map((i, j) => [i.tensor, Float64Array.from(inputs[j])]));
    const onGate = (id: number, reveal: (t: number) => Float64Array): void => {
      const { node, def } = binding.gates[id];
      for (const o of node.outs) values.set(o.id, reveal(o.id));
      const ins = node.ins.map((t) => ({ shape: t.shape, data: values.get(t.id)!, bits: t.bits }));
      const plain = def.plain(node.attrs, ins, { words: (name) => this.weights[name] }, node.outs, { ...params, ...options.params });
      for (const [i, o] of node.outs.entries())
        compare(
          `${node.gate} ${id}`,
          values.get(o.id)!,
          plain[i],
          o.kind === 'wire' ? 32 : o.bits,
          this.error ?? def.error?.(node.attrs) ?? 0,
        );
    };
    const out = cluster.run(params, named, { ...options, transcript, onGate: this.checkPlain ? onGate : undefined });
    for (const p of ['p0', 'p1'] as const) {
      const sent = transcript[p].slice(-binding.rounds).reduce((s, m) => s + m.length, 0);
      const said = binding.gates.reduce((s, g) => s + g.cost.openedBytes, 0);
      if (sent !== said) throw new Error(`${p} sends ${sent} bytes, the costs say ${said}`);
    }
    const dealt = transcript.dealer.slice(transcript.dealer.length - binding.blocks.length).reduce((s, m) => s + m.length, 0);
    const said = binding.gates.reduce((s, g) => s + g.cost.correctionBytes, 0);
    if (dealt !== said) throw new Error(`the dealer sends ${dealt} bytes, the costs say ${said}`);
    for (const ledger of ledgers.slice(0, 2))
      for (const g of binding.gates) {
        const masked = ledger.maskBits(options.step ?? 0, g.node.id);
        if (8 * g.cost.openedBytes > masked)
          throw new Error(
            `${ledger.role} opens ${8 * g.cost.openedBytes} bits at ${g.node.gate} ${g.node.id}, having drawn masks for ${masked}`,
          );
      }
    return this.outputs.map((o) => out[o.name]);
  }
}

/** Values of a gate against its meaning, in the ring: the nearest representatives of the difference mod 2^bits. */
function compare(gate: string, got: Float64Array, plain: Float64Array, bits: number, error: number): void {
  if (got.length !== plain.length) throw new Error(`${gate}: ${got.length} values, plain has ${plain.length}`);
  for (let i = 0; i < got.length; i++) {
    if (Math.abs(plain[i]) >= 2 ** 53) continue; // a test with big integers looks at these
    const d = got[i] - plain[i];
    const off = d - Math.round(d / 2 ** bits) * 2 ** bits;
    if (!(Math.abs(off) <= error))
      throw new Error(`${gate}: value ${i} is ${got[i]}, plain says ${plain[i]}: off by ${off}, more than ${error}`);
  }
}

/** Random integers of |v| < bound. */
export const integers = (n: number, bound: number): number[] =>
  Array.from(new Uint32Array(random(4 * n).buffer), (w) => Math.floor(((w / 2 ** 32) * 2 - 1) * bound));

/** The representative of a big integer mod 2^bits nearest to zero. */
export const wrap = (v: bigint, bits = 32): number => Number(BigInt.asIntN(bits, v));

export type Keys = readonly [Uint8Array, Uint8Array, Uint8Array];

/** Kernels whose draws are given where `value` says so: every role then sees the masks a test wants. `keys`: those of the run. */
export const scripted =
  (keys: Keys, value: (party: number, gate: number, stream: number, i: number) => number | undefined) =>
  (k: Kernels): Kernels =>
    Object.assign(Object.create(k) as Kernels, {
      prg(dst, key, step, gate, stream, bits, first, n, scratch) {
        k.prg(dst, key, step, gate, stream, bits, first, n, scratch);
        const party = keys.findIndex((known) => Buffer.compare(known, k.u8.subarray(key, key + 32)) === 0);
        for (let i = 0; i < n; i++) {
          const v = value(party, gate, stream, first + i);
          if (v !== undefined) k.u32[dst / 4 + i] = v;
        }
      },
    } satisfies Partial<Kernels>);

/** Pearson's statistic of counts that should be even. */
export function chiSquare(counts: ArrayLike<number>): number {
  const total = Array.from(counts).reduce((a, b) => a + b, 0);
  const mean = total / counts.length;
  return Array.from(counts).reduce((s, c) => s + (c - mean) ** 2 / mean, 0);
}
/** What it exceeds once in 10^9 times for `cells` even cells (Wilson and Hilferty: its cube root is nearly normal). */
chiSquare.limit = (cells: number): number => {
  const k = cells - 1;
  return k * (1 - 2 / (9 * k) + 6 * Math.sqrt(2 / (9 * k))) ** 3;
};
