/**
 * The smallest harmonic gate for a smooth function on a calibrated range.
 *
 * The gate's input is a fixed-point integer y·2^F shared in Z_2^B. Multiplied by a public integer al its ring wraps with period
 * P = 2^B / (al·2^F) in the unit of y: so the available periods are discrete, 1/al of the longest. Among those from 1.03 to 1.7
 * times the guarded range the search finds the fewest harmonics that meet both errors. All of it is a function of its
 * arguments alone: the same on every run, plain data for a program file, and kept in memory by key.
 */
import { evaluateAll, type FourierFit, measured, normal, sampler, samplesFor, solveFit } from './fourier.ts';
import type { RealFunction } from './functions.ts';
import { largestU, type OutputWord, roundingNoise, word } from './word.ts';

export interface SmoothOptions {
  /** Names f (and whatever f closes over) for the cache; no key, no cache. */
  key?: string;
  lo: number;
  hi: number;
  /** Width of the guard band in the unit of y, one number or one a side; `guardWidth` gives the usual one. */
  guard?: number | { lo: number; hi: number };
  guardWeight?: number;
  /** Largest error allowed on the core, in f's unit, before rounding. */
  epsilon: number;
  /** The same on the guard band. */
  guardEpsilon?: number;
  /** Fraction bits of the input; need not be an integer (its unit is 2^−F). */
  fractionBits: number;
  /** B, the bits of the input's ring. */
  ringBits?: number;
  /** Fraction bits of the cosine and sine shares, and of the public coefficients. */
  t?: number;
  u?: number;
  /** The ridge is 2^−ridgeBits/√12; t + 2 unless told. A smaller ridge than the noise itself buys a harmonic here and there. */
  ridgeBits?: number;
  /** A number forces it (a multiple of 1/8; 0 spares the linear part). */
  slope?: number | 'free';
  /** Size of one step of the opened ring in the unit of y; unless told, so that its noise is at most epsilon/4. */
  step?: number;
  maxM?: number;
  maxWord?: number;
  maxK?: number;
}

/** A chosen gate, plain data. */
export interface SmoothGate {
  readonly fit: FourierFit;
  /** Public integer that the input's shares are multiplied by. */
  readonly al: number;
  /** Bits of the opened ring: the low B − m bits of al·y are truncated. */
  readonly m: number;
  readonly t: number;
  readonly u: number;
  readonly word: OutputWord;
  /** Largest r.m.s. error on the core from rounding the input to m bits, and that from rounding shares and coefficients. */
  readonly inputNoise: number;
  readonly noise: number;
}

/**
 * The usual guard band of an activation: out to `ratio` times the core's longer side on both sides, but never more than
 * max(4, a quarter of that side), since wide ranges overshoot relatively less and pay most for it.
 */
export function guardWidth(lo: number, hi: number, ratio = 1.4): number {
  const side = Math.max(Math.abs(lo), Math.abs(hi));
  return Math.min((ratio - 1) * side, Math.max(4, side / 4));
}

const remembered = new Map<string, { made: unknown } | { refused: RangeError }>();

/** @internal Runs `make` once per key; what it refuses it refuses again. */
export function once<T>(key: string | undefined, make: () => T): T {
  if (key === undefined) return make();
  let known = remembered.get(key);
  if (!known) {
    try {
      known = { made: make() };
    } catch (e) {
      if (!(e instanceof RangeError)) throw e;
      known = { refused: e };
    }
    remembered.set(key, known);
  }
  if ('refused' in known) throw known.refused;
  return known.made as T;
}

/**
 * @throws RangeError where the guarded range does not fit the input's ring (saying by how many bits F must fall), or where no
 *   K up to maxK meets the errors (a kink, a pole, or an epsilon below what the ridge allows)
 */
export function chooseSmooth(f: RealFunction, options: SmoothOptions): SmoothGate {
  const { key, ...rest } = options;
  return once(key === undefined ? undefined : `smooth ${key} ${JSON.stringify(Object.entries(rest).sort())}`, () => chooseNow(f, options));
}

function chooseNow(f: RealFunction, options: SmoothOptions): SmoothGate {
  const { epsilon, fractionBits, ringBits = 32, maxWord = 32 } = options;
  let { t = 10, u = 10 } = options;
  // A finer slope needs more of y's high bits (see `word`): coarser ones are tried where the ring has no room for eighths.
  const grains = options.slope === undefined || options.slope === 'free' ? [1 / 8, 1 / 4, 1 / 2, 1, 0] : [1 / 8];
  let last = '';
  for (const grain of grains) {
    const { fit, al } = search(f, options, grain === 0 ? 0 : (options.slope ?? 'free'), grain || 1, t);
    u = Math.min(u, largestU(fit));
    let out = word(fit, t, u);
    while (out.w > maxWord && t + u > 2) {
      if (u >= t) u--;
      else t--;
      out = word(fit, t, u);
    }
    const room = ringBits + t + u - out.slopeBits - out.need;
    if (fit.slope !== 0 && fractionBits > room) {
      last = `lower the fraction bits from ${fractionBits} to ${room}`;
      continue;
    }
    const steepest = steepness(fit);
    const step = options.step ?? epsilon / 4 / (0.41 * Math.max(steepest, 1e-9));
    const m = Math.min(Math.max(Math.ceil(Math.log2(fit.period / step)), 8), options.maxM ?? 16, ringBits);
    return { fit, al, m, t, u, word: out, inputNoise: 0.41 * steepest * (fit.period / 2 ** m), noise: roundingNoise(fit, t, u) };
  }
  throw new RangeError(`fit on [${options.lo}, ${options.hi}]: no room for the linear part with slope ${options.slope}; ${last}`);
}

/** Largest |f′ − slope| over the core: what the rounding of the opened value is multiplied by (0.41 units r.m.s.). */
export function steepness(fit: FourierFit): number {
  const { a, b, period, lo, hi } = fit;
  const w = (2 * Math.PI) / period;
  const derivative = { a: b.map((v, i) => v * w * (i + 1)), b: a.map((v, i) => -v * w * (i + 1)), c0: 0, slope: 0, period };
  const points = 300 + 4 * a.length;
  const at = Float64Array.from({ length: points + 1 }, (_, i) => lo + ((hi - lo) * i) / points);
  return evaluateAll(derivative, at).reduce((top, v) => Math.max(top, Math.abs(v)), 0);
}

/**
 * Multipliers al whose period lies in [1.03, 1.7] widths, at most `count`, evenly spread over the logarithm of the period;
 * where there are none, those whose period covers the width at all.
 */
function multipliers(longest: number, width: number, count: number): number[] {
  let from = Math.max(1, Math.ceil(longest / (1.7 * width)));
  let to = Math.floor(longest / (1.03 * width));
  if (to < from) [from, to] = [Math.max(1, from - 1), Math.floor(longest / width)];
  const found = new Set<number>();
  for (let i = 0; i < count; i++) found.add(Math.round(from * (to / from) ** (count === 1 ? 0.5 : i / (count - 1))));
  return [...found];
}

/** Fewest harmonics, then smallest error. */
function search(f: RealFunction, o: SmoothOptions, slope: number | 'free', slopeStep: number, t: number): { fit: FourierFit; al: number } {
  const { epsilon, guardEpsilon = 0.1, fractionBits, ringBits = 32, maxK = 128, ridgeBits = t + 2 } = o;
  const longest = 2 ** (ringBits - fractionBits);
  const grid = sampler(f, o);
  const { guardLo, guardHi } = grid(samplesFor(2));
  const width = guardHi - guardLo;
  if (width > longest) {
    const bits = Math.ceil(Math.log2(width / longest) - 1e-9);
    throw new RangeError(
      `fit: [${guardLo}, ${guardHi}] at ${fractionBits} fraction bits does not fit ${ringBits} bits: lower them by ${bits}`,
    );
  }
  const few = multipliers(longest, width, 3);
  const many = multipliers(longest, width, 10);
  let best = Infinity;
  /** The fits with K harmonics that meet the errors on their samples, best first. */
  const passing = (K: number, als: number[]): { fit: FourierFit; al: number }[] => {
    const fits = als.map((al) => ({ al, fit: solveFit(normal(grid(samplesFor(K)), K, longest / al), ridgeBits, slope, slopeStep) }));
    for (const { fit } of fits) best = Math.min(best, Math.max(fit.maxError, (fit.guardError * epsilon) / guardEpsilon));
    return fits
      .filter(({ fit }) => fit.maxError < epsilon && fit.guardError < guardEpsilon)
      .sort((p, q) => p.fit.maxError - q.fit.maxError);
  };
  // Upwards by a sixth with few periods, back by bisection, then one by one with many: errors fall with K but for small ripples.
  let failed = 1;
  let K = 2;
  while (passing(K, few).length === 0) {
    if (K >= maxK) {
      const hint = `the best of K ≤ ${maxK} is ${best.toPrecision(2)}`;
      throw new RangeError(
        `fit on [${guardLo}, ${guardHi}]: no gate within ${epsilon} (${hint}); allow more error, raise t = ${t}, or narrow the range`,
      );
    }
    failed = K;
    K = Math.min(maxK, K + Math.max(1, Math.floor(K / 6)));
  }
  while (K - failed > 1) {
    const middle = (K + failed) >> 1;
    if (passing(middle, few).length > 0) K = middle;
    else failed = middle;
  }
  while (K > 1 && passing(K - 1, many).length > 0) K--;
  for (; ; K++) {
    for (const { fit, al } of passing(K, many)) {
      const exact = measured(fit, f);
      if (exact.maxError < epsilon && exact.guardError < guardEpsilon) return { fit: exact, al };
    }
    if (K > maxK) throw new RangeError(`fit on [${guardLo}, ${guardHi}]: no gate within ${epsilon} with K ≤ ${maxK}`);
  }
}
