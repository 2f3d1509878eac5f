import { expect, test } from 'vitest';
import { headerSize, writeHeader } from './framing.ts';
import { closing, listenTo } from './link.case.ts';
import { firstOwnType, goodbye, hello, type LinkOptions, ping, pong } from './link.ts';
import { type Pipe, StreamLink } from './stream.ts';

/** A link whose peer is the test: `types` are the frames it wrote, `say` is a frame from the peer. */
function alone(options?: LinkOptions): { link: StreamLink; types: number[]; say: (type: number, payload?: string) => void; log: string[] } {
  const types: number[] = [];
  const log: string[] = [];
  const pipe: Pipe = {
    write: (bytes, done) => {
      for (let at = 0; at < bytes.length; at += headerSize + bytes[at]) types.push(bytes[at + 4]);
      queueMicrotask(done);
    },
    resume: () => void log.push('resume'),
    end: () => void log.push('end'),
    destroy: () => void log.push('destroy'),
  };
  const link = new StreamLink('p1', pipe, options);
  const say = (type: number, payload = ''): void => {
    const bytes = new Uint8Array(headerSize + payload.length);
    writeHeader(bytes, 0, payload.length, type, 0, 0);
    bytes.set(Buffer.from(payload), headerSize);
    link.received(bytes, bytes.length);
  };
  return { link, types, say, log };
}

test('a ping is answered', async () => {
  const { link, types, say } = alone();
  link.onFrame = () => {};
  say(hello);
  say(ping);
  say(ping);
  await Promise.resolve();
  expect(types).toEqual([pong, pong]);
  link.close();
});

test('a silent peer is asked at half the time-out and given up at the whole, by name', async () => {
  const { link, types, say, log } = alone({ silenceTimeout: 80 });
  listenTo(link);
  say(hello);
  link.awaiting(true);
  const start = performance.now();
  const error = await closing(link);
  expect(performance.now() - start).toBeGreaterThan(70);
  expect(error).toMatchObject({ code: 'timeout', peer: 'p1' });
  expect(error?.message).toMatch(/p1 was silent for .* s: see whether it runs/);
  expect(types).toEqual([ping]);
  expect(log).toEqual(['destroy']);
});

test('a peer that answers pings is waited for, unless a stall time-out is set', async () => {
  for (const stallTimeout of [0, 300]) {
    const { link, types, say } = alone({ silenceTimeout: 160, stallTimeout });
    listenTo(link);
    say(hello);
    link.awaiting(true);
    let ended = '';
    link.onClose = (error) => {
      ended = error?.message ?? '';
    };
    for (let i = 0; i < 50; i++) {
      await new Promise((resolve) => setTimeout(resolve, 10));
      if (types.length > 0) say(pong);
      types.length = 0;
    }
    expect(ended).toMatch(stallTimeout === 0 ? /^$/ : /p1 is alive but sent nothing/);
    link.close();
  }
});

test('the time in which this process did not run does not count as the peer’s silence', async () => {
  const { link, say } = alone({ silenceTimeout: 80 });
  listenTo(link);
  say(hello);
  link.awaiting(true);
  let ended = false;
  link.onClose = () => {
    ended = true;
  };
  await new Promise((resolve) => setTimeout(resolve, 20));
  const until = performance.now() + 200;
  while (performance.now() < until);
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(ended).toBe(false);
  link.close();
});

test('silence is no fault while nothing is awaited', async () => {
  const { link, types, say } = alone({ silenceTimeout: 30 });
  listenTo(link);
  say(hello);
  link.awaiting(true);
  link.awaiting(false);
  let ended = false;
  link.onClose = () => {
    ended = true;
  };
  await new Promise((resolve) => setTimeout(resolve, 120));
  expect([ended, types]).toEqual([false, []]);
  link.close();
});

test('a stream that ends without a goodbye is an error, one with it is not', async () => {
  const crashed = alone();
  crashed.say(hello);
  crashed.link.ended();
  expect(await closing(crashed.link)).toMatchObject({ code: 'closed', peer: 'p1' });
  const left = alone();
  left.link.onFrame = () => {};
  left.say(hello);
  left.say(goodbye);
  left.link.ended();
  expect(await closing(left.link)).toBeUndefined();
});

test('an owner that comes after the end still hears of it, once', async () => {
  const { link } = alone();
  link.ended();
  await new Promise((resolve) => setTimeout(resolve, 5));
  expect(await closing(link)).toMatchObject({ code: 'closed' });
  const again = Promise.race([closing(link), new Promise((resolve) => setTimeout(() => resolve('nothing'), 10))]);
  expect(await again).toBe('nothing');
});

test('frames out of turn end the link', async () => {
  const early = alone();
  early.link.onFrame = () => {};
  early.say(firstOwnType);
  expect((await closing(early.link))?.message).toBe('p1 sent a frame of type 16 before its hello');
  const twice = alone();
  twice.link.onFrame = () => {};
  twice.say(hello);
  twice.say(hello);
  expect(await closing(twice.link)).toMatchObject({ code: 'bad-frame' });
  const unknown = alone();
  unknown.link.onFrame = () => {};
  unknown.say(hello);
  unknown.say(9);
  expect((await closing(unknown.link))?.message).toBe('p1 sent a frame of type 9, which means nothing here');
});

test('what is lent is released when the link fails first', async () => {
  const { link, say } = alone();
  link.onFrame = () => {};
  say(hello);
  let released = 0;
  link.send(16, 0, 0, new Uint8Array(10), () => released++);
  link.send(16, 0, 1, new Uint8Array(1_000_000), () => released++);
  link.ended();
  await closing(link);
  link.send(16, 0, 2, new Uint8Array(1_000_000), () => released++);
  expect(released).toBe(3);
});
