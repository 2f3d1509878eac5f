import { Tokenizer } from '@huggingface/tokenizers';
import { ModelError, type Tensor, tensor } from '../graph/graph.ts';

/**
 * Text on the client's machine: characters → token ids → the inputs of `client.before`. No Node imports: a browser runs it too
 * (text-file.ts reads the tokenizer from a model folder).
 */
export interface Encoded {
  readonly ids: readonly number[];
  /** 0 for the first text, 1 for its pair. */
  readonly types: readonly number[];
  readonly tokens: readonly string[];
  /** How many tokens did not fit and were left out at the end. */
  readonly cut: number;
}

export interface TextTokenizer {
  /** With the special tokens; cut to `maxTokens` (special ones kept) when that is given. */
  encode(text: string, options?: { pair?: string; maxTokens?: number }): Encoded;
  decode(ids: readonly number[], options?: { specials?: boolean }): string;
  tokenId(token: string): number | undefined;
}

/** From the parsed tokenizer.json and tokenizer_config.json. */
export function makeTokenizer(json: object, config: object = {}, label = 'tokenizer.json'): TextTokenizer {
  let tokenizer: Tokenizer;
  try {
    tokenizer = new Tokenizer(json, config);
  } catch (e) {
    throw new ModelError(`${label}: not a tokenizer this program can run: ${(e as Error).message}`);
  }
  const all = (text: string, pair?: string): Encoded => {
    const e = tokenizer.encode(text, { text_pair: pair ?? null, return_token_type_ids: true });
    return { ids: e.ids, types: e.token_type_ids, tokens: e.tokens, cut: 0 };
  };
  return {
    encode(text, { pair, maxTokens } = {}) {
      const whole = all(text, pair);
      if (maxTokens === undefined || whole.ids.length <= maxTokens) return whole;
      // Which of two texts to cut is the caller's business: half an answer's context is not its context.
      if (pair !== undefined) throw new RangeError(`the two texts take ${whole.ids.length} tokens, the model ${maxTokens}: shorten one`);
      return cutTo(whole, tokenizer.encode(text, { add_special_tokens: false }).ids, maxTokens);
    },
    decode: (ids, { specials = false } = {}) => tokenizer.decode([...ids], { skip_special_tokens: !specials }),
    tokenId: (token) => tokenizer.token_to_id(token),
  };
}

/** Drops the end of the content, which stands somewhere between the special tokens around it. */
function cutTo(whole: Encoded, content: readonly number[], maxTokens: number): Encoded {
  const extra = whole.ids.length - content.length;
  let before = 0;
  while (before < extra && !content.every((id, i) => whole.ids[before + i] === id)) before++;
  const keep = maxTokens - extra;
  if (keep < 0) throw new RangeError(`${maxTokens} tokens cannot hold the ${extra} special ones alone`);
  const pick = <T>(list: readonly T[]): T[] => [...list.slice(0, before + keep), ...list.slice(before + content.length)];
  return { ids: pick(whole.ids), types: pick(whole.types), tokens: pick(whole.tokens), cut: content.length - keep };
}

/** What `client.before` of a text encoder takes. */
export function textInputs(encoded: Pick<Encoded, 'ids' | 'types'>, firstPosition = 0): Record<string, Tensor> {
  const n = encoded.ids.length;
  const positions = Array.from({ length: n }, (_, i) => firstPosition + i);
  return {
    input_ids: tensor(encoded.ids, [n], 'i64'),
    position_ids: tensor(positions, [n], 'i64'),
    token_type_ids: tensor(encoded.types, [n], 'i64'),
  };
}

/** Of two vectors of length 1 as of any others. */
export function cosine(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) throw new RangeError(`vectors of ${a.length} and ${b.length} values`);
  let [ab, aa, bb] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    ab += a[i] * b[i];
    aa += a[i] * a[i];
    bb += b[i] * b[i];
  }
  return aa === 0 || bb === 0 ? 0 : ab / Math.sqrt(aa * bb);
}

export interface Ranked {
  readonly label: string;
  readonly probability: number;
}
/** The k likeliest classes of one row of probabilities. */
export function top(probabilities: ArrayLike<number>, labels: readonly string[], k = 5): Ranked[] {
  const all = Array.from(probabilities, (probability, i) => ({ label: labels[i] ?? `${i}`, probability }));
  return all.sort((a, b) => b.probability - a.probability).slice(0, k);
}
