/** Products of shared values, softmax on its own, and the attentions that avoid it. */
import { describe, expect, test } from 'vitest';
import { errors, type RunOptions, Tiny } from './tiny.case.ts';

describe('elementwise', () => {
  const shape = [3, 8];
  const of = (make: (t: Tiny, x: string) => string, options?: RunOptions): number => {
    const t = new Tiny(11);
    const x = t.input(shape);
    return errors(t.graph(make(t, x)), options);
  };
  const positive: RunOptions = { draw: (_, next) => 2 + next() };
  test('x·y', () => expect(of((t, x) => t.op('Mul', [t.linear(x, 8, 8), x]))).toBeLessThan(0.005));
  test('x·y, one y a row', () => expect(of((t, x) => t.op('Mul', [x, t.linear(x, 8, 1)]))).toBeLessThan(0.005));
  test('x·y, one y a column', () => expect(of((t, x) => t.op('Mul', [x, t.op('ReduceMean', [x, t.ints(0)])]))).toBeLessThan(0.005));
  test('x·x', () => expect(of((t, x) => t.op('Mul', [x, x]))).toBeLessThan(0.005));
  test('x²', () => expect(of((t, x) => t.op('Pow', [t.linear(x, 8, 8), t.constant([2], [])]))).toBeLessThan(0.005));
  test('x³', () => expect(of((t, x) => t.op('Pow', [x, t.constant([3], [])]))).toBeLessThan(0.01));
  test('√x', () => expect(of((t, x) => t.op('Sqrt', [x]), positive)).toBeLessThan(0.01));
  test('x/y', () => expect(of((t, x) => t.op('Div', [t.linear(x, 8, 8), x]), positive)).toBeLessThan(0.02));
  test('x/Σx', () =>
    expect(of((t, x) => t.op('Div', [x, t.op('ReduceSum', [x, t.ints(-1)], { keepdims: 1 })]), positive)).toBeLessThan(0.002));
  test('1/x', () => expect(of((t, x) => t.op('Div', [t.constant([1], []), x]), positive)).toBeLessThan(0.005));
  test('Reciprocal', () => expect(of((t, x) => t.op('Reciprocal', [x]), positive)).toBeLessThan(0.002));
  test('x − y, −x', () => expect(of((t, x) => t.op('Sub', [t.op('Neg', [t.linear(x, 8, 8)]), x]))).toBeLessThan(0.003));
  test('x − mean', () => expect(of((t, x) => t.op('Sub', [x, t.op('ReduceMean', [x, t.ints(-1)], { keepdims: 1 })]))).toBeLessThan(0.003));
});

describe('with constants', () => {
  const of = (op: string, shape: number[], at: 0 | 1 = 1, mean = 0): number => {
    const t = new Tiny(12);
    const x = t.input([1, 3, 4, 5]);
    const c = t.weight(shape, 0.5, mean);
    return errors(t.graph(t.op(op, at === 1 ? [x, c] : [c, x])));
  };
  for (const shape of [[], [5], [3, 1, 1], [3, 4, 5], [4, 1], [3, 4, 1]]) {
    test(`+ [${shape}]`, () => expect(of('Add', shape)).toBeLessThan(0.001));
    test(`[${shape}] −`, () => expect(of('Sub', shape, 0)).toBeLessThan(0.001));
    test(`· [${shape}]`, () => expect(of('Mul', shape)).toBeLessThan(0.002));
    test(`/ [${shape}]`, () => expect(of('Div', shape, 1, 2)).toBeLessThan(0.002));
  }
});

describe('matrix products', () => {
  test('two dimensions', () => {
    const t = new Tiny(13);
    const x = t.input([5, 6]);
    const y = t.input([6, 7], 'y');
    expect(errors(t.graph(t.op('MatMul', [x, y])))).toBeLessThan(0.01);
  });
  test('batches, and one matrix for all of them', () => {
    const t = new Tiny(14);
    const x = t.input([2, 3, 4, 5]);
    const y = t.input([2, 3, 5, 6], 'y');
    expect(
      errors(
        t.graph(
          t.op('MatMul', [x, y]),
          t.op('MatMul', [x, t.op('Reshape', [t.op('Slice', [y, t.ints(0, 0), t.ints(1, 1), t.ints(0, 1)]), t.ints(5, 6)])]),
        ),
      ),
    ).toBeLessThan(0.01);
  });
});

describe('softmax', () => {
  for (const [name, gain, n] of [
    ['flat', 0.5, 12],
    ['peaked', 4, 12],
    ['wide', 2, 64],
  ] as const)
    test(name, () => {
      const t = new Tiny(15);
      expect(errors(t.graph(t.op('Softmax', [t.input([4, n])], { axis: -1 })), { draw: (_, next) => gain * next() })).toBeLessThan(0.01);
    });
});

/** One head of attention over 6 tokens, as operators; `weigh` makes weights of the scores [6, 6]. */
function head(weigh: (t: Tiny, scores: string) => string): number {
  const t = new Tiny(16);
  const x = t.input([1, 6, 8]);
  const [q, k, v] = [0, 1, 2].map(() => {
    const four = t.op('Reshape', [t.linear(x, 8, 8), t.ints(1, 6, 2, 4)]);
    return t.op('Transpose', [four], { perm: [0, 2, 1, 3] });
  });
  const scores = t.op('Div', [t.op('MatMul', [q, t.op('Transpose', [k], { perm: [0, 1, 3, 2] })]), t.constant([2], [])]);
  const context = t.op('MatMul', [weigh(t, scores), v]);
  const joined = t.op('Reshape', [t.op('Transpose', [context], { perm: [0, 2, 1, 3] }), t.ints(1, 6, 8)]);
  return errors(t.graph(t.linear(joined, 8, 8)));
}

describe('attention as operators', () => {
  const normalised = (t: Tiny, p: string): string => t.op('Div', [p, t.op('ReduceSum', [p, t.ints(-1)], { keepdims: 1 })]);
  test('softmax', () => expect(head((t, s) => t.op('Softmax', [s], { axis: -1 }))).toBeLessThan(0.02));
  test('ReLU-softmax', () =>
    expect(head((t, s) => normalised(t, t.op('Add', [t.op('Relu', [s]), t.constant([0.1], [])])))).toBeLessThan(0.02));
  test('2Quad', () =>
    expect(
      head((t, s) => {
        const moved = t.op('Add', [s, t.constant([5], [])]);
        return normalised(t, t.op('Mul', [moved, moved]));
      }),
    ).toBeLessThan(0.02));
  test('scaled', () => expect(head((t, s) => t.op('Mul', [s, t.constant([1 / 6], [])]))).toBeLessThan(0.02));
});
