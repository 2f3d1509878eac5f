/**
 * reveal: a result goes to the client, and to the client alone.
 *
 * The share is cut to the precision the result is stated in, reduced to the ring that holds it, and hidden by a fresh sharing of zero,
 * so that the two words the client gets are uniform apart from their sum: neither the client nor client and dealer together learn
 * anything of the internal shares. The zero sharing comes from a seed that P0 draws for the session and tells P1 over their own link,
 * which the dealer does not see.
 */
import { ProgramError, free, type Gate } from './gate.ts';
import { affinePlain } from './local.ts';
import { channelLayout, type TruncateAttrs } from './extend.ts';

/** Output words of `bits` bits; sending them to the client is the session's work. */
export const reveal: Gate<TruncateAttrs, { mul: number; add: number }> = {
  name: 'reveal',
  shapes: (_, [x]) => [x],
  cost(g) {
    if (g.attrs.bits > g.ins[0].bits - g.attrs.s) throw new ProgramError(`reveal ${g.id}: ${g.attrs.bits} bits of a ${g.ins[0].bits}-bit ring less ${g.attrs.s}`);
    return free;
  },
  load: (w, a) => ({ mul: a.mul && w.role !== 'dealer' ? w.keepWords(a.mul) : 0, add: a.add && w.role === 'p0' ? w.keepWords(a.add) : 0 }),
  *party(p, g) {
    const { channels, inner } = channelLayout(g);
    const [x, out] = [g.ins[0], g.outs[0]];
    const zero = p.temp(x.size);
    p.zero(zero, x.size);
    p.k.truncate(out.at, x.at, g.loaded.mul, g.loaded.add, channels, inner, zero, 0, x.bits, g.attrs.s, g.attrs.bits, p.index, x.size);
  },
  plain: (a, [x]) => [affinePlain(a, x).map((v) => v / 2 ** a.s)],
  error: () => 1,
};
