/**
 * Public matrices in few bits: panels of 16 columns, N padded with zeros.
 *
 *   halves    16 bits an entry. Rows 2q and 2q+1 side by side: 16 columns of two signed halves.
 *   blocks4   5 bits an entry; K a multiple of 32. A block of 32 rows is 16 scales and 16 minima (signed halves), then whole numbers q of 4 bits:
 *             entry = scale·q + min, as integers. Byte (r, j, i) of 8 × 16 × 2 has rows 2r+i, low bits, and 16+2r+i, high bits, of column j.
 *   blocks8   9 bits an entry: the same with signed bytes q, (r, j, i) of 16 × 16 × 2 being row 2r+i; entry = round(scale·q / 2^7) + min, a half
 *             rounded up, the first term a signed half.
 *
 * A product with blocks4 is an integer dot product a block, times the block's scale, plus its min times the sum of x. Bytes leave a ring of 32 bits no
 * room for whole scales that are fine enough, so blocks8 have 7 bits below the point and each entry is shifted (one instruction for eight) before
 * the sum. All modulo 2^32: both are the product with the entries themselves, to the last bit.
 */
export const formats = { halves: 2, blocks4: 4, blocks8: 8 } as const;
export type PanelFormat = keyof typeof formats;

/** Rows that share a scale. */
export const blockRows = 32;
const head = 64;

/** Bytes of K rows of 16 columns. */
export function panelBytes(format: number, K: number): number {
  if (format === formats.halves) return 64 * Math.ceil(K / 2);
  if (K % blockRows !== 0) throw new RangeError(`blocks have ${blockRows} rows; ${K} are no whole number of them`);
  return (K / blockRows) * (head + 64 * format);
}
/** Bytes of a matrix [K, N]. */
export const smallBytes = (K: number, N: number, format: number): number => Math.ceil(N / 16) * panelBytes(format, K);

/** Columns of blocks: `column(j, b)` says block b of column j. */
export interface BlockColumn {
  readonly scale: number;
  readonly min: number;
  /** 32 numbers: 0 … 15 for blocks4, −128 … 127 for blocks8. */
  readonly q: ArrayLike<number>;
}

/** Throws RangeError for a scale or a min that is no signed half. */
export function packBlocks(format: number, K: number, N: number, column: (j: number, block: number) => BlockColumn): Uint8Array {
  const out = new Uint8Array(smallBytes(K, N, format));
  const view = new DataView(out.buffer);
  const blockBytes = head + 64 * format;
  for (let j = 0; j < N; j++)
    for (let b = 0; b < K / blockRows; b++) {
      const at = Math.floor(j / 16) * panelBytes(format, K) + b * blockBytes;
      const c = j % 16;
      const { scale, min, q } = column(j, b);
      for (const v of [scale, min]) if (!(Number.isInteger(v) && v >= -32768 && v < 32768)) throw new RangeError(`${v} is no signed half`);
      view.setInt16(at + 2 * c, scale, true);
      view.setInt16(at + 32 + 2 * c, min, true);
      const to = at + head + 2 * c;
      if (format === formats.blocks8) for (let i = 0; i < blockRows; i++) out[to + 32 * (i >> 1) + (i & 1)] = q[i];
      else for (let i = 0; i < 16; i++) out[to + 32 * (i >> 1) + (i & 1)] = q[i] | (q[i + 16] << 4);
    }
  return out;
}

/** Bits of blocks8 scales below the point. */
export const scaleBits8 = 7;

/** What a block makes of q. Only −2^15·−2^7 is beyond a half. */
export const blockEntry = (format: number, scale: number, min: number, q: number): number =>
  format === formats.blocks8 ? Math.min(32767, (scale * q + (1 << (scaleBits8 - 1))) >> scaleBits8) + min : scale * q + min;

/** Entry (k, n), n < N, of panels at `at`. */
export function entryOf(bytes: Uint8Array, at: number, format: number, K: number, k: number, n: number): number {
  const half = (p: number): number => ((bytes[p] | (bytes[p + 1] << 8)) << 16) >> 16;
  const panel = at + (n >>> 4) * panelBytes(format, K);
  const c = n & 15;
  if (format === formats.halves) return half(panel + 64 * (k >> 1) + 4 * c + 2 * (k & 1));
  const block = panel + Math.floor(k / blockRows) * (head + 64 * format);
  const r = (k & 31) >> 1;
  const q =
    format === formats.blocks8
      ? (bytes[block + head + 32 * r + 2 * c + (k & 1)] << 24) >> 24
      : (bytes[block + head + 32 * (r & 7) + 2 * c + (k & 1)] >> (r < 8 ? 0 : 4)) & 15;
  return blockEntry(format, half(block + 2 * c), half(block + 32 + 2 * c), q);
}

/** The matrix [K, N], row after row. */
export function unpackPanels(bytes: Uint8Array, format: number, K: number, N: number): Int32Array {
  const out = new Int32Array(K * N);
  for (let k = 0; k < K; k++) for (let n = 0; n < N; n++) out[k * N + n] = entryOf(bytes, 0, format, K, k, n);
  return out;
}
