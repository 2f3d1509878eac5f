/**
 * compare: [x ≥ t] or [x < t] for a public t, exactly, as a shared bit.
 *
 * Of a wire (opened by `open` or `extend`) the public words are used as they are; a share is opened here, in as many bits as the sign
 * needs: c = x − r mod 2^b. The sign is found by sign.ts in 0 to 2 rounds of bits. The result is a share modulo 2 (output ring of 1
 * bit), or an integer 0 or 1 in a larger ring, which takes one more round: the bit is opened under a mask bit d, e = bit ⊕ d, and
 *   bit = e + (1 − 2e)·[d]
 * with the dealer's share of d in that ring.
 *
 * Opened: c under b fresh mask bits, then bits under mask bits of their own: all uniform. See sign.ts for sources.
 */
import { type Ptr, packedBytes } from '../ring/kernels/kernels.ts';
import { type BoundGate, type BoundTensor, type DealerContext, free, type Gate, ProgramError, stream } from './gate.ts';
import { affinePlain, channelsOf } from './local.ts';
import {
  addSign,
  bitWire,
  carry,
  carryCost,
  correctBits,
  correctionBits,
  Draws,
  dealBit,
  dealCarry,
  openBits,
  planeWords,
  type SignAttrs,
  type SignPlan,
  signPlan,
} from './sign.ts';

export interface CompareAttrs extends SignAttrs {
  /** Added first, per channel: −t. */
  readonly add?: readonly number[];
  readonly axis?: number;
  /** [x < t] in place of [x ≥ t]. */
  readonly below?: boolean;
}

/** Bits in which a value of this tensor has its sign: its ring, or for an extension, which takes |x| < 2^(b−2), one less. */
const signBits = (t: BoundTensor): number => (t.kind === 'wire' && t.bits < 32 ? t.bits - 1 : t.bits);

export function planOf(gate: string, t: BoundTensor, a: SignAttrs | null): SignPlan {
  const most = t.kind === 'wire' ? t.bits : Math.min(32, t.bits);
  const bits = a?.bits ?? Math.min(32, signBits(t));
  if (bits > most) throw new ProgramError(`${gate}: a sign in ${bits} bits of a tensor of ${most}`);
  return signPlan(bits, a?.drop);
}

/** The dealer's M with x = X + M: the mask of an opening x − r, minus that of an extension's x + r. */
export function maskOf(d: DealerContext, t: BoundTensor): Ptr {
  if (t.bits === 32) return t.mask;
  const minus = d.temp(t.size);
  d.k.fill(minus, 0, t.size);
  d.k.sub(minus, minus, t.mask, t.size);
  return minus;
}

const layout = (g: BoundGate<CompareAttrs | null>): { plan: SignPlan; own: boolean; ring: number; n: number } => ({
  plan: planOf('compare', g.ins[0], g.attrs),
  own: g.ins[0].kind === 'share',
  ring: g.outs[0].bits,
  n: g.ins[0].size,
});

/** [x ≥ t], or with `below` [x < t]. Exact for −2^(b−1) ≤ x − t < 2^(b−1). Rounds: 1 for a share, those of the carry, 1 unless the output ring is Z_2. */
export const compare: Gate<CompareAttrs | null, { add: Ptr }> = {
  name: 'compare',
  correctionPhase: 0,
  shapes: (_, [x]) => [x],
  cost(g) {
    const { plan, own, ring, n } = layout(g);
    const c = carryCost(plan, n);
    const plane = 4 * planeWords(n);
    return {
      ...free,
      rounds: (own ? 1 : 0) + c.rounds + (ring > 1 ? 1 : 0),
      openedBytes: (own ? packedBytes(plan.bits, n) : 0) + c.openedBytes + (ring > 1 ? plane : 0),
      correctionBytes: c.correctionBytes + (ring > 1 ? packedBytes(ring, n) : plane),
    };
  },
  // A wire's public words are the same at both parties, which both add; of a share, P0 alone.
  load: (w, a) => ({ add: a?.add && w.role !== 'dealer' ? w.keepWords(a.add) : 0 }),
  dealer(d, g) {
    const { plan, own, ring, n } = layout(g);
    const s = new Draws();
    const M = own ? d.temp(n) : maskOf(d, g.ins[0]);
    if (own) d.mask(M, stream.maskX, plan.bits, n);
    dealCarry(d, s, M, plan, n);
    if (ring > 1) d.correct(dealBit(d, s, M, plan.bits, n), s.correction(), ring, n);
    else {
      const [msb, plane] = [d.temp(n), d.temp(planeWords(n))];
      d.k.bits(msb, M, 2 ** (plan.bits - 1), plan.bits - 1, n);
      d.k.pack(plane, msb, 1, n);
      correctBits(d, s, plane, planeWords(n));
    }
  },
  *party(p, g) {
    const { plan, own, ring, n } = layout(g);
    const { k } = p;
    const [x, y] = [g.ins[0], g.outs[0]];
    const s = new Draws();
    const a = g.attrs ?? {};
    let X = x.at;
    if (own || a.add) {
      X = p.words(n);
      const { channels, inner } = channelsOf(x.shape, a.axis, a.add?.length ?? n);
      k.affine(X, x.at, 0, own && p.index === 1 ? 0 : g.loaded.add, channels, inner, n);
    }
    if (own) {
      const r = p.temp(n);
      p.mask(r, stream.maskX, plan.bits, n);
      k.sub(X, X, r, n);
      yield [{ at: X, bits: plan.bits, n }];
    }
    const bit = yield* carry(p, s, X, plan, n);
    addSign(p, bit, X, plan.bits, !a.below, n);
    if (ring === 1) {
      k.xor(bit, bit, correctionBits(p, s, planeWords(n)), planeWords(n));
      k.unpack(y.at, bit, 1, n);
      return;
    }
    const E = yield* openBits(p, s, bit, n);
    const { sigma } = bitWire(p, s, E, ring, n);
    if (p.index === 0) k.add(sigma, sigma, E, n);
    k.copy(y.at, sigma, n);
  },
  plain: (a, [x]) => [affinePlain(a ?? {}, x).map((v) => (v >= 0 !== (a?.below ?? false) ? 1 : 0))],
  error: (a) => (a?.drop ? 1 : 0),
};
