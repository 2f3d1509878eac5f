/**
 * Bit-packing in blocks of 128 values, four lanes side by side: value 4i + l is the i-th of lane l, so whole vectors shift alike.
 * Every width has its own straight-line code, in which all shifts and addresses are constants: 0.1 ns a value, a loop over variable
 * shifts takes 0.5.
 */
import { add, copyWords } from "./words";
import { openSumBlocks, packBlocks, unpackBlocks } from "./widths";

@inline export function maskOf(bits: i32): i32 { return bits == 32 ? -1 : (1 << bits) - 1; }

/** One packed value, for the end that fills no block. */
@inline function packedValue(src: usize, bits: i32, i: i32): i32 {
  const bit = ((i & 127) >> 2) * bits;
  const at = src + 4 * ((i >> 7) * 4 * bits + 4 * (bit >> 5) + (i & 3));
  const low = bit & 31;
  let value = load<u32>(at) >> low;
  if (low + bits > 32) value |= load<u32>(at, 16) << (32 - low);
  return value & maskOf(bits);
}

export function unpack(dst: usize, src: usize, bits: i32, n: i32): void {
  if (bits == 32) return copyWords(dst, src, n);
  unpackBlocks(bits, dst, src, n >> 7);
  for (let i = n & ~127; i < n; i++) store<i32>(dst + 4 * i, packedValue(src, bits, i));
}

export function openSum(dst: usize, mine: usize, theirs: usize, bits: i32, n: i32): void {
  if (bits == 32) return add(dst, mine, theirs, n);
  openSumBlocks(bits, dst, mine, theirs, n >> 7);
  for (let i = n & ~127; i < n; i++) store<i32>(dst + 4 * i, (load<i32>(mine + 4 * i) + packedValue(theirs, bits, i)) & maskOf(bits));
}

export function pack(dst: usize, src: usize, bits: i32, n: i32): void {
  const rest = n & 127;
  const end = dst + 16 * ((n >> 7) * bits);
  if (bits == 32) copyWords(dst, src, n & ~127);
  else packBlocks(bits, dst, src, n >> 7);
  if (rest == 0) return;
  memory.fill(end, 0, 16 * bits);
  src += 4 * (n - rest);
  for (let i = 0; i < rest; i++) {
    const bit = (i >> 2) * bits;
    const at = end + 4 * (4 * (bit >> 5) + (i & 3));
    const low = bit & 31;
    const value = load<u32>(src + 4 * i) & maskOf(bits);
    store<u32>(at, load<u32>(at) | (value << low));
    if (low + bits > 32) store<u32>(at, load<u32>(at, 16) | (value >> (32 - low)), 16);
  }
}
