/**
 * attendScores and attendValues: the two products of causal attention, of the cells alone that causal.ts makes: q·kᵀ head by head, and
 * p·v. They are matmulShared block by block,
 *   [Z]_i = X·[y]_i + ρ_i·Y + [RS]_i,
 * of two wires opened under full masks; the dealer sends [RS]. Nothing is opened here. The products of a block's rows use the first rows of k
 * and v, as many as the block has columns: the mask words of the others are not touched.
 */
import { gemmScratch, type Ptr, packedBytes, panelWords } from '../ring/kernels/kernels.ts';
import { blocksOf, type CausalRows, cellsOf } from './causal.ts';
import { type BoundGate, type DealerContext, free, type Gate, type PartyContext, ProgramError, stream } from './gate.ts';
import type { MatrixView } from './matmul.ts';

export interface AttendAttrs extends CausalRows {
  /** Width of a head. */
  readonly d: number;
  /** attendScores: where the groups of q lie. */
  readonly q?: MatrixView;
  /** Where the groups of k, or v, lie. */
  readonly kv: MatrixView;
}

type Bound = BoundGate<AttendAttrs>;
/** Z (+)= A·B for all groups and blocks. `first`: Z is overwritten. */
type Products = (ctx: PartyContext | DealerContext, g: Bound, A: Ptr, B: Ptr, Z: Ptr, first: boolean) => void;

const kvAt = ({ kv }: AttendAttrs, group: number): number => kv.offset + Math.floor(group / (kv.repeat ?? 1)) * kv.batch;

const scores: Products = (ctx, g, A, B, Z, first) => {
  const { groups, keys, d, q, kv } = g.attrs;
  const [panels, scratch] = [ctx.temp(panelWords(d, keys)), ctx.temp(gemmScratch / 4)];
  const cells = cellsOf(g.attrs);
  const blocks = blocksOf(g.attrs);
  for (let i = 0; i < groups; i++) {
    ctx.k.packB(panels, B + 4 * kvAt(g.attrs, i), d, keys, kv.row, 1, 4);
    for (const b of blocks) {
      const a = A + 4 * (q!.offset + i * q!.batch + b.first * q!.row);
      ctx.k.gemm(Z + 4 * (i * cells + b.at), b.cols, a, q!.row, panels, b.rows, b.cols, d, first ? 0 : 1, scratch);
    }
  }
};

const values: Products = (ctx, g, A, B, Z, first) => {
  const { groups, keys, d, kv } = g.attrs;
  const [panels, scratch] = [ctx.temp(panelWords(keys, d)), ctx.temp(gemmScratch / 4)];
  const blocks = blocksOf(g.attrs);
  for (let i = 0; i < groups; i++) {
    ctx.k.packB(panels, B + 4 * kvAt(g.attrs, i), keys, d, kv.row, 0, 4);
    for (const b of blocks) {
      const a = A + 4 * (groups * b.at + i * b.cols);
      const z = Z + 4 * (groups * b.first + i) * d;
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
          first ? 0 : 1,
          scratch,
        );
    }
  }
};

const macs = (g: Bound): number => g.attrs.groups * cellsOf(g.attrs) * g.attrs.d;

function product(
  name: string,
  multiply: Products,
  shapes: Gate<AttendAttrs>['shapes'],
  plain: Gate<AttendAttrs>['plain'],
): Gate<AttendAttrs, null> {
  return {
    name,
    shapes,
    cost(g) {
      for (const x of g.ins) if (x.bits !== 32) throw new ProgramError(`${name} ${g.id}: needs wires opened in 32 bits, got ${x.bits}`);
      return { ...free, correctionBytes: packedBytes(32, g.outs[0].size), partyMacs: 2 * macs(g), dealerMacs: macs(g) };
    },
    dealer(d, g) {
      const RS = d.temp(g.outs[0].size);
      multiply(d, g, g.ins[0].mask, g.ins[1].mask, RS, true);
      d.correct(RS, stream.correction, 32, g.outs[0].size);
    },
    *party(p, g) {
      const [x, y] = g.ins;
      const z = g.outs[0];
      let own = y.rho;
      if (p.index === 0) {
        own = p.temp(y.size);
        p.k.add(own, y.at, y.rho, y.size);
      }
      p.correction(z.at, stream.correction, 32, z.size);
      multiply(p, g, x.at, own, z.at, false);
      multiply(p, g, x.rho, y.at, z.at, false);
    },
    plain,
  };
}

/** q [n, …], k [keys, …] → scores [groups, cells], group by group. Exact. */
export const attendScores = product(
  'attendScores',
  scores,
  (a) => [[a.groups, cellsOf(a)]],
  (a, [q, k]) => {
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
);

/** Weights [1, groups·cells] block by block, v [keys, …] → [n, groups, d]. Exact. */
export const attendValues = product(
  'attendValues',
  values,
  (a, [p]) => {
    if (p[1] !== a.groups * cellsOf(a)) throw new ProgramError(`attendValues: [${p}] is not ${a.groups} groups of ${cellsOf(a)} cells`);
    return [[a.n, a.groups, a.d]];
  },
  (a, [p, v]) => {
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
);
