/**
 * Hermitian positive definite Toeplitz systems in double precision: the normal equations of a ridge fit by e^(ikθ).
 *
 * Schur's algorithm makes the Cholesky factor in n² steps, where elimination takes n³/6. For the shift Z, T − Z·T·Zᵀ = u·uᴴ − v·vᴴ, and one
 * hyperbolic rotation of u and v a column gives L. In the mixed form below L·Lᴴ is T but for a few units in the last place, as for
 * elimination (A. W. Bojanczyk, R. P. Brent, F. R. de Hoog, D. R. Sweet, "On the stability of the Bareiss and related Toeplitz factorization
 * algorithms", SIAM J. Matrix Anal. Appl. 16, 1995). A ridge bounds the condition number by about (largest eigenvalue)/(ridge), 1e7 to 1e11
 * for the fits made here: the RESIDUAL of a fit keeps 9 or more digits even where single coefficients keep fewer, and nothing needs QR.
 */

export interface Complex {
  readonly re: Float64Array;
  readonly im: Float64Array;
}

export const zeros = (n: number): Complex => ({ re: new Float64Array(n), im: new Float64Array(n) });

/** L, lower triangular, column by column from the diagonal down. */
interface Factor extends Complex {
  readonly n: number;
}

/**
 * Solves (T + (ridge + extra)·I) x = b for one b after another.
 *
 * @param column T's first column, whose first entry is real
 * @returns what solves. `extra` is 0, or where T + ridge is not positive definite in double precision what makes it so: at first 1e-15 of
 *   T's diagonal, then tenfold
 * @throws RangeError where T's diagonal is not finite and positive, so that no ridge helps
 */
export function toeplitz(column: Complex, ridge: number): (b: Complex) => Complex {
  const top = column.re[0];
  for (let extra = 0; extra <= top && top < Infinity; extra = extra === 0 ? top * 1e-15 : extra * 10) {
    const factor = factorise(column, ridge + extra);
    if (factor) return (b) => substitute(factor, b);
    if (top === 0) break;
  }
  throw new RangeError('least squares: the samples are not finite');
}

function factorise({ re, im }: Complex, ridge: number): Factor | undefined {
  const n = re.length;
  const l = { n, ...zeros((n * (n + 1)) / 2) };
  const root = Math.sqrt(re[0] + ridge);
  if (!(root > 0)) return undefined;
  const u = { re: re.map((v) => v / root), im: im.map((v) => v / root) };
  u.re[0] = root;
  const v = { re: Float64Array.from(u.re), im: Float64Array.from(u.im) };
  l.re.set(u.re);
  l.im.set(u.im);
  for (let k = 1, at = n; k < n; at += n - k, k++) {
    // u has moved down by one: its entry 0 meets v's entry k.
    const p = v.re[k] / u.re[0];
    const q = v.im[k] / u.re[0];
    const size = Math.sqrt(p * p + q * q);
    if (!(size < 1)) return undefined;
    rotate(u, v, p, q, Math.sqrt((1 - size) * (1 + size)), k);
    l.re.set(u.re.subarray(0, n - k), at);
    l.im.set(u.im.subarray(0, n - k), at);
  }
  return l;
}

/** u ← (u − ρ̄·v)/s, then v ← s·v − ρ·u with the new u: with the old one it would lose the digits that cancel. ρ = p + iq, s² = 1 − |ρ|². */
function rotate(u: Complex, v: Complex, p: number, q: number, s: number, k: number): void {
  const { re: ur, im: ui } = u;
  const { re: vr, im: vi } = v;
  for (let i = k, j = 0; i < vr.length; i++, j++) {
    const a = (ur[j] - (p * vr[i] + q * vi[i])) / s;
    const b = (ui[j] - (p * vi[i] - q * vr[i])) / s;
    ur[j] = a;
    ui[j] = b;
    vr[i] = s * vr[i] - (p * a - q * b);
    vi[i] = s * vi[i] - (p * b + q * a);
  }
}

function substitute({ n, re, im }: Factor, b: Complex): Complex {
  const xr = Float64Array.from(b.re);
  const xi = Float64Array.from(b.im);
  let at = 0;
  for (let k = 0; k < n; at += n - k, k++) {
    const a = xr[k] / re[at];
    const c = xi[k] / re[at];
    xr[k] = a;
    xi[k] = c;
    for (let i = k + 1, j = at + 1; i < n; i++, j++) {
      xr[i] -= re[j] * a - im[j] * c;
      xi[i] -= re[j] * c + im[j] * a;
    }
  }
  for (let k = n - 1; k >= 0; k--) {
    at -= n - k;
    let a = xr[k];
    let c = xi[k];
    for (let i = k + 1, j = at + 1; i < n; i++, j++) {
      a -= re[j] * xr[i] + im[j] * xi[i];
      c -= re[j] * xi[i] - im[j] * xr[i];
    }
    xr[k] = a / re[at];
    xi[k] = c / re[at];
  }
  return { re: xr, im: xi };
}
