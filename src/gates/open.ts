/**
 * open: x̂ = x − R for all to see, once; every product of this step that uses x leans on this one opening.
 *
 * What is opened is uniform: R is 32 fresh mask bits a word, half of them from each party's seed, drawn for this gate only.
 * Source: Beaver, Efficient multiparty protocols using circuit randomization (CRYPTO 1991), with the mask shared by seeds.
 */
import { packedBytes } from '../ring/kernels/kernels.ts';
import { ProgramError, free, stream, type Gate } from './gate.ts';

/** wire of x: X = x − R, ρ = [R]. 1 round, 32 bits a value each way, nothing from the dealer. Exact. */
export const open: Gate<null> = {
  name: 'open',
  shapes: (_, [x]) => [x],
  cost(g) {
    if (g.ins[0].bits !== 32) throw new ProgramError(`open: needs a 32-bit share, got ${g.ins[0].bits} bits; extend it first`);
    return { ...free, rounds: 1, openedBytes: packedBytes(32, g.ins[0].size) };
  },
  dealer(d, g) {
    d.mask(g.outs[0].mask, stream.maskX, 32, g.outs[0].size);
  },
  *party(p, g) {
    const [x, wire] = [g.ins[0], g.outs[0]];
    p.mask(wire.rho, stream.maskX, 32, x.size);
    p.k.sub(wire.at, x.at, wire.rho, x.size);
    yield [{ at: wire.at, bits: 32, n: x.size }];
  },
  plain: (_, [x]) => [x.data],
};
