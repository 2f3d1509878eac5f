import type { Kernels, Ptr } from '../kernels.ts';
import type { Views } from '../memory.ts';

export function plainProducts({ u32, i32 }: Views): Pick<Kernels, 'mulWires' | 'squareWire' | 'rowSquares'> {
  const small = (X: number, bits: number): number => (X < 2 ** (bits - 2) ? 1 : 0);
  const at = (p: Ptr, i: number): number => (p === 0 ? 0 : i32[(p >>> 2) + i]);

  /** The part of a square that its wire and the masks of its extension give; the caller adds r2. */
  const square = (X: Ptr, rho: Ptr, bits: number, muR: Ptr, mu: Ptr, party: number, i: number): number => {
    const x = at(X, i);
    const own = Math.imul(x, 2 * at(rho, i) + (party === 0 ? x : 0));
    if (bits === 32 || !small(x, bits)) return own;
    return own - (at(muR, i) << (bits + 1)) + (2 * bits < 32 ? at(mu, i) << (2 * bits) : 0);
  };

  return {
    mulWires(z, X, rho, xBits, Y, sigma, yBits, rs, muS, nuR, muNu, rows, cols, rowY, party) {
      for (let i = 0; i < rows * cols; i++) {
        const j = rowY ? Math.floor(i / cols) : i;
        const x = at(X, i);
        const y = at(Y, j);
        const g = xBits < 32 ? small(x, xBits) : 0;
        const h = yBits < 32 ? small(y, yBits) : 0;
        const gMuS = g ? at(muS, i) << xBits : 0;
        const hNuR = h ? at(nuR, i) << yBits : 0;
        let product: number;
        if (xBits === 32 && yBits === 32) product = at(rs, i);
        else if (yBits === 32) product = gMuS - at(rs, i);
        else if (xBits === 32) product = hNuR - at(rs, i);
        else product = at(rs, i) - gMuS - hNuR + (g && h && xBits + yBits < 32 ? at(muNu, i) << (xBits + yBits) : 0);
        const wires = Math.imul(x, at(sigma, j)) + Math.imul(y, at(rho, i)) + (party === 0 ? Math.imul(x, y) : 0);
        u32[(z >>> 2) + i] = wires + product;
      }
    },
    squareWire(z, X, rho, bits, r2, muR, mu, party, n) {
      for (let i = 0; i < n; i++) u32[(z >>> 2) + i] = at(r2, i) + square(X, rho, bits, muR, mu, party, i);
    },
    rowSquares(z, X, rho, bits, r2, muR, mu, party, rows, cols) {
      for (let r = 0; r < rows; r++) {
        let sum = at(r2, r);
        for (let c = 0; c < cols; c++) sum = (sum + square(X, rho, bits, muR, mu, party, r * cols + c)) | 0;
        u32[(z >>> 2) + r] = sum;
      }
    },
  };
}
