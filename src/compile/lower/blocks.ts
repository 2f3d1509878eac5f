/**
 * Weights that came in few bits, kept in few bits: a file's blocks (graph.ts, LowBit) as blocks of integers for the kernels.
 *
 * A weight is scale·q + min in its block. At k units for 1 its integer is D·q + M, D = round(k·scale) and M = round(k·(min + c·scale)) − c·D with c in
 * the middle of q's range: so the error is at most |q − c|/2 + 1/2 units, 4½ for 4 bits, against ½ for a weight rounded by itself. A matrix in
 * which that is more than a small part of its weights (D of less than about 8 bits) is not kept so.
 */
import type { LowBit } from '../../graph/graph.ts';
import { formats as fileFormats, newBlock } from '../../import/gguf/quants.ts';
import { blockRows, formats, packBlocks } from '../../ring/kernels/panels.ts';

/** Largest error, of the weights' root mean square. */
const tolerance = 1 / 128;

export interface Blocks {
  readonly bits: 4 | 8;
  /** Panels. */
  readonly bytes: Uint8Array;
}

/**
 * The blocks of [in, out], columns in this order, at `units[c]` for 1 in column c; columns in `silent` are zero. Undefined where the file's format has other groups, where a
 * scale or min is no signed half, or where the error would be too large.
 */
export function blocksOf(
  { type, shape: [N, K], bytes }: LowBit,
  order: readonly number[] | undefined,
  units: ArrayLike<number>,
  silent: ReadonlySet<number>,
): Blocks | undefined {
  const file = fileFormats.get(type);
  if (!file || file.group !== blockRows || K % file.size !== 0) return undefined;
  const bits = /^Q4_/.test(type) ? 4 : 8;
  const signed = type === 'Q4_0' || type === 'Q5_0' || type === 'Q8_0';
  // Kernels take q of 4 bits as 0 … 15, q of 8 bits as signed bytes.
  const shift = bits === 4 && signed ? 8 : 0;
  const centre = bits === 4 ? 8 : signed ? 0 : 16;
  const perRow = K / file.size;
  const perBlock = file.size / blockRows;
  const block = newBlock(file);
  const q = new Uint8Array(blockRows);
  let at = -1;
  let [off, power] = [0, 0];
  const half = (v: number): boolean => v >= -32768 && v < 32768;
  try {
    const packed = packBlocks(formats[bits === 4 ? 'blocks4' : 'blocks8'], K, N, (j, b) => {
      const c = order ? order[j] : j;
      const wanted = c * perRow + Math.floor(b / perBlock);
      if (wanted !== at) file.unpack(bytes, wanted * file.bytes, block);
      at = wanted;
      const g = b % perBlock;
      const k = silent.has(c) ? 0 : units[c];
      const [scale, min] = [k * block.scale[g], k * block.min[g]];
      const D = Math.round(scale);
      const M = Math.round(min + (centre - shift) * scale) - centre * D;
      if (!half(D) || !half(M)) throw new RangeError(`a block of ${D} and ${M}`);
      let [sum, squares] = [0, 0];
      for (let i = 0, from = g * blockRows; i < blockRows; i++, from++) {
        const w = block.q[from];
        q[i] = w + shift;
        sum += w;
        squares += w * w;
      }
      // Sums over the block of (a·q + b)².
      const total = (a: number, b: number): number => a * a * squares + 2 * a * b * sum + blockRows * b * b;
      off += total(D - scale, M + D * shift - min);
      power += total(scale, min);
      return { scale: D, min: M, q };
    });
    return off <= tolerance ** 2 * power ? { bits, bytes: packed } : undefined;
  } catch (e) {
    if (e instanceof RangeError) return undefined;
    throw e;
  }
}
