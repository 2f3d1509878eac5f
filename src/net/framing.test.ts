import fc from 'fast-check';
import { expect, test } from 'vitest';
import { FrameReader, FrameWriter, headerSize, magic, pieceSize, writeHeader } from './framing.ts';
import { pattern } from './link.case.ts';
import type { Frame } from './link.ts';

/** Writes the frames and returns the pieces as they would go out. */
function written(frames: Frame[], lend = false): Uint8Array[] {
  const pieces: Uint8Array[] = [];
  let next: (() => void) | undefined;
  const writer = new FrameWriter(
    (bytes, done) => {
      pieces.push(bytes.slice());
      next = done;
    },
    () => {},
  );
  for (const { type, session, seq, payload } of frames) writer.frame(type, session, seq, payload, lend ? () => {} : undefined);
  while (writer.pending > 0) next?.();
  return pieces;
}

function reader(sink = false): { reader: FrameReader; frames: Frame[] } {
  const frames: Frame[] = [];
  const made = new FrameReader('p1', 1 << 20, (frame) => frames.push({ ...frame, payload: frame.payload.slice() }));
  if (sink) made.frameSink = (_type, _session, _seq, length) => new Uint8Array(length);
  return { reader: made, frames };
}

const u32 = fc.integer({ min: 0, max: 2 ** 32 - 1 });
const someFrames = fc.array(
  fc.record({
    type: fc.integer({ min: 16, max: 255 }),
    session: u32,
    seq: u32,
    payload: fc
      .tuple(fc.oneof(fc.integer({ min: 0, max: 40 }), fc.integer({ min: 0, max: 3 * pieceSize })), fc.nat(100))
      .map(([length, seed]) => pattern(length, seed)),
  }),
  { maxLength: 8 },
);

test('frames survive any fragmentation', () => {
  const cuts = fc.array(fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 100_000 })), { minLength: 1, maxLength: 40 });
  fc.assert(
    fc.property(someFrames, cuts, fc.boolean(), fc.boolean(), (frames, sizes, sink, lend) => {
      const bytes = Buffer.concat(written(frames, lend));
      const { reader: r, frames: got } = reader(sink);
      const chunk = new Uint8Array(100_000);
      for (let at = 0, i = 0; at < bytes.length; i++) {
        const size = Math.min(sizes[i % sizes.length], bytes.length - at);
        chunk.set(bytes.subarray(at, at + size));
        expect(r.push(chunk, size)).toBe(size);
        at += size;
      }
      expect(got.length).toBe(frames.length);
      got.forEach((frame, i) => {
        expect({ ...frame, payload: 0 }).toEqual({ ...frames[i], payload: 0 });
        expect(Buffer.compare(frame.payload, frames[i].payload)).toBe(0);
      });
    }),
    { numRuns: 60 },
  );
});

test('pieces are at most 64 KiB, and small frames that wait travel together', () => {
  const frames = Array.from({ length: 1000 }, (_, seq) => ({ type: 16, session: 1, seq, payload: pattern(64, seq) }));
  const pieces = written(frames);
  expect(Math.max(...pieces.map(({ length }) => length))).toBeLessThanOrEqual(pieceSize);
  expect(pieces.length).toBe(1 + Math.ceil((999 * 80) / pieceSize)); // the first goes out at once, alone
});

test('the header is as documented', () => {
  const bytes = new Uint8Array(headerSize);
  writeHeader(bytes, 0, 0x01020304, 0x20, 0xa1b2c3d4, 0xfffefdfc);
  expect(Buffer.from(bytes).toString('hex')).toBe('040302012000' + '0153' + 'd4c3b2a1' + 'fcfdfeff');
});

test('a stopped reader stops between frames', () => {
  const bytes = Buffer.concat(written([1, 2, 3].map((seq) => ({ type: 16, session: 0, seq, payload: pattern(10, seq) }))));
  let count = 0;
  const r = new FrameReader('p1', 100, () => {
    r.stopped = ++count === 2;
  });
  expect(r.push(bytes, bytes.length)).toBe(2 * 26);
  r.stopped = false;
  expect(r.push(bytes.subarray(52), 26)).toBe(26);
  expect(count).toBe(3);
});

function header(length: number, type: number, mark = magic): Uint8Array {
  const bytes = new Uint8Array(headerSize);
  writeHeader(bytes, 0, length, type, 0, 0);
  bytes[6] = mark;
  bytes[7] = mark >> 8;
  return bytes;
}

const bad: [string, Uint8Array, RegExp][] = [
  ['text', Buffer.from('GET / HTTP/1.1\r\nHost: p0\r\n\r\n'), /p1 sent no frame/],
  ['another version', header(0, 16, 0x5302), /p1 sent framing version 2, expected 1: use the same release on both/],
  ['a length above the limit', header(2 ** 20 + 1, 16), /announced a frame of 1048577 bytes, expected at most 1048576/],
  ['the greatest length', header(2 ** 32 - 1, 16), /announced a frame of 4294967295 bytes/],
  ['a type above the range', header(0, 256), /frame of type 256, expected at most 255/],
  ['a long control frame', header(65, 1), /control frame of 65 bytes/],
];
for (const [what, bytes, message] of bad) {
  test(`${what} is refused, also byte by byte`, () => {
    expect(() => reader().reader.push(bytes, bytes.length)).toThrow(message);
    const { reader: r, frames } = reader();
    const feed = (): void => {
      for (const byte of bytes) r.push(Uint8Array.of(byte), 1);
    };
    expect(feed).toThrow(expect.objectContaining({ code: 'bad-frame', peer: 'p1' }));
    expect(frames).toEqual([]);
  });
}

test('random bytes are refused before any frame is delivered', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: headerSize, maxLength: 200 }), (bytes) => {
      fc.pre((bytes[6] | (bytes[7] << 8)) !== magic);
      const { reader: r, frames } = reader();
      expect(() => r.push(bytes, bytes.length)).toThrow(expect.objectContaining({ code: 'bad-frame' }));
      expect(frames).toEqual([]);
    }),
  );
});

test('a frame of another length than its sink is refused', () => {
  const { reader: r } = reader();
  r.frameSink = () => new Uint8Array(3);
  expect(() => r.push(header(4, 16), headerSize)).toThrow(/p1 sent a frame of 4 bytes, expected 3/);
});
