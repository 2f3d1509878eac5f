import { Tokenizer } from '@huggingface/tokenizers';
import { ModelError } from '../graph/graph.ts';
import type { Encoded } from './encoded.ts';

export { type Ranked, top } from './answer.ts';
export { cosine, type Encoded, textInputs } from './encoded.ts';

/**
 * Text on the client's machine: characters → token ids → the inputs of `client.before`. No Node imports: a browser runs it too
 * (text-file.ts reads the tokenizer from a model folder).
 */
export interface TextTokenizer {
  /** With the special tokens; cut to `maxTokens` (special ones kept) when that is given. */
  encode(text: string, options?: { pair?: string; maxTokens?: number }): Encoded;
  decode(ids: readonly number[], options?: { specials?: boolean }): string;
  tokenId(token: string): number | undefined;
  /** The text alone, without the special tokens around it (those written out in the text are found). */
  ids(text: string): number[];
  /** Every token by its number, as the vocabulary spells it. */
  vocabulary(): string[];
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
    decode: (ids, { specials = false } = {}) => (ids.length === 0 ? '' : tokenizer.decode([...ids], { skip_special_tokens: !specials })),
    tokenId: (token) => tokenizer.token_to_id(token),
    ids: (text) => tokenizer.encode(text, { add_special_tokens: false }).ids,
    vocabulary() {
      const list: string[] = [];
      for (const [token, id] of tokenizer.get_vocab()) list[id] = token;
      return Array.from(list, (t) => t ?? '');
    },
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
