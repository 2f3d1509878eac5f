import { describe, expect, test } from 'vitest';
import { type AttrValue, type Tensor, tensor } from '../graph.ts';
import { runNode } from '../interpret.ts';

let state = 1;
/** Values in [-1, 1), the same ones every time. */
function some(...shape: number[]): Tensor {
  const next = (): number => {
    state = (state * 48271) % 2147483647;
    return state / 2 ** 30 - 1;
  };
  return tensor(Array.from({ length: shape.reduce((a, b) => a * b, 1) }, next), shape);
}
const run = (op: string, inputs: (Tensor | undefined)[], attrs: Record<string, AttrValue>): Tensor =>
  runNode({ op, name: 'node', inputs: [], outputs: ['y'], attrs }, inputs)[0];
const rowsOf = (t: Tensor, from: number, to = t.shape[0]): Tensor =>
  tensor(t.data.slice(from * t.shape[1], to * t.shape[1]), [to - from, t.shape[1]]);
function close(a: Tensor, b: ArrayLike<number>): void {
  expect(a.data.length).toBe(b.length);
  for (let i = 0; i < b.length; i++) expect(Math.abs(a.data[i] - b[i]), `value ${i}`).toBeLessThan(2e-6);
}

/** The definition, one score at a time. */
function reference(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  heads: number,
  kvHeads: number,
  o: { causal?: boolean; window?: number; softcap?: number },
): number[] {
  const [n, m, d] = [q.shape[0], k.shape[0], q.shape[1] / heads];
  const y: number[] = [];
  for (let i = 0; i < n; i++)
    for (let h = 0; h < heads; h++) {
      const kv = Math.floor((h * kvHeads) / heads);
      const p = m - n + i;
      const seen = Array.from({ length: m }, (_, j) => j).filter(
        (j) => (!o.causal || j <= p) && (!o.window || (j <= p && j > p - o.window)),
      );
      const weights = seen.map((j) => {
        let s = 0;
        for (let c = 0; c < d; c++) s += q.data[i * q.shape[1] + h * d + c] * k.data[j * k.shape[1] + kv * d + c];
        s *= 0.7;
        return Math.exp(o.softcap ? o.softcap * Math.tanh(s / o.softcap) : s);
      });
      const sum = weights.reduce((a, b) => a + b, 0);
      for (let c = 0; c < d; c++) y.push(seen.reduce((a, j, w) => a + (weights[w] / sum) * v.data[j * v.shape[1] + kv * d + c], 0));
    }
  return y;
}

describe('Attention', () => {
  const [q, k, v] = [some(5, 24), some(9, 8), some(9, 8)];
  const attrs = { heads: 6, kvHeads: 2, scale: 0.7 };
  const past = [undefined, rowsOf(k, 0, 4), rowsOf(v, 0, 4)];
  test.each([
    ['shared keys', {}, {}],
    ['causal', { causal: 1 }, { causal: true }],
    ['a window', { causal: 1, window: 3 }, { causal: true, window: 3 }],
    ['a window alone, which is causal too', { window: 3 }, { window: 3 }],
    ['a window that sees all', { causal: 1, window: 100 }, { causal: true }],
    ['capped scores', { causal: 1, softcap: 0.5 }, { causal: true, softcap: 0.5 }],
  ] as const)('%s, with keys from before or without', (_, more, options) => {
    const wanted = reference(q, k, v, 6, 2, options);
    close(run('Attention', [q, k, v], { ...attrs, ...more }), wanted);
    close(run('Attention', [q, rowsOf(k, 4), rowsOf(v, 4), ...past], { ...attrs, ...more }), wanted);
  });
  test('an empty cache is none', () => {
    const none = tensor([], [0, 8]);
    close(run('Attention', [q, k, v, undefined, none, none], attrs), reference(q, k, v, 6, 2, {}));
  });
  test('is refused when it does not fit', () => {
    expect(() => run('Attention', [q, k, v], { heads: 6, kvHeads: 4 })).toThrow('with 6 heads over 4');
    expect(() => run('Attention', [q, rowsOf(k, 6), rowsOf(v, 6)], { ...attrs, causal: 1 })).toThrow('5 queries at the end of 3 keys');
    expect(() => run('Attention', [q, k, v, undefined, some(2, 6), some(2, 8)], attrs)).toThrow('[2,6] before [9,8]');
    expect(() => run('Attention', [q, k, v, some(5, 9)], attrs)).toThrow('a mask is not supported');
  });
});

describe('Rotary', () => {
  const angle = (p: number, j: number): number => p * 0.3 ** j;
  const table = (f: (x: number) => number, half: number): Tensor =>
    tensor(
      Array.from({ length: 8 * half }, (_, i) => f(angle(Math.floor(i / half), i % half))),
      [8, half],
    );
  const x = some(3, 12);
  test.each([
    ['whole heads', 3],
    ['the first values of each head', 2],
  ])('turns %s by the position', (_, half) => {
    const y = run('Rotary', [x, table(Math.cos, half), table(Math.sin, half), some(4, 7)], { heads: 2 });
    const wanted = Array.from(x.data);
    for (let i = 0; i < 3; i++)
      for (let h = 0; h < 2; h++)
        for (let j = 0; j < half; j++) {
          const [a, b] = [i * 12 + h * 6 + j, i * 12 + h * 6 + j + half];
          const t = angle(4 + i, j);
          [wanted[a], wanted[b]] = [x.data[a] * Math.cos(t) - x.data[b] * Math.sin(t), x.data[b] * Math.cos(t) + x.data[a] * Math.sin(t)];
        }
    close(y, wanted);
  });
  test('products of turned rows depend on their distance alone', () => {
    const [cos, sin] = [table(Math.cos, 3), table(Math.sin, 3)];
    const at = (t: Tensor, p: number): Tensor => run('Rotary', [t, cos, sin, tensor([], [p, 0])], { heads: 1 });
    const [a, b] = [some(1, 6), some(1, 6)];
    const dot = (p: number, q: number): number => Array.from(at(a, p).data).reduce((s, v, i) => s + v * at(b, q).data[i], 0);
    expect(dot(0, 2)).toBeCloseTo(dot(5, 7), 5);
    expect(Math.abs(dot(0, 2) - dot(0, 3))).toBeGreaterThan(1e-3);
  });
  test('is refused beyond its tables, or with tables too wide', () => {
    const tables = [table(Math.cos, 3), table(Math.sin, 3)];
    expect(() => run('Rotary', [x, ...tables, some(6, 1)], { heads: 2 })).toThrow('position 8; there are tables for 8');
    expect(() => run('Rotary', [x, ...tables], { heads: 3 })).toThrow('tables [8,3] and [8,3] for heads of 4');
    expect(() => run('Rotary', [x, ...tables], { heads: 5 })).toThrow('[3,12] in 5 heads');
  });
});
