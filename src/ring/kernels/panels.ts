/**
 * Public matrices in few bits: panels of 16 columns, N padded with zeros.
 *
 *   halves    16 bits an entry. Rows 2q and 2q+1 side by side: 16 columns of two signed halves.
 *   blocks4   5 bits an entry; K a multiple of 32. A block of 32 rows is 16 scales and 16 minima (signed halves), then whole numbers q of 4 bits:
 *             entry = scale·q + min, as integers. Byte (r, j, i) of 8 × 16 × 2 has rows 2r+i, low bits, and 16+2r+i, high bits, of column j.
 *   blocks8   9 bits an entry: the same with signed bytes q, (r, j, i) of 16 × 16 × 2 being row 2r+i; entry = round(scale·q / 2^7) + min, a half
 *             rounded up, the first term a signed half.
 *   pairs8    9 bits an entry: blocks8 without minima; in their place 16 scales for rows 16 … 31, the others being those of rows 0 … 15.
 *
 * A product with blocks4 is an integer dot product a block, times the block's scale, plus its min times the sum of x. Bytes leave a ring of 32 bits no
 * room for whole scales that are fine enough, so those of bytes have 7 bits below the point and each entry is shifted (one instruction for eight) before
 * the sum. All modulo 2^32: both are the product with the entries themselves, to the last bit.
 */
export const formats = { halves: 2, blocks4: 4, blocks8: 8, pairs8: 16 } as const;
export type PanelFormat = keyof typeof formats;
/** Formats of blocks, as programs name them. */
export type BlockFormat = Exclude<(typeof formats)[PanelFormat], typeof formats.halves>;

/** Rows of a block. */
export const blockRows = 32;
const head = 64;
const blockBytes = (format: number): number => head + (format === formats.blocks4 ? 256 : 512);

/** Bytes of K rows of 16 columns. */
export function panelBytes(format: number, K: number): number {
  if (format === formats.halves) return 64 * Math.ceil(K / 2);
  if (K % blockRows !== 0) throw new RangeError(`blocks have ${blockRows} rows; ${K} are no whole number of them`);
  return (K / blockRows) * blockBytes(format);
}
/** Bytes of a matrix [K, N]. */
export const smallBytes = (K: number, N: number, format: number): number => Math.ceil(N / 16) * panelBytes(format, K);

/** Columns of blocks: `column(j, b)` says block b of column j. */
export interface BlockColumn {
  readonly scale: number;
  /** The min; for pairs8 the scale of rows 16 … 31. */
  readonly second: number;
  /** 32 numbers: 0 … 15 for blocks4, else −128 … 127. */
  readonly q: ArrayLike<number>;
}

/** Throws RangeError for a scale or a second that is no signed half. */
export function packBlocks(format: number, K: number, N: number, column: (j: number, block: number) => BlockColumn): Uint8Array {
  const out = new Uint8Array(smallBytes(K, N, format));
  const view = new DataView(out.buffer);
  for (let j = 0; j < N; j++)
    for (let b = 0; b < K / blockRows; b++) {
      const at = Math.floor(j / 16) * panelBytes(format, K) + b * blockBytes(format);
      const c = j % 16;
      const { scale, second, q } = column(j, b);
      for (const v of [scale, second])
        if (!(Number.isInteger(v) && v >= -32768 && v < 32768)) throw new RangeError(`${v} is no signed half`);
      view.setInt16(at + 2 * c, scale, true);
      view.setInt16(at + 32 + 2 * c, second, true);
      const to = at + head + 2 * c;
      if (format === formats.blocks4) for (let i = 0; i < 16; i++) out[to + 32 * (i >> 1) + (i & 1)] = q[i] | (q[i + 16] << 4);
      else for (let i = 0; i < blockRows; i++) out[to + 32 * (i >> 1) + (i & 1)] = q[i];
    }
  return out;
}

/** Bits of the scales of bytes below the point. */
export const scaleBits8 = 7;

/** Only −2^15·−2^7 is beyond a half. */
const scaledByte = (scale: number, q: number): number => Math.min(32767, (scale * q + (1 << (scaleBits8 - 1))) >> scaleBits8);

/** What a block makes of q in this row. */
export function blockEntry(format: number, scale: number, second: number, row: number, q: number): number {
  if (format === formats.pairs8) return scaledByte(row < 16 ? scale : second, q);
  return (format === formats.blocks8 ? scaledByte(scale, q) : scale * q) + second;
}

/** Entry (k, n), n < N, of panels at `at`. */
export function entryOf(bytes: Uint8Array, at: number, format: number, K: number, k: number, n: number): number {
  const half = (p: number): number => ((bytes[p] | (bytes[p + 1] << 8)) << 16) >> 16;
  const panel = at + (n >>> 4) * panelBytes(format, K);
  const c = n & 15;
  if (format === formats.halves) return half(panel + 64 * (k >> 1) + 4 * c + 2 * (k & 1));
  const block = panel + Math.floor(k / blockRows) * blockBytes(format);
  const r = (k & 31) >> 1;
  const q =
    format === formats.blocks4
      ? (bytes[block + head + 32 * (r & 7) + 2 * c + (k & 1)] >> (r < 8 ? 0 : 4)) & 15
      : (bytes[block + head + 32 * r + 2 * c + (k & 1)] << 24) >> 24;
  return blockEntry(format, half(block + 2 * c), half(block + 32 + 2 * c), k & 31, q);
}

/** The matrix [K, N], row after row. */
export function unpackPanels(bytes: Uint8Array, format: number, K: number, N: number): Int32Array {
  const out = new Int32Array(K * N);
  for (let k = 0; k < K; k++) for (let n = 0; n < N; n++) out[k * N + n] = entryOf(bytes, 0, format, K, k, n);
  return out;
}
