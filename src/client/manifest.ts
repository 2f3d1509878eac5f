/**
 * What a client has to know of a program: how inputs are encoded and outputs decoded, nothing else. Both parties answer with the same
 * bytes of it, and a client compares them before it shares anything.
 *
 * No Node imports here or in anything this folder imports: browsers run it.
 */
import { type Dim, type Params, type Program, ProgramError } from '../program/program.ts';

export interface ManifestInput {
  readonly name: string;
  readonly shape: readonly Dim[];
  /** Values are rounded to multiples of 1/scale and refused outside ±bound. */
  readonly scale: number;
  readonly bound: number;
  /** Values are places, one for each of these spans, and each is sent as two keys of a point function (docs/client.md). */
  readonly encoding?: { readonly dpf: readonly number[] };
}

/** `bits` and `scale` may be choices by parameter, as in a program: `resolve` settles them. */
export interface ManifestOutput {
  readonly name: string;
  readonly shape: readonly Dim[];
  /** Output words are shares over Z_2^bits. */
  readonly bits: number;
  /** One for all, or one for each place of the last axis. */
  readonly scale: number | readonly number[];
}

/** A file clients may fetch: tokenizer, the graphs from a person's data to inputs and from outputs to the answer. */
export interface ManifestFile {
  readonly bytes: number;
  readonly sha256: string;
}

export interface Manifest {
  readonly format: 'subrosa-manifest/1';
  readonly name: string;
  /** SHA-256 of program.json, in hex. */
  readonly hash: string;
  readonly weights: 'public' | 'private';
  readonly params: Program['params'];
  readonly inputs: readonly ManifestInput[];
  readonly outputs: readonly ManifestOutput[];
  /** The task client.json names; 'tensors' without one. */
  readonly task: string;
  /** By name relative to client/; empty when the party was given none. */
  readonly files: Readonly<Record<string, ManifestFile>>;
}

export function manifestOf(program: Program, hash: string, task = 'tensors', files: Manifest['files'] = {}): Manifest {
  return {
    format: 'subrosa-manifest/1',
    name: program.name,
    hash,
    weights: program.weights,
    params: program.params,
    inputs: program.inputs.map(({ name, shape, scale, bound, encoding }) => ({
      name,
      shape,
      scale,
      bound,
      ...(encoding ? { encoding } : {}),
    })),
    outputs: program.outputs.map(({ name, tensor }) => {
      const reveal = program.gates.find((g) => g.out.includes(tensor));
      const { shape } = (reveal?.attrs ?? {}) as { shape?: readonly (number | { dim: Dim })[] };
      if (!shape) throw new ProgramError(`output '${name}': its reveal gate names no shape, so no client could read it`);
      const { bits, scale } = program.tensors[tensor];
      return { name, shape: shape.map((d) => (typeof d === 'number' ? d : d.dim)), bits, scale };
    }),
    task,
    files,
  };
}

export type { Params };
