import type { Kernels } from '../kernels.ts';
import type { Views } from '../memory.ts';
import { maskOf } from './streams.ts';

export function plainShares({ u32 }: Views): Pick<Kernels, 'truncate' | 'truncate64' | 'extend' | 'dealExtend'> {
  return {
    truncate(dst, x, mul, add, channels, inner, r, offset, inBits, s, outBits, party, n) {
      const up = party === 0 ? 2 ** s - 1 : 0;
      for (let i = 0; i < n; i++) {
        const ch = Math.floor(i / inner) % channels;
        let v = u32[(x >>> 2) + i];
        if (mul !== 0) v = Math.imul(v, u32[(mul >>> 2) + ch]);
        if (add !== 0) v += u32[(add >>> 2) + ch];
        const y = ((v + up) & maskOf(inBits)) >>> s;
        u32[(dst >>> 2) + i] = (y + offset + (r === 0 ? 0 : u32[(r >>> 2) + i])) & maskOf(outBits);
      }
    },
    truncate64(dst, x, inBits, s, outBits, party, n) {
      const up = party === 0 ? 2 ** s - 1 : 0;
      for (let i = 0; i < n; i++) {
        // Below 2^52 + 2^52, so doubles hold every step exactly.
        const v = u32[(x >>> 2) + 2 * i] + (u32[(x >>> 2) + 2 * i + 1] % 2 ** 20) * 2 ** 32;
        const y = Math.floor((((v % 2 ** inBits) + up) % 2 ** inBits) / 2 ** s);
        u32[(dst >>> 2) + i] = y % 2 ** outBits;
      }
    },
    extend(share, rho, c, r, w, mu, bits, party, n) {
      for (let i = 0; i < n; i++) {
        const opened = u32[(c >>> 2) + i] & maskOf(bits);
        const g = 1 - (opened >>> (bits - 1));
        const X = (opened - 2 ** (bits - 2)) | 0;
        const rest = (((u32[(w >>> 2) + i] + g * u32[(mu >>> 2) + i]) << bits) - u32[(r >>> 2) + i]) | 0;
        u32[(c >>> 2) + i] = X;
        if (rho !== 0) u32[(rho >>> 2) + i] = rest;
        if (share !== 0) u32[(share >>> 2) + i] = party === 0 ? rest + X : rest;
      }
    },
    dealExtend(r, w, mu, r0, r1, bits, n) {
      for (let i = 0; i < n; i++) {
        const sum = u32[(r0 >>> 2) + i] + u32[(r1 >>> 2) + i];
        const low = sum & maskOf(bits);
        u32[(r >>> 2) + i] = low;
        u32[(w >>> 2) + i] = sum >>> bits;
        u32[(mu >>> 2) + i] = low >>> (bits - 1);
      }
    },
  };
}
