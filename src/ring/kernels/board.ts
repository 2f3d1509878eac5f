/**
 * The board on which a leader leaves jobs for its workers: a few words and the arguments of a call for each worker, in memory that all
 * threads share. A worker's job number goes up when a job is posted, its done number follows when the job is done.
 */
const words = 16;
const maxArgs = 32;
const [Posted, Done, Failed, Op, Count] = [0, 1, 2, 3, 4];
const spinMs = 0.02;
/** A part takes milliseconds; a worker silent for this long never started or was killed. */
const deadMs = 60_000;
export const stop = -1;

export class Board {
  readonly buffer: SharedArrayBuffer;
  private readonly control: Int32Array;
  private readonly args: Float64Array;

  constructor(from: number | SharedArrayBuffer) {
    const slot = 4 * words + 8 * maxArgs;
    this.buffer = typeof from === 'number' ? new SharedArrayBuffer(from * slot) : from;
    const workers = this.buffer.byteLength / slot;
    this.control = new Int32Array(this.buffer, 0, workers * words);
    this.args = new Float64Array(this.buffer, 4 * workers * words, workers * maxArgs);
  }

  post(worker: number, op: number, args: number[]): void {
    const at = worker * words;
    this.control[at + Op] = op;
    this.control[at + Count] = args.length;
    this.args.set(args, worker * maxArgs);
    Atomics.add(this.control, at + Posted, 1);
    Atomics.notify(this.control, at + Posted);
  }

  /** Waits until the worker's job is done. False when it failed or the worker is gone. */
  finished(worker: number): boolean {
    const at = worker * words;
    const answered = this.until(at + Done, this.control[at + Posted], deadMs);
    return answered && Atomics.load(this.control, at + Failed) === 0;
  }

  /** A worker's life: takes jobs until told to stop. */
  serve(worker: number, run: (op: number, args: number[]) => void): void {
    const at = worker * words;
    for (let job = 1; ; job++) {
      this.until(at + Posted, job);
      const op = this.control[at + Op];
      if (op === stop) return;
      const first = worker * maxArgs;
      try {
        run(op, Array.from(this.args.subarray(first, first + this.control[at + Count])));
      } catch {
        Atomics.store(this.control, at + Failed, 1);
      }
      Atomics.store(this.control, at + Done, job);
      Atomics.notify(this.control, at + Done);
    }
  }

  /** Looks for a moment before it sleeps: kernels follow each other closely, and waking costs more than many of them. */
  private until(at: number, value: number, limitMs = Number.POSITIVE_INFINITY): boolean {
    const end = performance.now() + spinMs;
    while (Atomics.load(this.control, at) !== value && performance.now() < end);
    for (let seen = Atomics.load(this.control, at); seen !== value; seen = Atomics.load(this.control, at))
      if (Atomics.wait(this.control, at, seen, limitMs) === 'timed-out') return false;
    return true;
  }
}
