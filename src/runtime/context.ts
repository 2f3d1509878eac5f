/**
 * What a gate's part sees of its role: kernels, working memory, and its draws from the session's PRG.
 *
 * Every draw names (step, gate, stream), each used for one value only; the mask ledger listens here and checks it.
 */
import type { DealerContext, Matrix, Params, PartyContext, Tile } from '../gates/gate.ts';
import { type Kernels, packedBytes, type Ptr } from '../ring/kernels/kernels.ts';

/** Working memory: n words, from the plan when running, from an allocator when planning. */
export interface Memory {
  words(n: number): Ptr;
  temp(n: number): Ptr;
}

/** A role's fixed places and the step's number. */
export interface Place {
  readonly k: Kernels;
  readonly keys: Ptr;
  readonly scratch: Ptr;
  readonly step: number;
  /** The step's public parameters. */
  readonly params: Params;
  /** By sequence: what `keptAt` says. */
  readonly kept: readonly number[];
}

/** Stream of the zero sharing; its key is another than the masks'. */
const zeroStream = 0;

export class PartyPart implements PartyContext {
  readonly k: Kernels;
  readonly key: Ptr;
  readonly step: number;
  readonly params: Params;
  /** P1: where the gate's next corrections lie. */
  block: Ptr = 0;

  constructor(private readonly place: Place, private readonly memory: Memory, readonly index: 0 | 1, readonly gate: number) {
    this.k = place.k;
    this.key = place.keys;
    this.step = place.step;
    this.params = place.params;
  }

  keptAt(sequence: number): number {
    return this.place.kept[sequence] ?? 0;
  }
  words(n: number): Ptr {
    return this.memory.words(n);
  }
  temp(n: number): Ptr {
    return this.memory.temp(n);
  }
  tiles(m: Matrix): Iterable<Tile> {
    return tilesOf(m, this.place);
  }
  mask(dst: Ptr, stream: number, bits: number, n: number): void {
    this.k.prg(dst, this.key, this.step, this.gate, stream, bits, 0, n, this.place.scratch);
  }
  correction(dst: Ptr, stream: number, bits: number, n: number): void {
    if (this.index === 0) return this.mask(dst, stream, bits, n);
    this.k.unpack(dst, this.block, bits, n);
    this.block += packedBytes(bits, n);
  }
  correctionBytes(bytes: number): Ptr {
    if (this.index === 0) return 0;
    const at = this.block;
    this.block += bytes;
    return at;
  }
  zero(dst: Ptr, n: number): void {
    this.k.prg(dst, this.key + 32, this.step, this.gate, zeroStream, 32, 0, n, this.place.scratch);
    if (this.index === 1) {
      const none = this.temp(n);
      this.k.fill(none, 0, n);
      this.k.sub(dst, none, dst, n);
    }
  }
}

export class DealerPart implements DealerContext {
  readonly k: Kernels;
  readonly keys: readonly [Ptr, Ptr];
  readonly step: number;
  readonly params: Params;

  /** `top`: where the next corrections go. */
  constructor(private readonly place: Place, private readonly memory: Memory, readonly gate: number, public top: Ptr) {
    this.k = place.k;
    this.keys = [place.keys, place.keys + 32];
    this.step = place.step;
    this.params = place.params;
  }

  keptAt(sequence: number): number {
    return this.place.kept[sequence] ?? 0;
  }
  words(n: number): Ptr {
    return this.memory.words(n);
  }
  temp(n: number): Ptr {
    return this.memory.temp(n);
  }
  tiles(m: Matrix): Iterable<Tile> {
    return tilesOf(m, this.place);
  }
  half(party: 0 | 1, dst: Ptr, stream: number, bits: number, n: number): void {
    this.k.prg(dst, this.keys[party], this.step, this.gate, stream, bits, 0, n, this.place.scratch);
  }
  mask(dst: Ptr, stream: number, bits: number, n: number): void {
    const other = this.temp(n);
    this.half(0, dst, stream, bits, n);
    this.half(1, other, stream, bits, n);
    this.k.add(dst, dst, other, n);
    if (bits < 32) this.k.bits(dst, dst, 2 ** bits - 1, 0, n);
  }
  correct(src: Ptr, stream: number, bits: number, n: number): void {
    const p0 = this.temp(n);
    this.half(0, p0, stream, bits, n);
    this.k.sub(src, src, p0, n);
    this.k.pack(this.top, src, bits, n);
    this.top += packedBytes(bits, n);
  }
  correctionBytes(bytes: number): Ptr {
    const at = this.top;
    this.top += bytes;
    return at;
  }
}

/** Kernels that do nothing over a memory of nothing, for planning. */
const views: Partial<Kernels> = { u32: new Uint32Array(0), i32: { set() {} } as unknown as Int32Array };
export const silentKernels = new Proxy(views, { get: (own, key) => own[key as keyof Kernels] ?? (() => {}) }) as Kernels;
export const nowhere: Place = { k: silentKernels, keys: 0, scratch: 0, step: 0, params: {}, kept: [] };

/** None while planning: a tile may have to be read first. */
const tilesOf = (m: Matrix, place: Place): Iterable<Tile> => (place === nowhere ? [] : m.tiles());

/** Plays back what the plan found for a gate, in the order of its calls. */
export function planned(places: readonly Ptr[]): Memory {
  let i = 0;
  const next = (): Ptr => {
    if (i === places.length) throw new Error('internal: a gate asks for more memory than when it was planned');
    return places[i++];
  };
  return { words: next, temp: next };
}
