import type { Kernels } from '../kernels.ts';
import type { Views } from '../memory.ts';

/** Bit v of the result is the parity of the bits of x below v. */
function prefixParity(x: number): number {
  let p = x << 1;
  for (let s = 1; s < 32; s *= 2) p ^= p << s;
  return p;
}

export function plainBits({ u32 }: Views): Pick<Kernels, 'xor' | 'xorAnd' | 'oneHot' | 'pickBits'> {
  return {
    xor(dst, a, b, n) {
      for (let i = 0; i < n; i++) u32[(dst >>> 2) + i] = u32[(a >>> 2) + i] ^ u32[(b >>> 2) + i];
    },
    xorAnd(dst, a, b, n) {
      for (let i = 0; i < n; i++) u32[(dst >>> 2) + i] ^= u32[(a >>> 2) + i] & u32[(b >>> 2) + i];
    },
    oneHot(dst, m, shift, width, n) {
      const last = 2 ** width - 1;
      for (let i = 0; i < n; i++) {
        const v = (~u32[(m >>> 2) + i] >>> shift) & last;
        u32[(dst >>> 2) + i] = v === last ? 0 : 1 << v;
      }
    },
    pickBits(eq, gt, c, table, shift, width, party, n) {
      const last = 2 ** width - 1;
      for (let i = 0; i < n; i++) {
        const v = (u32[(c >>> 2) + i] >>> shift) & last;
        const t = u32[(table >>> 2) + i] & (2 ** last - 1);
        const below = prefixParity(t);
        const whole = t | (((((below >>> last) & 1) ^ (party === 0 ? 1 : 0)) << last) >>> 0);
        if (eq !== 0) u32[(eq >>> 2) + i] = (whole >>> v) & 1;
        u32[(gt >>> 2) + i] = (below >>> v) & 1;
      }
    },
  };
}
