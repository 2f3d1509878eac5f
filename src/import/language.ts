/** A language model with all it needs to talk: graph, tokenizer, special tokens, chat template. From a GGUF file or a model folder. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { ModelError } from '../graph/graph.ts';
import { type ImportOptions, importFolder, importPretrained, type Pretrained } from './families/index.ts';
import { ggufFolder } from './gguf/folder.ts';
import { readGguf } from './gguf/read.ts';
import { ggufTokenizer } from './gguf/tokenizer.ts';
import { openSource } from './safetensors-file.ts';

export interface Language extends Pretrained {
  /** tokenizer.json and tokenizer_config.json, parsed. */
  readonly tokenizer: object;
  readonly tokenizerConfig: object;
  /** Tokens that end a text or a turn. */
  readonly eos: readonly number[];
  /** Jinja. */
  readonly chatTemplate?: string;
}

/** `path`: a .gguf file, or a folder with config.json, safetensors and tokenizer.json. Throws ModelError for anything but a decoder. */
export function importLanguage(path: string, options: ImportOptions = {}): Language {
  if (!path.endsWith('.gguf')) return fromFolder(path, options);
  const { source, close } = openSource(path);
  try {
    const file = readGguf(source);
    const { tokenizer, config, eos, chatTemplate } = ggufTokenizer(file);
    return { ...importFolder(ggufFolder(file), options), tokenizer, tokenizerConfig: config, eos, chatTemplate };
  } finally {
    close();
  }
}

const ids = z.union([z.int().min(0), z.array(z.int().min(0))]).nullish();
const Ends = z.object({ eos_token_id: ids });
const Template = z.object({
  chat_template: z.union([z.string(), z.array(z.object({ name: z.string(), template: z.string() }))]).nullish(),
});

function fromFolder(dir: string, options: ImportOptions): Language {
  const model = importPretrained(dir, options);
  if (model.meta.task !== 'text-generation') throw new ModelError(`${dir} is no language model: its task is ${model.meta.task}`);
  const read = (name: string): unknown => {
    const path = join(dir, name);
    if (!existsSync(path)) return undefined;
    try {
      return JSON.parse(readFileSync(path, 'utf8'));
    } catch (e) {
      throw new ModelError(`${path}: not JSON: ${(e as Error).message}`);
    }
  };
  const object = (name: string): object => {
    const value = read(name) ?? {};
    return typeof value === 'object' && !Array.isArray(value) ? (value as object) : fail(`${dir}/${name}: an object is expected`);
  };
  if (!existsSync(join(dir, 'tokenizer.json'))) fail(`${dir}: no tokenizer.json`);
  const config = object('tokenizer_config.json');
  // generation_config.json has the last word: chat models end a turn with another token than a text.
  const ends = ['generation_config.json', 'config.json']
    .map((f) => Ends.safeParse(read(f) ?? {}).data?.eos_token_id)
    .find((v) => v != null);
  const jinja = join(dir, 'chat_template.jinja');
  const inside = Template.safeParse(config).data?.chat_template;
  const named = typeof inside === 'string' ? inside : inside?.find((t) => t.name === 'default')?.template;
  return {
    ...model,
    tokenizer: object('tokenizer.json'),
    tokenizerConfig: config,
    eos: ends == null ? [] : [ends].flat(),
    chatTemplate: existsSync(jinja) ? readFileSync(jinja, 'utf8') : named,
  };
}

function fail(reason: string): never {
  throw new ModelError(reason);
}
