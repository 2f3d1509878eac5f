/**
 * cache: rows opened in earlier steps of a session stay, new ones join them: the keys and values of a decoder.
 *
 * The output lies in memory that belongs to the session, not to the step, each of the session's sequences in its own: rows 0 … past−1 are
 * there already, x's rows become past … past+n−1; where a step has several sequences, each takes its part of x's rows. What is kept is the
 * opening X (both parties know it), each party's ρ, and at the dealer the mask r, so that old rows serve new
 * products without being opened again. A row's mask was drawn in the step that made it, and steps never repeat: a continuation, a fork or a
 * retry makes its rows anew, under masks of its own. Rows beyond the last are zeros at every role, or what a longer past has left; either
 * is consistent among the roles, and `causal` gives it no weight.
 *
 * Public first rows (`prefix`, a weight tensor) are put there by the session's first step: with public weights their mask is zero; with
 * private ones they are masked like any other weight, X = F, ρ_i = B_i.
 *
 * Nothing is opened here.
 */
import { rowsEach } from './causal.ts';
import { free, type Gate, type PartyContext, ProgramError, sequencesOf } from './gate.ts';
import { wholeMask } from './matmul.ts';

export interface CacheAttrs {
  /** Rows of the result, as many as the step's products see: usually a bucket's end, so that one plan serves many steps. */
  readonly keys: number;
  /** The first rows: a weight tensor [rows, width] of integers at x's scale. */
  readonly prefix?: { readonly weight: string; readonly rows: number; readonly private: boolean };
}

/** Places of the prefix: X (parties), and ρ (parties) or r (dealer); 0 where it is zero. */
interface Loaded {
  readonly X: number;
  readonly mask: number;
}

type Kept = Pick<PartyContext, 'k' | 'params' | 'keptAt'>;

/** x's rows to where they belong; on a sequence's first step the prefix before them. */
function join(ctx: Kept, attrs: CacheAttrs, to: number, from: { at: number; rows: number; width: number }, prefix: number): void {
  const { k } = ctx;
  const sequences = sequencesOf(ctx.params);
  const rows = rowsEach(from.rows, sequences.length);
  for (const [i, { past }] of sequences.entries()) {
    // What lies behind the last row is another's.
    if (past < 0 || past + rows > attrs.keys) throw new ProgramError(`cache: ${rows} rows after ${past} in ${attrs.keys}`);
    const first = to + ctx.keptAt(i);
    if (prefix && past === attrs.prefix?.rows) k.copy(first, prefix, past * from.width);
    k.copy(first + 4 * past * from.width, from.at + 4 * i * rows * from.width, rows * from.width);
  }
}

/**
 * wire [n, w] → wire [keys, w] of each sequence in the session's memory; `at` and the like of the result are the first one's. 0 rounds. The
 * step's parameter `past`: rows that are there, prefix included.
 */
export const cache: Gate<CacheAttrs, Loaded | undefined> = {
  name: 'cache',
  stays: true,
  shapes(a, [x]) {
    if (x.length !== 2) throw new ProgramError(`cache: rows are wanted, got [${x}]`);
    return [[a.keys, x[1]]];
  },
  cost: () => free,
  load(w, { prefix }) {
    if (!prefix) return undefined;
    if (w.role === 'dealer') return { X: 0, mask: prefix.private ? w.keepWords(wholeMask(w, prefix.weight)) : 0 };
    const X = w.keepWords(w.words(prefix.weight).data);
    return { X, mask: prefix.private ? w.keepWords(w.weightMask(w.role === 'p0' ? 0 : 1, prefix.weight).data) : 0 };
  },
  dealer(d, g) {
    const [x, c] = [g.ins[0], g.outs[0]];
    const [rows, width] = x.shape;
    join(d, g.attrs, c.mask, { at: x.mask, rows, width }, g.loaded?.mask ?? 0);
  },
  *party(p, g) {
    const [x, c] = [g.ins[0], g.outs[0]];
    const [rows, width] = x.shape;
    join(p, g.attrs, c.at, { at: x.at, rows, width }, g.loaded?.X ?? 0);
    join(p, g.attrs, c.rho, { at: x.rho, rows, width }, g.loaded?.mask ?? 0);
  },
  /** Rows of earlier steps, and other sequences than the first, are unknown here (infinite): an oracle of one step has this step's alone. */
  plain(a, [x], w, _outs, params) {
    const [{ past }, ...others] = sequencesOf(params);
    const rows = new Float64Array(a.keys * x.shape[1]).fill(Number.POSITIVE_INFINITY);
    if (a.prefix) rows.set(w.words(a.prefix.weight).data);
    rows.set(x.data.subarray(0, x.data.length / (1 + others.length)), past * x.shape[1]);
    return [rows];
  },
};
