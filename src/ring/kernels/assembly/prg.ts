/**
 * ChaCha12, eight blocks at a time: blocks 0–3 of a group are the lanes of x0 … x15, blocks 4–7 those of y0 … y15. The two halves
 * run the same operations and lie side by side in memory, so an engine that pairs 128-bit operations can run them as 256-bit ones,
 * and a group is stored as it is computed, without a transpose.
 */
import { copyWords } from "./words";
import { unpack } from "./pack";

/** Bytes of a group and of the start state that `prepare` lays out: word i of the eight blocks at 32·i. */
export const groupBytes: usize = 512;
export const startBytes: usize = 512;

@inline function add(a: v128, b: v128): v128 { return i32x4.add(a, b); }
@inline function xor(a: v128, b: v128): v128 { return v128.xor(a, b); }
@inline function rotl(x: v128, n: i32): v128 { return v128.or(i32x4.shl(x, n), i32x4.shr_u(x, 32 - n)); }
@inline function rot12(x: v128): v128 { return rotl(x, 12); }
@inline function rot7(x: v128): v128 { return rotl(x, 7); }

/** S = u8 turns by bytes with a swizzle, S = u32 with shifts: which is faster depends on the engine (see wasm.ts). */
@inline function rot16<S>(x: v128): v128 {
  if (sizeof<S>() == 1) return i8x16.swizzle(x, i8x16(2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13));
  return rotl(x, 16);
}
@inline function rot8<S>(x: v128): v128 {
  if (sizeof<S>() == 1) return i8x16.swizzle(x, i8x16(3, 0, 1, 2, 7, 4, 5, 6, 11, 8, 9, 10, 15, 12, 13, 14));
  return rotl(x, 8);
}

function groupsWith<S>(dst: usize, start: usize, count: i32): void {
  for (; count > 0; count--) {
    let x0 = v128.load(start, 0), y0 = v128.load(start, 16);
    let x1 = v128.load(start, 32), y1 = v128.load(start, 48);
    let x2 = v128.load(start, 64), y2 = v128.load(start, 80);
    let x3 = v128.load(start, 96), y3 = v128.load(start, 112);
    let x4 = v128.load(start, 128), y4 = v128.load(start, 144);
    let x5 = v128.load(start, 160), y5 = v128.load(start, 176);
    let x6 = v128.load(start, 192), y6 = v128.load(start, 208);
    let x7 = v128.load(start, 224), y7 = v128.load(start, 240);
    let x8 = v128.load(start, 256), y8 = v128.load(start, 272);
    let x9 = v128.load(start, 288), y9 = v128.load(start, 304);
    let x10 = v128.load(start, 320), y10 = v128.load(start, 336);
    let x11 = v128.load(start, 352), y11 = v128.load(start, 368);
    let x12 = v128.load(start, 384), y12 = v128.load(start, 400);
    let x13 = v128.load(start, 416), y13 = v128.load(start, 432);
    let x14 = v128.load(start, 448), y14 = v128.load(start, 464);
    let x15 = v128.load(start, 480), y15 = v128.load(start, 496);

    for (let round = 0; round < 12; round += 2) {
      x0 = add(x0, x4); x12 = rot16<S>(xor(x12, x0));
      y0 = add(y0, y4); y12 = rot16<S>(xor(y12, y0));
      x8 = add(x8, x12); x4 = rot12(xor(x4, x8));
      y8 = add(y8, y12); y4 = rot12(xor(y4, y8));
      x0 = add(x0, x4); x12 = rot8<S>(xor(x12, x0));
      y0 = add(y0, y4); y12 = rot8<S>(xor(y12, y0));
      x8 = add(x8, x12); x4 = rot7(xor(x4, x8));
      y8 = add(y8, y12); y4 = rot7(xor(y4, y8));

      x1 = add(x1, x5); x13 = rot16<S>(xor(x13, x1));
      y1 = add(y1, y5); y13 = rot16<S>(xor(y13, y1));
      x9 = add(x9, x13); x5 = rot12(xor(x5, x9));
      y9 = add(y9, y13); y5 = rot12(xor(y5, y9));
      x1 = add(x1, x5); x13 = rot8<S>(xor(x13, x1));
      y1 = add(y1, y5); y13 = rot8<S>(xor(y13, y1));
      x9 = add(x9, x13); x5 = rot7(xor(x5, x9));
      y9 = add(y9, y13); y5 = rot7(xor(y5, y9));

      x2 = add(x2, x6); x14 = rot16<S>(xor(x14, x2));
      y2 = add(y2, y6); y14 = rot16<S>(xor(y14, y2));
      x10 = add(x10, x14); x6 = rot12(xor(x6, x10));
      y10 = add(y10, y14); y6 = rot12(xor(y6, y10));
      x2 = add(x2, x6); x14 = rot8<S>(xor(x14, x2));
      y2 = add(y2, y6); y14 = rot8<S>(xor(y14, y2));
      x10 = add(x10, x14); x6 = rot7(xor(x6, x10));
      y10 = add(y10, y14); y6 = rot7(xor(y6, y10));

      x3 = add(x3, x7); x15 = rot16<S>(xor(x15, x3));
      y3 = add(y3, y7); y15 = rot16<S>(xor(y15, y3));
      x11 = add(x11, x15); x7 = rot12(xor(x7, x11));
      y11 = add(y11, y15); y7 = rot12(xor(y7, y11));
      x3 = add(x3, x7); x15 = rot8<S>(xor(x15, x3));
      y3 = add(y3, y7); y15 = rot8<S>(xor(y15, y3));
      x11 = add(x11, x15); x7 = rot7(xor(x7, x11));
      y11 = add(y11, y15); y7 = rot7(xor(y7, y11));

      x0 = add(x0, x5); x15 = rot16<S>(xor(x15, x0));
      y0 = add(y0, y5); y15 = rot16<S>(xor(y15, y0));
      x10 = add(x10, x15); x5 = rot12(xor(x5, x10));
      y10 = add(y10, y15); y5 = rot12(xor(y5, y10));
      x0 = add(x0, x5); x15 = rot8<S>(xor(x15, x0));
      y0 = add(y0, y5); y15 = rot8<S>(xor(y15, y0));
      x10 = add(x10, x15); x5 = rot7(xor(x5, x10));
      y10 = add(y10, y15); y5 = rot7(xor(y5, y10));

      x1 = add(x1, x6); x12 = rot16<S>(xor(x12, x1));
      y1 = add(y1, y6); y12 = rot16<S>(xor(y12, y1));
      x11 = add(x11, x12); x6 = rot12(xor(x6, x11));
      y11 = add(y11, y12); y6 = rot12(xor(y6, y11));
      x1 = add(x1, x6); x12 = rot8<S>(xor(x12, x1));
      y1 = add(y1, y6); y12 = rot8<S>(xor(y12, y1));
      x11 = add(x11, x12); x6 = rot7(xor(x6, x11));
      y11 = add(y11, y12); y6 = rot7(xor(y6, y11));

      x2 = add(x2, x7); x13 = rot16<S>(xor(x13, x2));
      y2 = add(y2, y7); y13 = rot16<S>(xor(y13, y2));
      x8 = add(x8, x13); x7 = rot12(xor(x7, x8));
      y8 = add(y8, y13); y7 = rot12(xor(y7, y8));
      x2 = add(x2, x7); x13 = rot8<S>(xor(x13, x2));
      y2 = add(y2, y7); y13 = rot8<S>(xor(y13, y2));
      x8 = add(x8, x13); x7 = rot7(xor(x7, x8));
      y8 = add(y8, y13); y7 = rot7(xor(y7, y8));

      x3 = add(x3, x4); x14 = rot16<S>(xor(x14, x3));
      y3 = add(y3, y4); y14 = rot16<S>(xor(y14, y3));
      x9 = add(x9, x14); x4 = rot12(xor(x4, x9));
      y9 = add(y9, y14); y4 = rot12(xor(y4, y9));
      x3 = add(x3, x4); x14 = rot8<S>(xor(x14, x3));
      y3 = add(y3, y4); y14 = rot8<S>(xor(y14, y3));
      x9 = add(x9, x14); x4 = rot7(xor(x4, x9));
      y9 = add(y9, y14); y4 = rot7(xor(y4, y9));
    }

    x0 = add(x0, v128.load(start, 0)); y0 = add(y0, v128.load(start, 16));
    x1 = add(x1, v128.load(start, 32)); y1 = add(y1, v128.load(start, 48));
    x2 = add(x2, v128.load(start, 64)); y2 = add(y2, v128.load(start, 80));
    x3 = add(x3, v128.load(start, 96)); y3 = add(y3, v128.load(start, 112));
    x4 = add(x4, v128.load(start, 128)); y4 = add(y4, v128.load(start, 144));
    x5 = add(x5, v128.load(start, 160)); y5 = add(y5, v128.load(start, 176));
    x6 = add(x6, v128.load(start, 192)); y6 = add(y6, v128.load(start, 208));
    x7 = add(x7, v128.load(start, 224)); y7 = add(y7, v128.load(start, 240));
    x8 = add(x8, v128.load(start, 256)); y8 = add(y8, v128.load(start, 272));
    x9 = add(x9, v128.load(start, 288)); y9 = add(y9, v128.load(start, 304));
    x10 = add(x10, v128.load(start, 320)); y10 = add(y10, v128.load(start, 336));
    x11 = add(x11, v128.load(start, 352)); y11 = add(y11, v128.load(start, 368));
    x12 = add(x12, v128.load(start, 384)); y12 = add(y12, v128.load(start, 400));
    x13 = add(x13, v128.load(start, 416)); y13 = add(y13, v128.load(start, 432));
    x14 = add(x14, v128.load(start, 448)); y14 = add(y14, v128.load(start, 464));
    x15 = add(x15, v128.load(start, 480)); y15 = add(y15, v128.load(start, 496));

    // All loads come before the first store: an engine that pairs operations may not move a load over a store.
    v128.store(dst, x0, 0); v128.store(dst, y0, 16);
    v128.store(dst, x1, 32); v128.store(dst, y1, 48);
    v128.store(dst, x2, 64); v128.store(dst, y2, 80);
    v128.store(dst, x3, 96); v128.store(dst, y3, 112);
    v128.store(dst, x4, 128); v128.store(dst, y4, 144);
    v128.store(dst, x5, 160); v128.store(dst, y5, 176);
    v128.store(dst, x6, 192); v128.store(dst, y6, 208);
    v128.store(dst, x7, 224); v128.store(dst, y7, 240);
    v128.store(dst, x8, 256); v128.store(dst, y8, 272);
    v128.store(dst, x9, 288); v128.store(dst, y9, 304);
    v128.store(dst, x10, 320); v128.store(dst, y10, 336);
    v128.store(dst, x11, 352); v128.store(dst, y11, 368);
    v128.store(dst, x12, 384); v128.store(dst, y12, 400);
    v128.store(dst, x13, 416); v128.store(dst, y13, 432);
    v128.store(dst, x14, 448); v128.store(dst, y14, 464);
    v128.store(dst, x15, 480); v128.store(dst, y15, 496);

    v128.store(start, i32x4.add(v128.load(start, 384), i32x4.splat(8)), 384);
    v128.store(start, i32x4.add(v128.load(start, 400), i32x4.splat(8)), 400);
    dst += groupBytes;
  }
}

/** Writes the next `count` groups and moves the start state on. */
export function nextGroups(dst: usize, start: usize, count: i32, swizzle: i32): void {
  if (swizzle) groupsWith<u8>(dst, start, count);
  else groupsWith<u32>(dst, start, count);
}

/** Groups that hold `count` values. A block of 128 spreads them over all its words, so a part of a block needs the whole. */
@inline export function groupsOf(count: i32, bits: i32): i32 { return (((count + 127) >> 7) * bits + 31) >> 5; }

/** Lays out the start state of group `group`. */
export function prepare(start: usize, key: usize, step: i32, gate: i32, stream: i32, group: u32): void {
  for (let i = 0; i < 16; i++) {
    let word: i32;
    if (i == 0) word = 0x61707865;
    else if (i == 1) word = 0x3320646e;
    else if (i == 2) word = 0x79622d32;
    else if (i == 3) word = 0x6b206574;
    else if (i < 12) word = load<i32>(key + 4 * (i - 4));
    else if (i == 12) word = group * 8;
    else if (i == 13) word = step;
    else if (i == 14) word = gate;
    else word = stream;
    const at = start + 32 * i;
    v128.store(at, i32x4.splat(word));
    v128.store(at, i32x4.splat(word), 16);
  }
  v128.store(start, i32x4.add(v128.load(start, 384), i32x4(0, 1, 2, 3)), 384);
  v128.store(start, i32x4.add(v128.load(start, 400), i32x4(4, 5, 6, 7)), 400);
}

export function prg(
  dst: usize, key: usize, step: i32, gate: i32, stream: i32, bits: i32, group: u32, n: i32, scratch: usize, swizzle: i32,
): void {
  const start = scratch;
  const raw = scratch + startBytes;
  prepare(start, key, step, gate, stream, group);
  if (bits == 32) {
    nextGroups(dst, start, n >> 7, swizzle);
    const rest = n & 127;
    if (rest) {
      nextGroups(raw, start, 1, swizzle);
      copyWords(dst + 4 * (n - rest), raw, rest);
    }
    return;
  }
  // 4096 values are `bits` groups: at most 16 KiB, which stay in the first-level cache until they are unpacked.
  for (; n > 0; n -= 4096) {
    const count = min(n, 4096);
    nextGroups(raw, start, groupsOf(count, bits), swizzle);
    unpack(dst, raw, bits, count);
    dst += 4 * 4096;
  }
}
