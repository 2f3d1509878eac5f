/**
 * The float functions of one variable that harmonic gates are fitted to, in double precision.
 *
 * A fit is only as good as the function it is fitted to, and tails matter: an activation near zero is the difference of two
 * large numbers if written carelessly (1 + erf near −1), so each is written from the side that keeps its relative precision.
 */

/** A function of one real variable, defined on the whole range it will be fitted on. */
export type RealFunction = (y: number) => number;

const TWO_OVER_SQRT_PI = 2 / Math.sqrt(Math.PI);

/**
 * erf by its series with all terms positive, erf(x) = 2/√π · e^(−x²) · Σ 2ⁿ x^(2n+1) / (1·3·5···(2n+1)) (Abramowitz and Stegun
 * 7.1.6): no cancellation, so the error stays at a few units in the last place. Meant for |x| ≤ 2.5, about 50 terms there.
 */
function erfSeries(x: number): number {
  const xx = 2 * x * x;
  let term = x;
  let sum = x;
  for (let n = 1; n < 200; n++) {
    term *= xx / (2 * n + 1);
    sum += term;
    if (Math.abs(term) < 1e-17 * Math.abs(sum)) break;
  }
  return TWO_OVER_SQRT_PI * Math.exp(-x * x) * sum;
}

/**
 * erfc for x ≥ 2.5 by its continued fraction, erfc(x) = e^(−x²)/√π · 1/(x + ½/(x + 1/(x + 3⁄2/(x + …)))) (Abramowitz and Stegun
 * 7.1.14), from the inside out with a fixed depth: relative error below 1e-13 from 2.5 on.
 */
function erfcFraction(x: number): number {
  let tail = x;
  for (let n = 80; n >= 1; n--) tail = x + n / 2 / tail;
  return Math.exp(-x * x) / (Math.sqrt(Math.PI) * tail);
}

/** The error function; absolute error below 1e-14. */
export function erf(x: number): number {
  if (Math.abs(x) <= 2.5) return erfSeries(x);
  return x > 0 ? 1 - erfcFraction(x) : erfcFraction(-x) - 1;
}

/** 1 − erf(x), keeping its relative precision (1e-12) for large x. */
export function erfc(x: number): number {
  if (x >= 2.5) return erfcFraction(x);
  return x <= -2.5 ? 2 - erfcFraction(-x) : 1 - erfSeries(x);
}

export const sigmoid = (y: number): number => (y >= 0 ? 1 / (1 + Math.exp(-y)) : Math.exp(y) / (1 + Math.exp(y)));
export const silu = (y: number): number => y * sigmoid(y);
/** y·Φ(y) with the exact normal distribution function. */
export const gelu = (y: number): number => 0.5 * y * erfc(-y / Math.SQRT2);
/** The tanh approximation of GELU: another function (they differ by up to 5e-4), used where a model was trained with it. */
export const geluTanh = (y: number): number => y * sigmoid(2 * Math.sqrt(2 / Math.PI) * (y + 0.044715 * y * y * y));
/** y·σ(1.702 y). */
export const geluSigmoid = (y: number): number => y * sigmoid(1.702 * y);
/** log(1 + e^y). */
export const softplus = (y: number): number => Math.max(y, 0) + Math.log1p(Math.exp(-Math.abs(y)));
export const mish = (y: number): number => y * Math.tanh(softplus(y));
export const reciprocal = (y: number): number => 1 / y;
export const rsqrt = (y: number): number => 1 / Math.sqrt(y);

/** Every named function, by the name that programs and messages use. */
export const functions = {
  cos: Math.cos,
  erf,
  exp: Math.exp,
  gelu,
  geluSigmoid,
  geluTanh,
  log: Math.log,
  mish,
  reciprocal,
  rsqrt,
  sigmoid,
  silu,
  sin: Math.sin,
  softplus,
  sqrt: Math.sqrt,
  tanh: Math.tanh,
} satisfies Record<string, RealFunction>;

export type FunctionName = keyof typeof functions;

/** The function of that name; RangeError naming the known ones otherwise. */
export function functionNamed(name: string): RealFunction {
  if (!Object.hasOwn(functions, name)) throw new RangeError(`no function "${name}" to fit; known: ${Object.keys(functions).join(', ')}`);
  return functions[name as FunctionName];
}
