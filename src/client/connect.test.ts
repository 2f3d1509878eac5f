/** The client against two real parties within this process, and against parties that say what they should not. */
import { beforeEach, describe, expect, test } from 'vitest';
import { remembers } from '../runtime/small.case.ts';
import { manifestFor, Net, plainSquares, settle } from '../server/net.case.ts';
import { frames } from '../session/messages.ts';
import type { Client, ProgressReport } from './client.ts';
import { type ConnectOptions, connect } from './connect.ts';
import { SubrosaError } from './errors.ts';

const { hash } = plainSquares;
let net: Net;
beforeEach(() => {
  net = new Net();
});
const urls = ['https://p0.test', 'https://p1.test'] as const;
const open = (change: Partial<ConnectOptions> = {}): Promise<Client> =>
  connect({ parties: urls, model: 'squares', token: 'token-a', fetch: net.fetch, ...change });
const x = (n: number, v = 1.5) => ({ x: { shape: [n, 4], data: new Array<number>(4 * n).fill(v) } });
const ask = async (client: Client, n = 2, v = 1.5, options = {}): Promise<void> => {
  const { y } = await client.run(x(n, v), options);
  expect(y.shape).toEqual([n, 4]);
  for (const got of y.data) expect(Math.abs(got - v * v - v)).toBeLessThan(2 ** -9);
};
const requests = (what: RegExp): Net['asked'][number][] => net.asked.filter((r) => what.test(`${r.method} ${r.path}`));
const steps = /POST .*\/steps\//;
const opens = /POST \/v1\/sessions$/;
const json = (value: unknown, status = 200, headers = {}): Response => new Response(JSON.stringify(value), { status, headers });
const failure = (code: string, status: number, headers = {}): Response => json({ error: { code, message: 'said so' } }, status, headers);
/** The first `count` requests of one kind at one party are answered otherwise. */
const first = (count: number, what: RegExp, at: number, answer: () => Response | Promise<Response>): void => {
  net.instead = (party, path, init) => (party === at && what.test(`${init.method} ${path}`) && count-- > 0 ? answer() : undefined);
};

describe('a client', () => {
  test('runs', async () => {
    const client = await open();
    expect(client.manifest).toEqual(manifestFor(plainSquares));
    await ask(client);
    await ask(client, 8, -1);
  });
  test.each([
    ['a step', steps],
    ['a session', opens],
  ])('does not wait for ever for one half of %s that is lost on its way', async (_, what) => {
    const client = await open({ silence: 0.2, retries: 0 });
    const lost = (signal: AbortSignal): Promise<Response> =>
      new Promise((_, reject) => signal.addEventListener('abort', () => reject(new Error('the request was stopped'))));
    net.instead = (party, path, init) => {
      const asked = `${init.method} ${path}`;
      if (party === 1 && what.test(asked)) return lost(init.signal as AbortSignal);
      if (party === 0 && steps.test(asked)) return new Response(new Uint8Array(2 * 4 * 4));
      return party === 0 && opens.test(asked) && what === opens
        ? json(JSON.parse(new TextDecoder().decode(init.body as Uint8Array)), 201)
        : undefined;
    };
    await expect(client.run(x(2))).rejects.toMatchObject({ code: 'timeout', from: 'p1', message: expect.stringContaining('0.2 s') });
  });
  test('takes the parties in either order, the model by name or hash, a token for each', async () => {
    await ask(await open({ parties: [urls[1], urls[0]], model: hash }));
    await ask(await open({ token: ['token-a', 'token-b'] }));
  });
  test('keeps its session for further runs; runs that overlap have one each', async () => {
    const client = await open();
    for (let i = 0; i < 3; i++) await ask(client, 1 + i);
    expect(requests(opens)).toHaveLength(2);
    await Promise.all([1, 2, 3].map((n) => ask(client, n, n / 4)));
    expect(net.sessions).toEqual([3, 3]);
    await ask(client);
    expect(net.sessions).toEqual([3, 3]);
    await client.close();
    await settle();
    expect(net.sessions).toEqual([0, 0]);
    await expect(client.run(x(1))).rejects.toMatchObject({ code: 'aborted' });
  });
  test('sends P0 32 bytes and P1 a share of them, and each its own only', async () => {
    const client = await open();
    await ask(client, 3);
    const [a, b] = [0, 1].map((p) => requests(steps).filter((r) => r.party === p));
    expect([a.length, b.length]).toEqual([1, 1]);
    expect([a[0].body?.length, b[0].body?.length]).toEqual([32, 48]);
    // Equal inputs: the second share's words are as different as noise.
    expect(new Set(new Uint32Array((b[0].body as Uint8Array).slice().buffer)).size).toBe(12);
  });
  test('tells how far a run is', async () => {
    const client = await open();
    const told: ProgressReport[] = [];
    await ask(client, 2, 1.5, { onProgress: (p: ProgressReport) => told.push(p) });
    expect(told.length).toBeGreaterThan(0);
    for (const p of told) expect('queued' in p || p.round <= p.rounds).toBe(true);
  });
  test('passes on what its listener throws, and ends the run', async () => {
    const client = await open();
    const bug = new Error('in the page');
    await expect(
      client.run(x(1), {
        onProgress: () => {
          throw bug;
        },
      }),
    ).rejects.toBe(bug);
    await settle();
    expect(net.sessions).toEqual([0, 0]);
    await ask(client);
  });
});

describe('a program that keeps rows', () => {
  const program = remembers(4, 8);
  const net = new Net({ served: { ...plainSquares, program } });
  const row = (...v: number[]) => ({ shape: [v.length / 4, 4], data: v });
  const [a, b, c] = [
    [1, 2, 3, 4],
    [5, 6, 7, 8],
    [9, 10, 11, 12],
  ];
  const ask = async (client: Client, x: number[], past: number): Promise<number[]> => {
    const q = Array.from({ length: x.length }, () => 1);
    return [...(await client.run({ x: row(...x), q: row(...q) }, { params: { past } })).y.data.slice(0, 8)];
  };
  test('has its steps in one session, beside others, and none of them in a session that has fewer rows', async () => {
    const client = await connect({ parties: urls, model: 'remembers', token: 'token-a', fetch: net.fetch });
    const [one, two] = [client.session(), client.session()];
    expect(await ask(one, [...a, ...b], 0)).toEqual([10, 26, 0, 0, 0, 0, 0, 0]);
    expect(await ask(two, c, 0)).toEqual([42, 0, 0, 0, 0, 0, 0, 0]);
    expect(await ask(one, c, 2)).toEqual([10, 26, 42, 0, 0, 0, 0, 0]);
    expect(await ask(one, c, 1)).toEqual([10, 42, 42, 0, 0, 0, 0, 0]);
    expect(net.sessions).toEqual([2, 2]);
    await expect(ask(client, a, 3)).rejects.toMatchObject({ code: 'bad-message', message: expect.stringContaining('has 0 rows') });
    await expect(ask(two, a, 2)).rejects.toMatchObject({ code: 'bad-message' });
    await expect(ask(two, a, 1)).rejects.toMatchObject({ code: 'bad-message' });
    await expect(ask(two, [...a, ...b], 7)).rejects.toMatchObject({ code: 'bad-input' });
    await expect(client.run({ x: row(...a), q: row(...a) })).rejects.toMatchObject({ code: 'bad-input' });
    await Promise.all([one.close(), two.close(), client.close()]);
    await settle();
    expect(net.sessions).toEqual([0, 0]);
  });
});

describe('before anything is sent', () => {
  test.each([
    ['a value out of range', x(1, 9)],
    ['NaN', x(1, Number.NaN)],
    ['another shape', { x: { shape: [2, 3], data: new Array<number>(6).fill(1) } }],
    ['too long', x(9)],
    ['no input', {}],
  ])('an input is refused: %s', async (_, inputs) => {
    const client = await open();
    const before = net.asked.length;
    await expect(client.run(inputs)).rejects.toMatchObject({ code: 'bad-input' });
    expect(net.asked).toHaveLength(before);
  });

  const disagree: [string, (n: Net) => void, RegExp][] = [
    [
      'manifests differ by a byte',
      (n) =>
        (n.instead = (p, path) =>
          p === 1 && path === `/v1/models/${hash}` ? new Response(`${JSON.stringify(manifestFor(plainSquares))} `) : undefined),
      /differently/,
    ],
    [
      'the name is another program at each',
      (n) =>
        (n.instead = (p, path) =>
          p === 1 && path === '/v1/models' ? json({ party: 1, models: [{ name: 'squares', hash: 'cd'.repeat(32) }] }) : undefined),
      /different programs/,
    ],
    [
      'both say they are p0',
      (n) =>
        (n.instead = (p, path) => (p === 1 && path === '/v1/models' ? json({ party: 0, models: [{ name: 'squares', hash }] }) : undefined)),
      /both p0/,
    ],
  ];
  test.each(disagree)('parties are refused when %s', async (_, lie, message) => {
    lie(net);
    await expect(open()).rejects.toMatchObject({ code: 'mismatch', message: expect.stringMatching(message) });
    expect(requests(/POST/)).toEqual([]);
  });
  test.each([
    ['session', (_: string) => ({ id: '0'.repeat(32), hash })],
    ['program', (id: string) => ({ id, hash: 'cd'.repeat(32) })],
    ['nothing', () => ({})],
  ])('a party that answers for another %s gets no share, nor does the other', async (_, lie) => {
    for (const liar of [0, 1]) {
      net = new Net();
      const client = await open();
      net.instead = (p, path, init) =>
        p === liar && path === '/v1/sessions'
          ? json(lie(JSON.parse(new TextDecoder().decode(init.body as Uint8Array)).id), 201)
          : undefined;
      await expect(client.run(x(1))).rejects.toMatchObject({ code: 'mismatch', from: `p${liar}` });
      expect(requests(steps)).toEqual([]);
    }
  });
  test.each([
    ['one server twice', ['https://p0.test/a', 'https://p0.test/b'], 'mismatch'],
    ['plain http', ['http://p0.test', 'https://p1.test'], 'bad-input'],
    ['no URL', ['p0.test', 'https://p1.test'], 'bad-input'],
    ['another protocol', ['ftp://p0.test', 'https://p1.test'], 'bad-input'],
  ] as [string, [string, string], string][])('%s is refused, unasked', async (_, parties, code) => {
    await expect(open({ parties })).rejects.toMatchObject({ code });
    expect(net.asked).toEqual([]);
  });
  test('plain http is allowed to this machine, or when the caller says so', async () => {
    const here = connect({ parties: ['http://localhost:1', 'http://127.0.0.1:2'], model: 'squares', fetch: net.fetch });
    await expect(here).rejects.toMatchObject({ code: 'unreachable' });
    await expect(
      connect({ parties: ['http://p2.test', 'http://p3.test'], model: 'm', insecure: true, fetch: net.fetch }),
    ).rejects.toMatchObject({ code: 'unreachable' });
  });
  test('a model nobody has, or that two are called, is named', async () => {
    await expect(open({ model: 'cubes' })).rejects.toMatchObject({
      code: 'unknown-model',
      message: expect.stringContaining('it has squares'),
    });
    net.instead = (party, path) =>
      path === '/v1/models'
        ? json({
            party,
            models: [
              { name: 'squares', hash },
              { name: 'squares', hash: 'cd'.repeat(32) },
            ],
          })
        : undefined;
    await expect(open()).rejects.toMatchObject({ message: expect.stringContaining('give the hash') });
  });
});

describe('what goes wrong', () => {
  test.each(['peer-failed', 'busy', 'timeout', 'out-of-memory'])("'%s' is tried again: another session, other shares", async (code) => {
    const client = await open();
    first(1, steps, 1, () => failure(code, 503));
    await ask(client);
    const sent = requests(steps);
    const sessions = new Set(sent.map((r) => r.path.split('/')[3]));
    expect(sessions.size).toBe(2);
    for (const party of [0, 1]) {
      const bodies = sent.filter((r) => r.party === party).map((r) => Buffer.from(r.body as Uint8Array).toString('hex'));
      expect(bodies).toHaveLength(2);
      expect(bodies[0]).not.toBe(bodies[1]);
    }
  });
  test('is tried again as often as the caller allows', async () => {
    for (const retries of [0, 1]) {
      net = new Net();
      const client = await open({ retries });
      first(9, steps, 0, () => failure('out-of-memory', 503, { 'Retry-After': '0' }));
      await expect(client.run(x(1))).rejects.toMatchObject({ code: 'out-of-memory', from: 'p0', retryAfter: 0 });
      expect(requests(steps).filter((r) => r.party === 0)).toHaveLength(1 + retries);
    }
  });
  test.each([
    ['bad-message', 400],
    ['unauthorized', 401],
    ['too-large', 413],
    ['internal', 500],
    ['brand-new-code', 500],
  ])("'%s' is not tried again", async (code, status) => {
    const client = await open();
    first(9, steps, 0, () => failure(code, status));
    await expect(client.run(x(1))).rejects.toMatchObject({ code: code === 'brand-new-code' ? 'internal' : code, from: 'p0' });
    expect(requests(steps).filter((r) => r.party === 0)).toHaveLength(1);
    await settle();
    expect(net.sessions).toEqual([0, 0]);
  });
  test('a server that asks for a long wait is not waited for', async () => {
    const client = await open({ token: 'token-q' });
    await ask(client);
    await ask(client);
    const from = performance.now();
    await expect(client.run(x(1))).rejects.toMatchObject({ code: 'quota', retryAfter: expect.any(Number) });
    expect(performance.now() - from).toBeLessThan(1000);
  });
  test('a session that is over is replaced', async () => {
    const client = await open();
    await ask(client);
    const [{ path }] = requests(steps);
    await net.request(0, path.replace(/\/steps.*/, ''), { method: 'DELETE' });
    await settle();
    await ask(client);
    expect(requests(opens)).toHaveLength(4);
  });
  test('and those kept beside it are not tried one after the other', async () => {
    const client = await open({ retries: 1 });
    await Promise.all([1, 2, 3].map((n) => ask(client, n)));
    for (const id of new Set(requests(steps).map((r) => r.path.split('/')[3])))
      await net.request(0, `/v1/sessions/${id}`, { method: 'DELETE' });
    await settle();
    await ask(client);
    expect(requests(opens)).toHaveLength(2 * 4);
  });
  test('a server that is gone is named; the other’s session is not left open', async () => {
    const client = await open({ retries: 0 });
    first(9, steps, 0, () => Promise.reject(new TypeError('fetch failed', { cause: new Error('connect ECONNREFUSED') })));
    await expect(client.run(x(1))).rejects.toMatchObject({
      code: 'unreachable',
      from: 'p0',
      message: expect.stringContaining('ECONNREFUSED'),
    });
    expect(requests(steps).find((r) => r.party === 1)?.signal?.aborted).toBe(true);
    await settle();
    expect(net.sessions).toEqual([0, 0]);
  });
  test('a party that says no stops the other’s request at once', async () => {
    const client = await open({ retries: 0 });
    first(9, steps, 0, () => failure('bad-message', 400));
    const from = performance.now();
    await expect(client.run(x(1))).rejects.toMatchObject({ code: 'bad-message' });
    expect(performance.now() - from).toBeLessThan(150);
    expect(requests(steps).find((r) => r.party === 1)?.signal?.aborted).toBe(true);
  });
  test('between the parties, is heard from both', async () => {
    const client = await open({ retries: 0 });
    net.lost = (type) => type === frames.opening;
    const run = client.run(x(1));
    run.catch(() => {});
    await settle();
    net.between[0].close();
    await expect(run).rejects.toMatchObject({ code: 'peer-failed' });
  });
  test.each([
    ['in the step', steps],
    ['while it opens', opens],
  ])('the caller’s signal ends the run %s, at both parties', async (_, what) => {
    const client = await open();
    first(1, what, 1, () => new Promise(() => {}));
    const stop = new AbortController();
    const run = client.run(x(1), { signal: stop.signal });
    run.catch(() => {});
    await settle();
    stop.abort(new Error('changed my mind'));
    await expect(run).rejects.toMatchObject({ code: 'aborted', cause: expect.objectContaining({ message: 'changed my mind' }) });
    await settle();
    expect(net.sessions).toEqual([0, 0]);
    await expect(client.run(x(1), { signal: stop.signal })).rejects.toMatchObject({ code: 'aborted' });
    await ask(client);
  });
  test('the signal ends a pause between tries, too', async () => {
    const client = await open();
    first(9, steps, 0, () => failure('busy', 429, { 'Retry-After': '9' }));
    const stop = new AbortController();
    setTimeout(() => stop.abort(), 50);
    const from = performance.now();
    await expect(client.run(x(1), { signal: stop.signal })).rejects.toMatchObject({ code: 'aborted' });
    expect(performance.now() - from).toBeLessThan(1000);
  });
  test.each([
    ['shorter', new Uint8Array(15)],
    ['longer', new Uint8Array(17)],
    ['without end', new ReadableStream<Uint8Array>({ pull: (c) => c.enqueue(new Uint8Array(8)) })],
  ])('an answer that is %s than it must be is none', async (_, body) => {
    const client = await open();
    first(1, steps, 1, () => new Response(body));
    await expect(client.run(x(1))).rejects.toMatchObject({ code: 'bad-message', from: 'p1' });
  });
  test.each([
    [413, 'too-large'],
    [429, 'busy'],
    [502, 'unreachable'],
    [404, 'bad-message'],
  ])('a proxy’s own answer, HTTP %i, is told from a party’s', async (status, code) => {
    const client = await open({ retries: 0 });
    first(1, opens, 1, () => new Response('<html>', { status }));
    await expect(client.run(x(1))).rejects.toMatchObject({ code, message: expect.stringContaining(`HTTP ${status}`) });
  });
  test('a token that is not known', async () => {
    await expect(open({ token: 'token-x' })).rejects.toMatchObject({ code: 'unauthorized', name: 'SubrosaError' });
  });
  test('errors are of one kind, and say whether trying again can help', () => {
    expect(new SubrosaError('busy', '').retryable).toBe(true);
    expect(new SubrosaError('bad-input', '').retryable).toBe(false);
  });
});

describe('a file', () => {
  test('comes once, and is what both parties agreed on', async () => {
    const client = await open();
    expect(await client.file('sub/words.bin')).toEqual(Uint8Array.of(1, 2, 3));
    await client.file('sub/words.bin');
    expect(requests(/client\//)).toHaveLength(1);
    await expect(client.file('seed')).rejects.toMatchObject({ code: 'unknown-model', message: expect.stringContaining('client.json') });
  });
  test('that one party spoils comes from the other; spoilt by both it is refused', async () => {
    const client = await open();
    net.instead = (p, path) => (p === 0 && path.includes('client/') ? new Response(Uint8Array.of(1, 2, 4)) : undefined);
    expect(await client.file('sub/words.bin')).toEqual(Uint8Array.of(1, 2, 3));
    net.instead = (_, path) => (path.includes('client/') ? new Response(Uint8Array.of(1, 2, 4)) : undefined);
    await expect((await open()).file('sub/words.bin')).rejects.toMatchObject({ code: 'mismatch' });
  });
  test('cannot be checked on a page without crypto.subtle, which is said', async () => {
    const client = await open();
    const { subtle } = crypto;
    Object.defineProperty(crypto, 'subtle', { value: undefined, configurable: true });
    try {
      await expect(client.file('client.json')).rejects.toMatchObject({
        code: 'bad-input',
        message: expect.stringContaining('https, or from localhost'),
      });
    } finally {
      Object.defineProperty(crypto, 'subtle', { value: subtle, configurable: true });
    }
  });
});
