import { z } from 'zod';
import { type Graph, ModelError } from '../../graph/graph.ts';
import { activation, type Builder, builder, finish, layerNorm, linear, row, type Weights, weightsOf } from './build.ts';
import { configOf, labelsOf } from './config.ts';
import type { ClientGraph, Family, ModelFolder, Task } from './family.ts';
import { sentenceModules, sentencePooling } from './sentence.ts';

/**
 * BERT's line: BERT and MiniLM, RoBERTa and XLM-R (positions begin after the padding id), DistilBERT (no token types, other names).
 *
 * Looking up embeddings needs the tokens and public tables, so the client does it: `client.before` turns ids into `embeddings`, the sum of
 * word, position and type rows. The private graph begins with the LayerNorm of that sum. Only whole sequences run (no padding: a
 * private run's length is public and exact), so there is no attention mask.
 */
const size = z
  .int()
  .min(1)
  .max(1 << 20);
const Config = z.object({
  model_type: z.string(),
  architectures: z.array(z.string()).nullish(),
  vocab_size: size,
  max_position_embeddings: size,
  type_vocab_size: z.int().min(0).max(1024).default(2),
  hidden_size: size,
  num_hidden_layers: z.int().min(0).max(1000),
  num_attention_heads: size,
  intermediate_size: size,
  hidden_act: z.string().default('gelu'),
  layer_norm_eps: z.number().positive().max(1).default(1e-12),
  pad_token_id: z.int().min(0).nullish(),
  position_embedding_type: z.literal('absolute', 'relative positions are not supported').nullish(),
  is_decoder: z.literal(false, 'decoders are not supported by this family').nullish(),
  add_cross_attention: z.literal(false, 'cross-attention is not supported').nullish(),
});
type Config = z.infer<typeof Config>;

/** DistilBERT says the same in other words. */
const DISTIL_CONFIG: Record<string, string> = {
  dim: 'hidden_size',
  hidden_dim: 'intermediate_size',
  n_layers: 'num_hidden_layers',
  n_heads: 'num_attention_heads',
  activation: 'hidden_act',
};
const DISTIL_TENSOR: [string, string][] = [
  ['transformer.layer.', 'encoder.layer.'],
  ['attention.q_lin', 'attention.self.query'],
  ['attention.k_lin', 'attention.self.key'],
  ['attention.v_lin', 'attention.self.value'],
  ['attention.out_lin', 'attention.output.dense'],
  ['sa_layer_norm', 'attention.output.LayerNorm'],
  ['ffn.lin1', 'intermediate.dense'],
  ['ffn.lin2', 'output.dense'],
  ['output_layer_norm', 'output.LayerNorm'],
];

export const bert: Family = (folder, options) => {
  const distil = folder.config.model_type === 'distilbert';
  const roberta = folder.config.model_type !== 'bert' && !distil;
  const raw = distil
    ? {
        ...Object.fromEntries(Object.entries(folder.config).map(([k, v]) => [DISTIL_CONFIG[k] ?? k, v])),
        type_vocab_size: 0,
        layer_norm_eps: 1e-12,
      }
    : folder.config;
  const config = configOf(Config, raw, folder.dir);
  if (config.hidden_size % config.num_attention_heads !== 0)
    throw new ModelError(
      `${folder.dir}/config.json: hidden_size ${config.hidden_size} is not a multiple of num_attention_heads ${config.num_attention_heads}`,
    );
  const prefix = /^(bert|roberta|distilbert)\./;
  const weights = weightsOf(folder.weights, (stored) => {
    let name = stored
      .replace(prefix, '')
      .replace(/LayerNorm\.gamma$/, 'LayerNorm.weight')
      .replace(/LayerNorm\.beta$/, 'LayerNorm.bias');
    if (distil) for (const [from, to] of DISTIL_TENSOR) name = name.replace(from, to);
    return name;
  });
  const firstPosition = roberta ? (config.pad_token_id ?? 1) + 1 : 0;
  const before = embeddings(config, weights, folder.dir);

  const b = builder(folder.dir.split(/[\\/]/).filter(Boolean).at(-1) ?? config.model_type);
  const hidden = encoder(b, config, weights);
  b.graph.outputs.push(hidden);
  const task = taskOf(folder, config.architectures?.[0] ?? '');
  const labels =
    task === 'text-classification' || task === 'token-classification'
      ? labelsOf(folder, ['classifier.bias', 'classifier.out_proj.bias'])
      : [];
  let after: Graph;
  if (task === 'sentence-embedding') after = sentenceHead(b, folder, hidden, config.hidden_size);
  else after = head(b, config, weights, task, hidden, labels.length, { distil, roberta });
  weights.check(UNUSED);

  const client: ClientGraph = { before, after };
  const maxTokens = Math.min(
    config.max_position_embeddings - firstPosition,
    sentenceModules(folder)?.maxTokens ?? Number.POSITIVE_INFINITY,
  );
  const outputs = options.outputs ?? (task === 'sentence-embedding' ? b.graph.outputs : b.graph.outputs.slice(-1));
  return {
    graph: finish(b, outputs),
    client,
    meta: {
      family: config.model_type,
      task,
      hidden: config.hidden_size,
      layers: config.num_hidden_layers,
      heads: config.num_attention_heads,
      maxTokens,
      labels,
      firstPosition,
    },
  };
};

/** Buffers, the pooler a model without head never uses, and the heads of pre-training. */
const UNUSED =
  /^(embeddings\.position_ids|embeddings\.token_type_ids|pooler\..*|cls\..*|lm_head\..*|vocab_(transform|layer_norm|projector)\..*)$/;

function taskOf(folder: ModelFolder, architecture: string): Task {
  if (/ForSequenceClassification$/.test(architecture)) return 'text-classification';
  if (/ForTokenClassification$/.test(architecture)) return 'token-classification';
  if (/ForQuestionAnswering$/.test(architecture)) return 'question-answering';
  if (architecture === '' || /(Model|ForMaskedLM|ForPreTraining|ForNextSentencePrediction)$/.test(architecture))
    return 'sentence-embedding';
  throw new ModelError(
    `${folder.dir}/config.json: architecture '${architecture}' is not supported; Model, ForMaskedLM (encoder only), ForSequenceClassification, ForTokenClassification and ForQuestionAnswering are`,
  );
}

/** token ids → the sum of their rows, on the client. */
function embeddings(config: Config, w: Weights, dir: string): Graph {
  const b = builder(`${dir} (client, before)`);
  const look = (table: string, rows: number, ids: string): string => {
    const stored = `embeddings.${table}_embeddings.weight`;
    b.input(ids, 'i64', ['n']);
    return b.node('Gather', `/embeddings/${table}`, [b.constant(stored, w.take(stored, [rows, config.hidden_size])), ids], { axis: 0 });
  };
  const word = look('word', config.vocab_size, 'input_ids');
  const position = look('position', config.max_position_embeddings, 'position_ids');
  const typed = config.type_vocab_size > 0;
  const sum = b.node('Add', '/embeddings/add_position', [word, position], {}, typed ? undefined : 'embeddings');
  if (typed) b.node('Add', '/embeddings/add_type', [sum, look('token_type', config.type_vocab_size, 'token_type_ids')], {}, 'embeddings');
  return finish(b, ['embeddings']);
}

function encoder(b: Builder, config: Config, w: Weights): string {
  const {
    hidden_size: hidden,
    intermediate_size: inner,
    num_attention_heads: heads,
    num_hidden_layers: layers,
    layer_norm_eps: epsilon,
  } = config;
  const norm = (node: string, stored: string, x: string, output?: string): string =>
    layerNorm(b, w, node, stored, x, hidden, epsilon, output);
  let x = norm(
    '/embeddings/LayerNorm',
    'embeddings.LayerNorm',
    b.input('embeddings', 'f32', ['n', hidden]),
    layers === 0 ? 'last_hidden_state' : undefined,
  );
  for (let i = 0; i < layers; i++) {
    const at = `/encoder/layer.${i}`;
    const stored = `encoder.layer.${i}`;
    const [q, k, v] = ['query', 'key', 'value'].map((s) =>
      linear(b, w, `${at}/attention/${s}`, `${stored}.attention.self.${s}`, x, [hidden, hidden]),
    );
    const context = b.node('Attention', `${at}/attention/Attention`, [q, k, v], { heads, scale: 1 / Math.sqrt(hidden / heads) });
    const attended = linear(b, w, `${at}/attention/output`, `${stored}.attention.output.dense`, context, [hidden, hidden]);
    x = norm(`${at}/attention/LayerNorm`, `${stored}.attention.output.LayerNorm`, b.node('Add', `${at}/attention/Add`, [attended, x]));
    const wide = linear(b, w, `${at}/intermediate`, `${stored}.intermediate.dense`, x, [hidden, inner]);
    const narrow = linear(b, w, `${at}/output`, `${stored}.output.dense`, activation(b, config.hidden_act, `${at}/activation`, wide), [
      inner,
      hidden,
    ]);
    x = norm(
      `${at}/output/LayerNorm`,
      `${stored}.output.LayerNorm`,
      b.node('Add', `${at}/output/Add`, [narrow, x]),
      i === layers - 1 ? 'last_hidden_state' : undefined,
    );
  }
  return x;
}

/** Pooling on shares, normalisation at the client: the length of a vector tells nothing new once the vector is known. */
function sentenceHead(b: Builder, folder: ModelFolder, x: string, hidden: number): Graph {
  const modules = sentenceModules(folder);
  const width = sentencePooling(b, folder, modules, x, hidden);
  b.graph.outputs.push('sentence_embedding');
  const after = builder(`${folder.dir} (client, after)`);
  const raw = after.input('sentence_embedding', 'f32', [1, width]);
  if (modules && !modules.normalize) return finish(after, [raw]);
  after.node('LpNormalization', '/normalize', [raw], { axis: -1, p: 2 }, 'normalized_embedding');
  return finish(after, ['normalized_embedding']);
}

function head(
  b: Builder,
  { hidden_size: hidden }: Config,
  w: Weights,
  task: Task,
  x: string,
  labels: number,
  { distil, roberta }: { distil: boolean; roberta: boolean },
): Graph {
  const after = builder(`${b.graph.name} (client, after)`);
  if (task === 'text-classification') {
    const first = row(b, '/pooler/first', x, 0);
    // Dense, tanh (DistilBERT: relu), classifier: only the names differ.
    const dense = roberta ? 'classifier.dense' : distil ? 'pre_classifier' : 'pooler.dense';
    const pooled = activation(
      b,
      distil ? 'relu' : 'tanh',
      '/pooler/activation',
      linear(b, w, '/pooler/dense', dense, first, [hidden, hidden]),
    );
    linear(b, w, '/classifier', roberta ? 'classifier.out_proj' : 'classifier', pooled, [hidden, labels], true, 'logits');
    after.node('Softmax', '/softmax', [after.input('logits', 'f32', [1, labels])], { axis: -1 }, 'probabilities');
    b.graph.outputs.push('logits');
    return finish(after, ['probabilities']);
  }
  const [stored, width] = task === 'token-classification' ? (['classifier', labels] as const) : (['qa_outputs', 2] as const);
  linear(b, w, `/${stored}`, stored, x, [hidden, width], true, 'logits');
  b.graph.outputs.push('logits');
  const logits = after.input('logits', 'f32', ['n', width]);
  // Answers are spans: the softmax of question answering runs over tokens, one column for the start and one for the end.
  after.node('Softmax', '/softmax', [logits], { axis: task === 'token-classification' ? -1 : 0 }, 'probabilities');
  return finish(after, ['probabilities']);
}
