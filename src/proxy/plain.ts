/** Models that run in plaintext, in this process: for trying out, and for tests. */
import { z } from 'zod';
import type { Graph } from '../graph/graph.ts';
import { interpret } from '../graph/interpret.ts';
import type { Language } from '../import/language.ts';
import { answerOf } from '../tasks/answer.ts';
import { programInputs } from '../tasks/encoded.ts';
import { plainDecoder, prefixCaches, schemaConstraint } from '../tasks/generate/index.ts';
import type { TextTokenizer } from '../tasks/text.ts';
import type { EmbeddingModel, TextModel } from './models.ts';

const Special = z
  .union([z.string(), z.object({ content: z.string() }).transform((t) => t.content)])
  .optional()
  .catch(undefined);
const Specials = z.object({ bos_token: Special, eos_token: Special });

/** What a text model is but for where it computes. */
export function described(
  language: Language,
  tokenizer: TextTokenizer,
  prefix: readonly number[],
): Omit<TextModel, 'open' | 'bytesPerToken'> {
  const { bos_token: bosToken, eos_token: eosToken } = Specials.parse(language.tokenizerConfig);
  const size = language.client.after.inputs[0].shape[1] as number;
  return {
    kind: 'text',
    created: Math.floor(Date.now() / 1000),
    tokenizer,
    eos: language.eos,
    prefix,
    room: language.meta.maxTokens - prefix.length,
    chatTemplate: language.chatTemplate,
    bosToken,
    eosToken,
    constrain: (schema) =>
      schemaConstraint(schema, { tokens: tokenizer.vocabulary(), tokenizer: language.tokenizer, size, eos: language.eos }),
  };
}

export function plainText(language: Language, tokenizer: TextTokenizer, prefix: readonly number[]): TextModel {
  const caches = prefixCaches(language, prefix);
  const width = Object.values(caches).reduce((sum, t) => sum + t.shape[1], 0);
  return {
    ...described(language, tokenizer, prefix),
    // Floats, and as much again where memory has just doubled.
    bytesPerToken: 2 * 4 * width,
    open: () => plainDecoder(language, caches),
  };
}

export interface PlainEncoder {
  readonly graph: Graph;
  readonly before: Graph;
  readonly after: Graph;
  readonly info: { readonly task: string; readonly labels: readonly string[]; readonly maxTokens: number; readonly firstPosition: number };
}

export function plainEncoder({ graph, before, after, info }: PlainEncoder, tokenizer: TextTokenizer): EmbeddingModel {
  return {
    kind: 'embedding',
    created: Math.floor(Date.now() / 1000),
    maxTokens: info.maxTokens,
    count: (text) => tokenizer.encode(text).ids.length,
    async embed(texts, signal) {
      const vectors: Float32Array[] = [];
      for (const text of texts) {
        // Others get a turn, and whoever waits to abort.
        await new Promise((resolve) => setTimeout(resolve));
        signal.throwIfAborted();
        const outputs = interpret(graph, programInputs({ before, firstPosition: info.firstPosition }, tokenizer.encode(text)));
        vectors.push(Float32Array.from(answerOf({ ...info, after }, outputs).outputs.sentence_embedding.data));
      }
      return vectors;
    },
  };
}
