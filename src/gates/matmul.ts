/**
 * Matrix products.
 *
 * matmulPublic   [Z]_i = [X]_i·W + b: local; W is known to both parties.
 * matmulPrivate  W = F + B with B = B_0 + B_1 drawn from two seeds when the model was protected; F is known to both parties and never to the
 *                dealer. With X = x − R, x's opening, x·W = X·F + X·B + R·F + R·B, so
 *                  [Z]_0 = (X + ρ_0)·F + X·B_0 + [RB]_0,  [Z]_1 = ρ_1·F + X·B_1 + [RB]_1.
 *                The dealer sends [RB].
 * matmulShared   [Z]_0 = (X + ρ_0)·Y + X·σ_0 + [RS]_0,  [Z]_1 = ρ_1·Y + X·σ_1 + [RS]_1 for two opened wires x (X, ρ) and y (Y, σ). The
 *                dealer sends [RS].
 *
 * None of them opens anything: what they use was opened by `open` under full masks. R is used with W and with S in products that
 * stay shared; corrections are one-time-padded by party 0's PRG words.
 * Sources: Beaver (CRYPTO 1991); masked weights kept across runs as in SecureML (IEEE S&P 2017), section IV.
 */
import { gemmScratch, packedBytes, panelWords, type Ptr } from '../ring/kernels/kernels.ts';
import { type BlockFormat, unpackPanels } from '../ring/kernels/panels.ts';
import { type BoundGate, type DealerContext, free, type Gate, type Matrix, type PartyContext, type Plain, type PlainWeights, ProgramError, type RoleWeights, size, stream } from './gate.ts';

export interface WeightAttrs {
  /** [K, N] integers. */
  readonly weight: string;
  /** [N] integers at the accumulator's scale. */
  readonly bias?: string;
  readonly K: number;
  readonly N: number;
  /** Public weights: `weight` holds blocks of this format (ring/kernels/panels.ts), as bytes. */
  readonly blocks?: BlockFormat;
}

interface PublicMatrix {
  readonly W?: Matrix;
  readonly bias: number;
}

const rowsOf = (g: BoundGate<WeightAttrs>): number => g.ins[0].size / g.attrs.K;

function productShape(a: WeightAttrs, [x]: readonly (readonly number[])[]): (readonly number[])[] {
  if (x.at(-1) !== a.K) throw new ProgramError(`matmul with ${a.weight} [${a.K}, ${a.N}]: input is [${x}]`);
  return [[...x.slice(0, -1), a.N]];
}

/** C [rows, N] (+)= A [rows, K]·m, tile by tile. */
function times(c: PartyContext | DealerContext, m: Matrix, g: BoundGate<WeightAttrs>, C: Ptr, A: Ptr, accumulate: boolean, scratch: Ptr): void {
  const { K, N } = g.attrs;
  for (const t of c.tiles(m)) {
    const [to, from] = [C + 4 * t.column, A + 4 * t.row];
    const more = accumulate || t.row > 0 ? 1 : 0;
    if (t.format === 0) c.k.gemm(to, N, from, K, t.at, rowsOf(g), t.columns, t.rows, more, scratch);
    else c.k.gemmSmall(to, N, from, K, t.at, t.format, rowsOf(g), t.columns, t.rows, more, scratch);
  }
}

function weightsPlain(a: WeightAttrs, [x]: readonly Plain[], w: PlainWeights): Float64Array[] {
  const W = a.blocks ? unpackPanels(w.bytes!(a.weight), a.blocks, a.K, a.N) : w.words(a.weight).data.slice();
  const bias = a.bias ? w.words(a.bias).data.slice() : undefined;
  const rows = x.data.length / a.K;
  const z = new Float64Array(rows * a.N);
  for (let r = 0; r < rows; r++) {
    for (let k = 0; k < a.K; k++) {
      const v = x.data[r * a.K + k];
      if (v !== 0) for (let j = 0; j < a.N; j++) z[r * a.N + j] += v * W[k * a.N + j];
    }
    if (bias) for (let j = 0; j < a.N; j++) z[r * a.N + j] += bias[j];
  }
  return [z];
}

export const matmulPublic: Gate<WeightAttrs, PublicMatrix> = {
  name: 'matmulPublic',
  shapes: productShape,
  cost: (g) => ({ ...free, partyMacs: g.ins[0].size * g.attrs.N }),
  load(w, a) {
    if (w.role === 'dealer') return { bias: 0 };
    return { W: w.matrix(a.weight, a.K, a.N, a.blocks), bias: a.bias && w.role === 'p0' ? w.keepWords(w.words(a.bias).data) : 0 };
  },
  *party(p, g) {
    const [x, z] = [g.ins[0], g.outs[0]];
    times(p, g.loaded.W!, g, z.at, x.at, false, p.temp(gemmScratch / 4));
    if (g.loaded.bias) p.k.affine(z.at, z.at, 0, g.loaded.bias, g.attrs.N, 1, z.size);
  },
  plain: weightsPlain,
};

interface PrivateMatrix {
  /** Parties. */
  readonly F?: Matrix;
  /** Parties: B_i; dealer: B. */
  readonly B: Matrix;
  readonly bias: number;
}

const plus = (a: Int32Array, b: Int32Array): Int32Array => a.map((v, i) => (v + b[i]) | 0);

/** This party's share of a private vector: F + B_0, or B_1. */
export function weightShare(w: RoleWeights, name: string): Int32Array {
  return w.role === 'p0' ? plus(w.words(name).data, w.weightMask(0, name).data) : w.weightMask(1, name).data.slice();
}
/** The dealer's whole mask B of a vector. */
export const wholeMask = (w: RoleWeights, name: string): Int32Array => plus(w.weightMask(0, name).data.slice(), w.weightMask(1, name).data);

export const matmulPrivate: Gate<WeightAttrs, PrivateMatrix> = {
  name: 'matmulPrivate',
  shapes: productShape,
  cost: (g) => ({
    ...free,
    correctionBytes: packedBytes(32, g.outs[0].size),
    partyMacs: 2 * g.ins[0].size * g.attrs.N,
    dealerMacs: g.ins[0].size * g.attrs.N,
  }),
  load(w, { weight, bias, K, N }) {
    if (w.role === 'dealer') return { B: w.maskMatrix([0, 1], weight, K, N), bias: 0 };
    return {
      F: w.matrix(weight, K, N),
      B: w.maskMatrix([w.role === 'p0' ? 0 : 1], weight, K, N),
      bias: bias ? w.keepWords(weightShare(w, bias)) : 0,
    };
  },
  dealer(d, g) {
    const RB = d.temp(g.outs[0].size);
    times(d, g.loaded.B, g, RB, g.ins[0].mask, false, d.temp(gemmScratch / 4));
    d.correct(RB, stream.correction, 32, g.outs[0].size);
  },
  *party(p, g) {
    const [x, z] = [g.ins[0], g.outs[0]];
    const scratch = p.temp(gemmScratch / 4);
    let left = x.rho;
    if (p.index === 0) {
      left = p.temp(x.size);
      p.k.add(left, x.at, x.rho, x.size);
    }
    p.correction(z.at, stream.correction, 32, z.size);
    times(p, g.loaded.F!, g, z.at, left, true, scratch);
    times(p, g.loaded.B, g, z.at, x.at, true, scratch);
    if (g.loaded.bias) p.k.affine(z.at, z.at, 0, g.loaded.bias, g.attrs.N, 1, z.size);
  },
  plain: weightsPlain,
};

/** Where the batches of a matrix lie in a tensor: word offset of the first, step from batch to batch, step from row to row. */
export interface MatrixView {
  readonly offset: number;
  readonly batch: number;
  readonly row: number;
  /** Batches in a row that read the same matrix (heads that share keys); default 1. */
  readonly repeat?: number;
}

export interface SharedAttrs {
  readonly batch: number;
  readonly M: number;
  readonly N: number;
  readonly K: number;
  readonly a: MatrixView;
  readonly b: MatrixView & { readonly transposed?: boolean };
  readonly c: MatrixView;
  readonly shape: readonly number[];
}

/** Z = Σ of these products A·B, or Z += them. */
export type Products<A> = (ctx: PartyContext | DealerContext, g: BoundGate<A>, terms: readonly { readonly a: Ptr; readonly b: Ptr }[], Z: Ptr, accumulate: boolean) => void;

/** A gate of products of two wires opened under full masks, whichever entries of the factors they take. */
export function sharedProduct<A>(
  name: string,
  multiply: Products<A>,
  macs: (g: BoundGate<A>) => number,
  { shapes, plain }: Pick<Gate<A>, 'shapes' | 'plain'>,
): Gate<A, null> {
  return {
    name,
    shapes,
    cost(g) {
      for (const x of g.ins) if (x.bits !== 32) throw new ProgramError(`${name} ${g.id}: needs wires opened in 32 bits, got ${x.bits}`);
      return { ...free, correctionBytes: packedBytes(32, g.outs[0].size), partyMacs: 2 * macs(g), dealerMacs: macs(g) };
    },
    dealer(d, g) {
      const RS = d.temp(g.outs[0].size);
      multiply(d, g, [{ a: g.ins[0].mask, b: g.ins[1].mask }], RS, false);
      d.correct(RS, stream.correction, 32, g.outs[0].size);
    },
    *party(p, g) {
      const [x, y] = g.ins;
      const z = g.outs[0];
      let left = x.rho;
      if (p.index === 0) {
        left = p.temp(x.size);
        p.k.add(left, x.at, x.rho, x.size);
      }
      p.correction(z.at, stream.correction, 32, z.size);
      multiply(
        p,
        g,
        [
          { a: left, b: y.at },
          { a: x.at, b: y.rho },
        ],
        z.at,
        true,
      );
    },
    plain,
  };
}

const batches: Products<SharedAttrs> = (ctx, g, terms, C, accumulate) => {
  const { batch, M, N, K, a, b, c } = g.attrs;
  const panels = ctx.temp(panelWords(K, N));
  const scratch = ctx.temp(gemmScratch / 4);
  const matrix = (i: number): number => b.offset + Math.floor(i / (b.repeat ?? 1)) * b.batch;
  for (let i = 0; i < batch; i++) {
    terms.forEach((t, j) => {
      ctx.k.packB(panels, t.b + 4 * matrix(i), K, N, b.row, b.transposed ? 1 : 0, 4);
      ctx.k.gemm(C + 4 * (c.offset + i * c.batch), c.row, t.a + 4 * (a.offset + i * a.batch), a.row, panels, M, N, K, accumulate || j > 0 ? 1 : 0, scratch);
    });
  }
};

const macs = ({ attrs: { batch, M, N, K } }: BoundGate<SharedAttrs>): number => batch * M * N * K;

export const matmulShared = sharedProduct<SharedAttrs>('matmulShared', batches, macs, {
  shapes: (a) => [a.shape],
  plain(attrs, [x, y], _w, [out]) {
    const { batch, M, N, K, a, b, c } = attrs;
    const z = new Float64Array(size(out.shape));
    for (let i = 0; i < batch; i++)
      for (let r = 0; r < M; r++)
        for (let j = 0; j < N; j++) {
          let s = 0;
          for (let k = 0; k < K; k++) {
            const at = b.offset + Math.floor(i / (b.repeat ?? 1)) * b.batch + (b.transposed ? j * b.row + k : k * b.row + j);
            s += x.data[a.offset + i * a.batch + r * a.row + k] * y.data[at];
          }
          z[c.offset + i * c.batch + r * c.row + j] = s;
        }
    return [z];
  },
});
