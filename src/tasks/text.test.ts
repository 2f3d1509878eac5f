import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { ModelError } from '../graph/graph.ts';
import { cosine, makeTokenizer, textInputs, top } from './text.ts';
import { loadTokenizer } from './text-file.ts';

const special = (id: number, content: string) => ({
  id,
  content,
  special: true,
  single_word: false,
  lstrip: false,
  rstrip: false,
  normalized: false,
});
const one = (id: string, type_id: number) => ({ SpecialToken: { id, type_id } });
const sequence = (id: string, type_id: number) => ({ Sequence: { id, type_id } });
const vocab = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', 'the', 'cat', 'sat', 'play', '##ing', '.'];
/** A BERT tokenizer of ten words, in tokenizer.json's form. */
const json = {
  version: '1.0',
  truncation: null,
  padding: { strategy: { Fixed: 64 }, direction: 'Right', pad_to_multiple_of: null, pad_id: 0, pad_type_id: 0, pad_token: '[PAD]' },
  added_tokens: [special(0, '[PAD]'), special(1, '[UNK]'), special(2, '[CLS]'), special(3, '[SEP]')],
  normalizer: { type: 'BertNormalizer', clean_text: true, handle_chinese_chars: true, strip_accents: null, lowercase: true },
  pre_tokenizer: { type: 'BertPreTokenizer' },
  post_processor: {
    type: 'TemplateProcessing',
    single: [one('[CLS]', 0), sequence('A', 0), one('[SEP]', 0)],
    pair: [one('[CLS]', 0), sequence('A', 0), one('[SEP]', 0), sequence('B', 1), one('[SEP]', 1)],
    special_tokens: { '[CLS]': { id: '[CLS]', ids: [2], tokens: ['[CLS]'] }, '[SEP]': { id: '[SEP]', ids: [3], tokens: ['[SEP]'] } },
  },
  decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
  model: {
    type: 'WordPiece',
    unk_token: '[UNK]',
    continuing_subword_prefix: '##',
    max_input_chars_per_word: 100,
    vocab: Object.fromEntries(vocab.map((w, i) => [w, i])),
  },
};

describe('a tokenizer', () => {
  const t = makeTokenizer(json);
  test('gives ids, types and tokens, and no padding', () => {
    expect(t.encode('The cat, playing.')).toEqual({
      ids: [2, 4, 5, 1, 7, 8, 9, 3],
      types: [0, 0, 0, 0, 0, 0, 0, 0],
      tokens: ['[CLS]', 'the', 'cat', '[UNK]', 'play', '##ing', '.', '[SEP]'],
      cut: 0,
    });
    expect(t.encode('').ids).toEqual([2, 3]);
    expect(t.encode('cat', { pair: 'sat' })).toMatchObject({ ids: [2, 5, 3, 6, 3], types: [0, 0, 0, 1, 1] });
  });
  test('cuts the end of the text, never the special tokens, and says how much', () => {
    expect(t.encode('the cat sat.', { maxTokens: 4 })).toEqual({
      ids: [2, 4, 5, 3],
      types: [0, 0, 0, 0],
      tokens: ['[CLS]', 'the', 'cat', '[SEP]'],
      cut: 2,
    });
    expect(t.encode('the cat sat.', { maxTokens: 6 }).cut).toBe(0);
    expect(t.encode('the cat', { maxTokens: 2 }).ids).toEqual([2, 3]);
    expect(() => t.encode('the cat', { maxTokens: 1 })).toThrow(RangeError);
    expect(() => t.encode('the cat', { pair: 'sat', maxTokens: 4 })).toThrow('the two texts take 6 tokens, the model 4');
  });
  test('turns ids back into text', () => {
    expect(t.decode([2, 4, 5, 7, 8, 3])).toBe('the cat playing');
    expect(t.decode([2, 4, 3], { specials: true })).toContain('[CLS]');
    expect(t.tokenId('cat')).toBe(5);
    expect(t.tokenId('dog')).toBeUndefined();
  });
  test('that is none is a ModelError', () => {
    expect(() => makeTokenizer({ model: { type: 'Runes' } }, {}, 'x/tokenizer.json')).toThrow(ModelError);
    expect(() => makeTokenizer({}, {}, 'x/tokenizer.json')).toThrow('x/tokenizer.json: not a tokenizer');
  });
});

describe('a model folder', () => {
  const dir = mkdtempSync(join(tmpdir(), 'subrosa-text-'));
  afterAll(() => rmSync(dir, { recursive: true }));
  test('without tokenizer.json says what it lacks, and what to do with an older one', () => {
    expect(() => loadTokenizer(dir)).toThrow(/no tokenizer.json$/);
    writeFileSync(join(dir, 'vocab.txt'), '');
    expect(() => loadTokenizer(dir)).toThrow('it has vocab.txt, the older form');
  });
  test('with one that is not JSON, or no object', () => {
    writeFileSync(join(dir, 'tokenizer.json'), '{');
    expect(() => loadTokenizer(dir)).toThrow('not JSON');
    writeFileSync(join(dir, 'tokenizer.json'), '[]');
    expect(() => loadTokenizer(dir)).toThrow('an object is expected');
  });
  test('with one', () => {
    writeFileSync(join(dir, 'tokenizer.json'), JSON.stringify(json));
    expect(loadTokenizer(dir).encode('cat').ids).toEqual([2, 5, 3]);
  });
});

test('inputs carry positions from where the model begins to count', () => {
  const inputs = textInputs({ ids: [2, 5, 3], types: [0, 0, 1] }, 2);
  expect(Object.entries(inputs).map(([k, v]) => [k, v.dtype, v.shape, [...v.data]])).toEqual([
    ['input_ids', 'i64', [3], [2, 5, 3]],
    ['position_ids', 'i64', [3], [2, 3, 4]],
    ['token_type_ids', 'i64', [3], [0, 0, 1]],
  ]);
});

test('cosine is 1 for one direction, 0 for a right angle and for nothing', () => {
  expect(cosine([1, 2], [2, 4])).toBeCloseTo(1, 12);
  expect(cosine([1, 0], [0, 3])).toBe(0);
  expect(cosine([0, 0], [1, 1])).toBe(0);
  expect(() => cosine([1], [1, 2])).toThrow(RangeError);
});

test('the likeliest classes come first, under their names where they have one', () => {
  expect(top([0.1, 0.7, 0.2], ['a', 'b'], 2)).toEqual([
    { label: 'b', probability: 0.7 },
    { label: '2', probability: 0.2 },
  ]);
});
