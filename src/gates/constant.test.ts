import { expect, test } from 'vitest';
import { Case, integers, wrap } from './gate.case.ts';

test.each([false, true])('a constant (private: %s) is a tensor like any other', (hidden) => {
  const w = integers(35, 2 ** 31);
  const c = new Case({ w: { shape: [5, 7], data: Int32Array.from(w) } }, hidden);
  const x = c.input([5, 7]);
  const k = c.gate('constant', [], { weight: 'w', shape: [5, 7], ...(hidden ? { private: true } : {}) });
  c.output(k).output(c.gate('add', [x, k], null));
  const v = integers(35, 2 ** 31);
  const [same, sum] = c.run([v]);
  expect([...same.data]).toEqual(w);
  expect([...sum.data]).toEqual(v.map((t, i) => wrap(BigInt(t) + BigInt(w[i]))));
});

test.each([35, 7, 1])('addPrivate adds %i private values', (length) => {
  const w = integers(length, 2 ** 31);
  const c = new Case({ w: { shape: [length], data: Int32Array.from(w) } }, true);
  c.output(c.gate('addPrivate', [c.input([5, 7])], { weight: 'w', length }));
  const v = integers(35, 2 ** 31);
  expect([...c.run([v])[0].data]).toEqual(v.map((t, i) => wrap(BigInt(t) + BigInt(w[i % length]))));
});

test('addPrivate refuses a length that does not divide', () => {
  const c = new Case({ w: { shape: [4], data: new Int32Array(4) } }, true);
  c.output(c.gate('addPrivate', [c.input([5, 7])], { weight: 'w', length: 4 }));
  expect(() => c.run([new Array(35).fill(0)])).toThrow(/4 values do not fit/);
});
