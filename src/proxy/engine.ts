/** One text after another from models: whose turn it is, which cache it goes on from, and what may come next. */
import { SubrosaError } from '../client/errors.ts';
import { ModelError } from '../graph/graph.ts';
import { type Ending, type GenerateOptions, generate, type Piece, type SchemaConstraint } from '../tasks/generate/index.ts';
import { bad } from './errors.ts';
import type { TextModel } from './models.ts';
import type { SamplingRequest } from './schema.ts';
import { close, type KeepLimits, type Sequence, Sequences } from './sequences.ts';
import { Turns } from './turns.ts';

export interface EngineLimits extends KeepLimits {
  /** Generations that compute at the same time, and those that may wait. */
  readonly atOnce: number;
  readonly queue: number;
}

export const engineLimits: EngineLimits = { atOnce: 8, queue: 64, bytes: 2 ** 30, count: 8, seconds: 300 };

export interface Job {
  readonly model: TextModel;
  /** Whose kept sequences it may go on from. */
  readonly owner: string;
  /** Tokens after the model's public prefix. */
  readonly prompt: readonly number[];
  readonly options: Omit<GenerateOptions, 'constraint' | 'signal' | 'eos'>;
  /** JSON that the text must be. */
  readonly schema?: object;
  readonly signal: AbortSignal;
}

export interface Ended extends Ending {
  /** Tokens of the prompt that a cache held already. */
  readonly cached: number;
}

export class Engine {
  private readonly turns: Turns;
  readonly sequences: Sequences;
  readonly atOnce: number;

  constructor(limits: EngineLimits) {
    this.atOnce = limits.atOnce;
    this.turns = new Turns(limits.atOnce, limits.queue);
    this.sequences = new Sequences(limits);
  }

  /** Throws ApiError, what a decoder throws, and what `signal` was aborted with. */
  async *run({ model, owner, prompt, options, schema, signal }: Job): AsyncGenerator<Piece, Ended> {
    const done = await this.turns.take(signal);
    const opened = async (): Promise<Sequence> => ({ model, owner, decoder: await model.open(signal), ids: [] });
    let constraint: SchemaConstraint | undefined;
    let sequence: Sequence | undefined;
    let whole = true;
    try {
      if (schema) constraint = await constrained(model, schema);
      // A repetition penalty counts the prompt's tokens, those in a cache too: it needs to be given them all.
      const kept = (options.repetitionPenalty ?? 1) === 1 ? this.sequences.take(model, owner, prompt) : undefined;
      let now = kept ?? (await opened());
      sequence = now;
      let cached = now.ids.length;
      const recorded = {
        limit: now.decoder.limit,
        length: now.decoder.length,
        step: async (next: readonly number[]): Promise<Float32Array> => {
          // Where a step fails, nobody knows what the cache holds.
          whole = false;
          for (;;)
            try {
              const logits = await now.decoder.step(next, signal);
              now.ids.push(...next);
              whole = true;
              return logits;
            } catch (e) {
              if (!(await this.madeRoom(e, now.ids.length > 0))) throw e;
              signal.throwIfAborted();
              close(now);
              // All that the cache held is read again.
              next = [...now.ids, ...next];
              now = await opened();
              sequence = now;
              cached = 0;
            }
        },
      };
      const run = generate(recorded, model.tokenizer, prompt.slice(cached), { ...options, eos: model.eos, constraint, signal });
      const ending = yield* run;
      return { ...ending, cached };
    } finally {
      constraint?.dispose();
      if (sequence && whole) this.sequences.keep(sequence);
      else if (sequence) close(sequence);
      done();
    }
  }

  /**
   * Whether a step that failed may go better in a fresh sequence: when it leaned on a cache, which parties let go of as they like, and which
   * is gone where another sequence of its session failed; or when a sequence that is kept for later can make room for it.
   */
  private async madeRoom(e: unknown, leaned: boolean): Promise<boolean> {
    if (!(e instanceof SubrosaError && e.retryable)) return false;
    return leaned || ((e.code === 'busy' || e.code === 'out-of-memory') && this.sequences.dropOldest());
  }
}

async function constrained(model: TextModel, schema: object): Promise<SchemaConstraint> {
  if (model.eos.length === 0) throw bad('this model has no token that ends a text, so it cannot follow a schema', 'response_format');
  try {
    return await model.constrain(schema);
  } catch (e) {
    throw e instanceof ModelError ? bad(e.message, 'response_format') : e;
  }
}

/** A prompt's tokens as the decoder takes them, and room for at least one more. Throws ApiError. */
export function promptTokens(model: TextModel, given: string | readonly number[], param: string): readonly number[] {
  const all = typeof given === 'string' ? model.tokenizer.ids(given) : given;
  const { prefix } = model;
  // Templates write the beginning of a text out; the decoder has it already.
  const ids = prefix.length > 0 && prefix.every((id, i) => all[i] === id) ? all.slice(prefix.length) : all;
  if (ids.length === 0) throw bad(`'${param}': the prompt is empty`, param);
  if (ids.length >= model.room)
    throw bad(
      `'${param}': the prompt takes ${ids.length} tokens; the model takes ${model.room} with its answer`,
      param,
      'context_length_exceeded',
    );
  return ids;
}

/** The sampler's settings. `i`: choices of one request differ, and are the same ones again for the same seed. */
export function settings(model: TextModel, r: SamplingRequest, maxTokens: number | null | undefined, i: number): Job['options'] {
  const bias = Object.entries(r.logit_bias ?? {}).map(([id, value]) => [Number(id), value] as const);
  const beyond = bias.length > 0 && bias.find(([id]) => id >= model.tokenizer.vocabulary().length);
  if (beyond) throw bad(`'logit_bias': the model has no token ${beyond[0]}`, 'logit_bias');
  return {
    maxTokens: maxTokens ?? model.room,
    temperature: r.temperature ?? undefined,
    topP: r.top_p ?? undefined,
    topK: r.top_k ?? undefined,
    minP: r.min_p ?? undefined,
    repetitionPenalty: r.repetition_penalty ?? undefined,
    frequencyPenalty: r.frequency_penalty ?? undefined,
    presencePenalty: r.presence_penalty ?? undefined,
    logitBias: new Map(bias),
    seed: r.seed == null ? undefined : r.seed + i,
    stop: [r.stop ?? []].flat(),
  };
}

export interface Usage {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly total_tokens: number;
  readonly prompt_tokens_details: { readonly cached_tokens: number };
}
export const usageOf = (prompt: number, completion: number, cached: number): Usage => ({
  prompt_tokens: prompt,
  completion_tokens: completion,
  total_tokens: prompt + completion,
  prompt_tokens_details: { cached_tokens: cached },
});
