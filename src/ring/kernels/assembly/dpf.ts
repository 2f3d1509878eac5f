/** One level of a point function's tree (ring/dpf.ts): four nodes at a time, a node to a lane. */

@inline function add(a: v128, b: v128): v128 { return i32x4.add(a, b); }
@inline function turn(a: v128, b: v128, n: i32): v128 {
  const x = v128.xor(a, b);
  return v128.or(i32x4.shl(x, n), i32x4.shr_u(x, 32 - n));
}
@inline function low(a: v128, b: v128): v128 { return v128.shuffle<i32>(a, b, 0, 4, 1, 5); }
@inline function high(a: v128, b: v128): v128 { return v128.shuffle<i32>(a, b, 2, 6, 3, 7); }
@inline function lowPair(a: v128, b: v128): v128 { return v128.shuffle<i64>(a, b, 0, 2); }
@inline function highPair(a: v128, b: v128): v128 { return v128.shuffle<i64>(a, b, 1, 3); }

/** Lane i of (a, b, c, d) to at + 32·i. */
@inline function scatter(at: usize, a: v128, b: v128, c: v128, d: v128): void {
  const ab = low(a, b), cd = low(c, d), ef = high(a, b), gh = high(c, d);
  v128.store(at, lowPair(ab, cd));
  v128.store(at, highPair(ab, cd), 32);
  v128.store(at, lowPair(ef, gh), 64);
  v128.store(at, highPair(ef, gh), 96);
}

export function dpfLevel(below: usize, tBelow: usize, seeds: usize, t: usize, correction: usize, parents: i32): void {
  const c0 = i32x4.splat(0x61707865), c1 = i32x4.splat(0x3320646e), c2 = i32x4.splat(0x79622d32), c3 = i32x4.splat(0x6b206574);
  const zero = i32x4.splat(0), one = i32x4.splat(1), tag = i32x4.splat(0x667064);
  const w0 = v128.load32_splat(correction), w1 = v128.load32_splat(correction, 4), w2 = v128.load32_splat(correction, 8), w3 = v128.load32_splat(correction, 12);
  const tl = v128.load32_splat(correction, 16), tr = v128.load32_splat(correction, 20);
  const k4 = v128.load32_splat(correction, 32), k5 = v128.load32_splat(correction, 36), k6 = v128.load32_splat(correction, 40), k7 = v128.load32_splat(correction, 44);
  for (let i = 0; i < parents; i += 4) {
    const at = seeds + 16 * i;
    const a = v128.load(at), b = v128.load(at, 16), c = v128.load(at, 32), d = v128.load(at, 48);
    const ab = low(a, b), cd = low(c, d), ef = high(a, b), gh = high(c, d);
    const k0 = lowPair(ab, cd), k1 = highPair(ab, cd), k2 = lowPair(ef, gh), k3 = highPair(ef, gh);
    let x0 = c0, x1 = c1, x2 = c2, x3 = c3, x4 = k0, x5 = k1, x6 = k2, x7 = k3, x8 = k4, x9 = k5, x10 = k6, x11 = k7;
    let x12 = zero, x13 = tag, x14 = zero, x15 = zero;
    for (let round = 0; round < 12; round += 2) {
      x0 = add(x0, x4); x12 = turn(x12, x0, 16); x8 = add(x8, x12); x4 = turn(x4, x8, 12);
      x1 = add(x1, x5); x13 = turn(x13, x1, 16); x9 = add(x9, x13); x5 = turn(x5, x9, 12);
      x2 = add(x2, x6); x14 = turn(x14, x2, 16); x10 = add(x10, x14); x6 = turn(x6, x10, 12);
      x3 = add(x3, x7); x15 = turn(x15, x3, 16); x11 = add(x11, x15); x7 = turn(x7, x11, 12);
      x0 = add(x0, x4); x12 = turn(x12, x0, 8); x8 = add(x8, x12); x4 = turn(x4, x8, 7);
      x1 = add(x1, x5); x13 = turn(x13, x1, 8); x9 = add(x9, x13); x5 = turn(x5, x9, 7);
      x2 = add(x2, x6); x14 = turn(x14, x2, 8); x10 = add(x10, x14); x6 = turn(x6, x10, 7);
      x3 = add(x3, x7); x15 = turn(x15, x3, 8); x11 = add(x11, x15); x7 = turn(x7, x11, 7);
      x0 = add(x0, x5); x15 = turn(x15, x0, 16); x10 = add(x10, x15); x5 = turn(x5, x10, 12);
      x1 = add(x1, x6); x12 = turn(x12, x1, 16); x11 = add(x11, x12); x6 = turn(x6, x11, 12);
      x2 = add(x2, x7); x13 = turn(x13, x2, 16); x8 = add(x8, x13); x7 = turn(x7, x8, 12);
      x3 = add(x3, x4); x14 = turn(x14, x3, 16); x9 = add(x9, x14); x4 = turn(x4, x9, 12);
      x0 = add(x0, x5); x15 = turn(x15, x0, 8); x10 = add(x10, x15); x5 = turn(x5, x10, 7);
      x1 = add(x1, x6); x12 = turn(x12, x1, 8); x11 = add(x11, x12); x6 = turn(x6, x11, 7);
      x2 = add(x2, x7); x13 = turn(x13, x2, 8); x8 = add(x8, x13); x7 = turn(x7, x8, 7);
      x3 = add(x3, x4); x14 = turn(x14, x3, 8); x9 = add(x9, x14); x4 = turn(x4, x9, 7);
    }
    const on = v128.load(t + 4 * i);
    const m0 = v128.and(on, w0), m1 = v128.and(on, w1), m2 = v128.and(on, w2), m3 = v128.and(on, w3);
    const to = below + 32 * i;
    scatter(to, v128.xor(add(x0, c0), m0), v128.xor(add(x1, c1), m1), v128.xor(add(x2, c2), m2), v128.xor(add(x3, c3), m3));
    scatter(to + 16, v128.xor(add(x4, k0), m0), v128.xor(add(x5, k1), m1), v128.xor(add(x6, k2), m2), v128.xor(add(x7, k3), m3));
    const bits = add(x8, k4);
    const left = v128.xor(i32x4.sub(zero, v128.and(bits, one)), v128.and(on, tl));
    const right = v128.xor(i32x4.sub(zero, v128.and(i32x4.shr_u(bits, 1), one)), v128.and(on, tr));
    v128.store(tBelow + 8 * i, low(left, right));
    v128.store(tBelow + 8 * i, high(left, right), 16);
  }
}
