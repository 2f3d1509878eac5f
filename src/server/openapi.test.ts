/** docs/openapi.yaml against the routes, the list of codes, and what an in-process party really answers. */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { taskModel } from '../../test/tasks.ts';
import { codes, SubrosaError } from '../client/errors.ts';
import { encodeWords, splitWords } from '../client/share.ts';
import { readRecords, streamType } from '../client/stream.ts';
import { places } from '../runtime/small.case.ts';
import { frames } from '../session/messages.ts';
import { manifestFor, Net, plainSquares, settle } from './net.case.ts';

type Answer = {
  description: string;
  'x-codes'?: string[];
  content?: Record<string, { schema: object }>;
  headers?: Record<string, unknown>;
};
type Operation = { operationId: string; responses: Record<string, Answer | { $ref: string }> };
const text = readFileSync(new URL('../../docs/openapi.yaml', import.meta.url), 'utf8');
const doc = parse(text) as {
  paths: Record<string, Record<string, Operation>>;
  components: {
    responses: Record<string, Answer>;
    schemas: Record<string, object> & { Error: { properties: { error: { properties: { code: { enum: string[] } } } } } };
  };
};
const ajv = new Ajv2020({ strict: false, allErrors: true }).addSchema(doc, 'openapi');
const holds = (schema: object | string, value: unknown): void => {
  const validate =
    typeof schema === 'string'
      ? ajv.getSchema(`openapi#/components/schemas/${schema}`)
      : ajv.compile(JSON.parse(JSON.stringify(schema).replaceAll('"#/', '"openapi#/')) as object);
  expect(validate?.(value), JSON.stringify(validate?.errors)).toBe(true);
};
const methods = ['get', 'post', 'delete', 'put', 'patch'];
const operations = Object.entries(doc.paths).flatMap(([path, of]) =>
  methods.flatMap((method) => (of[method] ? [{ path, method, operation: of[method] }] : [])),
);
const answerOf = (a: Answer | { $ref: string }): Answer => ('$ref' in a ? doc.components.responses[a.$ref.split('/').at(-1) as string] : a);

test('every route is described, and nothing else', () => {
  const routes = new Net().apps[0].routes
    .filter((r) => r.method !== 'ALL')
    .map((r) => `${r.method} ${r.path.replace(/:(\w+)(\{.*?\})?/g, '{$1}')}`);
  expect(operations.map(({ path, method }) => `${method.toUpperCase()} ${path}`).sort()).toEqual([...new Set(routes)].sort());
});

test('every reference leads somewhere', () => {
  for (const [, ref] of text.matchAll(/\$ref: '#\/([\w/]+)'/g))
    expect(
      ref.split('/').reduce((at: unknown, key) => (at as Record<string, unknown>)?.[key], doc),
      ref,
    ).toBeDefined();
});

test('codes are those of src/client/errors.ts, each under its own status', () => {
  const sayable = Object.entries(codes).filter(([, { status }]) => status > 0);
  expect([...doc.components.schemas.Error.properties.error.properties.code.enum].sort()).toEqual(sayable.map(([code]) => code).sort());
  const listed = new Set<string>();
  for (const { operation } of operations)
    for (const [status, answer] of Object.entries(operation.responses).map(([s, a]) => [Number(s), answerOf(a)] as const))
      for (const code of status >= 400 ? (answer['x-codes'] ?? expect.fail(`${operation.operationId} ${status} lists no codes`)) : []) {
        expect(codes[code as keyof typeof codes]?.status, `${operation.operationId}: ${code}`).toBe(status);
        listed.add(code);
      }
  expect([...listed].sort()).toEqual(sayable.map(([code]) => code).sort());
});

test('docs/client.md has every code, with its status and whether to try again', () => {
  const page = readFileSync(new URL('../../docs/client.md', import.meta.url), 'utf8');
  const rows = [...page.matchAll(/^\| `([a-z-]+)` \| (\d*) ?\| (yes|no) \|/gm)].map(([, code, status, again]) => [
    code,
    { status: Number(status), retry: again === 'yes' },
  ]);
  expect(Object.fromEntries(rows)).toEqual(codes);
});

test('what a party answers is what is described, from the first question to every refusal', async () => {
  const net = new Net({ limits: { sessionsPerClient: 3 } });
  const { hash } = plainSquares;
  const seen = new Set<string>();
  /** Asks, and holds the answer against the description. */
  const ask = async (party: 0 | 1, path: string, init: RequestInit = {}, token?: string): Promise<Response> => {
    const method = (init.method ?? 'GET').toLowerCase();
    const { pathname } = new URL(path, 'https://x');
    const found = operations.find(
      (o) => o.method === method && new RegExp(`^${o.path.replace('{file}', '.+').replace(/\{\w+\}/g, '[^/]+')}$`).test(pathname),
    );
    const { operation } = found ?? expect.fail(`${method} ${path} is not described`);
    const response = await net.request(party, path, init, token);
    const described = answerOf(operation.responses[response.status] ?? expect.fail(`${operation.operationId} answers ${response.status}`));
    seen.add(`${operation.operationId} ${response.status}`);
    const kind = response.headers.get('content-type');
    if (!described.content) expect(await response.clone().text()).toBe('');
    else {
      const { schema } = described.content[kind ?? ''] ?? expect.fail(`${operation.operationId} answers ${kind}`);
      if (kind === 'application/json') {
        const body = await response.clone().json();
        holds(schema, body);
        if (response.status >= 400) expect(described['x-codes']).toContain(body.error.code);
        if (response.headers.has('retry-after')) {
          expect(Number(response.headers.get('retry-after'))).toBe(body.error.retryAfter);
          expect(described.headers).toHaveProperty('Retry-After');
        }
      }
    }
    return response;
  };
  const json = (value: unknown): RequestInit => ({ method: 'POST', body: JSON.stringify(value) });
  const open = async (token?: string): Promise<string> => {
    const id = randomBytes(16).toString('hex');
    holds('Session', { id, hash });
    await Promise.all(([0, 1] as const).map((p) => ask(p, '/v1/sessions', json({ id, hash }), token)));
    return id;
  };
  const step = (
    p: 0 | 1,
    id: string,
    { at = 0, n = 2, headers = {}, token = undefined as string | undefined, body = undefined as Uint8Array<ArrayBuffer> | undefined } = {},
  ): Promise<Response> =>
    ask(p, `/v1/sessions/${id}/steps/${at}?n=${n}`, { method: 'POST', headers, body: body ?? [shares.seed, shares.words][p] }, token);
  const shares = splitWords(encodeWords(manifestFor(plainSquares), { x: { shape: [2, 4], data: new Array(8).fill(1) } }));

  for (const path of [
    '/healthz',
    '/readyz',
    '/v1/models',
    `/v1/models/${hash}`,
    `/v1/models/${hash}/client/client.json`,
    `/v1/models/${hash}/client/sub/words.bin`,
  ])
    expect((await ask(0, path)).status).toBe(200);
  await ask(0, `/v1/models/${hash}/client/client.json`, {
    headers: { 'If-None-Match': `"${manifestFor(plainSquares).files['client.json'].sha256}"` },
  });
  for (const path of ['/v1/models', `/v1/models/${hash}`, `/v1/models/${hash}/client/client.json`]) await ask(0, path, {}, 'token-x');
  for (const path of [`/v1/models/${'0'.repeat(64)}`, `/v1/models/${hash}/client/x`]) await ask(0, path);

  const id = await open();
  const [streamed] = await Promise.all([step(0, id, { headers: { Accept: streamType } }), step(1, id)]);
  let told = 0;
  await readRecords(streamed.body as ReadableStream<Uint8Array>, 32, (type, value) => {
    told++;
    holds(type === 1 ? 'Progress' : 'Error', value);
  });
  expect(told).toBeGreaterThan(0);
  await Promise.all([step(0, id, { at: 1 }), step(1, id, { at: 1 })]);
  await step(0, id, { at: 1 });
  await step(0, id);
  await ask(0, `/v1/sessions/${await open()}`, { method: 'DELETE' });
  await ask(0, `/v1/sessions/${id}`, { method: 'DELETE' });
  await ask(0, `/v1/sessions/${id}`, { method: 'DELETE' }, 'token-x');
  await settle();
  await step(0, await open(), { n: 9 });
  await step(0, await open(), { body: new Uint8Array(33) });
  await step(0, id, { token: 'token-x' });
  for (let i = 0; i < 2; i++) {
    const mine = await open('token-q');
    await Promise.all([step(0, mine, { token: 'token-q' }), step(1, mine, { token: 'token-q' })]);
  }
  await step(0, await open('token-q'), { token: 'token-q' });
  for (const [init, token] of [
    [{ method: 'POST', body: '{' }],
    [json({ id, hash: '0'.repeat(64) })],
    [{ method: 'POST', body: ' '.repeat(9999) }],
    [json({ id, hash }), 'token-x'],
  ] as [RequestInit, string?][])
    await ask(0, '/v1/sessions', init, token);
  const stuck = await open();
  net.lost = (type) => type === frames.opening;
  const both = [step(0, stuck), step(1, stuck)];
  await settle();
  await Promise.all([open(), open()]);
  await ask(0, '/v1/sessions', json({ id: randomBytes(16).toString('hex'), hash }));
  net.between[0].close();
  await Promise.all(both);
  net.notReady = new SubrosaError('not-ready', 'the dealer is not connected');
  await ask(0, '/readyz');
  await ask(0, '/v1/sessions', json({ id, hash }));

  // All described answers but those that need a lie, a silence or a mistake.
  const unseen = operations
    .flatMap(({ operation }) => Object.keys(operation.responses).map((status) => `${operation.operationId} ${status}`))
    .filter((a) => !seen.has(a) && !/ (403|500|504)$/.test(a));
  expect(unseen.sort()).toEqual(['openSession 409', 'openSession 410', 'openSession 502', 'runStep 404', 'runStep 503']);
});

test('manifests of real programs have the form described', () => {
  for (const task of ['text-classification', 'image-classification'] as const)
    holds('Manifest', JSON.parse(JSON.stringify(manifestFor(taskModel(task)))));
  const keyed = manifestFor({ ...plainSquares, program: places([49_152, 2]) });
  expect(keyed.inputs[1].encoding).toEqual({ dpf: [49_152, 2] });
  holds('Manifest', JSON.parse(JSON.stringify(keyed)));
});
