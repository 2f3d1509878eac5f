import { describe, expect, test } from 'vitest';
import { chooseRow, chooseSmooth, functionNamed, type RowGate, type SmoothGate, type SmoothOptions } from '../compile/fit/index.ts';
import { Case } from './gate.case.ts';
import type { HarmonicAttrs } from './harmonic.ts';

const scale = (g: { t: number; u: number }): number => 2 ** (g.t + g.u);

/** Attributes for channels with these fits (in order of K), all of one t and u, input of F fraction bits. */
function attrs(
  fits: readonly SmoothGate[],
  which: readonly number[],
  F: number,
  w: number,
  more: Partial<HarmonicAttrs> = {},
): HarmonicAttrs {
  const [{ t, u }] = fits;
  const m = Math.max(...fits.map((g) => g.m));
  const slopeBits = Math.max(...fits.map((g) => g.word.slopeBits));
  const strips: { to: number; K: number }[] = [];
  which.forEach((i, c) => {
    const K = fits[i].fit.a.length;
    if (strips.at(-1)?.K === K) strips.pop();
    strips.push({ to: c + 1, K });
  });
  const of = <T>(f: (g: SmoothGate) => T): T[] => which.map((i) => f(fits[i]));
  return {
    f: 'test',
    axis: 1,
    m,
    t,
    u,
    w,
    strips,
    lanes: true,
    series: fits.map(({ fit }) => ({ a: fit.a, b: fit.b })),
    which,
    multiplier: of((g) => g.al),
    ...(fits.some((g) => g.fit.slope !== 0) ? { slope: of((g) => g.fit.slope * 2 ** slopeBits), shift: F - (t + u - slopeBits) } : {}),
    constant: of((g) => Math.round((g.fit.c0 - g.word.centre) * scale(g))),
    ...more,
  };
}

/** Rounding: shares and coefficients, and the opened angle; six deviations. Plus the line's own rounding, less than one unit times its slope. */
const noise = (g: SmoothGate): number => 6.5 * Math.hypot(g.noise, g.inputNoise) * scale(g) + 8;

/** Values at F fraction bits, evenly over a channel's range. */
const spread = (g: SmoothGate, F: number, i: number, n: number): number =>
  Math.round((g.fit.lo + ((g.fit.hi - g.fit.lo) * (i + 0.5)) / n) * 2 ** F);

/** The gate's outputs against f itself, per channel. */
function close(
  got: ArrayLike<number>,
  values: readonly number[],
  F: number,
  f: (y: number) => number,
  fitOf: (i: number) => SmoothGate,
): void {
  for (let i = 0; i < values.length; i++) {
    const g = fitOf(i);
    const off = got[i] / scale(g) + g.word.centre - f(values[i] / 2 ** F);
    if (Math.abs(off) > g.fit.maxError + noise(g) / scale(g))
      throw new Error(`f(${values[i] / 2 ** F}) is off by ${off}, more than ${g.fit.maxError} and rounding`);
  }
}

const choose = (name: string, options: Partial<SmoothOptions> & { lo: number; hi: number }): SmoothGate =>
  chooseSmooth(functionNamed(name), { epsilon: 3e-3, fractionBits: 20, ...options });

describe('lanes: channels side by side', () => {
  test.each([
    [
      'gelu',
      24,
      [
        [-2, 1.5],
        [-4, 3],
        [-8, 6],
      ],
      [0, 0, 0, 1, 1, 1, 1, 1, 2],
    ],
    [
      'silu',
      26,
      [
        [-1, 1],
        [-12, 12],
      ],
      [0, 1, 1, 1, 1, 1, 1],
    ],
    ['tanh', 26, [[-6, 6]], [0, 0, 0, 0, 0]],
    [
      'exp',
      32,
      [
        [-2, 0.5],
        [-12, 1],
      ],
      [0, 1],
    ],
  ] as const)('%s in words of %i bits, one strip for each K, within fit and rounding', (name, w, ranges, which) => {
    const F = 20;
    const fits = ranges
      .map(([lo, hi]) => choose(name, { lo, hi }))
      .map((g, _, all) => ({ ...g, t: Math.min(...all.map((h) => h.t)), u: Math.min(...all.map((h) => h.u)) }));
    const a = attrs(fits, which, F, w);
    const bits = a.slope ? Math.min(w, 32 - a.shift!) : w;
    for (const g of fits) expect(bits).toBeGreaterThanOrEqual(g.word.need);
    expect(a.strips.length).toBe(ranges.length);
    const rows = 40;
    const n = which.length;
    const values = Array.from({ length: rows * n }, (_, i) => spread(fits[which[i % n]], F, Math.floor(i / n), rows));
    const c = new Case();
    c.error = Math.max(...fits.map(noise));
    c.output(c.gate('harmonic', [c.input([rows, n])], a, { bits }));
    const [y] = c.run([values]);
    close(y.data, values, F, functionNamed(name), (i) => fits[which[i % n]]);
  });

  test('takes a range of channels where several gates share one tensor', () => {
    const F = 20;
    const fits = [choose('gelu', { lo: -3, hi: 2 }), choose('tanh', { lo: -2, hi: 2 })];
    const [rows, n] = [30, 11];
    const values = Array.from({ length: rows * n }, (_, i) => spread(fits[1], F, i, rows * n));
    const c = new Case();
    c.error = Math.max(...fits.map(noise));
    const x = c.input([rows, n]);
    const parts = [
      [0, 5],
      [5, 11],
    ].map(([from, to], i) => c.gate('harmonic', [x], { ...attrs([fits[i]], new Array(to - from).fill(0), F, 24), from, to }, { bits: 24 }));
    for (const p of parts) c.output(p);
    const out = c.run([values]);
    for (const [i, [from, to]] of [
      [0, 5],
      [5, 11],
    ].entries()) {
      expect(out[i].shape).toEqual([rows, to - from]);
      close(
        out[i].data,
        values.filter((_, j) => j % n >= from && j % n < to),
        F,
        functionNamed(['gelu', 'tanh'][i]),
        () => fits[i],
      );
    }
  });

  test.each([24, 20])('from a ring of %i bits, whose wrap is the period', (ring) => {
    const F = ring - 12;
    const g = choose('tanh', { lo: -4, hi: 4, fractionBits: F, ringBits: ring });
    const values = Array.from({ length: 300 }, (_, i) => spread(g, F, i, 300));
    const c = new Case();
    c.error = noise(g);
    c.output(c.gate('harmonic', [c.input([100, 3], { bits: ring })], attrs([g], [0, 0, 0], F, 26), { bits: 26 }));
    close(c.run([values])[0].data, values, F, Math.tanh, () => g);
  });
});

describe('runs: a channel is a run of values', () => {
  test.each([[[3, 4, 5, 6]], [[2, 3, 7, 7]], [[1, 5, 1, 13]], [[4, 2]]])(
    'shape %j, channels along axis 1 with their own ranges',
    (shape) => {
      const F = 20;
      const fits = [choose('exp', { lo: -5, hi: 0 }), choose('exp', { lo: -9, hi: 0, slope: 0 })].sort(
        (p, q) => p.fit.a.length - q.fit.a.length,
      );
      const which = Array.from({ length: shape[1] }, (_, i) => (2 * i >= shape[1] ? 1 : 0));
      const a = { ...attrs(fits, which, F, 28), lanes: false };
      const inner = shape.slice(2).reduce((p, d) => p * d, 1);
      const n = shape.reduce((p, d) => p * d, 1);
      const fitOf = (i: number): SmoothGate => fits[which[Math.floor(i / inner) % shape[1]]];
      const values = Array.from({ length: n }, (_, i) => spread(fitOf(i), F, i, n));
      const c = new Case();
      c.error = Math.max(...fits.map(noise));
      const bits = a.slope ? Math.min(28, 32 - a.shift!) : 28;
      c.output(c.gate('harmonic', [c.input(shape)], a, { bits }));
      close(c.run([values])[0].data, values, F, Math.exp, fitOf);
    },
  );
});

describe('row gates', () => {
  const rowAttrs = (fits: readonly RowGate[], w: number): HarmonicAttrs => ({
    f: 'row',
    axis: 0,
    lanes: false,
    row: true,
    m: fits[0].m,
    t: fits[0].t,
    u: fits[0].u,
    w,
    strips: [{ to: fits.length, K: Math.max(...fits.map((g) => g.fit.a.length)) }],
    series: fits.map(({ fit }) => ({ a: fit.a, b: fit.b })),
    which: fits.map((_, i) => i),
    multiplier: fits.map((g) => g.al),
    constant: fits.map((g) => Math.round(g.fit.c0 * scale(g))),
  });
  const bound = (g: RowGate): number => g.relError + 6.5 * Math.hypot(g.noise, g.inputNoise);
  const inputs = (g: { fit: { lo: number; hi: number } }, units: number, n: number): number[] =>
    Array.from({ length: n }, (_, i) => Math.round(g.fit.lo * (g.fit.hi / g.fit.lo) ** ((i + 0.5) / n) * units));

  test.each([
    ['rsqrt', 0.3, 32, 2 ** 18],
    ['reciprocal', 0.5, 30, 2 ** 19],
  ] as const)('%s on [%d, %d] in 32-bit words', (name, lo, hi, unitsPerOne) => {
    const g = chooseRow(name, { lo, hi, unitsPerOne });
    const x = inputs(g, unitsPerOne, 60);
    const c = new Case();
    c.error = scale(g) * functionNamed(name)(lo) * bound(g);
    c.output(c.gate('harmonic', [c.input([1, 60])], rowAttrs([g], 32)));
    const [y] = c.run([x]);
    x.forEach((v, i) => {
      expect(Math.abs(y.data[i] / scale(g) / functionNamed(name)(v / unitsPerOne) - 1)).toBeLessThan(bound(g));
    });
  });

  test('channels with their own series, in words of 30 bits', () => {
    const fits = [8, 16].map((hi) => chooseRow('reciprocal', { lo: 1, hi, unitsPerOne: 2 ** 20, budget: 27, maxM: 16 }));
    // One gate has one t, u and m: the second channel's are used for both.
    const [a, b] = [{ ...fits[0], t: fits[1].t, u: fits[1].u, m: fits[1].m }, fits[1]];
    const x = [...inputs(a, 2 ** 20, 20), ...inputs(b, 2 ** 20, 20)];
    const c = new Case();
    c.error = scale(b) * 0.01;
    c.output(c.gate('harmonic', [c.input([2, 20])], rowAttrs([a, b], 30), { bits: 30 }));
    const [y] = c.run([x]);
    x.forEach((v, i) => {
      expect(Math.abs(((y.data[i] / scale(b)) * v) / 2 ** 20 - 1)).toBeLessThan(i < 20 ? 8e-3 : bound(b) + 2e-3);
    });
  });

  test.each([
    [33, 30],
    [40, 37],
    [45, 42],
    [48, 44],
  ])('wide words of %i bits, cut to 32 by truncate in the same round', (w, budget) => {
    const unitsPerOne = 2 ** 18;
    const g = chooseRow('rsqrt', { lo: 0.3, hi: 32, unitsPerOne, budget, epsilon: 5e-4 });
    const s = w - 32;
    const x = inputs(g, unitsPerOne, 40);
    const c = new Case();
    c.error = scale(g) * 2 * bound(g) + 1;
    const wide = c.gate('harmonic', [c.input([1, 40])], rowAttrs([g], w), { bits: w });
    c.output(c.gate('truncate', [wide], { s, bits: 32 }));
    expect(c.cluster().prepare({}).p0.binding.rounds).toBe(1);
    const [y] = c.run([x]);
    x.forEach((v, i) => {
      expect(Math.abs((y.data[i] / scale(g)) * 2 ** s * Math.sqrt(v / unitsPerOne) - 1)).toBeLessThan(bound(g) + 1e-5);
    });
  });
});

test('constants that do not fit the tensor are refused', () => {
  const g = choose('tanh', { lo: -1, hi: 1 });
  const c = new Case();
  c.output(c.gate('harmonic', [c.input([2, 3])], attrs([g], [0, 0], 20, 24), { bits: 24 }));
  expect(() => c.run([new Array(6).fill(0)])).toThrow(/constants for 2 channels, tensor has 3/);
});
