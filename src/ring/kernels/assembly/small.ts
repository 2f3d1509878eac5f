/**
 * Products with a public matrix of signed bytes or halves. Panels of 16 columns hold two rows side by side, so that one pairwise dot
 * product of halves serves a column; a word x is split as 2^16·high + low with low signed, and the two sums meet at the end.
 */
export function packSmall(dst: usize, src: usize, K: i32, N: i32, ld: usize, transposed: i32, bytes: i32): void {
  for (let n = 0; n < N; n += 16)
    for (let k = 0; k < K; k += 2)
      for (let j = 0; j < 32; j++) {
        const row = k + (j & 1), column = n + (j >> 1);
        let value = 0;
        if (row < K && column < N) {
          const i = transposed ? column * ld + row : row * ld + column;
          value = bytes == 1 ? load<i8>(src + i) : load<i16>(src + 2 * i);
        }
        if (bytes == 1) store<i8>(dst, value as i8);
        else store<i16>(dst, value as i16);
        dst += bytes;
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

@inline function eight(B: usize, bytes: i32, j: i32): v128 {
  return bytes == 1 ? v128.load8x8_s(B + 8 * j) : v128.load(B + 16 * j);
}

@inline function smallRow(bytes: i32, C: usize, x: usize, B: usize, pairs: i32, N: i32, accumulate: i32, buffer: usize): void {
  for (let n = 0; n < N; n += 16) {
    let l0 = i32x4.splat(0), l1 = l0, l2 = l0, l3 = l0, h0 = l0, h1 = l0, h2 = l0, h3 = l0;
    let from = x;
    for (let q = 0; q < pairs; q++) {
      const low = v128.load32_splat(from), high = v128.load32_splat(from, 4);
      const b0 = eight(B, bytes, 0), b1 = eight(B, bytes, 1), b2 = eight(B, bytes, 2), b3 = eight(B, bytes, 3);
      l0 = i32x4.add(l0, i32x4.dot_i16x8_s(b0, low)); l1 = i32x4.add(l1, i32x4.dot_i16x8_s(b1, low));
      l2 = i32x4.add(l2, i32x4.dot_i16x8_s(b2, low)); l3 = i32x4.add(l3, i32x4.dot_i16x8_s(b3, low));
      h0 = i32x4.add(h0, i32x4.dot_i16x8_s(b0, high)); h1 = i32x4.add(h1, i32x4.dot_i16x8_s(b1, high));
      h2 = i32x4.add(h2, i32x4.dot_i16x8_s(b2, high)); h3 = i32x4.add(h3, i32x4.dot_i16x8_s(b3, high));
      from += 8;
      B += 32 * bytes;
    }
    const columns = min(16, N - n);
    const to = columns == 16 ? C + 4 * n : buffer;
    if (accumulate) {
      if (columns < 16) memory.copy(buffer, C + 4 * n, 4 * columns);
      l0 = i32x4.add(l0, v128.load(to)); l1 = i32x4.add(l1, v128.load(to, 16));
      l2 = i32x4.add(l2, v128.load(to, 32)); l3 = i32x4.add(l3, v128.load(to, 48));
    }
    v128.store(to, i32x4.add(l0, i32x4.shl(h0, 16))); v128.store(to, i32x4.add(l1, i32x4.shl(h1, 16)), 16);
    v128.store(to, i32x4.add(l2, i32x4.shl(h2, 16)), 32); v128.store(to, i32x4.add(l3, i32x4.shl(h3, 16)), 48);
    if (columns < 16) memory.copy(C + 4 * n, buffer, 4 * columns);
  }
}

export function gemmSmall(
  C: usize, ldc: usize, A: usize, lda: usize, B: usize, bytes: i32, M: i32, N: i32, K: i32, accumulate: i32, scratch: usize,
): void {
  const pairs = (K + 1) >> 1;
  for (let m = 0; m < M; m++) {
    splitRow(scratch + 64, A + 4 * m * lda, K);
    if (bytes == 1) smallRow(1, C + 4 * m * ldc, scratch + 64, B, pairs, N, accumulate, scratch);
    else smallRow(2, C + 4 * m * ldc, scratch + 64, B, pairs, N, accumulate, scratch);
  }
}
