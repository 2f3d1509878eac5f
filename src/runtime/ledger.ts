/**
 * The mask ledger, for tests and debugging: it writes down every word that a role draws from its PRG and refuses to have one drawn twice.
 *
 * A one-time pad is only that if it is used once. A word is named by (key, step, gate, stream, position); a party draws each at most once,
 * for the one value it hides, and the dealer draws each party's words once more to know their sum. So every role has a ledger of its
 * own, over its kernels; keys are compared by content.
 */
import { type Kernels, type Ptr, packedBytes, stripBytes, stripValues } from '../ring/kernels/kernels.ts';

/** A PRG word was drawn for a second time: two values would be hidden by the same mask. */
export class MaskReuse extends Error {
  override name = 'MaskReuse';
}

interface Run {
  readonly from: number;
  readonly to: number;
}

export class Ledger {
  private readonly drawn = new Map<string, Run[]>();
  /** Bits drawn by step and gate, in streams that hide what is opened (`hides`). */
  private readonly bits = new Map<string, number>();

  /** `hides`: whether a stream's words mask openings, rather than corrections. */
  constructor(
    readonly role: string,
    private readonly hides: (stream: number) => boolean = () => true,
  ) {}

  /** Bits from … to−1 of a stream are drawn, `hidden` bits of an opening can be hidden by them (whole blocks of 128 values: padding is public). */
  draw(key: string, step: number, gate: number, stream: number, from: number, to: number, hidden: number): void {
    const name = `step ${step}, gate ${gate}, stream ${stream}`;
    const runs = this.drawn.get(`${key} ${name}`) ?? [];
    const again = runs.find((r) => r.from < to && from < r.to);
    if (again)
      throw new MaskReuse(`${this.role} draws bits ${Math.max(from, again.from)} to ${Math.min(to, again.to)} of ${name} a second time`);
    runs.push({ from, to });
    this.drawn.set(`${key} ${name}`, runs);
    const tally = `${step} ${gate}`;
    if (this.hides(stream)) this.bits.set(tally, (this.bits.get(tally) ?? 0) + hidden);
  }

  /** Bits that a gate may open with the masks it has drawn. */
  maskBits(step: number, gate: number): number {
    return this.bits.get(`${step} ${gate}`) ?? 0;
  }
}

/** The same kernels, every draw of theirs entered in the ledger first. */
export function ledgered(k: Kernels, ledger: Ledger): Kernels {
  const content = (key: Ptr): string => Buffer.from(k.u8.subarray(key, key + 32)).toString('hex');
  /** Kernels that draw corrections by themselves. */
  const enter = (key: Ptr, step: number, gate: number, stream: number, bytes: number): void =>
    ledger.draw(content(key), step, gate, stream, 0, 8 * bytes, 0);
  const own: Partial<Kernels> = {
    prg(dst, key, step, gate, stream, bits, first, n, scratch) {
      ledger.draw(content(key), step, gate, stream, bits * first, bits * (first + n), 8 * packedBytes(bits, n));
      k.prg(dst, key, step, gate, stream, bits, first, n, scratch);
    },
    dealHarmonic(packed, r, stride, rows, width, K, t, w, m, key, step, gate, stream, scratch) {
      enter(key, step, gate, stream, packedBytes(w, stripValues(rows, width, K)));
      k.dealHarmonic(packed, r, stride, rows, width, K, t, w, m, key, step, gate, stream, scratch);
    },
    harmonic(out, c, stride, rows, width, coef, splat, K, w, m, packed, key, step, gate, stream, scratch) {
      if (packed === 0) enter(key, step, gate, stream, packedBytes(w, stripValues(rows, width, K)));
      k.harmonic(out, c, stride, rows, width, coef, splat, K, w, m, packed, key, step, gate, stream, scratch);
    },
    dealHarmonicRow(packed, r, n, K, t, w, m, key, step, gate, stream, scratch) {
      enter(key, step, gate, stream, stripBytes(2 * K * n, w));
      k.dealHarmonicRow(packed, r, n, K, t, w, m, key, step, gate, stream, scratch);
    },
    harmonicRow(out, c, n, coef, channels, inner, K, w, m, packed, key, step, gate, stream, scratch) {
      if (packed === 0) enter(key, step, gate, stream, stripBytes(2 * K * n, w));
      k.harmonicRow(out, c, n, coef, channels, inner, K, w, m, packed, key, step, gate, stream, scratch);
    },
  };
  return Object.assign(Object.create(k) as Kernels, own);
}
