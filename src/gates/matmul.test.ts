import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Case, integers, wrap } from './gate.case.ts';
import type { SharedAttrs } from './matmul.ts';

/** A·B + bias in big integers, wrapped to words. */
function product(a: readonly number[], b: readonly number[], M: number, K: number, N: number, bias?: readonly number[]): number[] {
  return Array.from({ length: M * N }, (_, i) => {
    const [r, j] = [Math.floor(i / N), i % N];
    let s = bias ? BigInt(bias[j]) : 0n;
    for (let k = 0; k < K; k++) s += BigInt(a[r * K + k]) * BigInt(b[k * N + j]);
    return wrap(s);
  });
}

const sizes = fc.record({
  M: fc.integer({ min: 1, max: 9 }),
  K: fc.integer({ min: 1, max: 40 }),
  N: fc.integer({ min: 1, max: 35 }),
  bias: fc.boolean(),
  bound: fc.constantFrom(2 ** 31, 2 ** 20),
});

test.each(['matmulPublic', 'matmulPrivate'])('%s is exact modulo 2^32', (gate) => {
  fc.assert(
    fc.property(sizes, ({ M, K, N, bias, bound }) => {
      const [w, b, v] = [integers(K * N, bound), integers(N, 2 ** 31), integers(M * K, bound)];
      const c = new Case(
        { w: { shape: [K, N], data: Int32Array.from(w) }, b: { shape: [N], data: Int32Array.from(b) } },
        gate === 'matmulPrivate',
      );
      c.checkPlain = bound < 2 ** 31; // larger sums are not exact in doubles
      const x = c.input([M, K]);
      const wire = gate === 'matmulPrivate' ? c.gate('open', [x], null, { kind: 'wire' }) : x;
      c.output(c.gate(gate, [wire], { weight: 'w', K, N, ...(bias ? { bias: 'b' } : {}) }));
      const [z] = c.run([v]);
      expect([...z.data]).toEqual(product(v, w, M, K, N, bias ? b : undefined));
      expect(z.shape).toEqual([M, N]);
    }),
    { numRuns: 15 },
  );
});

test('one opening serves several private products and a shared one', () => {
  const [M, K, N] = [6, 10, 17];
  const [w, u, v] = [integers(K * N, 2 ** 31), integers(K * N, 2 ** 31), integers(M * K, 2 ** 31)];
  const c = new Case({ w: { shape: [K, N], data: Int32Array.from(w) }, u: { shape: [K, N], data: Int32Array.from(u) } }, true);
  const x = c.gate('open', [c.input([M, K])], null, { kind: 'wire' });
  c.checkPlain = false;
  for (const weight of ['w', 'u']) c.output(c.gate('matmulPrivate', [x], { weight, K, N }));
  c.output(c.gate('mul', [x, x], null));
  const [a, b, s] = c.run([v]);
  expect([...a.data]).toEqual(product(v, w, M, K, N));
  expect([...b.data]).toEqual(product(v, u, M, K, N));
  expect([...s.data]).toEqual(v.map((t) => wrap(BigInt(t) ** 2n)));
});

/** Attention's two products on tensors [n, heads·d]: scores = Q·Kᵀ per head, context = P·V back in [n, heads·d]. */
const views = (n: number, heads: number, d: number): { scores: SharedAttrs; context: SharedAttrs } => {
  const head = { offset: 0, batch: d, row: heads * d };
  const square = { offset: 0, batch: n * n, row: n };
  return {
    scores: { batch: heads, M: n, N: n, K: d, a: head, b: { ...head, transposed: true }, c: square, shape: [heads, n, n] },
    context: { batch: heads, M: n, N: d, K: n, a: square, b: head, c: head, shape: [n, heads * d] },
  };
};

test('matmulShared reads and writes heads in place, transposed and strided, exactly', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 12 }),
      fc.integer({ min: 1, max: 4 }),
      fc.integer({ min: 1, max: 20 }),
      fc.constantFrom(2 ** 31, 2 ** 20),
      (n, heads, d, bound) => {
        const { scores, context } = views(n, heads, d);
        const c = new Case();
        c.checkPlain = bound < 2 ** 31;
        const [q, k, v, p] = [
          [n, heads * d],
          [n, heads * d],
          [n, heads * d],
          [heads, n, n],
        ].map((shape) => c.gate('open', [c.input(shape)], null, { kind: 'wire' }));
        c.output(c.gate('matmulShared', [q, k], scores)).output(c.gate('matmulShared', [p, v], context));
        const values = [n * heads * d, n * heads * d, n * heads * d, heads * n * n].map((s) => integers(s, bound));
        const [Q, K, V, P] = values.map((t) => t.map(BigInt));
        const [z, y] = c.run(values);
        const at = (i: number, h: number, j: number): number => i * heads * d + h * d + j;
        const sum = (length: number, f: (k: number) => bigint): number =>
          wrap(Array.from({ length }, (_, i) => f(i)).reduce((a, b) => a + b, 0n));
        for (let h = 0; h < heads; h++)
          for (let i = 0; i < n; i++) {
            for (let j = 0; j < n; j++) expect(z.data[(h * n + i) * n + j]).toBe(sum(d, (t) => Q[at(i, h, t)] * K[at(j, h, t)]));
            for (let j = 0; j < d; j++) expect(y.data[at(i, h, j)]).toBe(sum(n, (t) => P[(h * n + i) * n + t] * V[at(t, h, j)]));
          }
      },
    ),
    { numRuns: 12 },
  );
});

test('matmulShared takes part of a tensor by its offset', () => {
  const c = new Case();
  c.checkPlain = false;
  // Rows 2…4 of a [7, 6] tensor, columns 1…3, times columns 3…5 of a [3, 6] tensor.
  const [x, y] = [c.input([7, 6]), c.input([3, 6])].map((t) => c.gate('open', [t], null, { kind: 'wire' }));
  c.output(
    c.gate('matmulShared', [x, y], {
      batch: 1,
      M: 3,
      N: 3,
      K: 3,
      a: { offset: 13, batch: 0, row: 6 },
      b: { offset: 3, batch: 0, row: 6 },
      c: { offset: 0, batch: 0, row: 3 },
      shape: [3, 3],
    }),
  );
  const [a, b] = [integers(42, 2 ** 31), integers(18, 2 ** 31)];
  const part = (v: number[], rows: number[], from: number): number[] => rows.flatMap((r) => v.slice(6 * r + from, 6 * r + from + 3));
  expect([...c.run([a, b])[0].data]).toEqual(product(part(a, [2, 3, 4], 1), part(b, [0, 1, 2], 3), 3, 3, 3));
});

test('what does not fit is refused', () => {
  const c = new Case({ w: { shape: [4, 2], data: new Int32Array(8) } });
  c.output(c.gate('matmulPublic', [c.input([3, 5])], { weight: 'w', K: 4, N: 2 }));
  expect(() => c.run([new Array(15).fill(0)])).toThrow(/matmul with w \[4, 2\]: input is \[3,5\]/);
  const e = new Case();
  const x = e.gate('extend', [e.input([2, 2])], { s: 0, bits: 12 }, { kind: 'wire', bits: 12 });
  const whole = { offset: 0, batch: 0, row: 2 };
  e.output(e.gate('matmulShared', [x, x], { batch: 1, M: 2, N: 2, K: 2, a: whole, b: whole, c: whole, shape: [2, 2] }));
  expect(() => e.run([[1, 2, 3, 4]])).toThrow(/opened in 32 bits/);
});
