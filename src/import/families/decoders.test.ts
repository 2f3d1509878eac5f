import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { afterAll, describe, expect, test } from 'vitest';
import { ModelError, sizeOf, type Tensor, tensor } from '../../graph/graph.ts';
import { interpret } from '../../graph/interpret.ts';
import { rewrite } from '../../graph/rewrite/index.ts';
import { type Caches, emptyCaches, pass, plainDecoder, prefixCaches } from '../../tasks/generate/decoder.ts';
import { f32, type Given, type Item, type Stored, writeGguf } from '../gguf/build.case.ts';
import { ggufFolder } from '../gguf/folder.ts';
import { parseGguf } from '../gguf/read.ts';
import { toTensorData } from '../safetensors.ts';
import { saveSafetensors } from '../safetensors-file.ts';
import { type ImportOptions, importFolder, importPretrained, type Pretrained } from './index.ts';

/** fixtures/decoders.py: tiny models as transformers computes them. */
interface Case {
  label: string;
  config: Record<string, unknown>;
  tensors: Record<string, number[]>;
  ids: number[];
  rows: number[];
  logits: number[][];
}
const cases = JSON.parse(readFileSync(new URL('fixtures/decoders.json', import.meta.url), 'utf8')) as Case[];
const find = (label: string): Case => cases.find((c) => c.label === label) as Case;

const root = mkdtempSync(join(tmpdir(), 'subrosa-decoders-'));
afterAll(() => rmSync(root, { recursive: true }));

/** decoders.py's weight(), to the last bit. */
function weight(name: string, shape: number[]): Tensor {
  const gain = name.toLowerCase().endsWith('norm.weight') ? 1 : 0;
  const seed = crc32(name);
  return tensor(
    Array.from({ length: sizeOf(shape) }, (_, i) => gain + (((seed + i * 2654435761) % 2 ** 32) / 2 ** 32 - 0.5) * 0.5),
    shape,
  );
}

let count = 0;
function folder(c: Case, config: Record<string, unknown> = {}, shards = 1): string {
  const dir = join(root, `${count++}`);
  mkdirSync(dir);
  writeFileSync(join(dir, 'config.json'), JSON.stringify({ ...c.config, ...config }));
  const all = Object.entries(c.tensors).map(([name, shape]) => [name, toTensorData(weight(name, shape))] as const);
  if (shards === 1) saveSafetensors(join(dir, 'model.safetensors'), new Map(all));
  else {
    const file = (i: number): string => `model-${i}-of-${shards}.safetensors`;
    for (let s = 0; s < shards; s++) saveSafetensors(join(dir, file(s)), new Map(all.filter((_, i) => i % shards === s)));
    const map = Object.fromEntries(all.map(([name], i) => [name, file(i % shards)]));
    writeFileSync(join(dir, 'model.safetensors.index.json'), JSON.stringify({ weight_map: map }));
  }
  return dir;
}
/** The stretched case runs past the length its positions were made for. */
const optionsOf = (c: Case): ImportOptions => (c.label.endsWith('stretched') ? { maxTokens: 12 } : {});
const everyRow: ImportOptions = { outputs: ['all_logits'] };

function close(got: ArrayLike<number>, wanted: readonly number[], within = 2e-5): void {
  expect(got.length).toBe(wanted.length);
  for (const [i, v] of wanted.entries()) expect(Math.abs(got[i] - v), `value ${i}`).toBeLessThan(within);
}
const capped = (m: Pretrained, logits: Tensor): ArrayLike<number> => Object.values(interpret(m.client.after, { logits }))[0].data;
function check(m: Pretrained, c: Case): void {
  const all = pass(m, c.ids, emptyCaches(m.graph)).all_logits;
  const got = capped(m, all);
  const vocab = all.shape[1];
  c.rows.forEach((row, i) => {
    close(Array.from(got).slice(row * vocab, (row + 1) * vocab), c.logits[i]);
  });
}

describe.each(cases.map((c) => [c.label, c] as const))('%s', (_, c) => {
  const dir = folder(c);
  const model = importPretrained(dir, optionsOf(c));
  const last = c.logits[c.rows.indexOf(c.ids.length - 1)];
  test('computes what transformers computes', () => check(importPretrained(dir, { ...optionsOf(c), ...everyRow }), c));
  test('in one pass, in pieces and token by token, the same', async () => {
    for (const cuts of [[12], [5, 7], [1, 10, 1], Array(12).fill(1)]) {
      const decoder = plainDecoder(model);
      let at = 0;
      let logits: Float32Array = new Float32Array();
      for (const n of cuts) {
        logits = await decoder.step(c.ids.slice(at, at + n));
        at += n;
      }
      expect(decoder.length).toBe(12);
      close(logits, last);
    }
  });
  test('keeps its value when it is rewritten', () => {
    const graph = rewrite(model.graph);
    expect(graph.caches).toEqual(model.graph.caches);
    close(capped(model, pass({ graph, client: model.client }, c.ids, emptyCaches(graph)).logits), last);
  });
});

describe('the graph of a decoder', () => {
  const c = find('llama, grouped queries');
  const dir = folder(c);
  const { graph, meta } = importPretrained(dir);
  test('says what it takes, gives and keeps', () => {
    expect(graph.inputs.map((i) => [i.name, i.shape])).toEqual([
      ['embeddings', ['n', 16]],
      ['past_k.0', ['past', 8]],
      ['past_v.0', ['past', 8]],
      ['past_k.1', ['past', 8]],
      ['past_v.1', ['past', 8]],
    ]);
    expect(graph.outputs).toEqual(['logits', 'k.0', 'v.0', 'k.1', 'v.1']);
    expect(graph.caches).toEqual([0, 1].flatMap((i) => ['k', 'v'].map((p) => ({ input: `past_${p}.${i}`, output: `${p}.${i}` }))));
    expect(meta).toMatchObject({ family: 'llama', task: 'text-generation', hidden: 16, layers: 2, heads: 4, maxTokens: 64 });
  });
  test('has positions, causality and windows as attributes, no masks', () => {
    const mistral = importPretrained(folder(find('mistral, a window'))).graph;
    const attention = mistral.nodes.find((n) => n.op === 'Attention');
    expect(attention?.attrs).toEqual({ heads: 4, kvHeads: 2, scale: 0.5, window: 5, causal: 1 });
    expect(attention?.inputs.slice(1)).toEqual(['k.0', 'v.0', '', 'past_k.0', 'past_v.0']);
    const rotary = mistral.nodes.find((n) => n.op === 'Rotary');
    expect(rotary?.inputs[3]).toBe('past_k.0');
    expect(new Set(mistral.nodes.map((n) => n.op))).toEqual(
      new Set(['RMSNormalization', 'Linear', 'Rotary', 'Attention', 'Add', 'Silu', 'Mul', 'Slice']),
    );
  });
  test('gives one row of logits, the new rows of the caches, and every row when asked', () => {
    const shapes = (g: typeof graph): Record<string, readonly number[]> =>
      Object.fromEntries(
        Object.entries(pass({ graph: g, client: importPretrained(dir).client }, c.ids, emptyCaches(g))).map(([k, t]) => [k, t.shape]),
      );
    expect(shapes(graph)).toMatchObject({ logits: [1, 30], 'k.0': [12, 8], 'v.1': [12, 8] });
    expect(shapes(importPretrained(dir, { outputs: ['all_logits', 'last_hidden_state'] }).graph)).toMatchObject({
      all_logits: [12, 30],
      last_hidden_state: [12, 16],
    });
  });
  test('has positions for as long as was asked, and refuses one more', async () => {
    const short = importPretrained(dir, { maxTokens: 12 });
    expect(short.meta.maxTokens).toBe(12);
    const decoder = plainDecoder(short);
    await decoder.step(c.ids);
    await expect(decoder.step([1])).rejects.toThrow(RangeError);
    expect(() => pass(short, [...c.ids, 1], emptyCaches(short.graph))).toThrow('position 12; there are tables for 12');
    expect(importPretrained(dir, { maxTokens: 1000 }).meta.maxTokens).toBe(64);
  });
  test('goes on from a public prefix computed apart', async () => {
    const decoder = plainDecoder(importPretrained(dir), prefixCaches(importPretrained(dir), c.ids.slice(0, 3)));
    expect(decoder.length).toBe(3);
    close(await decoder.step(c.ids.slice(3)), c.logits[2]);
  });
});

test('shards are one checkpoint', () => {
  const c = find('qwen3, norms of q and k');
  check(importPretrained(folder(c, {}, 3), everyRow), c);
});

test('what older files call the rotary settings is understood', () => {
  const { rope_parameters, ...rest } = find('llama, llama3 rope').config;
  const { rope_theta, rope_type, ...scaling } = rope_parameters as Record<string, unknown>;
  const c = { ...find('llama, llama3 rope'), config: { ...rest, rope_theta, rope_scaling: { type: rope_type, ...scaling } } };
  check(importPretrained(folder(c), everyRow), c);
});

describe('is refused, and says why', () => {
  const c = find('llama, grouped queries');
  const rope = (more: object): Record<string, unknown> => ({ rope_parameters: { rope_theta: 1e4, ...more } });
  test.each([
    ['heads that cannot share', { num_key_value_heads: 3 }, '4 heads cannot share 3 keys'],
    ['a rotary scaling unknown', rope({ rope_type: 'spiral' }), "rope_parameters: type 'spiral' is not supported"],
    ['a scaling without its factor', rope({ rope_type: 'linear' }), 'rope_parameters: linear needs factor'],
    ['as many factors as there are not', rope({ rope_type: 'longrope', short_factor: [1] }), '1 factors for 2 frequencies'],
    ['an activation unknown', { hidden_act: 'gegelu' }, "activation 'gegelu'"],
    ['a kind of layer unknown', { layer_types: ['full_attention', 'linear_attention'] }, 'full and sliding attention'],
    ['a width of zero', { hidden_size: 0 }, 'hidden_size'],
    ['another vocabulary', { vocab_size: 31 }, 'misshapen  model.embed_tokens.weight: expected [31,16], got [30,16]'],
    ['a layer less than there are tensors', { num_hidden_layers: 1 }, 'unexpected model.layers.1'],
  ])('%s', (_, config, reason) => {
    const dir = folder(c, config);
    expect(() => importPretrained(dir)).toThrow(ModelError);
    expect(() => importPretrained(dir)).toThrow(reason);
  });
});

describe('the same weights as a GGUF file', () => {
  const names: Record<string, string> = {
    'model.embed_tokens': 'token_embd',
    'model.norm': 'output_norm',
    lm_head: 'output',
    input_layernorm: 'attn_norm',
    post_attention_layernorm: 'ffn_norm',
    'self_attn.q_proj': 'attn_q',
    'self_attn.k_proj': 'attn_k',
    'self_attn.v_proj': 'attn_v',
    'self_attn.o_proj': 'attn_output',
    'self_attn.q_norm': 'attn_q_norm',
    'self_attn.k_norm': 'attn_k_norm',
    'mlp.gate_proj': 'ffn_gate',
    'mlp.up_proj': 'ffn_up',
    'mlp.down_proj': 'ffn_down',
    wte: 'token_embd',
    wpe: 'position_embd',
    ln_f: 'output_norm',
    ln_1: 'attn_norm',
    ln_2: 'ffn_norm',
    'attn.c_attn': 'attn_qkv',
    'attn.c_proj': 'attn_output',
    'mlp.c_fc': 'ffn_up',
    'mlp.c_proj': 'ffn_down',
  };
  const sandwich: Record<string, string> = {
    post_attention_layernorm: 'post_attention_norm',
    pre_feedforward_layernorm: 'ffn_norm',
    post_feedforward_layernorm: 'post_ffw_norm',
  };
  /** What llama.cpp's converter writes: its names, rows of q and k paired, GPT-2's matrices turned, 1 added to Gemma's norms. */
  function gguf(c: Case, arch: string, change: (g: Given) => Given = (g) => g): Pretrained {
    const { config } = c;
    const gpt2 = arch === 'gpt2';
    const num = (key: string, or?: string): Item => ({ u32: Number(config[key] ?? config[or ?? '']) });
    const heads = (name: string): number =>
      arch !== 'llama'
        ? 0
        : /q_proj/.test(name)
          ? Number(config.num_attention_heads)
          : /k_proj/.test(name)
            ? Number(config.num_key_value_heads)
            : 0;
    const tensors = Object.entries(c.tensors).map(([name, shape]): Stored => {
      const [, layer, part, kind] = /^(?:(?:model\.layers|transformer\.h)\.(\d+)\.)?(.+)\.(weight|bias)$/.exec(name) as RegExpExecArray;
      const stem = part.replace(/^transformer\./, '');
      const to = `${layer === undefined ? '' : `blk.${layer}.`}${(/^gemma[23]/.test(arch) ? sandwich[stem] : undefined) ?? names[stem] ?? stem}.${kind}`;
      let [t, dims]: [ArrayLike<number>, readonly number[]] = [weight(name, shape).data, shape];
      const from = t;
      const width = shape.length > 1 ? shape[1] : 1;
      const per = shape[0] / (heads(name) || 1);
      if (heads(name))
        t = Float32Array.from(from, (_, i) => {
          const [row, col] = [Math.floor(i / width), i % width];
          const [h, r] = [Math.floor(row / per), row % per];
          return from[(h * per + (r % 2) * (per / 2) + (r >> 1)) * width + col];
        });
      if (gpt2 && /c_(attn|proj|fc)\.weight/.test(name)) {
        dims = [shape[1], shape[0]];
        t = Float32Array.from(from, (_, i) => from[(i % shape[0]) * shape[1] + Math.floor(i / shape[0])]);
      }
      if (arch.startsWith('gemma') && /norm/.test(name)) t = Float32Array.from(from, (v) => v + 1);
      return f32(to, dims, t);
    });
    const metadata: [string, Item][] = [
      ['general.architecture', arch],
      [`${arch}.block_count`, num('num_hidden_layers', 'n_layer')],
      [`${arch}.context_length`, num('max_position_embeddings', 'n_positions')],
      [`${arch}.embedding_length`, num('hidden_size', 'n_embd')],
      [`${arch}.feed_forward_length`, gpt2 ? { u32: 64 } : num('intermediate_size')],
      [`${arch}.attention.head_count`, num('num_attention_heads', 'n_head')],
    ];
    if (gpt2) metadata.push([`${arch}.attention.layer_norm_epsilon`, { f32: 1e-5 }]);
    else
      metadata.push(
        [`${arch}.attention.head_count_kv`, num('num_key_value_heads')],
        [`${arch}.attention.layer_norm_rms_epsilon`, { f32: 1e-5 }],
        [`${arch}.rope.freq_base`, { f32: 10000 }],
        ...(config.head_dim ? [[`${arch}.attention.key_length`, num('head_dim')] as [string, Item]] : []),
      );
    return importFolder(ggufFolder(parseGguf(writeGguf(change({ metadata, tensors })))), everyRow);
  }
  const more =
    (...metadata: [string, Item][]) =>
    (g: Given): Given => ({ ...g, metadata: [...(g.metadata ?? []), ...metadata] });
  test.each([
    ['gpt2', 'gpt2'],
    ['llama, grouped queries', 'llama'],
    ['llama, tied, biases, heads wider than their share', 'llama'],
    ['qwen3, norms of q and k', 'qwen3'],
    ['gemma', 'gemma'],
  ])('%s', (label, arch) => check(gguf(find(label), arch), find(label)));
  test('linear rope', () => {
    const c = find('llama, linear rope');
    check(gguf(c, 'llama', more(['llama.rope.scaling.type', 'linear'], ['llama.rope.scaling.factor', { f32: 4 }])), c);
  });
  test('yarn rope', () => {
    const c = find('llama, yarn rope');
    const yarn = more(
      ['llama.rope.scaling.type', 'yarn'],
      ['llama.rope.scaling.factor', { f32: 4 }],
      ['llama.rope.scaling.original_context_length', { u32: 16 }],
    );
    check(gguf(c, 'llama', yarn), c);
  });
  test('rope factors, as LLaMA 3 has them', () => {
    const c = find('llama, llama3 rope');
    // 16 positions were trained: the second pair turns less than once in them and is slowed down 8 times; the first stays between.
    const keep = (f: number): number => Math.min(1, Math.max(0, ((16 * f) / (2 * Math.PI) - 1) / 3));
    const factor = [1, 0.01].map((f) => 1 / (keep(f) + (1 - keep(f)) / 8));
    check(
      gguf(c, 'llama', (g) => ({ ...g, tensors: [...(g.tensors ?? []), f32('rope_freqs.weight', [2], factor)] })),
      c,
    );
  });
});

test('caches of other lengths are refused by the graph', () => {
  const c = find('llama, grouped queries');
  const m = importPretrained(folder(c));
  const wrong: Caches = { ...emptyCaches(m.graph), 'past_v.1': tensor(Array(8).fill(0), [1, 8]) };
  expect(() => pass(m, c.ids, wrong)).toThrow("input 'past_v.1'");
});
