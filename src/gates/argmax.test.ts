import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Case, integers } from './gate.case.ts';
import type { MaxPoolAttrs } from './maxPool.ts';

/** Values whose differences fit b bits, many of them equal. */
const close = (n: number, b: number): number[] => {
  const [wide, narrow] = [integers(n, 2 ** (b - 2)), integers(n, 3)];
  return wide.map((v, i) => (i % 3 ? v : narrow[i]) || 0);
};

test('argmax and max over the last axis: exact, the first of equals wins', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 2, max: 13 }),
      fc.integer({ min: 1, max: 40 }),
      fc.integer({ min: 4, max: 32 }),
      fc.integer({ min: 0, max: 12 }),
      fc.boolean(),
      (k, n, b, more, value) => {
        const ring = Math.min(32, b + more);
        const c = new Case();
        const x = c.input([n, k], { bits: ring });
        const at = value
          ? c.gate('argmax', [x], { bits: b }, { bits: 4 }, { bits: ring })
          : c.gate('argmax', [x], { bits: b }, { bits: 5 });
        const m = c.gate('max', [x], { bits: b }, { bits: ring });
        c.output(at).output(m);
        if (value) c.output(at + 1);
        const v = close(n * k, b);
        const [i, largest, again] = c.run([v]);
        const rows = Array.from({ length: n }, (_, r) => v.slice(r * k, (r + 1) * k));
        expect([...i.data].map((t) => (t + 32) % (value ? 16 : 32))).toEqual(rows.map((r) => r.indexOf(Math.max(...r))));
        expect([...largest.data]).toEqual(rows.map((r) => Math.max(...r)));
        if (again) expect(again.data).toEqual(largest.data);
      },
    ),
    { numRuns: 40 },
  );
});

test('the largest of a thousand classes, in ten turns', () => {
  const c = new Case();
  const x = c.input([1, 1000], { bits: 20 });
  c.output(c.gate('argmax', [x], null, { bits: 16 }));
  const v = integers(1000, 2 ** 18);
  expect([...c.run([v])[0].data]).toEqual([v.indexOf(Math.max(...v))]);
  expect(c.cluster().prepare({}).p0.binding.rounds).toBe(30);
});

test('maxPool over windows of any size, stride, padding and dilation', () => {
  const one = fc.integer({ min: 1, max: 3 });
  const pad = fc.integer({ min: 0, max: 1 });
  fc.assert(
    fc.property(
      fc.tuple(one, one).filter(([a, b]) => a * b > 1),
      fc.tuple(one, one),
      fc.tuple(pad, pad, pad, pad),
      fc.tuple(one, one),
      fc.integer({ min: 1, max: 2 }),
      (kernel, strides, pads, dilations, N) => {
        const [C, H, W] = [3, 8, 9];
        const b = 14;
        // Windows that lie wholly in the padding have no largest value.
        fc.pre(kernel.every((k, i) => dilations[i] * (k - 1) >= Math.max(pads[i], pads[i + 2])));
        const c = new Case();
        c.output(
          c.gate('maxPool', [c.input([N, C, H, W], { bits: 20 })], { kernel, strides, pads, dilations, bits: b } satisfies MaxPoolAttrs, {
            bits: 20,
          }),
        );
        const v = integers(N * C * H * W, 2 ** (b - 2));
        const [y] = c.run([v]);
        const out = (i: 0 | 1): number =>
          Math.floor(([H, W][i] + pads[i] + pads[i + 2] - dilations[i] * (kernel[i] - 1) - 1) / strides[i]) + 1;
        expect(y.shape).toEqual([N, C, out(0), out(1)]);
        const expected: number[] = [];
        for (let image = 0; image < N * C; image++)
          for (let oy = 0; oy < out(0); oy++)
            for (let ox = 0; ox < out(1); ox++) {
              const seen: number[] = [];
              for (let ky = 0; ky < kernel[0]; ky++)
                for (let kx = 0; kx < kernel[1]; kx++) {
                  const [r, s] = [oy * strides[0] - pads[0] + ky * dilations[0], ox * strides[1] - pads[1] + kx * dilations[1]];
                  if (r >= 0 && s >= 0 && r < H && s < W) seen.push(v[(image * H + r) * W + s]);
                }
              expected.push(Math.max(...seen));
            }
        expect([...y.data]).toEqual(expected);
      },
    ),
    { numRuns: 40 },
  );
});

test('what has no largest value, or does not fit, is refused', () => {
  const run = (gate: string, shape: number[], attrs: object | null, out: { bits: number }): void => {
    const c = new Case();
    c.output(c.gate(gate, [c.input(shape, { bits: 20 })], attrs, out));
    c.run([new Array(shape.reduce((a, b) => a * b, 1)).fill(0)]);
  };
  const window = { strides: [1, 1], pads: [0, 0, 0, 0], dilations: [1, 1] };
  expect(() => run('argmax', [4, 1], null, { bits: 8 })).toThrow(/at least two/);
  expect(() => run('argmax', [1, 40], null, { bits: 5 })).toThrow(/do not fit 5 bits/);
  expect(() => run('max', [4, 2], { bits: 21 }, { bits: 20 })).toThrow(/21 bits of a tensor of 20/);
  expect(() => run('maxPool', [1, 1, 3, 3], { ...window, kernel: [1, 1] }, { bits: 20 })).toThrow(/window of one value/);
  expect(() => run('maxPool', [3, 3, 3], { ...window, kernel: [2, 2] }, { bits: 20 })).toThrow(/\[N, C, H, W\]/);
});
