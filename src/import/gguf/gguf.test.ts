import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { makeTokenizer } from '../../tasks/text.ts';
import { f32, floats, ints, texts, writeGguf } from './build.case.ts';
import { lowBitTensor } from './low-bit.ts';
import { dequantise, formats, newBlock, typeIds } from './quants.ts';
import { parseGguf } from './read.ts';
import { ggufTokenizer } from './tokenizer.ts';

const fixture = <T>(name: string): T => JSON.parse(readFileSync(new URL(`fixtures/${name}.json`, import.meta.url), 'utf8')) as T;
const bytesOf = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, 'base64'));

const quants = fixture<Record<string, { bytes: string; floats: string }>>('quants');
describe.each(Object.entries(quants))('%s', (name, { bytes, floats: wanted }) => {
  const blocks = bytesOf(bytes);
  const bits = new Uint32Array(bytesOf(wanted).buffer);
  test('dequantises to the bits the gguf package gives', () => {
    const got = dequantise(name, blocks, bits.length);
    expect(new Uint32Array(got.buffer)).toEqual(bits);
  });
  test('refuses bytes that are no whole blocks of it', () => {
    expect(() => dequantise(name, blocks.subarray(1), bits.length)).toThrow(`weights of ${name} do not fit`);
  });
  const format = formats.get(name);
  if (format)
    test('unpacks to integers, scales and minima that multiply out to the same', () => {
      const block = newBlock(format);
      const floats = new Float32Array(bits.buffer);
      for (let b = 0; b * format.bytes < blocks.length; b++) {
        format.unpack(blocks, b * format.bytes, block);
        for (let i = 0; i < format.size; i++) {
          const g = Math.floor(i / format.group);
          expect(Math.fround(Math.fround(block.scale[g] * block.q[i]) + block.min[g])).toBe(floats[b * format.size + i] + 0);
        }
      }
    });
});

test('every type that is read has a fixture, F32 aside', () => {
  expect(new Set([...typeIds.values()])).toEqual(new Set([...Object.keys(quants), 'F32']));
});

test('a weight over its blocks is the transpose of what they dequantise to', () => {
  const blocks = bytesOf(quants.Q4_1.bytes).subarray(0, 3 * 20);
  const t = lowBitTensor('Q4_1', [3, 32], blocks);
  const rows = dequantise('Q4_1', blocks, 96);
  expect(t.shape).toEqual([32, 3]);
  expect(Array.from(t.data)).toEqual(Array.from({ length: 96 }, (_, i) => rows[(i % 3) * 32 + Math.floor(i / 3)]));
  expect(t.data).toBe(t.data);
  expect(t.lowBit?.floats()).toEqual(rows);
});

describe('a file', () => {
  const bytes = writeGguf({
    metadata: [
      ['general.architecture', 'llama'],
      ['a.u8', { u8: 7 }],
      ['a.u64', { u64: 1n << 40n }],
      ['a.f32', { f32: 0.5 }],
      ['a.bool', { bool: true }],
      ['a.texts', texts(['x', 'ÿ', ''])],
      ['a.ints', ints([1, 2, 3])],
      ['a.floats', floats([0.5, -1])],
      ['a.nested', { array: 9, items: [ints([1]), ints([])] }],
    ],
    tensors: [
      f32('m', [2, 3], [1, 2, 3, 4, 5, 6]),
      { name: 'q', shape: [1, 32], type: 8, bytes: bytesOf(quants.Q8_0.bytes).subarray(0, 34) },
      f32('empty', [0], []),
    ],
  });
  test('gives its metadata and its tensors, rows first', () => {
    const g = parseGguf(bytes);
    expect(Object.fromEntries(g.metadata)).toEqual({
      'general.architecture': 'llama',
      'a.u8': 7,
      'a.u64': 2 ** 40,
      'a.f32': 0.5,
      'a.bool': true,
      'a.texts': ['x', 'ÿ', ''],
      'a.ints': Int32Array.of(1, 2, 3),
      'a.floats': Float32Array.of(0.5, -1),
      'a.nested': [Int32Array.of(1), new Int32Array()],
    });
    expect(g.tensor('m')).toEqual({ dtype: 'f32', shape: [2, 3], data: Float32Array.of(1, 2, 3, 4, 5, 6) });
    expect(g.tensors.get('q')).toMatchObject({ dtype: 'Q8_0', shape: [1, 32] });
    expect(g.bytes('q')).toEqual(bytesOf(quants.Q8_0.bytes).subarray(0, 34));
    expect(() => g.tensor('n')).toThrow('no tensor "n"');
  });
  test('may align its data otherwise', () => {
    const other = writeGguf({
      metadata: [['general.alignment', { u32: 8 }]],
      tensors: [f32('a', [1], [1]), f32('b', [1], [2])],
      alignment: 8,
    });
    expect(parseGguf(other).tensor('b').data[0]).toBe(2);
  });
});

interface Made {
  model: 'gpt2' | 'llama';
  pre?: string;
  space?: boolean;
  tokens: string[];
  types: number[];
  merges?: string[];
  scores?: number[];
  texts: [text: string, ids: number[], back: string][];
}
const tokenizerOf = (m: Made, more: [string, { bool: boolean } | { u32: number } | string][] = []) =>
  ggufTokenizer(
    parseGguf(
      writeGguf({
        metadata: [
          ['tokenizer.ggml.model', m.model],
          ['tokenizer.ggml.tokens', texts(m.tokens)],
          ['tokenizer.ggml.token_type', ints(m.types)],
          ...(m.pre ? ([['tokenizer.ggml.pre', m.pre]] as [string, string][]) : []),
          ...(m.merges ? ([['tokenizer.ggml.merges', texts(m.merges)]] as const) : []),
          ...(m.scores ? ([['tokenizer.ggml.scores', floats(m.scores)]] as const) : []),
          ...(m.space === undefined ? [] : ([['tokenizer.ggml.add_space_prefix', { bool: m.space }]] as const)),
          ...more,
        ],
      }),
    ),
  );

describe.each(
  fixture<Made[]>('tokenizers').map((m) => [`${m.model} ${m.pre ?? (m.space ? 'with a space before' : 'without')}`, m] as const),
)('the tokenizer %s', (_, made) => {
  const t = tokenizerOf(made);
  const run = makeTokenizer(t.tokenizer, t.config);
  test.each(made.texts)('reads and writes %j as the Python library does', (text, ids, back) => {
    expect(run.ids(text)).toEqual(ids);
    expect(run.decode(ids, { specials: true })).toBe(back);
  });
});

describe('special tokens', () => {
  const made = fixture<Made[]>('tokenizers');
  const bpe = made[0];
  const spm = made.find((m) => m.model === 'llama') as Made;
  test('stand around the text where the file says so', () => {
    const t = tokenizerOf(bpe, [
      ['tokenizer.ggml.bos_token_id', { u32: 0 }],
      ['tokenizer.ggml.eos_token_id', { u32: 1 }],
      ['tokenizer.ggml.eot_token_id', { u32: 0 }],
      ['tokenizer.ggml.add_bos_token', { bool: true }],
      ['tokenizer.chat_template', '{{ x }}'],
    ]);
    const run = makeTokenizer(t.tokenizer, t.config);
    expect(run.encode('The').ids).toEqual([0, ...run.ids('The')]);
    expect(t).toMatchObject({ bos: 0, eos: [1, 0], chatTemplate: '{{ x }}' });
  });
  test("SentencePiece's begin a text unless it says otherwise", () => {
    const bos = spm.tokens.indexOf('<s>');
    const first = (more: [string, { bool: boolean } | { u32: number }][]) => {
      const t = tokenizerOf(spm, more);
      return makeTokenizer(t.tokenizer, t.config).encode('The').ids[0];
    };
    expect(first([['tokenizer.ggml.bos_token_id', { u32: bos }]])).toBe(bos);
    expect(
      first([
        ['tokenizer.ggml.bos_token_id', { u32: bos }],
        ['tokenizer.ggml.add_bos_token', { bool: false }],
      ]),
    ).not.toBe(bos);
  });
  test('a way of cutting text that is not known is refused by name', () => {
    expect(() => tokenizerOf({ ...bpe, pre: 'viking' })).toThrow("cuts text by 'viking'; gpt-2, smollm");
    expect(() => tokenizerOf({ ...bpe, model: 'bert' as 'gpt2' })).toThrow("tokenizer 'bert' is not supported");
  });
});
