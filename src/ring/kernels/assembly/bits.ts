/** Work on shared bits: planes of packed bits, and the look-up of a public chunk in a shared one-hot table (compare). */

export function xor(dst: usize, a: usize, b: usize, n: i32): void {
  let i = 0;
  for (; i + 4 <= n; i += 4) v128.store(dst + 4 * i, v128.xor(v128.load(a + 4 * i), v128.load(b + 4 * i)));
  for (; i < n; i++) store<u32>(dst + 4 * i, load<u32>(a + 4 * i) ^ load<u32>(b + 4 * i));
}

export function xorAnd(dst: usize, a: usize, b: usize, n: i32): void {
  let i = 0;
  for (; i + 4 <= n; i += 4)
    v128.store(dst + 4 * i, v128.xor(v128.load(dst + 4 * i), v128.and(v128.load(a + 4 * i), v128.load(b + 4 * i))));
  for (; i < n; i++) store<u32>(dst + 4 * i, load<u32>(dst + 4 * i) ^ (load<u32>(a + 4 * i) & load<u32>(b + 4 * i)));
}

/** All ones in the lanes whose word has this bit. */
@inline function lanesWith(x: v128, bit: i32): v128 { return i32x4.shr_s(i32x4.shl(x, 31 - bit), 31); }

/** Vectors have no shift by lane: the shift by a chunk's value is one choice for each bit of the chunk. */
export function oneHot(dst: usize, m: usize, shift: i32, width: i32, n: i32): void {
  const last = (1 << width) - 1;
  const keep = ((1 << last) - 1) as u32;
  let i = 0;
  for (; i + 4 <= n; i += 4) {
    const x = v128.load(m + 4 * i);
    let hot = i32x4.splat(1);
    // The value is that of the inverted bits.
    for (let j = 0; j < width; j++) hot = v128.bitselect(hot, i32x4.shl(hot, 1 << j), lanesWith(x, shift + j));
    v128.store(dst + 4 * i, v128.and(hot, i32x4.splat(keep)));
  }
  for (; i < n; i++) store<u32>(dst + 4 * i, (1 << ((~load<u32>(m + 4 * i) >>> shift) & last)) & keep);
}

@inline function prefixParity(x: v128): v128 {
  let p = i32x4.shl(x, 1);
  p = v128.xor(p, i32x4.shl(p, 1));
  p = v128.xor(p, i32x4.shl(p, 2));
  p = v128.xor(p, i32x4.shl(p, 4));
  p = v128.xor(p, i32x4.shl(p, 8));
  return v128.xor(p, i32x4.shl(p, 16));
}

/** The bit of each table word that its chunk names, as a word. */
@inline function pick(table: v128, c: v128, shift: i32, width: i32): v128 {
  let t = table;
  for (let j = 0; j < width; j++) t = v128.bitselect(i32x4.shr_u(t, 1 << j), t, lanesWith(c, shift + j));
  return v128.and(t, i32x4.splat(1));
}

export function pickBits(eq: usize, gt: usize, c: usize, table: usize, shift: i32, width: i32, party: i32, n: i32): void {
  const last = (1 << width) - 1;
  const keep = i32x4.splat((1 << last) - 1);
  const own = i32x4.splat(party == 0 ? 1 : 0);
  const one = i32x4.splat(1);
  const whole = n & ~3;
  for (let i = 0; i < n; i += 4) {
    const tail = i == whole;
    const x = tail ? partial(c + 4 * i, n - i) : v128.load(c + 4 * i);
    const t = v128.and(tail ? partial(table + 4 * i, n - i) : v128.load(table + 4 * i), keep);
    const below = prefixParity(t);
    const g = pick(below, x, shift, width);
    const missing = i32x4.shl(v128.xor(v128.and(i32x4.shr_u(below, last), one), own), last);
    const e = pick(v128.or(t, missing), x, shift, width);
    if (!tail) {
      v128.store(gt + 4 * i, g);
      if (eq) v128.store(eq + 4 * i, e);
    } else {
      storePartial(gt + 4 * i, g, n - i);
      if (eq) storePartial(eq + 4 * i, e, n - i);
    }
  }
}

/** The n < 4 words at an address, without reading past them. */
function partial(at: usize, n: i32): v128 {
  let v = i32x4.splat(0);
  v = i32x4.replace_lane(v, 0, load<i32>(at));
  if (n > 1) v = i32x4.replace_lane(v, 1, load<i32>(at, 4));
  if (n > 2) v = i32x4.replace_lane(v, 2, load<i32>(at, 8));
  return v;
}
function storePartial(at: usize, v: v128, n: i32): void {
  store<i32>(at, i32x4.extract_lane(v, 0));
  if (n > 1) store<i32>(at, i32x4.extract_lane(v, 1), 4);
  if (n > 2) store<i32>(at, i32x4.extract_lane(v, 2), 8);
}
