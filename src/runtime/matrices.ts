/**
 * Matrices of weights, as products take them. One that fits stays in memory, whole; one that does not is made a tile at a time in every
 * product: read from disk, or drawn from a seed.
 */
import type { Matrix, Tile } from '../gates/gate.ts';
import { type Kernels, type Ptr, panelWords } from '../ring/kernels/kernels.ts';
import { panelBytes, smallBytes } from '../ring/kernels/panels.ts';

/** The stream of one party's masks of one tensor (folder/seeds.ts). */
export interface MaskStream {
  /** 32 bytes. */
  readonly seed: Uint8Array;
  /** The nonce: step, gate, stream. */
  readonly nonce: readonly [number, number, number];
}

/** Bytes of a role's weights, in the order in which a step uses them, again and again, read ahead of their use. */
export interface Reader {
  /** Appends a piece of a tensor's bytes to that order. Returns its number. */
  add(name: string, from: number, bytes: number): number;
  /** Piece i, once it is read: valid until the next call. Throws what reading failed with. */
  take(i: number): Uint8Array;
}

/** Words of a tile, more or less: it and what it is packed from stay in the second-level cache. */
const tileWords = 1 << 17;

export const whole = (at: Ptr, format: number, K: number, N: number): Matrix => {
  const tile: Tile = { at, format, row: 0, column: 0, rows: K, columns: N };
  return { tiles: () => [tile] };
};

const rowsOfTile = (N: number): number => Math.max(1, Math.floor(tileWords / N));

/** Rows [from, to) of each tile of a matrix that lies row after row. */
function rowTiles(K: number, N: number): [from: number, to: number][] {
  const rows = rowsOfTile(N);
  return Array.from({ length: Math.ceil(K / rows) }, (_, i) => [i * rows, Math.min(K, (i + 1) * rows)]);
}

/** Room for a tile as it is drawn and as it is packed, which all matrices of a model share. */
export interface TileRoom {
  readonly raw: Ptr;
  readonly packed: Ptr;
  readonly scratch: Ptr;
}
/** A mask's values are had from where a group of 4096 starts. */
const slack = 4096;
/** Words of either place of a room that serves a matrix. */
export const tileRoomWords = (K: number, N: number, blocks?: number): number =>
  blocks ? Math.max(tileWords, panelBytes(blocks, K) / 4) : panelWords(rowsOfTile(N), N) + slack;

/** Rows of words, or of halves, from disk. */
export function readRows(k: Kernels, room: TileRoom, reader: Reader, name: string, K: number, N: number, elementBytes: 2 | 4): Matrix {
  const tiles = rowTiles(K, N).map(([from, to]) => ({
    from,
    to,
    piece: reader.add(name, from * N * elementBytes, (to - from) * N * elementBytes),
  }));
  return {
    *tiles() {
      for (const { from, to, piece } of tiles) {
        k.u8.set(reader.take(piece), room.raw);
        k.packB(room.packed, room.raw, to - from, N, N, 0, elementBytes);
        yield { at: room.packed, format: 0, row: from, column: 0, rows: to - from, columns: N };
      }
    },
  };
}

/** Panels of blocks from disk. */
export function readPanels(k: Kernels, room: TileRoom, reader: Reader, name: string, K: number, N: number, format: number): Matrix {
  const each = panelBytes(format, K);
  const panels = Math.ceil(N / 16);
  const run = Math.max(1, Math.floor((4 * tileWords) / each));
  const tiles = Array.from({ length: Math.ceil(panels / run) }, (_, i) => {
    const count = Math.min(run, panels - i * run);
    return { column: 16 * i * run, columns: Math.min(16 * count, N - 16 * i * run), piece: reader.add(name, i * run * each, count * each) };
  });
  return {
    *tiles() {
      for (const { column, columns, piece } of tiles) {
        k.u8.set(reader.take(piece), room.raw);
        yield { at: room.raw, format, row: 0, column, rows: K, columns };
      }
    },
  };
}

/** Σ of these masks, drawn anew each time. `keys`: where the seeds lie. */
export function drawn(
  k: Kernels,
  room: TileRoom,
  masks: readonly { readonly key: Ptr; readonly nonce: MaskStream['nonce'] }[],
  K: number,
  N: number,
): Matrix {
  return {
    *tiles() {
      for (const [from, to] of rowTiles(K, N)) {
        const first = slack * Math.floor((from * N) / slack);
        const skipped = from * N - first;
        const n = (to - from) * N;
        masks.forEach(({ key, nonce }, i) => {
          const at = i === 0 ? room.raw : room.packed;
          k.prg(at, key, ...nonce, 32, first, skipped + n, room.scratch);
          if (i > 0) k.add(room.raw, room.raw, at, skipped + n);
        });
        k.packB(room.packed, room.raw + 4 * skipped, to - from, N, N, 0, 4);
        yield { at: room.packed, format: 0, row: from, column: 0, rows: to - from, columns: N };
      }
    },
  };
}

/** Bytes that a matrix takes in memory whole. */
export const wholeBytes = (K: number, N: number, format: number): number =>
  format === 0 ? 4 * panelWords(K, N) : smallBytes(K, N, format);
