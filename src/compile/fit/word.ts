/**
 * What rounding costs a harmonic gate and how wide its words must be.
 *
 * The gate computes Σ_k p_k·C_k + q_k·S_k with p, q public integers at u fraction bits and C, S (cos and sin of the mask's
 * multiples) at t: a value at t + u fraction bits, correct modulo 2^w, to which the linear part is added at the same scale.
 */
import { evaluateAll, type FourierFit } from './fourier.ts';

/** r.m.s. rounding error of the gate's harmonic part, in f's unit: √((|c|²·2^−2t + K·2^−2u)/12). */
export function roundingNoise(fit: Pick<FourierFit, 'a' | 'cnorm'>, t: number, u: number): number {
  return Math.sqrt((fit.cnorm ** 2 * 2 ** (-2 * t) + fit.a.length * 2 ** (-2 * u)) / 12);
}

/** Largest amplitude √(a_k² + b_k²), the bound of |p_k| and |q_k| in f's unit. */
export function largestAmplitude({ a, b }: Pick<FourierFit, 'a' | 'b'>): number {
  return a.reduce((top, ak, i) => Math.max(top, Math.hypot(ak, b[i])), 0);
}

/** Largest u at which every |p_k| and |q_k| stays below 2^23, so that single precision holds them exactly. */
export function largestU(fit: Pick<FourierFit, 'a' | 'b'>): number {
  return Math.ceil(23 - Math.log2(Math.max(largestAmplitude(fit), 2 ** -20))) - 1;
}

export interface OutputWord {
  /** Width of the output ring and of C and S: `need` rounded up to even. */
  readonly w: number;
  /** Bits that the output needs: |f − centre|·2^(t+u) stays below 2^(need−2) over the guarded range, as an extension requires. */
  readonly need: number;
  /** The middle of f's values over the guarded range: a public constant to subtract before the ring shrinks, and add back after. */
  readonly centre: number;
  /** Half their spread. */
  readonly half: number;
  /** Bits of 1/slope's grain: slope·2^slopeBits is an integer, so the linear part is taken from y at t + u − slopeBits bits. */
  readonly slopeBits: number;
}

/**
 * Output words for f over the GUARD, not the core: an output that wraps ruins everything after it, where an alias of the period
 * hardly shows. Six standard deviations of rounding noise are added to the spread. With a linear part, y at F fraction bits in
 * Z_2^B must satisfy F ≤ B + t + u − slopeBits − need, or the truncated y no longer determines the sum.
 */
export function word(fit: FourierFit, t: number, u: number): OutputWord {
  const points = Math.max(400, 8 * fit.a.length);
  let low = Infinity;
  let high = -Infinity;
  const at = Float64Array.from({ length: points + 1 }, (_, i) => fit.guardLo + ((fit.guardHi - fit.guardLo) * i) / points);
  for (const v of evaluateAll(fit, at)) {
    low = Math.min(low, v);
    high = Math.max(high, v);
  }
  const half = (high - low) / 2 + 6 * roundingNoise(fit, t, u);
  const need = t + u + 2 + Math.ceil(Math.log2(half));
  let slopeBits = 0;
  while (slopeBits < 52 && !Number.isInteger(fit.slope * 2 ** slopeBits)) slopeBits++;
  return { w: need + (need & 1), need, centre: (high + low) / 2, half, slopeBits };
}
