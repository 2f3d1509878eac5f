import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { afterAll, describe, expect, test } from 'vitest';
import { ModelError, sizeOf, type Tensor, tensor } from '../../graph/graph.ts';
import { interpret } from '../../graph/interpret.ts';
import { textInputs } from '../../tasks/text.ts';
import { type TensorData, toTensorData } from '../safetensors.ts';
import { saveSafetensors } from '../safetensors-file.ts';
import { importPretrained } from './index.ts';

/** fixtures/make.py: tiny models as transformers computes them. */
interface Case {
  name: string;
  config: Record<string, unknown>;
  tensors: Record<string, number[]>;
  inputs: Record<string, number[]>;
  outputs: Record<string, number[]>;
}
const cases = JSON.parse(readFileSync(new URL('fixtures/tiny.json', import.meta.url), 'utf8')) as Case[];
const find = (name: string): Case => cases.find((c) => c.name === name) as Case;

const root = mkdtempSync(join(tmpdir(), 'subrosa-families-'));
afterAll(() => rmSync(root, { recursive: true }));

/** make.py's weight(), to the last bit. */
function weight(name: string, shape: number[]): Tensor {
  const gain = name.toLowerCase().endsWith('norm.weight') || (name.includes('layernorm_') && name.endsWith('.weight')) ? 1 : 0;
  const seed = crc32(name);
  return tensor(
    Array.from({ length: sizeOf(shape) }, (_, i) => gain + (((seed + i * 2654435761) % 2 ** 32) / 2 ** 32 - 0.5) * 0.5),
    shape,
  );
}

let count = 0;
function folder(
  c: Case,
  edit: {
    config?: Record<string, unknown>;
    rename?: (name: string) => string;
    tensors?: (t: Map<string, TensorData>) => void;
    files?: Record<string, unknown>;
  } = {},
): string {
  const dir = join(root, `${count++}`);
  mkdirSync(dir);
  const tensors = new Map(
    Object.entries(c.tensors).map(([name, shape]) => [edit.rename?.(name) ?? name, toTensorData(weight(name, shape))]),
  );
  edit.tensors?.(tensors);
  saveSafetensors(join(dir, 'model.safetensors'), tensors);
  writeFileSync(join(dir, 'config.json'), JSON.stringify({ ...c.config, ...edit.config }));
  for (const [path, content] of Object.entries(edit.files ?? {})) {
    mkdirSync(join(dir, path, '..'), { recursive: true });
    writeFileSync(join(dir, path), JSON.stringify(content));
  }
  return dir;
}

/** Client before, private part, client after. */
function run(dir: string, c: Case, outputs?: string[]): Record<string, Tensor> {
  const { graph, client, meta } = importPretrained(dir, { outputs });
  const ids = c.inputs.input_ids;
  const inputs = ids
    ? textInputs({ ids, types: c.inputs.token_type_ids ?? ids.map(() => 0) }, meta.firstPosition)
    : { image: tensor(c.inputs.pixel_values, [1, 3, 8, 8]) };
  const result = interpret(graph, interpret(client.before, inputs));
  return { ...result, ...(outputs ? {} : interpret(client.after, result)) };
}
function close(got: Tensor, wanted: number[], within = 2e-5): void {
  expect(got.data.length).toBe(wanted.length);
  for (const [i, v] of wanted.entries()) expect(Math.abs(got.data[i] - v), `value ${i}`).toBeLessThan(within);
}

describe('a tiny model computes what transformers computes', () => {
  test.each(cases.map((c) => [c.name, c] as const))('%s', (_, c) => {
    const got = run(folder(c), c);
    for (const [name, wanted] of Object.entries(c.outputs)) close(got[name], wanted);
    const p = got.probabilities;
    if (p) expect([...p.data].reduce((a, b) => a + b, 0)).toBeCloseTo(c.name.includes('Question') ? 2 : p.shape[0], 5);
  });
  test('under the names transformers 4 gave', () => {
    const c = find('DeiTForImageClassification');
    const rename = (n: string): string =>
      n
        .replace('.layers.', '.encoder.layer.')
        .replace(/attention\.(q|k|v)_proj/, (_, s: 'q' | 'k' | 'v') => `attention.attention.${{ q: 'query', k: 'key', v: 'value' }[s]}`)
        .replace('o_proj', 'output.dense')
        .replace('mlp.fc1', 'intermediate.dense')
        .replace('mlp.fc2', 'output.dense');
    const dir = folder(c, { rename });
    expect([...Object.keys(c.tensors)].map(rename)).toContain('deit.encoder.layer.0.attention.attention.query.weight');
    close(run(dir, c).logits, c.outputs.logits);
  });
  test('under the names TensorFlow gave', () => {
    const c = find('BertForSequenceClassification');
    close(
      run(folder(c, { rename: (n) => n.replace('LayerNorm.weight', 'LayerNorm.gamma').replace('LayerNorm.bias', 'LayerNorm.beta') }), c)
        .logits,
      c.outputs.logits,
    );
  });
  test('without model_type, from its architecture', () => {
    const c = find('RobertaModel');
    close(run(folder(c, { config: { model_type: undefined } }), c).last_hidden_state, c.outputs.last_hidden_state);
  });
});

describe('a sentence encoder', () => {
  const c = find('BertModel');
  const hidden = c.outputs.last_hidden_state;
  const column = (f: (values: number[]) => number): number[] =>
    Array.from({ length: 12 }, (_, j) => f(Array.from({ length: 5 }, (_, i) => hidden[i * 12 + j])));
  const mean = column((v) => v.reduce((a, b) => a + b, 0) / v.length);
  const length = (v: number[]): number => Math.sqrt(v.reduce((a, b) => a + b * b, 0));
  const module = (i: number, path: string, type: string) => ({ idx: i, name: `${i}`, path, type: `sentence_transformers.models.${type}` });
  const modules = (...rest: [string, string][]) => [
    module(0, '', 'Transformer'),
    ...rest.map(([path, type], i) => module(i + 1, path, type)),
  ];

  test('is what an encoder without a head becomes: mean over tokens, length 1 at the client', () => {
    const got = run(folder(c), c);
    close(got.sentence_embedding, mean);
    expect(got.sentence_embedding.shape).toEqual([1, 12]);
    close(
      got.normalized_embedding,
      mean.map((v) => v / length(mean)),
    );
  });
  test.each([
    ['cls', column((v) => v[0])],
    ['max', column((v) => Math.max(...v))],
    ['lasttoken', column((v) => v[4])],
  ])('pools by %s when its modules say so, and stays as it is without Normalize', (mode, wanted) => {
    for (const config of [
      {
        [`pooling_mode_${mode === 'cls' ? 'cls_token' : mode === 'max' ? 'max_tokens' : 'lasttoken'}`]: true,
        pooling_mode_mean_tokens: false,
      },
      { pooling_mode: mode },
    ]) {
      const got = run(folder(c, { files: { 'modules.json': modules(['1_Pooling', 'Pooling']), '1_Pooling/config.json': config } }), c);
      close(got.sentence_embedding, wanted);
      expect(got.normalized_embedding).toBeUndefined();
    }
  });
  test('has dense layers after the pooling, read from their own folder', () => {
    const files = {
      'modules.json': modules(['1_Pooling', 'Pooling'], ['2_Dense', 'Dense'], ['3_Normalize', 'Normalize']),
      '1_Pooling/config.json': { pooling_mode_mean_tokens: true },
      '2_Dense/config.json': { in_features: 12, out_features: 2, bias: true, activation_function: 'torch.nn.modules.activation.Tanh' },
    };
    const dir = folder(c, { files });
    const w = weight('linear.weight', [2, 12]);
    saveSafetensors(
      join(dir, '2_Dense/model.safetensors'),
      new Map([
        ['linear.weight', toTensorData(w)],
        ['linear.bias', toTensorData(tensor([0.5, -0.5], [2]))],
      ]),
    );
    close(
      run(dir, c).sentence_embedding,
      [0, 1].map((o) => Math.tanh(mean.reduce((s, v, i) => s + v * w.data[o * 12 + i], o ? -0.5 : 0.5))),
    );
  });
  test('reads its longest input from sentence_bert_config.json', () => {
    expect(importPretrained(folder(c)).meta.maxTokens).toBe(16);
    expect(
      importPretrained(folder(c, { files: { 'modules.json': modules(), 'sentence_bert_config.json': { max_seq_length: 7 } } })).meta
        .maxTokens,
    ).toBe(7);
    expect(importPretrained(folder(find('RobertaModel'))).meta).toMatchObject({ maxTokens: 14, firstPosition: 2 });
  });
  test('drops what the chosen outputs do not need', () => {
    const dir = folder(c);
    expect(Object.keys(run(dir, c, ['sentence_embedding']))).toEqual(['sentence_embedding']);
    expect(importPretrained(dir, { outputs: ['last_hidden_state'] }).graph.nodes.at(-1)?.op).toBe('LayerNormalization');
    expect(() => importPretrained(dir, { outputs: ['pooled'] })).toThrow(
      "no output 'pooled'; it can give last_hidden_state, sentence_embedding",
    );
  });
  test('with a module or a pooling we do not know is refused', () => {
    const make = (files: Record<string, unknown>) => () => importPretrained(folder(c, { files }));
    expect(make({ 'modules.json': modules(['1_LSTM', 'LSTM']) })).toThrow("type 'sentence_transformers.models.LSTM' is not supported");
    expect(make({ 'modules.json': modules(['1_Pooling', 'Pooling']), '1_Pooling/config.json': { pooling_mode: 'weightedmean' } })).toThrow(
      "pooling 'weightedmean'",
    );
    expect(
      make({
        'modules.json': modules(['1_Pooling', 'Pooling']),
        '1_Pooling/config.json': { pooling_mode_cls_token: true, pooling_mode_max_tokens: true },
      }),
    ).toThrow('several poolings');
  });
});

describe('a checkpoint and its config must agree', () => {
  const c = find('BertModel');
  const refused = (dir: string, ...reasons: string[]): void => {
    for (const reason of reasons) {
      expect(() => importPretrained(dir)).toThrow(ModelError);
      expect(() => importPretrained(dir)).toThrow(reason);
    }
  };
  test('all that is missing, misshapen, not float or left over is listed at once', () => {
    const dir = folder(c, {
      tensors: (t) => {
        t.delete('encoder.layer.1.output.dense.weight');
        t.set('encoder.layer.0.attention.self.query.bias', toTensorData(tensor([0], [1])));
        t.set('encoder.layer.0.attention.self.key.bias', toTensorData(tensor(Array(12).fill(0), [12], 'i64')));
        t.set('encoder.layer.7.extra', toTensorData(tensor([0], [1])));
        t.set('embeddings.position_ids', toTensorData(tensor([0], [1], 'i64')));
      },
    });
    refused(
      dir,
      'missing    encoder.layer.1.output.dense.weight [12,20]',
      'misshapen  encoder.layer.0.attention.self.query.bias: expected [12], got [1]',
      'not float  encoder.layer.0.attention.self.key.bias: I64',
      'unexpected encoder.layer.7.extra [1]',
    );
    expect(() => importPretrained(dir)).not.toThrow('position_ids');
  });
  test('one tensor under two names is refused', () =>
    refused(
      folder(c, { tensors: (t) => t.set('bert.embeddings.LayerNorm.bias', toTensorData(tensor(Array(12).fill(0), [12]))) }),
      'both stand for embeddings.LayerNorm.bias',
    ));
  test.each([
    ['model_type unknown', { model_type: 'mamba' }, "model_type 'mamba' (BertModel) is not supported as safetensors; bert, roberta"],
    ['model_type from the prototype', { model_type: 'constructor' }, "model_type 'constructor'"],
    ['heads that do not divide', { num_attention_heads: 5 }, 'not a multiple of num_attention_heads'],
    ['relative positions', { position_embedding_type: 'relative_key' }, 'relative positions are not supported'],
    ['a decoder', { is_decoder: true }, 'decoders are not supported'],
    ['an architecture with another head', { architectures: ['BertForMultipleChoice'] }, "'BertForMultipleChoice' is not supported"],
    ['an activation unknown', { hidden_act: 'gegelu' }, "activation 'gegelu'"],
    ['a size of zero', { hidden_size: 0 }, 'hidden_size'],
    ['a size of a billion', { hidden_size: 1e9 }, 'hidden_size'],
    ['a size that is text', { vocab_size: '30' }, 'vocab_size'],
    ['a million layers', { num_hidden_layers: 1e6 }, 'num_hidden_layers'],
    ['an epsilon of zero', { layer_norm_eps: 0 }, 'layer_norm_eps'],
  ])('%s', (_, config, reason) => refused(folder(c, { config }), reason));
  test('labels that skip a number', () =>
    refused(folder(find('BertForSequenceClassification'), { config: { id2label: { 0: 'a', 2: 'b' } } }), 'id2label'));
  test('patches that do not tile the image', () =>
    refused(folder(find('ViTModel'), { config: { image_size: 9 } }), 'do not tile an image of 9x9'));
  test('no config, no weights, no JSON', () => {
    const dir = mkdtempSync(join(root, 'bare-'));
    refused(dir, 'no config.json');
    writeFileSync(join(dir, 'config.json'), '{');
    refused(dir, 'not JSON');
    writeFileSync(join(dir, 'config.json'), '[]');
    refused(dir, 'an object is expected');
    writeFileSync(join(dir, 'config.json'), JSON.stringify(c.config));
    refused(dir, 'cannot be opened');
  });
});

test('labels come in logit order, made up where config.json has none', () => {
  const c = find('BertForSequenceClassification');
  expect(importPretrained(folder(c, { config: { id2label: { 2: 'c', 0: 'a', 1: 'b' } } })).meta.labels).toEqual(['a', 'b', 'c']);
  expect(importPretrained(folder(c, { config: { id2label: undefined } })).meta.labels).toEqual(['LABEL_0', 'LABEL_1', 'LABEL_2']);
});
