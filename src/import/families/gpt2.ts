import { z } from 'zod';
import type { Tensor } from '../../graph/graph.ts';
import { activation, type Builder, layerNorm, transposed, weightsOf } from './build.ts';
import { configOf } from './config.ts';
import { clientGraphs, DecoderBuilder, headWidth, lengthOf, nameOf } from './decoder.ts';
import type { Family } from './family.ts';

/**
 * GPT-2: learned positions (added to the embeddings, by the client), LayerNorm before each part, GELU, and one matrix for q, k and v, which
 * is cut in three here. Its checkpoints store dense layers [in, out], GGUF files [out, in].
 */
const size = z
  .int()
  .min(1)
  .max(1 << 20);
const Config = z.object({
  vocab_size: size,
  n_positions: size,
  n_embd: size,
  n_layer: z.int().min(1).max(1000),
  n_head: size,
  n_inner: size.nullish(),
  activation_function: z.string().default('gelu_new'),
  layer_norm_epsilon: z.number().positive().max(1).default(1e-5),
  scale_attn_weights: z.literal(true, 'unscaled attention is not supported').nullish(),
  scale_attn_by_inverse_layer_idx: z.literal(false, 'attention scaled by layer is not supported').nullish(),
  add_cross_attention: z.literal(false, 'cross-attention is not supported').nullish(),
  tie_word_embeddings: z.boolean().nullish(),
});

/** Masks that old checkpoints carry. */
const UNUSED = /^(h\.\d+\.attn\.(bias|masked_bias)|lm_head\.weight)$/;

export const gpt2: Family = (folder, options) => {
  const config = configOf(Config, folder.config, folder.dir);
  const { n_embd: hidden, n_layer: layers, n_head: heads, vocab_size: vocab, layer_norm_epsilon: epsilon } = config;
  headWidth(folder, hidden, heads);
  const inner = config.n_inner ?? 4 * hidden;
  const w = weightsOf(folder.weights, (stored) => stored.replace(/^transformer\./, ''));
  const name = nameOf(folder);
  const d = new DecoderBuilder(name, w);
  const { b } = d;
  const dense = (stored: string, from: number, to: number): Tensor =>
    folder.gguf ? w.takeTransposed(`${stored}.weight`, [to, from]) : w.take(`${stored}.weight`, [from, to]);
  const linear = (node: string, stored: string, x: string, [from, to]: [number, number]): string =>
    b.node('Linear', node, [
      x,
      b.constant(`${stored}.weight`, dense(stored, from, to)),
      b.constant(`${stored}.bias`, w.take(`${stored}.bias`, [to])),
    ]);
  const norm = (node: string, stored: string, x: string, output?: string): string =>
    layerNorm(b, w, node, stored, x, hidden, epsilon, output);

  const word = w.take('wte.weight', [vocab, hidden]);
  const positions = w.take('wpe.weight', [config.n_positions, hidden]);
  let x = b.input('embeddings', 'f32', ['n', hidden]);
  for (let i = 0; i < layers; i++) {
    const [at, stored] = [`/layers.${i}`, `h.${i}`];
    const h = norm(`${at}/ln_1`, `${stored}.ln_1`, x);
    const qkv = columns(dense(`${stored}.attn.c_attn`, hidden, 3 * hidden), 3);
    const bias = columns(w.take(`${stored}.attn.c_attn.bias`, [3 * hidden]), 3);
    const [q] = (['q', 'k', 'v'] as const).map((part, j) =>
      b.node(
        'Linear',
        `${at}/attention/${part}`,
        [h, b.constant(`${stored}.attn.${part}.weight`, qkv[j]), b.constant(`${stored}.attn.${part}.bias`, bias[j])],
        {},
        part === 'q' ? undefined : `${part}.${i}`,
      ),
    );
    const context = d.attention(i, q, hidden, { heads, scale: 1 / Math.sqrt(hidden / heads) });
    x = b.node('Add', `${at}/attention/Add`, [x, linear(`${at}/attention/c_proj`, `${stored}.attn.c_proj`, context, [hidden, hidden])]);
    const wide = linear(`${at}/mlp/c_fc`, `${stored}.mlp.c_fc`, norm(`${at}/ln_2`, `${stored}.ln_2`, x), [hidden, inner]);
    const active = activation(b, config.activation_function, `${at}/mlp/activation`, wide);
    x = b.node('Add', `${at}/mlp/Add`, [x, linear(`${at}/mlp/c_proj`, `${stored}.mlp.c_proj`, active, [inner, hidden])]);
  }
  const tied = config.tie_word_embeddings ?? !w.has('lm_head.weight');
  const head = tied ? transposed(word) : w.takeTransposed('lm_head.weight', [vocab, hidden]);
  const [scale, shift] = ['weight', 'bias'].map((p) => b.constant(`ln_f.${p}`, w.take(`ln_f.${p}`, [hidden])));
  const last = (node: string, v: string, output?: string): string =>
    b.node('LayerNormalization', node, [v, scale, shift], { axis: -1, epsilon }, output);
  const graph = d.finish(x, last, b.constant('lm_head.weight', head), options);
  w.check(UNUSED);
  return {
    graph,
    client: clientGraphs(name, (before) => embed(before, word, positions), { vocab }),
    meta: {
      family: 'gpt2',
      task: 'text-generation',
      hidden,
      layers,
      heads,
      maxTokens: lengthOf(config.n_positions, options),
      labels: [],
      firstPosition: 0,
    },
  };
};

function embed(b: Builder, word: Tensor, positions: Tensor): void {
  const look = (name: string, table: Tensor, ids: string): string =>
    b.node('Gather', `/embeddings/${name}`, [b.constant(name, table), b.input(ids, 'i64', ['n'])], { axis: 0 });
  b.node('Add', '/embeddings/Add', [look('wte', word, 'input_ids'), look('wpe', positions, 'position_ids')], {}, 'embeddings');
}

/** The last axis in `parts` equal pieces. */
function columns(t: Tensor, parts: number): Tensor[] {
  const width = t.shape[t.shape.length - 1];
  const shape = [...t.shape.slice(0, -1), width / parts];
  const rows = t.data.length / width;
  const source = t.data;
  return Array.from({ length: parts }, (_, p) => {
    const data = new Float32Array(source.length / parts);
    for (let r = 0; r < rows; r++) {
      const at = r * width + (p * width) / parts;
      data.set(source.subarray(at, at + width / parts), (r * width) / parts);
    }
    return { dtype: 'f32', shape, data };
  });
}
