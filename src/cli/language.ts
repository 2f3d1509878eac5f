/** Language models before compiling: reading one, its public prefix, the tokens that its ranges are measured on. */
import { fastProducts } from '../graph/fast.ts';
import { sizeOf, type Tensor } from '../graph/graph.ts';
import { rewrite } from '../graph/rewrite/index.ts';
import { importLanguage, type Language } from '../import/language.ts';
import { type Caches, chatPrompt, inputRows, measurePrefixes, prefixCaches, prefixCandidates } from '../tasks/generate/index.ts';
import { makeTokenizer, type TextTokenizer } from '../tasks/text.ts';
import { locate, type Uncompiled } from './locate.ts';
import { progress, UsageError } from './terminal.ts';

/** A language model with what its ranges and its program begin with. */
export interface Decoding {
  readonly language: Language;
  readonly tokenizer: TextTokenizer;
  readonly prefix: readonly number[];
  /** K and V of the prefix, by the names of the graph's inputs. */
  readonly caches: Caches;
  /** Rows that one sequence may have, the prefix counted. */
  readonly keys: number;
}

/** Prose, a list, code and markup: where a prefix fails, one of their tokens becomes massive. */
const probe =
  'The ferry left at noon.\n\n1. Pack the bags\n2. Call Anna: 555-0172\n\nfor (let i = 0; i < n; i++) { sum += x[i]; }\n<p>Done.</p>';

/** Rows of a cache come in strides of this: one plan serves many steps. */
const stride = 64;
const usualKeys = 256;
/** New rows of one step, at most. */
export const mostNew = 64;

export function loadLanguage(model: string): Language {
  const at = locate(model);
  if (at.kind === 'compiled' || at.kind === 'onnx')
    throw new UsageError(
      `${model} is no language model`,
      'a .gguf file, or a folder with config.json, safetensors and tokenizer.json, is expected',
    );
  return read(at);
}

function read(at: Exclude<Uncompiled, { kind: 'onnx' }>, maxTokens?: number): Language {
  const line = progress(`reading ${at.name}`);
  line.update('weights');
  try {
    return importLanguage(at.kind === 'gguf' ? at.file : at.dir, { maxTokens });
  } finally {
    line.done();
  }
}

/** Room for all weights packed as floats, as far as the kernels' addresses go; larger models are packed anew in every pass. */
export function kernelBytes({ graph }: Pick<Language, 'graph'>): number {
  const weights = [...graph.constants.values()].reduce((n, t) => n + 4 * sizeOf(t.shape), 0);
  return Math.min(2 ** 31 - 2 ** 16, Math.max(2 ** 30, weights + 2 ** 28));
}

/** As typed, or the best of those worth trying on this model. */
export function prefixOf(language: Language, tokenizer: TextTokenizer, typed: string | undefined): readonly number[] {
  if (typed !== undefined) return tokenizer.ids(typed);
  const candidates = prefixCandidates(tokenizer, language.eos);
  if (candidates.length === 1) return candidates[0];
  const room = language.meta.maxTokens - Math.max(...candidates.map((c) => c.length));
  return measurePrefixes(language, candidates, [tokenizer.ids(probe).slice(0, room)])[0].prefix;
}

/** The model as it is compiled: graphs rewritten, positions for `maxTokens` rounded up to a stride, as far as the model goes. */
export function readDecoding(
  at: Exclude<Uncompiled, { kind: 'onnx' }>,
  options: { readonly maxTokens?: number; readonly prefix?: string },
): Decoding {
  const wanted = stride * Math.ceil((options.maxTokens ?? usualKeys) / stride);
  const imported = read(at, wanted);
  const keys = imported.meta.maxTokens;
  if (options.maxTokens !== undefined && options.maxTokens > keys)
    throw new UsageError(`--max-tokens ${options.maxTokens}: ${at.name} takes at most ${keys}`);
  const language = { ...imported, graph: { ...rewrite(imported.graph), name: at.name } };
  // The prefix is measured, and its K and V made, by the interpreter.
  fastProducts(kernelBytes(language));
  const tokenizer = makeTokenizer(language.tokenizer, language.tokenizerConfig, `${at.name}: its tokenizer`);
  const prefix = prefixOf(language, tokenizer, options.prefix);
  if (prefix.length + 2 > keys)
    throw new UsageError(`a prefix of ${prefix.length} tokens leaves no room for a text: ${at.name} takes ${keys}`);
  return { language, tokenizer, prefix, caches: prefixCaches(language, prefix), keys };
}

/**
 * Sequences after the prefix, for calibration: in turns one text, one as a conversation's first message (where the model talks), and as
 * many as fill a sequence, until all are used or `enough` tokens are there.
 */
export function sequences({ language, tokenizer, prefix, keys }: Decoding, texts: readonly string[], enough: number): number[][] {
  const room = keys - prefix.length;
  const template = language.chatTemplate;
  const left = [...texts];
  const list: number[][] = [];
  let tokens = 0;
  const add = (ids: readonly number[]): void => {
    if (ids.length === 0) return;
    list.push(ids.slice(0, room));
    tokens += Math.min(ids.length, room);
  };
  while (left.length > 0 && tokens < enough) {
    add(tokenizer.ids(left.shift() as string));
    if (template !== undefined && left.length > 0) add(message(tokenizer, template, left.shift() as string));
    const joined: number[] = [];
    while (left.length > 0 && joined.length < room) joined.push(...tokenizer.ids(`${joined.length > 0 ? '\n\n' : ''}${left.shift()}`));
    add(joined);
  }
  return list;
}

/** Some templates refuse a conversation of one message; its text alone is as good. */
function message(tokenizer: TextTokenizer, template: string, text: string): number[] {
  try {
    return tokenizer.ids(chatPrompt(template, [{ role: 'user', content: text }]));
  } catch {
    return tokenizer.ids(text);
  }
}

/** Inputs of the private graph for a sequence after the prefix. */
export const decoderInputs = ({ language, caches, prefix }: Decoding, ids: readonly number[]): Record<string, Tensor> => ({
  ...inputRows(language.client.before, ids, prefix.length),
  ...caches,
});
