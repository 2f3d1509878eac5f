/**
 * Small dense symmetric positive definite systems in double precision: the normal equations of a ridge least-squares problem.
 *
 * A ridge bounds the condition number of the normal equations by about (largest eigenvalue)/(ridge), 1e7 to 1e11 for the fits
 * made here. Cholesky's backward error is a few units in the last place, so the RESIDUAL of a fit keeps 9 or more digits even
 * where single coefficients keep fewer: nothing needs QR.
 */

/**
 * Solves (A + diag(ridge)) x = rhs for several right-hand sides by Cholesky.
 *
 * @param a n×n symmetric, row-major; only the lower triangle is read, and it is kept
 * @param ridge n non-negative numbers added to the diagonal
 * @param rhs each of length n, kept
 * @returns one solution for each right-hand side. Where A + ridge is not positive definite in double precision the ridge grows
 *   tenfold (first to 1e-15 of the largest diagonal entry where it was smaller) until it is.
 * @throws RangeError where an entry is not finite, so that no ridge helps
 */
export function solveRidge(a: Float64Array, n: number, ridge: Float64Array, rhs: readonly Float64Array[]): Float64Array[] {
  let top = 0;
  for (let i = 0; i < n; i++) top = Math.max(top, a[i * n + i]);
  const factor = new Float64Array(n * n);
  for (let extra = 0; extra <= top; extra = extra === 0 ? top * 1e-15 : extra * 10) {
    factor.set(a);
    for (let i = 0; i < n; i++) factor[i * n + i] += ridge[i] + extra;
    if (!factorise(factor, n)) {
      if (top === 0 || !Number.isFinite(top)) break;
      continue;
    }
    return rhs.map((b) => substitute(factor, n, b));
  }
  throw new RangeError('least squares: the samples are not finite');
}

/** L with L·Lᵀ = A, row by row, in A's lower triangle; false at the first pivot that is not positive. */
function factorise(a: Float64Array, n: number): boolean {
  for (let i = 0; i < n; i++) {
    const ri = i * n;
    for (let j = 0; j <= i; j++) {
      const rj = j * n;
      // Four sums, so that one addition need not wait for the last: about twice as fast from n = 100 on.
      let s0 = 0;
      let s1 = 0;
      let s2 = 0;
      let s3 = 0;
      let k = 0;
      for (; k + 3 < j; k += 4) {
        s0 += a[ri + k] * a[rj + k];
        s1 += a[ri + k + 1] * a[rj + k + 1];
        s2 += a[ri + k + 2] * a[rj + k + 2];
        s3 += a[ri + k + 3] * a[rj + k + 3];
      }
      for (; k < j; k++) s0 += a[ri + k] * a[rj + k];
      const rest = a[ri + j] - (s0 + s1 + (s2 + s3));
      if (i !== j) a[ri + j] = rest / a[rj + j];
      else if (rest > 0 && rest < Infinity) a[ri + i] = Math.sqrt(rest);
      else return false;
    }
  }
  return true;
}

function substitute(l: Float64Array, n: number, rhs: Float64Array): Float64Array {
  const x = Float64Array.from(rhs);
  for (let i = 0; i < n; i++) {
    let s = x[i];
    for (let k = 0; k < i; k++) s -= l[i * n + k] * x[k];
    x[i] = s / l[i * n + i];
  }
  for (let i = n - 1; i >= 0; i--) {
    x[i] /= l[i * n + i];
    for (let k = 0; k < i; k++) x[k] -= l[i * n + k] * x[i];
  }
  return x;
}
