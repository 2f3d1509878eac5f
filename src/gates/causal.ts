/**
 * What a row may see of those before it in its sequence: the positions up to its own, the last `window` of them where there is a window.
 * The gates of this file are public linear maps on each party's own words: nothing is opened, nothing drawn.
 *
 * A step has rows of one or several sequences, as many of each, one sequence after the other; a tensor may hold the last ones of each
 * sequence alone (`positions`). No row i of m sees more than keys − m + i + 1 positions, whatever `past` is: the cells beyond are never
 * made. A sequence's rows are cut in blocks of 8, and a block has as many columns as its last row may see. Cells lie block by block, in a
 * block row by row, and of a row one group after the other; what is one value a row is [n, groups]. So each block is a matrix, and a gate
 * that works on rows runs block by block (`runs`).
 */
import { free, type Gate, type Params, ProgramError, sequencesOf, size } from './gate.ts';

export interface CausalRows {
  readonly groups: number;
  /** Rows, of all sequences together. */
  readonly n: number;
  readonly keys: number;
  /** Default 1. */
  readonly sequences?: number;
}

export interface Block {
  readonly sequence: number;
  /** Number of its first row. */
  readonly first: number;
  readonly rows: number;
  readonly cols: number;
  /** Cells of one group before it. */
  readonly at: number;
}

const blockRows = 8;

export function blocksOf({ n, keys, sequences = 1 }: CausalRows): Block[] {
  const m = rowsEach(n, sequences);
  const blocks: Block[] = [];
  let at = 0;
  for (let sequence = 0; sequence < sequences; sequence++)
    for (let i = 0; i < m; i += blockRows) {
      const rows = Math.min(blockRows, m - i);
      const cols = Math.min(keys, 4 * Math.max(1, Math.ceil((keys - m + i + rows) / 4)));
      blocks.push({ sequence, first: sequence * m + i, rows, cols, at });
      at += rows * cols;
    }
  return blocks;
}

/** Rows of each sequence, of n in all. Throws ProgramError where they are not as many of each. */
export function rowsEach(n: number, sequences: number): number {
  if (n % sequences !== 0) throw new ProgramError(`${n} rows are not those of ${sequences} sequences, as many of each`);
  return n / sequences;
}

/** Where the rows of a tensor of n stand in their sequences: it holds the step's rows, or the last ones of each sequence. */
export function positions(n: number, params: Params): number[] {
  const sequences = sequencesOf(params);
  const m = rowsEach(n, sequences.length);
  const before = rowsEach(params.n ?? n, sequences.length) - m;
  return sequences.flatMap(({ past }) => Array.from({ length: m }, (_, i) => past + before + i));
}

/** Cells of one group. */
export const cellsOf = (a: CausalRows): number => blocksOf(a).reduce((sum, b) => sum + b.rows * b.cols, 0);

/** Rows of one length, one after the other. */
export interface Run {
  readonly rows: number;
  readonly cols: number;
  /** Rows, and cells, before it. */
  readonly row: number;
  readonly at: number;
}

/** The rows of a tensor of `size` cells: `rows` of equal length, or those of causal blocks. */
export const runs = (causal: CausalRows | undefined, rows: number, size: number): Run[] =>
  causal
    ? blocksOf(causal).map((b) => ({ rows: causal.groups * b.rows, cols: b.cols, row: causal.groups * b.first, at: causal.groups * b.at }))
    : [{ rows, cols: size / rows, row: 0, at: 0 }];

/** Shape of what a gate makes of each row of [1, groups·cells]. */
export function rowShape(a: CausalRows, x: readonly number[]): number[] {
  if (size(x) !== a.groups * cellsOf(a)) throw new ProgramError(`[${x}] is not ${a.groups} groups of ${cellsOf(a)} cells`);
  return [1, a.groups * a.n];
}

export interface SeenAttrs extends CausalRows {
  /** Positions a row sees at most, its own included. */
  readonly window?: number;
}

/** [first, end) of the positions that each row sees. */
const seen = (a: SeenAttrs, params: Params): [first: number, end: number][] =>
  positions(a.n, params).map((at) => [a.window ? Math.max(0, at + 1 - a.window) : 0, at + 1]);

/** share [groups, cells], group by group → [1, groups·cells] block by block, zero where a row does not see. Parameters: `n`, `past`. */
export const causal: Gate<SeenAttrs> = {
  name: 'causal',
  shapes(a, [x]) {
    if (x.length !== 2 || x[0] !== a.groups || x[1] !== cellsOf(a))
      throw new ProgramError(`causal: [${x}] is not ${a.groups} groups of ${cellsOf(a)} cells`);
    return [[1, x[0] * x[1]]];
  },
  cost: () => free,
  *party(p, g) {
    const [x, y] = [g.ins[0], g.outs[0]];
    const [groups, cells] = x.shape;
    const sees = seen(g.attrs, p.params);
    for (const b of blocksOf(g.attrs)) {
      const to = y.at + 4 * groups * b.at;
      const width = groups * b.cols;
      p.k.copyBox(to, x.at + 4 * b.at, 1, b.rows, groups, b.cols, 0, b.cols, cells, 1, 0, width, b.cols, 1);
      for (let row = 0; row < groups * b.rows; row++) {
        const [first, end] = sees[b.first + Math.floor(row / groups)];
        const at = to / 4 + row * b.cols;
        if (first > 0) p.k.u32.fill(0, at, at + Math.min(first, b.cols));
        if (end < b.cols) p.k.u32.fill(0, at + end, at + b.cols);
      }
    }
  },
  plain(a, [x], _w, _outs, params) {
    const cells = x.shape[1];
    const sees = seen(a, params);
    const y: number[] = [];
    for (const b of blocksOf(a))
      for (let i = 0; i < b.rows; i++)
        for (let group = 0; group < a.groups; group++) {
          const [first, end] = sees[b.first + i];
          for (let c = 0; c < b.cols; c++) y.push(c >= first && c < end ? x.data[group * cells + b.at + i * b.cols + c] : 0);
        }
    return [Float64Array.from(y)];
  },
};

/** share [n, w] → [sequences, w]: the last row of each sequence. */
export const lastRows: Gate<{ readonly sequences: number }> = {
  name: 'lastRows',
  shapes({ sequences }, [x]) {
    if (x.length !== 2) throw new ProgramError(`lastRows: rows are wanted, got [${x}]`);
    rowsEach(x[0], sequences);
    return [[sequences, x[1]]];
  },
  cost: () => free,
  *party(p, g) {
    const { sequences } = g.attrs;
    const [n, width] = g.ins[0].shape;
    const m = rowsEach(n, sequences);
    for (let i = 0; i < sequences; i++) p.k.copy(g.outs[0].at + 4 * i * width, g.ins[0].at + 4 * ((i + 1) * m - 1) * width, width);
  },
  plain({ sequences }, [{ shape, data }]) {
    const [n, width] = shape;
    const m = rowsEach(n, sequences);
    return [Float64Array.from({ length: sequences * width }, (_, j) => data[((Math.floor(j / width) + 1) * m - 1) * width + (j % width)])];
  },
};

export interface PerSeenAttrs extends SeenAttrs {
  /** Row i is multiplied by floor(numerator / how many positions it sees), or by 1 where that is less. */
  readonly numerator: number;
}

/** One factor for each of [n, groups]. */
const factors = (a: PerSeenAttrs, params: Params): number[] =>
  seen(a, params).flatMap(([first, end]) => new Array<number>(a.groups).fill(Math.max(1, Math.floor(a.numerator / (end - first)))));

/** Rows as runs of cells: of one cell each where x has one value a row. */
const rowsOf = (a: PerSeenAttrs, size: number): Run[] => (size === a.groups * a.n ? runs(undefined, size, size) : runs(a, 0, size));

/** share, one value a row or all cells, block by block → each row by its integer: sums over what a row sees become means, nearly. */
export const perSeen: Gate<PerSeenAttrs> = {
  name: 'perSeen',
  shapes: (_, [x]) => [x],
  cost: () => free,
  *party(p, g) {
    const [x, y] = [g.ins[0], g.outs[0]];
    const mul = p.temp(g.attrs.groups * g.attrs.n);
    factors(g.attrs, p.params).forEach((f, i) => {
      p.k.u32[mul / 4 + i] = f;
    });
    for (const r of rowsOf(g.attrs, x.size))
      p.k.affine(y.at + 4 * r.at, x.at + 4 * r.at, mul + 4 * r.row, 0, r.rows, r.cols, r.rows * r.cols);
  },
  plain(a, [x], _w, _outs, params) {
    const by = factors(a, params);
    const y = x.data.slice();
    for (const r of rowsOf(a, y.length)) for (let i = 0; i < r.rows * r.cols; i++) y[r.at + i] *= by[r.row + Math.floor(i / r.cols)];
    return [y];
  },
};
