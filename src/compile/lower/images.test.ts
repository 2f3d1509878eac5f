/** Convolutions, pooling, ReLU and its kin: a small network at a time, with public and with private weights. */
import { describe, expect, test } from 'vitest';
import { errors, run, Tiny } from './tiny.case.ts';

describe('networks', () => {
  test('a ReLU perceptron', () => {
    const t = new Tiny();
    const h = t.op('Relu', [t.linear(t.input([4, 16]), 16, 24)]);
    const y = t.linear(t.op('Relu', [t.linear(h, 24, 24)]), 24, 5);
    expect(errors(t.graph(y))).toBeLessThan(0.01);
  });

  test('Conv, Relu, MaxPool, Conv, Relu, GlobalAveragePool, Linear', () => {
    const t = new Tiny(3);
    const attrs = { pads: [1, 1, 1, 1] };
    const a = t.op('Relu', [t.op('Conv', [t.input([1, 2, 8, 8]), t.weight([6, 2, 3, 3], 0.4), t.weight([6], 0.2)], attrs)]);
    const b = t.op('MaxPool', [a], { kernel_shape: [2, 2], strides: [2, 2] });
    const c = t.op('Relu', [t.op('Conv', [b, t.weight([8, 6, 3, 3], 0.25)], attrs)]);
    const d = t.op('Flatten', [t.op('GlobalAveragePool', [c])]);
    expect(errors(t.graph(t.linear(d, 8, 5)))).toBeLessThan(0.01);
  });

  test('a residual block with BatchNormalization', () => {
    const t = new Tiny(4);
    const x = t.input([1, 4, 5, 5]);
    const c = t.op('Conv', [x, t.weight([4, 4, 3, 3], 0.3)], { pads: [1, 1, 1, 1] });
    const n = t.op('BatchNormalization', [
      t.op('Relu', [c]),
      t.weight([4], 0.2, 1),
      t.weight([4], 0.2),
      t.weight([4], 0.2),
      t.weight([4], 0.1, 1),
    ]);
    expect(errors(t.graph(t.op('Relu', [t.op('Add', [n, x])])))).toBeLessThan(0.01);
  });
});

test('an inverted residual with squeeze and excitation', () => {
  const t = new Tiny(17);
  const x = t.input([1, 6, 6, 6]);
  const zero = t.constant([0], []);
  const six = t.constant([6], []);
  const wide = t.op('HardSwish', [t.op('Conv', [x, t.weight([18, 6, 1, 1], 0.6), t.weight([18], 0.3)])]);
  const deep = t.op('Clip', [
    t.op('Conv', [wide, t.weight([18, 1, 3, 3], 0.6), t.weight([18], 0.3)], { group: 18, pads: [1, 1, 1, 1] }),
    zero,
    six,
  ]);
  const squeezed = t.op('Relu', [t.op('Conv', [t.op('GlobalAveragePool', [deep]), t.weight([5, 18, 1, 1], 0.5)])]);
  const excited = t.op('HardSigmoid', [t.op('Conv', [squeezed, t.weight([18, 5, 1, 1])])]);
  const y = t.op('Conv', [t.op('Mul', [deep, excited]), t.weight([6, 18, 1, 1], 0.4)]);
  expect(errors(t.graph(t.op('Add', [x, y])))).toBeLessThan(0.01);
});

test('a convolution with one loud channel', () => {
  const t = new Tiny(18);
  const W = Array.from({ length: 24 * 2 * 9 }, (_, i) => Math.sin(i * 3) * (i < 18 ? 40 : 0.2));
  const c = t.op('Conv', [t.input([1, 2, 6, 6]), t.constant(W, [24, 2, 3, 3])]);
  const quiet = t.op('Slice', [t.op('Relu', [c]), t.ints(1), t.ints(24), t.ints(1)]);
  expect(errors(t.graph(quiet))).toBeLessThan(0.005);
});

describe('convolutions', () => {
  const conv = (x: number[], w: number[], attrs = {}): number => {
    const t = new Tiny(5);
    return errors(t.graph(t.op('Conv', [t.input(x), t.weight(w, 0.4), t.weight([w[0]], 0.3)], attrs)));
  };
  test('strides, dilations, uneven padding', () =>
    expect(conv([1, 3, 9, 8], [5, 3, 3, 2], { strides: [2, 1], dilations: [1, 2], pads: [1, 0, 2, 1] })).toBeLessThan(0.005));
  test('two groups', () => expect(conv([1, 4, 6, 6], [6, 2, 3, 3], { group: 2 })).toBeLessThan(0.005));
  test('depthwise, more groups than blocks', () =>
    expect(conv([1, 20, 5, 5], [20, 1, 3, 3], { group: 20, auto_pad: 'SAME_UPPER' })).toBeLessThan(0.005));
  test('two images', () => expect(conv([2, 3, 5, 5], [4, 3, 3, 3])).toBeLessThan(0.005));
  test('over one axis', () => expect(conv([1, 3, 12], [4, 3, 3], { strides: [2] })).toBeLessThan(0.005));
});

describe('pooling', () => {
  const pool = (op: string, attrs = {}, shape = [1, 3, 7, 7]): number => {
    const t = new Tiny(6);
    return errors(t.graph(t.op(op, [t.input(shape)], attrs)));
  };
  test('MaxPool with padding', () =>
    expect(pool('MaxPool', { kernel_shape: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1] })).toBeLessThan(0.001));
  test('MaxPool, rounded up', () => expect(pool('MaxPool', { kernel_shape: [2, 2], strides: [2, 2], ceil_mode: 1 })).toBeLessThan(0.001));
  test('GlobalMaxPool', () => expect(pool('GlobalMaxPool')).toBeLessThan(0.001));
  test('AveragePool', () => expect(pool('AveragePool', { kernel_shape: [2, 2], strides: [2, 2] })).toBeLessThan(0.002));
  test('AveragePool of two images', () => expect(pool('AveragePool', { kernel_shape: [3, 3] }, [2, 2, 5, 5])).toBeLessThan(0.002));
  test('AveragePool that leaves out the padding', () =>
    expect(pool('AveragePool', { kernel_shape: [3, 3], pads: [1, 1, 1, 1] })).toBeLessThan(0.002));
  test('AveragePool that counts the padding', () =>
    expect(pool('AveragePool', { kernel_shape: [3, 3], pads: [1, 1, 1, 1], count_include_pad: 1 })).toBeLessThan(0.002));
  test('GlobalAveragePool', () => expect(pool('GlobalAveragePool')).toBeLessThan(0.001));
});

describe('piecewise linear functions', () => {
  const bent = (op: string, attrs: Record<string, number> = {}, more: (t: Tiny) => string[] = () => []): number => {
    const t = new Tiny(8);
    return errors(t.graph(t.op(op, [t.linear(t.input([3, 8]), 8, 12), ...more(t)], attrs)));
  };
  const bounds = (lo: number, hi: number) => (t: Tiny) => [t.constant([lo], []), t.constant([hi], [])];
  test('Relu', () => expect(bent('Relu')).toBeLessThan(0.002));
  test('LeakyRelu', () => expect(bent('LeakyRelu', { alpha: 0.1 })).toBeLessThan(0.002));
  test('PRelu', () => expect(bent('PRelu', {}, (t) => [t.weight([12], 0.5)])).toBeLessThan(0.002));
  test('PRelu of channels', () => {
    const t = new Tiny(19);
    expect(
      errors(t.graph(t.op('PRelu', [t.op('Conv', [t.input([1, 2, 5, 5]), t.weight([4, 2, 3, 3], 0.4)]), t.weight([4, 1, 1], 0.5)]))),
    ).toBeLessThan(0.002);
  });
  test('Clip', () => expect(bent('Clip', {}, bounds(-0.5, 0.75))).toBeLessThan(0.002));
  test('ReLU6', () => expect(bent('Clip', {}, bounds(0, 6))).toBeLessThan(0.002));
  test('Abs', () => expect(bent('Abs')).toBeLessThan(0.003));
  test('HardSigmoid', () => expect(bent('HardSigmoid')).toBeLessThan(0.002));
  test('HardSwish', () => expect(bent('HardSwish')).toBeLessThan(0.003));
  test('Max with a number', () => expect(bent('Max', {}, (t) => [t.constant([0.25], [1])])).toBeLessThan(0.002));
  for (const op of ['Max', 'Min'])
    test(`${op} of two`, () => {
      const t = new Tiny(9);
      const x = t.input([4, 6]);
      expect(errors(t.graph(t.op(op, [t.linear(x, 6, 6), x])))).toBeLessThan(0.002);
    });
});

test('a ReLU before MaxPool is taken after it', () => {
  const t = new Tiny(10);
  const r = t.op('Relu', [t.op('Conv', [t.input([1, 2, 8, 8]), t.weight([4, 2, 3, 3])])]);
  const { compiled } = run(t.graph(t.op('MaxPool', [r], { kernel_shape: [2, 2], strides: [2, 2] })));
  const order = compiled.program.gates.map((g) => g.gate).filter((g) => g === 'relu' || g === 'maxPool');
  expect(order).toEqual(['maxPool', 'relu']);
});
