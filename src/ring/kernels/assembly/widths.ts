/**
 * Packing of whole blocks (pack.ts), width by width. The inlined helpers take the width and the place as constants, so every shift
 * and address below is one too. The mask is not: as a constant it would be written out at each of its uses.
 */
@inline function low(i: i32, b: i32): i32 { return (i * b) & 31; }
@inline function at(i: i32, b: i32): usize { return 16 * ((i * b) >> 5); }

/** Vector i of a block, with bits of its neighbours above it. */
@inline function raised(i: i32, b: i32, src: usize): v128 {
  const value = low(i, b) == 0 ? v128.load(src + at(i, b)) : i32x4.shr_u(v128.load(src + at(i, b)), low(i, b));
  if (low(i, b) + b <= 32) return value;
  return v128.or(value, i32x4.shl(v128.load(src + at(i, b) + 16), 32 - low(i, b)));
}
@inline function lift(i: i32, b: i32, dst: usize, src: usize, m: v128): void {
  const value = raised(i, b, src);
  v128.store(dst + 16 * i, low(i, b) + b == 32 ? value : v128.and(value, m));
}
@inline function lifts(b: i32, dst: usize, src: usize, blocks: i32, mask: i32): void {
  const m = i32x4.splat(mask);
  for (; blocks > 0; blocks--) {
    lift(0, b, dst, src, m); lift(1, b, dst, src, m); lift(2, b, dst, src, m); lift(3, b, dst, src, m);
    lift(4, b, dst, src, m); lift(5, b, dst, src, m); lift(6, b, dst, src, m); lift(7, b, dst, src, m);
    lift(8, b, dst, src, m); lift(9, b, dst, src, m); lift(10, b, dst, src, m); lift(11, b, dst, src, m);
    lift(12, b, dst, src, m); lift(13, b, dst, src, m); lift(14, b, dst, src, m); lift(15, b, dst, src, m);
    lift(16, b, dst, src, m); lift(17, b, dst, src, m); lift(18, b, dst, src, m); lift(19, b, dst, src, m);
    lift(20, b, dst, src, m); lift(21, b, dst, src, m); lift(22, b, dst, src, m); lift(23, b, dst, src, m);
    lift(24, b, dst, src, m); lift(25, b, dst, src, m); lift(26, b, dst, src, m); lift(27, b, dst, src, m);
    lift(28, b, dst, src, m); lift(29, b, dst, src, m); lift(30, b, dst, src, m); lift(31, b, dst, src, m);
    dst += 512;
    src += 16 * b;
  }
}

@inline function open(i: i32, b: i32, dst: usize, mine: usize, src: usize, m: v128): void {
  v128.store(dst + 16 * i, v128.and(i32x4.add(v128.load(mine + 16 * i), raised(i, b, src)), m));
}
@inline function opens(b: i32, dst: usize, mine: usize, src: usize, blocks: i32, mask: i32): void {
  const m = i32x4.splat(mask);
  for (; blocks > 0; blocks--) {
    open(0, b, dst, mine, src, m); open(1, b, dst, mine, src, m); open(2, b, dst, mine, src, m); open(3, b, dst, mine, src, m);
    open(4, b, dst, mine, src, m); open(5, b, dst, mine, src, m); open(6, b, dst, mine, src, m); open(7, b, dst, mine, src, m);
    open(8, b, dst, mine, src, m); open(9, b, dst, mine, src, m); open(10, b, dst, mine, src, m); open(11, b, dst, mine, src, m);
    open(12, b, dst, mine, src, m); open(13, b, dst, mine, src, m); open(14, b, dst, mine, src, m); open(15, b, dst, mine, src, m);
    open(16, b, dst, mine, src, m); open(17, b, dst, mine, src, m); open(18, b, dst, mine, src, m); open(19, b, dst, mine, src, m);
    open(20, b, dst, mine, src, m); open(21, b, dst, mine, src, m); open(22, b, dst, mine, src, m); open(23, b, dst, mine, src, m);
    open(24, b, dst, mine, src, m); open(25, b, dst, mine, src, m); open(26, b, dst, mine, src, m); open(27, b, dst, mine, src, m);
    open(28, b, dst, mine, src, m); open(29, b, dst, mine, src, m); open(30, b, dst, mine, src, m); open(31, b, dst, mine, src, m);
    dst += 512;
    mine += 512;
    src += 16 * b;
  }
}

/** The word in hand with vector i added to it, … */
@inline function join(i: i32, b: i32, word: v128, value: v128): v128 {
  return low(i, b) == 0 ? value : v128.or(word, i32x4.shl(value, low(i, b)));
}
/** … stored when it is full: then what vector i has left over is in hand. */
@inline function pass(i: i32, b: i32, dst: usize, word: v128, value: v128): v128 {
  if (low(i, b) + b < 32) return word;
  v128.store(dst + at(i, b), word);
  return low(i, b) + b == 32 ? word : i32x4.shr_u(value, 32 - low(i, b));
}
@inline function packs(b: i32, dst: usize, src: usize, blocks: i32, mask: i32): void {
  const m = i32x4.splat(mask);
  for (; blocks > 0; blocks--) {
    let v: v128, w = i32x4.splat(0);
    v = v128.and(v128.load(src, 0), m); w = pass(0, b, dst, join(0, b, w, v), v);
    v = v128.and(v128.load(src, 16), m); w = pass(1, b, dst, join(1, b, w, v), v);
    v = v128.and(v128.load(src, 32), m); w = pass(2, b, dst, join(2, b, w, v), v);
    v = v128.and(v128.load(src, 48), m); w = pass(3, b, dst, join(3, b, w, v), v);
    v = v128.and(v128.load(src, 64), m); w = pass(4, b, dst, join(4, b, w, v), v);
    v = v128.and(v128.load(src, 80), m); w = pass(5, b, dst, join(5, b, w, v), v);
    v = v128.and(v128.load(src, 96), m); w = pass(6, b, dst, join(6, b, w, v), v);
    v = v128.and(v128.load(src, 112), m); w = pass(7, b, dst, join(7, b, w, v), v);
    v = v128.and(v128.load(src, 128), m); w = pass(8, b, dst, join(8, b, w, v), v);
    v = v128.and(v128.load(src, 144), m); w = pass(9, b, dst, join(9, b, w, v), v);
    v = v128.and(v128.load(src, 160), m); w = pass(10, b, dst, join(10, b, w, v), v);
    v = v128.and(v128.load(src, 176), m); w = pass(11, b, dst, join(11, b, w, v), v);
    v = v128.and(v128.load(src, 192), m); w = pass(12, b, dst, join(12, b, w, v), v);
    v = v128.and(v128.load(src, 208), m); w = pass(13, b, dst, join(13, b, w, v), v);
    v = v128.and(v128.load(src, 224), m); w = pass(14, b, dst, join(14, b, w, v), v);
    v = v128.and(v128.load(src, 240), m); w = pass(15, b, dst, join(15, b, w, v), v);
    v = v128.and(v128.load(src, 256), m); w = pass(16, b, dst, join(16, b, w, v), v);
    v = v128.and(v128.load(src, 272), m); w = pass(17, b, dst, join(17, b, w, v), v);
    v = v128.and(v128.load(src, 288), m); w = pass(18, b, dst, join(18, b, w, v), v);
    v = v128.and(v128.load(src, 304), m); w = pass(19, b, dst, join(19, b, w, v), v);
    v = v128.and(v128.load(src, 320), m); w = pass(20, b, dst, join(20, b, w, v), v);
    v = v128.and(v128.load(src, 336), m); w = pass(21, b, dst, join(21, b, w, v), v);
    v = v128.and(v128.load(src, 352), m); w = pass(22, b, dst, join(22, b, w, v), v);
    v = v128.and(v128.load(src, 368), m); w = pass(23, b, dst, join(23, b, w, v), v);
    v = v128.and(v128.load(src, 384), m); w = pass(24, b, dst, join(24, b, w, v), v);
    v = v128.and(v128.load(src, 400), m); w = pass(25, b, dst, join(25, b, w, v), v);
    v = v128.and(v128.load(src, 416), m); w = pass(26, b, dst, join(26, b, w, v), v);
    v = v128.and(v128.load(src, 432), m); w = pass(27, b, dst, join(27, b, w, v), v);
    v = v128.and(v128.load(src, 448), m); w = pass(28, b, dst, join(28, b, w, v), v);
    v = v128.and(v128.load(src, 464), m); w = pass(29, b, dst, join(29, b, w, v), v);
    v = v128.and(v128.load(src, 480), m); w = pass(30, b, dst, join(30, b, w, v), v);
    v = v128.and(v128.load(src, 496), m); w = pass(31, b, dst, join(31, b, w, v), v);
    dst += 16 * b;
    src += 512;
  }
}

// Exported, and so kept apart: the optimiser would make one function of all widths, too large for an engine to compile at once.
export function unpack1(dst: usize, src: usize, blocks: i32, mask: i32): void { lifts(1, dst, src, blocks, mask); }
export function unpack2(dst: usize, src: usize, blocks: i32, mask: i32): void { lifts(2, dst, src, blocks, mask); }
export function unpack3(dst: usize, src: usize, blocks: i32, mask: i32): void { lifts(3, dst, src, blocks, mask); }
export function unpack4(dst: usize, src: usize, blocks: i32, mask: i32): void { lifts(4, dst, src, blocks, mask); }
export function unpack5(dst: usize, src: usize, blocks: i32, mask: i32): void { lifts(5, dst, src, blocks, mask); }
export function unpack6(dst: usize, src: usize, blocks: i32, mask: i32): void { lifts(6, dst, src, blocks, mask); }
export function unpack7(dst: usize, src: usize, blocks: i32, mask: i32): void { lifts(7, dst, src, blocks, mask); }
export function unpack8(dst: usize, src: usize, blocks: i32, mask: i32): void { lifts(8, dst, src, blocks, mask); }
export function unpack9(dst: usize, src: usize, blocks: i32, mask: i32): void { lifts(9, dst, src, blocks, mask); }
export function unpack10(dst: usize, src: usize, blocks: i32, mask: i32): void { lifts(10, dst, src, blocks, mask); }
export function unpack11(dst: usize, src: usize, blocks: i32, mask: i32): void { lifts(11, dst, src, blocks, mask); }
export function unpack12(dst: usize, src: usize, blocks: i32, mask: i32): void { lifts(12, dst, src, blocks, mask); }
export function unpack13(dst: usize, src: usize, blocks: i32, mask: i32): void { lifts(13, dst, src, blocks, mask); }
export function unpack14(dst: usize, src: usize, blocks: i32, mask: i32): void { lifts(14, dst, src, blocks, mask); }
export function unpack15(dst: usize, src: usize, blocks: i32, mask: i32): void { lifts(15, dst, src, blocks, mask); }
export function unpack16(dst: usize, src: usize, blocks: i32, mask: i32): void { lifts(16, dst, src, blocks, mask); }
export function unpack17(dst: usize, src: usize, blocks: i32, mask: i32): void { lifts(17, dst, src, blocks, mask); }
export function unpack18(dst: usize, src: usize, blocks: i32, mask: i32): void { lifts(18, dst, src, blocks, mask); }
export function unpack19(dst: usize, src: usize, blocks: i32, mask: i32): void { lifts(19, dst, src, blocks, mask); }
export function unpack20(dst: usize, src: usize, blocks: i32, mask: i32): void { lifts(20, dst, src, blocks, mask); }
export function unpack21(dst: usize, src: usize, blocks: i32, mask: i32): void { lifts(21, dst, src, blocks, mask); }
export function unpack22(dst: usize, src: usize, blocks: i32, mask: i32): void { lifts(22, dst, src, blocks, mask); }
export function unpack23(dst: usize, src: usize, blocks: i32, mask: i32): void { lifts(23, dst, src, blocks, mask); }
export function unpack24(dst: usize, src: usize, blocks: i32, mask: i32): void { lifts(24, dst, src, blocks, mask); }
export function unpack25(dst: usize, src: usize, blocks: i32, mask: i32): void { lifts(25, dst, src, blocks, mask); }
export function unpack26(dst: usize, src: usize, blocks: i32, mask: i32): void { lifts(26, dst, src, blocks, mask); }
export function unpack27(dst: usize, src: usize, blocks: i32, mask: i32): void { lifts(27, dst, src, blocks, mask); }
export function unpack28(dst: usize, src: usize, blocks: i32, mask: i32): void { lifts(28, dst, src, blocks, mask); }
export function unpack29(dst: usize, src: usize, blocks: i32, mask: i32): void { lifts(29, dst, src, blocks, mask); }
export function unpack30(dst: usize, src: usize, blocks: i32, mask: i32): void { lifts(30, dst, src, blocks, mask); }
export function unpack31(dst: usize, src: usize, blocks: i32, mask: i32): void { lifts(31, dst, src, blocks, mask); }

export function unpackBlocks(bits: i32, dst: usize, src: usize, blocks: i32): void {
  const mask = (1 << bits) - 1;
  switch (bits) {
    case 1: return unpack1(dst, src, blocks, mask); case 2: return unpack2(dst, src, blocks, mask); case 3: return unpack3(dst, src, blocks, mask);
    case 4: return unpack4(dst, src, blocks, mask); case 5: return unpack5(dst, src, blocks, mask); case 6: return unpack6(dst, src, blocks, mask);
    case 7: return unpack7(dst, src, blocks, mask); case 8: return unpack8(dst, src, blocks, mask); case 9: return unpack9(dst, src, blocks, mask);
    case 10: return unpack10(dst, src, blocks, mask); case 11: return unpack11(dst, src, blocks, mask); case 12: return unpack12(dst, src, blocks, mask);
    case 13: return unpack13(dst, src, blocks, mask); case 14: return unpack14(dst, src, blocks, mask); case 15: return unpack15(dst, src, blocks, mask);
    case 16: return unpack16(dst, src, blocks, mask); case 17: return unpack17(dst, src, blocks, mask); case 18: return unpack18(dst, src, blocks, mask);
    case 19: return unpack19(dst, src, blocks, mask); case 20: return unpack20(dst, src, blocks, mask); case 21: return unpack21(dst, src, blocks, mask);
    case 22: return unpack22(dst, src, blocks, mask); case 23: return unpack23(dst, src, blocks, mask); case 24: return unpack24(dst, src, blocks, mask);
    case 25: return unpack25(dst, src, blocks, mask); case 26: return unpack26(dst, src, blocks, mask); case 27: return unpack27(dst, src, blocks, mask);
    case 28: return unpack28(dst, src, blocks, mask); case 29: return unpack29(dst, src, blocks, mask); case 30: return unpack30(dst, src, blocks, mask);
    case 31: return unpack31(dst, src, blocks, mask);
  }
}

export function openSum1(dst: usize, mine: usize, src: usize, blocks: i32, mask: i32): void { opens(1, dst, mine, src, blocks, mask); }
export function openSum2(dst: usize, mine: usize, src: usize, blocks: i32, mask: i32): void { opens(2, dst, mine, src, blocks, mask); }
export function openSum3(dst: usize, mine: usize, src: usize, blocks: i32, mask: i32): void { opens(3, dst, mine, src, blocks, mask); }
export function openSum4(dst: usize, mine: usize, src: usize, blocks: i32, mask: i32): void { opens(4, dst, mine, src, blocks, mask); }
export function openSum5(dst: usize, mine: usize, src: usize, blocks: i32, mask: i32): void { opens(5, dst, mine, src, blocks, mask); }
export function openSum6(dst: usize, mine: usize, src: usize, blocks: i32, mask: i32): void { opens(6, dst, mine, src, blocks, mask); }
export function openSum7(dst: usize, mine: usize, src: usize, blocks: i32, mask: i32): void { opens(7, dst, mine, src, blocks, mask); }
export function openSum8(dst: usize, mine: usize, src: usize, blocks: i32, mask: i32): void { opens(8, dst, mine, src, blocks, mask); }
export function openSum9(dst: usize, mine: usize, src: usize, blocks: i32, mask: i32): void { opens(9, dst, mine, src, blocks, mask); }
export function openSum10(dst: usize, mine: usize, src: usize, blocks: i32, mask: i32): void { opens(10, dst, mine, src, blocks, mask); }
export function openSum11(dst: usize, mine: usize, src: usize, blocks: i32, mask: i32): void { opens(11, dst, mine, src, blocks, mask); }
export function openSum12(dst: usize, mine: usize, src: usize, blocks: i32, mask: i32): void { opens(12, dst, mine, src, blocks, mask); }
export function openSum13(dst: usize, mine: usize, src: usize, blocks: i32, mask: i32): void { opens(13, dst, mine, src, blocks, mask); }
export function openSum14(dst: usize, mine: usize, src: usize, blocks: i32, mask: i32): void { opens(14, dst, mine, src, blocks, mask); }
export function openSum15(dst: usize, mine: usize, src: usize, blocks: i32, mask: i32): void { opens(15, dst, mine, src, blocks, mask); }
export function openSum16(dst: usize, mine: usize, src: usize, blocks: i32, mask: i32): void { opens(16, dst, mine, src, blocks, mask); }
export function openSum17(dst: usize, mine: usize, src: usize, blocks: i32, mask: i32): void { opens(17, dst, mine, src, blocks, mask); }
export function openSum18(dst: usize, mine: usize, src: usize, blocks: i32, mask: i32): void { opens(18, dst, mine, src, blocks, mask); }
export function openSum19(dst: usize, mine: usize, src: usize, blocks: i32, mask: i32): void { opens(19, dst, mine, src, blocks, mask); }
export function openSum20(dst: usize, mine: usize, src: usize, blocks: i32, mask: i32): void { opens(20, dst, mine, src, blocks, mask); }
export function openSum21(dst: usize, mine: usize, src: usize, blocks: i32, mask: i32): void { opens(21, dst, mine, src, blocks, mask); }
export function openSum22(dst: usize, mine: usize, src: usize, blocks: i32, mask: i32): void { opens(22, dst, mine, src, blocks, mask); }
export function openSum23(dst: usize, mine: usize, src: usize, blocks: i32, mask: i32): void { opens(23, dst, mine, src, blocks, mask); }
export function openSum24(dst: usize, mine: usize, src: usize, blocks: i32, mask: i32): void { opens(24, dst, mine, src, blocks, mask); }
export function openSum25(dst: usize, mine: usize, src: usize, blocks: i32, mask: i32): void { opens(25, dst, mine, src, blocks, mask); }
export function openSum26(dst: usize, mine: usize, src: usize, blocks: i32, mask: i32): void { opens(26, dst, mine, src, blocks, mask); }
export function openSum27(dst: usize, mine: usize, src: usize, blocks: i32, mask: i32): void { opens(27, dst, mine, src, blocks, mask); }
export function openSum28(dst: usize, mine: usize, src: usize, blocks: i32, mask: i32): void { opens(28, dst, mine, src, blocks, mask); }
export function openSum29(dst: usize, mine: usize, src: usize, blocks: i32, mask: i32): void { opens(29, dst, mine, src, blocks, mask); }
export function openSum30(dst: usize, mine: usize, src: usize, blocks: i32, mask: i32): void { opens(30, dst, mine, src, blocks, mask); }
export function openSum31(dst: usize, mine: usize, src: usize, blocks: i32, mask: i32): void { opens(31, dst, mine, src, blocks, mask); }

export function openSumBlocks(bits: i32, dst: usize, mine: usize, src: usize, blocks: i32): void {
  const mask = (1 << bits) - 1;
  switch (bits) {
    case 1: return openSum1(dst, mine, src, blocks, mask); case 2: return openSum2(dst, mine, src, blocks, mask); case 3: return openSum3(dst, mine, src, blocks, mask);
    case 4: return openSum4(dst, mine, src, blocks, mask); case 5: return openSum5(dst, mine, src, blocks, mask); case 6: return openSum6(dst, mine, src, blocks, mask);
    case 7: return openSum7(dst, mine, src, blocks, mask); case 8: return openSum8(dst, mine, src, blocks, mask); case 9: return openSum9(dst, mine, src, blocks, mask);
    case 10: return openSum10(dst, mine, src, blocks, mask); case 11: return openSum11(dst, mine, src, blocks, mask); case 12: return openSum12(dst, mine, src, blocks, mask);
    case 13: return openSum13(dst, mine, src, blocks, mask); case 14: return openSum14(dst, mine, src, blocks, mask); case 15: return openSum15(dst, mine, src, blocks, mask);
    case 16: return openSum16(dst, mine, src, blocks, mask); case 17: return openSum17(dst, mine, src, blocks, mask); case 18: return openSum18(dst, mine, src, blocks, mask);
    case 19: return openSum19(dst, mine, src, blocks, mask); case 20: return openSum20(dst, mine, src, blocks, mask); case 21: return openSum21(dst, mine, src, blocks, mask);
    case 22: return openSum22(dst, mine, src, blocks, mask); case 23: return openSum23(dst, mine, src, blocks, mask); case 24: return openSum24(dst, mine, src, blocks, mask);
    case 25: return openSum25(dst, mine, src, blocks, mask); case 26: return openSum26(dst, mine, src, blocks, mask); case 27: return openSum27(dst, mine, src, blocks, mask);
    case 28: return openSum28(dst, mine, src, blocks, mask); case 29: return openSum29(dst, mine, src, blocks, mask); case 30: return openSum30(dst, mine, src, blocks, mask);
    case 31: return openSum31(dst, mine, src, blocks, mask);
  }
}

export function pack1(dst: usize, src: usize, blocks: i32, mask: i32): void { packs(1, dst, src, blocks, mask); }
export function pack2(dst: usize, src: usize, blocks: i32, mask: i32): void { packs(2, dst, src, blocks, mask); }
export function pack3(dst: usize, src: usize, blocks: i32, mask: i32): void { packs(3, dst, src, blocks, mask); }
export function pack4(dst: usize, src: usize, blocks: i32, mask: i32): void { packs(4, dst, src, blocks, mask); }
export function pack5(dst: usize, src: usize, blocks: i32, mask: i32): void { packs(5, dst, src, blocks, mask); }
export function pack6(dst: usize, src: usize, blocks: i32, mask: i32): void { packs(6, dst, src, blocks, mask); }
export function pack7(dst: usize, src: usize, blocks: i32, mask: i32): void { packs(7, dst, src, blocks, mask); }
export function pack8(dst: usize, src: usize, blocks: i32, mask: i32): void { packs(8, dst, src, blocks, mask); }
export function pack9(dst: usize, src: usize, blocks: i32, mask: i32): void { packs(9, dst, src, blocks, mask); }
export function pack10(dst: usize, src: usize, blocks: i32, mask: i32): void { packs(10, dst, src, blocks, mask); }
export function pack11(dst: usize, src: usize, blocks: i32, mask: i32): void { packs(11, dst, src, blocks, mask); }
export function pack12(dst: usize, src: usize, blocks: i32, mask: i32): void { packs(12, dst, src, blocks, mask); }
export function pack13(dst: usize, src: usize, blocks: i32, mask: i32): void { packs(13, dst, src, blocks, mask); }
export function pack14(dst: usize, src: usize, blocks: i32, mask: i32): void { packs(14, dst, src, blocks, mask); }
export function pack15(dst: usize, src: usize, blocks: i32, mask: i32): void { packs(15, dst, src, blocks, mask); }
export function pack16(dst: usize, src: usize, blocks: i32, mask: i32): void { packs(16, dst, src, blocks, mask); }
export function pack17(dst: usize, src: usize, blocks: i32, mask: i32): void { packs(17, dst, src, blocks, mask); }
export function pack18(dst: usize, src: usize, blocks: i32, mask: i32): void { packs(18, dst, src, blocks, mask); }
export function pack19(dst: usize, src: usize, blocks: i32, mask: i32): void { packs(19, dst, src, blocks, mask); }
export function pack20(dst: usize, src: usize, blocks: i32, mask: i32): void { packs(20, dst, src, blocks, mask); }
export function pack21(dst: usize, src: usize, blocks: i32, mask: i32): void { packs(21, dst, src, blocks, mask); }
export function pack22(dst: usize, src: usize, blocks: i32, mask: i32): void { packs(22, dst, src, blocks, mask); }
export function pack23(dst: usize, src: usize, blocks: i32, mask: i32): void { packs(23, dst, src, blocks, mask); }
export function pack24(dst: usize, src: usize, blocks: i32, mask: i32): void { packs(24, dst, src, blocks, mask); }
export function pack25(dst: usize, src: usize, blocks: i32, mask: i32): void { packs(25, dst, src, blocks, mask); }
export function pack26(dst: usize, src: usize, blocks: i32, mask: i32): void { packs(26, dst, src, blocks, mask); }
export function pack27(dst: usize, src: usize, blocks: i32, mask: i32): void { packs(27, dst, src, blocks, mask); }
export function pack28(dst: usize, src: usize, blocks: i32, mask: i32): void { packs(28, dst, src, blocks, mask); }
export function pack29(dst: usize, src: usize, blocks: i32, mask: i32): void { packs(29, dst, src, blocks, mask); }
export function pack30(dst: usize, src: usize, blocks: i32, mask: i32): void { packs(30, dst, src, blocks, mask); }
export function pack31(dst: usize, src: usize, blocks: i32, mask: i32): void { packs(31, dst, src, blocks, mask); }

export function packBlocks(bits: i32, dst: usize, src: usize, blocks: i32): void {
  const mask = (1 << bits) - 1;
  switch (bits) {
    case 1: return pack1(dst, src, blocks, mask); case 2: return pack2(dst, src, blocks, mask); case 3: return pack3(dst, src, blocks, mask);
    case 4: return pack4(dst, src, blocks, mask); case 5: return pack5(dst, src, blocks, mask); case 6: return pack6(dst, src, blocks, mask);
    case 7: return pack7(dst, src, blocks, mask); case 8: return pack8(dst, src, blocks, mask); case 9: return pack9(dst, src, blocks, mask);
    case 10: return pack10(dst, src, blocks, mask); case 11: return pack11(dst, src, blocks, mask); case 12: return pack12(dst, src, blocks, mask);
    case 13: return pack13(dst, src, blocks, mask); case 14: return pack14(dst, src, blocks, mask); case 15: return pack15(dst, src, blocks, mask);
    case 16: return pack16(dst, src, blocks, mask); case 17: return pack17(dst, src, blocks, mask); case 18: return pack18(dst, src, blocks, mask);
    case 19: return pack19(dst, src, blocks, mask); case 20: return pack20(dst, src, blocks, mask); case 21: return pack21(dst, src, blocks, mask);
    case 22: return pack22(dst, src, blocks, mask); case 23: return pack23(dst, src, blocks, mask); case 24: return pack24(dst, src, blocks, mask);
    case 25: return pack25(dst, src, blocks, mask); case 26: return pack26(dst, src, blocks, mask); case 27: return pack27(dst, src, blocks, mask);
    case 28: return pack28(dst, src, blocks, mask); case 29: return pack29(dst, src, blocks, mask); case 30: return pack30(dst, src, blocks, mask);
    case 31: return pack31(dst, src, blocks, mask);
  }
}
