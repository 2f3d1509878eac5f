/**
 * Sessions over links within this process: who ends what, when a client leaves, lies or floods, a peer says nonsense or goes away.
 * The same hosts run over TLS in test/cluster.test.ts.
 */
import { randomBytes } from 'node:crypto';
import { beforeEach, describe, expect, test } from 'vitest';
import { paramsOf } from '../client/share.ts';
import type { Link } from '../net/link.ts';
import { check } from '../program/check.ts';
import { cost } from '../program/cost.ts';
import { squares } from '../runtime/small.case.ts';
import { ClientSession } from './client.ts';
import { encode, encodeInput, frames } from './messages.ts';
import { ask, hash, Net, type Seen, settle, x } from './net.case.ts';

let net: Net;
beforeEach(() => {
  net = new Net();
});

test('the program keeps the checker’s rules', () => check(squares));

test('steps of one session, lengths between, sessions beside each other', async () => {
  const [a, b] = [await net.session(), await net.session()];
  for (const n of [1, 8, 3]) await Promise.all([ask(a, n), ask(b, n, -1)]);
});

test('many clients at once get their own answers', async () => {
  const all = await Promise.all(Array.from({ length: 12 }, () => net.session()));
  await Promise.all(all.map((s, i) => ask(s, 1 + (i % 8), i / 4)));
  await Promise.all(all.map((s, i) => ask(s, 8 - (i % 8), -i / 4)));
});

test('frames of a step are those that cost counts', async () => {
  const s = await net.session();
  await ask(s);
  net.seen.length = 0;
  await ask(s, 5);
  const { rounds, bytes } = cost(squares, { n: 5 });
  const total = (from: (s: Seen) => boolean): number =>
    net.seen.filter(from).reduce((sum, { frame }) => sum + frame.payload.length + 16, 0);
  expect(total((s) => s.from !== 'dealer' && s.to !== 'dealer')).toBe(bytes.p0p1);
  expect(total((s) => s.from === 'dealer')).toBe(bytes.dealer);
  expect(net.of(frames.opening)).toHaveLength(2 * rounds);
});

describe('before anything is sent', () => {
  const bad: [string, Parameters<ClientSession['run']>[0]][] = [
    ['a value out of range', x(1, 9)],
    ['NaN', x(1, Number.NaN)],
    ['infinity', x(1, -Infinity)],
    ['another shape', { x: { shape: [2, 3], data: new Array<number>(6).fill(1) } }],
    ['fewer values than the shape says', { x: { shape: [2, 4], data: [1, 2, 3] } }],
    ['another rank', { x: { shape: [4], data: [1, 1, 1, 1] } }],
    ['too long', x(9)],
    ['no rows', x(0)],
    ['half a row', { x: { shape: [0.5, 4], data: [1, 1] } }],
    ['no input', {}],
  ];
  test.each(bad)('an input is refused: %s', async (_, inputs) => {
    const s = await net.session();
    net.seen.length = 0;
    await expect(s.run(inputs)).rejects.toMatchObject({ code: 'bad-input' });
    await settle();
    expect(net.seen).toEqual([]);
    await ask(s);
  });
  test('parameters are read off shapes', () => {
    expect(paramsOf(squares, x(7))).toEqual({ n: 7 });
  });
});

describe('a client that', () => {
  const open = async (links: readonly [Link, Link], session = 77, wait = true): Promise<void> => {
    const id = randomBytes(16).toString('hex');
    for (const l of links) l.send(frames.open, session, 0, encode({ id, hash }));
    if (wait) await settle();
  };
  const failures = (link: Link): string[] => {
    const list: string[] = [];
    link.onFrame = (f) => {
      if (f.type === frames.failed) list.push((JSON.parse(new TextDecoder().decode(f.payload)) as { code: string }).code);
    };
    return list;
  };
  const input = (party: 0 | 1, n = 2, step = 0) => encodeInput(step, { n }, party === 0 ? randomBytes(32) : randomBytes(16 * n));

  const garbage: [string, Uint8Array | Uint8Array[]][] = [
    ['nothing', new Uint8Array(0)],
    ['noise', randomBytes(100)],
    ['a length beyond the frame', Uint8Array.of(255, 255, 255, 255, 1)],
    ['a negative step', encodeInput(-1, { n: 2 }, randomBytes(32))],
    ['a length the program does not take', encodeInput(0, { n: 9 }, randomBytes(32))],
    ['another parameter', encodeInput(0, { m: 2 }, randomBytes(32))],
    ['a share of another size', encodeInput(0, { n: 2 }, randomBytes(33))],
  ];
  test.each(garbage)('sends %s: its session ends everywhere, another’s goes on', async (_, payload) => {
    const other = await net.session();
    const links = net.client();
    await open(links);
    const codes = links.map(failures);
    for (const l of links) l.send(frames.input, 77, 0, payload);
    await settle();
    for (const list of codes) expect(['bad-message', 'peer-failed', 'ended']).toContain(list[0]);
    expect(net.of(frames.failed).filter((f) => f.session !== 77)).toEqual([]);
    expect(net.of(frames.opening)).toEqual([]);
    await ask(other);
    await ask(await net.session(links));
  });

  test('sends other parameters to each party: both refuse', async () => {
    const links = net.client();
    await open(links);
    const codes = links.map(failures);
    links[0].send(frames.input, 77, 0, input(0, 3));
    links[1].send(frames.input, 77, 0, input(1, 2));
    await settle();
    expect(codes.map((c) => c[0])).toEqual(['bad-message', 'peer-failed']);
    expect(net.of(frames.opening)).toEqual([]);
    await ask(await net.session());
  });

  test('sends to one party only: others do not wait for it', async () => {
    for (const only of [0, 1] as const) {
      const links = net.client();
      await open(links, 80 + only);
      links[only].send(frames.input, 80 + only, 0, input(only));
      await settle();
      await ask(await net.session());
    }
  });

  test.each([0, 1] as const)('repeats a step at p%i: refused, and no second opening under its masks', async (party) => {
    const links = net.client();
    await open(links);
    const codes = links.map(failures);
    links.forEach((l, i) => void l.send(frames.input, 77, 0, input(i as 0 | 1)));
    await settle();
    const before = net.of(frames.opening).length;
    expect(before).toBeGreaterThan(0);
    links[party].send(frames.input, 77, 0, input(party));
    await settle();
    expect(codes[party]).toContain('step-order');
    expect(net.of(frames.opening)).toHaveLength(before);
  });

  test('sends a second input before the first is answered: refused', async () => {
    const links = net.client();
    await open(links);
    const codes = links.map(failures);
    links[0].send(frames.input, 77, 0, input(0));
    links[0].send(frames.input, 77, 1, input(0, 2, 1));
    await settle();
    expect(codes[0]).toContain('bad-message');
    await ask(await net.session());
  });

  test('uses another client’s session number: that session lives', async () => {
    const mine = await net.session();
    const number = net.of(frames.seed)[0].session;
    const links = net.client();
    const codes = links.map(failures);
    for (const l of links) {
      l.send(frames.open, number, 0, encode({ id: 'cd'.repeat(16), hash }));
      l.send(frames.input, number, 0, input(0));
      l.send(frames.end, number, 0, new Uint8Array(0));
    }
    await settle();
    expect(codes[0]).toEqual(['bad-message', 'ended']);
    await ask(mine);
  });

  test('asks for another program: refused by name', async () => {
    await expect(ClientSession.open(net.client(), squares, 'cd'.repeat(32))).rejects.toMatchObject({
      code: 'unknown-model',
      message: expect.stringContaining('cdcdcdcd'),
    });
  });

  test('opens sessions without end: refused at some point, others live', async () => {
    const links = net.client();
    const codes = links.map(failures);
    for (let i = 0; i < 300; i++) await open(links, 1000 + i, i % 50 === 49);
    await settle();
    expect(codes[0].length).toBe(44);
    expect(codes[0][0]).toBe('busy');
    await ask(await net.session(net.client('another')));
  });

  test.each([0, 1] as const)('leaves p%i in the middle of a step: both parties and the dealer drop it', async (party) => {
    const links = net.client();
    const s = await net.session(links);
    await ask(s);
    // The step is stopped after its first opening.
    net.lost = ({ frame, to }) => frame.type === frames.opening && frame.seq === 1 && to === 'p0';
    const run = s.run(x(2));
    run.catch(() => {});
    await settle();
    net.lost = () => false;
    const waiting = net.session();
    const next = waiting.then((w) => ask(w, 4));
    await settle();
    links[party].close();
    await expect(run).rejects.toThrow(`p${party}`);
    await next;
    await ask(await net.session(), 2);
  });

  test('leaves while its step is queued: it never runs, least of all under erased keys', async () => {
    const first = await net.session();
    const links = net.client();
    const second = await net.session(links);
    net.lost = ({ frame, to }) => frame.type === frames.opening && frame.seq === 1 && to === 'p0';
    const stuck = first.run(x(2));
    stuck.catch(() => {});
    await settle();
    const queued = second.run(x(2));
    queued.catch(() => {});
    await settle();
    const before = net.of(frames.opening).length;
    for (const l of links) l.close();
    await expect(queued).rejects.toThrow();
    net.lost = () => false;
    first.close();
    await settle();
    expect(net.of(frames.opening)).toHaveLength(before);
    await ask(await net.session());
  });
});

describe('a peer that', () => {
  const cases: [string, (n: Net, session: number) => void][] = [
    ['repeats an opening', (n, s) => n.between[0].send(frames.opening, s, 0, new Uint8Array(512))],
    ['sends an opening of a far round', (n, s) => n.between[0].send(frames.opening, s, 7, new Uint8Array(16))],
    ['says go for what is not there', (n, s) => n.between[0].send(frames.go, s, 5, new Uint8Array(0))],
    ['sends a digest of another size', (n, s) => n.between[1].send(frames.have, s, 1, randomBytes(40))],
    ['sends a second zero seed', (n, s) => n.between[0].send(frames.zero, s, n.of(frames.zero)[0].seq, randomBytes(32))],
    ['sends a frame that means nothing between parties', (n, s) => n.between[0].send(frames.seed, s, 0, randomBytes(32))],
    ['as the dealer sends a block out of turn', (n, s) => n.ofDealer[1].send(frames.block, s, 3, new Uint8Array(8))],
    ['as the dealer sends a second seed', (n, s) => n.ofDealer[0].send(frames.seed, s, n.of(frames.seed)[0].seq, randomBytes(32))],
  ];
  test.each(cases)('%s ends the session it speaks of, and no other', async (_, act) => {
    const [a, b] = [await net.session(), await net.session()];
    const number = net.of(frames.seed)[0].session;
    net.lost = ({ frame, to }) => frame.session === number && frame.type === frames.opening && frame.seq === 1 && to === 'p1';
    const run = a.run(x(2));
    run.catch(() => {});
    await settle();
    act(net, number);
    await expect(run).rejects.toMatchObject({ name: 'SubrosaError', code: 'peer-failed' });
    net.lost = () => false;
    await ask(b);
    await ask(await net.session());
  });

  test('floods with sessions nobody opened keeps nothing but a bounded number of seeds', async () => {
    for (let i = 0; i < 6000; i++) net.between[0].send(frames.zero, i, 0, randomBytes(32));
    for (let i = 0; i < 1000; i++) net.between[0].send(frames.opening, i, 0, new Uint8Array(1000));
    await settle();
    const { earlyZeros } = net.parties[1] as unknown as { earlyZeros: Map<number, unknown> };
    expect(earlyZeros.size).toBeLessThanOrEqual(4096);
    expect(net.parties[1].load()).toMatchObject({ sessions: 0, queued: 0, running: 0 });
    await ask(await net.session());
  });

  const goes: [string, (n: Net) => Link, RegExp][] = [
    ['p0 loses p1', (n) => n.between[1], /p[01] closed the connection/],
    ['p0 loses the dealer', (n) => n.ofDealer[0], /dealer|p0 closed/],
    ['p1 loses the dealer', (n) => n.ofDealer[1], /dealer|p1 closed/],
  ];
  test.each(goes)('goes away ends all sessions: %s', async (_, link, message) => {
    const [a, b] = [await net.session(), await net.session()];
    net.lost = ({ frame, to }) => frame.type === frames.opening && frame.seq === 1 && to === 'p1';
    const run = a.run(x(2));
    run.catch(() => {});
    await settle();
    link(net).close();
    await expect(run).rejects.toThrow(message);
    await settle();
    await expect(b.run(x(1))).rejects.toMatchObject({ name: 'SubrosaError' });
    for (const p of net.parties) expect(p.load().sessions).toBe(0);
  });
});

describe('keys', () => {
  test('every session has seeds of its own', async () => {
    for (let i = 0; i < 20; i++) (await net.session()).close();
    const seeds = [...net.of(frames.seed), ...net.of(frames.zero)].map((f) => Buffer.from(f.payload).toString('hex'));
    expect(seeds).toHaveLength(60);
    expect(new Set(seeds).size).toBe(60);
  });
  test('a session that ends leaves no key and no session behind', async () => {
    const s = await net.session();
    const sessions = net.parties.map(
      (p) => (p as unknown as { sessions: { all(): { seed: Uint8Array; zero: Uint8Array }[] } }).sessions.all()[0],
    );
    expect(sessions.every((k) => k.seed.some((b) => b !== 0))).toBe(true);
    await ask(s);
    s.close();
    await settle();
    for (const k of sessions) expect([...k.seed, ...k.zero].every((b) => b === 0)).toBe(true);
    for (const h of [...net.parties, net.dealer]) expect(h.load().sessions).toBe(0);
    await expect(s.run(x(1))).rejects.toMatchObject({ code: 'ended' });
  });
});

test('links are watched while something is due, and not when idle', async () => {
  const state = new Map<Link, boolean>();
  for (const l of [...net.between, ...net.toDealer]) {
    const { awaiting } = l;
    l.awaiting = (on) => {
      state.set(l, on);
      awaiting.call(l, on);
    };
  }
  const s = await net.session();
  await ask(s);
  await settle();
  const watched = (): boolean[] => [...net.between, ...net.toDealer].map((l) => state.get(l) === true);
  expect(watched()).toEqual([false, false, false, false]);
  net.lost = ({ frame }) => frame.type === frames.block;
  s.run(x(2)).catch(() => {});
  await settle();
  // P1 has sent what it can and waits for the dealer; P0 waits for P1.
  expect(watched()).toEqual([true, true, false, true]);
});
