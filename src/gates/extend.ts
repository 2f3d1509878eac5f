/**
 * truncate and extend: the two halves of a rescale.
 *
 * truncate drops s low bits of both shares, party 0 rounding up, party 1 down: x/2^s over Z_2^(B−s), off by less than one unit, unbiased,
 * never a wrap error, no message. It only ever shrinks the ring; the truncation that keeps the ring (SecureML, IV.C) is not used,
 * because it fails outright with small probability per value.
 *
 * extend goes back from Z_2^b to Z_2^32 in one round, for |x| < 2^(b−2): P0 adds 2^(b−2); c = x + 2^(b−2) + r mod 2^b is opened, with
 * r = r_0 + r_1 − 2^b·w (r_i from the seeds, w the carry), μ = msb r, γ = msb c: the sum x + 2^(b−2) + r wrapped exactly when μ = 1 and γ = 0, so
 *   x = X − r + g·2^b·μ,  X = c − 2^(b−2), g = 1 − γ,  [−r]_i = −r_i + 2^b·[w]_i.
 * The dealer sends shares of w and μ in Z_2^(32−b).
 *
 * c is uniform in Z_2^b: r is b fresh mask bits, half from each party's seed, drawn for this gate only.
 *
 * The opening is also a masked wire of x (X public, ρ = −r + g·2^b·μ shared): squares and products by `mul` and `square` use it without
 * opening x again. γ is public per value, so matrix products cannot.
 */
import { packedBytes } from '../ring/kernels/kernels.ts';
import { ProgramError, free, stream, type BoundGate, type Gate, type RoleWeights } from './gate.ts';
import { affinePlain, channelsOf, type AffineAttrs } from './local.ts';

export interface TruncateAttrs extends AffineAttrs {
  /** Bits dropped, after x·mul + add. */
  readonly s: number;
  /** Ring of the result, at most the input's bits − s. */
  readonly bits: number;
}

interface Vectors {
  mul: number;
  add: number;
  after: number;
}

function vectors(w: RoleWeights, a: AffineAttrs & { after?: readonly number[] }): Vectors {
  const p0 = w.role === 'p0';
  return {
    mul: a.mul && w.role !== 'dealer' ? w.keepWords(a.mul) : 0,
    add: a.add && p0 ? w.keepWords(a.add) : 0,
    after: a.after && p0 ? w.keepWords(a.after) : 0,
  };
}

function check(g: BoundGate<TruncateAttrs>): void {
  const { s, bits } = g.attrs;
  if (s < 0 || bits < 1 || bits > g.ins[0].bits - s) throw new ProgramError(`${g.gate} ${g.id}: cannot keep ${bits} bits of a ${g.ins[0].bits}-bit ring after dropping ${s}`);
}

export const channelLayout = (g: BoundGate<AffineAttrs>): { channels: number; inner: number } => {
  const v = g.attrs.mul ?? g.attrs.add;
  return v ? channelsOf(g.ins[0].shape, g.attrs.axis, v.length) : { channels: 1, inner: 1 };
};

/** y = (x·mul + add)/2^s in Z_2^bits; from a ring of more than 32 bits (64-bit words, as wide row gates give them) only x/2^s. Local. */
export const truncate: Gate<TruncateAttrs, Vectors> = {
  name: 'truncate',
  shapes: (_, [x]) => [x],
  cost(g) {
    check(g);
    const { mul, add, bits } = g.attrs;
    if (g.ins[0].bits > 32 && (mul || add || bits > 32)) throw new ProgramError(`truncate ${g.id}: a ${g.ins[0].bits}-bit ring is cut to 32 bits or less, and only divided`);
    return free;
  },
  load: vectors,
  *party(p, g) {
    const { channels, inner } = channelLayout(g);
    const { s, bits } = g.attrs;
    const [x, y] = [g.ins[0], g.outs[0]];
    if (x.bits > 32) return p.k.truncate64(y.at, x.at, x.bits, s, bits, p.index, x.size);
    p.k.truncate(y.at, x.at, g.loaded.mul, g.loaded.add, channels, inner, 0, 0, x.bits, s, bits, p.index, x.size);
  },
  plain: (a, [x]) => [affinePlain(a, x).map((v) => v / 2 ** a.s)],
  error: () => 1,
};

export interface ExtendAttrs extends TruncateAttrs {
  /** Added by party 0 to the extended share (not to the wire), per channel. */
  readonly after?: readonly number[];
}

/** y = (x·mul + add)/2^s over Z_2^32, as a share, as a wire, or both (in that order). 1 round. */
export const extend: Gate<ExtendAttrs, Vectors> = {
  name: 'extend',
  shapes: (_, [x]) => [x, x],
  cost(g) {
    check(g);
    const { bits } = g.attrs;
    if (g.ins[0].bits > 32) throw new ProgramError(`extend ${g.id}: truncate the ${g.ins[0].bits}-bit ring first`);
    if (bits < 3 || bits > 30) throw new ProgramError(`extend ${g.id}: from ${bits} bits; 3 to 30 are possible`);
    const n = g.ins[0].size;
    return { ...free, rounds: 1, openedBytes: packedBytes(bits, n), correctionBytes: 2 * packedBytes(32 - bits, n) };
  },
  load: vectors,
  dealer(d, g) {
    const n = g.ins[0].size;
    const b = g.attrs.bits;
    const r0 = d.temp(n);
    const r1 = d.temp(n);
    d.half(0, r0, stream.maskX, b, n);
    d.half(1, r1, stream.maskX, b, n);
    const wire = g.outs.find((o) => o.kind === 'wire');
    const [w, mu] = [d.temp(n), d.temp(n)];
    d.k.dealExtend(wire ? wire.mask : d.temp(n), w, mu, r0, r1, b, n);
    d.correct(w, stream.correction, 32 - b, n);
    d.correct(mu, stream.correction + 1, 32 - b, n);
  },
  *party(p, g) {
    const { channels, inner } = channelLayout(g);
    const { s, bits } = g.attrs;
    const x = g.ins[0];
    const n = x.size;
    const share = g.outs.find((o) => o.kind === 'share');
    const wire = g.outs.find((o) => o.kind === 'wire');
    const r = p.words(n);
    const c = wire ? wire.at : p.words(n);
    p.mask(r, stream.maskX, bits, n);
    p.k.truncate(c, x.at, g.loaded.mul, g.loaded.add, channels, inner, r, p.index === 0 ? 2 ** (bits - 2) : 0, x.bits, s, bits, p.index, n);
    yield [{ at: c, bits, n }];
    const [w, mu] = [p.temp(n), p.temp(n)];
    p.correction(w, stream.correction, 32 - bits, n);
    p.correction(mu, stream.correction + 1, 32 - bits, n);
    p.k.extend(share?.at ?? 0, wire?.rho ?? 0, c, r, w, mu, bits, p.index, n);
    if (share && g.loaded.after) {
      const at = channelsOf(x.shape, g.attrs.axis, g.attrs.after!.length);
      p.k.affine(share.at, share.at, 0, g.loaded.after, at.channels, at.inner, n);
    }
  },
  plain(a, [x], _w, outs) {
    const y = affinePlain(a, x).map((v) => v / 2 ** a.s);
    const after = a.after ? affinePlain({ add: a.after, axis: a.axis }, { shape: x.shape, data: y }) : y;
    return outs.map((o) => (o.kind === 'wire' ? y : after));
  },
  error: () => 1,
};
