/** What every link owes its owner, whatever carries it: run by memory.test.ts and tls.test.ts. */
import { afterEach, describe, expect, test } from 'vitest';
import { headerSize } from './framing.ts';
import type { Frame, Link, LinkError, LinkOptions } from './link.ts';

export type MakePair = (options?: LinkOptions) => Promise<[Link, Link]>;

export interface Heard {
  frames: Frame[];
  /** Resolves when this many frames have come. */
  count(n: number): Promise<Frame[]>;
}

/** Keeps copies of what a link delivers. */
export function listenTo(link: Link): Heard {
  const frames: Frame[] = [];
  let wanted = 0;
  let enough = (): void => {};
  link.onFrame = (frame) => {
    frames.push({ ...frame, payload: frame.payload.slice() });
    if (frames.length === wanted) enough();
  };
  const count = (n: number): Promise<Frame[]> =>
    new Promise((resolve) => {
      wanted = n;
      enough = () => resolve(frames);
      if (frames.length >= n) resolve(frames);
    });
  return { frames, count };
}

export function closing(link: Link): Promise<LinkError | undefined> {
  return new Promise((resolve) => {
    link.onClose = resolve;
  });
}

/** Bytes that depend on where they stand and on the seed, so that a shift or a swap shows. */
export function pattern(length: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let state = (seed * 2654435761) >>> 0 || 1;
  for (let i = 0; i < length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes[i] = state;
  }
  return bytes;
}

export function linkCases(make: MakePair): void {
  const open: Link[] = [];
  const pair = async (options?: LinkOptions): Promise<[Link, Link]> => {
    const links = await make(options);
    open.push(...links);
    return links;
  };
  afterEach(() => {
    for (const link of open.splice(0)) link.close();
  });

  describe('every link', () => {
    test('keeps type, session, sequence, payload and order', async () => {
      const [a, b] = await pair();
      expect([a.peer, b.peer]).toEqual(['p1', 'p0']);
      const heard = listenTo(b);
      const sizes = [0, 1, 15, 16, 17, 64, 4096, 65519, 65520, 65521, 65536, 200_000, 0, 3];
      sizes.forEach((size, i) => {
        a.send(16 + i, 0xffffffff - i, i * 7, pattern(size, i));
      });
      const frames = await heard.count(sizes.length);
      frames.forEach((frame, i) => {
        expect([frame.type, frame.session, frame.seq]).toEqual([16 + i, 0xffffffff - i, i * 7]);
        expect(Buffer.compare(frame.payload, pattern(sizes[i], i))).toBe(0);
      });
    });

    test('joins a payload given in parts', async () => {
      const [a, b] = await pair();
      const heard = listenTo(b);
      a.send(20, 1, 2, [pattern(5, 1), pattern(0, 2), pattern(100_000, 3)]);
      const [frame] = await heard.count(1);
      expect(Buffer.compare(frame.payload, Buffer.concat([pattern(5, 1), pattern(100_000, 3)]))).toBe(0);
    });

    test('has copied the payload when send returns', async () => {
      const [a, b] = await pair();
      const heard = listenTo(b);
      const payload = pattern(300_000, 1);
      a.send(16, 0, 0, payload);
      payload.fill(0);
      const [frame] = await heard.count(1);
      expect(Buffer.compare(frame.payload, pattern(300_000, 1))).toBe(0);
    });

    test('releases a payload lent to it once', async () => {
      const [a, b] = await pair();
      const heard = listenTo(b);
      for (const size of [0, 100, 65536, 1_000_000]) {
        const payload = pattern(size, size);
        let times = 0;
        await new Promise<void>((resolve) => {
          a.send(16, 0, size, payload, () => {
            times++;
            resolve();
          });
        });
        payload.fill(0);
        expect(times).toBe(1);
      }
      const frames = await heard.count(4);
      for (const { payload, seq } of frames) expect(Buffer.compare(payload, pattern(seq, seq))).toBe(0);
    });

    test('writes into the sink that the owner gives', async () => {
      const [a, b] = await pair();
      const memory = new Uint8Array(new SharedArrayBuffer(1 << 20));
      b.frameSink = (type, session, seq, length) => (type === 17 ? memory.subarray(session + seq, session + seq + length) : null);
      const heard = listenTo(b);
      const views: boolean[] = [];
      const keep = b.onFrame;
      b.onFrame = (frame) => {
        views.push(frame.payload.buffer === memory.buffer);
        keep(frame);
      };
      a.send(17, 1000, 24, pattern(500_000, 1));
      a.send(18, 0, 0, pattern(10, 2));
      a.send(17, 0, 3, pattern(10, 3));
      await heard.count(3);
      expect(views).toEqual([true, false, true]);
      expect(Buffer.compare(memory.subarray(1024, 501_024), pattern(500_000, 1))).toBe(0);
      expect(Buffer.compare(memory.subarray(3, 13), pattern(10, 3))).toBe(0);
    });

    test('keeps frames back until the owner listens', async () => {
      const [a, b] = await pair();
      a.send(16, 0, 1, pattern(10, 1));
      a.send(16, 0, 2, pattern(100_000, 2));
      await new Promise((resolve) => setTimeout(resolve, 50));
      const frames = await listenTo(b).count(2);
      expect(frames.map(({ seq }) => seq)).toEqual([1, 2]);
    });

    test('delivers nothing while paused, and then everything', async () => {
      const [a, b] = await pair();
      const heard = listenTo(b);
      const deliver = b.onFrame;
      b.onFrame = (frame) => {
        deliver(frame);
        if (frame.seq % 10 === 0) b.pause();
      };
      for (let i = 1; i <= 35; i++) a.send(16, 0, i, pattern(i * 100, i));
      for (const upTo of [10, 20, 30]) {
        await heard.count(upTo);
        await new Promise((resolve) => setTimeout(resolve, 20));
        expect(heard.frames.length).toBe(upTo);
        b.resume();
      }
      const frames = await heard.count(35);
      expect(frames.map(({ seq }) => seq)).toEqual(Array.from({ length: 35 }, (_, i) => i + 1));
      for (const { payload, seq } of frames) expect(Buffer.compare(payload, pattern(seq * 100, seq))).toBe(0);
    });

    test('says when its queue is full and when it has drained', async () => {
      const [a, b] = await pair({ highWater: 1 << 20 });
      const heard = listenTo(b);
      b.pause();
      const payload = pattern(1 << 20, 1);
      let sent = 0;
      let drains = 0;
      const drained = new Promise<void>((resolve) => {
        a.onDrain = () => {
          drains++;
          resolve();
        };
      });
      do sent++;
      while (a.send(16, 0, sent, payload) && sent < 100);
      expect(sent).toBeLessThan(100);
      await new Promise((resolve) => setTimeout(resolve, 50));
      b.resume();
      await drained;
      await heard.count(sent);
      expect(drains).toBe(1);
      expect(a.send(16, 0, 0, new Uint8Array(1))).toBe(true);
    });

    test('counts payloads and headers, the same on both sides', async () => {
      const [a, b] = await pair();
      const heard = listenTo(b);
      a.send(16, 0, 0, pattern(100, 1));
      a.send(16, 0, 1, [pattern(1, 1), pattern(2, 2)]);
      await heard.count(2);
      expect(a.counters).toEqual({ sentFrames: 2, sentBytes: 103 + 2 * headerSize, receivedFrames: 0, receivedBytes: 0 });
      expect(b.counters).toEqual({ receivedFrames: 2, receivedBytes: 103 + 2 * headerSize, sentFrames: 0, sentBytes: 0 });
    });

    test('sends what is queued before it closes, and both sides hear of it once, without an error', async () => {
      const [a, b] = await pair();
      const heard = listenTo(b);
      const ends = [closing(a), closing(b)];
      for (let i = 0; i < 5; i++) a.send(16, 0, i, pattern(1_000_000, i));
      a.close();
      a.close();
      expect(await Promise.all(ends)).toEqual([undefined, undefined]);
      expect(heard.frames.length).toBe(5);
      expect(a.send(16, 0, 0, new Uint8Array(1))).toBe(true);
    });

    test('delivers to a late or paused owner what came before the end', async () => {
      const [a, b] = await pair();
      a.send(16, 0, 1, pattern(100_000, 1));
      a.send(16, 0, 2, pattern(10, 2));
      a.close();
      await new Promise((resolve) => setTimeout(resolve, 50));
      const heard = listenTo(b);
      const deliver = b.onFrame;
      b.onFrame = (frame) => {
        deliver(frame);
        b.pause();
        setTimeout(() => b.resume(), 5);
      };
      expect(await closing(b)).toBeUndefined();
      expect(heard.frames.map(({ seq }) => seq)).toEqual([1, 2]);
    });

    test('refuses the types it keeps for itself', async () => {
      const [a] = await pair();
      expect(() => a.send(15, 0, 0, new Uint8Array(1))).toThrow(/type: expected 16 to 255, got 15/);
      expect(() => a.send(256, 0, 0, new Uint8Array(1))).toThrow(RangeError);
    });

    test('ends with bad-frame when a payload is longer than the receiver allows', async () => {
      const [a, b] = await pair({ maxPayload: 1000 });
      listenTo(b);
      const ends = [closing(a), closing(b)];
      a.send(16, 0, 0, new Uint8Array(1001));
      const [there, here] = await Promise.all(ends);
      expect(here).toMatchObject({ code: 'bad-frame', peer: 'p0' });
      expect(here?.message).toMatch(/p0 announced a frame of 1001 bytes, expected at most 1000/);
      expect(there).toMatchObject({ code: 'closed', peer: 'p1' });
    });

    test('ends with timeout, naming the peer, when it awaits one that sends nothing', async () => {
      const [a, b] = await pair({ stallTimeout: 100 });
      listenTo(a);
      listenTo(b);
      const ends = [closing(a), closing(b)];
      await new Promise((resolve) => setTimeout(resolve, 200));
      a.awaiting(true);
      const [here, there] = await Promise.all(ends);
      expect(here).toMatchObject({ code: 'timeout', peer: 'p1' });
      expect(there).toMatchObject({ code: 'closed', peer: 'p0' });
    });

    test('survives 10,000 small rounds', async () => {
      const [a, b] = await pair();
      b.onFrame = ({ type, session, seq, payload }) => void b.send(type, session, seq, payload);
      const done = new Promise<void>((resolve) => {
        a.onFrame = ({ seq, payload }) => {
          if (payload.length !== seq % 50) throw new Error(`round ${seq}: ${payload.length} bytes`);
          if (seq === 10_000) resolve();
          else a.send(16, 0, seq + 1, pattern((seq + 1) % 50, seq));
        };
      });
      a.send(16, 0, 1, pattern(1, 0));
      await done;
    });
  });
}
