/**
 * What a gate is: one step of the protocol, whole, in one file.
 *
 * A gate says its shapes, its exact cost, what the dealer prepares, what a party does, and what it means in plain numbers.
 * A party part reads like the formula: local arithmetic, `yield [opening, …]`, local arithmetic. A yield is a round; the schedule
 * joins the openings of all gates of a round in one message. Gates never see a link, a clock or a file.
 *
 * What a gate opens must be uniform whatever the input; each file says why.
 */
import type { Kernels, Ptr } from '../ring/kernels/kernels.ts';

/** A real value v is kept as the integer v·scale; one scale, or one per position of the last axis. */
export type Scale = number | readonly number[];

/**
 * share: the two parties' words add up to the value mod 2^bits.
 * wire:  a tensor opened under a mask: both know X, each has its words ρ, and the value is X + ρ_0 + ρ_1 (docs/gates.md).
 *        bits = 32: opened under a full mask; bits < 32: the opening of an extension from that ring.
 */
export interface TensorDecl {
  readonly kind: 'share' | 'wire';
  readonly bits: number;
  readonly scale: Scale;
  /** |value| < bound, in real units: calibrated with margin, held by the checker against the ring. */
  readonly bound: number;
  /** The graph value this tensor carries, if it carries one: what `inspect` compares with plaintext. */
  readonly label?: string;
}


export type Params = Readonly<Record<string, number>>;

/** One of a step's sequences: which of the session's it is, and its rows there before the step's own. */
export interface Sequence {
  readonly slot: number;
  readonly past: number;
}

/** A step's sequences, in the order of its rows: the parameters `slot` and `past`, then `slot.1`, `past.1` … */
export const sequencesOf = (params: Params): Sequence[] =>
  Array.from({ length: params.sequences ?? 1 }, (_, i) => ({ slot: params[numbered('slot', i)] ?? 0, past: params[numbered('past', i)] ?? 0 }));

/** The parameters that say this. */
export const sequenceParams = (sequences: readonly Sequence[]): Record<string, number> => ({
  sequences: sequences.length,
  ...Object.fromEntries(sequences.flatMap(({ slot, past }, i) => [[numbered('slot', i), slot], [numbered('past', i), past]])),
});

/** The name of a parameter that each sequence has, for sequence i of a step. */
export const numbered = (name: string, i: number): string => (i === 0 ? name : `${name}.${i}`);

/** The program, or what a pass made of it, breaks a rule; says which gate and which rule. */
export class ProgramError extends Error {
  override name = 'ProgramError';
}

/** A tensor of one step: declaration, shape, and where it lies in this role's memory. */
export interface BoundTensor extends TensorDecl {
  readonly id: number;
  readonly shape: readonly number[];
  readonly size: number;
  /** share: this party's words; wire: the public words X. */
  at: Ptr;
  /** wire: this party's words ρ. */
  rho: Ptr;
  /** wire, dealer: the mask r (32 or `bits` bits). */
  mask: Ptr;
}

export interface BoundGate<A = unknown, L = unknown> {
  readonly id: number;
  readonly gate: string;
  readonly layer: string;
  readonly attrs: A;
  readonly ins: readonly BoundTensor[];
  readonly outs: readonly BoundTensor[];
  /** What `load` returned for this gate on this role. */
  readonly loaded: L;
}

/**
 * n masked words of `bits` bits at `at`; after the yield the opened values stand in their place.
 * packed: `at` holds single bits as `pack` lays them out (n of them, bits = 1), and they are summed modulo 2 as they lie.
 */
export interface Opening {
  readonly at: Ptr;
  readonly bits: number;
  readonly n: number;
  readonly packed?: boolean;
}

export interface Cost {
  readonly rounds: number;
  /** Bytes each party sends the other. */
  readonly openedBytes: number;
  /** Bytes the dealer sends P1. */
  readonly correctionBytes: number;
  /** Multiply-adds of matrix products, per party and at the dealer. */
  readonly partyMacs: number;
  readonly dealerMacs: number;
}

/** Rows and columns of a matrix of weights, packed for a product: words (packB), or panels of a format. */
export interface Tile {
  readonly at: Ptr;
  /** 0: words. */
  readonly format: number;
  readonly row: number;
  readonly column: number;
  readonly rows: number;
  readonly columns: number;
}

/** A matrix [K, N] of weights: in memory as one tile, or made a tile at a time, read from disk or drawn from a seed. A tile lives until the next. */
export interface Matrix {
  tiles(): Iterable<Tile>;
}

interface RoleContext {
  readonly k: Kernels;
  readonly step: number;
  /** This gate's number in nonces. */
  readonly gate: number;
  /** The step's public parameters, those too that no shape depends on. */
  readonly params: Params;
  /** Bytes from where the kept rows (`stays`) of the step's first sequence lie to where those of sequence i do. */
  keptAt(sequence: number): number;
  /** n words that live until the gate ends. */
  words(n: number): Ptr;
  /** n words that live until the next yield. */
  temp(n: number): Ptr;
  tiles(m: Matrix): Iterable<Tile>;
}

export interface PartyContext extends RoleContext {
  readonly index: 0 | 1;
  /** This party's key, for kernels that draw by themselves. */
  readonly key: Ptr;
  /** Words of this party's half of a mask. Each (gate, stream) is drawn for one value only. */
  mask(dst: Ptr, stream: number, bits: number, n: number): void;
  /** This party's share of a correction: P0 draws it, P1 takes the dealer's next values. */
  correction(dst: Ptr, stream: number, bits: number, n: number): void;
  /** For kernels that read corrections themselves: P1 gets where its next `bytes` lie, P0 gets 0 and draws. */
  correctionBytes(bytes: number): Ptr;
  /** Words of a sharing of zero (P0 gets z, P1 −z), from a seed the dealer does not know. */
  zero(dst: Ptr, n: number): void;
}

export interface DealerContext extends RoleContext {
  readonly keys: readonly [Ptr, Ptr];
  /** One party's half of a mask. */
  half(party: 0 | 1, dst: Ptr, stream: number, bits: number, n: number): void;
  /** The whole mask r_0 + r_1 mod 2^bits. */
  mask(dst: Ptr, stream: number, bits: number, n: number): void;
  /** Sends P1 its share of `src`: src − PRG_0. Order and sizes are those in which the party part takes them. Leaves src undefined. */
  correct(src: Ptr, stream: number, bits: number, n: number): void;
  /** Room for `bytes` of corrections that a kernel writes itself. */
  correctionBytes(bytes: number): Ptr;
}

/** What a role holds of the model's weights, by name: integers as they enter the ring. */
export interface RoleWeights {
  readonly role: 'p0' | 'p1' | 'dealer';
  readonly k: Kernels;
  /** Words kept for as long as the model is loaded. */
  keep(n: number): Ptr;
  /** Words lent until the next `keep` or `lend`. */
  lend(values: Int32Array): Ptr;
  /** Keeps a vector of integers (as words), f32 or f64. */
  keepWords(values: ArrayLike<number>): Ptr;
  keepF32(values: ArrayLike<number>): Ptr;
  keepF64(values: ArrayLike<number>): Ptr;
  /**
   * A tensor of the role's weights as words: public weights on the parties; `F` on the parties (masked) for private ones.
   * The data is lent until the next call.
   */
  words(name: string): { readonly shape: readonly number[]; readonly data: Int32Array };
  /** Words of the model's weight mask B_i that this role can draw (parties: their own; dealer: either). */
  weightMask(party: 0 | 1, name: string): { readonly shape: readonly number[]; readonly data: Int32Array };
  /** The matrix [K, N] that `words` names, or its blocks of this format, in the fewest bits that hold it; F of a private one. */
  matrix(name: string, K: number, N: number, blocks?: number): Matrix;
  /** Σ B_i of these parties, for a matrix. */
  maskMatrix(parties: readonly (0 | 1)[], name: string, K: number, N: number): Matrix;
}

export interface Gate<A = any, L = any> {
  readonly name: string;
  /** The output shapes; throws ProgramError when the inputs do not fit. */
  shapes(attrs: A, ins: readonly (readonly number[])[]): (readonly number[])[];
  cost(g: BoundGate<A>): Cost;
  /** True when the output lies where the input lies (reshape). */
  readonly view?: boolean;
  /** True when the output lies in the session's memory and stays for its next steps (cache). */
  readonly stays?: boolean;
  /** The phase (number of yields before it) in which the party first takes corrections; default: the last. */
  readonly correctionPhase?: number;
  /** Packs weights and constants once, when the model is loaded. */
  load?(w: RoleWeights, attrs: A): L;
  dealer?(d: DealerContext, g: BoundGate<A, L>): void;
  party(p: PartyContext, g: BoundGate<A, L>): Generator<Opening[], void, void>;
  /** The meaning on real numbers: input values (not integers) to output values. What oracles and `inspect` run. */
  plain(attrs: A, ins: readonly Plain[], w: PlainWeights, outs: readonly { readonly shape: readonly number[]; readonly kind: 'share' | 'wire' }[], params: Params): Float64Array[];
  /** Largest error of an output value, in units of 1/scale, beyond rounding already in the inputs. For tests. */
  error?(attrs: A): number;
}

export interface Plain {
  readonly shape: readonly number[];
  readonly data: Float64Array;
  /** The tensor's ring, where the gate's meaning depends on it (harmonic: its wrap is the period); 32 unless told. */
  readonly bits?: number;
}

export interface PlainWeights {
  /** Real values: integers divided by nothing; the gate's attrs say the scale. */
  words(name: string): { readonly shape: readonly number[]; readonly data: Int32Array };
  /** A matrix kept in blocks, as it is stored. */
  bytes?(name: string): Uint8Array;
}

export const free: Cost = { rounds: 0, openedBytes: 0, correctionBytes: 0, partyMacs: 0, dealerMacs: 0 };

/** Streams of a gate's PRG: fixed numbers keep masks and correction shares apart. */
export const stream = {
  maskX: 0,
  maskY: 1,
  correction: 16,
  strip: 64,
  /** Gates of several rounds number their masks and their corrections from here on. */
  masks: 0x100000,
  corrections: 0x200000,
} as const;

/** Whether a stream's words mask openings, rather than corrections. */
export const hidesOpenings = (s: number): boolean => s < stream.correction || (s >= stream.masks && s < stream.corrections);

export const size = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);
