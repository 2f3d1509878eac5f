/**
 * Row gates: 1/x and 1/√x (or any positive function) once per row, over a range of 30:1 to 500:1.
 *
 * The input is a row's sum as an integer in Z_2^B, `unitsPerOne` for the value 1. Its shares are multiplied by the public
 * integer al = ⌊2^B/(1.15·hi·unitsPerOne)⌋, so that the whole ring is the period, and errors are relative. The coefficients are
 * large: where t and u are not balanced, t − u = log2(|c|/√K), the rounding of one side drowns the fit.
 */

import { once } from './choose.ts';
import {
  errors,
  evaluateAll,
  type FourierFit,
  measured,
  normal,
  type Samples,
  type Series,
  sample,
  sampler,
  samplesFor,
  solveSeries,
} from './fourier.ts';
import { functionNamed, type RealFunction } from './functions.ts';
import { largestAmplitude, largestU, roundingNoise } from './word.ts';

export interface RowOptions {
  /** Names f for the cache where f is not given by name. */
  key?: string;
  lo: number;
  hi: number;
  /** Largest relative error allowed, before rounding. Not used with `within`. */
  epsilon?: number;
  /** Allowed range of g(x)/f(x), rounding (three deviations) included, in place of epsilon: [0.8, 1.1] for a factor that cancels later. */
  within?: readonly [number, number];
  /** t + u; unless told, as many bits as 32-bit words hold: ⌊29.7 − log2 max f⌋. */
  budget?: number;
  /** B, the bits of the input's ring. */
  ringBits?: number;
  /** The integer that stands for 1; a real number. */
  unitsPerOne: number;
  maxK?: number;
  /** Forces K: the gate is returned whatever its error. */
  K?: number;
  maxM?: number;
}

export interface RowGate {
  readonly fit: FourierFit;
  readonly al: number;
  /** Bits of the opened ring, so that its rounding stays below a quarter of the allowed relative error (unless maxM binds). */
  readonly m: number;
  readonly t: number;
  readonly u: number;
  /** Largest relative error of the fit on [lo, hi]. */
  readonly relError: number;
  /** Smallest and largest g(x)/f(x) of the fit. */
  readonly ratio: readonly [number, number];
  /** Largest relative r.m.s. error from rounding shares and coefficients, and from rounding the input. */
  readonly noise: number;
  readonly inputNoise: number;
}

/** Harmonics tried, in this order. */
const LADDER = [8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512];

/**
 * @throws RangeError where hi does not fit the ring (saying what to lower), or no K meets the error
 */
export function chooseRow(f: string | RealFunction, options: RowOptions): RowGate {
  const { key, ...rest } = options;
  const name = typeof f === 'string' ? f : key;
  const make = () => chooseNow(typeof f === 'string' ? functionNamed(f) : f, name, options);
  return once(name === undefined ? undefined : `row ${name} ${JSON.stringify(Object.entries(rest).sort())}`, make);
}

function chooseNow(f: RealFunction, key: string | undefined, options: RowOptions): RowGate {
  const { lo, hi, epsilon = 1e-3, within, ringBits = 32, unitsPerOne, maxK = 512, K: forced } = options;
  const name = key ?? 'f';
  const al = Math.floor(2 ** ringBits / (1.15 * hi * unitsPerOne));
  if (!(al >= 1)) {
    const bits = Math.ceil(Math.log2((1.15 * hi * unitsPerOne) / 2 ** ringBits));
    throw new RangeError(
      `${name} up to ${hi}: ${unitsPerOne} units for 1 do not fit ${ringBits} bits: lower the input's scale by ${bits} bits`,
    );
  }
  const period = 2 ** ringBits / al / unitsPerOne;
  const grid = sampler(f, { lo, hi, relative: true });
  const top = grid(200).y.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
  const budget = options.budget ?? Math.floor(29.7 - Math.log2(top));
  // The same whatever error is asked for: a search that fails is often followed by one that asks for less.
  const shared = key && `row fit ${key} ${lo} ${hi} ${period} ${budget}`;
  let best = Infinity;
  let t = budget >> 1;
  for (const K of forced === undefined ? LADDER.filter((k) => k <= maxK) : [forced]) {
    const from = t;
    const found = once(shared && `${shared} ${K} ${from}`, () => balanced(grid(Math.max(samplesFor(K), 750)), K, period, budget, from));
    const { fit } = found;
    t = found.t;
    const passes = within === undefined && fit.maxError < epsilon;
    if (!passes && within === undefined && forced === undefined) {
      best = Math.min(best, fit.maxError);
      continue;
    }
    const gate = finish(measured(fit, f), f, al, t, budget - t, within === undefined ? epsilon : 0.1, options);
    best = Math.min(best, gate.relError);
    const meets = within === undefined ? gate.relError < epsilon : inside(gate, grid(Math.max(samplesFor(K), 750)), within);
    if (forced !== undefined || meets) return gate;
  }
  const wanted = within === undefined ? `relative error ${epsilon}` : `ratio ${within[0]} to ${within[1]}`;
  throw new RangeError(
    `${name} on [${lo}, ${hi}]: no K ≤ ${maxK} gives ${wanted} (best error ${best.toPrecision(2)}); narrow hi/lo = ${(hi / lo).toPrecision(3)}`,
  );
}

/** The fit with K harmonics and the t that balances it, looked for from `t`. */
function balanced(samples: Samples, K: number, period: number, budget: number, t: number): { fit: FourierFit; t: number } {
  const equations = normal(samples, K, period);
  for (let round = 0; ; round++) {
    const series = solveSeries(equations, Math.min(t + 2, 16));
    const better = balance(series, budget);
    if (better === t || round === 2) return { fit: { ...series, ...errors(series, samples) }, t };
    t = better;
  }
}

/** t for t + u = budget such that |c|·2^−t = √K·2^−u, every |p_k| fits single precision (|p_k| < 2^23) and so does 2^t. */
function balance(fit: Series, budget: number): number {
  const t = Math.round((budget + Math.log2(fit.cnorm / Math.sqrt(fit.a.length))) / 2);
  return Math.min(Math.max(t, 8, budget - largestU(fit)), Math.max(budget - 6, budget >> 1), 22);
}

function finish(fit: FourierFit, f: RealFunction, al: number, t: number, u: number, epsilon: number, options: RowOptions): RowGate {
  if (largestAmplitude(fit) * 2 ** u >= 2 ** 23)
    throw new RangeError(`row gate: coefficients of ${largestAmplitude(fit)} at ${u} bits exceed 2^23`);
  const { x, y } = sample(f, { lo: fit.lo, hi: fit.hi }, Math.max(1000, 20 * fit.a.length));
  const ratio: [number, number] = [Infinity, -Infinity];
  let smallest = Infinity;
  let steepest = 0;
  const values = evaluateAll(fit, x);
  for (let i = 0; i < x.length; i++) {
    const r = values[i] / y[i];
    ratio[0] = Math.min(ratio[0], r);
    ratio[1] = Math.max(ratio[1], r);
    smallest = Math.min(smallest, Math.abs(y[i]));
    if (i > x.length / 2) steepest = Math.max(steepest, Math.abs((y[i] - y[i - 1]) / (x[i] - x[i - 1]) / y[i]));
  }
  const m = Math.min(
    Math.max(Math.ceil(Math.log2((fit.period * 0.41 * steepest * 4) / epsilon)), 8),
    options.maxM ?? 24,
    options.ringBits ?? 32,
  );
  const noise = roundingNoise(fit, t, u) / smallest;
  return { fit, al, m, t, u, relError: fit.maxError, ratio, noise, inputNoise: 0.41 * steepest * (fit.period / 2 ** m) };
}

/** g/f with three deviations of rounding stays inside, point by point (rounding is absolute, so it matters where f is small). */
function inside(gate: RowGate, { x, y }: Samples, [low, high]: readonly [number, number]): boolean {
  const noise = 3 * roundingNoise(gate.fit, gate.t, gate.u);
  if (gate.ratio[0] < low || gate.ratio[1] > high) return false;
  return evaluateAll(gate.fit, x).every((v, i) => Math.abs(v / y[i] - (low + high) / 2) + noise / Math.abs(y[i]) <= (high - low) / 2);
}
