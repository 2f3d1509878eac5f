/** Looks for bytes where they must not be: below a folder, in a process's memory. */
import { closeSync, openSync, readFileSync, readSync } from 'node:fs';
import { filesBelow } from './parts.ts';

export type Patterns = Readonly<Record<string, Uint8Array>>;

/** The names of those that occur in any of the pieces. */
export function found(pieces: Iterable<Uint8Array>, patterns: Patterns): string[] {
  const seen = new Set<string>();
  for (const piece of pieces) {
    const bytes = Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength);
    for (const [name, pattern] of Object.entries(patterns)) if (!seen.has(name) && bytes.includes(Buffer.from(pattern))) seen.add(name);
  }
  return [...seen].sort();
}

export const onDisk = (dir: string, patterns: Patterns): string[] => found(filesBelow(dir).values(), patterns);

export const inProcess = (pid: number, patterns: Patterns): string[] => found(memoryOf(pid), patterns);

const page = 4096;
const most = 1 << 26;

/** Every page that a process may write and has: pieces of up to 64 MiB, each a little into the next. Linux. */
export function* memoryOf(pid: number): Generator<Uint8Array> {
  const [memory, map] = [openSync(`/proc/${pid}/mem`, 'r'), openSync(`/proc/${pid}/pagemap`, 'r')];
  const overlap = page;
  try {
    for (const line of readFileSync(`/proc/${pid}/maps`, 'utf8').split('\n')) {
      const [, from, to] = /^([0-9a-f]+)-([0-9a-f]+) rw/.exec(line) ?? [];
      if (from === undefined) continue;
      for (const [start, end] of present(map, Number(`0x${from}`), Number(`0x${to}`)))
        for (let at = start; at < end; at += most) {
          const piece = Buffer.alloc(Math.min(end - at, most + overlap));
          const n = tryRead(memory, piece, at);
          yield piece.subarray(0, n);
        }
    }
  } finally {
    closeSync(memory);
    closeSync(map);
  }
}

/** Runs of pages that are backed: a WebAssembly memory reserves gigabytes and uses few of them. */
function* present(map: number, from: number, to: number): Generator<[number, number]> {
  const entries = Buffer.alloc(8 * 65_536);
  let start = -1;
  for (let at = from; at < to; at += 65_536 * page) {
    const n = Math.min(65_536, (to - at) / page);
    const got = readSync(map, entries, 0, 8 * n, (at / page) * 8) / 8;
    for (let i = 0; i < got; i++) {
      // Bit 63: in memory; bit 62: swapped out.
      const here = (entries[8 * i + 7] & 0xc0) !== 0;
      if (here && start < 0) start = at + i * page;
      if (!here && start >= 0) {
        yield [start, at + i * page];
        start = -1;
      }
    }
  }
  if (start >= 0) yield [start, to];
}

/** What was unmapped meanwhile reads as nothing. */
function tryRead(fd: number, into: Buffer, at: number): number {
  try {
    return readSync(fd, into, 0, into.length, at);
  } catch {
    return 0;
  }
}
