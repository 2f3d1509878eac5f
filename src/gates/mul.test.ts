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

test.each([[13, 0], [17, 0], [20, 17], [24, 13]])('products of extensions from %i bits (row values from %i) are exact', (b, br) => {
  const [rows, cols] = [7, 33];
  const c = new Case();
  const x = c.input([rows, cols]);
  const y = c.input([rows]);
  const wx = c.gate('extend', [x], { s: 0, bits: b }, { kind: 'wire', bits: b });
  const wy = br ? c.gate('extend', [y], { s: 0, bits: br }, { kind: 'wire', bits: br }) : c.gate('open', [y], null, { kind: 'wire' });
  for (const [g, ins] of [['mul', [wx, wy]], ['square', [wx]], ['rowSquares', [wx]]] as const) c.output(c.gate(g, ins, null));
  const a = integers(rows * cols, 2 ** (b - 2));
  const r = integers(rows, br ? 2 ** (br - 2) : 2 ** 31);
  const [p, q, s] = c.run([a, r]);
  expect([...p.data]).toEqual(a.map((v, i) => wrap(BigInt(v) * BigInt(r[Math.floor(i / cols)]))));
  expect([...q.data]).toEqual(a.map((v) => wrap(BigInt(v) * BigInt(v))));
  expect([...s.data]).toEqual(Array.from({ length: rows }, (_, i) => wrap(a.slice(i * cols, (i + 1) * cols).reduce((t, v) => t + BigInt(v) * BigInt(v), 0n))));
});
