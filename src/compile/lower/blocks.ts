/**
 * Weights that came in few bits, kept in few bits: a file's blocks (graph.ts, LowBit) as blocks of integers for the kernels.
 *
 * A weight is scale·q + min in its block. Let k be the units for 1, c the middle of q's range, M = round(k·(min + c·scale)).
 *   4 bits   integer D·(q − c) + M, D = round(k·scale): off by at most |q − c|/2 + 1/2 ≤ 4½ units.
 *   8 bits   integer round(D·p/2^7) + M, p = 2^e·(q − c) filling a byte, D = round(2^(7−e)·k·scale): off by at most 1/2 for D (|p| ≤ 2^7), 1/2 for
 *            the entry, 1/2 for M (none without a min): 1½ units, 1 for Q8_0, Q6_K and Q5_0, however few units a step of q is. Groups of 16
 *            (Q6_K, which has no min) lie in pairs.
 * Where D or M would leave a signed half, the channel has fewer units. A weight rounded by itself is off by 1/2. A matrix in which the error is
 * more than a small part of its weights is not kept so.
 */
import type { LowBit } from '../../graph/graph.ts';
import { formats as fileFormats, newBlock } from '../../import/gguf/quants.ts';
import { type BlockFormat, blockEntry, blockRows, formats, packBlocks, scaleBits8 } from '../../ring/kernels/panels.ts';

/** Largest error, of the weights' root mean square. */
const tolerance = 1 / 128;

export interface Blocks {
  readonly format: BlockFormat;
  /** Panels. */
  readonly bytes: Uint8Array;
  /** By channel, powers of two: it has so many times fewer units for 1 than asked for, where a half has no room for more. */
  readonly fewer: readonly number[];
}

/**
 * The blocks of [in, out], columns in this order, at `units[c]` for 1 in column c; columns in `silent` are zero. Undefined where
 * the error would be too large.
 */
export function blocksOf(
  low: LowBit,
  order: readonly number[] | undefined,
  units: ArrayLike<number>,
  silent: ReadonlySet<number>,
  fewer: readonly number[] = new Array(low.shape[0]).fill(1),
): Blocks | undefined {
  const {
    type,
    shape: [N, K],
    bytes,
  } = low;
  const file = fileFormats.get(type);
  if (!file || K % file.size !== 0) return undefined;
  const bits = /^Q4_/.test(type) ? 4 : 8;
  const pairs = file.group < blockRows;
  const format = formats[bits === 4 ? 'blocks4' : pairs ? 'pairs8' : 'blocks8'];
  const centre = !file.hasMin ? 0 : bits === 4 ? 8 : 16;
  // Kernels take q of 4 bits as 0 … 15, q of 8 bits as signed bytes.
  const middle = bits === 4 ? 8 : 0;
  const step = { Q5_0: 8, Q5_1: 8, Q5_K: 8, Q6_K: 4 }[type] ?? 1;
  const fine = bits === 8 ? 2 ** scaleBits8 / step : 1;
  const perRow = K / file.size;
  const perBlock = file.size / blockRows;
  const block = newBlock(file);
  const q = new Int8Array(blockRows);
  const yet = [...fewer];
  let at = -1;
  let [off, power] = [0, 0];
  try {
    const packed = packBlocks(format, K, N, (j, b) => {
      const c = order ? order[j] : j;
      const wanted = c * perRow + Math.floor(b / perBlock);
      if (wanted !== at) file.unpack(bytes, wanted * file.bytes, block);
      at = wanted;
      const from = (b % perBlock) * blockRows;
      const g = from / file.group;
      const k = silent.has(c) ? 0 : units[c] / fewer[c];
      const [scale, min] = [k * block.scale[g], k * block.min[g]];
      const other = pairs ? k * block.scale[g + 1] : scale;
      const D = Math.round(fine * scale);
      const second = pairs ? Math.round(fine * other) : Math.round(min + centre * scale) - middle * D;
      const beyond = Math.max(Math.abs(D), Math.abs(second)) / 32767;
      if (beyond > 1) {
        yet[c] = Math.max(yet[c], fewer[c] * 2 ** Math.ceil(Math.log2(beyond)));
        return { scale: 0, second: 0, q };
      }
      for (let i = 0; i < blockRows; i++) {
        const w = block.q[from + i];
        q[i] = (w - centre) * step + middle;
        const exact = (i < 16 ? scale : other) * w + min;
        off += (blockEntry(format, D, second, i, q[i]) - exact) ** 2;
        power += exact * exact;
      }
      return { scale: D, second, q };
    });
    if (yet.some((v, c) => v > fewer[c])) return blocksOf(low, order, units, silent, yet);
    return off <= tolerance ** 2 * power ? { format, bytes: packed, fewer } : undefined;
  } catch (e) {
    if (e instanceof RangeError) return undefined;
    throw e;
  }
}
