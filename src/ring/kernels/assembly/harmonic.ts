import { pack, unpack } from "./pack";
import { nextGroups, prepare, startBytes } from "./prg";
import { cosineOf, quarterOf, restOf, round32, sineOf, turnedCosine, turnedSine, turnsOf } from "./turns";
import { sub } from "./words";

/**
 * Correction values pass through a window in scratch: what one block of elements left over, then `chunk` fresh values. A chunk is
 * 32 blocks of packing and a whole number of PRG groups whatever the width, and it stays in the first-level cache.
 *
 *   scratch:  start state | raw PRG words of a chunk | part of their values | window …
 */
export const chunk: i32 = 4096;
export const rawBytes: usize = 4 * 4096;
const part: i32 = 1024;
export const spareBytes: usize = 4 * 1024;
const windowAt: usize = startBytes + rawBytes + spareBytes;

/** Elements 4·block … of a row; lanes past its width are zero. */
@inline function lanes(row: usize, block: i32, width: i32): v128 {
  const at = row + 16 * block;
  const left = width - 4 * block;
  if (left >= 4) return v128.load(at);
  let v = v128.load32_zero(at);
  if (left > 1) v = i32x4.replace_lane(v, 1, load<i32>(at, 4));
  if (left > 2) v = i32x4.replace_lane(v, 2, load<i32>(at, 8));
  return v;
}

/** The next `count` values of a stream or of packed words. */
@inline export function nextValues(dst: usize, packed: usize, start: usize, raw: usize, w: i32, count: i32, swizzle: i32): void {
  if (packed) return unpack(dst, packed, w, count);
  const groups = (count * w + 4095) >> 12;
  if (w == 32) return nextGroups(dst, start, groups, swizzle);
  nextGroups(raw, start, groups, swizzle);
  unpack(dst, raw, w, count);
}

/** Packs `count` values less the stream's next ones, by parts that stay in the first-level cache. */
export function packLessNext(packed: usize, values: usize, start: usize, raw: usize, w: i32, count: i32, swizzle: i32): void {
  nextGroups(raw, start, (count * w + 4095) >> 12, swizzle);
  const spare = raw + rawBytes;
  for (; count > 0; count -= part) {
    const n = min(part, count);
    unpack(spare, raw, w, n);
    sub(values, values, spare, n);
    pack(packed, values, w, n);
    values += 4 * part;
    raw += part / 8 * w;
    packed += part / 8 * w;
  }
}

/** Blocks first … last−1 of the strip; first·8K is a multiple of a chunk. */
export function dealHarmonic(
  packed: usize, r: usize, stride: i32, rows: i32, width: i32, K: i32, t: i32, w: i32, m: i32,
  key: usize, step: i32, gate: i32, stream: i32, scratch: usize, swizzle: i32, first: i32, last: i32,
): void {
  const start = scratch, raw = scratch + startBytes, window = scratch + windowAt;
  const perRow = (width + 3) >> 2;
  const values = 8 * K;
  const scale = f32x4.splat((1 << t) as f32);
  prepare(start, key, step, gate, stream, first * values / chunk * w);
  packed += first * values / 128 * w * 16;
  let filled = 0;
  let row = r + 4 * (first / perRow * stride);
  let block = first % perRow;
  for (let i = first; i < last; i++) {
    const turns = turnsOf(lanes(row, block, width), m);
    const quarter = quarterOf(turns);
    const x = restOf(turns, quarter), xx = f32x4.mul(x, x);
    const s = sineOf(x, xx), k = cosineOf(xx);
    const c1 = turnedCosine(k, s, quarter), s1 = turnedSine(k, s, quarter);
    let cos = c1, sin = s1;
    let to = window + 4 * filled;
    for (let h = 0; h < K; h++) {
      v128.store(to, round32(f32x4.mul(cos, scale)));
      v128.store(to, round32(f32x4.mul(sin, scale)), 16);
      to += 32;
      const next = f32x4.sub(f32x4.mul(cos, c1), f32x4.mul(sin, s1));
      sin = f32x4.add(f32x4.mul(sin, c1), f32x4.mul(cos, s1));
      cos = next;
    }
    filled += values;
    if (++block == perRow) { block = 0; row += 4 * stride; }
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
}

export function harmonic(
  out: usize, c: usize, stride: i32, rows: i32, width: i32, coef: usize, splat: i32, K: i32, w: i32, m: i32,
  packed: usize, key: usize, step: i32, gate: i32, stream: i32, scratch: usize, swizzle: i32, first: i32, last: i32,
): void {
  const start = scratch, raw = scratch + startBytes, window = scratch + windowAt;
  const perRow = (width + 3) >> 2;
  const values = 8 * K;
  if (packed) packed += first * values / 128 * w * 16;
  else prepare(start, key, step, gate, stream, first * values / chunk * w);
  let left = (last - first) * values;
  let from = window;
  let filled = 0;
  let offset = 4 * (first / perRow * stride);
  let block = first % perRow;
  for (let i = first; i < last; i++) {
    if (filled < values) {
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
    const turns = turnsOf(lanes(c + offset, block, width), m);
    const quarter = quarterOf(turns);
    const x = restOf(turns, quarter), xx = f32x4.mul(x, x);
    const s = sineOf(x, xx), k = cosineOf(xx);
    const c1 = turnedCosine(k, s, quarter), s1 = turnedSine(k, s, quarter);
    let cos = c1, sin = s1;
    let sumC = i32x4.splat(0), sumS = sumC;
    let ab = splat ? coef : coef + 4 * block * values;
    for (let h = 0; h < K; h++) {
      const a = v128.load(ab), b = v128.load(ab, 16);
      const p = round32(f32x4.add(f32x4.mul(a, cos), f32x4.mul(b, sin)));
      const q = round32(f32x4.sub(f32x4.mul(a, sin), f32x4.mul(b, cos)));
      sumC = i32x4.add(sumC, i32x4.mul(p, v128.load(from)));
      sumS = i32x4.add(sumS, i32x4.mul(q, v128.load(from, 16)));
      from += 32;
      ab += 32;
      const next = f32x4.sub(f32x4.mul(cos, c1), f32x4.mul(sin, s1));
      sin = f32x4.add(f32x4.mul(sin, c1), f32x4.mul(cos, s1));
      cos = next;
    }
    filled -= values;
    const to = out + offset + 16 * block;
    const sum = i32x4.add(sumC, sumS);
    const wide = width - 4 * block;
    if (wide >= 4) v128.store(to, i32x4.add(v128.load(to), sum));
    else {
      store<i32>(to, load<i32>(to) + i32x4.extract_lane(sum, 0));
      if (wide > 1) store<i32>(to, load<i32>(to, 4) + i32x4.extract_lane(sum, 1), 4);
      if (wide > 2) store<i32>(to, load<i32>(to, 8) + i32x4.extract_lane(sum, 2), 8);
    }
    if (++block == perRow) { block = 0; offset += 4 * stride; }
  }
}
