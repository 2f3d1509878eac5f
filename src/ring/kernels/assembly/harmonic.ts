import { pack, unpack } from "./pack";
import { groupsOf, nextGroups, prepare, startBytes } from "./prg";
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
/** Blocks whose first harmonics are found at once. */
const batch: i32 = 32;
export const spareBytes: usize = 4 * 1024;
const zsAt: usize = startBytes + rawBytes + spareBytes;
const sumsAt: usize = zsAt + 32 * batch;
const windowAt: usize = sumsAt + 32;

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

/**
 * z_1 of `count` blocks, cosines and sines. Apart from the turning that follows, because here one block's operations wait for each
 * other and the machine can only overlap blocks when they are close together.
 */
function firstHarmonics(zs: usize, c: usize, stride: i32, width: i32, perRow: i32, m: i32, first: i32, count: i32): void {
  let row = c + 4 * (first / perRow * stride);
  let block = first % perRow;
  for (; count > 0; count--) {
    const turns = turnsOf(lanes(row, block, width), m);
    const quarter = quarterOf(turns);
    const x = restOf(turns, quarter), xx = f32x4.mul(x, x);
    const s = sineOf(x, xx), k = cosineOf(xx);
    v128.store(zs, turnedCosine(k, s, quarter));
    v128.store(zs, turnedSine(k, s, quarter), 16);
    zs += 32;
    if (++block == perRow) { block = 0; row += 4 * stride; }
  }
}

/** The next `count` values of a stream or of packed words. */
@inline export function nextValues(dst: usize, packed: usize, start: usize, raw: usize, w: i32, count: i32, swizzle: i32): void {
  if (packed) return unpack(dst, packed, w, count);
  const groups = groupsOf(count, w);
  if (w == 32) return nextGroups(dst, start, groups, swizzle);
  nextGroups(raw, start, groups, swizzle);
  unpack(dst, raw, w, count);
}

/** Packs `count` values less the stream's next ones, by parts that stay in the first-level cache. */
export function packLessNext(packed: usize, values: usize, start: usize, raw: usize, w: i32, count: i32, swizzle: i32): void {
  nextGroups(raw, start, groupsOf(count, w), swizzle);
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
  const start = scratch, raw = scratch + startBytes, zs = scratch + zsAt, window = scratch + windowAt;
  const perRow = (width + 3) >> 2;
  const values = 8 * K;
  const scale = f32x4.splat((1 << t) as f32);
  prepare(start, key, step, gate, stream, first * values / chunk * w);
  packed += first * values / 128 * w * 16;
  let filled = 0;
  let row = r + 4 * (first / perRow * stride);
  let block = first % perRow;
  for (let i = first; i < last; i++) {
    if (((i - first) & (batch - 1)) == 0) firstHarmonics(zs, r, stride, width, perRow, m, i, min(batch, last - i));
    const z1 = zs + 32 * ((i - first) & (batch - 1));
    const c1 = v128.load(z1), s1 = v128.load(z1, 16);
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

/** Σ p_k·C_k + q_k·S_k of one block, or of two that are then worked on side by side: each alone would wait for its own last turn. */
@inline function sums(
  pair: i32, dst: usize, z1: usize, ab: usize, cd: usize, from: usize, next: usize, K: i32, magic: v128, magicBits: v128,
): void {
  const c1 = v128.load(z1), s1 = v128.load(z1, 16);
  const d1 = pair ? v128.load(z1, 32) : c1, t1 = pair ? v128.load(z1, 48) : s1;
  let cos = c1, sin = s1, dos = d1, tin = t1;
  let sum = i32x4.splat(0), tum = sum;
  for (; K > 0; K--) {
    const a = v128.load(ab), b = v128.load(ab, 16);
    const p = i32x4.sub(f32x4.add(f32x4.add(f32x4.mul(a, cos), f32x4.mul(b, sin)), magic), magicBits);
    const q = i32x4.sub(f32x4.add(f32x4.sub(f32x4.mul(a, sin), f32x4.mul(b, cos)), magic), magicBits);
    sum = i32x4.add(sum, i32x4.add(i32x4.mul(p, v128.load(from)), i32x4.mul(q, v128.load(from, 16))));
    const turned = f32x4.sub(f32x4.mul(cos, c1), f32x4.mul(sin, s1));
    sin = f32x4.add(f32x4.mul(sin, c1), f32x4.mul(cos, s1));
    cos = turned;
    ab += 32;
    from += 32;
    if (pair) {
      const a = v128.load(cd), b = v128.load(cd, 16);
      const p = i32x4.sub(f32x4.add(f32x4.add(f32x4.mul(a, dos), f32x4.mul(b, tin)), magic), magicBits);
      const q = i32x4.sub(f32x4.add(f32x4.sub(f32x4.mul(a, tin), f32x4.mul(b, dos)), magic), magicBits);
      tum = i32x4.add(tum, i32x4.add(i32x4.mul(p, v128.load(next)), i32x4.mul(q, v128.load(next, 16))));
      const turned = f32x4.sub(f32x4.mul(dos, d1), f32x4.mul(tin, t1));
      tin = f32x4.add(f32x4.mul(tin, d1), f32x4.mul(dos, t1));
      dos = turned;
      cd += 32;
      next += 32;
    }
  }
  v128.store(dst, sum);
  if (pair) v128.store(dst, tum, 16);
}

export function harmonic(
  out: usize, c: usize, stride: i32, rows: i32, width: i32, coef: usize, splat: i32, K: i32, w: i32, m: i32,
  packed: usize, key: usize, step: i32, gate: i32, stream: i32, scratch: usize, swizzle: i32, first: i32, last: i32,
): void {
  const start = scratch, raw = scratch + startBytes, zs = scratch + zsAt, found = scratch + sumsAt, window = scratch + windowAt;
  const perRow = (width + 3) >> 2;
  const values = 8 * K;
  if (packed) packed += first * values / 128 * w * 16;
  else prepare(start, key, step, gate, stream, first * values / chunk * w);
  // 1.5·2^23 and its bits, with a zero added that no compiler sees through: newer engines rebuild constants at each use.
  const magic = f32x4.splat(12582912 + ((m >> 8) as f32)), magicBits = i32x4.splat(0x4b400000 + (m >> 8));
  let left = (last - first) * values;
  let from = window;
  let filled = 0;
  let row = out + 4 * (first / perRow * stride);
  let block = first % perRow;
  for (let i = first; i < last; i += 2) {
    const place = (i - first) & (batch - 1);
    if (place == 0) firstHarmonics(zs, c, stride, width, perRow, m, i, min(batch, last - i));
    const pair = i + 1 < last;
    const needed = pair ? 2 * values : values;
    if (filled < needed) {
      memory.copy(window, from, 4 * filled);
      from = window;
      while (filled < needed) {
        const count = min(chunk, left);
        nextValues(window + 4 * filled, packed, start, raw, w, count, swizzle);
        if (packed) packed += (count >> 7) * w * 16;
        filled += count;
        left -= count;
      }
    }
    const z1 = zs + 32 * place;
    const ab = splat ? coef : coef + 4 * block * values;
    if (pair) {
      const cd = splat ? coef : block + 1 == perRow ? coef : ab + 4 * values;
      sums(1, found, z1, ab, cd, from, from + 4 * values, K, magic, magicBits);
    } else sums(0, found, z1, ab, ab, from, from, K, magic, magicBits);
    from += 4 * needed;
    filled -= needed;
    const blocks = pair ? 2 : 1;
    for (let j = 0; j < blocks; j++) {
      const to = row + 16 * block;
      const sum = v128.load(found + 16 * j);
      const wide = width - 4 * block;
      if (wide >= 4) v128.store(to, i32x4.add(v128.load(to), sum));
      else {
        store<i32>(to, load<i32>(to) + i32x4.extract_lane(sum, 0));
        if (wide > 1) store<i32>(to, load<i32>(to, 4) + i32x4.extract_lane(sum, 1), 4);
        if (wide > 2) store<i32>(to, load<i32>(to, 8) + i32x4.extract_lane(sum, 2), 8);
      }
      if (++block == perRow) { block = 0; row += 4 * stride; }
    }
  }
}
