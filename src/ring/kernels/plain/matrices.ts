import type { Kernels, Ptr } from '../kernels.ts';
import type { Views } from '../memory.ts';
import { entryOf } from '../panels.ts';

type Names = 'packB' | 'gemm' | 'packHalves' | 'gemmSmall' | 'packBF32' | 'gemmF32';

/** Columns of a panel. */
const P = 16;

export function plainMatrices({ u8, u32, i32, f32 }: Views): Pick<Kernels, Names> {
  /** Signed element i of an array of bytes, halves or words. */
  const element = (p: Ptr, bytes: number, i: number): number => {
    if (bytes === 4) return i32[(p >>> 2) + i];
    if (bytes === 1) return (u8[p + i] << 24) >> 24;
    return ((u8[p + 2 * i] | (u8[p + 2 * i + 1] << 8)) << 16) >> 16;
  };

  /** Visits every place of the panels in order: (place, k, column), columns past N included. */
  const eachPlace = (K: number, N: number, visit: (place: number, k: number, n: number) => void): void => {
    for (let panel = 0, place = 0; panel < N; panel += P)
      for (let k = 0; k < K; k++) for (let j = 0; j < P; j++) visit(place++, k, panel + j);
  };

  const gemmWith = (
    C: Ptr,
    ldc: number,
    A: Ptr,
    lda: number,
    M: number,
    N: number,
    K: number,
    accumulate: number,
    b: (k: number, n: number) => number,
  ): void => {
    for (let m = 0; m < M; m++)
      for (let n = 0; n < N; n++) {
        let sum = accumulate ? i32[(C >>> 2) + m * ldc + n] : 0;
        for (let k = 0; k < K; k++) sum = (sum + Math.imul(i32[(A >>> 2) + m * lda + k], b(k, n))) | 0;
        i32[(C >>> 2) + m * ldc + n] = sum;
      }
  };
  const inPanel = (k: number, n: number, K: number): number => ((n >>> 4) * K + k) * P + (n & 15);
  return {
    packB(dst, src, K, N, ld, transposed, bytes) {
      eachPlace(K, N, (place, k, n) => {
        u32[(dst >>> 2) + place] = n < N ? element(src, bytes, transposed ? n * ld + k : k * ld + n) : 0;
      });
    },
    gemm(C, ldc, A, lda, B, M, N, K, accumulate) {
      gemmWith(C, ldc, A, lda, M, N, K, accumulate, (k, n) => i32[(B >>> 2) + inPanel(k, n, K)]);
    },
    packHalves(dst, src, K, N, ld, transposed) {
      for (let panel = 0, at = dst; panel < N; panel += P)
        for (let k = 0; k < K; k += 2)
          for (let j = 0; j < 2 * P; j++, at += 2) {
            const [row, column] = [k + (j & 1), panel + (j >> 1)];
            const value = row < K && column < N ? element(src, 2, transposed ? column * ld + row : row * ld + column) : 0;
            u8[at] = value;
            u8[at + 1] = value >> 8;
          }
    },
    gemmSmall(C, ldc, A, lda, B, format, M, N, K, accumulate) {
      gemmWith(C, ldc, A, lda, M, N, K, accumulate, (k, n) => entryOf(u8, B, format, K, k, n));
    },
    packBF32(dst, src, K, N, ld, transposed) {
      eachPlace(K, N, (place, k, n) => {
        f32[(dst >>> 2) + place] = n < N ? f32[(src >>> 2) + (transposed ? n * ld + k : k * ld + n)] : 0;
      });
    },
    gemmF32(C, ldc, A, lda, B, M, N, K, accumulate) {
      for (let m = 0; m < M; m++)
        for (let n = 0; n < N; n++) {
          let sum = accumulate ? f32[(C >>> 2) + m * ldc + n] : 0;
          for (let k = 0; k < K; k++)
            sum = Math.fround(sum + Math.fround(f32[(A >>> 2) + m * lda + k] * f32[(B >>> 2) + inPanel(k, n, K)]));
          f32[(C >>> 2) + m * ldc + n] = sum;
        }
    },
  };
}
