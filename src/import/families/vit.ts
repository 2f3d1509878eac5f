import { z } from 'zod';
import { ModelError, sizeOf, type Tensor } from '../../graph/graph.ts';
import { activation, builder, finish, ints, layerNorm, linear, row, weightsOf } from './build.ts';
import { configOf, labelsOf } from './config.ts';
import type { Family } from './family.ts';

/**
 * Vision transformers: ViT, and DeiT, which has a second learnt token beside [CLS] and may have a second classifier on it (the answer is
 * then the mean of both). The image arrives resized and normalised (tasks/image.ts, by preprocessor_config.json); cutting it into patches
 * is a convolution whose stride is its kernel, on shares.
 */
const size = z
  .int()
  .min(1)
  .max(1 << 16);
const pair = z.union([size.transform((n): [number, number] => [n, n]), z.tuple([size, size])]);
const Config = z.object({
  model_type: z.string(),
  architectures: z.array(z.string()).nullish(),
  image_size: pair.default([224, 224]),
  patch_size: pair.default([16, 16]),
  num_channels: size.default(3),
  hidden_size: size,
  num_hidden_layers: z.int().min(0).max(1000),
  num_attention_heads: size,
  intermediate_size: size,
  hidden_act: z.string().default('gelu'),
  layer_norm_eps: z.number().positive().max(1).default(1e-12),
  qkv_bias: z.boolean().default(true),
});

/** What transformers 5 calls them in memory; files are known in both forms. */
const RENAMED: readonly (readonly [string, RegExp])[] = [
  ['encoder.layer.', /^layers\./],
  ['attention.attention.query', /attention\.q_proj/],
  ['attention.attention.key', /attention\.k_proj/],
  ['attention.attention.value', /attention\.v_proj/],
  ['attention.output.dense', /attention\.o_proj/],
  ['intermediate.dense', /mlp\.fc1/],
  ['output.dense', /mlp\.fc2/],
];
const UNUSED = /^(pooler\..*|embeddings\.mask_token|decoder\..*)$/;

export const vit: Family = (folder, options) => {
  const config = configOf(Config, folder.config, folder.dir);
  const {
    hidden_size: hidden,
    num_attention_heads: heads,
    num_hidden_layers: layers,
    intermediate_size: inner,
    layer_norm_eps: epsilon,
    num_channels: channels,
  } = config;
  const [[height, width], [patchHeight, patchWidth]] = [config.image_size, config.patch_size];
  if (hidden % heads !== 0)
    throw new ModelError(`${folder.dir}/config.json: hidden_size ${hidden} is not a multiple of num_attention_heads ${heads}`);
  if (height % patchHeight !== 0 || width % patchWidth !== 0)
    throw new ModelError(`${folder.dir}/config.json: patches of ${patchHeight}x${patchWidth} do not tile an image of ${height}x${width}`);
  const patches = (height / patchHeight) * (width / patchWidth);
  const tokens = config.model_type === 'deit' ? 2 : 1;
  const w = weightsOf(folder.weights, (name) => RENAMED.reduce((n, [to, from]) => n.replace(from, to), name.replace(/^(vit|deit)\./, '')));
  const b = builder(folder.dir.split(/[\\/]/).filter(Boolean).at(-1) ?? config.model_type);

  const stored = 'embeddings.patch_embeddings.projection';
  const image = b.input('image', 'f32', [1, channels, height, width]);
  const kernel = b.constant(`${stored}.weight`, w.take(`${stored}.weight`, [hidden, channels, patchHeight, patchWidth]));
  const bias = b.constant(`${stored}.bias`, w.take(`${stored}.bias`, [hidden]));
  const maps = b.node('Conv', '/embeddings/patch', [image, kernel, bias], {
    kernel_shape: [patchHeight, patchWidth],
    strides: [patchHeight, patchWidth],
    pads: [0, 0, 0, 0],
    dilations: [1, 1],
    group: 1,
  });
  const flat = b.node('Reshape', '/embeddings/flatten', [maps, b.constant('/embeddings/flatten/shape', ints(hidden, -1))]);
  const rows = b.node('Transpose', '/embeddings/transpose', [flat], { perm: [1, 0] });
  // The learnt tokens' rows are the same for every image: their positions are added here, once.
  const positions = w.take('embeddings.position_embeddings', [1, patches + tokens, hidden]);
  const learnt = [
    w.take('embeddings.cls_token', [1, 1, hidden]),
    ...(tokens === 2 ? [w.take('embeddings.distillation_token', [1, 1, hidden])] : []),
  ];
  const placed = b.node('Add', '/embeddings/positions', [
    rows,
    b.constant('embeddings.position_embeddings', part(positions, tokens, patches)),
  ]);
  let x = b.node('Concat', '/embeddings/tokens', [b.constant('embeddings.tokens', sum(learnt, positions)), placed], { axis: 0 });

  for (let i = 0; i < layers; i++) {
    const at = `/encoder/layer.${i}`;
    const from = `encoder.layer.${i}`;
    const normed = layerNorm(b, w, `${at}/layernorm_before`, `${from}.layernorm_before`, x, hidden, epsilon);
    const [q, k, v] = ['query', 'key', 'value'].map((s) =>
      linear(b, w, `${at}/attention/${s}`, `${from}.attention.attention.${s}`, normed, [hidden, hidden], config.qkv_bias),
    );
    const context = b.node('Attention', `${at}/attention/Attention`, [q, k, v], { heads, scale: 1 / Math.sqrt(hidden / heads) });
    x = b.node('Add', `${at}/attention/Add`, [
      linear(b, w, `${at}/attention/output`, `${from}.attention.output.dense`, context, [hidden, hidden]),
      x,
    ]);
    const again = layerNorm(b, w, `${at}/layernorm_after`, `${from}.layernorm_after`, x, hidden, epsilon);
    const wide = activation(
      b,
      config.hidden_act,
      `${at}/activation`,
      linear(b, w, `${at}/intermediate`, `${from}.intermediate.dense`, again, [hidden, inner]),
    );
    x = b.node('Add', `${at}/output/Add`, [linear(b, w, `${at}/output`, `${from}.output.dense`, wide, [inner, hidden]), x]);
  }
  x = layerNorm(b, w, '/layernorm', 'layernorm', x, hidden, epsilon, 'last_hidden_state');
  b.graph.outputs.push(x);

  const architecture = config.architectures?.[0] ?? '';
  const classes = /ForImageClassification(WithTeacher)?$/.test(architecture);
  if (!classes && architecture !== '' && !/(Model|ForMaskedImageModeling)$/.test(architecture))
    throw new ModelError(
      `${folder.dir}/config.json: architecture '${architecture}' is not supported; Model, ForImageClassification and ForImageClassificationWithTeacher are`,
    );
  const labels = classes ? labelsOf(folder, ['classifier.bias', 'cls_classifier.bias']) : [];
  const after = builder(`${folder.dir} (client, after)`);
  if (!classes) after.input('last_hidden_state', 'f32', [patches + tokens, hidden]);
  else {
    const read = (at: number, name: string, output?: string): string =>
      linear(b, w, `/${name}`, name, row(b, `/${name}/token`, x, at), [hidden, labels.length], true, output);
    if (architecture.endsWith('WithTeacher')) {
      const both = b.node('Add', '/classifier/Add', [read(0, 'cls_classifier'), read(1, 'distillation_classifier')]);
      b.node(
        'Mul',
        '/classifier/Mean',
        [both, b.constant('/classifier/half', { dtype: 'f32', shape: [], data: Float32Array.of(0.5) })],
        {},
        'logits',
      );
    } else read(0, 'classifier', 'logits');
    b.graph.outputs.push('logits');
    after.node('Softmax', '/softmax', [after.input('logits', 'f32', [1, labels.length])], { axis: -1 }, 'probabilities');
  }
  w.check(UNUSED);

  const before = builder(`${folder.dir} (client, before)`);
  before.input('image', 'f32', [1, channels, height, width]);
  return {
    graph: finish(b, options.outputs ?? b.graph.outputs.slice(-1)),
    client: { before: finish(before, ['image']), after: finish(after, classes ? ['probabilities'] : ['last_hidden_state']) },
    meta: {
      family: config.model_type,
      task: classes ? 'image-classification' : 'image-features',
      hidden,
      layers,
      heads,
      maxTokens: 0,
      labels,
      firstPosition: 0,
      image: [channels, height, width],
    },
  };
};

/** Rows begin … begin + count of a [1, rows, width] table, as [count, width]. */
const part = ({ shape, data }: Tensor, begin: number, count: number): Tensor => ({
  dtype: 'f32',
  shape: [count, shape[2]],
  data: (data as Float32Array).slice(begin * shape[2], (begin + count) * shape[2]),
});

/** Learnt tokens with their positions, [tokens, width]. */
function sum(tokens: Tensor[], positions: Tensor): Tensor {
  const width = positions.shape[2];
  const out = new Float32Array(sizeOf([tokens.length, width]));
  for (const [t, token] of tokens.entries())
    for (let i = 0; i < width; i++) out[t * width + i] = token.data[i] + positions.data[t * width + i];
  return { dtype: 'f32', shape: [tokens.length, width], data: out };
}
