import { expect, test } from 'vitest';
import { Case, chiSquare, integers } from './gate.case.ts';

test('reveal cuts to the stated precision and ring', () => {
  const c = new Case();
  const x = c.input([40, 3]);
  c.output(c.gate('reveal', [x], { s: 12, bits: 16, mul: [3, 1, 2], add: [0, 2 ** 13, -5], axis: 1 }, { bits: 16 }));
  const v = integers(120, 2 ** 25);
  const [y] = c.run([v]);
  y.data.forEach((t, i) => {
    expect(Math.abs(t - (v[i] * [3, 1, 2][i % 3] + [0, 2 ** 13, -5][i % 3]) / 2 ** 12)).toBeLessThan(1);
  });
  const wide = new Case();
  wide.output(wide.gate('reveal', [wide.input([2])], { s: 12, bits: 21 }, { bits: 21 }));
  expect(() => wide.run([[1, 2]])).toThrow(/21 bits of a 32-bit ring less 12/);
});

test('each of the two words the client gets is uniform, whatever the value and whatever the parties’ shares were', () => {
  const n = 1 << 16;
  const c = new Case();
  // 0·x + 3: the shares that enter are public constants, so all randomness seen is the zero sharing's.
  const constant = c.gate('affine', [c.input([n, 1])], { mul: [0], add: [3 << 4] });
  const out = c.gate('reveal', [constant], { s: 4, bits: 8 }, { bits: 8 });
  c.output(out);
  const cluster = c.cluster();
  const { y0 } = cluster.run({}, { x0: new Float64Array(n) });
  expect(new Set(y0.data)).toEqual(new Set([3]));
  const { p0, p1 } = cluster.prepare({});
  for (const p of [p0, p1]) {
    const counts = new Float64Array(256);
    for (const w of p.model.k.u32.subarray(p.binding.tensors[out].at / 4).subarray(0, n)) counts[w]++;
    expect(chiSquare(counts)).toBeLessThan(chiSquare.limit(256));
  }
});
