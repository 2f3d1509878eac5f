/**
 * Constants of the model: a tensor that is one, and adding one. Local; nothing is opened.
 * Public: party 0 holds it, party 1 zero. Private: shares F + B_0 and B_1, as other private weights.
 */
import { free, type Gate, ProgramError, type RoleWeights, size } from './gate.ts';
import { weightShare } from './matmul.ts';

export interface ConstantAttrs {
  readonly weight: string;
  readonly shape: readonly number[];
  readonly private?: boolean;
}

/** This role's words of the constant; 0 where it holds none. */
function own(w: RoleWeights, a: { weight: string; private?: boolean }): number {
  if (w.role === 'dealer' || (!a.private && w.role === 'p1')) return 0;
  return w.keepWords(a.private ? weightShare(w, a.weight) : w.words(a.weight).data);
}

export const constant: Gate<ConstantAttrs, number> = {
  name: 'constant',
  shapes: (a) => [a.shape],
  cost: () => free,
  load: own,
  *party(p, g) {
    if (g.loaded) p.k.copy(g.outs[0].at, g.loaded, g.outs[0].size);
    else p.k.fill(g.outs[0].at, 0, g.outs[0].size);
  },
  plain: (a, _ins, w) => [Float64Array.from(w.words(a.weight).data)],
};

/** z = x + c with a private c of x's size, of its last axis, or a single value. */
export const addPrivate: Gate<{ readonly weight: string; readonly length: number }, number> = {
  name: 'addPrivate',
  shapes(a, [x]) {
    if (size(x) % a.length !== 0) throw new ProgramError(`addPrivate: ${a.length} values do not fit [${x}]`);
    return [x];
  },
  cost: () => free,
  load: (w, a) => own(w, { ...a, private: true }),
  *party(p, g) {
    p.k.affine(g.outs[0].at, g.ins[0].at, 0, g.loaded, g.attrs.length, 1, g.ins[0].size);
  },
  plain(a, [x], w) {
    const { data } = w.words(a.weight);
    return [x.data.map((v, i) => v + data[i % a.length])];
  },
};
