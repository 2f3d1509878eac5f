import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, test } from 'vitest';
import type { Tensor } from '../../src/graph/graph.ts';
import { interpret } from '../../src/graph/interpret.ts';
import { importPretrained, type Pretrained } from '../../src/import/families/index.ts';
import { pull, verifySource } from '../../src/import/pull/index.ts';
import { cosine, type TextTokenizer, textInputs } from '../../src/tasks/text.ts';
import { loadTokenizer } from '../../src/tasks/text-file.ts';

/** all-MiniLM-L6-v2, pulled as a user pulls it, against what transformers computed (minilm-plain.json says how). */
interface Reference {
  made: string;
  texts: { text: string; ids: number[]; sentence_embedding: number[]; normalized_embedding: number[]; first: number[] }[];
}
const reference = JSON.parse(readFileSync(new URL('minilm-plain.json', import.meta.url), 'utf8')) as Reference;
const dir = fileURLToPath(new URL('../../.subrosa/models/minilm', import.meta.url));

let model: Pretrained;
let tokenizer: TextTokenizer;
beforeAll(async () => {
  await pull('minilm', dir);
  model = importPretrained(dir);
  tokenizer = loadTokenizer(dir);
});

function embed(ids: readonly number[], types = ids.map(() => 0)): Record<string, Tensor> {
  const outputs = interpret(model.graph, interpret(model.client.before, textInputs({ ids, types }, model.meta.firstPosition)));
  return { ...outputs, ...interpret(model.client.after, outputs) };
}
const furthest = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
  Array.from(b, (v, i) => Math.abs(v - a[i])).reduce((m, d) => Math.max(m, d), 0);

test('the folder is what its record says', async () => {
  await verifySource(dir);
});

test('the model is what it should be', () => {
  expect(model.meta).toEqual({
    family: 'bert',
    task: 'sentence-embedding',
    hidden: 384,
    layers: 6,
    heads: 12,
    maxTokens: 256,
    labels: [],
    firstPosition: 0,
  });
  expect(model.graph.outputs).toEqual(['last_hidden_state', 'sentence_embedding']);
  // A LayerNorm, six layers of twelve nodes, and the pooling.
  expect(model.graph.nodes.length).toBe(1 + 6 * 12 + 1);
});

describe.each(reference.texts)('$text', ({ text, ids, sentence_embedding, normalized_embedding, first }) => {
  test('has the tokens of the Python tokenizer', () => {
    expect(tokenizer.encode(text).ids).toEqual(ids);
  });
  test('has the embedding transformers computed', () => {
    const got = embed(ids);
    expect(got.last_hidden_state.shape).toEqual([ids.length, 384]);
    expect(furthest(got.last_hidden_state.data.subarray(0, 8), first)).toBeLessThan(1e-4);
    expect(furthest(got.sentence_embedding.data, sentence_embedding)).toBeLessThan(1e-4);
    expect(furthest(got.normalized_embedding.data, normalized_embedding)).toBeLessThan(1e-4);
  });
});

test('sentences that say the same are near', () => {
  const [a, b, c] = ['How do I bake bread at home?', 'A recipe for making your own loaf', 'The parliament adjourned until Monday'].map(
    (text) => embed(tokenizer.encode(text).ids).normalized_embedding.data,
  );
  expect(cosine(a, b)).toBeGreaterThan(0.5);
  expect(cosine(a, c)).toBeLessThan(0.2);
});

test('there is text enough to calibrate on, and none of what is held out', () => {
  const lines = (name: string): string[] =>
    readFileSync(new URL(`../../models/calibration/${name}.jsonl`, import.meta.url), 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as string);
  const [texts, heldout] = [lines('texts'), lines('heldout')];
  const lengths = texts.map((t) => tokenizer.encode(t, { maxTokens: model.meta.maxTokens }).ids.length);
  expect(lengths.reduce((a, b) => a + b, 0)).toBeGreaterThan(30_000);
  expect(Math.min(...lengths)).toBeLessThanOrEqual(4);
  expect(lengths.filter((n) => n > 128).length).toBeGreaterThan(50);
  expect(new Set(texts).size).toBe(texts.length);
  expect(heldout.filter((t) => texts.includes(t))).toEqual([]);
  expect(
    heldout
      .map((t) => tokenizer.encode(t).ids.length)
      .sort((a, b) => a - b)
      .at(-1),
  ).toBeLessThanOrEqual(128);
});
