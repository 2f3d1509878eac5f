import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ModelError } from '../../graph/graph.ts';
import { openSafetensors, openWeights } from '../safetensors-file.ts';
import { bert } from './bert.ts';
import type { Family, ImportOptions, ModelFolder, Pretrained } from './family.ts';
import { gpt2 } from './gpt2.ts';
import { llama } from './llama.ts';
import { vit } from './vit.ts';

export type { ClientGraph, ImportOptions, ModelMeta, Pretrained, Task } from './family.ts';

/** config.json's model_type → the family that reads it. */
export const FAMILIES: Readonly<Record<string, Family>> = {
  bert,
  roberta: bert,
  'xlm-roberta': bert,
  camembert: bert,
  distilbert: bert,
  vit,
  deit: vit,
  gpt2,
  llama,
  mistral: llama,
  qwen2: llama,
  qwen3: llama,
  gemma: llama,
  gemma2: llama,
  gemma3_text: llama,
};

/** Families that go on from a text. */
const decoders: readonly Family[] = [gpt2, llama];

/** Whether a model folder's config.json names a decoder; its weights are not looked at. */
export function generates(dir: string): boolean {
  try {
    return decoders.includes(familyOf(JSON.parse(readFileSync(join(dir, 'config.json'), 'utf8')), dir));
  } catch {
    // What is wrong with it, its import says.
    return false;
  }
}

/** A folder with config.json and safetensors, as the hub lays it out → the private graph and the client's two. */
export function importPretrained(dir: string, options: ImportOptions = {}): Pretrained {
  const json = (path: string): unknown => {
    const file = join(dir, path);
    if (!existsSync(file)) return undefined;
    try {
      return JSON.parse(readFileSync(file, 'utf8'));
    } catch (e) {
      throw new ModelError(`${file}: not JSON: ${(e as Error).message}`);
    }
  };
  const config = json('config.json');
  if (config === undefined) throw new ModelError(`${dir}: no config.json; a model folder as downloaded from the hub is expected`);
  if (typeof config !== 'object' || config === null || Array.isArray(config))
    throw new ModelError(`${dir}/config.json: an object is expected`);
  const family = familyOf(config as Record<string, unknown>, dir);
  const weights = openWeights(dir);
  try {
    const folder: ModelFolder = {
      dir,
      config: config as Record<string, unknown>,
      weights,
      json,
      moduleWeights: (path) => openSafetensors(join(dir, path, 'model.safetensors')),
    };
    return family(folder, options);
  } finally {
    weights.close();
  }
}

/** Whatever the format: a folder's files, or a GGUF file read as one. */
export function importFolder(folder: ModelFolder, options: ImportOptions = {}): Pretrained {
  return familyOf(folder.config as Record<string, unknown>, folder.dir)(folder, options);
}

/** By model_type; old files have only architectures ('BertModel'). */
function familyOf(config: Record<string, unknown>, dir: string): Family {
  const named = typeof config.model_type === 'string' ? config.model_type : '';
  if (Object.hasOwn(FAMILIES, named)) return FAMILIES[named];
  const architecture = Array.isArray(config.architectures) ? String(config.architectures[0] ?? '') : '';
  const match =
    named === ''
      ? Object.keys(FAMILIES).find((type) => new RegExp(`^${type.replaceAll('-', '')}(Model|For|$)`, 'i').test(architecture))
      : undefined;
  if (match !== undefined) {
    config.model_type = match;
    return FAMILIES[match];
  }
  throw new ModelError(
    `${dir}/config.json: model_type '${named}'${architecture && ` (${architecture})`} is not supported as safetensors; ${Object.keys(FAMILIES).join(', ')} are. An ONNX export may work`,
  );
}
