/** Reads pieces of a file into a ring of places, ahead of the thread that uses them; started by reader.ts. */
import { openSync, readSync } from 'node:fs';
import { workerData } from 'node:worker_threads';
import { type ReaderData, words } from './reader.ts';

const { path, pieces, ring, control: shared, slots } = workerData as ReaderData;
const control = new Int32Array(shared);
const place = new Uint8Array(ring);
const slotBytes = place.length / slots;

function read(fd: number, { from, bytes }: ReaderData['pieces'][number], to: number): void {
  for (let at = 0; at < bytes; ) {
    const n = readSync(fd, place, to + at, bytes - at, from + at);
    if (n === 0) throw new Error('the file ended');
    at += n;
  }
}

/** One turn: from its first piece on, until another begins. */
function turn(fd: number, number: number): void {
  const first = Atomics.load(control, words.first);
  for (let count = 0; Atomics.load(control, words.turn) === number; ) {
    const freed = Atomics.load(control, words.freed);
    // The piece that is in use was let go by none: its place is kept.
    if (count - freed >= slots) {
      Atomics.wait(control, words.freed, freed, 1000);
      continue;
    }
    read(fd, pieces[(first + count) % pieces.length], (count % slots) * slotBytes);
    count++;
    if (Atomics.load(control, words.turn) !== number) return;
    Atomics.store(control, words.read, count);
    Atomics.store(control, words.readTurn, number);
    Atomics.notify(control, words.read);
  }
}

try {
  const fd = openSync(path, 'r');
  for (;;) {
    const number = Atomics.load(control, words.turn);
    if (number === 0) Atomics.wait(control, words.turn, 0, 1000);
    else turn(fd, number);
  }
} catch {
  Atomics.store(control, words.failed, 1);
  Atomics.notify(control, words.read);
}
