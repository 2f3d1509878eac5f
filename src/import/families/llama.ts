import { z } from 'zod';
import { ModelError, type Tensor } from '../../graph/graph.ts';
import { activation, ints, weightsOf } from './build.ts';
import { configOf } from './config.ts';
import { clientGraphs, DecoderBuilder, headWidth, lengthOf, nameOf } from './decoder.ts';
import type { Family, ImportOptions, ModelFolder } from './family.ts';
import { Rope, ropeTables } from './rope.ts';

/**
 * LLaMA's line: LLaMA 1–3, SmolLM2, Mistral (sliding windows), Qwen2 (biases), Qwen3 (norms of q and k), Gemma 1–3 (scaled embeddings,
 * GeGLU, 1 + w in its norms, norms after each part, capped scores). RMSNorm, rotary positions, grouped queries, a gated feed-forward part.
 */
const size = z
  .int()
  .min(1)
  .max(1 << 20);
const Config = z.object({
  model_type: z.string(),
  vocab_size: size,
  hidden_size: size,
  num_hidden_layers: z.int().min(1).max(1000),
  num_attention_heads: size,
  num_key_value_heads: size.nullish(),
  head_dim: size.nullish(),
  intermediate_size: size,
  hidden_act: z.string().nullish(),
  hidden_activation: z.string().nullish(),
  max_position_embeddings: z
    .int()
    .min(1)
    .max(1 << 24),
  rms_norm_eps: z.number().positive().max(1).default(1e-6),
  tie_word_embeddings: z.boolean().nullish(),
  rope_theta: z.number().positive().nullish(),
  rope_scaling: Rope.nullish(),
  /** One for all layers, or one for each kind of layer. */
  rope_parameters: z.union([z.strictObject({ full_attention: Rope, sliding_attention: Rope }), Rope]).nullish(),
  rope_local_base_freq: z.number().positive().nullish(),
  sliding_window: z.int().min(1).nullish(),
  use_sliding_window: z.boolean().nullish(),
  max_window_layers: z.int().min(0).nullish(),
  sliding_window_pattern: z.int().min(1).nullish(),
  layer_types: z
    .array(z.enum(['full_attention', 'sliding_attention'], 'layers other than full and sliding attention are not supported'))
    .nullish(),
  query_pre_attn_scalar: z.number().positive().nullish(),
  attn_logit_softcapping: z.number().positive().nullish(),
  final_logit_softcapping: z.number().positive().nullish(),
  use_bidirectional_attention: z.literal(false, 'bidirectional attention is not supported').nullish(),
});
type Config = z.infer<typeof Config>;

const UNUSED = /^(layers\.\d+\.self_attn\.rotary_emb\.inv_freq|rotary_emb\.inv_freq|lm_head\.weight)$/;

export const llama: Family = (folder, options) => {
  const config = configOf(Config, folder.config, folder.dir);
  const {
    hidden_size: hidden,
    num_hidden_layers: layers,
    num_attention_heads: heads,
    intermediate_size: inner,
    vocab_size: vocab,
  } = config;
  const gemma = config.model_type.startsWith('gemma');
  /** Gemma 2 and 3: a norm after each part too. */
  const sandwich = /^gemma[23]/.test(config.model_type);
  const kvHeads = config.num_key_value_heads ?? heads;
  const d = headWidth(folder, hidden, heads, config.head_dim ?? (gemma ? 256 : undefined));
  if (heads % kvHeads !== 0) throw new ModelError(`${folder.dir}: ${heads} heads cannot share ${kvHeads} keys`);
  const w = weightsOf(folder.weights, (stored) => stored.replace(/^model\./, ''));
  const name = nameOf(folder);
  const make = new DecoderBuilder(name, w);
  const { b } = make;
  const ropes = ropesOf(config, folder, options, d);
  const tables = ropes.kinds.map(({ cos, sin }, i) => [b.constant(`rope.${i}.cos`, cos), b.constant(`rope.${i}.sin`, sin)]);

  /** The file's scale, plus 1 in Gemma's checkpoints (a GGUF file has it in already). */
  const scaleOf = (stored: string, width: number): string => {
    const t = w.take(`${stored}.weight`, [width]);
    return b.constant(`${stored}.weight`, gemma && !folder.gguf ? { ...t, data: t.data.map((v) => v + 1) } : t);
  };
  const rms = (node: string, scale: string, x: string, output?: string): string =>
    b.node('RMSNormalization', node, [x, scale], { axis: -1, epsilon: config.rms_norm_eps }, output);
  const norm = (node: string, stored: string, x: string): string => rms(node, scaleOf(stored, hidden), x);
  const perHead = (node: string, stored: string, x: string, count: number): string => {
    if (!w.has(`${stored}.weight`)) return x;
    const wide = b.node('Reshape', `${node}/split`, [x, b.constant(`${node}/heads`, ints(0, count, d))]);
    const normed = rms(node, scaleOf(stored, d), wide);
    return b.node('Reshape', `${node}/join`, [normed, b.constant(`${node}/width`, ints(0, count * d))]);
  };

  const word = w.take('embed_tokens.weight', [vocab, hidden]);
  const kind = config.hidden_activation ?? (gemma ? 'gelu_pytorch_tanh' : config.hidden_act) ?? 'silu';
  const scale = (config.query_pre_attn_scalar ?? d) ** -0.5;
  let x = b.input('embeddings', 'f32', ['n', hidden]);
  for (let i = 0; i < layers; i++) {
    const [at, stored] = [`/layers.${i}`, `layers.${i}`];
    const window = windowOf(config, i);
    const attn = `${stored}.self_attn`;
    const h = norm(`${at}/input_norm`, `${stored}.input_layernorm`, x);
    const past = make.past(`past_k.${i}`, kvHeads * d);
    const turned = (part: 'q' | 'k', count: number, output?: string): string => {
      const flat = make.linear(`${at}/attention/${part}_proj`, `${attn}.${part}_proj`, h, [hidden, count * d]);
      const v = perHead(`${at}/attention/${part}_norm`, `${attn}.${part}_norm`, flat, count);
      return b.node('Rotary', `${at}/attention/${part}_rotary`, [v, ...tables[ropes.of(window > 0)], past], { heads: count }, output);
    };
    const q = turned('q', heads);
    turned('k', kvHeads, `k.${i}`);
    make.linear(`${at}/attention/v_proj`, `${attn}.v_proj`, h, [hidden, kvHeads * d], `v.${i}`);
    const attrs: Record<string, number> = { heads, kvHeads, scale };
    if (window > 0) attrs.window = window;
    if (config.attn_logit_softcapping) attrs.softcap = config.attn_logit_softcapping;
    const context = make.attention(i, q, kvHeads * d, attrs);
    let part = make.linear(`${at}/attention/o_proj`, `${attn}.o_proj`, context, [heads * d, hidden]);
    if (sandwich) part = norm(`${at}/attention/norm`, `${stored}.post_attention_layernorm`, part);
    x = b.node('Add', `${at}/attention/Add`, [x, part]);
    const m = norm(`${at}/mlp/norm`, `${stored}.${sandwich ? 'pre_feedforward' : 'post_attention'}_layernorm`, x);
    const gate = make.linear(`${at}/mlp/gate_proj`, `${stored}.mlp.gate_proj`, m, [hidden, inner]);
    const up = make.linear(`${at}/mlp/up_proj`, `${stored}.mlp.up_proj`, m, [hidden, inner]);
    const gated = b.node('Mul', `${at}/mlp/Mul`, [activation(b, kind, `${at}/mlp/activation`, gate), up]);
    part = make.linear(`${at}/mlp/down_proj`, `${stored}.mlp.down_proj`, gated, [inner, hidden]);
    if (sandwich) part = norm(`${at}/mlp/post_norm`, `${stored}.post_feedforward_layernorm`, part);
    x = b.node('Add', `${at}/mlp/Add`, [x, part]);
  }
  const tied = config.tie_word_embeddings ?? !w.has('lm_head.weight');
  const head = b.constant('lm_head.weight', w.takeTransposed(tied ? 'embed_tokens.weight' : 'lm_head.weight', [vocab, hidden]));
  const last = scaleOf('norm', hidden);
  const graph = make.finish(x, (node, v, output) => rms(node, last, v, output), head, options);
  w.check(UNUSED);
  const client = clientGraphs(
    name,
    (before) => {
      const ids = before.input('input_ids', 'i64', ['n']);
      const rows = before.node(
        'Gather',
        '/embeddings/word',
        [before.constant('embed_tokens', word), ids],
        { axis: 0 },
        gemma ? undefined : 'embeddings',
      );
      const by: Tensor = { dtype: 'f32', shape: [1], data: Float32Array.of(Math.sqrt(hidden)) };
      if (gemma) before.node('Mul', '/embeddings/scale', [rows, before.constant('embed_scale', by)], {}, 'embeddings');
    },
    { vocab, cap: config.final_logit_softcapping },
  );
  return {
    graph,
    client,
    meta: {
      family: config.model_type,
      task: 'text-generation',
      hidden,
      layers,
      heads,
      maxTokens: ropes.length,
      labels: [],
      firstPosition: 0,
    },
  };
};

/** How many keys back layer i sees, itself counted; 0 for all of them. */
function windowOf(config: Config, i: number): number {
  const window = config.sliding_window ?? 0;
  if (config.layer_types) return config.layer_types[i] === 'sliding_attention' ? window : 0;
  switch (config.model_type) {
    case 'mistral':
      return window;
    case 'qwen2':
    case 'qwen3':
      return config.use_sliding_window && i >= (config.max_window_layers ?? 0) ? window : 0;
    case 'gemma2':
      return i % 2 === 0 ? window : 0;
    case 'gemma3_text':
      return (i + 1) % (config.sliding_window_pattern ?? 6) !== 0 ? window : 0;
    default:
      return 0;
  }
}

/** The tables: one pair, or a second for layers with a window (Gemma 3). */
function ropesOf(
  config: Config,
  folder: ModelFolder,
  options: ImportOptions,
  d: number,
): { length: number; kinds: { cos: Tensor; sin: Tensor }[]; of(windowed: boolean): number } {
  const given = config.rope_parameters;
  const split = given && 'full_attention' in given ? given : undefined;
  const main: Rope = split?.full_attention ?? {
    rope_theta: config.rope_theta,
    ...config.rope_scaling,
    ...(given as Rope | null | undefined),
  };
  const theta = config.rope_local_base_freq ?? (config.model_type === 'gemma3_text' ? 10000 : undefined);
  const local: Rope | undefined = split?.sliding_attention ?? (theta === undefined ? undefined : { rope_theta: theta });
  const trained = config.max_position_embeddings;
  const type = main.rope_type ?? main.type;
  // These two stretch with the length that is asked for; unasked, they are what they were before stretching.
  const length =
    type === 'dynamic' && options.maxTokens !== undefined
      ? options.maxTokens
      : lengthOf(
          trained,
          type === 'longrope' ? { maxTokens: options.maxTokens ?? main.original_max_position_embeddings ?? undefined } : options,
        );
  try {
    const kinds = [main, ...(local ? [local] : [])].map((rope) => {
      const r = 2 * Math.floor((d * (rope.partial_rotary_factor ?? 1)) / 2);
      return ropeTables(rope, r, trained, length);
    });
    return { length, kinds, of: (windowed) => (windowed && local ? 1 : 0) };
  } catch (e) {
    throw e instanceof ModelError ? new ModelError(`${folder.dir}: ${e.message}`, { cause: e }) : e;
  }
}
