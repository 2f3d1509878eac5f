/**
 * Fourier extension of a function by least squares: f(y) ≈ slope·y + c₀ + Σ_k a_k cos(2πky/P) + b_k sin(2πky/P) on [lo, hi].
 *
 * The period P is longer than the range and what the series does in between is free, so a function that is not periodic is
 * reached at a geometric rate in K (J. P. Boyd, "A comparison of numerical algorithms for Fourier extension of the first,
 * second, and third kinds", J. Comput. Phys. 178, 2002; D. Huybrechs, "On the Fourier extension of nonperiodic functions",
 * SIAM J. Numer. Anal. 47, 2010). That freedom also makes the problem ill-conditioned: a plain fit reaches its last digits with
 * huge coefficients that cancel. Shares of cos and sin are rounded to t bits, so a coefficient costs noise in proportion to its
 * size; the ridge λ = 2^−t/√12 (the r.m.s. of that rounding) weighs the two against each other in the fit itself.
 *
 * Samples are Chebyshev points (ends count most) and even ones on [lo, hi] with weight 1; on the guard band around it, where
 * rare values land, even ones with a small weight. The normal matrix holds only the moments Σ w² e^(2πiny/P), n ≤ 2K: products
 * of cosines and sines are sums of them. Building it costs samples·2K, not samples·K².
 */
import type { RealFunction } from './functions.ts';
import { solveRidge } from './solve.ts';

/** A fit as plain data. Errors are against f in f's own unit, or, where `relative`, divided by |f|. */
export interface FourierFit {
  /** The core range, in the unit of y. */
  readonly lo: number;
  readonly hi: number;
  /** The core with its guard band. */
  readonly guardLo: number;
  readonly guardHi: number;
  readonly period: number;
  /** Of the linear part, which a gate takes from the shares of y themselves: a multiple of 1/8. */
  readonly slope: number;
  readonly c0: number;
  /** a[k − 1], b[k − 1] belong to harmonic k. Angles are from y = 0, not from the middle of the range. */
  readonly a: number[];
  readonly b: number[];
  readonly relative: boolean;
  /** Largest error on the core. */
  readonly maxError: number;
  /** Over even points of the core. */
  readonly rmsError: number;
  /** Largest error on the guard band; 0 without one. */
  readonly guardError: number;
  /** √Σ(a_k² + b_k²): what the rounding of the cosine and sine shares is multiplied by. */
  readonly cnorm: number;
}

export interface FitOptions {
  lo: number;
  hi: number;
  /** Width of the guard band, one number for both sides or one for each. */
  guard?: number | { lo: number; hi: number };
  /** Weight of a guard sample against a core sample's 1. */
  guardWeight?: number;
  /** Harmonics. */
  K: number;
  /** In the unit of y, at least as long as the guarded range. */
  period: number;
  /** 'free': fitted, then rounded to a multiple of `slopeStep`. */
  slope?: number | 'free';
  slopeStep?: number;
  /** The ridge is 2^−t/√12; need not be an integer. */
  t: number;
  /** Weigh and report errors relative to |f|, which must not vanish on the range. */
  relative?: boolean;
  /** f(y) − slope·y is even about 0: cosines only, and the period must cover the range mirrored as well. */
  parity?: 'even';
}

/** Where f is sampled: it depends on the range and on the number of points, not on K or P, so that a search may share it. */
export interface Samples {
  readonly lo: number;
  readonly hi: number;
  readonly guardLo: number;
  readonly guardHi: number;
  readonly x: Float64Array;
  readonly y: Float64Array;
  /** Squared weights. */
  readonly w2: Float64Array;
  /** Points [0, core) lie on the core (the second half evenly), the rest on the guard. */
  readonly core: number;
  readonly relative: boolean;
  /** x and w2 are symmetric about the middle: cosines and sines decouple. */
  readonly symmetric: boolean;
}

export type SampleOptions = Pick<FitOptions, 'lo' | 'hi' | 'guard' | 'guardWeight' | 'relative'>;

/** @param n points of each kind: n Chebyshev and n even ones on the core, n/2 on each side of the guard */
export function sample(f: RealFunction, { lo, hi, guard = 0, guardWeight = 0.03, relative = false }: SampleOptions, n: number): Samples {
  const g = typeof guard === 'number' ? { lo: guard, hi: guard } : guard;
  if (!(lo < hi && g.lo >= 0 && g.hi >= 0 && hi - lo + g.lo + g.hi < Infinity)) {
    throw new RangeError(`fit: not a range: [${lo}, ${hi}], guard ${g.lo}, ${g.hi}`);
  }
  const guardLo = lo - g.lo;
  const guardHi = hi + g.hi;
  const half = Math.floor(n / 2);
  const x: number[] = [];
  for (let i = 0; i < n; i++) x.push((lo + hi) / 2 - ((hi - lo) / 2) * Math.cos(((i + 0.5) * Math.PI) / n));
  for (let i = 0; i < n; i++) x.push(lo + ((hi - lo) * i) / (n - 1));
  if (g.lo > 0) for (let i = 0; i < half; i++) x.push(guardLo + ((lo - guardLo) * i) / (half - 1));
  if (g.hi > 0) for (let i = 0; i < half; i++) x.push(hi + ((guardHi - hi) * i) / (half - 1));
  const y = Float64Array.from(x, f);
  const bad = y.findIndex((v) => !Number.isFinite(v) || (relative && v === 0));
  if (bad >= 0) throw new RangeError(`fit: f(${x[bad]}) = ${y[bad]} is not usable on [${guardLo}, ${guardHi}]`);
  const w2 = new Float64Array(x.length);
  // Relative weights are scaled to 1 where f is largest, so that the ridge keeps its meaning.
  const smallest = relative ? 1 / y.reduce((top, v) => Math.max(top, Math.abs(v)), 0) : 1;
  for (let i = 0; i < w2.length; i++) w2[i] = ((relative ? 1 / Math.abs(y[i]) / smallest : 1) * (i < 2 * n ? 1 : guardWeight)) ** 2;
  return { lo, hi, guardLo, guardHi, x: Float64Array.from(x), y, w2, core: 2 * n, relative, symmetric: !relative && g.lo === g.hi };
}

/** Samples of f by number of points, each set made once. */
export function sampler(f: RealFunction, options: SampleOptions): (n: number) => Samples {
  const made = new Map<number, Samples>();
  return (n) => {
    const known = made.get(n) ?? sample(f, options, n);
    made.set(n, known);
    return known;
  };
}

/** The normal equations for one (K, period): solve them for one ridge or several. */
export interface Normal {
  readonly samples: Samples;
  readonly K: number;
  readonly period: number;
  /** Angles inside the solver are from here. */
  readonly mid: number;
  readonly parity?: 'even';
  /** Σ w² cos(nθ), Σ w² sin(nθ), n ≤ 2K; θ = 2π(x − mid)/period. */
  readonly mc: Float64Array;
  readonly ms: Float64Array;
  /** The same with y, k ≤ K. */
  readonly yc: Float64Array;
  readonly ys: Float64Array;
  /** The same with x − mid, k ≤ K, then Σ w² (x − mid)² and Σ w² (x − mid) y. */
  readonly xc: Float64Array;
  readonly xs: Float64Array;
  readonly xx: number;
  readonly xy: number;
}

export function normal(samples: Samples, K: number, period: number, parity?: 'even'): Normal {
  const { x, y, w2, guardLo, guardHi } = samples;
  const mid = parity === 'even' ? 0 : (guardLo + guardHi) / 2;
  const width = 2 * Math.max(guardHi - mid, mid - guardLo);
  if (!(period >= width * (1 - 1e-12))) throw new RangeError(`fit: period ${period} is shorter than the range it must cover, ${width}`);
  const mc = new Float64Array(2 * K + 1);
  const ms = new Float64Array(2 * K + 1);
  const [yc, ys, xc, xs] = [0, 1, 2, 3].map(() => new Float64Array(K + 1));
  let xx = 0;
  let xy = 0;
  const fold = samples.symmetric && mid === (guardLo + guardHi) / 2;
  for (let i = 0; i < x.length; i++) {
    // Symmetric samples: a point and its mirror image share their cosine, and their sines cancel.
    const j = fold ? mirror(samples, i) : i;
    if (j < i) continue;
    const pair = j > i;
    const d = x[i] - mid;
    const w = pair ? 2 * w2[i] : w2[i];
    const wx = w * d;
    const wyc = w2[i] * (pair ? y[i] + y[j] : y[i]);
    const wys = w2[i] * (pair ? y[i] - y[j] : y[i]);
    xx += wx * d;
    xy += wys * d;
    const theta = (2 * Math.PI * d) / period;
    const c1 = Math.cos(theta);
    const s1 = Math.sin(theta);
    let c = 1;
    let s = 0;
    for (let k = 0; k <= K; k++) {
      mc[k] += w * c;
      yc[k] += wyc * c;
      ys[k] += wys * s;
      xs[k] += wx * s;
      if (!pair) {
        ms[k] += w * s;
        xc[k] += wx * c;
      }
      const next = c * c1 - s * s1;
      s = c * s1 + s * c1;
      c = next;
    }
    for (let k = K + 1; k <= 2 * K; k++) {
      mc[k] += w * c;
      if (!pair) ms[k] += w * s;
      const next = c * c1 - s * s1;
      s = c * s1 + s * c1;
      c = next;
    }
  }
  return { samples, K, period, mid, parity, mc, ms, yc, ys, xc, xs, xx, xy };
}

/** Index of the sample mirrored in the middle of a symmetric set. */
function mirror({ x, core }: Samples, i: number): number {
  if (i >= core) return x.length - 1 - (i - core);
  return i < core / 2 ? core / 2 - 1 - i : (3 * core) / 2 - 1 - i;
}

/** The fit for a ridge of 2^−t/√12 an r.m.s. sample, with its errors on the samples themselves. */
export function solveFit(n: Normal, t: number, slope: number | 'free' = 0, slopeStep = 1 / 8): FourierFit {
  const { K, mid, samples } = n;
  let meanWeight = 1;
  if (samples.relative) meanWeight = samples.w2.reduce((s, w) => s + w, 0) / samples.w2.length;
  const lambda = (2 ** (-2 * t) / 12) * samples.x.length * meanWeight;
  let fixed = slope === 'free' ? 0 : slope;
  if (slope === 'free' && n.parity !== 'even') fixed = Math.round(coefficients(n, lambda, 0, true).slope / slopeStep) * slopeStep || 0;
  const { c, s } = coefficients(n, lambda, fixed, false);
  const a: number[] = [];
  const b: number[] = [];
  let square = 0;
  for (let k = 1; k <= K; k++) {
    const phase = (2 * Math.PI * k * mid) / n.period;
    const [cp, sp] = [Math.cos(phase), Math.sin(phase)];
    a.push(c[k] * cp - s[k] * sp);
    b.push(c[k] * sp + s[k] * cp);
    square += c[k] ** 2 + s[k] ** 2;
  }
  const fit = {
    lo: samples.lo,
    hi: samples.hi,
    guardLo: samples.guardLo,
    guardHi: samples.guardHi,
    period: n.period,
    slope: fixed,
    c0: c[0],
    a,
    b,
  };
  return { ...fit, relative: samples.relative, ...errors(fit, samples), cnorm: Math.sqrt(square) };
}

/** Cosine and sine coefficients about `mid` for f − slope·x (or with the slope free). */
function coefficients(n: Normal, lambda: number, slope: number, free: boolean): { c: Float64Array; s: Float64Array; slope: number } {
  const { K, mc, ms, mid } = n;
  const cosines = K + 1;
  const sines = n.parity === 'even' ? 0 : K;
  const size = cosines + sines + (free ? 1 : 0);
  const rhs = new Float64Array(size);
  for (let k = 0; k <= K; k++) rhs[k] = n.yc[k] - slope * (n.xc[k] + mid * mc[k]);
  for (let k = 1; k <= sines; k++) rhs[K + k] = n.ys[k] - slope * (n.xs[k] + mid * ms[k]);
  if (free) rhs[size - 1] = n.xy - slope * (n.xx + mid * n.xc[0]);
  const ridge = new Float64Array(size).fill(lambda);
  ridge[0] = 0;
  if (free) ridge[size - 1] = lambda / 100;
  /** The entry for columns i ≥ j: 0 the constant, 1..K cosines, then sines, then x − mid. */
  const entry = (i: number, j: number): number => {
    if (i <= K) return (mc[i - j] + mc[i + j]) / 2;
    if (free && i === size - 1) {
      if (j === i) return n.xx;
      return j <= K ? n.xc[j] : n.xs[j - K];
    }
    const k = i - K;
    if (j > K) return (mc[Math.abs(k - j + K)] - mc[k + j - K]) / 2;
    return (ms[k + j] + (k >= j ? ms[k - j] : -ms[j - k])) / 2;
  };
  const block = (from: number, to: number): Float64Array => {
    const m = to - from;
    const matrix = new Float64Array(m * m);
    for (let i = 0; i < m; i++) for (let j = 0; j <= i; j++) matrix[i * m + j] = entry(from + i, from + j);
    return solveRidge(matrix, m, ridge.subarray(from, to), [rhs.subarray(from, to)])[0];
  };
  const x = new Float64Array(size);
  // Symmetric samples: even and odd columns are orthogonal, so two halves take a quarter of the time.
  if (n.samples.symmetric && n.parity !== 'even') {
    x.set(block(0, cosines));
    x.set(block(cosines, size), cosines);
  } else x.set(block(0, size));
  const s = new Float64Array(K + 1);
  s.set(x.subarray(cosines, cosines + sines), 1);
  return { c: x.subarray(0, cosines), s, slope: free ? x[size - 1] : slope };
}

/** Largest and r.m.s. errors on samples. */
export function errors(
  fit: Pick<FourierFit, 'a' | 'b' | 'c0' | 'slope' | 'period'>,
  samples: Samples,
): Pick<FourierFit, 'maxError' | 'rmsError' | 'guardError'> {
  let maxError = 0;
  let guardError = 0;
  let square = 0;
  for (let i = 0; i < samples.x.length; i++) {
    let e = Math.abs(evaluateFit(fit, samples.x[i]) - samples.y[i]);
    if (samples.relative) e /= Math.abs(samples.y[i]);
    if (i >= samples.core) guardError = Math.max(guardError, e);
    else maxError = Math.max(maxError, e);
    if (i >= samples.core / 2 && i < samples.core) square += e * e;
  }
  return { maxError, rmsError: Math.sqrt(square / (samples.core / 2)), guardError };
}

/** The fitted value at y, in double precision; periodic but for its linear part. */
export function evaluateFit({ a, b, c0, slope, period }: Pick<FourierFit, 'a' | 'b' | 'c0' | 'slope' | 'period'>, y: number): number {
  const theta = (2 * Math.PI * y) / period;
  const c1 = Math.cos(theta);
  const s1 = Math.sin(theta);
  let c = c1;
  let s = s1;
  let sum = c0 + slope * y;
  for (let k = 0; k < a.length; k++) {
    sum += a[k] * c + b[k] * s;
    const next = c * c1 - s * s1;
    s = c * s1 + s * c1;
    c = next;
  }
  return sum;
}

/** Points of each kind that a fit with K harmonics is solved on. */
export const samplesFor = (K: number): number => Math.max(120, 5 * K);

/**
 * The same fit with its errors measured on a denser grid than it was solved on (40 points for the shortest wave), widened by
 * the 0.5 % by which an extremum between two such points may exceed them: they then hold everywhere on the range.
 */
export function measured(fit: FourierFit, f: RealFunction): FourierFit {
  const points = Math.max(1000, Math.ceil((40 * fit.a.length * (fit.guardHi - fit.guardLo)) / fit.period));
  const guard = { lo: fit.lo - fit.guardLo, hi: fit.guardHi - fit.hi };
  const e = errors(fit, sample(f, { lo: fit.lo, hi: fit.hi, guard, relative: fit.relative }, points));
  return { ...fit, maxError: e.maxError * 1.005, rmsError: e.rmsError, guardError: e.guardError * 1.005 };
}

/** One fit with given K and period. */
export function fitFourier(f: RealFunction, options: FitOptions): FourierFit {
  const { K, period, t, slope = 0, slopeStep, parity } = options;
  if (!(Number.isInteger(K) && K >= 1)) throw new RangeError(`fit: K must be a positive integer, not ${K}`);
  return measured(solveFit(normal(sample(f, options, samplesFor(K)), K, period, parity), t, slope, slopeStep), f);
}
