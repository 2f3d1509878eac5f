/**
 * Weights that stay on disk: a thread reads them ahead of their use, round and round in the order of a step, into a ring of places that both
 * threads see. One step at a time finds them ready; steps that take turns make it start again elsewhere, which is slower and no less right.
 */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { ModelError } from '../graph/graph.ts';
import type { SafeTensors } from '../import/safetensors.ts';
import type { Reader } from '../runtime/matrices.ts';

/** Bytes of the ring. */
const ringBytes = 64 << 20;
/** A piece is read in milliseconds; a thread silent for this long was killed. */
const deadMs = 60_000;

export interface Piece {
  /** In the file. */
  readonly from: number;
  readonly bytes: number;
}
export interface ReaderData {
  readonly path: string;
  readonly pieces: readonly Piece[];
  readonly ring: SharedArrayBuffer;
  readonly control: SharedArrayBuffer;
  readonly slots: number;
}
/** Words of the control block. `turn` goes up when reading is to start again at `first`; pieces read and let go are counted from there. */
export const words = { turn: 0, first: 1, read: 2, freed: 3, failed: 4, readTurn: 5 } as const;

export class FileReader implements Reader {
  private readonly pieces: Piece[] = [];
  private readonly control = new Int32Array(new SharedArrayBuffer(64));
  private ring?: Uint8Array;
  private slotBytes = 0;
  private slots = 0;
  private worker?: Worker;
  /** The piece that comes next, and how many have come in this turn. */
  private next = 0;
  private came = 0;

  constructor(
    private readonly path: string,
    private readonly file: Pick<SafeTensors, 'tensors'>,
  ) {}

  add(name: string, from: number, bytes: number): number {
    const tensor = this.file.tensors.get(name);
    if (!tensor || tensor.begin + from + bytes > tensor.end)
      throw new ModelError(`${this.path}: no ${bytes} bytes of '${name}' from ${from} on`);
    return this.pieces.push({ from: tensor.begin + from, bytes }) - 1;
  }

  take(i: number): Uint8Array {
    if (!this.worker) this.start(i);
    else if (i !== this.next) this.turnTo(i);
    else this.set(words.freed, this.came);
    const at = this.came % this.slots;
    this.wait();
    this.came++;
    this.next = (i + 1) % this.pieces.length;
    const begin = at * this.slotBytes;
    return (this.ring as Uint8Array).subarray(begin, begin + this.pieces[i].bytes);
  }

  close(): void {
    void this.worker?.terminate();
  }

  private start(i: number): void {
    this.slotBytes = this.pieces.reduce((most, p) => Math.max(most, p.bytes), 64);
    this.slots = Math.max(2, Math.floor(ringBytes / this.slotBytes));
    const ring = new SharedArrayBuffer(this.slots * this.slotBytes);
    this.ring = new Uint8Array(ring);
    // Workers run built JavaScript, also when this module runs from source.
    const script = new URL('../../dist/folder/reader-worker.js', import.meta.url);
    if (!existsSync(script)) throw new Error(`no ${fileURLToPath(script)}; run npm run build`);
    const workerData: ReaderData = {
      path: this.path,
      pieces: this.pieces,
      ring,
      control: this.control.buffer as SharedArrayBuffer,
      slots: this.slots,
    };
    this.worker = new Worker(script, { workerData });
    this.worker.unref();
    this.turnTo(i);
  }

  private turnTo(i: number): void {
    this.came = 0;
    Atomics.store(this.control, words.first, i);
    Atomics.store(this.control, words.freed, 0);
    Atomics.add(this.control, words.turn, 1);
    Atomics.notify(this.control, words.freed);
  }

  private set(at: number, value: number): void {
    Atomics.store(this.control, at, value);
    Atomics.notify(this.control, at);
  }

  /** Until the piece after those that came is there. */
  private wait(): void {
    for (;;) {
      const read = Atomics.load(this.control, words.read);
      const mine = Atomics.load(this.control, words.readTurn) === Atomics.load(this.control, words.turn);
      if (mine && read > this.came) return;
      if (Atomics.load(this.control, words.failed) !== 0)
        throw new ModelError(`${this.path}: could not be read on; was it changed or taken away?`);
      if (Atomics.wait(this.control, words.read, read, deadMs) === 'timed-out')
        throw new ModelError(`${this.path}: nothing was read for ${deadMs / 1000} s`);
    }
  }
}
