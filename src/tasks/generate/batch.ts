/**
 * Sequences of one session at two parties, which step together: while a step is under way, others ask for theirs, and all that bring as many
 * tokens are rows of the next one. Rounds are what a token takes, and one step's serve them all. No Node imports.
 */
import { SubrosaError } from '../../client/errors.ts';
import type { Graph, Tensor } from '../../graph/graph.ts';
import { interpret } from '../../graph/interpret.ts';
import { sequenceParams } from '../../program/program.ts';
import { type Decoder, inputRows } from './decoder.ts';

/** Real values of a step's inputs or outputs. */
export type StepValues = Readonly<Record<string, { readonly shape: readonly number[]; readonly data: ArrayLike<number> }>>;

/**
 * One step of ONE session with the parties: the outputs for these inputs. Where a step fails the session is over, and the next step is another's, whose
 * caches are empty.
 */
export type RunStep = (inputs: StepValues, params: Readonly<Record<string, number>>, signal?: AbortSignal) => Promise<StepValues>;

export interface DecoderLimits {
  /** New rows a step takes. */
  readonly n: number;
  /** Rows a sequence may have, the prefix counted. */
  readonly keys: number;
  /** Rows that every sequence begins with. */
  readonly prefix: number;
  /** Sequences a session may have. */
  readonly sequences: number;
}

export interface PrivateDecoder extends Decoder {
  /** Goes back to the first `length` rows: what comes next overwrites the others. Throws RangeError for rows that are not there. */
  rewind(length: number): void;
}

export interface BatchedDecoder extends PrivateDecoder {
  /** Gives its place back. */
  close(): void;
}

/** What a program's parameters say of its sequences. Throws RangeError for a program that keeps no rows. */
export function limitsOf(params: Readonly<Record<string, { readonly min: number; readonly max: number }>>): DecoderLimits {
  const { n, keys, past, sequences } = params;
  if (!n || !keys || !past || !sequences) throw new RangeError('the program keeps no rows from step to step: it is no language model');
  return { n: n.max, keys: keys.max, prefix: past.min, sequences: sequences.max };
}

/**
 * Rows of the cache that a step sees, `n` of them its own: whole strides, so that the parties plan once for many steps. A prompt is a plan of
 * its own anyway, and pays for each row it sees up to n times over: its strides are short.
 */
export function keysFor(rows: number, most: number, n = 1): number {
  const stride = n > 1 ? 4 : 64;
  return Math.min(most, stride * Math.ceil(rows / stride));
}

/** A piece of a sequence that waits for its step. */
interface Wanted {
  readonly sequence: Place;
  /** Its tokens, how many, as the private graph takes them. */
  readonly rows: Readonly<Record<string, Tensor>>;
  readonly n: number;
  readonly signal?: AbortSignal;
  /** Under way; alone, `run` has its signal. */
  in?: 'alone' | 'together';
  /** Nobody waits for it any more. */
  left?: boolean;
  resolve(logits: Float32Array): void;
  reject(reason: unknown): void;
}

/** A sequence's place in the session. */
interface Place {
  readonly slot: number;
  /** Rows that are there. */
  length: number;
  /** Why the rows are gone. */
  lost?: unknown;
}

export class Batch {
  private readonly open = new Set<Place>();
  private waiting: Wanted[] = [];
  private working = false;

  constructor(
    private readonly run: RunStep,
    private readonly client: { readonly before: Graph; readonly after: Graph },
    private readonly limits: DecoderLimits,
  ) {}

  get size(): number {
    return this.open.size;
  }

  /** A new sequence: it begins with the prefix. Throws RangeError when there are as many as the session takes. */
  decoder(): BatchedDecoder {
    const { limits } = this;
    const taken = new Set(Array.from(this.open, (p) => p.slot));
    const slot = Array.from({ length: limits.sequences }, (_, i) => i).find((i) => !taken.has(i));
    if (slot === undefined) throw new RangeError(`${limits.sequences} sequences are open: a session takes no more`);
    const place: Place = { slot, length: limits.prefix };
    this.open.add(place);
    return {
      limit: limits.keys,
      get length() {
        return place.length;
      },
      rewind(to) {
        if (!(Number.isInteger(to) && to >= limits.prefix && to <= place.length))
          throw new RangeError(`rows ${limits.prefix} to ${place.length} can be gone back to, not ${to}`);
        place.length = to;
        if (to === limits.prefix) place.lost = undefined;
      },
      step: async (ids, signal) => {
        if (ids.length === 0) throw new RangeError('no token to go on with');
        if (place.length + ids.length > limits.keys)
          throw new RangeError(`${place.length + ids.length} tokens; the program takes ${limits.keys}`);
        let logits: Float32Array = new Float32Array(0);
        for (let at = 0; at < ids.length; at += limits.n) logits = await this.ask(place, ids.slice(at, at + limits.n), signal);
        return logits;
      },
      close: () => void this.open.delete(place),
    };
  }

  private ask(sequence: Place, ids: readonly number[], signal?: AbortSignal): Promise<Float32Array> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      if (sequence.lost !== undefined) return reject(sequence.lost);
      const leave = (): void => {
        if (wanted.in === 'alone') return;
        // A step of several goes on for the others; what it leaves of this one is nobody's.
        if (wanted.in === 'together') sequence.lost = new SubrosaError('ended', 'a step of this sequence was given up');
        this.waiting = this.waiting.filter((w) => w !== wanted);
        wanted.left = true;
        reject(signal?.reason);
      };
      const wanted: Wanted = {
        sequence,
        // Here, not when they step: tokens that the model does not have are nobody else's fault.
        rows: inputRows(this.client.before, ids, sequence.length),
        n: ids.length,
        signal,
        resolve: (logits) => {
          signal?.removeEventListener('abort', leave);
          resolve(logits);
        },
        reject: (reason) => {
          signal?.removeEventListener('abort', leave);
          reject(reason);
        },
      };
      signal?.addEventListener('abort', leave, { once: true });
      this.waiting.push(wanted);
      if (!this.working) void this.work();
    });
  }

  private async work(): Promise<void> {
    this.working = true;
    while (this.waiting.length > 0) {
      // Those whose last step was the same one are about to ask for the next.
      if (this.open.size > 1) await new Promise((resolve) => setTimeout(resolve));
      const list = this.next();
      if (list.length > 0) await this.step(list);
    }
    this.working = false;
  }

  /** Takes those that step together: the one that waits longest, and all that bring as many tokens. */
  private next(): Wanted[] {
    const [first] = this.waiting;
    if (!first) return [];
    const most = Math.min(this.limits.sequences, Math.floor(this.limits.n / first.n));
    const list = this.waiting.filter((w) => w.n === first.n).slice(0, most);
    this.waiting = this.waiting.filter((w) => !list.includes(w));
    return list;
  }

  private async step(list: readonly Wanted[]): Promise<void> {
    const [{ n }] = list;
    const alone = this.open.size === 1;
    for (const w of list) w.in = alone ? 'alone' : 'together';
    try {
      const longest = Math.max(...list.map((w) => w.sequence.length + n));
      const params = {
        keys: keysFor(longest, this.limits.keys, n),
        ...sequenceParams(list.map(({ sequence: { slot, length } }) => ({ slot, past: length }))),
      };
      const outputs = await this.run(joined(list.map((w) => w.rows)), params, alone ? list[0].signal : undefined);
      for (const [i, w] of list.entries()) {
        if (w.left) continue;
        w.sequence.length += n;
        w.resolve(this.logits(outputs, i));
      }
    } catch (e) {
      for (const w of list) w.reject(e);
      // The session is over, and every sequence's rows with it.
      const why =
        e instanceof SubrosaError && e.retryable
          ? e
          : new SubrosaError('ended', 'the session ended with the step of another sequence', { cause: e });
      for (const place of this.open) if (place.length > this.limits.prefix || list.some((w) => w.sequence === place)) place.lost = why;
      const leaning = this.waiting.filter((w) => w.sequence.lost !== undefined);
      this.waiting = this.waiting.filter((w) => !leaning.includes(w));
      for (const w of leaning) w.reject(why);
    }
  }

  /** The client's part after a step, on sequence i's row of the outputs. */
  private logits(outputs: StepValues, i: number): Float32Array {
    const { after } = this.client;
    const inputs = after.inputs.map(({ name, dtype }) => {
      const { shape, data } = outputs[name];
      const width = shape.slice(1).reduce((a, b) => a * b, 1);
      const row = Float32Array.from({ length: width }, (_, j) => data[i * width + j]);
      return [name, { dtype, shape: [1, ...shape.slice(1)], data: row }] as const;
    });
    return Object.values(interpret(after, Object.fromEntries(inputs)))[0].data as Float32Array;
  }
}

/** The inputs of several sequences, one below the other. */
function joined(all: readonly Readonly<Record<string, Tensor>>[]): StepValues {
  const [first] = all;
  if (all.length === 1) return first;
  return Object.fromEntries(
    Object.entries(first).map(([name, { shape, data }]) => {
      const rows = new Float64Array(all.length * data.length);
      for (const [i, one] of all.entries()) rows.set(one[name].data, i * data.length);
      return [name, { shape: [all.length * shape[0], ...shape.slice(1)], data: rows }];
    }),
  );
}

/** One sequence, in a session of its own. */
export const privateDecoder = (
  run: RunStep,
  client: { readonly before: Graph; readonly after: Graph },
  limits: DecoderLimits,
): PrivateDecoder => new Batch(run, client, limits).decoder();
