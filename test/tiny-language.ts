import { readFileSync } from 'node:fs';
import { f32, type Item, ints, texts, writeGguf } from '../src/import/gguf/build.case.ts';

/**
 * A GGUF file: a LLaMA of two layers that says nothing of sense, with the byte-level tokenizer of the importer's fixtures. `more`: metadata,
 * such as a chat template.
 */
export function tinyLanguage(more: readonly (readonly [string, Item])[] = []): Uint8Array {
  const fixtures = new URL('../src/import/gguf/fixtures/tokenizers.json', import.meta.url);
  const [t] = JSON.parse(readFileSync(fixtures, 'utf8')) as { tokens: string[]; types: number[]; merges: string[] }[];
  const vocab = t.tokens.length;
  let state = 7;
  const noise = (n: number, by: number): number[] =>
    Array.from({ length: n }, () => {
      state = (state * 48271) % 2147483647;
      return (state / 2 ** 30 - 1) * by;
    });
  const layer = (i: number) => [
    ...['attn_norm', 'ffn_norm'].map((n) => f32(`blk.${i}.${n}.weight`, [16], Array(16).fill(1))),
    ...(
      [
        ['attn_q', 16, 16],
        ['attn_k', 8, 16],
        ['attn_v', 8, 16],
        ['attn_output', 16, 16],
        ['ffn_gate', 32, 16],
        ['ffn_up', 32, 16],
        ['ffn_down', 16, 32],
      ] as const
    ).map(([n, rows, cols]) => f32(`blk.${i}.${n}.weight`, [rows, cols], noise(rows * cols, 0.4))),
  ];
  const sizes: [string, number][] = [
    ['block_count', 2],
    ['context_length', 256],
    ['embedding_length', 16],
    ['feed_forward_length', 32],
    ['attention.head_count', 4],
    ['attention.head_count_kv', 2],
  ];
  return writeGguf({
    metadata: [
      ['general.architecture', 'llama'],
      ...sizes.map(([k, u32]) => [`llama.${k}`, { u32 }] as const),
      ['llama.attention.layer_norm_rms_epsilon', { f32: 1e-5 }],
      ['tokenizer.ggml.model', 'gpt2'],
      ['tokenizer.ggml.tokens', texts(t.tokens)],
      ['tokenizer.ggml.token_type', ints(t.types)],
      ['tokenizer.ggml.merges', texts(t.merges)],
      ['tokenizer.ggml.eos_token_id', { u32: t.tokens.indexOf('<|end|>') }],
      ...more,
    ] as (readonly [string, Item])[],
    tensors: [
      f32('token_embd.weight', [vocab, 16], noise(vocab * 16, 1)),
      f32('output_norm.weight', [16], Array(16).fill(3)),
      ...layer(0),
      ...layer(1),
    ],
  });
}
