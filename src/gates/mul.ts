/**
 * Products of opened wires, elementwise: x = X + ρ, y = Y + σ with X, Y public, so
 *   xy = XY + Xσ + Yρ + ρσ,
 * where the dealer knows the masks and sends a share of ρσ. Nothing is opened here, no round passes.
 *
 * A wire opened by `open` has ρ = R; one opened by `extend` from b bits has ρ = −r + g·2^b·μ with g public (read off X), so
 *   ρσ = rs − g2^b·μs − h2^b'·νr + gh·2^(b+b')·μν,
 * one correction for each term, in as few bits as its factor 2^b leaves. Only the terms that exist are sent.
 */
import type { Kernels } from '../ring/kernels/kernels.ts';
import { packedBytes } from '../ring/kernels/kernels.ts';
import { ProgramError, free, size, stream, type BoundGate, type BoundTensor, type Gate, type RoleWeights } from './gate.ts';
import { type CausalRows, cellsOf, type Run, rowShape, runs } from './causal.ts';
import { channelsOf, type AffineAttrs } from './local.ts';
import { weightShare, wholeMask } from './matmul.ts';

const extended = (t: BoundTensor): boolean => t.bits < 32;
/** Bits of a correction that enters with factor 2^shift. */
const left = (shift: number): number => Math.max(0, 32 - shift);

/** Where rows are those of causal blocks, in mul (one value a row) and rowSquares. */
export interface RowAttrs {
  readonly causal?: CausalRows;
}

interface Layout {
  rows: readonly Run[];
  rowY: boolean;
  /** Bits of the shares of rs, μs, νr, μν; 0 where the term is absent. */
  bits: [number, number, number, number];
}

function layout(g: BoundGate<RowAttrs | null>): Layout {
  const [x, y] = g.ins;
  const rowY = y.size !== x.size;
  const [ex, ey] = [extended(x), extended(y)];
  return { rows: runs(rowY ? g.attrs?.causal : undefined, rowY ? y.size : 1, x.size), rowY, bits: [32, ex ? left(x.bits) : 0, ey ? left(y.bits) : 0, ex && ey ? left(x.bits + y.bits) : 0] };
}

/** z = x·y; y has x's shape, or one value per row (x's shape without its last axes). Exact. Costs 32 bits of correction a value for plain wires, and 32 − b more for each factor 2^b in ρσ. */
export const mul: Gate<RowAttrs | null> = {
  name: 'mul',
  shapes(a, [x, y]) {
    const n = size(y);
    const rows = a?.causal;
    if (rows ? n !== rows.groups * rows.n || size(x) !== rows.groups * cellsOf(rows) : n === 0 || size(x) % n !== 0) throw new ProgramError(`mul: [${y}] is neither [${x}] nor one value per row of it`);
    return [x];
  },
  cost(g) {
    const n = g.ins[0].size;
    return { ...free, correctionBytes: layout(g).bits.reduce((s, b) => s + (b ? packedBytes(b, n) : 0), 0) };
  },
  dealer(d, g) {
    const [x, y] = g.ins;
    const { rows, rowY, bits } = layout(g);
    const n = x.size;
    const product = d.temp(n);
    const msb = (t: BoundTensor): number => {
      const m = d.temp(t.size);
      d.k.bits(m, t.mask, 0xffffffff, t.bits - 1, t.size);
      return m;
    };
    const times = (a: number, b: number): void => {
      if (rowY) for (const r of rows) d.k.mulRow(product + 4 * r.at, a + 4 * r.at, b + 4 * r.row, r.rows, r.cols);
      else d.k.mul(product, a, b, n);
    };
    const mu = extended(x) ? msb(x) : 0;
    const nu = extended(y) ? msb(y) : 0;
    [[x.mask, y.mask], [mu, y.mask], [x.mask, nu], [mu, nu]].forEach(([a, b], i) => {
      if (!bits[i]) return;
      times(a, b);
      d.correct(product, stream.correction + i, bits[i], n);
    });
  },
  *party(p, g) {
    const [x, y] = g.ins;
    const { rows, rowY, bits } = layout(g);
    const terms = bits.map((b, i) => {
      if (!b) return 0;
      const at = p.temp(x.size);
      p.correction(at, stream.correction + i, b, x.size);
      return at;
    });
    for (const r of rows) {
      const [cell, row] = [4 * r.at, 4 * r.row];
      const [rs, muS, nuR, muNu] = terms.map((t) => t && t + cell);
      p.k.mulWires(g.outs[0].at + cell, x.at + cell, x.rho + cell, x.bits, y.at + row, y.rho + row, y.bits, rs, muS, nuR, muNu, r.rows, r.cols, rowY ? 1 : 0, p.index);
    }
  },
  plain(a, [x, y]) {
    const z = x.data.slice();
    const rows = y.data.length === z.length ? undefined : a?.causal;
    for (const r of runs(rows, y.data.length, z.length)) for (let i = 0; i < r.rows * r.cols; i++) z[r.at + i] *= y.data[r.row + Math.floor(i / r.cols)];
    return [z];
  },
};

/** Bits of the shares of μr and of μ in ρ² = r² − g·2^(b+1)·μr + g·2^(2b)·μ. */
const squareBits = (x: BoundTensor): [number, number] => (extended(x) ? [left(x.bits + 1), left(2 * x.bits)] : [0, 0]);

function squareDealer(k: Kernels, temp: (n: number) => number, x: BoundTensor): { mu: number; muR: number } {
  const [mu, muR] = [temp(x.size), temp(x.size)];
  if (extended(x)) {
    k.bits(mu, x.mask, 0xffffffff, x.bits - 1, x.size);
    k.mul(muR, mu, x.mask, x.size);
  }
  return { mu, muR };
}

/** z = x². Exact. */
export const square: Gate<null> = {
  name: 'square',
  shapes: (_, [x]) => [x],
  cost(g) {
    const n = g.ins[0].size;
    return { ...free, correctionBytes: packedBytes(32, n) + squareBits(g.ins[0]).reduce((s, b) => s + (b ? packedBytes(b, n) : 0), 0) };
  },
  dealer(d, g) {
    const x = g.ins[0];
    const [bMuR, bMu] = squareBits(x);
    const r2 = d.temp(x.size);
    d.k.mul(r2, x.mask, x.mask, x.size);
    d.correct(r2, stream.correction, 32, x.size);
    const { mu, muR } = squareDealer(d.k, (n) => d.temp(n), x);
    if (bMuR) d.correct(muR, stream.correction + 1, bMuR, x.size);
    if (bMu) d.correct(mu, stream.correction + 2, bMu, x.size);
  },
  *party(p, g) {
    const x = g.ins[0];
    const [r2, muR, mu] = [32, ...squareBits(x)].map((b, i) => {
      if (!b) return 0;
      const at = p.temp(x.size);
      p.correction(at, stream.correction + i, b, x.size);
      return at;
    });
    p.k.squareWire(g.outs[0].at, x.at, x.rho, x.bits, r2, muR, mu, p.index, x.size);
  },
  plain: (_, [x]) => [x.data.map((v) => v * v)],
};

/** z[row] = Σ_cols x². One 32-bit correction a row, and one of 31 − b bits a value when x was opened by an extension. Exact. */
export const rowSquares: Gate<RowAttrs | null> = {
  name: 'rowSquares',
  shapes: (a, [x]) => [a?.causal ? rowShape(a.causal, x) : x.slice(0, -1)],
  cost(g) {
    const x = g.ins[0];
    const rows = g.outs[0].size;
    return { ...free, correctionBytes: packedBytes(32, rows) + squareBits(x).reduce((s, b) => s + (b ? packedBytes(b, x.size) : 0), 0) };
  },
  dealer(d, g) {
    const x = g.ins[0];
    const rows = g.outs[0].size;
    const [bMuR, bMu] = squareBits(x);
    const r2 = d.temp(rows);
    for (const r of runs(g.attrs?.causal, rows, x.size)) d.k.rowDot(r2 + 4 * r.row, x.mask + 4 * r.at, x.mask + 4 * r.at, r.rows, r.cols);
    d.correct(r2, stream.correction, 32, rows);
    const { mu, muR } = squareDealer(d.k, (n) => d.temp(n), x);
    if (bMuR) d.correct(muR, stream.correction + 1, bMuR, x.size);
    if (bMu) d.correct(mu, stream.correction + 2, bMu, x.size);
  },
  *party(p, g) {
    const x = g.ins[0];
    const rows = g.outs[0].size;
    const [bMuR, bMu] = squareBits(x);
    const take = (i: number, b: number, n: number): number => {
      if (!b) return 0;
      const at = p.temp(n);
      p.correction(at, stream.correction + i, b, n);
      return at;
    };
    const r2 = take(0, 32, rows);
    const muR = take(1, bMuR, x.size);
    const mu = take(2, bMu, x.size);
    for (const r of runs(g.attrs?.causal, rows, x.size)) {
      const cell = 4 * r.at;
      p.k.rowSquares(g.outs[0].at + 4 * r.row, x.at + cell, x.rho + cell, x.bits, r2 + 4 * r.row, muR && muR + cell, mu && mu + cell, p.index, r.rows, r.cols);
    }
  },
  plain(a, [x], _w, [out]) {
    const z = new Float64Array(size(out.shape));
    for (const r of runs(a?.causal, z.length, x.data.length))
      for (let i = 0; i < r.rows * r.cols; i++) z[r.row + Math.floor(i / r.cols)] += x.data[r.at + i] ** 2;
    return [z];
  },
};

export interface MulPrivateAttrs {
  /** Integers per channel of the last axis. */
  readonly weight: string;
  readonly bias?: string;
}

interface PrivateVectors {
  own: number;
  F: number;
  bias: number;
}

/** z = x∘w + b with a private vector: X∘[w]_i + ρ_i∘F + [R∘B]_i, as matmulPrivate. x was opened by `open`. Exact. */
export const mulPrivate: Gate<MulPrivateAttrs, PrivateVectors> = {
  name: 'mulPrivate',
  shapes: (_, [x]) => [x],
  cost(g) {
    if (extended(g.ins[0])) throw new ProgramError(`mulPrivate ${g.id}: needs a wire opened in 32 bits`);
    return { ...free, correctionBytes: packedBytes(32, g.ins[0].size) };
  },
  load(w: RoleWeights, a) {
    if (w.role === 'dealer') return { own: w.keepWords(wholeMask(w, a.weight)), F: 0, bias: 0 };
    return { own: w.keepWords(weightShare(w, a.weight)), F: w.keepWords(w.words(a.weight).data), bias: a.bias ? w.keepWords(weightShare(w, a.bias)) : 0 };
  },
  dealer(d, g) {
    const x = g.ins[0];
    const RB = d.temp(x.size);
    d.k.affine(RB, x.mask, g.loaded.own, 0, x.shape.at(-1)!, 1, x.size);
    d.correct(RB, stream.correction, 32, x.size);
  },
  *party(p, g) {
    const [x, z] = [g.ins[0], g.outs[0]];
    const channels = x.shape.at(-1)!;
    const term = p.temp(x.size);
    p.correction(z.at, stream.correction, 32, z.size);
    p.k.affine(term, x.at, g.loaded.own, g.loaded.bias, channels, 1, x.size);
    p.k.add(z.at, z.at, term, z.size);
    p.k.affine(term, x.rho, g.loaded.F, 0, channels, 1, x.size);
    p.k.add(z.at, z.at, term, z.size);
  },
  plain(a, [x], w) {
    const v: AffineAttrs = { mul: [...w.words(a.weight).data], add: a.bias ? [...w.words(a.bias).data] : undefined };
    const { channels } = channelsOf(x.shape, undefined, v.mul!.length);
    return [x.data.map((t, i) => t * v.mul![i % channels] + (v.add?.[i % channels] ?? 0))];
  },
};
