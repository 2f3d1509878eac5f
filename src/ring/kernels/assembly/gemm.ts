import { panelBytes, smallRow, unpackPanel } from "./small";
import { tile1, tile2, tile4 } from "./tiles";

/** Depth and height of a block of A. 384 × 16 words of B (24 KiB) stay in the first-level cache, a block of A in the second. */
const depth: i32 = 384;
const height: i32 = 192;
/** The tile that stands in for a partial panel of C lies first in scratch, then A's block, then a slice of a panel made words. */
const tileBytes: usize = 512;
const blockOfA: usize = 4 * 192 * 384;
/** A matrix of words, as packB leaves it. */
const words: i32 = 0;

/** Interleaves `rows` rows of A, k words each. */
@inline function interleave(dst: usize, A: usize, lda: usize, rows: i32, k: i32): void {
  let i = 0;
  if (rows == 4)
    for (; i + 4 <= k; i += 4) {
      const from = A + 4 * i;
      const a = v128.load(from), b = v128.load(from + lda), c = v128.load(from + 2 * lda), d = v128.load(from + 3 * lda);
      const ab = v128.shuffle<i32>(a, b, 0, 4, 1, 5), cd = v128.shuffle<i32>(c, d, 0, 4, 1, 5);
      const AB = v128.shuffle<i32>(a, b, 2, 6, 3, 7), CD = v128.shuffle<i32>(c, d, 2, 6, 3, 7);
      const to = dst + 4 * i * rows;
      const step = 4 * (rows as usize);
      v128.store(to, v128.shuffle<i64>(ab, cd, 0, 2));
      v128.store(to + step, v128.shuffle<i64>(ab, cd, 1, 3));
      v128.store(to + 2 * step, v128.shuffle<i64>(AB, CD, 0, 2));
      v128.store(to + 3 * step, v128.shuffle<i64>(AB, CD, 1, 3));
    }
  for (; i < k; i++) for (let r = 0; r < rows; r++) store<i32>(dst + 4 * (i * rows + r), load<i32>(A + r * lda + 4 * i));
}

/** Rows of the next tile when `left` are left. Six rows would be as fast at 128 bits, but a quarter slower when paired to 256. */
@inline function tileRows(left: i32): i32 { return left > 3 ? 4 : left > 1 ? 2 : 1; }

@inline function tile<T>(rows: i32, C: usize, ldc: usize, A: usize, B: usize, k: i32, fresh: i32): void {
  if (rows == 4) tile4<T>(C, ldc, A, B, k, fresh);
  else if (rows == 2) tile2<T>(C, ldc, A, B, k, fresh);
  else tile1<T>(C, ldc, A, B, k, fresh);
}

/** A tile whose panel has fewer than 16 columns goes by way of scratch, so that nothing past C's edge is touched. */
function narrowTile<T>(rows: i32, C: usize, ldc: usize, A: usize, B: usize, k: i32, fresh: i32, columns: i32, buffer: usize): void {
  if (!fresh) for (let r = 0; r < rows; r++) memory.copy(buffer + 64 * r, C + r * ldc, 4 * columns);
  tile<T>(rows, buffer, 64, A, B, k, fresh);
  for (let r = 0; r < rows; r++) memory.copy(C + r * ldc, buffer + 64 * r, 4 * columns);
}

/** One row needs no interleaving and no blocks: B passes through once. */
function rowProduct<T>(C: usize, A: usize, B: usize, N: i32, K: i32, fresh: i32, buffer: usize): void {
  const panelBytes = 64 * (K as usize);
  for (let n = 0; n < N; n += 16) {
    if (n + 16 <= N) tile1<T>(C + 4 * n, 0, A, B, K, fresh);
    else narrowTile<T>(1, C + 4 * n, 0, A, B, K, fresh, N - n, buffer);
    B += panelBytes;
  }
}

/** Bytes that all of A may have to be interleaved at once; with a slice it stays below an eighth of the scratch. */
const mostOfA: i32 = 480 << 10;

/**
 * A few rows times panels that must be made words: panel by panel, so that each streams by once, in the order in which it lies in memory.
 * (Slice by slice over all panels, as below, 8 rows of a 4 GB model took twice the time.)
 */
function panelProduct(
  C: usize, ldc: usize, A: usize, lda: usize, B: usize, M: i32, N: i32, K: i32, accumulate: i32, scratch: usize, format: i32,
): void {
  const packed = scratch + tileBytes;
  const slice = packed + 4 * (((M * K + 15) & ~15) as usize);
  for (let k0 = 0; k0 < K; k0 += depth) {
    const k = min(depth, K - k0);
    for (let m = 0; m < M; ) {
      const rows = tileRows(M - m);
      const from = A + m * lda + 4 * k0, to = packed + 4 * (M * k0 + m * k);
      if (rows == 4) interleave(to, from, lda, 4, k);
      else interleave(to, from, lda, rows, k);
      m += rows;
    }
  }
  for (let n = 0; n < N; n += 16) {
    const columns = N - n;
    for (let k0 = 0; k0 < K; k0 += depth) {
      const k = min(depth, K - k0);
      const fresh = k0 == 0 && !accumulate;
      unpackPanel(slice, B, k0, k, format);
      for (let m = 0; m < M; ) {
        const rows = tileRows(M - m);
        const to = C + m * ldc + 4 * n, a = packed + 4 * (M * k0 + m * k);
        if (columns >= 16) tile<i32>(rows, to, ldc, a, slice, k, fresh);
        else narrowTile<i32>(rows, to, ldc, a, slice, k, fresh, columns, scratch);
        m += rows;
      }
    }
    B += panelBytes(K, format);
  }
}

function product<T>(
  C: usize, ldc: usize, A: usize, lda: usize, B: usize, M: i32, N: i32, K: i32, accumulate: i32, scratch: usize, format: i32,
): void {
  if (K == 0 && !accumulate) for (let m = 0; m < M; m++) memory.fill(C + m * ldc, 0, 4 * N);
  if (M == 1) {
    if (format == words) rowProduct<T>(C, A, B, N, K, !accumulate, scratch);
    else smallRow(C, A, B, N, K, format, !accumulate, scratch);
    return;
  }
  if (format != words && 4 * M * K <= mostOfA) return panelProduct(C, ldc, A, lda, B, M, N, K, accumulate, scratch, format);
  const packed = scratch + tileBytes, slice = packed + blockOfA;
  const panel = format == words ? 64 * (K as usize) : panelBytes(K, format);
  for (let k0 = 0; k0 < K; k0 += depth) {
    const k = min(depth, K - k0);
    const fresh = k0 == 0 && !accumulate;
    for (let m0 = 0; m0 < M; m0 += height) {
      const m1 = min(M, m0 + height);
      for (let m = m0; m < m1; ) {
        const rows = tileRows(m1 - m);
        const from = A + m * lda + 4 * k0, to = packed + 4 * ((m - m0) * k);
        if (rows == 4) interleave(to, from, lda, 4, k);
        else interleave(to, from, lda, rows, k);
        m += rows;
      }
      let from = B;
      for (let n = 0; n < N; n += 16) {
        const columns = N - n;
        if (format != words) unpackPanel(slice, from, k0, k, format);
        const b = format == words ? from + 64 * k0 : slice;
        for (let m = m0; m < m1; ) {
          const rows = tileRows(m1 - m);
          const to = C + m * ldc + 4 * n, a = packed + 4 * ((m - m0) * k);
          if (columns >= 16) tile<T>(rows, to, ldc, a, b, k, fresh);
          else narrowTile<T>(rows, to, ldc, a, b, k, fresh, columns, scratch);
          m += rows;
        }
        from += panel;
      }
    }
  }
}

export function gemm(
  C: usize, ldc: usize, A: usize, lda: usize, B: usize, M: i32, N: i32, K: i32, accumulate: i32, scratch: usize,
): void {
  product<i32>(C, 4 * ldc, A, 4 * lda, B, M, N, K, accumulate, scratch, words);
}
export function gemmSmall(
  C: usize, ldc: usize, A: usize, lda: usize, B: usize, format: i32, M: i32, N: i32, K: i32, accumulate: i32, scratch: usize,
): void {
  product<i32>(C, 4 * ldc, A, 4 * lda, B, M, N, K, accumulate, scratch, format);
}
export function gemmF32(
  C: usize, ldc: usize, A: usize, lda: usize, B: usize, M: i32, N: i32, K: i32, accumulate: i32, scratch: usize,
): void {
  product<f32>(C, 4 * ldc, A, 4 * lda, B, M, N, K, accumulate, scratch, words);
}

@inline function element(src: usize, bytes: i32, i: usize): i32 {
  if (bytes == 1) return load<i8>(src + i);
  if (bytes == 2) return load<i16>(src + 2 * i);
  return load<i32>(src + 4 * i);
}

export function packB(dst: usize, src: usize, K: i32, N: i32, ld: usize, transposed: i32, bytes: i32): void {
  for (let n = 0; n < N; n += 16) {
    const columns = min(16, N - n);
    if (bytes == 4 && transposed && columns == 16) {
      // The panel is the transpose of 16 rows of src.
      let k = 0;
      for (; k + 4 <= K; k += 4)
        for (let j = 0; j < 16; j += 4) {
          const from = src + 4 * ((n + j) * ld + k);
          const a = v128.load(from), b = v128.load(from + 4 * ld), c = v128.load(from + 8 * ld), d = v128.load(from + 12 * ld);
          const ab = v128.shuffle<i32>(a, b, 0, 4, 1, 5), cd = v128.shuffle<i32>(c, d, 0, 4, 1, 5);
          const AB = v128.shuffle<i32>(a, b, 2, 6, 3, 7), CD = v128.shuffle<i32>(c, d, 2, 6, 3, 7);
          const to = dst + 64 * k + 4 * j;
          v128.store(to, v128.shuffle<i64>(ab, cd, 0, 2));
          v128.store(to, v128.shuffle<i64>(ab, cd, 1, 3), 64);
          v128.store(to, v128.shuffle<i64>(AB, CD, 0, 2), 128);
          v128.store(to, v128.shuffle<i64>(AB, CD, 1, 3), 192);
        }
      for (; k < K; k++) for (let j = 0; j < 16; j++) store<i32>(dst + 64 * k + 4 * j, load<i32>(src + 4 * ((n + j) * ld + k)));
    } else if (!transposed && columns == 16) {
      for (let k = 0; k < K; k++) {
        const from = src + (k * ld + n) * bytes, to = dst + 64 * k;
        if (bytes == 4) for (let j = 0; j < 64; j += 16) v128.store(to + j, v128.load(from + j));
        else if (bytes == 2) for (let j = 0; j < 64; j += 16) v128.store(to + j, v128.load16x4_s(from + (j >> 1)));
        else
          for (let j = 0; j < 64; j += 16) v128.store(to + j, i32x4.extend_low_i16x8_s(i16x8.extend_low_i8x16_s(v128.load32_zero(from + (j >> 2)))));
      }
    } else {
      for (let k = 0; k < K; k++)
        for (let j = 0; j < 16; j++) {
          const i = transposed ? (n + j) * ld + k : k * ld + (n + j);
          store<i32>(dst + 64 * k + 4 * j, j < columns ? element(src, bytes, i) : 0);
        }
    }
    dst += 64 * (K as usize);
  }
}
export function packBF32(dst: usize, src: usize, K: i32, N: i32, ld: usize, transposed: i32): void {
  packB(dst, src, K, N, ld, transposed, 4);
}
