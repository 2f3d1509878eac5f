/**
 * attendScores and attendValues: the two products of causal attention, of the cells alone that causal.ts makes: q·kᵀ head by head, and
 * p·v. They are sharedProduct (matmul.ts) block by block,
 *   [Z]_0 = (X + ρ_0)·Y + X·σ_0 + [RS]_0,  [Z]_1 = ρ_1·Y + X·σ_1 + [RS]_1,
 * of two wires opened under full masks; the dealer sends [RS]. Nothing is opened here. The products of a block's rows use the first rows of
 * its sequence's k and v, as many as the block has columns: the mask words of the others are not touched.
 */
import { gemmScratch, panelWords } from '../ring/kernels/kernels.ts';
import { type Block, blocksOf, type CausalRows, cellsOf } from './causal.ts';
import { type BoundGate, ProgramError } from './gate.ts';
import { type MatrixView, type Products, sharedProduct } from './matmul.ts';

export interface AttendAttrs extends CausalRows {
  /** Width of a head. */
  readonly d: number;
  /** attendScores: where the groups of q lie. */
  readonly q?: MatrixView;
  /** Where the groups of k, or v, lie. */
  readonly kv: MatrixView;
}

const kvAt = ({ kv }: AttendAttrs, group: number): number => kv.offset + Math.floor(group / (kv.repeat ?? 1)) * kv.batch;

/** The blocks of each sequence. */
function bySequence(a: CausalRows): Block[][] {
  const lists: Block[][] = [];
  for (const b of blocksOf(a)) (lists[b.sequence] ??= []).push(b);
  return lists;
}

const scores: Products<AttendAttrs> = (ctx, g, terms, Z, accumulate) => {
  const { groups, keys, d, q, kv } = g.attrs;
  const [panels, scratch] = [ctx.temp(panelWords(d, keys)), ctx.temp(gemmScratch / 4)];
  const cells = cellsOf(g.attrs);
  for (const [sequence, blocks] of bySequence(g.attrs).entries())
    for (let i = 0; i < groups; i++)
      for (const [j, t] of terms.entries()) {
        ctx.k.packB(panels, t.b + ctx.keptAt(sequence) + 4 * kvAt(g.attrs, i), d, keys, kv.row, 1, 4);
        for (const b of blocks) {
          const a = t.a + 4 * (q!.offset + i * q!.batch + b.first * q!.row);
          ctx.k.gemm(Z + 4 * (i * cells + b.at), b.cols, a, q!.row, panels, b.rows, b.cols, d, accumulate || j > 0 ? 1 : 0, scratch);
        }
      }
};

const values: Products<AttendAttrs> = (ctx, g, terms, Z, accumulate) => {
  const { groups, keys, d, kv } = g.attrs;
  const [panels, scratch] = [ctx.temp(panelWords(keys, d)), ctx.temp(gemmScratch / 4)];
  for (const [sequence, blocks] of bySequence(g.attrs).entries())
    for (let i = 0; i < groups; i++)
      for (const [j, t] of terms.entries()) {
        ctx.k.packB(panels, t.b + ctx.keptAt(sequence) + 4 * kvAt(g.attrs, i), keys, d, kv.row, 0, 4);
        for (const b of blocks) {
          const a = t.a + 4 * (groups * b.at + i * b.cols);
          const z = Z + 4 * (groups * b.first + i) * d;
          const more = accumulate || j > 0 ? 1 : 0;
          // One panel at a time: a block takes the first rows of each.
          for (let c = 0; c < d; c += 16)
            ctx.k.gemm(
              z + 4 * c,
              groups * d,
              a,
              groups * b.cols,
              panels + 4 * keys * c,
              b.rows,
              Math.min(16, d - c),
              b.cols,
              more,
              scratch,
            );
        }
      }
};

const macs = ({ attrs }: BoundGate<AttendAttrs>): number => attrs.groups * cellsOf(attrs) * attrs.d;

/** q [n, …], k [keys, …] of each sequence → scores [groups, cells], group by group. Exact. */
export const attendScores = sharedProduct('attendScores', scores, macs, {
  shapes: (a) => [[a.groups, cellsOf(a)]],
  plain(a, [q, k]) {
    const z: number[] = [];
    for (let i = 0; i < a.groups; i++)
      for (const b of blocksOf(a))
        for (let row = b.first; row < b.first + b.rows; row++)
          for (let c = 0; c < b.cols; c++) {
            const [x, y] = [a.q!.offset + i * a.q!.batch + row * a.q!.row, kvAt(a, i) + c * a.kv.row];
            let sum = 0;
            for (let j = 0; j < a.d; j++) sum += q.data[x + j] * k.data[y + j];
            z.push(sum);
          }
    return [Float64Array.from(z)];
  },
});

/** Weights [1, groups·cells] block by block, v [keys, …] of each sequence → [n, groups, d]. Exact. */
export const attendValues = sharedProduct('attendValues', values, macs, {
  shapes(a, [p]) {
    if (p[1] !== a.groups * cellsOf(a)) throw new ProgramError(`attendValues: [${p}] is not ${a.groups} groups of ${cellsOf(a)} cells`);
    return [[a.n, a.groups, a.d]];
  },
  plain(a, [p, v]) {
    const z = new Float64Array(a.n * a.groups * a.d);
    for (const b of blocksOf(a))
      for (let row = 0; row < b.rows * a.groups; row++)
        for (let c = 0; c < b.cols; c++) {
          const weight = p.data[a.groups * b.at + row * b.cols + c];
          const from = kvAt(a, row % a.groups) + c * a.kv.row;
          // Cells of weight zero may stand for rows that are not there.
          if (weight !== 0) for (let j = 0; j < a.d; j++) z[(a.groups * b.first + row) * a.d + j] += weight * v.data[from + j];
        }
    return [z];
  },
});
