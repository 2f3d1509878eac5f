/**
 * The program under construction: tensors with scale and bound, gates added in running order, the weights' integers beside them.
 *
 * Bounds are real, already with their margin. Every method states what it leaves: rounding is always less than one unit of the new scale.
 */
import type { Gate } from '../gates/gate.ts';
import { gates } from '../gates/index.ts';
import { tensorShape } from '../program/inputs.ts';
import { byParam, type Dim, dimAttr, type GateNode, type Json, type Program, ProgramError, type ProgramInput, type Scale, type TensorDecl } from '../program/program.ts';

/** A tensor of the program, with its symbolic shape. */
export interface T extends TensorDecl {
  readonly id: number;
  readonly shape: readonly Dim[];
}

export interface WeightTensor {
  readonly shape: readonly number[];
  /** Made when asked for, where a model's would not fit into memory together. */
  readonly data: Int32Array;
  /** A matrix kept in blocks instead. */
  readonly blocks?: Uint8Array;
}

export const lastDim = (t: { shape: readonly Dim[] }): number => {
  const d = t.shape.at(-1)!;
  if (typeof d !== 'number') throw new ProgramError(`the last axis of [${t.shape}] must have a fixed size`);
  return d;
};

export class Builder {
  readonly tensors: TensorDecl[] = [];
  readonly gates: GateNode[] = [];
  readonly inputs: Program['inputs'][number][] = [];
  readonly outputs: Program['outputs'][number][] = [];
  readonly weights = new Map<string, WeightTensor>();
  /** What whoever compiles should know: answers will be less precise than usual. */
  readonly warnings: string[] = [];
  layer = '';

  constructor(readonly weightKind: 'public' | 'private') {}

  get private(): boolean {
    return this.weightKind === 'private';
  }

  input(name: string, shape: readonly Dim[], scale: number, bound: number, label?: string, encoding?: ProgramInput['encoding']): T {
    const t = this.declare({ kind: 'share', bits: 32, scale, bound, label }, tensorShape({ shape, encoding }));
    this.inputs.push({ name, tensor: t.id, shape, scale, bound, ...(encoding ? { encoding } : {}) });
    return t;
  }

  /** Adds a gate; outs describe its outputs, in order. */
  gate(name: string, ins: readonly T[], attrs: unknown, ...outs: (TensorDecl & { shape: readonly Dim[] })[]): T[] {
    if (!gates.has(name)) throw new ProgramError(`no gate is called '${name}'`);
    const out = outs.map((o) => this.declare(o, o.shape));
    this.gates.push({ id: this.gates.length, gate: name, layer: this.layer, in: ins.map((t) => t.id), out: out.map((t) => t.id), attrs: attrs as Json });
    return out;
  }

  /** The same decl under a gate that keeps everything but what `change` says. */
  map(name: string, ins: readonly T[], attrs: unknown, change: Partial<T> = {}): T {
    return this.gate(name, ins, attrs, { ...strip(ins[0]), ...change })[0];
  }

  open(x: T): T {
    return this.map('open', [x], null, { kind: 'wire' });
  }

  /** Truncates by s and extends to 32 bits; the ring in between is the largest there is. */
  extend(x: T, o: ExtendOptions): { share?: T; wire?: T } {
    const scale = o.scale ?? divide(x.scale, o.s);
    const bits = o.bits ?? shrunk(x.bits, o.s);
    const decl = { ...strip(x), scale, bound: o.bound ?? x.bound, bits: 32, label: o.label };
    const outs = [...(o.share === false ? [] : [{ ...decl, kind: 'share' as const }]), ...(o.wire ? [{ ...decl, kind: 'wire' as const, bits }] : [])];
    const made = this.gate('extend', [x], { s: o.s, bits, mul: o.mul, add: o.add, axis: o.axis, after: o.after }, ...outs);
    return { share: o.share === false ? undefined : made[0], wire: o.wire ? made.at(-1) : undefined };
  }

  weight(name: string, shape: readonly number[], data: Int32Array | (() => Int32Array), blocks?: Uint8Array): string {
    if (this.weights.has(name)) throw new ProgramError(`weight '${name}' is made twice`);
    this.weights.set(name, typeof data === 'function' ? lazily(shape, data, blocks) : { shape, data });
    return name;
  }

  private declare(decl: TensorDecl, shape: readonly Dim[]): T {
    const { kind, bits, scale, bound, label } = decl;
    const id = this.tensors.push(label === undefined ? { kind, bits, scale, bound } : { kind, bits, scale, bound, label }) - 1;
    return { id, kind, bits, scale, bound, label, shape };
  }
}

export interface ExtendOptions {
  readonly s: number;
  readonly bits?: number;
  readonly mul?: readonly number[];
  readonly add?: readonly number[];
  readonly after?: readonly number[];
  readonly axis?: number;
  /** Scale after truncation; default: the input's by 2^s. */
  readonly scale?: Scale;
  readonly bound?: number;
  readonly label?: string;
  readonly share?: boolean;
  readonly wire?: boolean;
}

const lazily = (shape: readonly number[], make: () => Int32Array, blocks?: Uint8Array): WeightTensor => ({
  shape,
  get data() {
    return make();
  },
  blocks,
});

const strip = (t: T): TensorDecl & { shape: readonly Dim[] } => ({ kind: t.kind, bits: t.bits, scale: t.scale, bound: t.bound, shape: t.shape });

/** Bits of the ring after dropping s, as the extend gate takes them; s may be a choice by parameter. */
export function shrunk(bits: number, s: number): number {
  return onCases(s, (v) => Math.min(30, bits - v));
}

export const divide = (scale: Scale, s: number): Scale => (typeof scale === 'number' || !Array.isArray(scale) ? onCases2(scale as number, s, (a, b) => a / 2 ** b) : scale.map((x) => x / 2 ** s));

interface Cases {
  readonly by: string;
  readonly upTo: readonly number[];
  readonly then: readonly number[];
}
const isCases = (v: unknown): v is Cases => typeof v === 'object' && v !== null && 'by' in v;

/** Arithmetic on numbers that may be choices by parameter. */
export function onCases(v: number, f: (v: number) => number): number {
  return isCases(v) ? byParam(v.by, v.upTo, v.then.map(f)) : f(v);
}
export function onCases2(a: number, b: number, f: (a: number, b: number) => number): number {
  if (isCases(a)) return isCases(b) ? byParam(a.by, a.upTo, a.then.map((x, i) => f(x, (b as Cases).then[i]))) : byParam(a.by, a.upTo, a.then.map((x) => f(x, b)));
  return onCases(b, (y) => f(a, y));
}

export const product = (dims: readonly Dim[]): Dim => {
  const names = dims.filter((d): d is string => typeof d === 'string');
  const factor = dims.filter((d): d is number => typeof d === 'number').reduce((a, b) => a * b, 1);
  if (names.length === 0) return factor;
  if (names.some((d) => /[+-]/.test(d))) throw new ProgramError(`a product of [${dims}] is not supported`);
  return [...(factor === 1 ? [] : [factor]), ...names].join('*');
};
export const dimsAttr = (dims: readonly Dim[]): number[] => dims.map(dimAttr);
export type { Gate };
