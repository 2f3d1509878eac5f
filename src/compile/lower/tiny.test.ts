import { expect, test } from 'vitest';
import { errors, Tiny } from './tiny.case.ts';

test('a GELU perceptron', () => {
  const t = new Tiny();
  const x = t.input([8, 16]);
  const y = t.linear(t.op('Gelu', [t.linear(x, 16, 32)]), 32, 8);
  expect(errors(t.graph(y))).toBeLessThan(0.02);
});
