import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Case, integers, wrap } from './gate.case.ts';
import { size } from './gate.ts';

/** Runs one local gate and returns shape and words of its output. */
function apply(
  gate: string,
  shapes: readonly (readonly number[])[],
  attrs: unknown,
  values: readonly (readonly number[])[],
): { shape: readonly number[]; data: number[] } {
  const c = new Case();
  c.output(
    c.gate(
      gate,
      shapes.map((s) => c.input(s)),
      attrs,
    ),
  );
  const [{ shape, data }] = c.run(values);
  return { shape, data: [...data] };
}

/** Index vectors of a shape, in memory order. */
function* indices(shape: readonly number[]): Generator<number[]> {
  for (let i = 0; i < size(shape); i++) {
    const at: number[] = [];
    let rest = i;
    for (const d of [...shape].reverse()) {
      at.unshift(rest % d);
      rest = Math.floor(rest / d);
    }
    yield at;
  }
}
const flat = (shape: readonly number[], at: readonly number[]): number => at.reduce((o, v, i) => o * shape[i] + v, 0);
const shapes = fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 5 });
const words = (shape: readonly number[]): number[] => integers(size(shape), 2 ** 31);
const runs = { numRuns: 25 };

test('add and sub wrap modulo 2^32', () => {
  const [a, b] = [words([130]), words([130])];
  expect(apply('add', [[130], [130]], null, [a, b]).data).toEqual(a.map((v, i) => wrap(BigInt(v) + BigInt(b[i]))));
  expect(apply('sub', [[130], [130]], null, [a, b]).data).toEqual(a.map((v, i) => wrap(BigInt(v) - BigInt(b[i]))));
  expect(() =>
    apply('add', [[3], [4]], null, [
      [1, 2, 3],
      [1, 2, 3, 4],
    ]),
  ).toThrow(/differ/);
});

test('permute moves every index', () => {
  fc.assert(
    fc.property(
      shapes.chain((s) =>
        fc.tuple(
          fc.constant(s),
          fc.shuffledSubarray(
            s.map((_, i) => i),
            { minLength: s.length },
          ),
        ),
      ),
      ([shape, perm]) => {
        const v = words(shape);
        const out = apply('permute', [shape], { perm }, [v]);
        expect(out.shape).toEqual(perm.map((i) => shape[i]));
        expect(out.data).toEqual(
          [...indices(out.shape)].map((at) => {
            const from: number[] = [];
            perm.forEach((axis, i) => {
              from[axis] = at[i];
            });
            return v[flat(shape, from)];
          }),
        );
      },
    ),
    runs,
  );
});

test('slice and concat are each other’s inverse along every axis', () => {
  fc.assert(
    fc.property(shapes, fc.nat(), fc.nat(), (shape, a, cut) => {
      const axis = a % shape.length;
      const at = cut % shape[axis];
      const v = words(shape);
      const part = (from: number, to: number) => apply('slice', [shape], { axis, from, to }, [v]);
      const low = part(0, at + 1);
      expect(low.data).toEqual([...indices(low.shape)].map((i) => v[flat(shape, i)]));
      if (at + 1 === shape[axis]) return;
      const high = part(at + 1, shape[axis]);
      expect(high.data).toEqual(
        [...indices(high.shape)].map(
          (i) =>
            v[
              flat(
                shape,
                i.map((t, j) => (j === axis ? t + at + 1 : t)),
              )
            ],
        ),
      );
      expect(apply('concat', [low.shape, high.shape], { axis }, [low.data, high.data])).toEqual({ shape, data: v });
    }),
    runs,
  );
  expect(() => apply('slice', [[3, 2]], { axis: 0, from: 2, to: 4 }, [words([3, 2])])).toThrow(/slice 2…4 of axis 0/);
  expect(() =>
    apply(
      'concat',
      [
        [3, 2],
        [2, 2],
      ],
      { axis: 1 },
      [words([3, 2]), words([2, 2])],
    ),
  ).toThrow(/concat along 1/);
});

test('sumAxis, with the axis kept or dropped, and centre', () => {
  fc.assert(
    fc.property(shapes, fc.nat(), fc.boolean(), (shape, a, keep) => {
      const axis = a % shape.length;
      const v = words(shape);
      const sums = new Map<number, bigint>();
      const reduced = shape.map((d, i) => (i === axis ? 1 : d));
      for (const at of indices(shape)) {
        const to = flat(
          reduced,
          at.map((t, i) => (i === axis ? 0 : t)),
        );
        sums.set(to, (sums.get(to) ?? 0n) + BigInt(v[flat(shape, at)]));
      }
      const out = apply('sumAxis', [shape], { axis, keep }, [v]);
      expect(out.shape).toEqual(keep ? reduced : shape.filter((_, i) => i !== axis));
      expect(out.data).toEqual([...sums].sort(([p], [q]) => p - q).map(([, s]) => wrap(s)));
      const d = shape.at(-1)!;
      const rowSum = (i: number): bigint => v.slice(i - (i % d), i - (i % d) + d).reduce((s, t) => s + BigInt(t), 0n);
      expect(apply('centre', [shape], null, [v]).data).toEqual(v.map((t, i) => wrap(BigInt(d) * BigInt(t) - rowSum(i))));
    }),
    runs,
  );
});

test('affine takes its vectors along any axis, or one value each', () => {
  fc.assert(
    fc.property(shapes, fc.nat(), fc.boolean(), fc.constantFrom('mul', 'add', 'both'), (shape, a, whole, which) => {
      const axis = a % shape.length;
      const length = whole ? size(shape) : shape[axis];
      const [mul, add, v] = [integers(length, 2 ** 31), integers(length, 2 ** 31), words(shape)];
      const attrs = { ...(whole ? {} : { axis }), ...(which !== 'add' ? { mul } : {}), ...(which !== 'mul' ? { add } : {}) };
      const channel = (at: number[], i: number): number => (length === size(shape) ? i : at[axis]);
      const expected = [...indices(shape)].map((at, i) =>
        wrap(BigInt(v[i]) * (which !== 'add' ? BigInt(mul[channel(at, i)]) : 1n) + (which !== 'mul' ? BigInt(add[channel(at, i)]) : 0n)),
      );
      expect(apply('affine', [shape], attrs, [v]).data).toEqual(expected);
    }),
    runs,
  );
});

test('reshape keeps the words, fills in one dimension, and works on what it views', () => {
  const v = words([4, 6]);
  expect(apply('reshape', [[4, 6]], { shape: [3, -1] }, [v])).toEqual({ shape: [3, 8], data: v });
  expect(() => apply('reshape', [[4, 6]], { shape: [5, -1] }, [v])).toThrow(/does not fit/);
  const c = new Case();
  const wire = c.gate('open', [c.input([4, 6])], null, { kind: 'wire' });
  const flat = c.gate('reshape', [wire], { shape: [24] }, { kind: 'wire' });
  c.output(c.gate('mul', [flat, flat], null));
  expect([...c.run([v])[0].data]).toEqual(v.map((t) => wrap(BigInt(t) ** 2n)));
});

test('im2col gathers patches as a convolution reads them', () => {
  const small = fc.integer({ min: 1, max: 3 });
  const pad = fc.integer({ min: 0, max: 2 });
  fc.assert(
    fc.property(
      small,
      fc.tuple(small, small),
      fc.tuple(small, small),
      fc.tuple(pad, pad, pad, pad),
      fc.tuple(small, small),
      (C, kernel, strides, pads, dilations) => {
        const [H, W] = [7, 8];
        const v = words([1, C, H, W]);
        const out = (i: 0 | 1): number =>
          Math.floor(([H, W][i] + pads[i] + pads[i + 2] - dilations[i] * (kernel[i] - 1) - 1) / strides[i]) + 1;
        const rows: number[] = [];
        for (let oy = 0; oy < out(0); oy++)
          for (let ox = 0; ox < out(1); ox++)
            for (let ch = 0; ch < C; ch++)
              for (let ky = 0; ky < kernel[0]; ky++)
                for (let kx = 0; kx < kernel[1]; kx++) {
                  const [y, x] = [oy * strides[0] + ky * dilations[0] - pads[0], ox * strides[1] + kx * dilations[1] - pads[1]];
                  rows.push(y >= 0 && y < H && x >= 0 && x < W ? v[(ch * H + y) * W + x] : 0);
                }
        expect(apply('im2col', [[1, C, H, W]], { kernel, strides, pads, dilations }, [v])).toEqual({
          shape: [out(0) * out(1), C * kernel[0] * kernel[1]],
          data: rows,
        });
      },
    ),
    runs,
  );
});

test('local gates cost nothing', () => {
  const c = new Case();
  const x = c.input([1, 2, 4, 4]);
  c.output(c.gate('im2col', [x], { kernel: [2, 2], strides: [1, 1], pads: [0, 0, 0, 0], dilations: [1, 1] }));
  const { rounds, blocks } = c.cluster().prepare({}).p0.binding;
  expect([rounds, blocks.length]).toEqual([0, 0]);
});
