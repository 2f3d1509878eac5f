/**
 * Products with a public matrix kept in few bits (kernels.ts, Panel): 16 columns a panel, two rows side by side, so that one pairwise dot
 * product of halves serves a column; a word x is split as 2^16·high + low with low signed, and the two sums meet at the end. One row goes
 * through the panels as they are; for more, gemm.ts makes words of a slice of a panel at a time.
 */
const halves: i32 = 2;
const blocks4: i32 = 4;
const pairs8: i32 = 16;
/** Rows of a block, and bytes of its scales and minima (pairs8: scales and scales). */
const blockRows: i32 = 32;
const blockHead: usize = 64;

@inline function blockBytes(format: i32): usize { return blockHead + (format == blocks4 ? 256 : 512); }

/** Bytes of one panel of K rows. */
@inline export function panelBytes(K: i32, format: i32): usize {
  return format == halves ? 64 * (((K + 1) >> 1) as usize) : ((K / blockRows) as usize) * blockBytes(format);
}

export function packHalves(dst: usize, src: usize, K: i32, N: i32, ld: usize, transposed: i32): void {
  for (let n = 0; n < N; n += 16)
    for (let k = 0; k < K; k += 2)
      for (let j = 0; j < 32; j++) {
        const row = k + (j & 1), column = n + (j >> 1);
        const i = transposed ? column * ld + row : row * ld + column;
        store<i16>(dst, row < K && column < N ? load<i16>(src + 2 * i) : 0);
        dst += 2;
      }
}

/** Neighbours of two rows, 8 columns of halves, as words: 8 of row k at dst, 8 of row k+1 at dst + 64. */
@inline function spread(dst: usize, a: v128, b: v128): void {
  v128.store(dst, i32x4.shr_s(i32x4.shl(a, 16), 16));
  v128.store(dst, i32x4.shr_s(i32x4.shl(b, 16), 16), 16);
  v128.store(dst, i32x4.shr_s(a, 16), 64);
  v128.store(dst, i32x4.shr_s(b, 16), 80);
}

/** scale·q + min of two rows, 8 columns: q as halves, the two rows' side by side. */
@inline function scaled(dst: usize, a: v128, b: v128, s0: v128, s1: v128, m0: v128, m1: v128): void {
  v128.store(dst, i32x4.add(i32x4.mul(i32x4.shr_s(i32x4.shl(a, 16), 16), s0), m0));
  v128.store(dst, i32x4.add(i32x4.mul(i32x4.shr_s(i32x4.shl(b, 16), 16), s1), m1), 16);
  v128.store(dst, i32x4.add(i32x4.mul(i32x4.shr_s(a, 16), s0), m0), 64);
  v128.store(dst, i32x4.add(i32x4.mul(i32x4.shr_s(b, 16), s1), m1), 80);
}

/** entry + min of two rows, 8 columns. */
@inline function raised(dst: usize, a: v128, b: v128, m0: v128, m1: v128): void {
  v128.store(dst, i32x4.add(i32x4.shr_s(i32x4.shl(a, 16), 16), m0));
  v128.store(dst, i32x4.add(i32x4.shr_s(i32x4.shl(b, 16), 16), m1), 16);
  v128.store(dst, i32x4.add(i32x4.shr_s(a, 16), m0), 64);
  v128.store(dst, i32x4.add(i32x4.shr_s(b, 16), m1), 80);
}

/** Signed bytes as halves, times 2^8: then q15mulr is round(byte·scale / 2^7). */
@inline function lowBytes(v: v128): v128 { return v128.shuffle<i8>(i8x16.splat(0), v, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23); }
@inline function highBytes(v: v128): v128 { return v128.shuffle<i8>(i8x16.splat(0), v, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31); }
/** Scales of 4 columns beside themselves, as the rows' pairs want them. */
@inline function lowPairs(v: v128): v128 { return v128.shuffle<i16>(v, v, 0, 0, 1, 1, 2, 2, 3, 3); }
@inline function highPairs(v: v128): v128 { return v128.shuffle<i16>(v, v, 4, 4, 5, 5, 6, 6, 7, 7); }

/** Rows k0 … k0+k−1 of a panel as words, 16 a row, with room for one row more. k0 is even, or a multiple of 32 for blocks. */
export function unpackPanel(dst: usize, panel: usize, k0: i32, k: i32, format: i32): void {
  if (format == halves) {
    let from = panel + 32 * (k0 as usize);
    for (let i = 0; i < k; i += 2) {
      spread(dst, v128.load(from), v128.load(from, 16));
      spread(dst + 32, v128.load(from, 32), v128.load(from, 48));
      dst += 128;
      from += 64;
    }
    return;
  }
  const nibble = i8x16.splat(15);
  let block = panel + ((k0 / blockRows) as usize) * blockBytes(format);
  for (let i = 0; i < k; i += blockRows) {
    for (let h: usize = 0; h < 2; h++) {
      let m0 = v128.load16x4_s(block + 16 * h, 32), m1 = v128.load16x4_s(block + 16 * h, 40);
      const to = dst + 32 * h;
      if (format == blocks4) {
        const s0 = v128.load16x4_s(block + 16 * h), s1 = v128.load16x4_s(block + 16 * h, 8);
        for (let r: usize = 0; r < 8; r++) {
          const v = v128.load(block + blockHead + 32 * r + 16 * h);
          const a = v128.and(v, nibble), b = v128.and(i16x8.shr_u(v, 4), nibble);
          scaled(to + 128 * r, i16x8.extend_low_i8x16_u(a), i16x8.extend_high_i8x16_u(a), s0, s1, m0, m1);
          scaled(to + 128 * (r + 8), i16x8.extend_low_i8x16_u(b), i16x8.extend_high_i8x16_u(b), s0, s1, m0, m1);
        }
      } else {
        if (format == pairs8) m0 = m1 = i32x4.splat(0);
        for (let r: usize = 0; r < 16; ) {
          const s = v128.load(block + 16 * h + (format == pairs8 ? 4 * r : 0));
          const low = lowPairs(s), high = highPairs(s);
          for (const end = r + 8; r < end; r++) {
            const v = v128.load(block + blockHead + 32 * r + 16 * h);
            raised(to + 128 * r, i16x8.q15mulr_sat_s(lowBytes(v), low), i16x8.q15mulr_sat_s(highBytes(v), high), m0, m1);
          }
        }
      }
    }
    dst += 64 * blockRows;
    block += blockBytes(format);
  }
}

/** Pairs of halves of a row: word 2q holds the low halves of x[2q] and x[2q+1], word 2q + 1 the high ones. */
function splitRow(dst: usize, A: usize, K: i32): void {
  for (let k = 0; k < K; k += 2) {
    const a = load<i32>(A + 4 * k), b = k + 1 < K ? load<i32>(A + 4 * k, 4) : 0;
    const lowA = (a << 16) >> 16, lowB = (b << 16) >> 16;
    store<i32>(dst + 4 * k, (lowA & 0xffff) | (lowB << 16));
    store<i32>(dst + 4 * k, (((a - lowA) as u32) >> 16) | ((b - lowB) & 0xffff0000), 4);
  }
}

/** Σ of the 32 words of each block. */
function blockSums(dst: usize, A: usize, K: i32): void {
  for (let k = 0; k < K; k += blockRows) {
    let sum = 0;
    for (let i = 0; i < blockRows; i++) sum += load<i32>(A + 4 * (k + i));
    store<i32>(dst, sum);
    dst += 4;
  }
}

@inline function dots(sum: v128, b: v128, x: v128): v128 { return i32x4.add(sum, i32x4.dot_i16x8_s(b, x)); }
@inline function met(low: v128, high: v128): v128 { return i32x4.add(low, i32x4.shl(high, 16)); }

/** One row times a panel of halves: 16 words at `to`. */
function halvesRow(to: usize, x: usize, B: usize, pairs: i32, fresh: i32): void {
  let l0 = i32x4.splat(0), l1 = l0, l2 = l0, l3 = l0, h0 = l0, h1 = l0, h2 = l0, h3 = l0;
  for (let q = 0; q < pairs; q++) {
    const low = v128.load32_splat(x), high = v128.load32_splat(x, 4);
    const b0 = v128.load(B), b1 = v128.load(B, 16), b2 = v128.load(B, 32), b3 = v128.load(B, 48);
    l0 = dots(l0, b0, low); l1 = dots(l1, b1, low); l2 = dots(l2, b2, low); l3 = dots(l3, b3, low);
    h0 = dots(h0, b0, high); h1 = dots(h1, b1, high); h2 = dots(h2, b2, high); h3 = dots(h3, b3, high);
    x += 8;
    B += 64;
  }
  if (!fresh) {
    l0 = i32x4.add(l0, v128.load(to)); l1 = i32x4.add(l1, v128.load(to, 16));
    l2 = i32x4.add(l2, v128.load(to, 32)); l3 = i32x4.add(l3, v128.load(to, 48));
  }
  v128.store(to, met(l0, h0)); v128.store(to, met(l1, h1), 16); v128.store(to, met(l2, h2), 32); v128.store(to, met(l3, h3), 48);
}

/** One row times a panel of blocks of 4 bits: within a block Σ q·x and Σ x, then scale and min once. */
function blocks4Row(to: usize, x: usize, sums: usize, B: usize, blocks: i32, fresh: i32): void {
  const nibble = i8x16.splat(15);
  let t0 = i32x4.splat(0), t1 = t0, t2 = t0, t3 = t0;
  if (!fresh) { t0 = v128.load(to); t1 = v128.load(to, 16); t2 = v128.load(to, 32); t3 = v128.load(to, 48); }
  for (let block = 0; block < blocks; block++) {
    let l0 = i32x4.splat(0), l1 = l0, l2 = l0, l3 = l0, h0 = l0, h1 = l0, h2 = l0, h3 = l0;
    let q = B + blockHead;
    for (let r = 0; r < 8; r++) {
      const v = v128.load(q), w = v128.load(q, 16);
      let low = v128.load32_splat(x), high = v128.load32_splat(x, 4);
      const a = v128.and(v, nibble), b = v128.and(w, nibble);
      let b0 = i16x8.extend_low_i8x16_u(a), b1 = i16x8.extend_high_i8x16_u(a), b2 = i16x8.extend_low_i8x16_u(b), b3 = i16x8.extend_high_i8x16_u(b);
      l0 = dots(l0, b0, low); l1 = dots(l1, b1, low); l2 = dots(l2, b2, low); l3 = dots(l3, b3, low);
      h0 = dots(h0, b0, high); h1 = dots(h1, b1, high); h2 = dots(h2, b2, high); h3 = dots(h3, b3, high);
      low = v128.load32_splat(x, 64); high = v128.load32_splat(x, 68);
      const c = v128.and(i16x8.shr_u(v, 4), nibble), d = v128.and(i16x8.shr_u(w, 4), nibble);
      b0 = i16x8.extend_low_i8x16_u(c); b1 = i16x8.extend_high_i8x16_u(c); b2 = i16x8.extend_low_i8x16_u(d); b3 = i16x8.extend_high_i8x16_u(d);
      l0 = dots(l0, b0, low); l1 = dots(l1, b1, low); l2 = dots(l2, b2, low); l3 = dots(l3, b3, low);
      h0 = dots(h0, b0, high); h1 = dots(h1, b1, high); h2 = dots(h2, b2, high); h3 = dots(h3, b3, high);
      x += 8;
      q += 32;
    }
    x += 64;
    const sum = v128.load32_splat(sums);
    t0 = i32x4.add(t0, i32x4.add(i32x4.mul(met(l0, h0), v128.load16x4_s(B)), i32x4.mul(sum, v128.load16x4_s(B, 32))));
    t1 = i32x4.add(t1, i32x4.add(i32x4.mul(met(l1, h1), v128.load16x4_s(B, 8)), i32x4.mul(sum, v128.load16x4_s(B, 40))));
    t2 = i32x4.add(t2, i32x4.add(i32x4.mul(met(l2, h2), v128.load16x4_s(B, 16)), i32x4.mul(sum, v128.load16x4_s(B, 48))));
    t3 = i32x4.add(t3, i32x4.add(i32x4.mul(met(l3, h3), v128.load16x4_s(B, 24)), i32x4.mul(sum, v128.load16x4_s(B, 56))));
    sums += 4;
    B = q;
  }
  v128.store(to, t0); v128.store(to, t1, 16); v128.store(to, t2, 32); v128.store(to, t3, 48);
}

/** One row times a panel of blocks of 8 bits: a byte times its scale is a half again, so sums run on over blocks; a block's min meets Σ x. pairs: other scales for rows 16 … 31, no min. */
@inline function bytesRow(to: usize, x: usize, sums: usize, B: usize, blocks: i32, fresh: i32, pairs: bool): void {
  const parts = pairs ? 2 : 1, rows = pairs ? 8 : 16;
  let l0 = i32x4.splat(0), l1 = l0, l2 = l0, l3 = l0, h0 = l0, h1 = l0, h2 = l0, h3 = l0;
  if (!fresh) { l0 = v128.load(to); l1 = v128.load(to, 16); l2 = v128.load(to, 32); l3 = v128.load(to, 48); }
  for (let block = 0; block < blocks; block++) {
    if (!pairs) {
      const sum = v128.load32_splat(sums);
      l0 = i32x4.add(l0, i32x4.mul(sum, v128.load16x4_s(B, 32))); l1 = i32x4.add(l1, i32x4.mul(sum, v128.load16x4_s(B, 40)));
      l2 = i32x4.add(l2, i32x4.mul(sum, v128.load16x4_s(B, 48))); l3 = i32x4.add(l3, i32x4.mul(sum, v128.load16x4_s(B, 56)));
      sums += 4;
    }
    let q = B + blockHead;
    for (let part = 0; part < parts; part++) {
      const s = v128.load(B), t = v128.load(B, 16);
      const s0 = lowPairs(s), s1 = highPairs(s), s2 = lowPairs(t), s3 = highPairs(t);
      for (let r = 0; r < rows; r++) {
        const low = v128.load32_splat(x), high = v128.load32_splat(x, 4);
        const v = v128.load(q), w = v128.load(q, 16);
        const b0 = i16x8.q15mulr_sat_s(lowBytes(v), s0), b1 = i16x8.q15mulr_sat_s(highBytes(v), s1);
        const b2 = i16x8.q15mulr_sat_s(lowBytes(w), s2), b3 = i16x8.q15mulr_sat_s(highBytes(w), s3);
        l0 = dots(l0, b0, low); l1 = dots(l1, b1, low); l2 = dots(l2, b2, low); l3 = dots(l3, b3, low);
        h0 = dots(h0, b0, high); h1 = dots(h1, b1, high); h2 = dots(h2, b2, high); h3 = dots(h3, b3, high);
        x += 8;
        q += 32;
      }
      B += 32;
    }
    B = q;
  }
  v128.store(to, met(l0, h0)); v128.store(to, met(l1, h1), 16); v128.store(to, met(l2, h2), 32); v128.store(to, met(l3, h3), 48);
}

function blocks8Row(to: usize, x: usize, sums: usize, B: usize, blocks: i32, fresh: i32): void { bytesRow(to, x, sums, B, blocks, fresh, false); }
function pairs8Row(to: usize, x: usize, B: usize, blocks: i32, fresh: i32): void { bytesRow(to, x, 0, B, blocks, fresh, true); }

/** C[N] (+)= A[K]·B. scratch: 64 bytes, the split row, the sums of its blocks. */
export function smallRow(C: usize, A: usize, B: usize, N: i32, K: i32, format: i32, fresh: i32, scratch: usize): void {
  const pairs = (K + 1) >> 1;
  const x = scratch + 64, sums = x + 8 * pairs;
  splitRow(x, A, K);
  if (format != halves && format != pairs8) blockSums(sums, A, K);
  for (let n = 0; n < N; n += 16) {
    const columns = min(16, N - n);
    const to = columns == 16 ? C + 4 * n : scratch;
    if (!fresh && columns < 16) memory.copy(to, C + 4 * n, 4 * columns);
    if (format == halves) halvesRow(to, x, B, pairs, fresh);
    else if (format == blocks4) blocks4Row(to, x, sums, B, K / blockRows, fresh);
    else if (format == pairs8) pairs8Row(to, x, B, K / blockRows, fresh);
    else blocks8Row(to, x, sums, B, K / blockRows, fresh);
    if (columns < 16) memory.copy(C + 4 * n, to, 4 * columns);
    B += panelBytes(K, format);
  }
}
