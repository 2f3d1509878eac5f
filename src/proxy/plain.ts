/** Models that run in plaintext, in this process: for trying out, and for tests. */
import type { Graph } from '../graph/graph.ts';
import { interpret } from '../graph/interpret.ts';
import type { Language } from '../import/language.ts';
import { answerOf } from '../tasks/answer.ts';
import { programInputs } from '../tasks/encoded.ts';
import { plainDecoder, prefixCaches } from '../tasks/generate/index.ts';
import type { TextTokenizer } from '../tasks/text.ts';
import { type EmbeddingModel, type TextModel, textModel } from './models.ts';

export function plainText(language: Language, tokenizer: TextTokenizer, prefix: readonly number[]): TextModel {
  const caches = prefixCaches(language, prefix);
  const width = Object.values(caches).reduce((sum, t) => sum + t.shape[1], 0);
  return {
    ...textModel({
      tokenizer,
      tokenizerJson: language.tokenizer,
      tokenizerConfig: language.tokenizerConfig,
      generation: { ...language, prefix },
      maxTokens: language.meta.maxTokens,
      after: language.client.after,
    }),
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
