/** Generation: prefill in one step, then a token a step, until an end, a stop string, a limit or an abort. */
import type { TextTokenizer } from '../text.ts';
import type { Decoder } from './decoder.ts';
import { randomOf } from './random.ts';
import {
  adjust,
  checkSampling,
  draw,
  likeliest,
  logProbabilities,
  type Sampling,
  type TokenMask,
  type TokenProbability,
} from './sample.ts';
import { StopStrings, TextStream } from './text.ts';

/** What may come next, from outside: a grammar that the text must follow (schema.ts). */
export interface Constraint {
  /** Undefined: anything may come. */
  next(): Promise<TokenMask | undefined>;
  accept(id: number): void;
}

export interface GenerateOptions extends Sampling {
  readonly maxTokens: number;
  /** The same seed draws the same tokens from the same logits. */
  readonly seed?: number;
  /** Tokens that end the text; they are not part of it. */
  readonly eos?: readonly number[];
  readonly stop?: readonly string[];
  readonly constraint?: Constraint;
  /** Give the k likeliest tokens of each step too. */
  readonly alternatives?: number;
  readonly signal?: AbortSignal;
}

export interface Piece {
  readonly id: number;
  /** Text that became certain with this token; often its own, sometimes none yet. */
  readonly text: string;
  /** Before sampling settings: what the model says. */
  readonly logprob: number;
  readonly alternatives?: readonly TokenProbability[];
}

export interface Ending {
  /** 'stop': an end token or a stop string came; 'length': maxTokens, or the model takes no more. */
  readonly reason: 'stop' | 'length';
  readonly stopString?: string;
  /** Text that was held back and belongs to the end. */
  readonly text: string;
}

/**
 * Appends `prompt` to the decoder's sequence and goes on from there; each token as it comes. The last token given is not in the
 * decoder's cache. Throws RangeError for settings out of range or a prompt that leaves no room, and what `signal` was aborted with.
 */
export async function* generate(
  decoder: Decoder,
  tokenizer: Pick<TextTokenizer, 'decode'>,
  prompt: readonly number[],
  options: GenerateOptions,
): AsyncGenerator<Piece, Ending> {
  checkSampling(options);
  if (prompt.length === 0) throw new RangeError('the prompt is empty');
  if (decoder.length + prompt.length >= decoder.limit)
    throw new RangeError(
      `the prompt takes ${prompt.length} tokens after ${decoder.length}; the model takes ${decoder.limit} with its answer`,
    );
  const { signal, constraint, alternatives } = options;
  const eos = new Set(options.eos);
  const random = randomOf(options.seed);
  const stream = new TextStream(tokenizer, prompt);
  const stops = new StopStrings(options.stop ?? []);
  const generated: number[] = [];
  const most = Math.min(options.maxTokens, decoder.limit - decoder.length - prompt.length);
  let next: readonly number[] = prompt;
  while (generated.length < most) {
    signal?.throwIfAborted();
    const logits = await decoder.step(next, signal);
    const id = draw(adjust(logits, options, prompt, generated, await constraint?.next()), options, random);
    if (eos.has(id)) return { reason: 'stop', text: stops.push(stream.end()) + stops.end() };
    constraint?.accept(id);
    generated.push(id);
    next = [id];
    const text = stops.push(stream.push(id));
    const logprobs = logProbabilities(logits);
    yield { id, text, logprob: logprobs[id], ...(alternatives ? { alternatives: likeliest(logprobs, alternatives) } : {}) };
    if (stops.found !== undefined) return { reason: 'stop', stopString: stops.found, text: '' };
  }
  const text = stops.push(stream.end());
  const found = stops.found;
  return found === undefined ? { reason: 'length', text: text + stops.end() } : { reason: 'stop', stopString: found, text };
}
