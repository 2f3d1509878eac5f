/** What the proxy serves: models that go on from tokens, and models that make vectors, wherever they run. */
import type { Decoder, SchemaConstraint } from '../tasks/generate/index.ts';
import type { TextTokenizer } from '../tasks/text.ts';

interface Served {
  /** Seconds since 1970 at which it was first served here. */
  readonly created: number;
}

/** One sequence: its cache is held until it is closed. */
export interface OpenDecoder extends Decoder {
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
