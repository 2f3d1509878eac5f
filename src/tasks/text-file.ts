import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ModelError } from '../graph/graph.ts';
import { makeTokenizer, type TextTokenizer } from './text.ts';

/** The tokenizer of a model folder. */
export function loadTokenizer(dir: string): TextTokenizer {
  const path = join(dir, 'tokenizer.json');
  if (!existsSync(path)) {
    const old = ['vocab.txt', 'vocab.json', 'sentencepiece.bpe.model', 'tokenizer.model'].find((f) => existsSync(join(dir, f)));
    const hint = old ? `; it has ${old}, the older form: save it once with AutoTokenizer.from_pretrained(dir).save_pretrained(dir)` : '';
    throw new ModelError(`${dir}: no tokenizer.json${hint}`);
  }
  const config = join(dir, 'tokenizer_config.json');
  return makeTokenizer(readJson(path), existsSync(config) ? readJson(config) : {}, path);
}

function readJson(path: string): object {
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(path, 'utf8'));
  } catch (e) {
    throw new ModelError(`${path}: not JSON: ${(e as Error).message}`);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new ModelError(`${path}: an object is expected`);
  return value;
}
