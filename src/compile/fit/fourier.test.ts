import { describe, expect, test } from 'vitest';
import { evaluateFit, fitFourier, normal, sample, solveFit } from './fourier.ts';
import { erf, erfc, functionNamed, gelu, geluTanh, sigmoid, silu, softplus } from './functions.ts';
import { solveRidge } from './solve.ts';

/** Even points that coincide with no sample of a fit: an irrational rotation of [lo, hi]. */
function points(lo: number, hi: number, count = 5000): number[] {
  return Array.from({ length: count }, (_, i) => lo + (hi - lo) * ((0.5 + i * 0.6180339887498949) % 1));
}

describe('functions', () => {
  test('erf and erfc equal their 15-digit tables', () => {
    for (const [x, value] of [
      [0, 0],
      [0.1, 0.112462916018285],
      [0.5, 0.520499877813047],
      [1, 0.842700792949715],
      [2, 0.995322265018953],
      [2.5, 0.999593047982555],
      [3, 0.999977909503001],
    ]) {
      expect(Math.abs(erf(x) - value)).toBeLessThan(1e-15 * 5);
      expect(Math.abs(erf(-x) + value)).toBeLessThan(1e-15 * 5);
    }
    expect(erfc(4) / 1.541725790028002e-8).toBeCloseTo(1, 12);
    expect(erfc(10) / 2.088487583762545e-45).toBeCloseTo(1, 12);
    expect(erfc(-10)).toBe(2);
  });

  test('erf has no step where its two expansions meet', () => {
    const step = 1e-6;
    const slope = (2 / Math.sqrt(Math.PI)) * Math.exp(-6.25) * 2 * step;
    expect(Math.abs(erf(2.5 + step) - erf(2.5 - step) - slope)).toBeLessThan(1e-14);
  });

  test('activations keep their identities and their tails', () => {
    for (const y of points(-30, 30, 300)) {
      expect(gelu(y) - gelu(-y)).toBeCloseTo(y, 12);
      expect(silu(y) - silu(-y)).toBeCloseTo(y, 12);
      expect(sigmoid(y) + sigmoid(-y)).toBeCloseTo(1, 14);
      expect(softplus(y) - softplus(-y)).toBeCloseTo(y, 12);
      expect(Math.abs(gelu(y) - geluTanh(y))).toBeLessThan(5e-4);
    }
    expect(gelu(-8)).toBeLessThan(0);
    expect(silu(-800)).toBeCloseTo(0);
    expect(() => functionNamed('gelo')).toThrow(/gelo.*known.*gelu/);
  });
});

describe('solveRidge', () => {
  test('solves a random system to working precision', () => {
    const n = 20;
    const b = points(-1, 1, n * n);
    const a = new Float64Array(n * n);
    for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) for (let k = 0; k < n; k++) a[i * n + j] += b[i * n + k] * b[j * n + k];
    const ridge = new Float64Array(n).fill(0.01);
    const rhs = Float64Array.from(points(-1, 1, n));
    const [x] = solveRidge(a, n, ridge, [rhs]);
    for (let i = 0; i < n; i++) {
      let s = ridge[i] * x[i];
      for (let j = 0; j < n; j++) s += a[i * n + j] * x[j];
      expect(Math.abs(s - rhs[i])).toBeLessThan(1e-10);
    }
  });

  test('a singular system gets a ridge, a system that is not finite an error', () => {
    const [x] = solveRidge(Float64Array.of(1, 1, 1, 1), 2, new Float64Array(2), [Float64Array.of(2, 2)]);
    expect(x[0] + x[1]).toBeCloseTo(2, 6);
    expect(() => solveRidge(Float64Array.of(Number.NaN), 1, new Float64Array(1), [Float64Array.of(1)])).toThrow(/not finite/);
  });
});

describe('fitFourier', () => {
  test('a trigonometric polynomial with a linear part is recovered', () => {
    const f = (y: number) => 0.625 * y + 1 + 2 * Math.cos(y) - 3 * Math.sin(2 * y);
    const fit = fitFourier(f, { lo: -2, hi: 3, K: 2, period: 2 * Math.PI, slope: 'free', t: 26 });
    expect(fit.slope).toBe(0.625);
    expect(fit.c0).toBeCloseTo(1, 5);
    for (const [i, v] of [2, 0].entries()) expect(fit.a[i]).toBeCloseTo(v, 5);
    for (const [i, v] of [0, -3].entries()) expect(fit.b[i]).toBeCloseTo(v, 5);
    expect(fit.cnorm).toBeCloseTo(Math.sqrt(13), 5);
  });

  test.each([
    ['gelu', -4, 2, 1.6, 5, 11, 'free', 10],
    ['silu', -8, 8, 4, 8, 30, 0.5, 12],
    ['tanh', -8, 3, 0, 12, 14, 'free', 14],
    ['exp', -14, 2, 0, 8, 20, 0, 14],
    ['softplus', -5, 9, { lo: 1, hi: 3 }, 9, 21, 'free', 12],
  ] as const)('%s on [%d, %d] keeps its stated errors between the samples', (name, lo, hi, guard, K, period, slope, t) => {
    const f = functionNamed(name);
    const fit = fitFourier(f, { lo, hi, guard, K, period, slope, t });
    const worst = (a: number, b: number) => points(a, b).reduce((top, y) => Math.max(top, Math.abs(evaluateFit(fit, y) - f(y))), 0);
    expect(worst(lo, hi)).toBeLessThanOrEqual(fit.maxError);
    expect(worst(lo, hi)).toBeGreaterThan(0.9 * fit.maxError);
    expect(fit.rmsError).toBeLessThan(fit.maxError);
    expect(Math.max(worst(fit.guardLo, lo), worst(hi, fit.guardHi))).toBeLessThanOrEqual(Math.max(fit.guardError, fit.maxError));
    expect(fit.slope * 8).toBe(Math.round(fit.slope * 8));
  });

  test('the even part alone needs cosines only, and gives the same fit as both', () => {
    const options = { lo: -8, hi: 8, K: 8, period: 19, slope: 0.5, t: 14 };
    const even = fitFourier(gelu, { ...options, parity: 'even' });
    const both = fitFourier(gelu, options);
    expect(even.b.every((v) => v === 0)).toBe(true);
    expect(even.maxError).toBeLessThan(2e-3);
    for (let k = 0; k < 8; k++) expect(even.a[k]).toBeCloseTo(both.a[k], 9);
  });

  test('folding symmetric samples changes nothing', () => {
    const s = sample(gelu, { lo: -5, hi: 2, guard: 1 }, 161);
    const folded = solveFit(normal(s, 6, 10), 12, 'free');
    const plain = solveFit(normal({ ...s, symmetric: false }, 6, 10), 12, 'free');
    expect(folded.slope).toBe(plain.slope);
    for (let k = 0; k < 6; k++) {
      expect(folded.a[k]).toBeCloseTo(plain.a[k], 9);
      expect(folded.b[k]).toBeCloseTo(plain.b[k], 9);
    }
  });

  test('the ridge keeps coefficients small where a plain fit explodes', () => {
    const options = { lo: -90, hi: 2, K: 12, period: 100, slope: 0 };
    const tight = fitFourier(Math.exp, { ...options, t: 24 });
    const calm = fitFourier(Math.exp, { ...options, t: 10 });
    expect(calm.cnorm).toBeLessThan(tight.cnorm);
  });

  test('a relative fit states a relative error', () => {
    const f = (x: number) => 1 / x;
    const fit = fitFourier(f, { lo: 1, hi: 32, K: 48, period: 37, t: 14, relative: true });
    expect(fit.maxError).toBeLessThan(4e-4);
    for (const x of points(1, 32)) expect(Math.abs(evaluateFit(fit, x) * x - 1)).toBeLessThanOrEqual(fit.maxError);
  });

  test('ranges, periods and functions that cannot be used are refused', () => {
    expect(() => fitFourier(gelu, { lo: 1, hi: 1, K: 3, period: 2, t: 10 })).toThrow(/not a range/);
    expect(() => fitFourier(gelu, { lo: -1, hi: 1, guard: 0.2, K: 3, period: 2.2, t: 10 })).toThrow(/shorter than the range/);
    expect(() => fitFourier((x) => 1 / x, { lo: 0, hi: 1, K: 3, period: 2, t: 10 })).toThrow(/not usable/);
    expect(() => fitFourier(gelu, { lo: -1, hi: 1, K: 0, period: 3, t: 10 })).toThrow(/positive integer/);
  });
});
