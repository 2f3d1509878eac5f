/** The HTTP interface of a party, request by request; real hosts behind it. The client that uses it is tested in src/client. */
import { randomBytes } from 'node:crypto';
import { beforeEach, describe, expect, test } from 'vitest';
import { SubrosaError } from '../client/errors.ts';
import { encodeWords, reconstruct, splitWords } from '../client/share.ts';
import { readRecords, streamType } from '../client/stream.ts';
import { frames } from '../session/messages.ts';
import { HostedSession } from './hosted.ts';
import { manifestFor, Net, plainSquares, settle } from './net.case.ts';
import { Quota } from './quota.ts';

const { hash } = plainSquares;
const manifest = manifestFor(plainSquares);
const newId = (): string => randomBytes(16).toString('hex');
let net: Net;
beforeEach(() => {
  net = new Net();
});

const json = (value: unknown): RequestInit => ({
  method: 'POST',
  body: JSON.stringify(value),
  headers: { 'Content-Type': 'application/json' },
});
const both = <T>(ask: (party: 0 | 1) => T): [T, T] => [ask(0), ask(1)];
async function open(id = newId(), token?: string): Promise<string> {
  const answers = await Promise.all(both((p) => net.request(p, '/v1/sessions', json({ id, hash }), token)));
  expect(answers.map((a) => a.status)).toEqual([201, 201]);
  return id;
}
const inputs = (n: number, v = 1.5) => ({ x: { shape: [n, 4], data: new Array<number>(4 * n).fill(v) } });
const shares = (n: number): Uint8Array<ArrayBuffer>[] => {
  const { seed, words } = splitWords(encodeWords(manifest, inputs(n)));
  return [seed, words];
};
const step = (
  party: 0 | 1,
  id: string,
  body: BodyInit | undefined,
  {
    n = 2 as number | string,
    at = 0 as number | string,
    token = 'token-a',
    headers = {},
    signal = undefined as AbortSignal | undefined,
  } = {},
): Promise<Response> =>
  net.request(
    party,
    `/v1/sessions/${id}/steps/${at}?n=${n}`,
    { method: 'POST', body, headers, signal, ...(body instanceof ReadableStream ? { duplex: 'half' } : {}) } as RequestInit,
    token,
  );
const errorOf = async (r: Response | Promise<Response>): Promise<[number, string]> => {
  const response = await r;
  const { error } = (await response.json()) as { error: { code: string; message: string } };
  expect(typeof error.message).toBe('string');
  return [response.status, error.code];
};

describe('models', () => {
  test('are listed, with the party that has them', async () => {
    for (const party of [0, 1] as const)
      expect(await (await net.request(party, '/v1/models')).json()).toEqual({
        party,
        models: [{ name: 'squares', hash, weights: 'public', task: 'tensors' }],
      });
  });
  test('both parties answer the same bytes of a manifest', async () => {
    const [a, b] = await Promise.all(both(async (p) => (await net.request(p, `/v1/models/${hash}`)).text()));
    expect(a).toBe(b);
    expect(JSON.parse(a)).toEqual(manifest);
  });
  test('a file comes whole, with the hash of its bytes as its tag, to be kept for ever', async () => {
    const response = await net.request(0, `/v1/models/${hash}/client/sub/words.bin`);
    expect(new Uint8Array(await response.arrayBuffer())).toEqual(Uint8Array.of(1, 2, 3));
    const etag = `"${manifest.files['sub/words.bin'].sha256}"`;
    expect(Object.fromEntries(response.headers)).toMatchObject({
      etag,
      'content-length': '3',
      'cache-control': expect.stringContaining('immutable'),
      'x-content-type-options': 'nosniff',
    });
    const again = await net.request(0, `/v1/models/${hash}/client/sub/words.bin`, { headers: { 'If-None-Match': etag } });
    expect([again.status, await again.text()]).toEqual([304, '']);
  });
  test.each([
    `/v1/models/${'cd'.repeat(32)}`,
    `/v1/models/${hash}/client/seed`,
    `/v1/models/${hash}/client/__proto__`,
    `/v1/models/${hash}/client/..%2f..%2fetc%2fpasswd`,
    '/v1/models/constructor',
  ])('what is not there is unknown: %s', async (path) => expect(await errorOf(net.request(0, path))).toEqual([404, 'unknown-model']));
});

describe('who may ask', () => {
  test.each(['/v1/models', `/v1/models/${hash}`, `/v1/models/${hash}/client/client.json`])(
    'nobody without a known token: %s',
    async (path) => expect(await errorOf(net.request(0, path, {}, 'token-x'))).toEqual([401, 'unauthorized']),
  );
  test('nor open a session', async () => {
    expect(await errorOf(net.request(0, '/v1/sessions', json({ id: newId(), hash }), 'token-x'))).toEqual([401, 'unauthorized']);
    expect(net.sessions).toEqual([0, 0]);
  });
  test('health needs no token', async () => {
    expect((await net.request(0, '/healthz', {}, '')).status).toBe(200);
    expect((await net.request(0, '/readyz', {}, '')).status).toBe(200);
  });
  test('a page of a listed origin, and no other', async () => {
    const preflight = (origin: string): Promise<Response> =>
      net.request(
        0,
        '/v1/sessions',
        {
          method: 'OPTIONS',
          headers: { Origin: origin, 'Access-Control-Request-Method': 'POST', 'Access-Control-Request-Headers': 'authorization' },
        },
        '',
      );
    const good = await preflight('https://page.test');
    expect([good.status, good.headers.get('access-control-allow-origin')]).toEqual([204, 'https://page.test']);
    expect(good.headers.get('access-control-allow-headers')?.toLowerCase()).toContain('authorization');
    expect((await preflight('https://other.test')).headers.get('access-control-allow-origin')).toBeNull();
    const refused = await net.request(0, '/v1/models', { headers: { Origin: 'https://page.test' } }, 'token-x');
    expect(refused.headers.get('access-control-allow-origin')).toBe('https://page.test');
    expect(refused.headers.get('access-control-expose-headers')).toContain('Retry-After');
  });
});

describe('a session', () => {
  test('is open when both parties were asked, and each says so', async () => {
    const id = newId();
    const first = net.request(0, '/v1/sessions', json({ id, hash }));
    await settle();
    expect(await Promise.race([first.then(() => 'answered'), settle().then(() => 'waits')])).toBe('waits');
    const second = await net.request(1, '/v1/sessions', json({ id, hash }));
    expect(await (await first).json()).toEqual({ id, hash });
    expect(await second.json()).toEqual({ id, hash });
  });
  test('runs steps: the two answers add up', async () => {
    const id = await open();
    for (const [at, n] of [2, 8, 1].entries()) {
      const given = shares(n);
      const answers = await Promise.all(both((p) => step(p, id, given[p], { n, at })));
      expect(answers.map((a) => [a.status, a.headers.get('content-type')])).toEqual([
        [200, 'application/octet-stream'],
        [200, 'application/octet-stream'],
      ]);
      const [a, b] = await Promise.all(answers.map(async (r) => new Uint32Array(await r.arrayBuffer())));
      const { y } = reconstruct(manifest, { n }, [[a, b]]);
      expect(y.shape).toEqual([n, 4]);
      for (const v of y.data) expect(Math.abs(v - 3.75)).toBeLessThan(2 ** -9);
    }
  });
  test('is ended by its caller, at the other party too', async () => {
    const id = await open();
    expect(net.sessions).toEqual([1, 1]);
    expect((await net.request(0, `/v1/sessions/${id}`, { method: 'DELETE' })).status).toBe(204);
    await settle();
    expect(net.sessions).toEqual([0, 0]);
    for (const party of [0, 1] as const) expect(await errorOf(step(party, id, shares(2)[party]))).toEqual([410, 'ended']);
  });
  test('is not there for anyone else, who learns not even that', async () => {
    const id = await open();
    const strange = await step(0, id, shares(2)[0], { token: 'token-b' });
    const unknown = await step(0, newId(), shares(2)[0], { token: 'token-b' });
    expect(strange.status).toBe(410);
    expect(await strange.text()).toBe(await unknown.text());
    expect((await net.request(0, `/v1/sessions/${id}`, { method: 'DELETE' }, 'token-b')).status).toBe(410);
    const given = shares(2);
    for (const answer of await Promise.all(both((p) => step(p, id, given[p])))) expect(answer.status).toBe(200);
  });
  const bad: [string, RequestInit, number, string][] = [
    ['no JSON', { method: 'POST', body: 'id' }, 400, 'bad-message'],
    ['no id', json({ hash }), 400, 'bad-message'],
    ['a short id', json({ id: 'ab', hash }), 400, 'bad-message'],
    ['a model that is not here', json({ id: newId(), hash: 'cd'.repeat(32) }), 404, 'unknown-model'],
    ['much too much', { method: 'POST', body: ' '.repeat(2000) }, 413, 'too-large'],
  ];
  test.each(bad)('is not opened by %s', async (_, init, status, code) => {
    expect(await errorOf(net.request(0, '/v1/sessions', init))).toEqual([status, code]);
    expect(net.sessions).toEqual([0, 0]);
  });
  test('needs a number that is free: the first four bytes of its id', async () => {
    const id = await open();
    expect(await errorOf(net.request(0, '/v1/sessions', json({ id, hash })))).toEqual([429, 'busy']);
    expect(await errorOf(net.request(0, '/v1/sessions', json({ id: id.slice(0, 8) + newId().slice(8), hash }), 'token-b'))).toEqual([
      429,
      'busy',
    ]);
    expect(net.sessions).toEqual([1, 1]);
  });
  test('is not opened while the party says why not; one that is open goes on', async () => {
    const id = await open();
    net.notReady = new SubrosaError('draining', 'shutting down', { retryAfter: 7 });
    const refused = await net.request(0, '/v1/sessions', json({ id: newId(), hash }));
    expect(refused.headers.get('retry-after')).toBe('7');
    expect(await errorOf(refused)).toEqual([503, 'draining']);
    expect(await errorOf(net.request(0, '/readyz'))).toEqual([503, 'draining']);
    const given = shares(2);
    for (const answer of await Promise.all(both((p) => step(p, id, given[p])))) expect(answer.status).toBe(200);
  });
  test('that the other party is not asked for is given up', async () => {
    net = new Net({ api: { limits: { openSeconds: 0.05 } } });
    expect(await errorOf(net.request(0, '/v1/sessions', json({ id: newId(), hash })))).toEqual([504, 'timeout']);
    await settle();
    expect(net.sessions).toEqual([0, 0]);
  });
  test('of a caller that goes away while it opens is given up', async () => {
    const stop = new AbortController();
    const opening = net.request(0, '/v1/sessions', { ...json({ id: newId(), hash }), signal: stop.signal });
    await settle();
    stop.abort();
    await opening;
    await settle();
    expect(net.sessions).toEqual([0, 0]);
  });
  test('cannot be had beyond the host’s limit', async () => {
    net = new Net({ limits: { sessionsPerClient: 2 } });
    await open();
    await open();
    expect(await errorOf(net.request(0, '/v1/sessions', json({ id: newId(), hash })))).toEqual([429, 'busy']);
    await open(newId(), 'token-b');
  });
});

describe('a step', () => {
  const wrong: [string, Parameters<typeof step>[3], number, string][] = [
    ['a length the program does not take', { n: 9 }, 400, 'bad-input'],
    ['a length that is no number', { n: '2.5' }, 400, 'bad-message'],
    ['a parameter twice', { n: '2&n=3' }, 400, 'bad-message'],
    ['a parameter the program does not have', { n: '2&m=3' }, 400, 'bad-message'],
    ['a step that is no number', { at: 'x' }, 400, 'bad-message'],
    ['a step beyond all', { at: 2 ** 32 - 1 }, 400, 'bad-message'],
  ];
  test.each(wrong)('with %s is refused, and its session is over at both parties', async (_, change, status, code) => {
    const id = await open();
    expect(await errorOf(step(0, id, shares(2)[0], change))).toEqual([status, code]);
    await settle();
    expect(net.sessions).toEqual([0, 0]);
  });
  test.each([0, 1] as const)('at p%i takes a share of its size and no other', async (party) => {
    const right = shares(2)[party];
    const longer = new Uint8Array(right.length + 1);
    expect(await errorOf(step(party, await open(), longer))).toEqual([413, 'too-large']);
    expect(await errorOf(step(party, await open(), right.slice(1)))).toEqual([400, 'bad-message']);
    expect(await errorOf(step(party, await open(), undefined))).toEqual([400, 'bad-message']);
  });
  test('reads no more than that of a body without a length', async () => {
    let pulled = 0;
    const endless = new ReadableStream<Uint8Array>({
      pull(controller) {
        pulled++;
        controller.enqueue(new Uint8Array(16));
      },
    });
    expect(await errorOf(step(0, await open(), endless))).toEqual([413, 'too-large']);
    expect(pulled).toBeLessThan(10);
  });
  test('does not begin to read one that says it is longer', async () => {
    let pulled = 0;
    const long = new ReadableStream<Uint8Array>({ pull: (controller) => controller.enqueue(new Uint8Array(++pulled)) });
    expect(await errorOf(step(0, await open(), long, { headers: { 'Content-Length': '33' } }))).toEqual([413, 'too-large']);
    // What a stream makes before anyone asks.
    expect(pulled).toBe(1);
  });
  test('does not keep a share beside the host’s own', async () => {
    const hosted = new HostedSession(net.parties[0], 'ann', 'p0', 5, () => {});
    const share = randomBytes(32);
    const gone = new AbortController();
    const run = hosted.run(0, { n: 2 }, share, [8], gone.signal, () => {});
    expect(share.every((b) => b === 0)).toBe(true);
    gone.abort();
    await expect(run).rejects.toMatchObject({ code: 'aborted' });
  });
  test('whose body stands still is given up', async () => {
    net = new Net({ api: { limits: { stallSeconds: 0.05 } } });
    const silent = new ReadableStream<Uint8Array>({ start: (controller) => controller.enqueue(new Uint8Array(16)) });
    expect(await errorOf(step(0, await open(), silent))).toEqual([504, 'timeout']);
    expect(net.sessions).toEqual([0, 0]);
  });
  test('beside too many uploads, all are told to wait', async () => {
    net = new Net({ api: { limits: { uploadBytes: 1040 } } });
    const id = await open();
    void step(0, id, new ReadableStream<Uint8Array>({}));
    await settle();
    const refused = await net.request(0, '/v1/sessions', json({ id: newId(), hash }));
    expect(refused.headers.get('retry-after')).toBe('1');
    expect(await errorOf(refused)).toEqual([429, 'busy']);
    await net.request(0, `/v1/sessions/${id}`, { method: 'DELETE' });
  });
  test('that was run is not run again: no second answer under its masks', async () => {
    const id = await open();
    const given = shares(2);
    await Promise.all(both((p) => step(p, id, given[p])));
    expect(await errorOf(step(0, id, shares(2)[0]))).toEqual([409, 'step-order']);
    await settle();
    expect(net.sessions).toEqual([0, 0]);
  });
  test('beside one that runs is refused', async () => {
    const id = await open();
    const first = step(0, id, shares(2)[0]);
    await settle();
    expect(await errorOf(step(0, id, shares(2)[0], { at: 1 }))).toEqual([409, 'step-order']);
    expect(await errorOf(first)).toEqual([410, 'ended']);
  });
  test('of other lengths at each party ends at both', async () => {
    const id = await open();
    const answers = await Promise.all(both((p) => step(p, id, shares(2 + p)[p], { n: 2 + p })));
    const codes = await Promise.all(answers.map(async (a) => (await errorOf(a))[1]));
    expect(codes).toContain('bad-message');
    expect(net.sessions).toEqual([0, 0]);
  });
  test('whose caller goes away ends its session, at the other party too', async () => {
    const id = await open();
    net.lost = (type) => type === frames.opening;
    const stop = new AbortController();
    const given = shares(2);
    const answers = both((p) => step(p, id, given[p], { signal: p === 0 ? stop.signal : undefined }));
    await settle();
    expect(net.sessions).toEqual([1, 1]);
    stop.abort();
    expect((await errorOf(answers[1]))[0]).toBeGreaterThanOrEqual(400);
    expect(net.sessions).toEqual([0, 0]);
  });
  test('when the other party goes away says so', async () => {
    const id = await open();
    net.lost = (type) => type === frames.opening;
    const given = shares(2);
    const answers = both((p) => step(p, id, given[p]));
    await settle();
    net.between[0].close();
    for (const answer of answers) expect(await errorOf(answer)).toEqual([502, 'peer-failed']);
  });
});

describe('a stream', () => {
  const read = async (response: Response, length: number): Promise<{ words: Uint8Array; texts: unknown[] }> => {
    expect(response.headers.get('content-type')).toBe(streamType);
    const texts: unknown[] = [];
    const words = await readRecords(response.body as ReadableStream<Uint8Array>, length, (type, value) => texts.push([type, value]));
    return { words, texts };
  };
  test('tells how far a step is, then the words', async () => {
    const id = await open();
    const given = shares(2);
    const answers = await Promise.all(both((p) => step(p, id, given[p], { headers: { Accept: streamType } })));
    const [a, b] = await Promise.all(answers.map((r) => read(r, 32)));
    const { y } = reconstruct(manifest, { n: 2 }, [
      [new Uint32Array(a.words.buffer), new Uint32Array(b.words.buffer)] as [Uint32Array, Uint32Array],
    ]);
    for (const v of y.data) expect(Math.abs(v - 3.75)).toBeLessThan(2 ** -9);
    expect(a.texts.length).toBeGreaterThan(0);
    for (const [type, value] of a.texts as [number, object][]) {
      expect(type).toBe(1);
      expect(Object.keys(value).join()).toMatch(/^(queued|round,rounds)$/);
    }
  });
  test('ends with an error when the step does', async () => {
    const id = await open();
    net.lost = (type) => type === frames.opening;
    const given = shares(2);
    const [a] = await Promise.all(both((p) => step(p, id, given[p], { headers: { Accept: streamType } })));
    net.between[1].close();
    const texts: [number, unknown][] = [];
    await expect(readRecords(a.body as ReadableStream<Uint8Array>, 32, (type, value) => texts.push([type, value]))).rejects.toThrow(
      'ended without a result',
    );
    expect(texts.at(-1)).toEqual([3, { error: { code: 'peer-failed', message: expect.any(String) } }]);
  });
  test('nobody reads on ends its session', async () => {
    const id = await open();
    net.lost = (type) => type === frames.opening;
    const given = shares(2);
    const [a, b] = both((p) => step(p, id, given[p], { headers: p === 0 ? { Accept: streamType } : {} }));
    await (await a).body?.cancel();
    expect((await errorOf(b))[0]).toBeGreaterThanOrEqual(400);
    expect(net.sessions).toEqual([0, 0]);
  });
});

describe('a quota', () => {
  test('holds for steps of a caller, in all its sessions', async () => {
    const given = shares(1);
    for (let i = 0; i < 2; i++) {
      const id = await open(newId(), 'token-q');
      for (const answer of await Promise.all(both((p) => step(p, id, given[p], { n: 1, token: 'token-q' }))))
        expect(answer.status).toBe(200);
    }
    const refused = await step(0, await open(newId(), 'token-q'), given[0], { n: 1, token: 'token-q' });
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(20);
    expect(await errorOf(refused)).toEqual([429, 'quota']);
    const id = await open();
    for (const answer of await Promise.all(both((p) => step(p, id, given[p], { n: 1 })))) expect(answer.status).toBe(200);
  });
  test('comes back with time, a minute’s worth at most', () => {
    let now = 1000;
    const quota = new Quota(() => now);
    const caller = { name: 'c', stepsPerMinute: 3 };
    const taken = (): number => {
      for (let i = 0; ; i++)
        try {
          quota.take(caller);
        } catch (e) {
          expect(e).toMatchObject({ code: 'quota', retryAfter: 20 });
          return i;
        }
    };
    expect(taken()).toBe(3);
    now += 20;
    expect(taken()).toBe(1);
    now += 1e6;
    expect(taken()).toBe(3);
  });
});

test('what went wrong inside is heard inside, and not told', async () => {
  net = new Net({
    api: {
      authenticate: () => {
        throw new TypeError('secret detail');
      },
    },
  });
  const answer = await net.request(0, '/v1/models');
  const body = await answer.text();
  expect([answer.status, JSON.parse(body).error.code]).toEqual([500, 'internal']);
  expect(body).not.toContain('secret detail');
  expect(net.errors).toHaveLength(1);
});

test.each(['/', '/v1', '/v1/nothing', '/v1/sessions/x/y'])('no such route: %s', async (path) =>
  expect(await errorOf(net.request(0, path))).toEqual([400, 'bad-message']),
);
