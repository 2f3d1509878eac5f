/**
 * The largest of k shared values, and which it is: pairs are compared, the winners again, in log2 k turns of 1 + carry + 1 rounds.
 *
 * A turn opens the differences D = a − b under full masks R, finds their signs from that (sign.ts), opens b = [a ≥ b] under mask bits,
 * and takes b + [a ≥ b]·(a − b) as relu does. A position is carried along: the same bit times the difference of the positions, which is
 * opened under a mask of its own with D (in the first turn positions are public). The first of equal values wins, because a pair's
 * first value is always the earlier one.
 *
 * Opened: words under fresh mask words, bits under fresh mask bits, new ones in every turn: uniform.
 */
import { type Ptr, packedBytes } from '../ring/kernels/kernels.ts';
import { type BoundTensor, type Cost, type DealerContext, free, type Opening, type PartyContext, ProgramError } from './gate.ts';
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
  signPlan,
} from './sign.ts';

export interface Tournament {
  /** k candidates of n values each, one candidate after the other. */
  readonly k: number;
  readonly n: number;
  /** Ring of the values, and of the positions (0: not wanted). */
  readonly ring: number;
  readonly position: number;
  /** Whether the largest value itself is wanted. */
  readonly value: boolean;
  readonly plan: SignPlan;
}

/** The plan for differences of two values: −2^(b−1) ≤ a − b < 2^(b−1), b the ring's bits unless told. */
export function differencePlan(gate: string, x: BoundTensor, a: SignAttrs | null): SignPlan {
  const bits = a?.bits ?? x.bits;
  if (x.kind !== 'share' || x.bits > 32) throw new ProgramError(`${gate}: needs a share of at most 32 bits`);
  if (bits > x.bits) throw new ProgramError(`${gate}: a sign in ${bits} bits of a tensor of ${x.bits}`);
  return signPlan(bits, a?.drop);
}

/** One turn: pairs, candidates after it, and what it needs. */
interface Turn {
  readonly pairs: number;
  readonly left: number;
  /** Values are needed after the last turn only if they are wanted; positions are public before the first. */
  readonly value: boolean;
  readonly first: boolean;
  /** Ring of the share of d. */
  readonly ring: number;
}

function turns(t: Tournament): Turn[] {
  const list: Turn[] = [];
  for (let k = t.k; k > 1; k = Math.ceil(k / 2)) {
    const value = t.value || k > 2;
    list.push({ pairs: k >> 1, left: Math.ceil(k / 2), value, first: k === t.k, ring: Math.max(value ? t.ring : 0, t.position) });
  }
  return list;
}

export function tournamentCost(t: Tournament): Cost {
  let [rounds, openedBytes, correctionBytes] = [0, 0, 0];
  for (const turn of turns(t)) {
    const n = turn.pairs * t.n;
    const c = carryCost(t.plan, n);
    const moves = t.position > 0 && !turn.first ? packedBytes(t.position, n) : 0;
    rounds += 2 + c.rounds;
    openedBytes += packedBytes(t.ring, n) + moves + c.openedBytes + 4 * planeWords(n);
    correctionBytes += c.correctionBytes + packedBytes(turn.ring, n) + (turn.value ? packedBytes(t.ring, n) : 0) + moves;
  }
  return { ...free, rounds, openedBytes, correctionBytes };
}

export function dealTournament(d: DealerContext, t: Tournament): void {
  const s = new Draws();
  for (const turn of turns(t)) {
    const n = turn.pairs * t.n;
    const moves = t.position > 0 && !turn.first;
    const [R, Q, product] = [d.temp(n), d.temp(n), d.temp(n)];
    d.mask(R, s.mask(), t.ring, n);
    if (moves) d.mask(Q, s.mask(), t.position, n);
    dealCarry(d, s, R, t.plan, n);
    const bit = dealBit(d, s, R, t.plan.bits, n);
    // `correct` leaves its source undefined.
    const own = d.temp(n);
    d.k.copy(own, bit, n);
    d.correct(own, s.correction(), turn.ring, n);
    const send = (mask: Ptr, ring: number): void => {
      d.k.mul(product, bit, mask, n);
      d.correct(product, s.correction(), ring, n);
    };
    if (turn.value) send(R, t.ring);
    if (moves) send(Q, t.position);
  }
}

/** Candidates with even and with odd numbers, each side by side. */
function halves(p: PartyContext, from: Ptr, pairs: number, n: number): [even: Ptr, odd: Ptr] {
  const [even, odd] = [p.temp(pairs * n), p.words(pairs * n)];
  p.k.copyBox(even, from, 1, 1, pairs, n, 0, 0, 2 * n, 1, 0, 0, n, 1);
  p.k.copyBox(odd, from + 4 * n, 1, 1, pairs, n, 0, 0, 2 * n, 1, 0, 0, n, 1);
  return [even, odd];
}

/** The difference of two halves less a mask: D = even − odd − R, with R. */
function masked(p: PartyContext, even: Ptr, odd: Ptr, stream: number, bits: number, n: number): { D: Ptr; R: Ptr } {
  const [D, R] = [p.words(n), p.words(n)];
  p.mask(R, stream, bits, n);
  p.k.sub(D, even, odd, n);
  p.k.sub(D, D, R, n);
  return { D, R };
}

/** Runs a tournament over the candidates at `from`; returns where the largest values and their positions are. */
export function* playTournament(p: PartyContext, t: Tournament, from: Ptr): Generator<Opening[], { value: Ptr; position: Ptr }, void> {
  const { k } = p;
  const s = new Draws();
  let values = from;
  let positions = 0;
  let candidates = t.k;
  for (const turn of turns(t)) {
    const n = turn.pairs * t.n;
    const left = turn.left * t.n;
    const odd = candidates % 2 === 1;
    const moves = t.position > 0 && !turn.first;
    const [a, b] = halves(p, values, turn.pairs, t.n);
    const { D, R } = masked(p, a, b, s.mask(), t.ring, n);
    const openings: Opening[] = [{ at: D, bits: t.ring, n }];
    let [later, Dq, Rq] = [0, 0, 0];
    if (moves) {
      const [i, j] = halves(p, positions, turn.pairs, t.n);
      later = j;
      ({ D: Dq, R: Rq } = masked(p, i, j, s.mask(), t.position, n));
      openings.push({ at: Dq, bits: t.position, n });
    }
    yield openings;
    const sign = yield* carry(p, s, D, t.plan, n);
    addSign(p, sign, D, t.plan.bits, true, n);
    const E = yield* openBits(p, s, sign, n);
    const { sigma, signs } = bitWire(p, s, E, turn.ring, n);
    if (turn.value) {
      const rd = signed(p, s, signs, t.ring, n);
      const next = p.words(left);
      k.mulWires(next, D, R, 32, E, sigma, 32, rd, 0, 0, 0, 1, n, 0, p.index);
      k.add(next, next, b, n);
      if (odd) k.copy(next + 4 * n, values + 8 * n, t.n);
      values = next;
    }
    if (t.position > 0) {
      const next = p.words(left);
      if (moves) {
        const rq = signed(p, s, signs, t.position, n);
        k.mulWires(next, Dq, Rq, 32, E, sigma, 32, rq, 0, 0, 0, 1, n, 0, p.index);
        k.add(next, next, later, n);
        if (odd) k.copy(next + 4 * n, positions + 8 * n, t.n);
      } else firstPositions(p, next, sigma, E, turn, t.n, odd);
      positions = next;
    }
    candidates = turn.left;
  }
  return { value: values, position: positions };
}

/** After the first turn, pair i is at 2i + 1 − [first wins]; the last one of an odd number is where it was. */
function firstPositions(p: PartyContext, next: Ptr, sigma: Ptr, E: Ptr, turn: Turn, n: number, odd: boolean): void {
  const { k } = p;
  const all = turn.pairs * n;
  if (p.index === 0) {
    for (let i = 0; i < turn.left; i++) k.fill(next + 4 * i * n, odd && i === turn.left - 1 ? 2 * i : 2 * i + 1, n);
    k.sub(next, next, E, all);
  } else k.fill(next, 0, turn.left * n);
  k.sub(next, next, sigma, all);
}
