/** A language model that goes on from tokens: on shares, in processes on this machine, or in plaintext in this process. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type CompiledFolder, readCompiled } from '../folder/index.ts';
import { fastProducts } from '../graph/fast.ts';
import { ModelError } from '../graph/graph.ts';
import type { Cluster, RunStats } from '../session/cluster.ts';
import {
  type Caches,
  type Decoder,
  type GenerateOptions,
  limitsOf,
  type PlainModel,
  type PrivateDecoder,
  plainDecoder,
  prefixCaches,
  privateDecoder,
  type SchemaConstraint,
  schemaConstraint,
} from '../tasks/generate/index.ts';
import { makeTokenizer, type TextTokenizer } from '../tasks/text.ts';
import { type BuildOptions, compiledOf } from './compiled.ts';
import { kernelBytes, loadLanguage, prefixOf } from './language.ts';
import { locate } from './locate.ts';
import { startHere } from './run.ts';
import { UsageError } from './terminal.ts';

export interface SpeakerOptions extends Omit<BuildOptions, 'maxTokens'> {
  /** Rows of a sequence that the program is compiled for. */
  readonly context?: number;
  readonly threads?: number;
  readonly timeout?: number;
}
export type Typed = { getOptionValueSource(name: string): string | undefined };

export interface Sampled {
  readonly greedy?: boolean;
  readonly temperature?: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly minP?: number;
  readonly repetitionPenalty?: number;
  readonly seed?: number;
  readonly stop?: readonly string[];
}

export const sampling = (o: Sampled, usual: number): Omit<GenerateOptions, 'maxTokens'> => ({
  temperature: o.greedy ? 0 : (o.temperature ?? usual),
  topK: o.topK,
  topP: o.topP,
  minP: o.minP,
  repetitionPenalty: o.repetitionPenalty,
  seed: o.seed,
  stop: o.stop,
});

/** What a person's side knows of a model before anything runs. */
export interface Speaker {
  readonly name: string;
  readonly tokenizer: TextTokenizer;
  /** tokenizer.json, parsed. */
  readonly tokenizerJson: object;
  readonly prefix: readonly number[];
  readonly eos: readonly number[];
  /** Rows of a sequence, the prefix counted. */
  readonly limit: number;
  /** Logits of a step. */
  readonly size: number;
  readonly chatTemplate?: string;
  /** How its template names special tokens. */
  readonly specials: { readonly bosToken?: string; readonly eosToken?: string };
}

export interface PlainSpeaker extends Speaker {
  decoder(): Decoder;
}

export interface PrivateSpeaker extends Speaker {
  readonly weights: 'public' | 'private';
  start(): Promise<Speaking>;
}

export interface Speaking {
  readonly decoder: PrivateDecoder;
  /** What each step since the start took; a prompt longer than a step's rows takes several. */
  readonly steps: readonly RunStats[];
  readonly setupSeconds: number;
  peakRss: Cluster['peakRss'];
  close(): Promise<void>;
}

const named = (config: object, key: string): string | undefined => {
  const value = (config as Record<string, unknown>)[key];
  if (typeof value === 'string') return value;
  const content = (value as { content?: unknown } | null | undefined)?.content;
  return typeof content === 'string' ? content : undefined;
};
const specialsOf = (config: object): Speaker['specials'] => ({
  bosToken: named(config, 'bos_token'),
  eosToken: named(config, 'eos_token'),
});

/** MODEL, compiled first when it has to be. */
export async function privateSpeaker(model: string, options: SpeakerOptions, command?: Typed): Promise<PrivateSpeaker> {
  const at = locate(model);
  if (at.kind === 'compiled' && (options.context !== undefined || options.prefix !== undefined))
    throw new UsageError(`${at.dir} is compiled already, with its prefix and its longest sequence`, 'compile it again to change them');
  if (at.kind === 'onnx') throw notLanguage(model);
  const given = command?.getOptionValueSource('weights') === 'cli';
  const folder = await compiledOf(model, { ...options, maxTokens: options.context, given });
  return {
    ...ofFolder(folder),
    weights: folder.program.weights,
    async start() {
      const cluster = await startHere(folder, options);
      const steps: RunStats[] = [];
      const run: Parameters<typeof privateDecoder>[0] = async (inputs, params) => {
        const { outputs, stats } = await cluster.run(inputs, params);
        steps.push(stats);
        return outputs;
      };
      return {
        decoder: privateDecoder(run, folder.client, limitsOf(folder.program.params)),
        steps,
        setupSeconds: cluster.setupSeconds,
        peakRss: () => cluster.peakRss(),
        close: () => cluster.close(),
      };
    },
  };
}

/** The interpreter on MODEL, or on what a compiled folder keeps of the model it was made from. */
export function plainSpeaker(model: string, options: { readonly prefix?: string }): PlainSpeaker {
  const at = locate(model);
  if (at.kind === 'compiled') {
    if (options.prefix !== undefined) throw new UsageError(`${at.dir} was compiled with its prefix`, 'leave --prefix out');
    return plainOfFolder(at.dir);
  }
  const language = loadLanguage(model);
  const tokenizer = makeTokenizer(language.tokenizer, language.tokenizerConfig, `${model}: its tokenizer`);
  fastProducts(kernelBytes(language));
  const prefix = prefixOf(language, tokenizer, options.prefix);
  return {
    name: at.name,
    tokenizer,
    tokenizerJson: language.tokenizer,
    prefix,
    eos: language.eos,
    limit: language.meta.maxTokens,
    size: language.client.after.inputs[0].shape[1] as number,
    chatTemplate: language.chatTemplate,
    specials: specialsOf(language.tokenizerConfig),
    decoder: () => plainDecoder(language, prefixCaches(language, prefix)),
  };
}

function plainOfFolder(dir: string): PlainSpeaker {
  const folder = readCompiled(dir);
  const speaker = ofFolder(folder);
  const model: PlainModel = { graph: folder.plain(), client: folder.client, meta: { maxTokens: speaker.limit } };
  fastProducts(kernelBytes(model));
  let caches: Caches | undefined;
  return {
    ...speaker,
    decoder() {
      caches ??= prefixCaches(model, speaker.prefix);
      return plainDecoder(model, caches);
    },
  };
}

function ofFolder({ client, dir }: CompiledFolder): Speaker {
  const { generation } = client;
  if (!generation) throw notLanguage(dir);
  const [tokenizerJson, config] = ['tokenizer.json', 'tokenizer_config.json'].map((f) => json(join(client.dir, f)));
  return {
    name: client.name,
    tokenizer: makeTokenizer(tokenizerJson, config, join(client.dir, 'tokenizer.json')),
    tokenizerJson,
    prefix: generation.prefix,
    eos: generation.eos,
    limit: client.maxTokens,
    size: client.after.inputs[0].shape[1] as number,
    chatTemplate: generation.chatTemplate,
    specials: specialsOf(config),
  };
}

const notLanguage = (model: string): UsageError =>
  new UsageError(
    `${model} is no language model`,
    'one that goes on from a text is expected: a .gguf file, a model folder, or what was compiled from one',
  );

function json(path: string): object {
  if (!existsSync(path)) return {};
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as object;
  } catch (e) {
    throw new ModelError(`${path}: not JSON: ${(e as Error).message}`);
  }
}

/** What --schema names, as a grammar over the model's tokens. */
export async function constrain(file: string, { tokenizer, tokenizerJson, size, eos }: Speaker): Promise<SchemaConstraint> {
  const schema = json(file);
  if (typeof schema !== 'object' || schema === null || Array.isArray(schema)) throw new ModelError(`${file}: a JSON schema is an object`);
  return schemaConstraint(schema, { tokens: tokenizer.vocabulary(), tokenizer: tokenizerJson, size, eos });
}

/** What steps took, together and the decoding ones each. */
export function perToken(steps: readonly RunStats[]): { rounds: number; bytes: number } | undefined {
  if (steps.length === 0) return undefined;
  const mean = (f: (s: RunStats) => number): number => steps.reduce((sum, s) => sum + f(s), 0) / steps.length;
  return { rounds: mean((s) => s.rounds), bytes: mean(({ bytes }) => bytes.p0p1 + bytes.dealer + bytes.client) };
}
