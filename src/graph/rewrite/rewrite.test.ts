import { describe, expect, test } from 'vitest';
import { buildModel, difference, f, node, randomizer, randomTensor, reference } from '../../../test/fixtures/onnx/build.ts';
import { Script } from '../../../test/fixtures/onnx/decomposed.ts';
import { readOnnx } from '../../import/onnx/read.ts';
import { type Graph, ModelError, tensor } from '../graph.ts';
import { interpret } from '../interpret.ts';
import { bindInputs, rewrite } from './index.ts';

const W = 24;
const random = randomizer(5);
const opsOf = (g: Graph): string[] => g.nodes.map((n) => n.op).filter((op) => op !== 'Identity');

/** Reads, rewrites, and holds file, graph and rewritten graph to the same values at several lengths. */
async function rewritten(bytes: Uint8Array, shapes: readonly (readonly number[])[]): Promise<Graph> {
  const graph = readOnnx(bytes);
  const short = rewrite(graph);
  for (const shape of shapes) {
    const x = randomTensor(shape, random);
    const want = await reference(bytes, { x });
    const plain = interpret(graph, { x });
    expect(difference(plain.y, want.y)).toBeLessThan(2e-5);
    expect(difference(interpret(short, { x }).y, plain.y)).toBeLessThan(1e-5);
  }
  return short;
}

describe.each([11, 13, 17, 20])('opset %i', (opset) => {
  const lengths = [
    [1, 5, W],
    [1, 9, W],
    [1, 1, W],
  ];
  const dynamic = [1, 'n', W];

  test.each(['erf', 'half first', 'tanh', 'tanh cube'] as const)('GELU (%s) is found', async (form) => {
    const s = new Script(opset);
    const g = await rewritten(s.model(dynamic, s.gelu('x', form)), lengths);
    expect(opsOf(g)).toEqual(['Gelu']);
    expect(g.nodes[0].attrs.approximate).toBe(form.startsWith('tanh') ? 'tanh' : 'none');
  });

  test.each(['pow', 'mul', 'reciprocal'] as const)('LayerNorm (%s) is found', async (form) => {
    const s = new Script(opset);
    expect(opsOf(await rewritten(s.model(dynamic, s.layerNorm('x', W, form)), lengths))).toEqual(['LayerNormalization']);
  });

  test('RMSNorm is found', async () => {
    const s = new Script(opset);
    expect(opsOf(await rewritten(s.model(dynamic, s.rmsNorm('x', W)), lengths))).toEqual(['RMSNormalization']);
  });

  test('SiLU is found', async () => {
    const s = new Script(opset);
    expect(opsOf(await rewritten(s.model(dynamic, s.op('Mul', ['x', s.op('Sigmoid', ['x'])])), lengths))).toEqual(['Silu']);
  });

  test('MatMul and Add with constants are one Linear', async () => {
    const s = new Script(opset);
    expect(opsOf(await rewritten(s.model(dynamic, s.linear('x', W, 10)), lengths))).toEqual(['Linear']);
  });

  test.each(['hf', 'sdpa', 'timm', 'split'] as const)('attention (%s) is found, its reshapes and transposes go', async (form) => {
    const s = new Script(opset);
    const g = await rewritten(s.model(dynamic, s.attention('x', W, 4, form)), lengths);
    expect(opsOf(g)).toEqual(['Linear', 'Linear', 'Linear', 'Attention', 'Linear']);
    const attention = g.nodes.find((n) => n.op === 'Attention');
    expect(attention?.attrs.heads).toBe(4);
    expect(attention?.attrs.scale).toBeCloseTo(1 / Math.sqrt(W / 4), 6);
  });

  test('nn.MultiheadAttention is found: only reshapes between layouts stay', async () => {
    const s = new Script(opset);
    const g = await rewritten(s.model([6, 1, W], s.multihead('x', 6, W, 4)), [[6, 1, W]]);
    expect(opsOf(g).filter((op) => op !== 'Reshape')).toEqual(['Linear', 'Linear', 'Linear', 'Attention', 'Linear']);
  });

  test('a whole block becomes its fused form', async () => {
    const s = new Script(opset);
    const a = s.op('Add', ['x', s.attention(s.layerNorm('x', W), W, 4, 'hf')]);
    const b = s.op('Add', [a, s.linear(s.gelu(s.linear(s.layerNorm(a, W), W, 2 * W), 'erf'), 2 * W, W)]);
    const g = await rewritten(s.model(dynamic, b), lengths);
    expect(opsOf(g)).toEqual([
      'LayerNormalization',
      'Linear',
      'Linear',
      'Linear',
      'Attention',
      'Linear',
      'Add',
      'LayerNormalization',
      'Linear',
      'Gelu',
      'Linear',
      'Add',
    ]);
  });
});

test('a decomposed softmax is found, with and without its maximum', async () => {
  const s = new Script(17);
  const sum = (x: string): string => s.op('ReduceSum', [x, s.ints(-1)], { keepdims: 1 });
  const e = s.op('Exp', [s.op('Sub', ['x', s.op('ReduceMax', ['x'], { axes: [-1], keepdims: 1 })])]);
  const e2 = s.op('Exp', ['x']);
  const y = s.op('Concat', [s.op('Div', [e, sum(e)]), s.op('Div', [e2, sum(e2)])], { axis: -1 });
  expect(opsOf(await rewritten(s.model([3, 5], y), [[3, 5]]))).toEqual(['Softmax', 'Concat']);
});

test('GEGLU keeps its gate: only the activation is fused', async () => {
  const s = new Script(17);
  const y = s.op('Mul', [s.gelu('x', 'erf'), s.linear('x', W, W)]);
  expect(opsOf(await rewritten(s.model([1, 'n', W], y), [[1, 4, W]])).sort()).toEqual(['Gelu', 'Linear', 'Mul']);
});

test('constants after a Linear move into it; a shared Linear is left alone', async () => {
  const s = new Script(17);
  const l = s.linear('x', W, 6);
  const y = s.op('Sub', [s.op('Div', [s.op('Mul', [l, s.weight(6)]), s.scalar(3)]), s.weight(1, 1, 6)]);
  expect(opsOf(await rewritten(s.model([1, 'n', W], y), [[1, 4, W]]))).toEqual(['Linear']);
  const t = new Script(17);
  const m = t.op('MatMul', ['x', t.weight(W, 6)]);
  const both = t.op('Mul', [t.op('Add', [m, t.weight(6)]), m]);
  expect(opsOf(await rewritten(t.model([1, 'n', W], both), [[1, 4, W]]))).toEqual(['Linear', 'Add', 'Mul']);
});

test('a bias that is not one row stays an Add', async () => {
  const s = new Script(17);
  const y = s.op('Add', [s.op('MatMul', ['x', s.weight(W, W)]), s.weight(1, 4, W)]);
  expect(opsOf(await rewritten(s.model([1, 4, W], y), [[1, 4, W]]))).toEqual(['Linear', 'Add']);
});

test('BatchNorm and channel scales move into the convolution before them', async () => {
  const s = new Script(17);
  const variance = s.constant(randomTensor([4], random, [0.5, 2]));
  const conv = s.op('Conv', ['x', s.weight(4, 2, 3, 3)], { pads: [1, 1, 1, 1] });
  const bn = s.op('BatchNormalization', [conv, s.weight(4), s.weight(4), s.weight(4), variance]);
  const y = s.op('Add', [s.op('Mul', [s.op('Relu', [s.op('Mul', [bn, s.weight(4, 1, 1)])]), s.scalar(2)]), s.scalar(1)]);
  expect(opsOf(await rewritten(s.model([1, 2, 6, 6], y), [[1, 2, 6, 6]]))).toEqual(['Conv', 'Relu', 'Mul', 'Add']);
});

test('BatchNorm moves into a Gemm before it', async () => {
  const s = new Script(17);
  const gemm = s.op('Gemm', ['x', s.weight(5, W), s.weight(5)], { transB: 1, alpha: f(0.5), beta: f(2) });
  const y = s.op('BatchNormalization', [gemm, s.weight(5), s.weight(5), s.weight(5), s.constant(randomTensor([5], random, [0.5, 2]))]);
  expect(opsOf(await rewritten(s.model([3, W], y), [[3, W]]))).toEqual(['Linear']);
});

test('interleaved q, k, v columns (per head) are cut into three Linears', async () => {
  const s = new Script(17);
  const fused = s.op('Transpose', [s.op('Reshape', [s.linear('x', W, 3 * W), s.ints(0, -1, 4, 18)])], { perm: [0, 2, 1, 3] });
  const [q, k, v] = s.ops('Split', [fused, s.ints(6, 6, 6)], { axis: -1 }, 3);
  const scores = s.op('Mul', [s.op('MatMul', [q, s.op('Transpose', [k], { perm: [0, 1, 3, 2] })]), s.scalar(0.3)]);
  const mixed = s.op('MatMul', [s.op('Softmax', [scores]), v]);
  const y = s.op('Reshape', [s.op('Transpose', [mixed], { perm: [0, 2, 1, 3] }), s.ints(0, -1, W)]);
  expect(
    opsOf(
      await rewritten(s.model([1, 'n', W], y), [
        [1, 4, W],
        [1, 7, W],
      ]),
    ),
  ).toEqual(['Linear', 'Linear', 'Linear', 'Attention']);
});

describe('what only looks alike is left alone', () => {
  const left = async (s: Script, y: string, op: string, n: number | string = 'n'): Promise<void> =>
    expect(opsOf(await rewritten(s.model([1, n, W], y), [[1, 6, W]]))).not.toContain(op);

  test('another constant in the GELU', async () => {
    const s = new Script(17);
    const e = s.op('Erf', [s.op('Div', ['x', s.scalar(1.5)])]);
    await left(s, s.op('Mul', [s.op('Mul', ['x', s.op('Add', [e, s.scalar(1)])]), s.scalar(0.5)]), 'Gelu');
  });
  test('SiLU of one value times another', async () => {
    const s = new Script(17);
    await left(s, s.op('Mul', [s.op('Mul', ['x', s.scalar(2)]), s.op('Sigmoid', ['x'])]), 'Silu');
  });
  test('a mean over another axis', async () => {
    const s = new Script(17);
    const mean = (x: string): string => s.op('ReduceMean', [x], { axes: [1], keepdims: 1 });
    const d = s.op('Sub', ['x', mean('x')]);
    await left(s, s.op('Div', [d, s.op('Sqrt', [s.op('Add', [mean(s.op('Mul', [d, d])), s.scalar(1e-5)])])]), 'LayerNormalization');
  });
  test('attention with a mask', async () => {
    const s = new Script(17);
    const heads = (x: string): string => s.op('Transpose', [s.op('Reshape', [x, s.ints(0, -1, 4, 6)])], { perm: [0, 2, 1, 3] });
    const [q, k, v] = [0, 1, 2].map(() => heads(s.linear('x', W, W)));
    const scores = s.op('Add', [s.op('MatMul', [q, s.op('Transpose', [k], { perm: [0, 1, 3, 2] })]), s.weight(1, 1, 1, 6)]);
    await left(s, s.op('MatMul', [s.op('Softmax', [scores]), v]), 'Attention', 6);
  });
  test('heads merged in another order', async () => {
    const s = new Script(17);
    const heads = (x: string): string => s.op('Transpose', [s.op('Reshape', [x, s.ints(0, -1, 4, 6)])], { perm: [0, 2, 1, 3] });
    const [q, k, v] = [0, 1, 2].map(() => heads(s.linear('x', W, W)));
    const mixed = s.op('MatMul', [s.op('Softmax', [s.op('MatMul', [q, s.op('Transpose', [k], { perm: [0, 1, 3, 2] })])]), v]);
    await left(s, s.op('Reshape', [s.op('Transpose', [mixed], { perm: [0, 2, 3, 1] }), s.ints(0, -1, W)]), 'Attention');
  });
});

test('identities, dropouts and casts to the same type disappear; what is computed from constants is a constant', async () => {
  const s = new Script(17);
  const a = s.op('Dropout', [s.op('Cast', [s.op('Identity', ['x'])], { to: 1 })]);
  const c = s.op('Transpose', [s.op('Mul', [s.weight(3, W), s.scalar(2)])], { perm: [1, 0] });
  const y = s.op('Relu', [s.op('MatMul', [s.op('Reshape', [a, s.op('Shape', ['x'])]), c])]);
  expect(opsOf(await rewritten(s.model([1, 'n', W], y), [[1, 4, W]]))).toEqual(['Linear', 'Relu']);
});

test('a shape that depends on the input is never claimed', () => {
  const bytes = buildModel({
    nodes: [node('Reshape', ['x', 'shape'], ['r']), node('Shape', ['r'], ['s']), node('ConstantOfShape', ['s'], ['y'])],
    inputs: { x: { dtype: 'f32', shape: [6] }, shape: { dtype: 'i64', shape: [2] } },
    outputs: ['y'],
  });
  const graph = rewrite(readOnnx(bytes));
  const y = interpret(graph, { x: tensor([1, 2, 3, 4, 5, 6], [6]), shape: tensor([2, 3], [2], 'i64') }).y;
  expect(y.shape).toEqual([2, 3]);
});

test('HardSwish is found; a clip with other bounds is not', async () => {
  const s = new Script(17);
  const hard = (top: number): string =>
    s.op('Div', [s.op('Mul', ['x', s.op('Clip', [s.op('Add', ['x', s.scalar(3)]), s.scalar(0), s.scalar(top)])]), s.scalar(6)]);
  const g = await rewritten(s.model([1, 'n', W], s.op('Concat', [hard(6), hard(5)], { axis: -1 })), [[1, 4, W]]);
  expect(opsOf(g).filter((op) => op === 'HardSwish' || op === 'Clip')).toEqual(['HardSwish', 'Clip']);
});

test('constants after a BatchNorm move into it', async () => {
  const s = new Script(17);
  const variance = s.constant(randomTensor([3], random, [0.5, 2]));
  const bn = s.op('BatchNormalization', ['x', s.weight(3), s.weight(3), s.weight(3), variance]);
  const y = s.op('Add', [s.op('Mul', [bn, s.weight(3, 1, 1)]), s.weight(1, 3, 1, 1)]);
  expect(opsOf(await rewritten(s.model([1, 3, 5, 5], y), [[1, 3, 5, 5]]))).toEqual(['BatchNormalization']);
});

test('attention written with Einsum is found', async () => {
  const s = new Script(17);
  const [q, k, v] = [0, 1, 2].map(() => s.op('Reshape', [s.linear('x', W, W), s.ints(0, -1, 4, 6)]));
  const scores = s.op('Mul', [s.op('Einsum', [q, k], { equation: 'bnhd,bmhd->bhnm' }), s.scalar(0.4)]);
  const mixed = s.op('Einsum', [s.op('Softmax', [scores], { axis: -1 }), v], { equation: 'bhnm,bmhd->bnhd' });
  const g = await rewritten(s.model([1, 'n', W], s.op('Reshape', [mixed, s.ints(0, -1, W)])), [
    [1, 5, W],
    [1, 9, W],
  ]);
  expect(opsOf(g)).toEqual(['Linear', 'Linear', 'Linear', 'Attention']);
});

describe('inputs bound to one value', () => {
  /** Token ids, token types and an attention mask, as a BERT export takes them; pooled by the mask. */
  function bert(): Uint8Array {
    const s = new Script(17);
    const mask = s.op('Cast', [s.unsqueeze(s.unsqueeze('mask', 1), 2)], { to: 1 });
    const bias = s.op('Mul', [s.op('Sub', [s.scalar(1), mask]), s.scalar(-3.4028234663852886e38)]);
    const embedded = s.op('Add', [s.op('Gather', [s.weight(30, W), 'ids']), s.op('Gather', [s.weight(2, W), 'types'])]);
    const x = s.layerNorm(embedded, W);
    const [q, k, v] = [0, 1, 2].map(() => s.op('Transpose', [s.view(s.linear(x, W, W), 4, 6)], { perm: [0, 2, 1, 3] }));
    const scores = s.op('Add', [s.op('Div', [s.op('MatMul', [q, s.op('Transpose', [k], { perm: [0, 1, 3, 2] })]), s.scalar(2.5)]), bias]);
    const mixed = s.op('Transpose', [s.op('MatMul', [s.op('Softmax', [scores], { axis: -1 }), v])], { perm: [0, 2, 1, 3] });
    const hidden = s.op('Add', [x, s.linear(s.view(mixed, W), W, W)]);
    const wide = s.op('Expand', [s.unsqueeze(s.op('Cast', ['mask'], { to: 1 }), 2), s.op('Shape', [hidden])]);
    const sum = (value: string): string => s.op('ReduceSum', [value, s.ints(1)], { keepdims: 0 });
    const y = s.op('Div', [sum(s.op('Mul', [hidden, wide])), s.op('Clip', [sum(wide), s.scalar(1e-9), ''])]);
    const tokens = { dtype: 'i64', shape: ['batch', 'n'] } as const;
    return buildModel({
      nodes: [...s.nodes, node('Identity', [y], ['y'])],
      inputs: { ids: tokens, mask: tokens, types: tokens },
      constants: s.constants,
      outputs: ['y'],
    });
  }

  test('the mask disappears from attention and pooling', async () => {
    const bytes = bert();
    const graph = rewrite(bindInputs(readOnnx(bytes), { mask: 1, types: 0 }));
    expect(graph.inputs.map((i) => i.name)).toEqual(['ids']);
    expect(opsOf(graph)).toEqual([
      'Gather',
      'Add',
      'LayerNormalization',
      'Linear',
      'Linear',
      'Linear',
      'Attention',
      'Linear',
      'Add',
      'ReduceMean',
    ]);
    for (const n of [1, 5, 11]) {
      const ids = tensor(
        Array.from({ length: n }, (_, i) => (7 * i) % 30),
        [1, n],
        'i64',
      );
      const same = (v: number): ReturnType<typeof tensor> => tensor(new Array<number>(n).fill(v), [1, n], 'i64');
      const want = await reference(bytes, { ids, mask: same(1), types: same(0) });
      expect(difference(interpret(graph, { ids }).y, want.y)).toBeLessThan(2e-5);
    }
  });

  test('without binding, the mask keeps attention in its parts', () => {
    expect(opsOf(rewrite(readOnnx(bert())))).not.toContain('Attention');
  });

  test('a name that is no input is refused', () => {
    expect(() => bindInputs(readOnnx(bert()), { masks: 1 })).toThrow(
      new ModelError("no input is named 'masks'; the graph has ids, mask, types"),
    );
  });
});
