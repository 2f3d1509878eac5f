/**
 * A decoder on shares. The client looks its tokens up and shares the rows, or sends keys of the tokens, and adds the logits up; the caches stay
 * with the parties, in the session that `run` belongs to. No Node imports.
 */
import type { Graph } from '../../graph/graph.ts';
import { interpret } from '../../graph/interpret.ts';
import { type Decoder, inputRows } from './decoder.ts';

/** Real values of a step's inputs or outputs. */
export type StepValues = Readonly<Record<string, { readonly shape: readonly number[]; readonly data: ArrayLike<number> }>>;

/** One step of ONE session with the parties: the outputs for these inputs. Never another session's, whose caches are empty. */
export type RunStep = (inputs: StepValues, params: Readonly<Record<string, number>>, signal?: AbortSignal) => Promise<StepValues>;

export interface DecoderLimits {
  /** New rows a step takes. */
  readonly n: number;
  /** Rows a sequence may have, the prefix counted. */
  readonly keys: number;
  /** Rows that every sequence begins with. */
  readonly prefix: number;
}

export interface PrivateDecoder extends Decoder {
  /** Goes back to the first `length` rows: what comes next overwrites the others. Throws RangeError for rows that are not there. */
  rewind(length: number): void;
}

/** What a program's parameters say of its sequences. Throws RangeError for a program that keeps no rows. */
export function limitsOf(params: Readonly<Record<string, { readonly min: number; readonly max: number }>>): DecoderLimits {
  const { n, keys, past } = params;
  if (!n || !keys || !past) throw new RangeError('the program keeps no rows from step to step: it is no language model');
  return { n: n.max, keys: keys.max, prefix: past.min };
}

/**
 * Rows of the cache that a step sees, `n` of them its own: whole strides, so that the parties plan once for many steps. A prompt is a plan of
 * its own anyway, and pays for each row it sees up to n times over: its strides are short.
 */
export function keysFor(rows: number, most: number, n = 1): number {
  const stride = n > 1 ? 4 : 64;
  return Math.min(most, stride * Math.ceil(rows / stride));
}

export function privateDecoder(
  run: RunStep,
  client: { readonly before: Graph; readonly after: Graph },
  limits: DecoderLimits,
): PrivateDecoder {
  let length = limits.prefix;
  return {
    limit: limits.keys,
    get length() {
      return length;
    },
    rewind(to) {
      if (!(Number.isInteger(to) && to >= limits.prefix && to <= length))
        throw new RangeError(`rows ${limits.prefix} to ${length} can be gone back to, not ${to}`);
      length = to;
    },
    async step(ids, signal) {
      if (ids.length === 0) throw new RangeError('no token to go on with');
      if (length + ids.length > limits.keys) throw new RangeError(`${length + ids.length} tokens; the program takes ${limits.keys}`);
      let outputs: StepValues = {};
      for (let at = 0; at < ids.length; at += limits.n) {
        signal?.throwIfAborted();
        const piece = ids.slice(at, at + limits.n);
        const rows = length + piece.length;
        outputs = await run(inputRows(client.before, piece, length), { keys: keysFor(rows, limits.keys, piece.length), past: length }, signal);
        length = rows;
      }
      const after = client.after.inputs.map(({ name, dtype }) => {
        const { shape, data } = outputs[name];
        return [name, { dtype, shape, data: Float32Array.from(data) }] as const;
      });
      return Object.values(interpret(client.after, Object.fromEntries(after)))[0].data as Float32Array;
    },
  };
}
