import type { Kernels } from '../kernels.ts';
import type { Views } from '../memory.ts';

type Names =
  | 'fill'
  | 'fill64'
  | 'copy'
  | 'add'
  | 'sub'
  | 'mul'
  | 'mulRow'
  | 'bits'
  | 'affine'
  | 'sumAxis'
  | 'rowDot'
  | 'centre'
  | 'copyBox'
  | 'im2col';

export function plainWords({ u32 }: Views): Pick<Kernels, Names> {
  return {
    fill(dst, value, n) {
      u32.fill(value, dst >>> 2, (dst >>> 2) + n);
    },
    fill64(dst, low, high, n) {
      for (let i = 0; i < n; i++) u32.set([low, high], (dst >>> 2) + 2 * i);
    },
    copy(dst, src, n) {
      u32.copyWithin(dst >>> 2, src >>> 2, (src >>> 2) + n);
    },
    add(dst, a, b, n) {
      for (let i = 0; i < n; i++) u32[(dst >>> 2) + i] = u32[(a >>> 2) + i] + u32[(b >>> 2) + i];
    },
    sub(dst, a, b, n) {
      for (let i = 0; i < n; i++) u32[(dst >>> 2) + i] = u32[(a >>> 2) + i] - u32[(b >>> 2) + i];
    },
    mul(dst, a, b, n) {
      for (let i = 0; i < n; i++) u32[(dst >>> 2) + i] = Math.imul(u32[(a >>> 2) + i], u32[(b >>> 2) + i]);
    },
    mulRow(dst, a, b, rows, cols) {
      for (let r = 0, i = 0; r < rows; r++)
        for (let c = 0; c < cols; c++, i++) u32[(dst >>> 2) + i] = Math.imul(u32[(a >>> 2) + i], u32[(b >>> 2) + r]);
    },
    bits(dst, src, mask, shift, n) {
      for (let i = 0; i < n; i++) u32[(dst >>> 2) + i] = (u32[(src >>> 2) + i] & mask) >>> shift;
    },
    affine(dst, x, mul, add, channels, inner, n) {
      for (let i = 0; i < n; i++) {
        const ch = Math.floor(i / inner) % channels;
        const scaled = mul === 0 ? u32[(x >>> 2) + i] : Math.imul(u32[(x >>> 2) + i], u32[(mul >>> 2) + ch]);
        u32[(dst >>> 2) + i] = add === 0 ? scaled : scaled + u32[(add >>> 2) + ch];
      }
    },
    sumAxis(dst, x, outer, axis, inner) {
      for (let o = 0; o < outer; o++)
        for (let i = 0; i < inner; i++) {
          let sum = 0;
          for (let a = 0; a < axis; a++) sum = (sum + u32[(x >>> 2) + (o * axis + a) * inner + i]) | 0;
          u32[(dst >>> 2) + o * inner + i] = sum;
        }
    },
    rowDot(dst, a, b, rows, cols) {
      for (let r = 0; r < rows; r++) {
        let sum = 0;
        for (let c = 0; c < cols; c++) sum = (sum + Math.imul(u32[(a >>> 2) + r * cols + c], u32[(b >>> 2) + r * cols + c])) | 0;
        u32[(dst >>> 2) + r] = sum;
      }
    },
    centre(dst, x, factor, rows, cols) {
      for (let r = 0; r < rows; r++) {
        let sum = 0;
        for (let c = 0; c < cols; c++) sum = (sum + u32[(x >>> 2) + r * cols + c]) | 0;
        for (let c = 0; c < cols; c++) u32[(dst >>> 2) + r * cols + c] = Math.imul(factor, u32[(x >>> 2) + r * cols + c]) - sum;
      }
    },
    copyBox(dst, src, d0, d1, d2, d3, s0, s1, s2, s3, t0, t1, t2, t3) {
      for (let i = 0; i < d0; i++)
        for (let j = 0; j < d1; j++)
          for (let k = 0; k < d2; k++)
            for (let l = 0; l < d3; l++)
              u32[(dst >>> 2) + i * t0 + j * t1 + k * t2 + l * t3] = u32[(src >>> 2) + i * s0 + j * s1 + k * s2 + l * s3];
    },
    im2col(dst, x, C, H, W, KH, KW, strideY, strideX, padTop, padLeft, dilationY, dilationX, OH, OW) {
      let d = dst >>> 2;
      for (let oy = 0; oy < OH; oy++)
        for (let ox = 0; ox < OW; ox++)
          for (let c = 0; c < C; c++)
            for (let ky = 0; ky < KH; ky++)
              for (let kx = 0; kx < KW; kx++) {
                const y = oy * strideY - padTop + ky * dilationY;
                const xx = ox * strideX - padLeft + kx * dilationX;
                u32[d++] = y >= 0 && y < H && xx >= 0 && xx < W ? u32[(x >>> 2) + (c * H + y) * W + xx] : 0;
              }
    },
  };
}
