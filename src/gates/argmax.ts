/** argmax: where along the last axis the largest value is, as a shared integer; on request the value too. See tournament.ts. */

import type { Ptr } from '../ring/kernels/kernels.ts';
import { type BoundGate, type BoundTensor, type Gate, type PartyContext, ProgramError, size } from './gate.ts';
import type { SignAttrs } from './sign.ts';
import { dealTournament, differencePlan, playTournament, type Tournament, tournamentCost } from './tournament.ts';

/** Candidates of the last axis side by side: [n, k] to [k, n]. */
export function candidates(p: PartyContext, x: BoundTensor): Ptr {
  const k = x.shape.at(-1)!;
  const n = x.size / k;
  const at = p.words(x.size);
  p.k.copyBox(at, x.at, 1, 1, k, n, 0, 0, 1, k, 0, 0, n, 1);
  return at;
}

function tournament(g: BoundGate<SignAttrs | null>): Tournament {
  const [x, position, value] = [g.ins[0], g.outs[0], g.outs[1]];
  const k = x.shape.at(-1)!;
  if (2 ** position.bits < k) throw new ProgramError(`argmax ${g.id}: positions up to ${k - 1} do not fit ${position.bits} bits`);
  if (value && value.bits !== x.bits) throw new ProgramError(`argmax ${g.id}: the largest value keeps its ring of ${x.bits} bits`);
  return {
    k,
    n: x.size / k,
    ring: x.bits,
    position: position.bits,
    value: value !== undefined,
    plan: differencePlan('argmax', x, g.attrs),
  };
}

/** Position of the first largest value of each row; second output, optional: that value. Exact where differences fit the sign's bits. */
export const argmax: Gate<SignAttrs | null, null> = {
  name: 'argmax',
  correctionPhase: 1,
  shapes(_, [x]) {
    if (!(x.at(-1)! >= 2)) throw new ProgramError(`argmax: needs at least two values along the last axis of [${x}]`);
    return [x.slice(0, -1), x.slice(0, -1)];
  },
  cost: (g) => tournamentCost(tournament(g)),
  dealer: (d, g) => dealTournament(d, tournament(g)),
  *party(p, g) {
    const n = g.outs[0].size;
    const best = yield* playTournament(p, tournament(g), candidates(p, g.ins[0]));
    p.k.copy(g.outs[0].at, best.position, n);
    if (g.outs[1]) p.k.copy(g.outs[1].at, best.value, n);
  },
  plain(_, [x], _w, outs) {
    const k = x.shape.at(-1)!;
    const rows = Array.from({ length: size(outs[0].shape) }, (_, i) => x.data.subarray(i * k, (i + 1) * k));
    const at = Float64Array.from(rows, (r) => r.indexOf(Math.max(...r)));
    return outs.length > 1 ? [at, Float64Array.from(rows, (r) => Math.max(...r))] : [at];
  },
};
