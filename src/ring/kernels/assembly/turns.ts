/**
 * Sine and cosine of 2π·c/2^m, one IEEE operation at a time and in the order of plain/turns.ts, so that both parties get the same bits.
 */
const turn32: f32 = (2 * Math.PI / 4294967296.0) as f32;
const turn64: f64 = 2 * Math.PI / 4294967296.0;

@inline export function turnsOf(c: v128, m: i32): v128 { return i32x4.shl(c, 32 - m); }
@inline export function quarterOf(turns: v128): v128 { return i32x4.shr_u(i32x4.add(turns, i32x4.splat(1 << 29)), 30); }
/** The angle within an eighth of a turn either side of the quarter, in radians. */
@inline export function restOf(turns: v128, quarter: v128): v128 {
  return f32x4.mul(f32x4.convert_i32x4_s(i32x4.sub(turns, i32x4.shl(quarter, 30))), f32x4.splat(turn32));
}

@inline function step32(sum: v128, xx: v128, term: f32): v128 { return f32x4.add(f32x4.mul(sum, xx), f32x4.splat(term)); }
@inline export function sineOf(x: v128, xx: v128): v128 {
  let s = f32x4.splat((1.0 / 362880.0) as f32);
  s = step32(s, xx, (-1.0 / 5040.0) as f32);
  s = step32(s, xx, (1.0 / 120.0) as f32);
  s = step32(s, xx, (-1.0 / 6.0) as f32);
  return f32x4.add(f32x4.mul(f32x4.mul(xx, x), s), x);
}
@inline export function cosineOf(xx: v128): v128 {
  let k = f32x4.splat((-1.0 / 3628800.0) as f32);
  k = step32(k, xx, (1.0 / 40320.0) as f32);
  k = step32(k, xx, (-1.0 / 720.0) as f32);
  k = step32(k, xx, (1.0 / 24.0) as f32);
  k = step32(k, xx, (-1.0 / 2.0) as f32);
  return step32(k, xx, 1);
}
/** Of (cosine, sine) of the rest: those of the whole angle. */
@inline export function turnedCosine(k: v128, s: v128, quarter: v128): v128 {
  const odd = i32x4.neg(v128.and(quarter, i32x4.splat(1)));
  const sign = i32x4.shl(v128.and(i32x4.add(quarter, i32x4.splat(1)), i32x4.splat(2)), 30);
  return v128.xor(v128.bitselect(s, k, odd), sign);
}
@inline export function turnedSine(k: v128, s: v128, quarter: v128): v128 {
  const odd = i32x4.neg(v128.and(quarter, i32x4.splat(1)));
  const sign = i32x4.shl(v128.and(quarter, i32x4.splat(2)), 30);
  return v128.xor(v128.bitselect(k, s, odd), sign);
}

/** Nearest integers, ties to even, of values below 2^22: their low bits show once 1.5·2^23 is added. */
@inline export function round32(x: v128): v128 {
  return i32x4.sub(v128.add<f32>(x, f32x4.splat(12582912)), i32x4.splat(0x4b400000));
}

/** (cosine, sine) in double precision. */
export function cosSin64(c: u32, m: i32): v128 {
  const turns = c << (32 - m);
  const quarter = (turns + (1 << 29)) >> 30;
  const x = ((turns - (quarter << 30)) as i32 as f64) * turn64;
  const xx = x * x;
  let s = 1.0 / 355687428096000.0;
  s = s * xx + -1.0 / 1307674368000.0;
  s = s * xx + 1.0 / 6227020800.0;
  s = s * xx + -1.0 / 39916800.0;
  s = s * xx + 1.0 / 362880.0;
  s = s * xx + -1.0 / 5040.0;
  s = s * xx + 1.0 / 120.0;
  s = s * xx + -1.0 / 6.0;
  s = xx * x * s + x;
  let k = -1.0 / 6402373705728000.0;
  k = k * xx + 1.0 / 20922789888000.0;
  k = k * xx + -1.0 / 87178291200.0;
  k = k * xx + 1.0 / 479001600.0;
  k = k * xx + -1.0 / 3628800.0;
  k = k * xx + 1.0 / 40320.0;
  k = k * xx + -1.0 / 720.0;
  k = k * xx + 1.0 / 24.0;
  k = k * xx + -1.0 / 2.0;
  k = k * xx + 1.0;
  const cos = quarter & 1 ? s : k, sin = quarter & 1 ? k : s;
  return f64x2((quarter + 1) & 2 ? -cos : cos, quarter & 2 ? -sin : sin);
}
