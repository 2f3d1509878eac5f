import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Case, integers, wrap } from './gate.case.ts';

test.each([1, 5, 130, 4097])('mul of %i opened values is exact modulo 2^32', (n) => {
  const c = new Case();
  const [x, y] = [c.input([n]), c.input([n])];
  const wires = [x, y].map((t) => c.gate('open', [t], null, { kind: 'wire' }));
  c.output(c.gate('mul', wires, null));
  const [a, b] = [integers(n, 2 ** 31), integers(n, 2 ** 31)];
  const [z] = c.run([a, b]);
  expect([...z.data]).toEqual(a.map((v, i) => wrap(BigInt(v) * BigInt(b[i]))));
});

test.each([
  [13, 0],
  [17, 0],
  [20, 17],
  [24, 13],
])('products of extensions from %i bits (row values from %i) are exact', (b, br) => {
  const [rows, cols] = [7, 33];
  const c = new Case();
  const x = c.input([rows, cols]);
  const y = c.input([rows]);
  const wx = c.gate('extend', [x], { s: 0, bits: b }, { kind: 'wire', bits: b });
  const wy = br ? c.gate('extend', [y], { s: 0, bits: br }, { kind: 'wire', bits: br }) : c.gate('open', [y], null, { kind: 'wire' });
  for (const [g, ins] of [
    ['mul', [wx, wy]],
    ['square', [wx]],
    ['rowSquares', [wx]],
  ] as const)
    c.output(c.gate(g, ins, null));
  const a = integers(rows * cols, 2 ** (b - 2));
  const r = integers(rows, br ? 2 ** (br - 2) : 2 ** 31);
  const [p, q, s] = c.run([a, r]);
  expect([...p.data]).toEqual(a.map((v, i) => wrap(BigInt(v) * BigInt(r[Math.floor(i / cols)]))));
  expect([...q.data]).toEqual(a.map((v) => wrap(BigInt(v) * BigInt(v))));
  expect([...s.data]).toEqual(
    Array.from({ length: rows }, (_, i) => wrap(a.slice(i * cols, (i + 1) * cols).reduce((t, v) => t + BigInt(v) * BigInt(v), 0n))),
  );
});

test('mul, square and rowSquares of wires of every kind agree with big integers', () => {
  // 0: opened by `open`; else the bits it was extended from.
  const kind = fc.oneof(fc.constant(0), fc.integer({ min: 3, max: 28 }));
  const wire = (c: Case, shape: number[], b: number): number =>
    b
      ? c.gate('extend', [c.input(shape)], { s: 0, bits: b }, { kind: 'wire', bits: b })
      : c.gate('open', [c.input(shape)], null, { kind: 'wire' });
  fc.assert(
    fc.property(kind, kind, fc.boolean(), fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 40 }), (bx, by, rowY, rows, cols) => {
      const c = new Case();
      const [x, y] = [wire(c, [rows, cols], bx), wire(c, rowY ? [rows] : [rows, cols], by)];
      for (const [g, ins] of [
        ['mul', [x, y]],
        ['mul', [x, x]],
        ['square', [x]],
        ['rowSquares', [x]],
      ] as const)
        c.output(c.gate(g, ins, null));
      const bound = (b: number): number => 2 ** (b ? b - 2 : 31);
      const [v, w] = [integers(rows * cols, bound(bx)), integers(rowY ? rows : rows * cols, bound(by))];
      const [p, self, q, s] = c.run([v, w]).map((r) => [...r.data]);
      const squares = v.map((t) => BigInt(t) ** 2n);
      expect(p).toEqual(v.map((t, i) => wrap(BigInt(t) * BigInt(w[rowY ? Math.floor(i / cols) : i]))));
      expect(self).toEqual(squares.map((t) => wrap(t)));
      expect(q).toEqual(self);
      expect(s).toEqual(Array.from({ length: rows }, (_, r) => wrap(squares.slice(r * cols, (r + 1) * cols).reduce((a, b) => a + b, 0n))));
    }),
    { numRuns: 40 },
  );
});

test.each([true, false])('mulPrivate with a private vector (bias: %s) is exact; the parties hold only masked words', (bias) => {
  const [rows, d] = [5, 33];
  const [w, b] = [integers(d, 2 ** 31), integers(d, 2 ** 31)];
  const c = new Case({ w: { shape: [d], data: Int32Array.from(w) }, b: { shape: [d], data: Int32Array.from(b) } }, true);
  const x = c.gate('open', [c.input([rows, d])], null, { kind: 'wire' });
  c.output(c.gate('mulPrivate', [x], { weight: 'w', ...(bias ? { bias: 'b' } : {}) }));
  const v = integers(rows * d, 2 ** 31);
  expect([...c.run([v])[0].data]).toEqual(v.map((t, i) => wrap(BigInt(t) * BigInt(w[i % d]) + (bias ? BigInt(b[i % d]) : 0n))));
});

test('shapes and rings that do not fit are refused', () => {
  const c = new Case();
  const [x, y] = [c.input([6]), c.input([4])].map((t) => c.gate('open', [t], null, { kind: 'wire' }));
  c.output(c.gate('mul', [x, y], null));
  expect(() =>
    c.run([
      [1, 2, 3, 4, 5, 6],
      [1, 2, 3, 4],
    ]),
  ).toThrow(/mul: \[4\] is neither/);
  const p = new Case({ w: { shape: [4], data: new Int32Array(4) } }, true);
  p.output(p.gate('mulPrivate', [p.gate('extend', [p.input([4])], { s: 0, bits: 20 }, { kind: 'wire', bits: 20 })], { weight: 'w' }));
  expect(() => p.run([[1, 2, 3, 4]])).toThrow(/32 bits/);
});
