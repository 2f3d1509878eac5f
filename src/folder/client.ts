/** client/: what the person's side needs, and only that: the task, the tokenizer or image layout, the graphs before and after. */
import { copyFileSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { type Graph, ModelError } from '../graph/graph.ts';
import type { ImageSpec } from '../tasks/pixels.ts';
import { canonical, parseJson, readText } from './files.ts';
import { readGraphs, writeGraphs } from './graph.ts';

const numbers = z.array(z.number());
const Spec = z.strictObject({
  channels: z.union([z.literal(1), z.literal(3)]),
  height: z
    .int()
    .min(1)
    .max(1 << 16),
  width: z
    .int()
    .min(1)
    .max(1 << 16),
  fit: z.enum(['fill', 'crop', 'contain']),
  resize: z.union([z.number(), z.tuple([z.number(), z.number()])]).optional(),
  kernel: z.enum(['nearest', 'linear', 'cubic', 'lanczos3']),
  scale: z.number(),
  mean: numbers,
  std: numbers,
  invert: z.union([z.boolean(), z.literal('auto')]),
});

export const tasks = [
  'sentence-embedding',
  'text-classification',
  'token-classification',
  'question-answering',
  'image-classification',
  'image-features',
  'text-generation',
  'tensors',
] as const;

const ids = z.array(z.int().min(0));
/** What a client must know to let a decoder go on from a text. */
const Generation = z.strictObject({
  /** Public tokens that every sequence begins with: their rows are part of the program. */
  prefix: ids,
  /** Tokens that end a text or a turn. */
  eos: ids,
  /** Jinja; none where the model does not talk. */
  chatTemplate: z.string().optional(),
});

const ClientFile = z.strictObject({
  format: z.literal('subrosa-client/1'),
  name: z.string(),
  /** Hash of the program these graphs fit. */
  program: z.string().regex(/^[0-9a-f]{64}$/),
  /** 'tensors': the model's inputs and outputs as they are. */
  task: z.enum(tasks),
  family: z.string(),
  /** Class names in logit order; empty without classes. */
  labels: z.array(z.string()),
  /** Longest input in tokens; 0 when the input is no text. */
  maxTokens: z.int().min(0),
  firstPosition: z.int().min(0),
  image: Spec.optional(),
  /** Text generation only. */
  generation: Generation.optional(),
  tokenizer: z.boolean(),
  /** What the ranges were measured on, in words. */
  calibration: z.string(),
});
export type ClientInfo = Omit<z.infer<typeof ClientFile>, 'format' | 'program' | 'image'> & { readonly image?: ImageSpec };

export interface Client extends ClientInfo {
  /** From what the person has to the program's inputs; from the program's outputs to the answer. */
  readonly before: Graph;
  readonly after: Graph;
  /** Folder with tokenizer.json, when there is one. */
  readonly dir: string;
}

/** Copied as they are. */
const tokenizerFiles = ['tokenizer.json', 'tokenizer_config.json', 'special_tokens_map.json'];
/** All that may lie in client/. */
export const clientFiles: readonly string[] = ['client.json', 'before.json', 'after.json', 'client.safetensors', ...tokenizerFiles];

/** The files parsed, where a model has them in another form (GGUF). */
export interface TokenizerObjects {
  readonly tokenizer: object;
  readonly tokenizerConfig: object;
}

export function writeClient(
  dir: string,
  program: string,
  info: Omit<ClientInfo, 'tokenizer'>,
  graphs: { before: Graph; after: Graph },
  from?: string | TokenizerObjects,
): void {
  mkdirSync(dir);
  const tokenizer = typeof from === 'object' || (from !== undefined && existsSync(join(from, tokenizerFiles[0])));
  if (typeof from === 'object') {
    writeFileSync(join(dir, tokenizerFiles[0]), JSON.stringify(from.tokenizer), { flag: 'wx' });
    writeFileSync(join(dir, tokenizerFiles[1]), JSON.stringify(from.tokenizerConfig), { flag: 'wx' });
  } else if (tokenizer) for (const f of tokenizerFiles) if (existsSync(join(from, f))) copyFileSync(join(from, f), join(dir, f));
  writeFileSync(join(dir, 'client.json'), canonical({ ...info, format: 'subrosa-client/1', program, tokenizer }), { flag: 'wx' });
  writeGraphs(dir, { before: graphs.before, after: graphs.after }, 'client.safetensors');
}

/** client.json, without the graphs. */
export function readClientInfo(dir: string, program: string): ClientInfo {
  const path = join(dir, 'client.json');
  const { format: _, program: own, ...info } = parseJson(readText(path), ClientFile, path);
  if (own !== program)
    throw new ModelError(
      `${path} belongs to program ${own.slice(0, 16)}…, the folder holds ${program.slice(0, 16)}…: take all files from one compile`,
    );
  return { ...info, image: info.image as ImageSpec | undefined };
}

export function readClient(dir: string, program: string): Client {
  return { ...readClientInfo(dir, program), ...readGraphs(dir, ['before', 'after'], 'client.safetensors'), dir };
}

/** Copies client/ for another program of the same model: client.json names the program it belongs to, all else is as it was. */
export function rewriteClient(from: string, program: string, to: string, next: string): void {
  readClientInfo(from, program);
  mkdirSync(to);
  for (const name of clientFiles)
    if (name !== 'client.json' && existsSync(join(from, name))) copyFileSync(join(from, name), join(to, name));
  const path = join(from, 'client.json');
  writeFileSync(join(to, 'client.json'), canonical({ ...parseJson(readText(path), ClientFile, path), program: next }), { flag: 'wx' });
}
