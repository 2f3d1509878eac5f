/**
 * A GGUF file as a model folder: its metadata in the words of config.json, its tensors under Hugging Face's names, so that a family reads
 * one spelling. The converter of llama.cpp turned the rows of q and k in LLaMA's line for rotary positions on neighbouring pairs; they are
 * turned back here, whole rows of blocks at a time.
 */
import { ModelError } from '../../graph/graph.ts';
import type { ModelFolder, TensorFile } from '../families/family.ts';
import { dequantise } from './quants.ts';
import type { Gguf, GgufValue } from './read.ts';

type Config = Record<string, unknown>;

interface Architecture {
  readonly modelType: string;
  /** [pattern, Hugging Face's name]; N stands for the layer's number. */
  readonly names: readonly (readonly [string, string])[];
  /** Rows of q and k are in pairs. */
  readonly pairs?: boolean;
}

const llamaNames: readonly (readonly [string, string])[] = [
  ['token_embd', 'model.embed_tokens'],
  ['output_norm', 'model.norm'],
  ['output', 'lm_head'],
  ['blk.N.attn_norm', 'model.layers.N.input_layernorm'],
  ['blk.N.attn_q', 'model.layers.N.self_attn.q_proj'],
  ['blk.N.attn_k', 'model.layers.N.self_attn.k_proj'],
  ['blk.N.attn_v', 'model.layers.N.self_attn.v_proj'],
  ['blk.N.attn_output', 'model.layers.N.self_attn.o_proj'],
  ['blk.N.attn_q_norm', 'model.layers.N.self_attn.q_norm'],
  ['blk.N.attn_k_norm', 'model.layers.N.self_attn.k_norm'],
  ['blk.N.ffn_norm', 'model.layers.N.post_attention_layernorm'],
  ['blk.N.ffn_gate', 'model.layers.N.mlp.gate_proj'],
  ['blk.N.ffn_up', 'model.layers.N.mlp.up_proj'],
  ['blk.N.ffn_down', 'model.layers.N.mlp.down_proj'],
];
/** Gemma 2 and 3 have a norm after each part as well. */
const sandwichNames: readonly (readonly [string, string])[] = [
  ...llamaNames.filter(([from]) => from !== 'blk.N.ffn_norm'),
  ['blk.N.post_attention_norm', 'model.layers.N.post_attention_layernorm'],
  ['blk.N.ffn_norm', 'model.layers.N.pre_feedforward_layernorm'],
  ['blk.N.post_ffw_norm', 'model.layers.N.post_feedforward_layernorm'],
];
const gpt2Names: readonly (readonly [string, string])[] = [
  ['token_embd', 'wte'],
  ['position_embd', 'wpe'],
  ['output_norm', 'ln_f'],
  ['output', 'lm_head'],
  ['blk.N.attn_norm', 'h.N.ln_1'],
  ['blk.N.attn_qkv', 'h.N.attn.c_attn'],
  ['blk.N.attn_output', 'h.N.attn.c_proj'],
  ['blk.N.ffn_norm', 'h.N.ln_2'],
  ['blk.N.ffn_up', 'h.N.mlp.c_fc'],
  ['blk.N.ffn_down', 'h.N.mlp.c_proj'],
];

const architectures: Readonly<Record<string, Architecture>> = {
  llama: { modelType: 'llama', names: llamaNames, pairs: true },
  qwen2: { modelType: 'qwen2', names: llamaNames },
  qwen3: { modelType: 'qwen3', names: llamaNames },
  gemma: { modelType: 'gemma', names: llamaNames },
  gemma2: { modelType: 'gemma2', names: sandwichNames },
  gemma3: { modelType: 'gemma3_text', names: sandwichNames },
  gpt2: { modelType: 'gpt2', names: gpt2Names },
};

export function ggufFolder(file: Gguf): ModelFolder {
  const named = text(file, 'general.architecture');
  const arch = Object.hasOwn(architectures, named) ? architectures[named] : undefined;
  if (arch === undefined)
    throw new ModelError(
      `${file.label}: architecture ${JSON.stringify(named).slice(0, 60)} is not supported; ${Object.keys(architectures).join(', ')} are`,
    );
  const config = configOf(file, named, arch);
  return {
    dir: file.label,
    gguf: true,
    config,
    weights: renamed(file, arch, config),
    json: () => undefined,
    moduleWeights: (path) => {
      throw new ModelError(`${file.label}: no module ${path} in it`);
    },
  };
}

function text(file: Gguf, key: string): string {
  const v = file.metadata.get(key);
  return typeof v === 'string' ? v : wrong(file, key, 'a text', v);
}

function wrong(file: Gguf, key: string, expected: string, got: GgufValue | undefined): never {
  throw new ModelError(`${file.label}: metadata ${key} is ${got === undefined ? 'missing' : typeof got}; ${expected} is expected`);
}

/** A number, or a list of numbers that are all the same (some files give one a layer). */
function numberAt(file: Gguf, key: string): number | undefined {
  const v = file.metadata.get(key);
  if (v === undefined || typeof v === 'number') return v;
  if (typeof v === 'object' && v.length > 0 && typeof v[0] === 'number') {
    const list = v as ArrayLike<number>;
    for (let i = 1; i < list.length; i++)
      if (list[i] !== list[0]) throw new ModelError(`${file.label}: ${key} differs from layer to layer`);
    return list[0];
  }
  return wrong(file, key, 'a number', v);
}

/** What config.json would say; the family's schema checks it. */
function configOf(file: Gguf, named: string, { modelType }: Architecture): Config {
  const get = (key: string): number | undefined => numberAt(file, `${named}.${key}`);
  const hidden = get('embedding_length');
  const heads = get('attention.head_count');
  const vocab = file.tensors.get('token_embd.weight')?.shape[0];
  const common = { model_type: modelType, architectures: [], vocab_size: vocab, tie_word_embeddings: !file.tensors.has('output.weight') };
  if (modelType === 'gpt2')
    return {
      ...common,
      n_embd: hidden,
      n_layer: get('block_count'),
      n_head: heads,
      n_positions: get('context_length'),
      n_inner: get('feed_forward_length'),
      layer_norm_epsilon: get('attention.layer_norm_epsilon'),
      activation_function: 'gelu_new',
    };
  const bias = (name: string): boolean => file.tensors.has(`blk.0.${name}.bias`);
  const window = get('attention.sliding_window');
  return {
    ...common,
    hidden_size: hidden,
    num_hidden_layers: get('block_count'),
    num_attention_heads: heads,
    num_key_value_heads: get('attention.head_count_kv') ?? heads,
    head_dim: get('attention.key_length') ?? (hidden !== undefined && heads !== undefined ? hidden / heads : undefined),
    intermediate_size: get('feed_forward_length'),
    max_position_embeddings: get('context_length'),
    rms_norm_eps: get('attention.layer_norm_rms_epsilon'),
    hidden_act: modelType.startsWith('gemma') ? 'gelu_pytorch_tanh' : 'silu',
    attention_bias: bias('attn_q'),
    mlp_bias: bias('ffn_up'),
    sliding_window: window ?? null,
    use_sliding_window: window !== undefined,
    attn_logit_softcapping: get('attn_logit_softcapping') ?? null,
    final_logit_softcapping: get('final_logit_softcapping') ?? null,
    rope_parameters: rope(file, named, get),
    ...(modelType === 'gemma3_text' ? { rope_local_base_freq: 10000 } : {}),
    // The 27 B models divide by the width a head would have; llama.cpp knows them by their layers too.
    ...(hidden !== undefined && heads !== undefined && get('block_count') === { gemma2: 46, gemma3_text: 62 }[modelType]
      ? { query_pre_attn_scalar: hidden / heads }
      : {}),
  };
}

function rope(file: Gguf, named: string, get: (key: string) => number | undefined): Config {
  const factors = file.tensors.has('rope_freqs.weight') ? Array.from(file.tensor('rope_freqs.weight').data) : undefined;
  const type = file.metadata.get(`${named}.rope.scaling.type`) ?? (get('rope.scale_linear') === undefined ? 'none' : 'linear');
  const head = get('attention.key_length') ?? (get('embedding_length') ?? 0) / (get('attention.head_count') ?? 1);
  return {
    rope_theta: get('rope.freq_base') ?? 10000,
    rope_type: factors ? 'factors' : type === 'none' ? 'default' : type,
    factors,
    factor: get('rope.scaling.factor') ?? get('rope.scale_linear'),
    original_max_position_embeddings: get('rope.scaling.original_context_length'),
    partial_rotary_factor: (get('rope.dimension_count') ?? head) / head,
  };
}

/** The tensors under Hugging Face's names, rows of q and k in their order. */
function renamed(file: Gguf, arch: Architecture, config: Config): TensorFile {
  const table = new Map(arch.names);
  const from = new Map<string, string>();
  for (const name of file.tensors.keys()) {
    if (name === 'rope_freqs.weight') continue;
    const m = /^(blk\.)?(\d+\.)?(.+)\.(weight|bias)$/.exec(name);
    const to = m && table.get(`${m[1] ?? ''}${m[2] ? 'N.' : ''}${m[3]}`);
    from.set(to ? `${to.replace('N', m[2]?.slice(0, -1) ?? '')}.${m[4]}` : name, name);
  }
  const own = (name: string): string => from.get(name) ?? name;
  const headsOf = (name: string): number =>
    !arch.pairs
      ? 0
      : /\.q_proj\./.test(name)
        ? Number(config.num_attention_heads)
        : /\.k_proj\./.test(name)
          ? Number(config.num_key_value_heads)
          : 0;
  const tensors = new Map([...from].map(([to, name]) => [to, file.tensors.get(name) as { shape: readonly number[]; dtype: string }]));
  const bytesOf = (name: string): Uint8Array => {
    const heads = headsOf(name);
    const bytes = file.bytes(own(name));
    const rows = tensors.get(name)?.shape[0] ?? 0;
    return heads > 0 ? unpair(bytes, rows, heads, file.label) : bytes;
  };
  return {
    label: file.label,
    tensors,
    tensor(name) {
      const info = tensors.get(name);
      if (info === undefined) throw new ModelError(`${file.label}: no tensor ${name}`);
      const count = info.shape.reduce((a, b) => a * b, 1);
      return { dtype: 'f32', shape: info.shape, data: dequantise(info.dtype, bytesOf(name), count) };
    },
    lowBit(name) {
      const info = tensors.get(name);
      if (info === undefined || info.dtype === 'F32') return undefined;
      return { type: info.dtype, bytes: bytesOf(name) };
    },
    close: () => file.close(),
  };
}

/** Rows 0, 2, 4 … of each head, then 1, 3, 5 …: from pairs of neighbours to halves. */
function unpair(bytes: Uint8Array, rows: number, heads: number, label: string): Uint8Array {
  const per = rows / heads;
  const width = bytes.length / rows;
  if (!Number.isInteger(per / 2) || !Number.isInteger(width))
    throw new ModelError(`${label}: ${rows} rows do not make ${heads} heads of pairs`);
  const out = new Uint8Array(bytes.length);
  for (let r = 0; r < rows; r++) {
    const [head, i] = [Math.floor(r / per), r % per];
    const to = head * per + (i % 2) * (per / 2) + (i >> 1);
    out.set(bytes.subarray(r * width, (r + 1) * width), to * width);
  }
  return out;
}
