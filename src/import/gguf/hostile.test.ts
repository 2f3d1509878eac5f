/** Files that are broken on purpose. Whatever they hold, the answer is a file or a ModelError of one line, in little memory. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ModelError } from '../../graph/graph.ts';
import { importFolder } from '../families/index.ts';
import { f32, type Given, ints, texts, writeGguf } from './build.case.ts';
import { ggufFolder } from './folder.ts';
import { parseGguf } from './read.ts';
import { ggufTokenizer } from './tokenizer.ts';

const shapes: [string, number[]][] = [
  ['token_embd.weight', [8, 4]],
  ['output_norm.weight', [4]],
  ...['attn_norm', 'ffn_norm'].map((n): [string, number[]] => [`blk.0.${n}.weight`, [4]]),
  ...['attn_q', 'attn_k', 'attn_v', 'attn_output'].map((n): [string, number[]] => [`blk.0.${n}.weight`, [4, 4]]),
  ['blk.0.ffn_gate.weight', [6, 4]],
  ['blk.0.ffn_up.weight', [6, 4]],
  ['blk.0.ffn_down.weight', [4, 6]],
];
const whole: Given = {
  metadata: [
    ['general.architecture', 'llama'],
    ['llama.block_count', { u32: 1 }],
    ['llama.context_length', { u32: 32 }],
    ['llama.embedding_length', { u32: 4 }],
    ['llama.feed_forward_length', { u32: 6 }],
    ['llama.attention.head_count', { u32: 2 }],
    ['llama.attention.layer_norm_rms_epsilon', { f32: 1e-5 }],
    ['tokenizer.ggml.model', 'gpt2'],
    ['tokenizer.ggml.tokens', texts(['a', 'b', 'ab', 'c', 'd', 'e', 'f', '<end>'])],
    ['tokenizer.ggml.token_type', ints([1, 1, 1, 1, 1, 1, 1, 3])],
    ['tokenizer.ggml.merges', texts(['a b'])],
  ],
  tensors: shapes.map(([name, shape]) => f32(name, shape, Array(shape.reduce((a, b) => a * b, 1)).fill(0.5))),
};
const file = writeGguf(whole);

/** True when a model came out; fails the test for any exception but a ModelError of one line (a checkpoint's list of faults has several). */
function survives(bytes: Uint8Array): boolean {
  try {
    const g = parseGguf(bytes, 'file');
    for (const name of g.tensors.keys()) g.tensor(name);
    ggufTokenizer(g);
    importFolder(ggufFolder(g));
    return true;
  } catch (e) {
    if (!(e instanceof ModelError)) throw e;
    if (!e.message.includes('disagree:')) expect(e.message).not.toMatch(/[\n\r]/);
    expect(e.message.length).toBeLessThan(4000);
    return false;
  }
}

test('unbroken, it is a model', () => expect(survives(file)).toBe(true));

test('what is wrong is listed as far as it can be read', () => {
  const layers = writeGguf({ ...whole, metadata: whole.metadata?.map(([k, v]) => [k, k === 'llama.block_count' ? { u32: 200 } : v]) });
  expect(() => importFolder(ggufFolder(parseGguf(layers, 'file')))).toThrow(/missing .*\n.*and 1\d{3} more$/s);
  expect(survives(layers)).toBe(false);
});

test('cut anywhere, is refused', () => {
  for (let n = 0; n < file.length - 31; n += n < 1500 ? 5 : 1 + (n % 40)) expect(survives(file.subarray(0, n))).toBe(false);
});

test('any damage to a good file is a ModelError or a file that reads to its end', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(file.length - 1), fc.nat(255)), { minLength: 1, maxLength: 5 }), (edits) => {
      const copy = Uint8Array.from(file);
      for (const [at, byte] of edits) copy[at] = byte;
      survives(copy);
    }),
    { numRuns: 700 },
  );
});

test('pieces moved or repeated, the same', () => {
  fc.assert(
    fc.property(fc.nat(file.length), fc.nat(file.length), fc.nat(200), (from, to, n) => {
      survives(Uint8Array.from([...file.subarray(0, to), ...file.subarray(from, from + n), ...file.subarray(to)]));
    }),
    { numRuns: 150 },
  );
});

test('noise is refused', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      expect(survives(bytes)).toBe(false);
    }),
  );
});

describe('is refused, and says why', () => {
  const tensor = f32('t', [2], [1, 2]);
  const patched = (at: number, value: bigint): Uint8Array => {
    const copy = Uint8Array.from(file);
    new DataView(copy.buffer).setBigUint64(at, value, true);
    return copy;
  };
  test.each<[string, Uint8Array, string]>([
    ['another format', new TextEncoder().encode('GGML, which is long enough to have a header'), 'not a GGUF file'],
    ['a version to come', writeGguf({ version: 4 }), 'GGUF version 4; 2 and 3 are read'],
    ['big-endian', writeGguf({ version: 0x03000000 }), 'big-endian'],
    ['tensors without end', patched(8, 1n << 52n), 'claims 4503599627370496 tensors'],
    ['a count beyond 2^53', patched(16, (1n << 64n) - 1n), 'number of metadata entries is 18446744073709551615'],
    ['a key without end', patched(24, 1n << 40n), 'the limit is 16777216'],
    [
      'the same key twice',
      writeGguf({
        metadata: [
          ['a', 'x'],
          ['a', 'y'],
        ],
      }),
      '"a" stands twice',
    ],
    ['the same tensor twice', writeGguf({ tensors: [tensor, tensor] }), 'tensor "t" stands twice'],
    [
      'tensors that overlap',
      writeGguf({ tensors: [f32('t', [12], Array(12).fill(0)), { ...tensor, name: 'u', offset: 32 }] }),
      'tensor "u" overlaps',
    ],
    [
      'a hole',
      writeGguf({ tensors: [tensor, { ...tensor, name: 'u', offset: 64 }, { ...tensor, name: 'v', offset: 96 }] }),
      'hole of 56 bytes',
    ],
    ['a tensor beyond the end', writeGguf({ tensors: [{ ...tensor, shape: [64] }] }), 'is F32 [64], more than the whole file holds'],
    [
      'a tensor of 2^60 values',
      writeGguf({ tensors: [{ ...tensor, shape: [1 << 20, 1 << 20, 1 << 20] }] }),
      'more than the whole file holds',
    ],
    ['an offset off the grid', writeGguf({ tensors: [{ ...tensor, offset: 4 }] }), 'begins at 4, no multiple of 32'],
    ['five dimensions', writeGguf({ tensors: [{ ...tensor, shape: [1, 1, 1, 1, 2] }] }), '5 dimensions'],
    ['a type that is none', writeGguf({ tensors: [{ ...tensor, type: 99 }] }), 'has type 99; known are F32'],
    ['rows that are no whole blocks', writeGguf({ tensors: [{ ...tensor, type: 8, shape: [2, 16] }] }), 'no whole blocks of 32'],
    ['an alignment of 3', writeGguf({ metadata: [['general.alignment', { u32: 3 }]] }), 'a power of two is expected'],
    [
      'arrays in arrays in arrays in arrays',
      writeGguf({ metadata: [['a', { array: 9, items: [{ array: 9, items: [{ array: 9, items: [{ array: 5, items: [] }] }] }] }]] }),
      'nested deeper',
    ],
    ['bytes at the end', Uint8Array.from([...file, ...new Uint8Array(64)]), 'after the last tensor belong to none'],
  ])('%s', (_, bytes, reason) => {
    expect(() => parseGguf(bytes, 'file')).toThrow(ModelError);
    expect(() => parseGguf(bytes, 'file')).toThrow(reason);
  });

  const imported = (change: (given: Given) => Given) => () => {
    const g = parseGguf(writeGguf(change(whole)), 'file');
    ggufTokenizer(g);
    importFolder(ggufFolder(g));
  };
  const set =
    (key: string, v: NonNullable<Given['metadata']>[number][1]) =>
    (g: Given): Given => ({
      ...g,
      metadata: g.metadata?.map(([k, old]) => [k, k === key ? v : old]),
    });
  test.each<[string, (g: Given) => Given, string]>([
    ['an architecture from elsewhere', set('general.architecture', 'mamba'), 'architecture "mamba" is not supported; llama'],
    ['an architecture from the prototype', set('general.architecture', 'constructor'), 'architecture "constructor"'],
    ['sizes that are texts', set('llama.embedding_length', 'four'), 'llama.embedding_length is string; a number is expected'],
    ['a million layers', set('llama.block_count', { u32: 1e6 }), 'num_hidden_layers'],
    ['heads that differ by layer', set('llama.attention.head_count', ints([2, 4])), 'differs from layer to layer'],
    ['too few token types', set('tokenizer.ggml.token_type', ints([1])), ''],
    ['tokens that are numbers', set('tokenizer.ggml.tokens', ints([1])), 'no tokenizer.ggml.tokens'],
    ['no merges', set('tokenizer.ggml.merges', { u32: 1 }), 'no tokenizer.ggml.merges'],
    ['a tensor less', (g) => ({ ...g, tensors: g.tensors?.slice(0, -1) }), 'missing    layers.0.mlp.down_proj.weight [4,6]'],
    [
      'a tensor more',
      (g) => ({ ...g, tensors: [...(g.tensors ?? []), f32('blk.0.extra.weight', [1], [1])] }),
      'unexpected blk.0.extra.weight [1]',
    ],
    [
      'more layers in it than it says',
      (g) => ({ ...g, tensors: [...(g.tensors ?? []), f32('blk.1.ffn_up.weight', [6, 4], Array(24).fill(0))] }),
      'unexpected',
    ],
  ])('%s', (_, change, reason) => {
    if (reason === '') expect(imported(change)).not.toThrow();
    else expect(imported(change)).toThrow(reason);
  });
});

test('small files that ask for much memory get none', () => {
  const before = process.resourceUsage().maxRSS;
  const claim = (count: bigint): Uint8Array => {
    const bytes = writeGguf({ metadata: [['a', { array: 5, items: [] }]] });
    // Header, key, two type numbers; then the count.
    new DataView(bytes.buffer).setBigUint64(24 + 9 + 4 + 4, count, true);
    return bytes;
  };
  for (const n of [1n << 20n, 1n << 33n, 1n << 50n]) expect(() => parseGguf(claim(n))).toThrow('items in');
  expect((process.resourceUsage().maxRSS - before) / 1024).toBeLessThan(50);
});
