/**
 * The sign of x = X + M mod 2^b, X public to the parties, M known to the dealer: what compare, relu, max and argmax stand on.
 *
 * The sign bit is msb(X) ⊕ msb(M) ⊕ carry, where the carry out of the b−1 bits below says that X's low part exceeds M's complement. Those
 * bits are cut in chunks of up to 5. For each the dealer shares (by xor) the one-hot table of the chunk of ~M: 2^width entries, the last
 * of which is left out, because a one-hot table sums to 1. Looking X's chunk up in it is local and gives shares of two bits,
 *   e = [chunks equal] (the entry) and l = [X's chunk is larger] (the sum of the entries below).
 * A group of n chunks, the highest first, joins to l = l_0 ⊕ e_0·l_1 ⊕ e_0·e_1·l_2 ⊕ …, e = e_0·e_1·…, in one round: every factor is
 * opened under a mask bit, and the dealer shares all products of the mask bits that occur. One or two rounds of that give the carry.
 *
 * What is opened is uniform: bits under fresh mask bits, each half from one party's seed, drawn for this opening only. Tables and
 * products are functions of masks, and P1's shares of them are hidden by P0's words.
 *
 * `drop` leaves out low bits: x is then judged as if it were up to 2^drop − 1 smaller (a missing carry), so that 0 ≤ x < 2^drop may
 * count as negative. Nothing else changes as long as x ≥ −2^(b−1) + 2^drop.
 *
 * Sources: one-time truth tables, Ishai, Kushilevitz, Meldgaard, Orlandi, Paskin-Cherniavsky (TCC 2013); joining (larger, equal) chunk by
 * chunk, Garay, Schoenmakers, Villegas (PKC 2007) and CrypTFlow2 (CCS 2020); products of many factors in one round, ABY2.0 (USENIX
 * Security 2021).
 */
import { type Ptr, packedBytes, packedWords } from '../ring/kernels/kernels.ts';
import { type DealerContext, type Opening, type PartyContext, ProgramError, stream } from './gate.ts';

export interface SignAttrs {
  /** b: −2^(b−1) ≤ x < 2^(b−1). Fewer bits, fewer bytes. */
  readonly bits?: number;
  /** Low bits left out. */
  readonly drop?: number;
}

export interface SignPlan {
  readonly bits: number;
  /** Chunks of the bits below the sign, from the highest down. */
  readonly chunks: readonly { readonly at: number; readonly width: number }[];
  /** Rounds; in each, the sizes of the groups that are joined, from the highest down. */
  readonly levels: readonly (readonly number[])[];
}

/** Numbers of the streams of one gate, in the order in which both the dealer and the parties come to them. */
export class Draws {
  private masks: number = stream.masks;
  private corrections: number = stream.corrections;
  mask(): number {
    return this.masks++;
  }
  correction(): number {
    return this.corrections++;
  }
}

/** Words of a plane: one bit of each of n values. */
export const planeWords = (n: number): number => packedWords(1, n);
/** Opening of whole planes. */
export const opening = (at: Ptr, words: number): Opening => ({ at, bits: 1, n: 32 * words, packed: true });

// ── Groups ───────────────────────────────────────────────────────────────────────────────────────────────────────────
// Factors of a group of n: e_0 … e_{n−1} (not the last in the lowest group, whose e nobody needs), then l_1 … l_{n−1}.

const factors = (n: number, lowest: boolean): number => (n === 1 ? 0 : lowest ? 2 * n - 2 : 2 * n - 1);

/** Sets of factors (as bit sets) whose products are summed: those of l, and that of e. */
function sums(n: number, lowest: boolean): { l: number[]; e: number } {
  const equals = lowest ? n - 1 : n;
  const l = Array.from({ length: n - 1 }, (_, i) => (2 ** (i + 1) - 1) | (1 << (equals + i)));
  return { l, e: lowest ? 0 : 2 ** n - 1 };
}

function* subsets(set: number): Generator<number> {
  for (let t = set; t > 0; t = (t - 1) & set) yield t;
}
const single = (set: number): boolean => (set & (set - 1)) === 0;
const lowestIn = (set: number): number => 31 - Math.clz32(set & -set);

/** The products of two and more mask bits that a group needs; with every set, its subsets come first. */
function products(n: number, lowest: boolean): number[] {
  if (n === 1) return [];
  const { l, e } = sums(n, lowest);
  const all = new Set([...l, e].flatMap((s) => [...subsets(s)]).filter((t) => !single(t)));
  return [...all].sort((a, b) => a - b);
}

const levelPlanes = (sizes: readonly number[]): { opened: number; products: number } => ({
  opened: sizes.reduce((s, n, i) => s + factors(n, i === sizes.length - 1), 0),
  products: sizes.reduce((s, n, i) => s + products(n, i === sizes.length - 1).length, 0),
});

// ── Plans ────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** n parts of a total, as even as can be, the larger ones first. */
const parts = (total: number, n: number): number[] => Array.from({ length: n }, (_, i) => Math.floor(total / n) + (i < total % n ? 1 : 0));

/** A round is taken to be worth this many bits a value. */
const roundWorth = 48;

const plans = new Map<string, SignPlan>();

/** The cheapest way to a sign in b bits: bits a value to both parties together, corrections once and openings twice. */
export function signPlan(bits: number, drop = 0): SignPlan {
  const key = `${bits} ${drop}`;
  const known = plans.get(key);
  if (known) return known;
  const below = bits - 1 - drop;
  if (below < 1 || drop < 0 || bits > 32)
    throw new ProgramError(`sign of ${bits} bits without the ${drop} lowest: nothing is left to compare`);
  let best = { cost: Infinity, widths: [] as number[], levels: [] as number[][] };
  const consider = (widths: number[], levels: number[][]): void => {
    if (widths.some((w) => w > 5 || w < 1)) return;
    const planes = levels.map(levelPlanes);
    const cost =
      widths.reduce((s, w) => s + 2 ** w - 1, 0) + planes.reduce((s, p) => s + 2 * p.opened + p.products, 0) + roundWorth * levels.length;
    if (cost < best.cost) best = { cost, widths, levels };
  };
  consider([below], []);
  for (let n = 2; n <= 7; n++) consider(parts(below, n), [[n]]);
  for (let groups = 2; groups <= 5; groups++)
    for (let n = groups + 1; n <= 4 * groups; n++) consider(parts(below, n), [parts(n, groups).reverse(), [groups]]);
  let at = bits - 1;
  const chunks = best.widths.map((width) => {
    at -= width;
    return { at, width };
  });
  const plan = { bits, chunks, levels: best.levels };
  plans.set(key, plan);
  return plan;
}

/** Rounds and bytes of the carry for n values. */
export function carryCost(plan: SignPlan, n: number): { rounds: number; openedBytes: number; correctionBytes: number } {
  const plane = 4 * planeWords(n);
  const planes = plan.levels.map(levelPlanes);
  return {
    rounds: plan.levels.length,
    openedBytes: planes.reduce((s, p) => s + p.opened * plane, 0),
    correctionBytes:
      plan.chunks.reduce((s, c) => s + packedBytes(2 ** c.width - 1, n), 0) + planes.reduce((s, p) => s + p.products * plane, 0),
  };
}

// ── Dealer ───────────────────────────────────────────────────────────────────────────────────────────────────────────

/** P1's share of words that are summed by xor. */
export function correctBits(d: DealerContext, s: Draws, src: Ptr, words: number): void {
  const p0 = d.temp(words);
  d.half(0, p0, s.correction(), 32, words);
  d.k.xor(d.correctionBytes(4 * words), src, p0, words);
}

/** Mask bits of both parties, summed. */
export function maskBits(d: DealerContext, s: Draws, words: number): Ptr {
  const at = s.mask();
  const [whole, other] = [d.temp(words), d.temp(words)];
  d.half(0, whole, at, 32, words);
  d.half(1, other, at, 32, words);
  d.k.xor(whole, whole, other, words);
  return whole;
}

/** The dealer's part of `carry`. */
export function dealCarry(d: DealerContext, s: Draws, M: Ptr, plan: SignPlan, n: number): void {
  const W = planeWords(n);
  const [table, p0] = [d.temp(n), d.temp(n)];
  for (const { at, width } of plan.chunks) {
    const bits = 2 ** width - 1;
    d.k.oneHot(table, M, at, width, n);
    d.half(0, p0, s.correction(), bits, n);
    d.k.xor(table, table, p0, n);
    d.k.pack(d.correctionBytes(packedBytes(bits, n)), table, bits, n);
  }
  for (const sizes of plan.levels) {
    const planes = levelPlanes(sizes);
    const masks = maskBits(d, s, planes.opened * W);
    const made = d.temp(planes.products * W);
    d.k.fill(made, 0, planes.products * W);
    let [m, at] = [masks, made];
    sizes.forEach((size, i) => {
      const place = new Map<number, Ptr>();
      for (let v = 0; v < factors(size, i === sizes.length - 1); v++, m += 4 * W) place.set(1 << v, m);
      for (const t of products(size, i === sizes.length - 1)) {
        const one = 1 << lowestIn(t);
        d.k.xorAnd(at, place.get(one)!, place.get(t ^ one)!, W);
        place.set(t, at);
        at += 4 * W;
      }
    });
    correctBits(d, s, made, planes.products * W);
  }
}

/** Words of d ⊕ msb(M), where d is the mask of the sign bit's opening; without M, of d alone. */
export function dealBit(d: DealerContext, s: Draws, M: Ptr | undefined, bits: number, n: number): Ptr {
  const [bit, msb] = [d.temp(n), d.temp(n)];
  d.k.unpack(bit, maskBits(d, s, planeWords(n)), 1, n);
  if (M !== undefined) {
    d.k.bits(msb, M, 2 ** (bits - 1), bits - 1, n);
    d.k.xor(bit, bit, msb, n);
  }
  return bit;
}

// ── Parties ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/** This party's share of words that the dealer sent by `correctBits`. */
export function correctionBits(p: PartyContext, s: Draws, words: number): Ptr {
  const at = s.correction();
  const own = p.temp(words);
  const sent = p.correctionBytes(4 * words);
  if (p.index === 1) return sent;
  p.mask(own, at, 32, words);
  return own;
}

/** Planes of a chunk or of a joined group; e where somebody needs it. */
interface Unit {
  readonly l: Ptr;
  readonly e?: Ptr;
}

interface Level {
  /** Planes that are opened, group by group, and how many words they have. */
  readonly opened: Ptr;
  readonly words: number;
  readonly units: readonly Unit[];
}

/** Places of a level's inputs: those that will be opened side by side, in the order of the factors. */
function placeLevel(p: PartyContext, sizes: readonly number[], W: number): Level {
  const words = levelPlanes(sizes).opened * W;
  const opened = p.words(words);
  let next = opened;
  const take = (): Ptr => {
    next += 4 * W;
    return next - 4 * W;
  };
  const units = sizes.flatMap((n, g): Unit[] => {
    const lowest = g === sizes.length - 1;
    if (n === 1) return [{ l: p.words(W), e: lowest ? undefined : p.words(W) }];
    const first = p.words(W);
    const e = Array.from({ length: n }, (_, i) => (lowest && i === n - 1 ? undefined : take()));
    return e.map((at, i) => ({ l: i === 0 ? first : take(), e: at }));
  });
  return { opened, words, units };
}

/** Joins one group after its opening: factors at `opened` (public now), their masks and the products of these. */
function join(p: PartyContext, size: number, lowest: boolean, opened: Ptr, masks: Ptr, shares: Ptr, top: Unit, out: Unit, W: number): void {
  const { k } = p;
  const open = new Map<number, Ptr>();
  const share = new Map<number, Ptr>();
  for (let v = 0; v < factors(size, lowest); v++) {
    open.set(1 << v, opened + 4 * W * v);
    share.set(1 << v, masks + 4 * W * v);
  }
  products(size, lowest).forEach((t, i) => {
    share.set(t, shares + 4 * W * i);
    const product = p.temp(W);
    const one = 1 << lowestIn(t);
    k.fill(product, 0, W);
    k.xorAnd(product, open.get(one)!, open.get(t ^ one)!, W);
    open.set(t, product);
  });
  /** Adds Π (ô ⊕ m) over a set of factors: the sum over its subsets t of ô's outside t and m's inside. */
  const add = (dst: Ptr, set: number): void => {
    for (const t of subsets(set)) {
      if (t === set) k.xor(dst, dst, share.get(t)!, W);
      else k.xorAnd(dst, open.get(set ^ t)!, share.get(t)!, W);
    }
    if (p.index === 0) k.xor(dst, dst, open.get(set)!, W);
  };
  const { l, e } = sums(size, lowest);
  k.copy(out.l, top.l, W);
  for (const set of l) add(out.l, set);
  if (lowest) return;
  k.fill(out.e!, 0, W);
  add(out.e!, e);
}

/** This party's share of the carry, as a plane that may be changed and lives until the next yield. */
export function* carry(p: PartyContext, s: Draws, X: Ptr, plan: SignPlan, n: number): Generator<Opening[], Ptr, void> {
  const { k } = p;
  const W = planeWords(n);
  const last = (): Level => ({ opened: 0, words: 0, units: [{ l: p.temp(W) }] });
  let level = plan.levels.length > 0 ? placeLevel(p, plan.levels[0], W) : last();
  const [table, eq, gt] = [p.temp(n), p.temp(n), p.temp(n)];
  plan.chunks.forEach(({ at, width }, i) => {
    const unit = level.units[i];
    p.correction(table, s.correction(), 2 ** width - 1, n);
    k.pickBits(unit.e === undefined ? 0 : eq, gt, X, table, at, width, p.index, n);
    if (unit.e !== undefined) k.pack(unit.e, eq, 1, n);
    k.pack(unit.l, gt, 1, n);
  });
  for (const [i, sizes] of plan.levels.entries()) {
    const masks = p.words(level.words);
    p.mask(masks, s.mask(), 32, level.words);
    k.xor(level.opened, level.opened, masks, level.words);
    yield [opening(level.opened, level.words)];
    const shares = correctionBits(p, s, levelPlanes(sizes).products * W);
    const next = i + 1 < plan.levels.length ? placeLevel(p, plan.levels[i + 1], W) : last();
    let [at, mask, share, first] = [level.opened, masks, shares, 0];
    for (const [g, size] of sizes.entries()) {
      const lowest = g === sizes.length - 1;
      const [top, out] = [level.units[first], next.units[g]];
      if (size === 1) {
        k.copy(out.l, top.l, W);
        if (!lowest) k.copy(out.e!, top.e!, W);
      } else join(p, size, lowest, at, mask, share, top, out, W);
      at += 4 * W * factors(size, lowest);
      mask += 4 * W * factors(size, lowest);
      share += 4 * W * products(size, lowest).length;
      first += size;
    }
    level = next;
  }
  return level.units[0].l;
}

/** P0 adds a public bit of each word to a shared plane: msb(X), or its complement. */
export function addSign(p: PartyContext, plane: Ptr, X: Ptr, bits: number, complement: boolean, n: number): void {
  if (p.index === 1) return;
  const [signs, ones, own] = [p.temp(n), p.temp(n), p.temp(planeWords(n))];
  p.k.bits(signs, X, 2 ** (bits - 1), bits - 1, n);
  p.k.fill(ones, 1, n);
  if (complement) p.k.xor(signs, signs, ones, n);
  p.k.pack(own, signs, 1, n);
  p.k.xor(plane, plane, own, planeWords(n));
}

/** Opens a shared plane under mask bits d, with other openings of the round; returns the words e, so that bit = e ⊕ d. */
export function* openBits(
  p: PartyContext,
  s: Draws,
  plane: Ptr,
  n: number,
  also: readonly Opening[] = [],
): Generator<Opening[], Ptr, void> {
  const W = planeWords(n);
  const e = p.words(W);
  p.mask(e, s.mask(), 32, W);
  p.k.xor(e, e, plane, W);
  yield [opening(e, W), ...also];
  const words = p.temp(n);
  p.k.unpack(words, e, 1, n);
  return words;
}

/** The bit e ⊕ d as a wire: bit = E + σ, E = e public and [σ]_i = (1 − 2e)·[d]_i from the dealer's share of d, in `bits` bits. */
export function bitWire(p: PartyContext, s: Draws, E: Ptr, bits: number, n: number): { sigma: Ptr; signs: Ptr } {
  const { k } = p;
  const [sigma, signs] = [p.temp(n), p.temp(n)];
  k.fill(signs, 1, n);
  k.sub(signs, signs, E, n);
  k.sub(signs, signs, E, n);
  p.correction(sigma, s.correction(), bits, n);
  k.mul(sigma, sigma, signs, n);
  return { sigma, signs };
}

/** A correction times (1 − 2e): a term of ρσ. */
export function signed(p: PartyContext, s: Draws, signs: Ptr, bits: number, n: number): Ptr {
  const at = p.temp(n);
  p.correction(at, s.correction(), bits, n);
  p.k.mul(at, at, signs, n);
  return at;
}
