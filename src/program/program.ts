/**
 * A program: the list of gates two parties and a dealer run for one model, as data.
 *
 * It is one JSON text, the same for every role and identified by its hash; the roles refuse to run unless the hashes agree. It
 * holds everything that is public: graph, scales, rings, ranges, fitted constants. Weights are elsewhere (each role has its own
 * file). Shapes depend on public integer parameters (n = tokens …); `bind` fixes them for one step.
 *
 * A number in a program may be a choice by parameter: {"by": "n", "upTo": [32, 64], "then": [a, b]} is a for n ≤ 32, b for n ≤ 64.
 * A dimension may be an expression in the parameters ('n', '12*n', 'past+n'); inside a gate's attributes, {"dim": 'n*12'}.
 */
import { numbered, ProgramError, type Params, type TensorDecl } from '../gates/gate.ts';

export { ProgramError, type Params, type Scale, type Sequence, sequenceParams, sequencesOf, type TensorDecl } from '../gates/gate.ts';

export type Dim = number | string;
export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json | undefined };

export interface GateNode {
  /** Position in `gates`, and the gate's number in every nonce. */
  readonly id: number;
  readonly gate: string;
  /** The model's layer this gate belongs to ('encoder.layer.0.attention'): cost and inspect sum by it. */
  readonly layer: string;
  readonly in: readonly number[];
  readonly out: readonly number[];
  readonly attrs: Json;
}

export interface ProgramInput {
  readonly name: string;
  readonly tensor: number;
  readonly shape: readonly Dim[];
  /** The client's values are rounded to multiples of 1/scale and refused outside ±bound. */
  readonly scale: number;
  readonly bound: number;
  /**
   * Where the client gives places and sends keys of point functions (ring/dpf.ts): the last axis of `shape` has a place for each of these
   * spans, the tensor's a word for each place of them all: a one in each span, 0 elsewhere.
   */
  readonly encoding?: { readonly dpf: readonly number[] };
}

export interface ProgramOutput {
  readonly name: string;
  /** A `reveal` gate's output. */
  readonly tensor: number;
}

export interface Parameter {
  readonly min: number;
  readonly max: number;
  /** No shape depends on it, so one plan serves all its values; and each of a step's sequences has one (`past`, `past.1` …). */
  readonly shapes?: false;
  /** What is meant where it is not named. */
  readonly usual?: number;
}

export interface Program {
  readonly format: 'subrosa-program/2';
  readonly name: string;
  readonly weights: 'public' | 'private';
  /** SHA-256 of the public weights file, or of the masked one: binds the program to its weights. */
  readonly weightsHash: string;
  readonly params: Readonly<Record<string, Parameter>>;
  readonly tensors: readonly TensorDecl[];
  readonly inputs: readonly ProgramInput[];
  readonly outputs: readonly ProgramOutput[];
  readonly gates: readonly GateNode[];
}

/** Value of a dimension expression: integers and parameter names joined by + - * (no parentheses). */
export function dim(d: Dim, params: Params): number {
  if (typeof d === 'number') return d;
  let total = 0;
  for (const [, sign, term] of d.matchAll(/([+-]?)([^+-]+)/g)) {
    let v = 1;
    for (const factor of term.split('*')) {
      const f = factor.trim();
      const value = /^\d+$/.test(f) ? Number(f) : params[f];
      if (value === undefined) throw new ProgramError(`dimension '${d}' needs the parameter '${f}', got ${Object.keys(params).join(', ') || 'none'}`);
      v *= value;
    }
    total += sign === '-' ? -v : v;
  }
  return total;
}

/** These parameters, and the usual values of those not named. */
export function withUsual(declared: Program['params'], params: Params): Params {
  const usual = Object.entries(declared).flatMap(([name, p]) => (p.usual === undefined ? [] : [[name, p.usual]]));
  return { ...Object.fromEntries(usual), ...params };
}

/** What a step with these parameters has to name, and the limits of each. */
export function parametersOf(declared: Program['params'], params: Params): [name: string, limits: Parameter][] {
  const { sequences } = declared;
  const each = sequences && params.sequences >= 1 && params.sequences <= sequences.max ? Math.floor(params.sequences) : 1;
  return Object.entries(declared).flatMap(([name, limits]) =>
    Array.from({ length: limits.shapes === false ? each : 1 }, (_, i): [string, Parameter] => [numbered(name, i), limits]),
  );
}

/** The largest step: each parameter at its most, the rows a multiple of the sequences. */
export function mostParams({ params }: Pick<Program, 'params'>, sequences = params.sequences?.max): Params {
  const most = Object.fromEntries(Object.entries(params).map(([name, { max }]) => [name, max]));
  return sequences === undefined ? most : { ...most, sequences, n: most.n - (most.n % sequences) };
}

const known = new WeakMap<object, boolean>();

/** Whether a choice by parameter, or a dimension, stands in a JSON value. Programs do not change and are bound for many parameters: found once. */
export function varies(value: unknown): boolean {
  if (value === null || typeof value !== 'object') return false;
  let v = known.get(value);
  if (v === undefined) {
    v = Array.isArray(value) ? value.some((x) => typeof x === 'object' && varies(x)) : 'dim' in value || 'by' in value || Object.values(value).some(varies);
    known.set(value, v);
  }
  return v;
}

/** Replaces every choice by parameter, and every dimension, in a JSON value by its value for `params`. */
export function resolve<T>(value: T, params: Params): T {
  if (!varies(value)) return value;
  if (Array.isArray(value)) return value.map((v) => resolve(v, params)) as T;
  const v = value as Record<string, unknown>;
  if ('dim' in v) return dim(v.dim as Dim, params) as T;
  if ('by' in v && Array.isArray(v.upTo) && Array.isArray(v.then)) {
    const p = params[v.by as string];
    const i = (v.upTo as number[]).findIndex((limit) => p <= limit);
    if (p === undefined || i < 0) throw new ProgramError(`no case for ${String(v.by)} = ${p}: the program was compiled for ${String(v.by)} ≤ ${(v.upTo as number[]).at(-1)}`);
    return resolve((v.then as T[])[i], params);
  }
  return Object.fromEntries(Object.entries(v).map(([k, x]) => [k, resolve(x, params)])) as T;
}

/** A dimension inside attributes. */
export const dimAttr = (d: Dim): number => (typeof d === 'number' ? d : ({ dim: d } as unknown as number));

/** A choice by parameter; collapses to the plain value when all cases are equal. */
export function byParam<T>(by: string, upTo: readonly number[], then: readonly T[]): T {
  const first = JSON.stringify(then[0]);
  return then.every((t) => JSON.stringify(t) === first) ? then[0] : ({ by, upTo, then } as unknown as T);
}
