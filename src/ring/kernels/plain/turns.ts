/**
 * Sine and cosine of 2π·c/2^m for an m-bit c, the same bits in every implementation.
 *
 * The angle is first a 32-bit fraction of a turn, so the nearest quarter turn and the rest d in [−1/8, 1/8) turns come from
 * integer arithmetic without error; only x = 2π·d/2^32 and the Taylor polynomials (|x| ≤ π/4) round. Every operation below is
 * one IEEE operation, in this order; nothing is fused.
 * Single precision: the terms left out are under 2·10⁻⁹ (sine) and 2·10⁻¹⁰ (cosine). Double: under 10⁻¹⁹ and 10⁻²⁰.
 */
const f = Math.fround;

const factorials = [
  1, 1, 2, 6, 24, 120, 720, 5040, 40320, 362880, 3628800, 39916800, 479001600, 6227020800, 87178291200, 1307674368000, 20922789888000,
  355687428096000, 6402373705728000,
];
/** Coefficients of x³, x⁵, … and of x², x⁴, …, highest first. */
const sineTerms = (degree: number): number[] => termsFrom(degree, 3);
const cosineTerms = (degree: number): number[] => termsFrom(degree, 2);
function termsFrom(degree: number, lowest: number): number[] {
  const terms: number[] = [];
  for (let d = degree; d >= lowest; d -= 2) terms.push((d & 2 ? -1 : 1) / factorials[d]);
  return terms;
}

const sine32 = sineTerms(9).map(f);
const cosine32 = cosineTerms(10).map(f);
const sine64 = sineTerms(17);
const cosine64 = cosineTerms(18);
export const turn32 = f((2 * Math.PI) / 2 ** 32);
export const turn64 = (2 * Math.PI) / 2 ** 32;

/** Quarter turns (0…3) and the rest as a signed 32-bit fraction of a turn. */
function reduce(c: number, m: number): [quarter: number, rest: number] {
  const turns = c << (32 - m);
  const quarter = (turns + 2 ** 29) >>> 30;
  return [quarter, (turns - (quarter << 30)) | 0];
}

function rotate(cos: number, sin: number, quarter: number): [number, number] {
  const [c, s] = quarter & 1 ? [sin, cos] : [cos, sin];
  return [(quarter + 1) & 2 ? -c : c, quarter & 2 ? -s : s];
}

/** [cos, sin] in single precision; exact reduction for m ≤ 24. */
export function cosSin32(c: number, m: number): [number, number] {
  const [quarter, d] = reduce(c, m);
  const x = f(f(d) * turn32);
  const xx = f(x * x);
  let s = sine32[0];
  for (let i = 1; i < sine32.length; i++) s = f(f(s * xx) + sine32[i]);
  let k = cosine32[0];
  for (let i = 1; i < cosine32.length; i++) k = f(f(k * xx) + cosine32[i]);
  return rotate(f(f(k * xx) + 1), f(f(f(xx * x) * s) + x), quarter);
}

/** [cos, sin] in double precision. */
export function cosSin64(c: number, m: number): [number, number] {
  const [quarter, d] = reduce(c, m);
  const x = d * turn64;
  const xx = x * x;
  let s = sine64[0];
  for (let i = 1; i < sine64.length; i++) s = s * xx + sine64[i];
  let k = cosine64[0];
  for (let i = 1; i < cosine64.length; i++) k = k * xx + cosine64[i];
  return rotate(k * xx + 1, xx * x * s + x, quarter);
}

/** Adding and taking away 1.5·2^23 (1.5·2^52) rounds to the nearest integer, ties to even, below 2^22 (2^51). */
export const round32 = (x: number): number => f(x + 12582912) - 12582912;
export const round64 = (x: number): number => x + 6755399441055744 - 6755399441055744;
