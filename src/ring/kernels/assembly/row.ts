import { chunk, nextValues, packLessNext, rawBytes, spareBytes } from "./harmonic";
import { nextGroups, prepare, startBytes } from "./prg";
import { cosSin64 } from "./turns";

/**
 * Row gates. A vector holds (cosine, sine) of one harmonic; four chains z_1 … z_4 each turn by z_4, which keeps errors small and the
 * multipliers busy. Corrections of up to 32 bits pass through a window as in harmonic.ts; wider ones are read six bytes at a time.
 *
 *   scratch:  start state | raw PRG words | part of their values | chains z_1 … z_4 | window …
 */
const chainsAt: usize = startBytes + rawBytes + spareBytes;
const windowAt: usize = chainsAt + 64;
/** PRG bytes made at once for wide words: 2048 values of six bytes, 24 groups. */
const wideGroups: i32 = 24;
const wideValues: i32 = 2048;

@inline function swapped(z: v128): v128 { return v128.shuffle<i64>(z, z, 1, 0); }
/** The product of complex numbers (cosine, sine). */
@inline function times(z: v128, c: v128, s: v128): v128 {
  return f64x2.add(f64x2.mul(z, c), f64x2.mul(swapped(z), s));
}
/** A factor of `times`, spread: the cosine twice, and the sine as (−sin, sin). */
@inline function spreadCos(z: v128): v128 { return v128.shuffle<i64>(z, z, 0, 0); }
@inline function spreadSin(z: v128): v128 { return f64x2.mul(v128.shuffle<i64>(z, z, 1, 1), f64x2(-1, 1)); }

/** Lays the chains of one element out; z_4 is the last. */
@inline function chains(at: usize, c: u32, m: i32): void {
  const z1 = cosSin64(c, m);
  const c1 = spreadCos(z1), s1 = spreadSin(z1);
  const z2 = times(z1, c1, s1);
  v128.store(at, z1);
  v128.store(at, z2, 16);
  v128.store(at, times(z2, c1, s1), 32);
  v128.store(at, times(z2, spreadCos(z2), spreadSin(z2)), 48);
}

/** Integers nearest to values below 2^51, ties to even. */
@inline function round64(z: v128): v128 {
  return i64x2.sub(f64x2.add(z, f64x2.splat(6755399441055744)), i64x2.splat(0x4338000000000000));
}
@inline function low32(z: v128): v128 { return v128.shuffle<i32>(z, z, 0, 2, 0, 2); }

@inline function load48(at: usize): i64 { return (load<u32>(at) as i64) | ((load<u16>(at, 4) as i64) << 32); }
@inline function store48(at: usize, value: i64): void {
  store<u32>(at, value as u32);
  store<u16>(at, (value >> 32) as u16, 4);
}

/** Elements first … last−1; first·2K is a multiple of a chunk. */
export function dealHarmonicRow(
  packed: usize, r: usize, n: i32, K: i32, t: i32, w: i32, m: i32,
  key: usize, step: i32, gate: i32, stream: i32, scratch: usize, swizzle: i32, first: i32, last: i32,
): void {
  const start = scratch, raw = scratch + startBytes, zs = scratch + chainsAt, window = scratch + windowAt;
  const scale = f64x2.splat(((1 as i64) << t) as f64);
  const values = 2 * K;
  const wide = w > 32;
  const bits = wide ? 48 : w;
  prepare(start, key, step, gate, stream, first * values / chunk * bits);
  packed += first * values / 128 * bits * 16;
  let filled = 0;
  let fresh = 0;
  for (let i = first; i < last; i++) {
    chains(zs, load<u32>(r + 4 * i), m);
    const z4 = v128.load(zs, 48);
    const c4 = spreadCos(z4), s4 = spreadSin(z4);
    for (let k = 0; k < K; k++) {
      const at = zs + 16 * (k & 3);
      const z = v128.load(at);
      v128.store(at, times(z, c4, s4));
      const both = round64(f64x2.mul(z, scale));
      if (!wide) {
        v128.store64_lane(window + 4 * filled, low32(both), 0);
        filled += 2;
      } else {
        if (fresh == 0) {
          nextGroups(window, start, wideGroups, swizzle);
          fresh = wideValues;
        }
        const mask = window + 6 * (wideValues - fresh);
        store48(packed, i64x2.extract_lane(both, 0) - load48(mask));
        store48(packed + 6, i64x2.extract_lane(both, 1) - load48(mask + 6));
        packed += 12;
        fresh -= 2;
      }
    }
    if (wide) continue;
    let done = 0;
    while (filled - done >= chunk || (i + 1 == last && done < filled)) {
      const count = min(chunk, filled - done);
      const from = window + 4 * done;
      packLessNext(packed, from, start, raw, w, count, swizzle);
      packed += (count >> 7) * w * 16;
      done += count;
    }
    filled -= done;
    if (done) memory.copy(window, window + 4 * done, 4 * filled);
  }
  // Wide words are padded to whole blocks of 64 values.
  if (wide && last == n) memory.fill(packed, 0, 6 * (-(n * values) & 63));
}

export function harmonicRow(
  out: usize, c: usize, n: i32, coef: usize, channels: i32, inner: i32, K: i32, w: i32, m: i32,
  packed: usize, key: usize, step: i32, gate: i32, stream: i32, scratch: usize, swizzle: i32, first: i32, last: i32,
): void {
  const start = scratch, raw = scratch + startBytes, zs = scratch + chainsAt, window = scratch + windowAt;
  const values = 2 * K;
  const wide = w > 32;
  const bits = wide ? 48 : w;
  if (packed) packed += first * values / 128 * bits * 16;
  else prepare(start, key, step, gate, stream, first * values / chunk * bits);
  let left = (last - first) * values;
  let from = window;
  let filled = 0;
  let channel = first / inner % channels;
  let run = inner - first % inner;
  for (let i = first; i < last; i++) {
    if (!wide && filled < values) {
      memory.copy(window, from, 4 * filled);
      from = window;
      while (filled < values) {
        const count = min(chunk, left);
        nextValues(window + 4 * filled, packed, start, raw, w, count, swizzle);
        if (packed) packed += (count >> 7) * w * 16;
        filled += count;
        left -= count;
      }
    }
    chains(zs, load<u32>(c + 4 * i), m);
    const z4 = v128.load(zs, 48);
    const c4 = spreadCos(z4), s4 = spreadSin(z4);
    let ab = coef + 16 * (channel * K);
    let sum = i32x4.splat(0);
    let wideSum: i64 = 0;
    for (let k = 0; k < K; k++) {
      const at = zs + 16 * (k & 3);
      const z = v128.load(at);
      v128.store(at, times(z, c4, s4));
      // a·(cos, sin) + b·(sin, −cos)
      const turned = f64x2.mul(swapped(z), f64x2(1, -1));
      const both = round64(f64x2.add(f64x2.mul(v128.load64_splat(ab), z), f64x2.mul(v128.load64_splat(ab, 8), turned)));
      ab += 16;
      if (!wide) {
        sum = i32x4.add(sum, i32x4.mul(both, v128.load32x2_u(from)));
        from += 8;
      } else {
        let word: usize;
        if (packed) {
          word = packed;
          packed += 12;
        } else {
          if (filled == 0) {
            nextGroups(window, start, wideGroups, swizzle);
            filled = wideValues;
          }
          word = window + 6 * (wideValues - filled);
          filled -= 2;
        }
        wideSum += i64x2.extract_lane(both, 0) * load48(word) + i64x2.extract_lane(both, 1) * load48(word + 6);
      }
    }
    if (wide) store<i64>(out + 8 * i, load<i64>(out + 8 * i) + wideSum);
    else {
      filled -= values;
      store<i32>(out + 4 * i, load<i32>(out + 4 * i) + i32x4.extract_lane(sum, 0) + i32x4.extract_lane(sum, 2));
    }
    if (--run == 0) {
      run = inner;
      if (++channel == channels) channel = 0;
    }
  }
}
