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
 * rare values land, even ones with a small weight. In terms of e^(2πiky/P), |k| ≤ K, the normal matrix is a Toeplitz matrix of the
 * moments Σ w² e^(2πiny/P), n ≤ 2K: building it costs samples·2K, not samples·K², and solving it K², not K³.
 */
import type { RealFunction } from './functions.ts';
import { toeplitz, zeros } from './solve.ts';

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

/** Sums over samples times cos(kθ) and sin(kθ), θ = 2π(x − mid)/period. */
interface Moments {
  readonly c: Float64Array;
  readonly s: Float64Array;
}

/** The normal equations for one (K, period): solve them for one ridge or several. */
export interface Normal {
  readonly samples: Samples;
  readonly K: number;
  readonly period: number;
  /** Angles inside the solver are from here. */
  readonly mid: number;
  /** Σ w² cos(kθ), Σ w² sin(kθ), k ≤ 2K. */
  readonly m: Moments;
  /** The same with y, k ≤ K. */
  readonly y: Moments;
  /** The same with x − mid, k ≤ K, then Σ w² (x − mid)² and Σ w² (x − mid) y; made when asked for. */
  readonly line: () => Moments & { readonly xx: number; readonly xy: number };
}

export function normal(samples: Samples, K: number, period: number): Normal {
  const { x, y, w2, guardLo, guardHi, symmetric } = samples;
  const mid = (guardLo + guardHi) / 2;
  const width = guardHi - guardLo;
  if (!(period >= width * (1 - 1e-12))) throw new RangeError(`fit: period ${period} is shorter than the range it must cover, ${width}`);
  // Symmetric samples: a point and its mirror image share their cosine, and their sines cancel. Each pair counts once.
  let points = 0;
  const [d, w, even, odd] = [0, 1, 2, 3].map(() => new Float64Array(x.length));
  for (let i = 0; i < x.length; i++) {
    const j = symmetric ? mirror(samples, i) : i;
    if (j < i) continue;
    d[points] = x[i] - mid;
    w[points] = j > i ? 2 * w2[i] : w2[i];
    even[points] = w2[i] * (j > i ? y[i] + y[j] : y[i]);
    odd[points++] = w2[i] * (j > i ? y[i] - y[j] : y[i]);
  }
  const theta = d.subarray(0, points).map((v) => (2 * Math.PI * v) / period);
  const none = new Float64Array(symmetric ? points : 0);
  const of = (cosines: Float64Array, sines: Float64Array, n: number): Moments => moments(theta, cosines, sines, n);
  return {
    samples,
    K,
    period,
    mid,
    m: of(w, symmetric ? none : w, 2 * K),
    y: of(even, odd, K),
    line: () => {
      const wx = w.map((v, i) => v * d[i]);
      return { ...of(symmetric ? none : wx, wx, K), xx: dot(wx, d), xy: dot(odd, d) };
    },
  };
}

/** Σ even·cos(kθ) and Σ odd·sin(kθ) for k ≤ n. Two points at a time, since a turn waits for the one before it. */
function moments(theta: Float64Array, even: Float64Array, odd: Float64Array, n: number): Moments {
  const c = new Float64Array(n + 1);
  const s = new Float64Array(n + 1);
  for (let i = 0; i < theta.length; i += 2) {
    const two = i + 1 < theta.length;
    const [t0, t1] = [theta[i], two ? theta[i + 1] : 0];
    const [e0, e1] = [even[i], two ? even[i + 1] : 0];
    const [o0, o1] = [odd[i], two ? odd[i + 1] : 0];
    const [p0, p1] = [Math.cos(t0), Math.cos(t1)];
    const [q0, q1] = [Math.sin(t0), Math.sin(t1)];
    let [a0, a1, b0, b1] = [1, 1, 0, 0];
    for (let k = 0; k <= n; k++) {
      c[k] += e0 * a0 + e1 * a1;
      s[k] += o0 * b0 + o1 * b1;
      let next = a0 * p0 - b0 * q0;
      b0 = a0 * q0 + b0 * p0;
      a0 = next;
      next = a1 * p1 - b1 * q1;
      b1 = a1 * q1 + b1 * p1;
      a1 = next;
    }
  }
  return { c, s };
}

/** Index of the sample mirrored in the middle of a symmetric set. */
function mirror({ x, core }: Samples, i: number): number {
  if (i >= core) return x.length - 1 - (i - core);
  return i < core / 2 ? core / 2 - 1 - i : (3 * core) / 2 - 1 - i;
}

/** A fit without its errors. */
export type Series = Omit<FourierFit, 'maxError' | 'rmsError' | 'guardError'>;

/** The fit for a ridge of 2^−t/√12 an r.m.s. sample, with its errors on the samples themselves. */
export function solveFit(n: Normal, t: number, slope: number | 'free' = 0, slopeStep = 1 / 8): FourierFit {
  const series = solveSeries(n, t, slope, slopeStep);
  return { ...series, ...errors(series, n.samples) };
}

export function solveSeries(n: Normal, t: number, slope: number | 'free' = 0, slopeStep = 1 / 8): Series {
  const { K, mid, samples } = n;
  let meanWeight = 1;
  if (samples.relative) meanWeight = samples.w2.reduce((s, w) => s + w, 0) / samples.w2.length;
  const lambda = (2 ** (-2 * t) / 12) * samples.x.length * meanWeight;
  const solve = solver(n, lambda);
  const { c, s } = solve(n.y);
  let fixed = slope === 'free' ? 0 : slope;
  if (slope !== 0) {
    // With the line its own best fit by cosines and sines is subtracted; the constant moves the line from `mid` to y = 0.
    const line = n.line();
    const series = solve(line);
    if (slope === 'free') {
      const best = (line.xy - dot(line.c, c) - dot(line.s, s)) / (line.xx + lambda / 100 - dot(line.c, series.c) - dot(line.s, series.s));
      fixed = Math.round(best / slopeStep) * slopeStep || 0;
    }
    for (let k = 0; k <= K; k++) {
      c[k] -= fixed * series.c[k];
      s[k] -= fixed * series.s[k];
    }
    c[0] -= fixed * mid;
  }
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
  const { lo, hi, guardLo, guardHi, relative } = samples;
  return { lo, hi, guardLo, guardHi, period: n.period, slope: fixed, c0: c[0], a, b, relative, cnorm: Math.sqrt(square) };
}

function dot(x: Float64Array, y: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += x[i] * y[i];
  return sum;
}

/**
 * Cosine and sine coefficients about `mid` of a function by its moments. With z_k = (c_k − i·s_k)/2 the ridge λ·Σ(c_k² + s_k²) is
 * 2λ·Σ|z_k|² but for k = 0: the constant is exact in a gate and costs nothing. One column more (Sherman, Morrison) frees it.
 */
function solver({ K, m }: Normal, lambda: number): (moments: Moments) => Moments {
  const ridge = 2 * lambda;
  const solve = toeplitz({ re: m.c, im: m.s.map((v) => -v) }, ridge);
  const unit = zeros(2 * K + 1);
  unit.re[K] = 1;
  const one = solve(unit);
  return (f) => {
    const b = zeros(2 * K + 1);
    for (let k = 0; k <= K; k++) {
      b.re[K + k] = b.re[K - k] = f.c[k];
      b.im[K + k] = -f.s[k];
      b.im[K - k] = f.s[k];
    }
    const z = solve(b);
    const more = (ridge * z.re[K]) / (1 - ridge * one.re[K]);
    // z_−k is z_k's conjugate but for rounding, and only both together keep the residual small.
    const [c, s] = [new Float64Array(K + 1), new Float64Array(K + 1)];
    for (let k = 0; k <= K; k++) {
      c[k] = z.re[K + k] + z.re[K - k] + more * (one.re[K + k] + one.re[K - k]);
      s[k] = z.im[K - k] - z.im[K + k] + more * (one.im[K - k] - one.im[K + k]);
    }
    c[0] /= 2;
    return { c, s };
  };
}

/** Largest and r.m.s. errors on samples. */
export function errors(fit: Sum, samples: Samples): Pick<FourierFit, 'maxError' | 'rmsError' | 'guardError'> {
  let maxError = 0;
  let guardError = 0;
  let square = 0;
  const { x, y, core } = samples;
  const values = evaluateAll(fit, x);
  for (let i = 0; i < x.length; i++) {
    let e = Math.abs(values[i] - y[i]);
    if (samples.relative) e /= Math.abs(y[i]);
    if (i >= core) guardError = Math.max(guardError, e);
    else maxError = Math.max(maxError, e);
    if (i >= core / 2 && i < core) square += e * e;
  }
  return { maxError, rmsError: Math.sqrt(square / (core / 2)), guardError };
}

type Sum = Pick<FourierFit, 'a' | 'b' | 'c0' | 'slope' | 'period'>;

/** The fitted value at y, in double precision; periodic but for its linear part. */
export const evaluateFit = (fit: Sum, y: number): number => evaluateAll(fit, Float64Array.of(y))[0];

/** The same at many points: two at a time, as in `moments`. */
export function evaluateAll({ c0, slope, period, ...series }: Sum, y: Float64Array): Float64Array {
  const out = new Float64Array(y.length);
  const [a, b] = [Float64Array.from(series.a), Float64Array.from(series.b)];
  for (let i = 0; i < y.length; i += 2) {
    const [y0, y1] = [y[i], i + 1 < y.length ? y[i + 1] : 0];
    const [t0, t1] = [(2 * Math.PI * y0) / period, (2 * Math.PI * y1) / period];
    const [p0, p1] = [Math.cos(t0), Math.cos(t1)];
    const [q0, q1] = [Math.sin(t0), Math.sin(t1)];
    let [d0, d1, s0, s1] = [p0, p1, q0, q1];
    let [v0, v1] = [c0 + slope * y0, c0 + slope * y1];
    for (let k = 0; k < a.length; k++) {
      v0 += a[k] * d0 + b[k] * s0;
      v1 += a[k] * d1 + b[k] * s1;
      let next = d0 * p0 - s0 * q0;
      s0 = d0 * q0 + s0 * p0;
      d0 = next;
      next = d1 * p1 - s1 * q1;
      s1 = d1 * q1 + s1 * p1;
      d1 = next;
    }
    out[i] = v0;
    if (i + 1 < y.length) out[i + 1] = v1;
  }
  return out;
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
  const { K, period, t, slope = 0, slopeStep } = options;
  if (!(Number.isInteger(K) && K >= 1)) throw new RangeError(`fit: K must be a positive integer, not ${K}`);
  return measured(solveFit(normal(sample(f, options, samplesFor(K)), K, period), t, slope, slopeStep), f);
}
