/**
 * relu: max(x, 0), exactly, of a wire x = X + ρ.
 *
 * The sign of x is found by sign.ts from the words that are public already; the bit b = [x ≥ 0] is opened under a mask bit d, e = b ⊕ d.
 * Then b is a wire of its own, b = e + (1 − 2e)·[d], and x·b the product of two wires (mul.ts) whose mixed terms the dealer sends as
 * shares of d·r, and for an extension from fewer bits d·μ: no round beyond that of the bit.
 *
 * After `open` or `extend` (which may be a rescale at the same time) a relu takes the rounds of the carry and one more.
 * Opened: bits under mask bits of their own, uniform. See sign.ts for sources.
 */
import { type Ptr, packedBytes } from '../ring/kernels/kernels.ts';
import { maskOf, planOf } from './compare.ts';
import { type BoundGate, free, type Gate, ProgramError } from './gate.ts';
import {
  addSign,
  bitWire,
  carry,
  carryCost,
  Draws,
  dealBit,
  dealCarry,
  openBits,
  planeWords,
  type SignAttrs,
  type SignPlan,
  signed,
} from './sign.ts';

interface Layout {
  plan: SignPlan;
  n: number;
  /** Output ring; bits of the shares of d·μ, 0 where x's wrap does not reach the output ring. */
  ring: number;
  wrap: number;
}

function layout(g: BoundGate<SignAttrs | null>): Layout {
  const [x, y] = [g.ins[0], g.outs[0]];
  if (x.kind !== 'wire') throw new ProgramError(`relu ${g.id}: needs a wire; open or extend the share first`);
  return { plan: planOf('relu', x, g.attrs), n: x.size, ring: y.bits, wrap: x.bits < 32 ? Math.max(0, y.bits - x.bits) : 0 };
}

/** max(x, 0) as a share. Exact; with `drop`, 0 ≤ x < 2^drop may come out as 0. */
export const relu: Gate<SignAttrs | null, null> = {
  name: 'relu',
  correctionPhase: 0,
  shapes: (_, [x]) => [x],
  cost(g) {
    const { plan, n, ring, wrap } = layout(g);
    const c = carryCost(plan, n);
    return {
      ...free,
      rounds: c.rounds + 1,
      openedBytes: c.openedBytes + 4 * planeWords(n),
      correctionBytes: c.correctionBytes + 2 * packedBytes(ring, n) + (wrap ? packedBytes(wrap, n) : 0),
    };
  },
  dealer(d, g) {
    const { plan, n, ring, wrap } = layout(g);
    const x = g.ins[0];
    const s = new Draws();
    const M = maskOf(d, x);
    dealCarry(d, s, M, plan, n);
    const bit = dealBit(d, s, M, plan.bits, n);
    const send = (factor: Ptr | undefined, bits: number): void => {
      const t = d.temp(n);
      if (factor === undefined) d.k.copy(t, bit, n);
      else d.k.mul(t, bit, factor, n);
      d.correct(t, s.correction(), bits, n);
    };
    send(undefined, ring);
    send(wrap ? x.mask : M, ring);
    if (!wrap) return;
    const mu = d.temp(n);
    d.k.bits(mu, x.mask, 2 ** (x.bits - 1), x.bits - 1, n);
    send(mu, wrap);
  },
  *party(p, g) {
    const { plan, n, ring, wrap } = layout(g);
    const [x, y] = [g.ins[0], g.outs[0]];
    const s = new Draws();
    const bit = yield* carry(p, s, x.at, plan, n);
    addSign(p, bit, x.at, plan.bits, true, n);
    const E = yield* openBits(p, s, bit, n);
    const { sigma, signs } = bitWire(p, s, E, ring, n);
    const rd = signed(p, s, signs, ring, n);
    const mud = wrap ? signed(p, s, signs, wrap, n) : 0;
    p.k.mulWires(y.at, x.at, x.rho, wrap ? x.bits : 32, E, sigma, 32, rd, mud, 0, 0, 1, n, 0, p.index);
  },
  plain: (_, [x]) => [x.data.map((v) => Math.max(v, 0))],
  error: (a) => (a?.drop ? 2 ** a.drop : 0),
};
