/** A tiny model for each task, compiled, as parties serve it: for tests of what clients do with them. */
import { createHash } from 'node:crypto';
import type { WeightTensor } from '../src/compile/builder.ts';
import { calibrate } from '../src/compile/calibrate.ts';
import { compile } from '../src/compile/compile.ts';
import { graphToJson } from '../src/folder/graph.ts';
import { canonical } from '../src/folder/index.ts';
import { programText } from '../src/folder/program.ts';
import { type Graph, type GraphNode, type Tensor, tensor } from '../src/graph/graph.ts';
import { interpret } from '../src/graph/interpret.ts';
import { type TensorData, writeSafetensors } from '../src/import/safetensors.ts';
import type { Served } from '../src/server/net.case.ts';
import { type Answer, answerOf } from '../src/tasks/answer.ts';
import type { Encoded } from '../src/tasks/encoded.ts';
import { plainSpec } from '../src/tasks/pixels.ts';

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
export const vocab = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', 'the', 'cat', 'sat', 'play', '##ing', 'paris', 'anna', 'tax'];
/** A BERT tokenizer of twelve words, in tokenizer.json's form. */
export const tokenizerJson = {
  version: '1.0',
  added_tokens: vocab.slice(0, 4).map((word, i) => special(i, word)),
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

const waves = (shape: number[], step: number): Tensor =>
  tensor(
    Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(step * (i + 1))),
    shape,
  );
const node = (op: string, inputs: string[], output: string, attrs: GraphNode['attrs'] = {}): GraphNode => ({
  op,
  name: `/${output}`,
  inputs,
  outputs: [output],
  attrs,
});

export type TaskName =
  | 'sentence-embedding'
  | 'text-classification'
  | 'token-classification'
  | 'question-answering'
  | 'image-classification';
const maxTokens = 8;
const width = 3;
/** Edge of the image model's pictures. */
export const edge = 6;

interface Shape {
  readonly inWidth: number;
  readonly outWidth: number;
  /** One row from all of them. */
  readonly pooled: boolean;
  readonly output: string;
  readonly after: GraphNode[];
  readonly labels: string[];
}
const softmax = (axis: number): GraphNode[] => [node('Softmax', ['logits'], 'probabilities', { axis })];
const shapes: Record<TaskName, Shape> = {
  'sentence-embedding': {
    inWidth: width,
    outWidth: 4,
    pooled: true,
    output: 'sentence_embedding',
    after: [node('LpNormalization', ['sentence_embedding'], 'normalized_embedding', { axis: -1, p: 2 })],
    labels: [],
  },
  'text-classification': {
    inWidth: width,
    outWidth: 2,
    pooled: true,
    output: 'logits',
    after: softmax(-1),
    labels: ['NEGATIVE', 'POSITIVE'],
  },
  'token-classification': { inWidth: width, outWidth: 3, pooled: false, output: 'logits', after: softmax(-1), labels: ['O', 'PER', 'LOC'] },
  'question-answering': { inWidth: width, outWidth: 2, pooled: false, output: 'logits', after: softmax(0), labels: [] },
  'image-classification': {
    inWidth: edge * edge,
    outWidth: 3,
    pooled: false,
    output: 'logits',
    after: softmax(-1),
    labels: ['shoe', 'shirt', 'bag'],
  },
};

export interface Made extends Served {
  readonly model: {
    readonly task: TaskName;
    readonly labels: string[];
    readonly before: Graph;
    readonly after: Graph;
    readonly graph: Graph;
  };
}

export function taskModel(task: TaskName): Made {
  const { inWidth, outWidth, pooled, output, after: last, labels } = shapes[task];
  const image = task === 'image-classification';
  const rows = image ? 1 : 'n';
  const table = waves([vocab.length, width], 0.9);
  const before: Graph = image
    ? {
        name: 'before',
        inputs: [{ name: 'image', dtype: 'f32', shape: [1, 1, edge, edge] }],
        outputs: ['x'],
        nodes: [node('Reshape', ['image', 'to'], 'x')],
        constants: new Map([['to', tensor([1, inWidth], [2], 'i64')]]),
      }
    : {
        name: 'before',
        inputs: [{ name: 'input_ids', dtype: 'i64', shape: ['n'] }],
        outputs: ['x'],
        nodes: [node('Gather', ['table', 'input_ids'], 'x', { axis: 0 })],
        constants: new Map([['table', table]]),
      };
  const graph: Graph = {
    name: `tiny ${task}`,
    inputs: [{ name: 'x', dtype: 'f32', shape: [rows, inWidth] }],
    outputs: [output],
    nodes: [
      node('Linear', ['x', 'W', 'b'], pooled ? 'h' : output),
      ...(pooled ? [node('ReduceMean', ['h', 'first'], output, { keepdims: 1 })] : []),
    ],
    constants: new Map([
      ['W', waves([inWidth, outWidth], 2.3)],
      ['b', waves([outWidth], 0.4)],
      ...(pooled ? [['first', tensor([0], [1], 'i64')] as const] : []),
    ]),
  };
  const after: Graph = {
    name: 'after',
    inputs: [{ name: output, dtype: 'f32', shape: [pooled || image ? 1 : 'n', outWidth] }],
    outputs: [last[0].outputs[0]],
    nodes: last,
    constants: new Map(),
  };
  const samples = Array.from({ length: 6 }, (_, i) => ({ x: waves([image ? 1 : i + 2, inWidth], 0.37 + i) }));
  const { program, weights } = compile(graph, calibrate(graph, samples), { weights: 'public', max: image ? {} : { n: maxTokens } });
  const hash = createHash('sha256')
    .update(programText({ ...program, weightsHash: '0'.repeat(64) }))
    .digest('hex');
  const tensors = new Map<string, TensorData>();
  const text = (s: string): Uint8Array => new TextEncoder().encode(s);
  const info = {
    format: 'subrosa-client/1',
    name: graph.name,
    program: hash,
    task,
    family: 'test',
    labels,
    maxTokens: image ? 0 : maxTokens,
    firstPosition: 0,
    tokenizer: !image,
    calibration: 'sines',
    ...(image ? { image: plainSpec([1, edge, edge]) } : {}),
  };
  return {
    program,
    hash,
    task,
    weights: {
      words: (name) => {
        const { shape, data } = weights.get(name) as WeightTensor;
        return { shape: [...shape], data };
      },
      weightMask: (_, name) => {
        throw new Error(name);
      },
    },
    files: {
      'client.json': text(canonical(info)),
      'before.json': text(graphToJson(before, 'before/', tensors)),
      'after.json': text(graphToJson(after, 'after/', tensors)),
      'client.safetensors': writeSafetensors(tensors),
      ...(image ? {} : { 'tokenizer.json': text(JSON.stringify(tokenizerJson)) }),
    },
    model: { task, labels, before, after, graph },
  };
}

/** What the float model answers. */
export function plainAnswer({ model }: Made, given: Record<string, Tensor>, encoded?: Encoded): Answer {
  return answerOf(model, interpret(model.graph, interpret(model.before, given)), { encoded });
}
