/** Normalisations and what reads them, gated products, positions of maxima, constants joined on, several inputs and outputs. */
import { describe, expect, test } from 'vitest';
import { ModelError, tensor } from '../../graph/graph.ts';
import { calibrate } from '../calibrate.ts';
import { compile } from '../compile.ts';
import { registerActivation } from './index.ts';
import { errors, run, Tiny } from './tiny.case.ts';

describe('normalisations', () => {
  const norm = (op: string, then: (t: Tiny, y: string) => string, spread = 1): number => {
    const t = new Tiny(21);
    const x = t.op('Add', [t.input([5, 16]), t.weight([16], spread)]);
    const y = t.op(op, [x, t.weight([16], 0.3, 1), ...(op === 'LayerNormalization' ? [t.weight([16], 0.3)] : [])], { epsilon: 1e-5 });
    return errors(t.graph(then(t, y)));
  };
  for (const op of ['LayerNormalization', 'RMSNormalization']) {
    test(`${op}, then Linear`, () => expect(norm(op, (t, y) => t.linear(y, 16, 6))).toBeLessThan(0.02));
    test(`${op}, revealed`, () => expect(norm(op, (_, y) => y)).toBeLessThan(0.02));
    test(`${op}, added, and multiplied by itself`, () =>
      expect(norm(op, (t, y) => t.op('Add', [t.op('Mul', [y, y]), y]))).toBeLessThan(0.06));
    test(`${op}, then Relu and Softmax`, () =>
      expect(norm(op, (t, y) => t.op('Softmax', [t.op('Relu', [y])], { axis: -1 }))).toBeLessThan(0.01));
  }
});

test('rows that differ too much for one 1/√x are told', () => {
  const t = new Tiny(20);
  const graph = t.graph(t.op('RMSNormalization', [t.input([3, 8]), t.weight([8], 0.2, 1)], { epsilon: 1e-6 }));
  const at = (size: number) => ({ x: tensor(Array.from({ length: 24 }, (_, i) => size * (1 + (i % 3))), [3, 8]) });
  const warnings = (...sizes: number[]): readonly string[] => compile(graph, calibrate(graph, sizes.map(at)), { weights: 'public' }).warnings;
  expect(warnings(1, 3)).toEqual([]);
  expect(warnings(1, 300)).toEqual([expect.stringMatching(/^\/net\/rmsnormalization\d+: the mean squares of its rows go from .* off by up to \d+ %/)]);
});

test('a block of a decoder: RMSNormalization, Silu(x)·y, residual', () => {
  const t = new Tiny(22);
  const x = t.input([4, 16]);
  const y = t.op('RMSNormalization', [x, t.weight([16], 0.2, 1)], { epsilon: 1e-6 });
  const z = t.op('Mul', [t.op('Silu', [t.linear(y, 16, 24)]), t.linear(y, 16, 24)]);
  const out = t.op('Add', [x, t.linear(z, 24, 16)]);
  expect(errors(t.graph(out))).toBeLessThan(0.03);
});

describe('smooth functions off the last axis', () => {
  for (const op of ['Gelu', 'Silu', 'Sigmoid', 'Tanh', 'Elu'])
    test(`${op} after a convolution`, () => {
      const t = new Tiny(23);
      expect(errors(t.graph(t.op(op, [t.op('Conv', [t.input([1, 2, 5, 5]), t.weight([4, 2, 3, 3], 0.4)])])))).toBeLessThan(0.012);
    });
  test('a last axis whose size is a parameter', () => {
    const t = new Tiny(24);
    const x = t.input([4, 'n']);
    const params = { calibrate: [{ n: 5 }, { n: 9 }], run: [{ n: 6 }, { n: 12 }] };
    expect(errors(t.graph(t.op('Sigmoid', [x]), t.op('Softmax', [x], { axis: -1 })), { params })).toBeLessThan(0.01);
  });
});

describe('positions and maxima', () => {
  for (const weights of ['public', 'private'] as const)
    test(`ArgMax of logits, ${weights}`, () => {
      const t = new Tiny(25);
      const y = t.linear(t.input([6, 8]), 8, 10);
      expect(Object.values(run(t.graph(t.op('ArgMax', [y], { axis: -1, keepdims: 0 })), { weights, runs: 5 }).error)).toEqual([0]);
    });
  test('ArgMax along the first axis, kept', () => {
    const t = new Tiny(26);
    expect(errors(t.graph(t.op('ArgMax', [t.input([6, 8])], { axis: 0, keepdims: 1 })))).toBe(0);
  });
  test('ReduceMax', () => {
    const t = new Tiny(27);
    expect(errors(t.graph(t.op('ReduceMax', [t.input([3, 5, 4]), t.ints(1)])))).toBeLessThan(0.001);
  });
});

test('a class token, positions, two inputs, several outputs', () => {
  const t = new Tiny(28);
  const [x, y] = [t.input([1, 4, 8]), t.input([1, 8], 'y')];
  const tokens = t.op('Add', [t.op('Concat', [t.weight([1, 1, 8]), x], { axis: 1 }), t.weight([1, 5, 8])]);
  const first = t.op('Gather', [tokens, t.constant([0], [], 'i64')], { axis: 1 });
  const both = t.op('Concat', [first, y], { axis: -1 });
  expect(errors(t.graph(tokens, t.linear(both, 16, 3), t.op('Add', [first, y])))).toBeLessThan(0.005);
});

describe('a mean over as many rows as there are, then', () => {
  const params = { calibrate: [{ n: 5 }, { n: 9 }], run: [{ n: 6 }, { n: 12 }, { n: 100 }] };
  const after: Record<string, (t: Tiny, m: string) => string> = {
    nothing: (_, m) => m,
    Linear: (t, m) => t.linear(m, 8, 4),
    Relu: (t, m) => t.op('Relu', [m]),
    Add: (t, m) => t.op('Add', [m, t.weight([8])]),
    LayerNormalization: (t, m) => t.op('LayerNormalization', [m, t.weight([8])]),
    Softmax: (t, m) => t.op('Softmax', [m], { axis: -1 }),
  };
  test.each(Object.entries(after))('%s', (_, then) => {
    const t = new Tiny(24);
    const x = t.op('Add', [t.input(['n', 8]), t.weight([8], 2)]);
    expect(errors(t.graph(then(t, t.op('ReduceMean', [x, t.ints(0)], { keepdims: 1 }))), { params })).toBeLessThan(0.005);
  });
});

describe('what cannot run says why, and where', () => {
  const refused = (make: (t: Tiny, x: string) => string): (() => void) => {
    const t = new Tiny(34);
    const x = t.input([2, 3, 4]);
    const graph = t.graph(make(t, x));
    return () => run(graph);
  };
  test('a divisor that may be zero', () =>
    expect(refused((t, x) => t.op('Div', [x, x]))).toThrow(/\/net\/div0: divides by a value that is not always positive/));
  test('softmax over another axis', () =>
    expect(refused((t, x) => t.op('Softmax', [x], { axis: 1 }))).toThrow(/\/net\/softmax0: softmax over axis 1/));
  test('a mask of −10,000', () =>
    expect(refused((t, x) => t.op('Softmax', [t.op('Add', [x, t.constant([0, 0, 0, -1e4], [4])])], { axis: -1 }))).toThrow(
      /too far apart/,
    ));
  test('a constant on the left', () =>
    expect(refused((t, x) => t.op('MatMul', [t.weight([3, 3]), x]))).toThrow(/\/net\/matmul0: a product with the constant \[3,3\]/));
});

test('an activation of one’s own', () => {
  registerActivation('Softsign', (x) => x / (1 + Math.abs(x)));
  const t = new Tiny(29);
  expect(errors(t.graph(t.linear(t.op('Softsign', [t.linear(t.input([4, 8]), 8, 40)]), 40, 4)))).toBeLessThan(0.02);
});

test('all operators that cannot run are named at once', () => {
  const t = new Tiny(30);
  const x = t.op('Floor', [t.op('Sign', [t.input([2, 3])])]);
  const graph = t.graph(x);
  const calibration = calibrate(graph, []);
  expect(() => compile(graph, calibration, { weights: 'public' })).toThrow(ModelError);
  expect(() => compile(graph, calibration, { weights: 'public' })).toThrow(/2 operators .*sign0 \(Sign\), .*floor1 \(Floor\)/);
});

test('an attention whose heads are put in another order, revealed as it is', () => {
  const t = new Tiny(32);
  const x = t.input([6, 8]);
  // The second head's scores lie far apart: it takes more coolings, and comes first.
  const wide = t.constant(
    Array.from({ length: 64 }, (_, i) => Math.sin(i * 7) * (i % 8 < 4 ? 0.3 : 2.5)),
    [8, 8],
  );
  const [q, k, v] = [t.op('Linear', [x, wide]), t.op('Linear', [x, wide]), t.linear(x, 8, 8)];
  const y = t.op('Attention', [q, k, v], { heads: 2, scale: 0.5 });
  const { error, compiled } = run(t.graph(y));
  expect(error[y]).toBeLessThan(0.03);
  expect(compiled.program.gates.some((g) => g.gate === 'spread')).toBe(true);
});

test.each([
  [3, 2],
  [10, 5],
  // The cap bends the largest only: of ±25.
  [10, 20],
])('an attention with q and k %d times as large, its scores capped at %d', (gain, softcap) => {
  const t = new Tiny(32);
  const x = t.input([12, 8]);
  const [q, k] = [0, 1].map(() => t.op('Linear', [x, t.weight([8, 8], gain / Math.sqrt(8))]));
  const v = t.linear(x, 8, 8);
  const y = t.op('Attention', [q, k, v], { heads: 2, scale: 0.5, softcap });
  expect(errors(t.graph(y), { runs: 10, samples: 100 })).toBeLessThan(0.015);
});

test('Pad, Expand, Identity', () => {
  const t = new Tiny(33);
  const x = t.input([1, 2, 3]);
  const p = t.op('Pad', [x, t.ints(0, 0, 2, 0, 1, 0), t.constant([0.5], [])]);
  const e = t.op('Expand', [t.op('ReduceMean', [x, t.ints(1)]), t.ints(1, 5, 3)]);
  expect(errors(t.graph(p, e, t.op('Identity', [x])))).toBeLessThan(0.001);
});
