/** Over real sockets: the client in Node, and the one in Python that shows any language can be one. */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { type ServerType, serve } from '@hono/node-server';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { connect } from '../src/client/index.ts';
import { encodeWords, splitBy } from '../src/client/share.ts';
import { interpret } from '../src/graph/interpret.ts';
import { shareBytes } from '../src/program/inputs.ts';
import { makeDpf } from '../src/ring/dpf.ts';
import { none, places } from '../src/runtime/small.case.ts';
import { manifestFor, Net, plainSquares, settle } from '../src/server/net.case.ts';
import { frames } from '../src/session/messages.ts';
import { taskModel } from './tasks.ts';

const execute = promisify(execFile);
const script = fileURLToPath(new URL('../examples/python/client.py', import.meta.url));

const servers: ServerType[] = [];
async function listen(net: Net): Promise<[string, string]> {
  const both = net.apps.map((app) => serve({ fetch: app.fetch, hostname: '127.0.0.1', port: 0 }));
  servers.push(...both);
  await Promise.all(both.map((s) => (s.listening ? undefined : new Promise((resolve) => s.once('listening', resolve)))));
  return both.map((s) => `http://127.0.0.1:${(s.address() as AddressInfo).port}`) as [string, string];
}
let net: Net;
let parties: [string, string];
beforeEach(async () => {
  net = new Net();
  parties = await listen(net);
});
afterEach(() => {
  for (const server of servers.splice(0)) {
    server.close();
    (server as { closeAllConnections?: () => void }).closeAllConnections?.();
  }
});
const x = (n: number) => ({ x: { shape: [n, 4], data: Array.from({ length: 4 * n }, (_, i) => Math.sin(i) * 3) } });
const close = (got: ArrayLike<number>, { x: { data } }: ReturnType<typeof x>): void => {
  for (const [i, v] of Array.from(got).entries()) expect(Math.abs(v - data[i] ** 2 - data[i])).toBeLessThan(2 ** -8);
};
const python = async (
  urls: readonly string[],
  model: string,
  inputs: unknown,
  token = 'token-a',
): Promise<{ stdout: string; stderr: string; code: number }> => {
  const child = execute('python3', [script, ...urls, model], { env: { ...process.env, SUBROSA_TOKEN: token } });
  child.child.stdin?.end(JSON.stringify(inputs));
  return child.then((r) => ({ ...r, code: 0 })).catch((e) => e);
};

test('the client runs over HTTP, with progress, and ends its sessions', async () => {
  const client = await connect({ parties, model: 'squares', token: 'token-a' });
  const told: unknown[] = [];
  for (const n of [3, 8]) close((await client.run(x(n), { onProgress: (p) => told.push(p) })).y.data, x(n));
  expect(told.length).toBeGreaterThan(0);
  expect(await client.file('sub/words.bin')).toEqual(Uint8Array.of(1, 2, 3));
  expect(net.sessions).toEqual([1, 1]);
  await client.close();
  await settle();
  expect(net.sessions).toEqual([0, 0]);
});

test.each([[false], [true]])('a connection that breaks ends the session at both parties (stream: %s)', async (stream) => {
  const client = await connect({ parties, model: 'squares', token: 'token-a' });
  net.lost = (type) => type === frames.opening;
  const stop = new AbortController();
  const run = client.run(x(2), { signal: stop.signal, ...(stream ? { onProgress: () => {} } : {}) });
  run.catch(() => {});
  await settle(100);
  expect(net.sessions).toEqual([1, 1]);
  stop.abort();
  await expect(run).rejects.toMatchObject({ code: 'aborted' });
  await settle(100);
  expect(net.sessions).toEqual([0, 0]);
});

test('a server that goes away in mid-run is named within a second', async () => {
  const client = await connect({ parties, model: 'squares', token: 'token-a', retries: 0 });
  net.lost = (type) => type === frames.opening;
  const run = client.run(x(2));
  run.catch(() => {});
  await settle(100);
  const from = performance.now();
  (servers[0] as { closeAllConnections?: () => void }).closeAllConnections?.();
  servers[0].close();
  await expect(run).rejects.toMatchObject({ code: 'unreachable', from: 'p0' });
  expect(performance.now() - from).toBeLessThan(1000);
});

test('one that is not there', async () => {
  await expect(connect({ parties: [parties[0], 'http://127.0.0.1:1'], model: 'squares', token: 'token-a' })).rejects.toMatchObject({
    code: 'unreachable',
    message: expect.stringContaining('127.0.0.1:1'),
  });
});

test('Python: a model’s answer is the plaintext’s, whichever party is named first', async () => {
  const model = taskModel('text-classification');
  const served = new Net({ served: model });
  const urls = await listen(served);
  const inputs = { x: { shape: [5, 3], data: Array.from({ length: 15 }, (_, i) => Math.cos(i)) } };
  const plain = interpret(model.model.graph, { x: { dtype: 'f32', shape: [5, 3], data: Float32Array.from(inputs.x.data) } }).logits;
  for (const order of [urls, [urls[1], urls[0]]]) {
    const { stdout, code, stderr } = await python(order, 'tiny text-classification', inputs);
    expect([code, stderr]).toEqual([0, '']);
    const { logits } = JSON.parse(stdout) as { logits: { shape: number[]; data: number[] } };
    expect(logits.shape).toEqual([1, 2]);
    for (const [i, v] of logits.data.entries()) expect(Math.abs(v - plain.data[i])).toBeLessThan(0.01);
  }
  expect(served.sessions).toEqual([0, 0]);
});

const spans = [9, 300, 2];
const keyed = { program: places(spans), weights: none, hash: 'cd'.repeat(32), task: 'tensors', files: {} };
const rows = {
  x: { shape: [2, 311], data: new Array<number>(622).fill(0) },
  places: { shape: [2, 3], data: [8, 299, 1, 3, 0, 0] },
};
const hot = (data: ArrayLike<number>): number[] => Array.from(data).flatMap((v, i) => (v === 0 ? [] : [v === 1 ? i : -1]));
const ones = [8, 9 + 299, 309 + 1, 311 + 3, 311 + 9, 311 + 309];

test('places go as keys, and come out as one-hot rows: the client, and Python', async () => {
  const urls = await listen(new Net({ served: keyed }));
  const client = await connect({ parties: urls, model: 'places', token: 'token-a' });
  for (let i = 0; i < 2; i++) expect(hot((await client.run(rows)).y.data)).toEqual(ones);
  await client.close();
  const { stdout, code, stderr } = await python(urls, 'places', rows);
  expect([code, stderr]).toEqual([0, '']);
  expect(hot((JSON.parse(stdout) as { y: { data: number[] } }).y.data)).toEqual(ones);
  const beyond = await python(urls, 'places', { ...rows, places: { shape: [2, 3], data: [9, 0, 0, 0, 0, 0] } });
  expect(beyond.stderr).toContain('9 is none of 9 places');
});

test('a body of other keys than are due is refused by its length, and ends the session', async () => {
  const served = new Net({ served: keyed });
  const id = 'ab'.repeat(16);
  const post = (party: number, path: string, body: string | Uint8Array<ArrayBuffer>): Promise<Response> =>
    served.request(party as 0 | 1, path, { method: 'POST', body }, 'token-a');
  await Promise.all([0, 1].map((p) => post(p, '/v1/sessions', JSON.stringify({ id, hash: keyed.hash }))));
  const [due] = shareBytes(keyed.program.inputs, { n: 1 });
  for (const [size, code] of [
    [due + 1, 'too-large'],
    [due, 'ended'],
  ] as const) {
    const answer = (await (await post(0, `/v1/sessions/${id}/steps/0?n=1`, new Uint8Array(size))).json()) as { error: { code: string } };
    expect(answer.error.code).toBe(code);
  }
});

test('the vector of docs/client.md: keys, in both languages', async () => {
  const page = readFileSync(new URL('../docs/client.md', import.meta.url), 'utf8');
  const line = (name: string): string =>
    (new RegExp(`^ {4}${name} +([0-9a-f ]+)$`, 'm').exec(page)?.[1] ?? expect.fail(`docs/client.md has no line '${name}'`)).replaceAll(
      ' ',
      '',
    );
  const wanted = [line('key0'), line('key1')];
  const salt = Uint8Array.from(Buffer.from(line('salt'), 'hex'));
  const roots = (b: Uint8Array): void => b.set(Uint8Array.from(b, (_, i) => i));
  expect(makeDpf(8, 9, 1, salt, roots).map((k) => Buffer.from(k).toString('hex'))).toEqual(wanted);
  const program = `import sys; sys.path.insert(0, ${JSON.stringify(script.replace(/client\.py$/, ''))}); import dpf; roots = [bytes(range(16)), bytes(range(16, 32))]; print(*(k.hex() for k in dpf.point(8, 9, bytes.fromhex("${line('salt')}"), lambda n: roots.pop(0))))`;
  expect((await execute('python3', ['-B', '-c', program])).stdout.trim().split(' ')).toEqual(wanted);
});

test('Python: a refusal is said in the party’s words, and nothing was sent before both agreed', async () => {
  const { code, stderr } = await python(parties, 'squares', x(2), 'token-x');
  expect(code).not.toBe(0);
  expect(stderr).toContain('unauthorized');
  const unknown = await python(parties, 'cubes', x(2));
  expect(unknown.stderr).toContain("do not both have 'cubes'");
  expect(net.sessions).toEqual([0, 0]);
});

test('the vector of docs/client.md: seed, words, shares, in both languages', async () => {
  const page = readFileSync(new URL('../docs/client.md', import.meta.url), 'utf8');
  const line = (name: string): string =>
    new RegExp(`^ {4}${name} +([0-9a-f ,.-]+)$`, 'm').exec(page)?.[1].trim() ?? expect.fail(`docs/client.md has no line '${name}'`);
  const values = line('values').split(',').map(Number);
  const seed = Uint8Array.from(Buffer.from(line('seed'), 'hex'));
  const words = encodeWords(manifestFor(plainSquares), { x: { shape: [1, 4], data: values } });
  const hex = (w: Uint32Array): string => Array.from(w, (v) => v.toString(16).padStart(8, '0')).join(' ');
  const shares = splitBy(seed, words);
  expect(hex(words)).toBe(line('words'));
  expect(hex(new Uint32Array(shares.words.buffer))).toBe(line('p1'));
  expect(Buffer.from(shares.words).toString('hex')).toBe(line('sent'));
  const program = `import sys; sys.path.insert(0, ${JSON.stringify(script.replace(/client\.py$/, ''))}); import client; print(client.split([${words.join()}], bytes.fromhex("${line('seed')}"))[1].hex())`;
  expect((await execute('python3', ['-B', '-c', program])).stdout.trim()).toBe(line('sent'));
});

test('the Python client has 100 lines at most, and needs nothing but Python', () => {
  const text = readFileSync(script, 'utf8');
  expect(text.trimEnd().split('\n').length).toBeLessThanOrEqual(100);
  const imported = [...text.matchAll(/^(?:import|from) (.+?)(?: import .*)?$/gm)].flatMap(([, names]) =>
    names.split(', ').map((n) => n.split('.')[0]),
  );
  for (const name of imported)
    expect(['array', 'concurrent', 'json', 'math', 'os', 're', 'secrets', 'struct', 'sys', 'urllib']).toContain(name);
});
