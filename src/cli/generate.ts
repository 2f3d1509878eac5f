/** subrosa generate: a prompt goes on. Plaintext: the interpreter on this machine, with the same public prefix as a private run. */
import { readFileSync } from 'node:fs';
import { fastProducts } from '../graph/fast.ts';
import { ModelError, sizeOf } from '../graph/graph.ts';
import { importLanguage, type Language } from '../import/language.ts';
import {
  type Ending,
  type GenerateOptions,
  generate,
  measurePrefixes,
  plainDecoder,
  prefixCaches,
  prefixCandidates,
  type SchemaConstraint,
  schemaConstraint,
} from '../tasks/generate/index.ts';
import { makeTokenizer, type TextTokenizer } from '../tasks/text.ts';
import { locate } from './locate.ts';
import { bytesText, out, plural, print, progress, say, secondsText, UsageError } from './terminal.ts';

interface Options {
  readonly plain?: boolean;
  readonly json?: boolean;
  readonly greedy?: boolean;
  readonly maxTokens: number;
  readonly temperature?: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly minP?: number;
  readonly repetitionPenalty?: number;
  readonly seed?: number;
  readonly stop?: readonly string[];
  readonly schema?: string;
  readonly prefix?: string;
}

/** Prose, a list, code and markup: where a prefix fails, one of their tokens becomes massive. */
const probe =
  'The ferry left at noon.\n\n1. Pack the bags\n2. Call Anna: 555-0172\n\nfor (let i = 0; i < n; i++) { sum += x[i]; }\n<p>Done.</p>';

export async function generateCommand(model: string, prompt: string, options: Options): Promise<void> {
  if (!options.plain)
    throw new UsageError(
      'language models do not run privately yet',
      `subrosa generate ${model} "…" --plain     runs in plaintext, in this process`,
    );
  const language = loadLanguage(model);
  const tokenizer = makeTokenizer(language.tokenizer, language.tokenizerConfig, `${model}: its tokenizer`);
  const ids = tokenizer.ids(prompt);
  const constraint = options.schema === undefined ? undefined : await constrain(options.schema, language, tokenizer);
  fastProducts(kernelBytes(language));
  const prefix = prefixOf(language, tokenizer, options.prefix);
  const decoder = plainDecoder(language, prefixCaches(language, prefix));
  const settings: GenerateOptions = {
    maxTokens: options.maxTokens,
    temperature: options.greedy ? 0 : (options.temperature ?? 1),
    topK: options.topK,
    topP: options.topP,
    minP: options.minP,
    repetitionPenalty: options.repetitionPenalty,
    seed: options.seed,
    stop: options.stop,
    eos: language.eos,
    constraint,
  };
  const show = (text: string): void => {
    if (!options.json) process.stdout.write(text);
  };
  const tokens: number[] = [];
  let text = '';
  const start = performance.now();
  let first = start;
  let ending: Ending;
  try {
    const run = generate(decoder, tokenizer, ids, settings);
    for (;;) {
      const step = await run.next();
      if (tokens.length === 0) first = performance.now();
      const piece = step.value;
      text += piece.text;
      show(piece.text);
      if (step.done) {
        ending = step.value;
        break;
      }
      tokens.push(step.value.id);
    }
  } catch (e) {
    throw e instanceof RangeError ? new UsageError(e.message) : e;
  } finally {
    constraint?.dispose();
  }
  const prefill = (first - start) / 1000;
  // The first token comes from the prefill, each other one from a step of its own.
  const per = tokens.length > 1 ? (performance.now() - first) / 1000 / (tokens.length - 1) : null;
  const peak = process.resourceUsage().maxRSS * 1024;
  if (options.json)
    return print(
      JSON.stringify({
        text,
        tokens,
        prompt_tokens: ids,
        prefix_tokens: prefix,
        finish: ending.reason,
        prefill_seconds: prefill,
        seconds_per_token: per,
        peak_rss: { plain: peak },
      }),
    );
  print();
  say(
    out.dim(
      `  ${plural(tokens.length, 'token')} after ${ids.length}${prefix.length > 0 ? ` and a prefix of ${prefix.length}` : ''}; prompt in ${secondsText(prefill)}${per === null ? '' : `, ${secondsText(per)} a token`}, ${bytesText(peak)} of memory`,
    ),
  );
}

/** Room for all weights packed as floats, as far as the kernels' addresses go; larger models are packed anew in every pass. */
export function kernelBytes({ graph }: Language): number {
  const weights = [...graph.constants.values()].reduce((n, t) => n + 4 * sizeOf(t.shape), 0);
  return Math.min(2 ** 31 - 2 ** 16, Math.max(2 ** 30, weights + 2 ** 28));
}

export function loadLanguage(model: string): Language {
  const at = locate(model);
  if (at.kind === 'compiled' || at.kind === 'onnx')
    throw new UsageError(
      `${model} is no language model`,
      'a .gguf file, or a folder with config.json, safetensors and tokenizer.json, is expected',
    );
  const line = progress(`reading ${model}`);
  line.update('weights');
  try {
    return importLanguage(at.kind === 'gguf' ? at.file : at.dir);
  } finally {
    line.done();
  }
}

/** As typed, or the best of those worth trying on this model. */
export function prefixOf(language: Language, tokenizer: TextTokenizer, typed: string | undefined): readonly number[] {
  if (typed !== undefined) return tokenizer.ids(typed);
  const candidates = prefixCandidates(tokenizer, language.eos);
  if (candidates.length === 1) return candidates[0];
  const room = language.meta.maxTokens - Math.max(...candidates.map((c) => c.length));
  return measurePrefixes(language, candidates, [tokenizer.ids(probe).slice(0, room)])[0].prefix;
}

async function constrain(file: string, language: Language, tokenizer: TextTokenizer): Promise<SchemaConstraint> {
  let schema: unknown;
  try {
    schema = JSON.parse(readFileSync(file, 'utf8'));
  } catch (e) {
    throw new ModelError(`${file}: ${(e as Error).message}`);
  }
  if (typeof schema !== 'object' || schema === null || Array.isArray(schema)) throw new ModelError(`${file}: a JSON schema is an object`);
  const size = language.client.after.inputs[0].shape[1] as number;
  return schemaConstraint(schema, { tokens: tokenizer.vocabulary(), tokenizer: language.tokenizer, size, eos: language.eos });
}
