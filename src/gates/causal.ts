/**
 * What a row may see of those before it. Row i of a step stands at position past+i, and sees the positions up to its own, the last
 * `window` of them where there is a window. The gates of this file are public linear maps on each party's own words: nothing is opened,
 * nothing drawn.
 *
 * No row sees more than keys − n + i + 1 positions, whatever `past` is: the cells beyond are never made. A step's rows are cut in blocks of
 * 8, and a block has as many columns as its last row may see. Cells lie block by block, in a block row by row, and of a row one group after
 * the other; what is one value a row is [n, groups]. So each block is a matrix, and a gate that works on rows runs block by block (`runs`).
 */
import { free, type Gate, type Params, ProgramError, size } from './gate.ts';

export interface CausalRows {
  readonly groups: number;
  readonly n: number;
  readonly keys: number;
}

interface Block {
  /** Number of its first row. */
  readonly first: number;
  readonly rows: number;
  readonly cols: number;
  /** Cells of one group before it. */
  readonly at: number;
}

const blockRows = 8;

export function blocksOf({ n, keys }: CausalRows): Block[] {
  const blocks: Block[] = [];
  let at = 0;
  for (let first = 0; first < n; first += blockRows) {
    const rows = Math.min(blockRows, n - first);
    const cols = Math.min(keys, 4 * Math.max(1, Math.ceil((keys - n + first + rows) / 4)));
    blocks.push({ first, rows, cols, at });
    at += rows * cols;
  }
  return blocks;
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

/** [first, end) of the positions that row i sees. */
function seen(a: SeenAttrs, i: number, params: Params): [first: number, end: number] {
  const end = params.past + i + 1;
  return [a.window ? Math.max(0, end - a.window) : 0, end];
}

/** share [groups, cells], group by group → [1, groups·cells] block by block, zero where a row does not see. */
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
    for (const b of blocksOf(g.attrs)) {
      const to = y.at + 4 * groups * b.at;
      const width = groups * b.cols;
      p.k.copyBox(to, x.at + 4 * b.at, 1, b.rows, groups, b.cols, 0, b.cols, cells, 1, 0, width, b.cols, 1);
      for (let row = 0; row < groups * b.rows; row++) {
        const [first, end] = seen(g.attrs, b.first + Math.floor(row / groups), p.params);
        const at = to / 4 + row * b.cols;
        if (first > 0) p.k.u32.fill(0, at, at + Math.min(first, b.cols));
        if (end < b.cols) p.k.u32.fill(0, at + end, at + b.cols);
      }
    }
  },
  plain(a, [x], _w, _outs, params) {
    const cells = x.shape[1];
    const y: number[] = [];
    for (const b of blocksOf(a))
      for (let i = 0; i < b.rows; i++)
        for (let group = 0; group < a.groups; group++) {
          const [first, end] = seen(a, b.first + i, params);
          for (let c = 0; c < b.cols; c++) y.push(c >= first && c < end ? x.data[group * cells + b.at + i * b.cols + c] : 0);
        }
    return [Float64Array.from(y)];
  },
};

export interface PerSeenAttrs extends SeenAttrs {
  /** Row i is multiplied by floor(numerator / how many positions it sees), or by 1 where that is less. */
  readonly numerator: number;
}

/** One factor for each of [n, groups]. */
const factors = (a: PerSeenAttrs, params: Params): number[] =>
  Array.from({ length: a.n * a.groups }, (_, row) => {
    const [first, end] = seen(a, Math.floor(row / a.groups), params);
    return Math.max(1, Math.floor(a.numerator / (end - first)));
  });

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
