import { describe, expect, test } from 'vitest';
import { evaluateFit, fitFourier, normal, type Samples, type Series, sample, solveFit } from './fourier.ts';
import { erf, erfc, functionNamed, gelu, geluTanh, sigmoid, silu, softplus } from './functions.ts';
import { type Complex, toeplitz } from './solve.ts';

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

describe('toeplitz', () => {
  /** e^(inθ) summed over points on three quarters of the circle: as ill-conditioned as a fit's own matrix. */
  const moments = (n: number): Complex => {
    const theta = points(-2.3, 2.4, 400);
    return {
      re: Float64Array.from({ length: n }, (_, k) => theta.reduce((s, t) => s + Math.cos(k * t), 0)),
      im: Float64Array.from({ length: n }, (_, k) => -theta.reduce((s, t) => s + Math.sin(k * t), 0)),
    };
  };

  test.each([1e-1, 1e-6])('solves to working precision with a ridge of %d', (ridge) => {
    const n = 61;
    const t = moments(n);
    const b = { re: Float64Array.from(points(-1, 1, n)), im: Float64Array.from(points(-2, 1, n)) };
    const x = toeplitz(t, ridge)(b);
    for (let i = 0; i < n; i++) {
      let [re, im] = [ridge * x.re[i] - b.re[i], ridge * x.im[i] - b.im[i]];
      for (let j = 0; j < n; j++) {
        const [p, q] = [t.re[Math.abs(i - j)], Math.sign(i - j) * t.im[Math.abs(i - j)]];
        re += p * x.re[j] - q * x.im[j];
        im += p * x.im[j] + q * x.re[j];
      }
      // A few units in the last place of |T|·|x|, and |x| is up to 1/ridge.
      expect(Math.hypot(re, im)).toBeLessThan((1e-13 * t.re[0]) / ridge);
    }
  });

  test('a singular system gets a ridge, a system that is not finite an error', () => {
    const two = { re: Float64Array.of(1, 1), im: new Float64Array(2) };
    const { re } = toeplitz(two, 0)({ re: Float64Array.of(2, 2), im: new Float64Array(2) });
    expect(re[0] + re[1]).toBeCloseTo(2, 6);
    expect(() => toeplitz({ re: Float64Array.of(Number.NaN), im: new Float64Array(1) }, 1)).toThrow(/not finite/);
  });
});

/** Σ w²(f − fit)² + λ·Σ(a² + b²), which a fit makes smallest. */
function objective(fit: Series, s: Samples, t: number): number {
  const meanWeight = s.relative ? s.w2.reduce((sum, w) => sum + w, 0) / s.w2.length : 1;
  const lambda = (2 ** (-2 * t) / 12) * s.x.length * meanWeight;
  return s.x.reduce((sum, x, i) => sum + s.w2[i] * (evaluateFit(fit, x) - s.y[i]) ** 2, lambda * fit.cnorm ** 2);
}

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

  // What Cholesky's elimination reached.
  test.each([
    ['rsqrt', { lo: 0.3, hi: 160, relative: true }, 96, 184, 16, 0, 0.001299539045849734],
    ['reciprocal', { lo: 0.002, hi: 1.3, relative: true }, 64, 1.5, 14, 0, 64551.8090735459],
    ['gelu', { lo: -8, hi: 4, guard: 3.2 }, 12, 22, 12, 0.5, 5.5264984316804845e-6],
    ['silu', { lo: -8, hi: 8, guard: { lo: 1, hi: 3 } }, 14, 24, 13, 'free', 1.7159483664946394e-6],
  ] as const)('the fit of %s is no worse than elimination finds', (name, range, K, period, t, slope, best) => {
    const s = sample(functionNamed(name), range, 5 * K);
    const fit = solveFit(normal(s, K, period), t, slope);
    expect(objective(fit, s, t) / best).toBeLessThan(1 + 1e-9);
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
