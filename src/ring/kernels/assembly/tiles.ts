/**
 * The innermost loops of a matrix product: a few rows of C times a panel of 16 columns, kept in registers over k. A's rows are packed
 * side by side, one word of each per k. Neighbouring vectors of a row do the same work on neighbouring memory, so an engine may pair
 * them. Each entry of C is summed in the order of k, so the float results do not depend on the tile.
 */
@inline function fused<T>(c: v128, a: v128, b: v128): v128 { return v128.add<T>(c, v128.mul<T>(a, b)); }

/** 4 × 16 of C. */
export function tile4<T>(C: usize, ldc: usize, A: usize, B: usize, k: i32, fresh: i32): void {
  const C1 = C + ldc, C2 = C1 + ldc, C3 = C2 + ldc;
  let c00 = i32x4.splat(0), c01 = i32x4.splat(0), c02 = i32x4.splat(0), c03 = i32x4.splat(0),
    c10 = i32x4.splat(0), c11 = i32x4.splat(0), c12 = i32x4.splat(0), c13 = i32x4.splat(0),
    c20 = i32x4.splat(0), c21 = i32x4.splat(0), c22 = i32x4.splat(0), c23 = i32x4.splat(0),
    c30 = i32x4.splat(0), c31 = i32x4.splat(0), c32 = i32x4.splat(0), c33 = i32x4.splat(0);
  if (!fresh) {
    c00 = v128.load(C); c01 = v128.load(C, 16); c02 = v128.load(C, 32); c03 = v128.load(C, 48);
    c10 = v128.load(C1); c11 = v128.load(C1, 16); c12 = v128.load(C1, 32); c13 = v128.load(C1, 48);
    c20 = v128.load(C2); c21 = v128.load(C2, 16); c22 = v128.load(C2, 32); c23 = v128.load(C2, 48);
    c30 = v128.load(C3); c31 = v128.load(C3, 16); c32 = v128.load(C3, 32); c33 = v128.load(C3, 48);
  }
  for (; k > 0; k--) {
    const b0 = v128.load(B), b1 = v128.load(B, 16), b2 = v128.load(B, 32), b3 = v128.load(B, 48);
    let a = v128.load32_splat(A);
    c00 = fused<T>(c00, a, b0); c01 = fused<T>(c01, a, b1); c02 = fused<T>(c02, a, b2); c03 = fused<T>(c03, a, b3);
    a = v128.load32_splat(A, 4);
    c10 = fused<T>(c10, a, b0); c11 = fused<T>(c11, a, b1); c12 = fused<T>(c12, a, b2); c13 = fused<T>(c13, a, b3);
    a = v128.load32_splat(A, 8);
    c20 = fused<T>(c20, a, b0); c21 = fused<T>(c21, a, b1); c22 = fused<T>(c22, a, b2); c23 = fused<T>(c23, a, b3);
    a = v128.load32_splat(A, 12);
    c30 = fused<T>(c30, a, b0); c31 = fused<T>(c31, a, b1); c32 = fused<T>(c32, a, b2); c33 = fused<T>(c33, a, b3);
    A += 16;
    B += 64;
  }
  v128.store(C, c00); v128.store(C, c01, 16); v128.store(C, c02, 32); v128.store(C, c03, 48);
  v128.store(C1, c10); v128.store(C1, c11, 16); v128.store(C1, c12, 32); v128.store(C1, c13, 48);
  v128.store(C2, c20); v128.store(C2, c21, 16); v128.store(C2, c22, 32); v128.store(C2, c23, 48);
  v128.store(C3, c30); v128.store(C3, c31, 16); v128.store(C3, c32, 32); v128.store(C3, c33, 48);
}

/** 2 × 16 of C. */
export function tile2<T>(C: usize, ldc: usize, A: usize, B: usize, k: i32, fresh: i32): void {
  const C1 = C + ldc;
  let c00 = i32x4.splat(0), c01 = i32x4.splat(0), c02 = i32x4.splat(0), c03 = i32x4.splat(0),
    c10 = i32x4.splat(0), c11 = i32x4.splat(0), c12 = i32x4.splat(0), c13 = i32x4.splat(0);
  if (!fresh) {
    c00 = v128.load(C); c01 = v128.load(C, 16); c02 = v128.load(C, 32); c03 = v128.load(C, 48);
    c10 = v128.load(C1); c11 = v128.load(C1, 16); c12 = v128.load(C1, 32); c13 = v128.load(C1, 48);
  }
  for (; k > 0; k--) {
    const b0 = v128.load(B), b1 = v128.load(B, 16), b2 = v128.load(B, 32), b3 = v128.load(B, 48);
    let a = v128.load32_splat(A);
    c00 = fused<T>(c00, a, b0); c01 = fused<T>(c01, a, b1); c02 = fused<T>(c02, a, b2); c03 = fused<T>(c03, a, b3);
    a = v128.load32_splat(A, 4);
    c10 = fused<T>(c10, a, b0); c11 = fused<T>(c11, a, b1); c12 = fused<T>(c12, a, b2); c13 = fused<T>(c13, a, b3);
    A += 8;
    B += 64;
  }
  v128.store(C, c00); v128.store(C, c01, 16); v128.store(C, c02, 32); v128.store(C, c03, 48);
  v128.store(C1, c10); v128.store(C1, c11, 16); v128.store(C1, c12, 32); v128.store(C1, c13, 48);
}

/** One row of C: A's words lie side by side, as in a row of an unpacked matrix. */
export function tile1<T>(C: usize, ldc: usize, A: usize, B: usize, k: i32, fresh: i32): void {
  let c00 = i32x4.splat(0), c01 = i32x4.splat(0), c02 = i32x4.splat(0), c03 = i32x4.splat(0);
  if (!fresh) {
    c00 = v128.load(C); c01 = v128.load(C, 16); c02 = v128.load(C, 32); c03 = v128.load(C, 48);
  }
  for (; k > 0; k--) {
    const b0 = v128.load(B), b1 = v128.load(B, 16), b2 = v128.load(B, 32), b3 = v128.load(B, 48);
    let a = v128.load32_splat(A);
    c00 = fused<T>(c00, a, b0); c01 = fused<T>(c01, a, b1); c02 = fused<T>(c02, a, b2); c03 = fused<T>(c03, a, b3);
    A += 4;
    B += 64;
  }
  v128.store(C, c00); v128.store(C, c01, 16); v128.store(C, c02, 32); v128.store(C, c03, 48);
}
