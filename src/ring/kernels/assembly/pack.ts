/** Bit-packing in blocks of 128 values, four lanes side by side: value 4i + l is the i-th of lane l, so whole vectors shift alike. */

@inline export function maskOf(bits: i32): i32 { return bits == 32 ? -1 : (1 << bits) - 1; }

/** One packed value, for the ends that fill no vector. */
@inline function packedValue(src: usize, bits: i32, i: i32): i32 {
  const bit = ((i & 127) >> 2) * bits;
  const at = src + 4 * ((i >> 7) * 4 * bits + 4 * (bit >> 5) + (i & 3));
  const low = bit & 31;
  let value = load<u32>(at) >> low;
  if (low + bits > 32) value |= load<u32>(at, 16) << (32 - low);
  return value & maskOf(bits);
}

/** What becomes of an unpacked value: kept, added to a base modulo 2^bits, or taken from a base. */
const Keep = 0, Add = 1, Take = 2;

@inline function combined(how: i32, base: v128, value: v128, mask: v128): v128 {
  if (how == Add) return v128.and(i32x4.add(base, value), mask);
  if (how == Take) return i32x4.sub(base, value);
  return v128.and(value, mask);
}

@inline function unpackWith(how: i32, dst: usize, base: usize, src: usize, bits: i32, n: i32): void {
  const mask = i32x4.splat(maskOf(bits));
  const from = src;
  const vectors = n >> 2;
  let low = 0;
  let word = i32x4.splat(0);
  for (let i = 0; i < vectors; i++) {
    if (low == 0) { word = v128.load(src); src += 16; }
    let value = i32x4.shr_u(word, low);
    low += bits;
    if (low > 32) {
      word = v128.load(src);
      src += 16;
      low -= 32;
      value = v128.or(value, i32x4.shl(word, bits - low));
    } else if (low == 32) low = 0;
    if (how == Take) value = v128.and(value, mask);
    v128.store(dst, combined(how, how == Keep ? mask : v128.load(base), value, mask));
    dst += 16;
    base += 16;
  }
  for (let i = vectors << 2; i < n; i++) {
    const value = packedValue(from, bits, i);
    if (how == Keep) store<i32>(dst, value);
    else if (how == Add) store<i32>(dst, (load<i32>(base) + value) & maskOf(bits));
    else store<i32>(dst, load<i32>(base) - value);
    dst += 4;
    base += 4;
  }
}

export function unpackValues(dst: usize, src: usize, bits: i32, n: i32): void { unpackWith(Keep, dst, dst, src, bits, n); }
/** dst −= unpack(src), unmasked. */
export function takeUnpacked(dst: usize, src: usize, bits: i32, n: i32): void { unpackWith(Take, dst, dst, src, bits, n); }

export function unpack(dst: usize, src: usize, bits: i32, n: i32): void { unpackValues(dst, src, bits, n); }
export function openSum(dst: usize, mine: usize, theirs: usize, bits: i32, n: i32): void { unpackWith(Add, dst, mine, theirs, bits, n); }

/** Vector i of n values, zeros past the end. */
@inline function vectorAt(src: usize, i: i32, n: i32): v128 {
  const left = n - 4 * i;
  if (left >= 4) return v128.load(src + 16 * i);
  let value = i32x4.splat(0);
  if (left > 0) value = i32x4.replace_lane(value, 0, load<i32>(src + 16 * i));
  if (left > 1) value = i32x4.replace_lane(value, 1, load<i32>(src + 16 * i, 4));
  if (left > 2) value = i32x4.replace_lane(value, 2, load<i32>(src + 16 * i, 8));
  return value;
}

export function pack(dst: usize, src: usize, bits: i32, n: i32): void {
  const mask = i32x4.splat(maskOf(bits));
  const vectors = ((n + 127) >> 7) << 5;
  let low = 0;
  let word = i32x4.splat(0);
  for (let i = 0; i < vectors; i++) {
    const value = v128.and(vectorAt(src, i, n), mask);
    word = v128.or(word, i32x4.shl(value, low));
    low += bits;
    if (low < 32) continue;
    v128.store(dst, word);
    dst += 16;
    low -= 32;
    word = low == 0 ? i32x4.splat(0) : i32x4.shr_u(value, bits - low);
  }
}
