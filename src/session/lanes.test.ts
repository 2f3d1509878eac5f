/** Several sessions at work at once: interleaved steps, turns, limits, time limits, drain, links that come back. */
import { randomBytes } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { threeKernels } from '../gates/gate.case.ts';
import type { Link } from '../net/link.ts';
import { linkPair } from '../net/memory.ts';
import { check } from '../program/check.ts';
import type { Kernels } from '../ring/kernels/kernels.ts';
import { newMemory } from '../ring/kernels/memory.ts';
import { wasmKernels } from '../ring/kernels/wasm.ts';
import { Ledger, ledgered } from '../runtime/ledger.ts';
import { loadModel, prepare } from '../runtime/model.ts';
import { none, powers, squares } from '../runtime/small.case.ts';
import type { ClientSession } from './client.ts';
import type { StepReport } from './events.ts';
import { encode, encodeInput, frames, type Progress } from './messages.ts';
import { ask, askPower, evicting, hash, Net, type Seen, settle, x } from './net.case.ts';
import type { Sessions } from './sessions.ts';
import { oneModel } from './store.ts';

const roles = ['p0', 'p1', 'dealer'] as const;
const long = 'cd'.repeat(32);
const wide = 'ef'.repeat(32);
const times = 12;
/** More corrections than the dealer sends ahead. */
const widths = { width: 2 ** 13, times: 24 };

test('the programs keep the checker’s rules', () => {
  for (const p of [powers(times), powers(widths.times, widths.width)]) check(p);
});

/** Two models resident at once, each in memories of its own. */
const others = roles.map(() => wasmKernels(newMemory(2 ** 31)));
const both = (wrap = (k: ReturnType<typeof threeKernels>[number], _role: number) => k) => {
  const programs = { [hash]: squares, [long]: powers(times), [wide]: powers(widths.times, widths.width) };
  return roles.map((role, i) => {
    const of = Object.fromEntries(
      Object.entries(programs).map(([h, p]) => [
        h,
        oneModel(h, loadModel(p, role, wrap(h === hash ? threeKernels()[i] : others[i], i), none)),
      ]),
    );
    return { takes: (h: string) => of[h]?.takes(h), acquire: (h: string) => of[h].acquire(h), release: (h: string) => of[h].release(h) };
  });
};
const failureOf = (run: Promise<unknown>): Promise<string> =>
  run.then(
    () => 'none',
    (e: { code?: string }) => e.code ?? String(e),
  );
const until = async (holds: () => boolean): Promise<void> => {
  while (!holds()) await settle(5);
};
const empty = { sessions: 0, queued: 0, running: 0 };

let net: Net;

describe('steps at once', () => {
  /** The first step that gets to round 1 stands still there. */
  const holdOne = (): void => {
    let session: number | undefined;
    net.held = ({ frame }: Seen) => {
      if (frame.type !== frames.opening || frame.seq !== 1) return false;
      session ??= frame.session;
      return frame.session === session;
    };
  };

  test.each([
    ['of two models', long, powers(times), (s: ClientSession) => askPower(s, times, 16)],
    ['of one model at another length', hash, squares, (s: ClientSession) => ask(s, 7, -2)],
    ['of one model at the same length', hash, squares, (s: ClientSession) => ask(s, 3, -2)],
  ])('one stands still, others run beside it, all are right: %s', async (_, of, program, run) => {
    net = new Net({ stores: both() });
    const [a, b] = [await net.session(net.client(), program, of), await net.session()];
    holdOne();
    const stuck = run(a);
    await settle();
    expect(net.parties.map((p) => p.load().running)).toEqual([1, 1]);
    for (const n of [3, 8, 3, 1]) await ask(b, n, n / 4);
    net.letGo();
    await stuck;
    await run(a);
  });

  test('with one lane the other waits', async () => {
    net = new Net({ limits: { lanes: 1 } });
    const [a, b] = [await net.session(), await net.session()];
    holdOne();
    const order: string[] = [];
    const first = ask(a).then(() => order.push('a'));
    await settle();
    const second = ask(b).then(() => order.push('b'));
    await settle();
    expect(net.parties.map((p) => p.load())).toMatchObject([
      { running: 1, queued: 1 },
      { running: 1, queued: 1 },
    ]);
    net.letGo();
    await Promise.all([first, second]);
    expect(order).toEqual(['a', 'b']);
  });

  test('one that is full of corrections and stands still does not keep the dealer from another', async () => {
    net = new Net({ stores: both() });
    const p = powers(widths.times, widths.width);
    const [a, b] = [await net.session(net.client(), p, wide), await net.session()];
    holdOne();
    const stuck = askPower(a, widths.times, 16, 0.99, widths.width);
    const sent = (): number => net.of(frames.block).length;
    for (let before = 0; sent() < 4 || sent() !== before; await settle(60)) before = sent();
    expect(net.dealer.load().running).toBe(1);
    for (const n of [2, 5]) await ask(b, n);
    expect(net.dealer.load().running).toBe(1);
    net.letGo();
    await stuck;
  });

  test('a party with fewer lanes than the other keeps the order', async () => {
    net = new Net({ limits: { lanes: 4 } });
    (net.parties[1] as unknown as { lanes: { lanes: number } }).lanes.lanes = 1;
    const all = await Promise.all(Array.from({ length: 8 }, () => net.session()));
    await Promise.all(all.map((s, i) => ask(s, 1 + i, i / 4)));
    await Promise.all(all.map((s, i) => ask(s, 8 - i, i / 4)));
  });

  test('bytes of an ended session that still arrive keep its memory from the next step', async () => {
    net = new Net({ limits: { lanes: 1 } });
    const links = net.client();
    const a = await net.session(links);
    const b = await net.session();
    // The dealer's first block has begun to arrive at P1.
    net.lost = ({ frame }) => frame.type === frames.block;
    const sinks = net.toDealer[1].frameSink!;
    const stuck = failureOf(a.run(x(2)));
    await settle();
    const p1 = net.parties[1] as unknown as { sessions: Sessions };
    const { number, work } = p1.sessions.all().find((one) => one.work)!;
    const place = sinks(frames.block, number, 0, work!.step.blockAt(0).bytes)!;
    expect(place.length).toBeGreaterThan(0);
    for (const l of links) l.close();
    await stuck;
    net.lost = () => false;
    const next = ask(b, 5);
    await settle();
    expect(net.parties[1].load()).toMatchObject({ running: 0, queued: 1 });
    place.fill(0xff);
    net.ofDealer[1].send(frames.block, number, 0, new Uint8Array(place.length).fill(0xff));
    await next;
  });
});

describe('models', () => {
  test('that leave between steps are loaded again; one that is in use stays, and the other waits for it', async () => {
    const { stores, loads } = evicting({ [hash]: squares, [long]: powers(times) });
    net = new Net({ stores });
    const [a, b] = [await net.session(), await net.session(net.client(), powers(times), long)];
    for (let i = 0; i < 3; i++) {
      await ask(a, 1 + i, i / 2);
      await askPower(b, times, 1 + i);
    }
    expect(loads()).toBe(18);
    for (let i = 0; i < 4; i++) await Promise.all([ask(a, 1 + i, i / 2), askPower(b, times, 4 + i)]);
    expect(net.parties[0].load().running).toBe(0);
  });

  test('whose memory holds one step at a time: the others wait, and nothing of it is lost', async () => {
    const small = roles.map((role, i) => {
      const k = threeKernels()[i];
      const { end } = loadModel(squares, role, k, none);
      const longest = prepare(loadModel(squares, role, k, none), { n: 8 }).end - end;
      const views = { u8: k.u8.subarray(0, end + Math.floor(1.5 * longest)) };
      return oneModel(hash, loadModel(squares, role, Object.assign(Object.create(k) as Kernels, views), none));
    });
    net = new Net({ stores: small, limits: { lanes: 3 } });
    const all = await Promise.all(Array.from({ length: 5 }, () => net.session()));
    for (let i = 0; i < 3; i++) await Promise.all(all.map((s, j) => ask(s, 1 + ((3 * i + j) % 8), j / 4)));
  });

  test('that are in use nowhere else and do not fit are refused, not waited for', async () => {
    const { stores } = evicting({ [hash]: squares });
    const refused = { ...stores[1], acquire: () => stores[1].acquire('no such') };
    net = new Net({ stores: [stores[0], refused, stores[2]] });
    expect(await failureOf((await net.session()).run(x(1)))).not.toBe('none');
    expect(net.parties.map((p) => p.load())).toMatchObject([empty, empty]);
  });
});

test('clients take turns: one with many sessions does not keep another waiting for more than one of them', async () => {
  const done: StepReport[] = [];
  net = new Net({ limits: { lanes: 1 }, events: { stepDone: (r) => done.push(r) } });
  const many = await Promise.all(Array.from({ length: 10 }, () => net.session(net.client('many'))));
  const few = await Promise.all(Array.from({ length: 2 }, () => net.session(net.client('few'))));
  net.held = ({ frame }) => frame.type === frames.opening;
  const runs = many.map((s) => ask(s));
  await settle();
  runs.push(...few.map((s) => ask(s, 3)));
  await settle();
  net.letGo();
  await Promise.all(runs);
  expect(done.map((r) => r.client[0]).join('')).toBe('mmfmfmmmmmmm');
  expect(done[2]).toMatchObject({ hash, params: { n: 3 }, rounds: 2 });
  expect(done[2].queuedSeconds).toBeGreaterThan(0.01);
  expect(done[2].sentBytes).toBeGreaterThan(0);
});

describe('limits', () => {
  test('inputs beyond the queue are answered busy and end their session everywhere; the others are done', async () => {
    net = new Net({ limits: { lanes: 1, queue: 3, queuePerClient: 2 } });
    net.held = ({ frame }) => frame.type === frames.opening;
    const own = await Promise.all(Array.from({ length: 4 }, () => net.session(net.client('a'))));
    const other = await Promise.all(Array.from({ length: 2 }, () => net.session(net.client('b'))));
    const first = ask(own[0]);
    await settle();
    const two = [ask(own[1]), ask(own[2], 3)];
    await settle();
    expect(await failureOf(own[3].run(x(1)))).toBe('busy');
    const third = ask(other[0], 4);
    await settle();
    expect(await failureOf(other[1].run(x(1)))).toBe('busy');
    await settle();
    expect(net.parties.map((p) => p.load())).toMatchObject([
      { sessions: 4, queued: 3 },
      { sessions: 4, queued: 3 },
    ]);
    net.letGo();
    await Promise.all([first, ...two, third]);
    expect(await failureOf(own[3].run(x(1)))).toBe('busy');
    await ask(await net.session());
  });

  test('sessions, in all and for one client', async () => {
    net = new Net({ limits: { sessions: 3, sessionsPerClient: 2 } });
    const a = [await net.session(net.client('a')), await net.session(net.client('a'))];
    expect(await failureOf(net.session(net.client('a')))).toBe('busy');
    await net.session(net.client('b'));
    expect(await failureOf(net.session(net.client('c')))).toBe('busy');
    a[0].close();
    await settle();
    await ask(await net.session(net.client('a')));
  });

  test('a session without inputs is ended; one that works is not', async () => {
    const ended: (string | undefined)[] = [];
    net = new Net({ limits: { idleSeconds: 0.15 }, events: { sessionEnded: (_, __, code) => ended.push(code) } });
    const [idle, works] = [await net.session(), await net.session()];
    for (let i = 0; i < 10; i++) {
      await ask(works);
      await settle(25);
    }
    expect(await failureOf(idle.run(x(1)))).toBe('ended');
    expect(ended).toEqual(['ended']);
    await ask(works);
  });

  test('a step that does not end is ended', async () => {
    net = new Net({ limits: { stepSeconds: 0.1, lanes: 1 } });
    net.lost = ({ frame }) => frame.type === frames.block;
    const stuck = failureOf((await net.session()).run(x(1)));
    expect(await stuck).toBe('timeout');
    net.lost = () => false;
    await ask(await net.session());
  });
});

describe('what one party has and the other never gets', () => {
  const open = (links: readonly Link[], number: number): void => {
    const id = randomBytes(16).toString('hex');
    for (const l of links) l.send(frames.open, number, 0, encode({ id, hash }));
  };
  const codes = (link: Link): string[] => {
    const list: string[] = [];
    link.onFrame = (f) => {
      if (f.type === frames.failed) list.push((JSON.parse(new TextDecoder().decode(f.payload)) as { code: string }).code);
      if (f.type === frames.ready) list.push('ready');
    };
    return list;
  };

  test.each([0, 1] as const)('an input at p%i alone ends in time, everywhere', async (party) => {
    net = new Net({ limits: { waitSeconds: 0.1 } });
    const links = net.client();
    const heard = links.map(codes);
    open(links, 7);
    await settle();
    links[party].send(frames.input, 7, 0, encodeInput(0, { n: 1 }, randomBytes(party === 0 ? 32 : 16)));
    await settle(10);
    expect(net.parties[party].load().queued).toBe(1);
    await settle(250);
    expect(heard).toEqual([
      ['ready', 'timeout'],
      ['ready', 'timeout'],
    ]);
    for (const host of [...net.parties, net.dealer]) expect(host.load()).toMatchObject(empty);
  });

  test.each([0, 1] as const)('a session at p%i alone gives its number back in time, and keeps no other from theirs', async (party) => {
    net = new Net({ limits: { waitSeconds: 0.15 } });
    const lone = net.client('lone')[party];
    const heard = codes(lone);
    open([lone], 7);
    await settle();
    // Refused while it is taken, which ends neither.
    const links = net.client('other');
    const first = links.map(codes);
    open(links, 7);
    await settle();
    expect(first[party]).toEqual(['bad-message']);
    expect(first[1 - party]).toEqual(['mismatch']);
    expect(heard).toEqual([]);
    await settle(300);
    expect(heard).toEqual(['timeout']);
    for (const host of [...net.parties, net.dealer]) expect(host.load()).toMatchObject(empty);
    const again = net.client('other');
    const then = again.map(codes);
    open(again, 7);
    await settle();
    expect(then).toEqual([['ready'], ['ready']]);
  });

  test('one who takes numbers at one party cannot end a session that is open', async () => {
    net = new Net();
    const mine = await net.session();
    const number = net.of(frames.seed)[0].session;
    for (let i = 0; i < 5; i++) {
      const links = net.client('other');
      open([links[i % 2]], number);
      links[i % 2].send(frames.end, number, 0, new Uint8Array(0));
    }
    // Nor does what is said of another session of the number.
    for (const l of [...net.between, ...net.toDealer, ...net.ofDealer]) l.send(frames.end, number, 12345, new Uint8Array(0));
    await settle();
    await ask(mine);
  });
});

describe('drain', () => {
  test.each([0, 1] as const)('of p%i: what waits or runs is done, nothing new begins', async (party) => {
    net = new Net({ limits: { lanes: 1 } });
    const [a, b, idle] = await Promise.all([net.session(), net.session(), net.session()]);
    net.held = ({ frame }) => frame.type === frames.opening;
    const runs = [ask(a, 2), ask(b, 3)];
    await settle();
    let drained = false;
    const drain = net.parties[party].drain().then(() => {
      drained = true;
    });
    expect(await failureOf(net.session())).toBe('draining');
    expect(await failureOf(idle.run(x(1)))).toBe('draining');
    expect(drained).toBe(false);
    net.letGo();
    await Promise.all(runs);
    // One that stays open is told, one that goes is not waited for.
    a.close();
    await drain;
    expect(drained).toBe(true);
    expect(await failureOf(b.run(x(1)))).toBe('draining');
    for (const host of [...net.parties, net.dealer]) expect(host.load()).toMatchObject(empty);
  });

  test.each(['p1', 'p0'])('of the dealer: steps the parties are at are done, whichever is behind (%s)', async (behind) => {
    net = new Net();
    const [a, b] = await Promise.all([net.session(), net.session()]);
    net.held = ({ frame, to }) => frame.type === frames.opening && frame.seq === 1 && to === behind;
    const run = ask(a, 2);
    await settle();
    let drained = false;
    const drain = net.dealer.drain().then(() => {
      drained = true;
    });
    expect(await failureOf(net.session())).toBe('draining');
    expect(await failureOf(b.run(x(1)))).toBe('draining');
    await settle();
    expect(drained).toBe(false);
    net.letGo();
    await run;
    await drain;
    expect(net.dealer.load()).toMatchObject({ ...empty, connected: ['p0', 'p1'] });
  });
});

describe('a link that', () => {
  const again: [string, (n: Net) => void][] = [
    ['the parties', (n) => n.joinParties()],
    ['p0 and the dealer', (n) => n.joinDealer(0)],
    ['p1 and the dealer', (n) => n.joinDealer(1)],
  ];
  test.each(again)('is made anew while the old one looks alive replaces it: %s', async (_, join) => {
    net = new Net();
    const [a, b] = [await net.session(), await net.session()];
    net.held = ({ frame }) => frame.type === frames.opening && frame.seq === 1;
    const stuck = failureOf(a.run(x(2)));
    await settle();
    const old = [...net.between, ...net.toDealer];
    join(net);
    const now = [...net.between, ...net.toDealer];
    expect(await stuck).toBe('peer-failed');
    expect(await failureOf(b.run(x(1)))).toBe('peer-failed');
    net.letGo();
    await settle();
    for (const host of [...net.parties, net.dealer]) expect(host.load()).toMatchObject(empty);
    for (const n of [2, 5]) await Promise.all([ask(await net.session(), n), ask(await net.session(), 3)]);
    // What the old one still brings is nobody's, and its end ends nothing.
    const s = await net.session();
    for (const l of old.filter((o) => !now.includes(o))) {
      l.onFrame({
        type: frames.end,
        session: net.of(frames.seed).at(-1)!.session,
        seq: net.of(frames.seed).at(-1)!.seq,
        payload: new Uint8Array(0),
      });
      l.onClose();
    }
    await ask(s);
  });

  test('is lost is named by its code, and works again when it comes back', async () => {
    net = new Net();
    const run = failureOf((await net.session()).run(x(2)));
    net.between[0].close();
    expect(await run).toBe('peer-failed');
    await settle();
    expect(net.parties.map((p) => p.load().connected)).toEqual([['dealer'], ['dealer']]);
    expect(await failureOf(net.session())).toBe('not-ready');
    net.joinParties();
    await ask(await net.session());
  });

  test('is silent ends sessions with timeout', async () => {
    net = new Net();
    const [p0, p1] = linkPair('p0', 'p1', { stallTimeout: 60 });
    net.parties[0].connectPeer(p0);
    net.parties[1].connectPeer(p1);
    const s = await net.session();
    p1.onFrame = () => {};
    expect(await failureOf(s.run(x(2)))).toBe('timeout');
  });
});

test('progress comes to those that ask for it: places in the queue, then rounds', async () => {
  net = new Net({ limits: { lanes: 1 }, stores: both() });
  net.held = ({ frame }) => frame.type === frames.opening && frame.seq === 1;
  const first = ask(await net.session());
  await settle();
  const second = ask(await net.session());
  const links = net.client();
  const seen: Progress[][] = [[], []];
  const at: number[][] = [[], []];
  let outputs = 0;
  const id = randomBytes(16).toString('hex');
  links.forEach((l, i) => {
    l.onFrame = (f) => {
      if (f.type === frames.progress) {
        seen[i].push(JSON.parse(new TextDecoder().decode(f.payload)) as Progress);
        at[i].push(performance.now());
      }
      if (f.type === frames.output) outputs++;
    };
    l.send(frames.open, 9, 0, encode({ id, hash: long, progress: true }));
  });
  await settle();
  links.forEach((l, i) => void l.send(frames.input, 9, 0, encodeInput(0, { n: 1 }, randomBytes(i === 0 ? 32 : 12))));
  await settle();
  expect(seen).toEqual([[{ queued: 1 }], [{ queued: 1 }]]);
  await settle(110);
  net.letGo();
  await Promise.all([first, second]);
  await until(() => outputs === 2);
  for (const list of seen) {
    expect(list.length).toBeGreaterThan(1);
    for (const p of list.slice(1)) expect(p).toSatisfy((q: Progress) => ('rounds' in q ? q.round <= q.rounds : q.queued === 0));
  }
  for (const times of at) for (const [i, t] of times.slice(1).entries()) expect(t - times[i]).toBeGreaterThan(90);
});

test.each([1, 2, 3, 4, 5, 6])(
  'any schedule: many clients, frames late and in pieces, some leave; answers are right and no mask is used twice (seed %i)',
  async (seed) => {
    let state = seed;
    const random = (n: number): number => {
      state = (state * 48271) % 2147483647;
      return state % n;
    };
    const ledgers = roles.map((role) => new Ledger(role));
    const codes: (string | undefined)[] = [];
    net = new Net({
      stores: both((k, role) => ledgered(k, ledgers[role])),
      limits: { lanes: 1 + (seed % 4) },
      events: { sessionEnded: (_, __, code) => codes.push(code) },
      delay: () => random(4) * random(3),
    });
    const client = async (c: number): Promise<void> => {
      for (let s = 0; s < 2; s++) {
        const power = random(2) === 1;
        const links = net.client(`client ${c % 3}`);
        const session = await (power ? net.session(links, powers(times), long) : net.session(links));
        for (let i = random(3); i >= 0; i--) {
          const leaves = random(4) === 0;
          const run = power ? askPower(session, times, 1 + random(16), random(100) / 101) : ask(session, 1 + random(8), random(100) / 16);
          if (!leaves) await run;
          else {
            run.catch(() => {});
            for (let t = random(60); t > 0; t--) await new Promise((resolve) => setImmediate(resolve));
            for (const l of links) l.close();
            await run.catch((e: { code?: string }) => expect(e.code).toBe('peer-failed'));
            break;
          }
        }
        session.close();
      }
    };
    await Promise.all(Array.from({ length: 9 }, (_, c) => client(c)));
    await settle();
    for (const host of [...net.parties, net.dealer]) expect(host.load()).toMatchObject(empty);
    for (const code of codes) expect([undefined, 'ended']).toContain(code);
  },
);
