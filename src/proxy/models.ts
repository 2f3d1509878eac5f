/** What the proxy serves: models that go on from tokens, and models that make vectors, wherever they run. */
import { z } from 'zod';
import type { Graph } from '../graph/graph.ts';
import { type Decoder, type SchemaConstraint, schemaConstraint } from '../tasks/generate/index.ts';
import type { TextTokenizer } from '../tasks/text.ts';

interface Served {
  /** Seconds since 1970 at which it was first served here. */
  readonly created: number;
}

/** One sequence: its cache is held until it is closed. */
export interface OpenDecoder extends Decoder {
  /** Goes back to the first `length` rows, where it can. */
  rewind?(length: number): void;
  close?(): void | Promise<void>;
}

export interface TextModel extends Served {
  readonly kind: 'text';
  readonly tokenizer: TextTokenizer;
  /** Tokens that end a text or a turn. */
  readonly eos: readonly number[];
  /** Public tokens every decoder begins with; they are not given to it again. */
  readonly prefix: readonly number[];
  /** Tokens of prompt and answer together. */
  readonly room: number;
  /** Jinja; without one the model completes texts, and does not talk. */
  readonly chatTemplate?: string;
  readonly bosToken?: string;
  readonly eosToken?: string;
  /** Memory that a token holds in a decoder's cache, wherever that is. */
  readonly bytesPerToken: number;
  open(signal?: AbortSignal): OpenDecoder | Promise<OpenDecoder>;
  /** Throws ModelError for a schema that cannot be followed. */
  constrain(schema: object): Promise<SchemaConstraint>;
}

export interface EmbeddingModel extends Served {
  readonly kind: 'embedding';
  /** Tokens that a text may take, the special ones counted. */
  readonly maxTokens: number;
  /** Tokens of a text, the special ones counted. */
  count(text: string): number;
  /** A vector a text. Throws SubrosaError. */
  embed(texts: readonly string[], signal: AbortSignal): Promise<readonly Float32Array[]>;
}

export type Models = ReadonlyMap<string, TextModel | EmbeddingModel>;

const Special = z
  .union([z.string(), z.object({ content: z.string() }).transform((t) => t.content)])
  .optional()
  .catch(undefined);
const Specials = z.object({ bos_token: Special, eos_token: Special });

/** What a client knows of a language model. */
export interface Described {
  readonly tokenizer: TextTokenizer;
  /** tokenizer.json and tokenizer_config.json, parsed. */
  readonly tokenizerJson: object;
  readonly tokenizerConfig: object;
  readonly generation: { readonly prefix: readonly number[]; readonly eos: readonly number[]; readonly chatTemplate?: string };
  /** Of a whole sequence, the prefix counted. */
  readonly maxTokens: number;
  readonly after: Graph;
}

/** A text model but for where it computes. */
export function textModel(d: Described): Omit<TextModel, 'open' | 'bytesPerToken'> {
  const { tokenizer, tokenizerJson, generation, maxTokens, after } = d;
  const { prefix, eos, chatTemplate } = generation;
  const { bos_token: bosToken, eos_token: eosToken } = Specials.parse(d.tokenizerConfig);
  const size = after.inputs[0].shape[1] as number;
  return {
    kind: 'text',
    created: Math.floor(Date.now() / 1000),
    tokenizer,
    eos,
    prefix,
    room: maxTokens - prefix.length,
    chatTemplate,
    bosToken,
    eosToken,
    constrain: (schema) => schemaConstraint(schema, { tokens: tokenizer.vocabulary(), tokenizer: tokenizerJson, size, eos }),
  };
}
