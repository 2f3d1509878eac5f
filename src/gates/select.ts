/**
 * select: x where a shared bit is 1, y where it is 0.
 *
 * y + bit·(x − y): the bit is opened under a mask bit d, e = bit ⊕ d, the difference under a full mask R, in the same round. Then
 * bit = e + (1 − 2e)·[d] is a wire and so is the difference, and their product takes the dealer's shares of d and d·R (mul.ts).
 *
 * Opened: a bit under a mask bit, words under as many mask bits: uniform.
 */
import { packedBytes } from '../ring/kernels/kernels.ts';
import { type BoundGate, free, type Gate, ProgramError, size, stream } from './gate.ts';
import { bitWire, Draws, dealBit, openBits, planeWords, signed } from './sign.ts';

function ringOf(g: BoundGate): number {
  const [bit, x, y] = g.ins;
  if (bit.kind !== 'share' || x.kind !== 'share' || y.kind !== 'share' || x.bits !== y.bits)
    throw new ProgramError(`select ${g.id}: needs shares, both choices in one ring`);
  return x.bits;
}

/** bit ? x : y in x's ring, exactly. The bit is a share modulo 2, or of 0 or 1 in any ring. 1 round. */
export const select: Gate<null, null> = {
  name: 'select',
  shapes(_, [bit, x, y]) {
    if (size(bit) !== size(x) || size(x) !== size(y)) throw new ProgramError(`select: shapes [${bit}], [${x}] and [${y}] differ`);
    return [x];
  },
  cost(g) {
    const n = g.outs[0].size;
    const words = packedBytes(ringOf(g), n);
    return { ...free, rounds: 1, openedBytes: 4 * planeWords(n) + words, correctionBytes: 2 * words };
  },
  dealer(d, g) {
    const ring = ringOf(g);
    const n = g.outs[0].size;
    const s = new Draws();
    const [R, t] = [d.temp(n), d.temp(n)];
    const bit = dealBit(d, s, undefined, 1, n);
    d.mask(R, stream.maskX, ring, n);
    d.k.mul(t, bit, R, n);
    d.correct(bit, s.correction(), ring, n);
    d.correct(t, s.correction(), ring, n);
  },
  *party(p, g) {
    const { k } = p;
    const ring = ringOf(g);
    const [bit, x, y] = g.ins;
    const z = g.outs[0];
    const n = z.size;
    const s = new Draws();
    const [D, R] = [p.words(n), p.words(n)];
    const plane = p.temp(planeWords(n));
    k.pack(plane, bit.at, 1, n);
    p.mask(R, stream.maskX, ring, n);
    k.sub(D, x.at, y.at, n);
    k.sub(D, D, R, n);
    const E = yield* openBits(p, s, plane, n, [{ at: D, bits: ring, n }]);
    const { sigma, signs } = bitWire(p, s, E, ring, n);
    const rd = signed(p, s, signs, ring, n);
    k.mulWires(z.at, D, R, 32, E, sigma, 32, rd, 0, 0, 0, 1, n, 0, p.index);
    k.add(z.at, z.at, y.at, n);
  },
  plain: (_, [bit, x, y]) => [x.data.map((v, i) => (bit.data[i] % 2 === 0 ? y.data[i] : v))],
};
