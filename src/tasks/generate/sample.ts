/** From logits to the next token. Pure functions: logits come to the client alone, and the choice is made there. */
import type { Random } from './random.ts';

export interface Sampling {
  /** 0: the likeliest token, always. 1 unless said. */
  readonly temperature?: number;
  /** Of the k likeliest tokens only; 0: of all. */
  readonly topK?: number;
  /** Of the likeliest tokens that together have this probability. */
  readonly topP?: number;
  /** Of tokens at least this likely, as a part of the likeliest's probability. */
  readonly minP?: number;
  /** Logits of tokens that were there are divided by this when positive, multiplied when negative; 1: no change. */
  readonly repetitionPenalty?: number;
  /** Taken off a generated token's logit for each time it was there, and once if it was there at all. */
  readonly frequencyPenalty?: number;
  readonly presencePenalty?: number;
  /** Added to logits. */
  readonly logitBias?: ReadonlyMap<number, number>;
}

/** Throws RangeError for a setting outside its range. */
export function checkSampling(s: Sampling): void {
  const within = (name: keyof Sampling, low: number, high: number): void => {
    const v = s[name];
    if (v !== undefined && !(typeof v === 'number' && v >= low && v <= high))
      throw new RangeError(`${name} ${v}: from ${low} to ${high} is expected`);
  };
  within('temperature', 0, 100);
  within('topK', 0, 1 << 24);
  within('topP', 0, 1);
  within('minP', 0, 1);
  within('repetitionPenalty', 0.01, 100);
  within('frequencyPenalty', -100, 100);
  within('presencePenalty', -100, 100);
  for (const [id, bias] of s.logitBias ?? [])
    if (!Number.isInteger(id) || id < 0 || Number.isNaN(bias)) throw new RangeError(`logitBias ${id}: ${bias}`);
}

/** Bit id of word id/32: the token may come. */
export type TokenMask = Int32Array;
const allowed = (mask: TokenMask, id: number): boolean => ((mask[id >> 5] >> (id & 31)) & 1) === 1;

/** The logits after biases, penalties and mask: a copy. `prompt` and `generated` are the tokens so far. */
export function adjust(
  logits: Float32Array,
  s: Sampling,
  prompt: readonly number[],
  generated: readonly number[],
  mask?: TokenMask,
): Float32Array {
  const out = logits.slice();
  const penalty = s.repetitionPenalty ?? 1;
  if (penalty !== 1)
    for (const id of new Set([...prompt, ...generated])) if (id < out.length) out[id] = out[id] > 0 ? out[id] / penalty : out[id] * penalty;
  const [often, once] = [s.frequencyPenalty ?? 0, s.presencePenalty ?? 0];
  if (often !== 0 || once !== 0) {
    const counts = new Map<number, number>();
    for (const id of generated) counts.set(id, (counts.get(id) ?? 0) + 1);
    for (const [id, count] of counts) out[id] -= often * count + once;
  }
  for (const [id, bias] of s.logitBias ?? []) if (id < out.length) out[id] += bias;
  if (mask) for (let id = 0; id < out.length; id++) if (!allowed(mask, id)) out[id] = Number.NEGATIVE_INFINITY;
  return out;
}

/** The first of the largest. */
export function argmax(logits: ArrayLike<number>): number {
  let best = -1;
  for (let i = 0; i < logits.length; i++) if (best < 0 ? logits[i] > Number.NEGATIVE_INFINITY : logits[i] > logits[best]) best = i;
  if (best < 0) throw new RangeError('no token can come next');
  return best;
}

/**
 * The tokens that may come and their probabilities, likeliest first: softmax at the temperature, cut to topK, then topP, then minP, and
 * made to sum to 1 again. topP keeps the token that reaches it.
 */
export function candidates(logits: Float32Array, s: Sampling): { ids: Uint32Array; probabilities: Float64Array } {
  const temperature = s.temperature ?? 1;
  if (temperature === 0) return { ids: Uint32Array.of(argmax(logits)), probabilities: Float64Array.of(1) };
  let ids = Uint32Array.from({ length: logits.length }, (_, i) => i).filter((i) => logits[i] > Number.NEGATIVE_INFINITY);
  if (ids.length === 0) throw new RangeError('no token can come next');
  ids.sort((a, b) => logits[b] - logits[a] || a - b);
  if (s.topK) ids = ids.subarray(0, s.topK);
  const top = logits[ids[0]];
  const weights = Float64Array.from(ids, (id) => Math.exp((logits[id] - top) / temperature));
  const total = weights.reduce((a, b) => a + b, 0);
  let count = weights.length;
  if ((s.topP ?? 1) < 1) {
    count = 0;
    for (let sum = 0; count < weights.length && (count === 0 || sum < (s.topP as number) * total); count++) sum += weights[count];
  }
  // The likeliest has weight 1.
  while (count > 1 && weights[count - 1] < (s.minP ?? 0)) count--;
  const kept = weights.subarray(0, count);
  const sum = kept.reduce((a, b) => a + b, 0);
  return { ids: ids.subarray(0, count), probabilities: kept.map((w) => w / sum) };
}

/** One token, drawn. */
export function draw(logits: Float32Array, s: Sampling, random: Random): number {
  if (s.temperature === 0) return argmax(logits);
  const { ids, probabilities } = candidates(logits, s);
  let left = random();
  for (let i = 0; i < ids.length; i++) {
    left -= probabilities[i];
    if (left < 0) return ids[i];
  }
  return ids[ids.length - 1];
}

/** ln of softmax. */
export function logProbabilities(logits: Float32Array): Float32Array {
  const top = logits.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const sum = logits.reduce((a, b) => a + Math.exp(b - top), 0);
  const shift = top + Math.log(sum);
  return logits.map((v) => v - shift);
}

export interface TokenProbability {
  readonly id: number;
  readonly logprob: number;
}
/** The k likeliest tokens, likeliest first. */
export function likeliest(logprobs: Float32Array, k: number): TokenProbability[] {
  const best: TokenProbability[] = [];
  for (let id = 0; id < logprobs.length; id++) {
    const logprob = logprobs[id];
    if (best.length === k && !(logprob > (best.at(-1)?.logprob ?? Infinity))) continue;
    let at = best.length;
    while (at > 0 && best[at - 1].logprob < logprob) at--;
    best.splice(at, 0, { id, logprob });
    if (best.length > k) best.pop();
  }
  return best;
}
