/** subrosa keys, protect and deploy: over real HTTPS, to roles that fail, cut connections, or are not who they should be. */
import { generateKeyPairSync } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { getRequestListener } from '@hono/node-server';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import { type Part, RoleClient } from '../../src/cli/upload.ts';
import { isProtected, readProtected } from '../../src/folder/index.ts';
import { certify, makeAuthority } from '../../src/net/authority.ts';
import { spkiOf } from '../../src/net/keys.ts';
import type { Role } from '../../src/runtime/model.ts';
import { adminApi } from '../../src/server/admin.ts';
import { readConfig } from '../../src/server/config.ts';
import { RoleModels } from '../../src/server/models.ts';
import { publicOf } from '../../src/server/owner.ts';
import { filesBelow, fresh, home, model, roles, split } from '../server/parts.ts';
import { subrosa } from './subrosa.ts';

afterAll(() => rmSync(home, { recursive: true }));
const [hidden, open] = [split('private'), split('public')];
const owner = generateKeyPairSync('ed25519').privateKey;
const keyFile = fresh('owner');
writeFileSync(keyFile, owner.export({ type: 'pkcs8', format: 'pem' }));
const authority = makeAuthority('here');

const servers: Server[] = [];
afterEach(() => {
  for (const s of servers.splice(0)) {
    s.closeAllConnections();
    s.close();
  }
});

interface Served {
  readonly url: string;
  readonly dir: string;
  /** Bytes of chunks that came. */
  received: number;
  /** Asked for each chunk: 'before' cuts the connection before it counts, 'after' when it has counted. */
  cut: (chunk: number) => 'before' | 'after' | undefined;
}

async function serve(role: Role, options: { names?: string[]; now?: number; by?: typeof authority; dir?: string } = {}): Promise<Served> {
  const dir = options.dir ?? fresh(`deployed-${role}`);
  const app = adminApi({
    role,
    models: new RoleModels({ dir, role, memory: 2 ** 31, threads: 1 }),
    owners: () => [{ name: 'o', key: publicOf(owner) }],
  });
  const { keyPem: key, certPem: cert } = certify(options.by ?? authority, options.names ?? ['localhost', '127.0.0.1'], options.now);
  const listener = getRequestListener(app.fetch);
  let chunks = 0;
  const server = createServer({ key, cert }, (request, response) => {
    if (request.method !== 'PUT') return void listener(request, response);
    served.received += Number(request.headers['content-length']);
    const cut = served.cut(++chunks);
    if (cut === 'before') return void request.socket.destroy();
    if (cut === 'after') response.end = () => response.socket?.destroy() as never;
    return void listener(request, response);
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const served: Served = { url: `https://127.0.0.1:${(server.address() as AddressInfo).port}`, dir, received: 0, cut: () => undefined };
  return served;
}

/** A cluster file; roles in `up` answer, the others' addresses have nobody. */
async function cluster(
  ...up: Role[]
): Promise<{ file: string; served: Record<string, Served>; deploy: (...args: string[]) => ReturnType<typeof subrosa> }> {
  const served: Record<string, Served> = {};
  for (const role of up) served[role] = await serve(role);
  const file = clusterFile(Object.fromEntries(roles.map((role) => [role, served[role]?.url ?? 'https://127.0.0.1:1'])));
  return { file, served, deploy: (...args) => subrosa(['deploy', ...args, '--to', file, '--key', keyFile]) };
}
function clusterFile(urls: Record<string, string>, ca: string | null = authority.certPem): string {
  const dir = fresh('cluster');
  mkdirSync(dir);
  if (ca !== null) writeFileSync(join(dir, 'ca.pem'), ca);
  const lines = [...Object.entries(urls), ...(ca === null ? [] : [['ca', 'ca.pem']])].map(([k, v]) => `${k} = "${v}"`);
  writeFileSync(join(dir, 'cluster.toml'), lines.join('\n'));
  return join(dir, 'cluster.toml');
}
const partOf = (role: Role): Part =>
  new Map([...filesBelow(hidden.roles[role].dir).keys()].map((f) => [f, join(hidden.roles[role].dir, f)]));
const bytesOf = (role: Role): number => [...filesBelow(hidden.roles[role].dir).values()].reduce((sum, b) => sum + b.length, 0);
/** Every attempt has a connection of its own, so that a cut one stands for a new process too. */
const clientOf = (s: Served, role: Role): RoleClient => new RoleClient(role, new URL(s.url), owner, authority.certPem);

describe('deploy', () => {
  test('brings each role its part and no other, once; lists it, and takes it away', async () => {
    const { served, deploy } = await cluster('p0', 'p1', 'dealer');
    const first = await deploy(hidden.dir);
    expect([first.code, first.stdout.trim()]).toEqual([0, `tiny ${hidden.hash}`]);
    for (const role of roles) {
      expect(first.stderr).toMatch(new RegExp(`${role} +deployed`));
      expect(filesBelow(join(served[role].dir, hidden.hash))).toEqual(filesBelow(hidden.roles[role].dir));
    }
    const before = roles.map((role) => served[role].received);
    const again = await deploy(hidden.dir, '--json');
    expect(JSON.parse(again.stdout)).toEqual({
      hash: hidden.hash,
      name: 'tiny',
      weights: 'private',
      roles: { p0: 'there', p1: 'there', dealer: 'there' },
    });
    expect(roles.map((role) => served[role].received)).toEqual(before);
    // A compiled folder with public weights needs no splitting.
    expect(await deploy(model('public').dir, '--json')).toMatchObject({ code: 0, stdout: expect.stringContaining(open.hash) });
    const listed = await deploy('--list');
    expect(listed.stdout).toMatch(new RegExp(`${hidden.hash.slice(0, 16)} +tiny +private .*\\n.*${open.hash.slice(0, 16)} +tiny +public`));
    expect(await deploy('--remove', hidden.hash.slice(0, 12))).toMatchObject({
      code: 0,
      stdout: `${hidden.hash}\n`,
      stderr: expect.stringMatching(/p0 +removed/),
    });
    for (const role of roles) expect(readdirSync(served[role].dir).filter((f) => f !== '.uploads')).toEqual([open.hash]);
    expect(await deploy('--remove', hidden.hash.slice(0, 12))).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('no role has a model'),
    });
  });
  test('goes on with the others when a role fails, says which one, and how to go on', async () => {
    const { served, deploy, file } = await cluster('p0', 'dealer');
    const failed = await deploy(hidden.dir);
    expect(failed.code).toBe(1);
    expect(failed.stderr).toMatch(/dealer +deployed/);
    expect(failed.stderr).toMatch(
      /subrosa: p1: https:\/\/127\.0\.0\.1:1: nothing listens there\n +the same command goes on where it stopped/,
    );
    served.p1 = await serve('p1');
    writeFileSync(file, readFileSync(file, 'utf8').replace('https://127.0.0.1:1"', `${served.p1.url}"`));
    const states = JSON.parse((await deploy(hidden.dir, '--json')).stdout) as object;
    expect(states).toMatchObject({ roles: { p0: 'there', p1: 'uploaded', dealer: 'there' } });
  });
  test('refuses private weights that were not split for a cluster', async () => {
    const { deploy } = await cluster();
    expect(await deploy(model('private').dir)).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/not split for a cluster yet\n.*subrosa protect/),
    });
  });
});

describe('an upload whose connection is cut', () => {
  test.each(['before', 'after'] as const)('%s each third chunk has counted, goes on by itself', async (when) => {
    const s = await serve('p0');
    s.cut = (chunk) => (chunk % 3 === 0 ? when : undefined);
    const client = clientOf(s, 'p0');
    expect(await client.upload(hidden.hash, 'private', partOf('p0'), { chunkBytes: 4000 })).toBe('uploaded');
    client.close();
    expect(filesBelow(join(s.dir, hidden.hash))).toEqual(filesBelow(hidden.roles.p0.dir));
  });
  test('and given up, goes on from there with the next command: nothing is sent twice', async () => {
    const s = await serve('p1');
    s.cut = (chunk) => (chunk === 4 ? 'after' : undefined);
    const client = clientOf(s, 'p1');
    await expect(client.upload(hidden.hash, 'private', partOf('p1'), { chunkBytes: 2000, attempts: 1 })).rejects.toMatchObject({
      code: 'unreachable',
      from: 'p1',
    });
    const reports: number[] = [];
    expect(
      await client.upload(hidden.hash, 'private', partOf('p1'), { chunkBytes: 2000, onProgress: (bytes) => reports.push(bytes) }),
    ).toBe('uploaded');
    client.close();
    expect(reports[0]).toBeGreaterThan(0);
    expect(reports.at(-1)).toBe(bytesOf('p1'));
    expect(s.received).toBe(bytesOf('p1'));
  });
  test('for good, is an error after as many attempts', async () => {
    const s = await serve('dealer');
    s.cut = () => 'before';
    const client = clientOf(s, 'dealer');
    await expect(client.upload(hidden.hash, 'private', partOf('dealer'), { attempts: 2 })).rejects.toMatchObject({ code: 'unreachable' });
    client.close();
    expect(readdirSync(s.dir)).toEqual(['.uploads']);
  });
});

describe('a role that cannot be trusted is named, with what is wrong and what to do', () => {
  const day = 86_400_000;
  const cases: [string, () => Promise<string>, RegExp][] = [
    ['no authority is given', async () => clusterFile({ ...(await all()) }, null), /an authority that is not known here/],
    [
      'another authority of the same name signed',
      async () => clusterFile(await all(makeAuthority('here'))),
      /another authority|not known here/,
    ],
    [
      'its certificate has expired',
      async () => clusterFile(await all(authority, { now: Date.now() - 400 * day })),
      /has expired: renew it/,
    ],
    [
      'its certificate is of tomorrow',
      async () => clusterFile(await all(authority, { now: Date.now() + day })),
      /not valid yet: a clock is wrong/,
    ],
    [
      'its certificate is for other names',
      async () => clusterFile(await all(authority, { names: ['p0.example.org'] })),
      /for other names than this address/,
    ],
  ];
  async function all(by = authority, options: { now?: number; names?: string[] } = {}): Promise<Record<string, string>> {
    const urls = await Promise.all(roles.map(async (role) => [role, (await serve(role, { by, ...options })).url]));
    return Object.fromEntries(urls) as Record<string, string>;
  }
  test.each(cases)('%s', async (_, file, message) => {
    const { code, stderr } = await subrosa(['deploy', hidden.dir, '--to', await file(), '--key', keyFile]);
    expect(code).toBe(1);
    for (const role of roles) expect(stderr).toMatch(new RegExp(`${role}: https://127.*${message.source}`));
  });
  test('a part for one role is nothing to another: addresses that were swapped', async () => {
    const { served, file } = await cluster('p0', 'p1', 'dealer');
    writeFileSync(
      file,
      readFileSync(file, 'utf8').replace(served.p0.url, 'X').replace(served.dealer.url, served.p0.url).replace('X', served.dealer.url),
    );
    const { code, stderr } = await subrosa(['deploy', hidden.dir, '--to', file, '--key', keyFile]);
    expect([code, stderr]).toEqual([
      1,
      expect.stringMatching(/p0: the signature does not fit: it is for another request, or for another role than dealer/),
    ]);
    for (const role of ['p0', 'dealer']) expect(readdirSync(served[role].dir)).toEqual(['.uploads']);
  });
});

describe('what is wrong with the command line', () => {
  const wrong: [string, (file: string) => string[], RegExp][] = [
    ['nothing to do', (f) => ['--to', f, '--key', keyFile], /say what to do/],
    ['two things to do', (f) => [hidden.dir, '--list', '--to', f, '--key', keyFile], /say what to do/],
    ['no cluster file', () => [hidden.dir, '--to', 'nowhere.toml', '--key', keyFile], /nowhere\.toml: no such file/],
    ['a key that is none', (f) => [hidden.dir, '--to', f, '--key', f], /no owner's key/],
    ['no model', (f) => [home, '--to', f, '--key', keyFile], /holds no model to deploy/],
    ['a short hash', (f) => ['--remove', 'abc', '--to', f, '--key', keyFile], /8 or more digits/],
    [
      'plain HTTP',
      () => [hidden.dir, '--to', clusterFile({ p0: 'http://p0.example.org', p1: 'https://a.b', dealer: 'https://a.c' }), '--key', keyFile],
      /p0: seeds do not travel over plain HTTP/,
    ],
    ['a missing role', () => [hidden.dir, '--to', clusterFile({ p0: 'https://a.a', p1: 'https://a.b' }), '--key', keyFile], /dealer: /],
    [
      'a key it does not know',
      () => [
        hidden.dir,
        '--to',
        clusterFile({ p0: 'https://a.a', p1: 'https://a.b', dealer: 'https://a.c', p2: 'https://a.d' }),
        '--key',
        keyFile,
      ],
      /p2/,
    ],
  ];
  const some = clusterFile({ p0: 'https://a.a', p1: 'https://a.b', dealer: 'https://a.c' });
  test.each(wrong)('%s', async (_, args, message) => {
    expect(await subrosa(['deploy', ...args(some)])).toMatchObject({ code: 2, stdout: '', stderr: expect.stringMatching(message) });
  });
});

describe('protect', () => {
  test('splits a compiled folder into complete parts, anew each time, and overwrites nothing', async () => {
    const [one, two] = [fresh('split'), fresh('split')];
    const first = await subrosa(['protect', model('private').dir, '-o', one, '--json']);
    const told = JSON.parse(first.stdout) as { hash: string; bytes: Record<string, number> };
    expect(isProtected(one)).toBe(true);
    expect(readProtected(one).hash).toBe(told.hash);
    expect(readdirSync(one).sort()).toEqual(['client', 'dealer', 'p0', 'p1']);
    for (const role of roles)
      expect(told.bytes[role]).toBe([...filesBelow(join(one, role)).values()].reduce((sum, b) => sum + b.length, 0));
    const human = await subrosa(['protect', model('private').dir, '-o', two]);
    expect(human.stdout).toMatch(
      /tiny in .*private weights\n +program +[0-9a-f]{64}\n +p0 .*masked\.safetensors, program\.json, seed, 4 files for clients/,
    );
    expect(human.stdout).toMatch(/dealer .*program\.json, seeds, tensors\.json\n/);
    expect(readProtected(two).hash).not.toBe(told.hash);
    expect(await subrosa(['protect', model('private').dir, '-o', one])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('exists already'),
    });
    expect(await subrosa(['protect', model('private').dir, '--weights', 'public', '-o', fresh('split')])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('compiled with private weights'),
    });
  });
  test('keeps the hash of a model with public weights', async () => {
    const dir = fresh('split');
    const { stdout } = await subrosa(['protect', model('public').dir, '-o', dir, '--json']);
    expect(JSON.parse(stdout)).toMatchObject({ hash: open.hash, weights: 'public' });
    expect([...filesBelow(join(dir, 'dealer')).keys()]).toEqual(['program.json']);
  });
});

describe('keys', () => {
  test('make configurations that the roles take, pins that match, and files that only their owner may read', async () => {
    const dir = fresh('keys');
    const { stdout } = await subrosa(['keys', dir, '--host', 'p0.example.org', '--host', '192.0.2.7', '--port', '9000', '--json']);
    const { pins } = JSON.parse(stdout) as { pins: Record<string, string> };
    for (const [name] of filesBelow(dir)) expect(statSync(join(dir, name)).mode & 0o777).toBe(0o600);
    for (const role of roles) {
      expect(statSync(join(dir, role)).mode & 0o777).toBe(0o700);
      const config = readConfig(join(dir, role, `${role}.toml`));
      expect(config.role).toBe(role);
      expect(spkiOf(readFileSync(config.links.cert, 'utf8'))).toBe(pins[role]);
      for (const peer of roles) if (config.links[peer]) expect(config.links[peer].pins).toEqual([pins[peer]]);
      expect(config.owners[0].key).toBe(readFileSync(join(dir, 'owner.pub'), 'utf8').trim());
      expect(readdirSync(join(dir, role)).sort()).toEqual(['api.key', 'api.pem', 'link.key', 'link.pem', `${role}.toml`].sort());
    }
    expect(existsSync(join(dir, 'cluster.toml'))).toBe(true);
    const before = filesBelow(dir);
    expect(await subrosa(['keys', dir])).toMatchObject({ code: 2, stderr: expect.stringContaining('nothing was written') });
    expect(filesBelow(dir)).toEqual(before);
    expect(await subrosa(['keys', fresh('keys'), '--host', 'a b'])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('--host a b'),
    });
  });
});
