/** A role's memory from the bottom up: weights and constants, packed for the kernels, each for as long as the model is loaded. */
import type { Matrix, RoleWeights } from '../gates/gate.ts';
import { ProgramError } from '../program/program.ts';
import { type Kernels, type Ptr, prgScratch } from '../ring/kernels/kernels.ts';
import { formats } from '../ring/kernels/panels.ts';
import { drawn, type MaskStream, type Reader, readPanels, readRows, type TileRoom, tileRoomWords, whole, wholeBytes } from './matrices.ts';

/** Integer tensors by name, as they enter the ring; and, for private weights, the mask words a role can draw. */
export interface WeightSource {
  words(name: string): { shape: readonly number[]; data: Int32Array };
  weightMask(party: 0 | 1, name: string): { shape: readonly number[]; data: Int32Array };
  /** The tensor as it is stored: words, halves, or blocks. Needed for blocks, and where weights are not kept in memory. */
  bytes?(name: string): Uint8Array;
  /** Bytes an integer is stored in; 4 unless told. */
  elementBytes?(name: string): 1 | 2 | 4;
  maskStream?(party: 0 | 1, name: string): MaskStream;
}

/** Matrices stay in memory, in the program's order, as long as `bytes` last; the others are read, or drawn from their seed, in every product. */
export interface Storage {
  readonly bytes: number;
  /** Parties. */
  readonly reader?: Reader;
}

/** Matrices of fewer words always stay. */
const smallest = 1 << 16;

/** What a model, or a step at its parameters, needs does not fit into the memory it was given. */
export class MemoryFull extends ProgramError {}

/** Hands out memory from `top` up to `limit`, for what stays. */
export class Shelf implements RoleWeights {
  /** Bytes of matrices in memory. */
  private kept = 0;
  /** Words that a tile of the others takes, at most; and where tiles are made, known at the end. */
  private tileWords = 0;
  private readonly room = { raw: 0, packed: 0, scratch: 0 };
  private readonly seeds = new Map<string, Ptr>();

  constructor(
    readonly role: 'p0' | 'p1' | 'dealer',
    readonly k: Kernels,
    private readonly source: WeightSource,
    public top: Ptr,
    private readonly limit: Ptr,
    private readonly name: string,
    private readonly storage?: Storage,
  ) {}

  keep(n: number): Ptr {
    const at = this.top;
    this.reach(at + Math.ceil((4 * n) / 64) * 64);
    this.top = at + Math.ceil((4 * n) / 64) * 64;
    return at;
  }
  private reach(to: Ptr): void {
    if (to > this.limit)
      throw new MemoryFull(
        `${this.name} needs more than the ${Math.floor(this.limit / 2 ** 20)} MiB of one memory: use shorter inputs or a smaller model`,
      );
  }
  lend(values: Int32Array): Ptr {
    this.reach(this.top + 4 * values.length);
    this.k.i32.set(values, this.top / 4);
    return this.top;
  }
  keepWords(values: ArrayLike<number>): Ptr {
    const at = this.keep(values.length);
    if (values instanceof Int32Array) this.k.i32.set(values, at / 4);
    else for (let i = 0; i < values.length; i++) this.k.u32[at / 4 + i] = modulo32(values[i]);
    return at;
  }
  keepF32(values: ArrayLike<number>): Ptr {
    const at = this.keep(values.length);
    this.k.f32.set(values, at / 4);
    return at;
  }
  keepF64(values: ArrayLike<number>): Ptr {
    const at = this.keep(2 * values.length);
    this.k.f64.set(values, at / 8);
    return at;
  }
  words(name: string) {
    return this.source.words(name);
  }
  weightMask(party: 0 | 1, name: string) {
    return this.source.weightMask(party, name);
  }

  matrix(name: string, K: number, N: number, blocks?: number): Matrix {
    const elementBytes = this.source.elementBytes?.(name) ?? 4;
    const format = blocks ?? (elementBytes === 2 ? formats.halves : 0);
    if (this.stays(K, N, format)) {
      const at = this.keep(wholeBytes(K, N, format) / 4);
      if (blocks) this.k.u8.set(this.stored(name), at);
      else if (format === 0) this.k.packB(at, this.lend(this.source.words(name).data), K, N, N, 0, 4);
      else {
        const bytes = this.stored(name);
        this.reach(this.top + bytes.length);
        this.k.u8.set(bytes, this.top);
        this.k.packHalves(at, this.top, K, N, N, 0);
      }
      return whole(at, format, K, N);
    }
    const { reader } = this.storage!;
    if (!reader) throw new ProgramError(`internal: ${this.role} has nothing to read '${name}' from`);
    this.tileWords = Math.max(this.tileWords, tileRoomWords(K, N, blocks));
    if (blocks) return readPanels(this.k, this.room, reader, name, K, N, blocks);
    return readRows(this.k, this.room, reader, name, K, N, elementBytes === 2 ? 2 : 4);
  }

  maskMatrix(parties: readonly (0 | 1)[], name: string, K: number, N: number): Matrix {
    if (this.stays(K, N, 0)) {
      const at = this.keep(wholeBytes(K, N, 0) / 4);
      const list = parties.map((p) => this.source.weightMask(p, name).data);
      this.k.packB(at, this.lend(list.length === 1 ? list[0] : sum(list)), K, N, N, 0, 4);
      return whole(at, 0, K, N);
    }
    this.tileWords = Math.max(this.tileWords, tileRoomWords(K, N));
    return drawn(
      this.k,
      this.room,
      parties.map((p) => this.seedOf(p, name)),
      K,
      N,
    );
  }

  /** When all is loaded: places for tiles. */
  finish(): void {
    const words = this.tileWords;
    if (words > 0)
      Object.assign(this.room, { raw: this.keep(words), packed: this.keep(words), scratch: this.keep(prgScratch / 4) } satisfies TileRoom);
  }

  private stays(K: number, N: number, format: number): boolean {
    const bytes = wholeBytes(K, N, format);
    if (this.storage && K * N >= smallest && this.kept + bytes > this.storage.bytes) return false;
    this.kept += bytes;
    return true;
  }
  private stored(name: string): Uint8Array {
    if (!this.source.bytes) throw new ProgramError(`internal: '${name}' is wanted as it is stored, of weights that are not`);
    return this.source.bytes(name);
  }
  private seedOf(party: 0 | 1, name: string): { key: Ptr; nonce: MaskStream['nonce'] } {
    if (!this.source.maskStream) throw new ProgramError(`internal: the mask of '${name}' cannot be drawn in parts`);
    const { seed, nonce } = this.source.maskStream(party, name);
    const known = this.seeds.get(`${party}`);
    const key = known ?? this.keep(8);
    if (known === undefined) this.k.u8.set(seed, key);
    this.seeds.set(`${party}`, key);
    return { key, nonce };
  }
}

function sum([first, ...others]: readonly Int32Array[]): Int32Array {
  const total = first.slice();
  for (const o of others) for (let i = 0; i < total.length; i++) total[i] += o[i];
  return total;
}

/** An integer of any size below 2^53 as a word. */
export const modulo32 = (v: number): number => ((v % 2 ** 32) + 2 ** 32) % 2 ** 32;
