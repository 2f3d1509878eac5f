/** Networks as exporters spell them, through the rewrites and then private. */
import { expect, test } from 'vitest';
import { rewrite } from '../../graph/rewrite/index.ts';
import { errors, Tiny } from './tiny.case.ts';

test('a residual network: Conv, BatchNormalization, Relu, MaxPool, Add, ReduceMean, MatMul', () => {
  const t = new Tiny(3);
  const norm = (x: string): string =>
    t.op('BatchNormalization', [x, t.weight([8], 0.2, 1), t.weight([8], 0.2), t.weight([8], 0.2), t.weight([8], 0.1, 1)]);
  const pads = [1, 1, 1, 1];
  const a = t.op('Relu', [norm(t.op('Conv', [t.input([1, 3, 12, 12]), t.weight([8, 3, 3, 3], 0.3), t.weight([8], 0.2)], { pads }))]);
  const b = t.op('MaxPool', [a], { kernel_shape: [3, 3], strides: [2, 2], pads });
  const c = t.op('Relu', [t.op('Add', [norm(t.op('Conv', [b, t.weight([8, 8, 3, 3], 0.2)], { pads })), b])]);
  const d = t.op('ReduceMean', [c, t.ints(2, 3)], { keepdims: 0 });
  const y = t.op('Add', [t.op('MatMul', [d, t.weight([8, 10], 0.5)]), t.weight([10])]);
  expect(errors(rewrite(t.graph(y)))).toBeLessThan(0.005);
});

test('attention by ReLU-softmax over n tokens, residual, LayerNormalization', () => {
  const t = new Tiny(5);
  const x = t.input([1, 'n', 32]);
  const [q, k, v] = [0, 1, 2].map(() => {
    const dense = t.op('Add', [t.op('MatMul', [x, t.weight([32, 32], 0.3)]), t.weight([32], 0.3)]);
    return t.op('Transpose', [t.op('Reshape', [dense, t.ints(0, -1, 4, 8)])], { perm: [0, 2, 1, 3] });
  });
  const keys = t.op('Transpose', [k], { perm: [0, 1, 3, 2] });
  const scores = t.op('Div', [t.op('MatMul', [q, keys]), t.constant([Math.sqrt(8)], [])]);
  const p = t.op('Add', [t.op('Relu', [scores]), t.constant([0.05], [])]);
  const weights = t.op('Div', [p, t.op('ReduceSum', [p, t.ints(-1)], { keepdims: 1 })]);
  const context = t.op('Transpose', [t.op('MatMul', [weights, v])], { perm: [0, 2, 1, 3] });
  const sum = t.op('Add', [t.op('Reshape', [context, t.ints(0, -1, 32)]), x]);
  const y = t.op('LayerNormalization', [sum, t.weight([32], 0.1, 1), t.weight([32], 0.1)]);
  const params = { calibrate: [{ n: 8 }, { n: 20 }], run: [{ n: 12 }] };
  expect(errors(rewrite(t.graph(y)), { params })).toBeLessThan(0.02);
});
