/** An owner's requests to a role: who may, what may, and what lies on the disk when something goes wrong on the way. */
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import type { Role } from '../../src/runtime/model.ts';
import { adminApi } from '../../src/server/admin.ts';
import { RoleModels } from '../../src/server/models.ts';
import { publicOf, signRequest, type ToSign } from '../../src/server/owner.ts';
import type { Declared, Disk, UploadLimits } from '../../src/server/uploads.ts';
import { declaration, filesBelow, fresh, home, roles, split } from './parts.ts';

afterAll(() => rmSync(home, { recursive: true }));
const [hidden, open] = [split('private'), split('public')];
const [owner, stranger] = [1, 2].map(() => generateKeyPairSync('ed25519').privateKey);

interface Server {
  readonly models: RoleModels;
  readonly dir: string;
  /** Milliseconds the server's clock is ahead. */
  readonly clock: { ahead: number };
  readonly said: string[];
  send(
    header: string | undefined,
    request: ToSign,
  ): Promise<{ status: number; code?: string; message: string; body: Record<string, unknown> }>;
  ask(
    method: string,
    path: string,
    body?: Uint8Array | object,
    how?: { key?: KeyObject; at?: Role; now?: number; sent?: Uint8Array },
  ): ReturnType<Server['send']>;
}

function serve(role: Role, options: { dir?: string; limits?: Partial<UploadLimits>; disk?: Disk; memory?: number } = {}): Server {
  const { dir = fresh(`served-${role}`), memory = 2 ** 31 } = options;
  const models = new RoleModels({ dir, role, memory, threads: 1 });
  const said: string[] = [];
  const clock = { ahead: 0 };
  const app = adminApi({
    role,
    models,
    owners: () => [
      { name: 'a', key: Buffer.alloc(32, 7).toString('hex') },
      { name: 'anna', key: publicOf(owner) },
    ],
    now: () => Date.now() + clock.ahead,
    onEvent: (e) => said.push(`${e.owner} ${e.action}`),
    ...options,
  });
  const server: Server = {
    models,
    dir,
    clock,
    said,
    async send(header, { method, path, body }) {
      const answer = await app.request(path, {
        method,
        headers: header ? { authorization: header } : {},
        ...(body ? { body: body as Uint8Array<ArrayBuffer> } : {}),
      });
      const text = await answer.text();
      const parsed =
        (answer.status === 404 && !text.startsWith('{')) || text === ''
          ? {}
          : (JSON.parse(text) as { error?: { code: string; message: string } });
      return {
        status: answer.status,
        code: parsed.error?.code,
        message: parsed.error?.message ?? '',
        body: parsed as Record<string, unknown>,
      };
    },
    ask(method, path, content, { key = owner, at = role, now = Date.now() + clock.ahead, sent } = {}) {
      const body = content === undefined || content instanceof Uint8Array ? content : Buffer.from(JSON.stringify(content));
      const request = { method, role: at, path: `/v1/admin/${path}`, body };
      return server.send(signRequest(key, request, now), { ...request, body: sent ?? body });
    },
  };
  return server;
}

const part = (role: Role, of = hidden) => filesBelow(of.roles[role].dir);
const declared = (role: Role, of = hidden): Declared => declaration(of.roles[role].dir, of === open ? 'public' : 'private');
/** All of a model, in chunks; `mine` may change a file on its way. */
async function upload(
  s: Server,
  role: Role,
  of = hidden,
  chunk = 5000,
  mine = (_: string, bytes: Buffer): Buffer => bytes,
): ReturnType<Server['send']> {
  const begun = await s.ask('POST', `uploads/${of.hash}`, declared(role, of));
  if (begun.status !== 200) return begun;
  const here = begun.body.files as Record<string, number>;
  for (const [name, original] of part(role, of)) {
    const bytes = mine(name, original);
    for (let at = here[name]; at < bytes.length; at += chunk) {
      const answer = await s.ask('PUT', `uploads/${of.hash}/${name}?offset=${at}`, bytes.subarray(at, at + chunk));
      if (answer.status !== 200) return answer;
    }
  }
  return s.ask('POST', `uploads/${of.hash}/commit`);
}
const onDisk = (s: Server): string[] => readdirSync(s.dir).filter((f) => f !== '.uploads');

describe('an upload', () => {
  test.each(roles)('of either kind is served by %s when it is whole, byte for byte, for its owner’s eyes only', async (role) => {
    const s = serve(role);
    for (const of of [hidden, open]) {
      expect(await upload(s, role, of)).toMatchObject({ status: 201 });
      expect(filesBelow(join(s.dir, of.hash))).toEqual(part(role, of));
      for (const name of [...part(role, of).keys(), '', ...(role === 'dealer' ? [] : ['client'])]) {
        const stat = statSync(join(s.dir, of.hash, name));
        expect(stat.mode & 0o777).toBe(stat.isDirectory() ? 0o700 : 0o600);
      }
      s.models.acquire(of.hash);
      expect((await s.ask('POST', `uploads/${of.hash}`, declared(role, of))).body).toEqual({ there: true, files: {} });
    }
    expect(
      s.models
        .list()
        .map((m) => m.hash)
        .sort(),
    ).toEqual([hidden.hash, open.hash].sort());
    expect(s.said).toEqual(['anna declare', 'anna commit', 'anna declare', 'anna declare', 'anna commit', 'anna declare']);
    expect(readdirSync(join(s.dir, '.uploads'))).toEqual(['nonces']);
    const listed = (await s.ask('GET', 'models')).body;
    expect(listed).toMatchObject({ role, uploads: [], models: [{ held: 1 }, { held: 1 }] });
  });
  test('goes on where it was cut, also in another process', async () => {
    const s = serve('p0');
    const bytes = part('p0').get('masked.safetensors') as Buffer;
    await s.ask('POST', `uploads/${hidden.hash}`, declared('p0'));
    await s.ask('PUT', `uploads/${hidden.hash}/masked.safetensors?offset=0`, bytes.subarray(0, 100));
    const later = serve('p0', { dir: s.dir });
    expect((await later.ask('POST', `uploads/${hidden.hash}`, declared('p0'))).body).toMatchObject({
      files: { 'masked.safetensors': 100, seed: 0 },
    });
    expect((await later.ask('GET', 'models')).body).toMatchObject({ uploads: [{ hash: hidden.hash, bytes: 100 }] });
    expect(onDisk(later)).toEqual([]);
    expect((await upload(later, 'p0')).status).toBe(201);
    expect(filesBelow(join(s.dir, hidden.hash))).toEqual(part('p0'));
  });
  test('takes no chunk out of place, beyond the end, or of a file that was not declared', async () => {
    const s = serve('p0');
    await s.ask('POST', `uploads/${hidden.hash}`, declared('p0'));
    const put = (name: string, offset: number | string, bytes: number) =>
      s.ask('PUT', `uploads/${hidden.hash}/${name}?offset=${offset}`, Buffer.alloc(bytes));
    expect(await put('seed', 1, 5)).toMatchObject({ status: 409, message: expect.stringContaining('has 0 bytes here') });
    expect(await put('seed', 0, 5000)).toMatchObject({ status: 413, code: 'too-large' });
    expect(await put('seed', '-1', 5)).toMatchObject({ status: 400 });
    expect(await put('seed', '0x1', 5)).toMatchObject({ status: 400 });
    for (const name of [
      'seeds',
      '../../../escape',
      '..%2F..%2Fescape',
      'client/../../escape',
      'client%2f..%2f..%2fescape',
      '%2e%2e/escape',
      'constructor',
    ])
      expect([400, 401, 404]).toContain((await put(name, 0, 5)).status);
    expect(readdirSync(s.dir)).toEqual(['.uploads']);
    expect(existsSync(join(s.dir, 'escape')) || existsSync(join(home, 'escape'))).toBe(false);
    expect((await put('x'.repeat(500), 0, 1)).status).toBe(400);
  });
  test('that is not complete, or whose bytes are others than declared, is not served; the bad file is sent again', async () => {
    const s = serve('p1');
    expect(await s.ask('POST', `uploads/${hidden.hash}/commit`)).toMatchObject({ status: 404 });
    await s.ask('POST', `uploads/${hidden.hash}`, declared('p1'));
    expect(await s.ask('POST', `uploads/${hidden.hash}/commit`)).toMatchObject({
      status: 409,
      message: expect.stringContaining('not complete'),
    });
    const flipped = (name: string, b: Buffer): Buffer =>
      name === 'masked.safetensors' ? Buffer.from(b.map((v, i) => (i === b.length - 1 ? v ^ 1 : v))) : b;
    expect(await upload(s, 'p1', hidden, 5000, flipped)).toMatchObject({
      status: 409,
      message: expect.stringContaining('masked.safetensors: its SHA-256'),
    });
    expect(onDisk(s)).toEqual([]);
    expect((await s.ask('POST', `uploads/${hidden.hash}`, declared('p1'))).body).toMatchObject({ files: { 'masked.safetensors': 0 } });
    expect((await upload(s, 'p1')).status).toBe(201);
  });
  test('a chunk that was changed on its way changes nothing', async () => {
    const s = serve('p0');
    await s.ask('POST', `uploads/${hidden.hash}`, declared('p0'));
    const bytes = (part('p0').get('seed') as Buffer).subarray(0, 20);
    const changed = await s.ask('PUT', `uploads/${hidden.hash}/seed?offset=0`, bytes, { sent: Buffer.from(bytes.map((v) => v ^ 1)) });
    expect(changed).toMatchObject({ status: 400, message: expect.stringContaining('not the one that was signed') });
    expect((await s.ask('POST', `uploads/${hidden.hash}`, declared('p0'))).body).toMatchObject({ files: { seed: 0 } });
  });
  test('whose files are whole but do not fit each other is not served', async () => {
    const other = split('private');
    const dir = fresh('mixed');
    mkdirSync(dir);
    const files = { ...declared('p0').files, seed: declared('p0', other).files.seed };
    const s = serve('p0');
    await s.ask('POST', `uploads/${hidden.hash}`, { weights: 'private', files });
    for (const [name, bytes] of part('p0'))
      await s.ask('PUT', `uploads/${hidden.hash}/${name}?offset=0`, name === 'seed' ? part('p0', other).get('seed') : bytes);
    expect(await s.ask('POST', `uploads/${hidden.hash}/commit`)).toMatchObject({
      status: 400,
      message: expect.stringMatching(/^seed belongs to other weights/),
    });
    expect(onDisk(s)).toEqual([]);
  });
  test('of a model that could never be loaded here is refused', async () => {
    const s = serve('p1', { memory: 2 ** 20 });
    expect(await upload(s, 'p1')).toMatchObject({ status: 413, code: 'too-large', message: expect.stringContaining('raise the cap') });
    expect(onDisk(s)).toEqual([]);
  });
});

describe('a declaration', () => {
  const p0 = (): Declared => declared('p0');
  const with_ = (files: Declared['files']): Declared => ({ weights: 'private', files: { ...p0().files, ...files } });
  const some = { bytes: 5, sha256: '0'.repeat(64) };
  const cases: [string, Role, () => unknown, number, RegExp][] = [
    [
      'masked weights for the dealer',
      'dealer',
      () => ({ ...declared('dealer'), files: { ...declared('dealer').files, 'masked.safetensors': some } }),
      403,
      /dealer must not hold 'masked\.safetensors'/,
    ],
    [
      "the dealer's seeds for a party",
      'p1',
      () => ({ ...declared('p1'), files: { ...declared('p1').files, seeds: some } }),
      403,
      /p1 must not hold 'seeds'/,
    ],
    ['the plain model', 'p0', () => with_({ 'plain/graph.safetensors': some }), 403, /must not hold 'plain/],
    ['a path out of the folder', 'p0', () => with_({ '../x': some }), 403, /must not hold/],
    ['an absolute path', 'p0', () => with_({ '/etc/passwd': some }), 403, /must not hold/],
    ['public weights of a private model', 'p0', () => ({ ...p0(), weights: 'public' }), 403, /must not hold/],
    [
      'no seed',
      'p0',
      () => ({ weights: 'private', files: Object.fromEntries(Object.entries(p0().files).filter(([n]) => n !== 'seed')) }),
      400,
      /p0 needs 'seed'/,
    ],
    ['another program', 'p0', () => with_({ 'program.json': some }), 409, /not the hash/],
    ['a size below nothing', 'p0', () => with_({ seed: { ...some, bytes: -1 } }), 400, /files\.seed\.bytes/],
    ['a size that is none', 'p0', () => with_({ seed: { ...some, bytes: 1e300 } }), 400, /files\.seed\.bytes/],
    ['more than a model may have', 'p0', () => with_({ 'masked.safetensors': { ...some, bytes: 2 ** 36 } }), 413, /takes 34\.4 GB at most/],
    ['no object', 'p0', () => [1], 400, /declaration/],
  ];
  test.each(cases)('of %s, to %s', async (_, role, body, status, message) => {
    const s = serve(role);
    expect(await s.ask('POST', `uploads/${hidden.hash}`, body() as object)).toMatchObject({
      status,
      message: expect.stringMatching(message),
    });
    expect(readdirSync(join(s.dir, '.uploads')).filter((f) => f !== 'nonces')).toEqual([]);
  });
  test('that is no JSON, too long, or of a name that is no hash', async () => {
    const s = serve('p0');
    expect((await s.ask('POST', `uploads/${hidden.hash}`, Buffer.from('{'))).status).toBe(400);
    expect((await s.ask('POST', `uploads/${hidden.hash}`, Buffer.alloc(2 ** 17))).status).toBe(413);
    expect((await s.ask('POST', 'uploads/..%2f..', {})).status).toBe(404);
  });
  test('beyond how many may be in progress', async () => {
    const s = serve('p0', { limits: { uploads: 1 } });
    await s.ask('POST', `uploads/${hidden.hash}`, declared('p0'));
    expect(await s.ask('POST', `uploads/${open.hash}`, declared('p0', open))).toMatchObject({ status: 429, code: 'busy' });
    expect((await s.ask('DELETE', `models/${hidden.hash}`)).status).toBe(204);
    expect((await s.ask('POST', `uploads/${open.hash}`, declared('p0', open))).status).toBe(200);
  });
});

describe('the disk', () => {
  test('a model that does not fit is refused before a byte of it is sent', async () => {
    const s = serve('p0', { disk: { free: () => 2 ** 26 + 100, write: () => expect.unreachable() } });
    expect(await upload(s, 'p0')).toMatchObject({
      status: 413,
      message: expect.stringMatching(/p0's disk is full: .* are needed, 1\.00e-7 GB|p0's disk is full/),
    });
  });
  test('a disk that fills up on the way: said so, nothing half-written, and the upload goes on when there is room', async () => {
    let room = 3000;
    const disk: Disk = {
      free: () => 2 ** 40,
      write(fd, bytes, at) {
        // As a file system does it: what fits is written, then it fails.
        const fits = Math.min(room, bytes.length);
        writeSync(fd, bytes, 0, fits, at);
        room -= fits;
        if (fits < bytes.length) throw Object.assign(new Error('no space left on device'), { code: 'ENOSPC' });
      },
    };
    const s = serve('p0', { disk });
    expect(await upload(s, 'p0', hidden, 1024)).toMatchObject({ status: 413, message: expect.stringContaining("p0's disk is full") });
    expect(onDisk(s)).toEqual([]);
    const here = (await s.ask('POST', `uploads/${hidden.hash}`, declared('p0'))).body.files as Record<string, number>;
    for (const [name, n] of Object.entries(here)) {
      const path = join(s.dir, '.uploads', hidden.hash, 'files', name);
      if (n > 0) expect(readFileSync(path)).toEqual((part('p0').get(name) as Buffer).subarray(0, n));
    }
    expect(Object.values(here).reduce((a, b) => a + b, 0)).toBeLessThanOrEqual(3000);
    room = 2 ** 30;
    expect((await upload(s, 'p0')).status).toBe(201);
  });
  test('what nobody went on with for a day is swept, by the next upload or the next start', async () => {
    const s = serve('p0');
    const lies = (): boolean => existsSync(join(s.dir, '.uploads', hidden.hash));
    const aged = async (hours: number): Promise<void> => {
      await s.ask('POST', `uploads/${hidden.hash}`, declared('p0'));
      const then = Date.now() / 1000 - 3600 * hours;
      utimesSync(join(s.dir, '.uploads', hidden.hash, 'declared.json'), then, then);
    };
    await aged(23);
    serve('p0', { dir: s.dir });
    expect(lies()).toBe(true);
    await aged(25);
    serve('p0', { dir: s.dir });
    expect(lies()).toBe(false);
    await aged(25);
    await s.ask('POST', `uploads/${open.hash}`, declared('p0', open));
    expect(lies()).toBe(false);
  });
});

describe('who may', () => {
  const refused = (message: RegExp) => ({ status: 401, code: 'unauthorized', message: expect.stringMatching(message) });

  test('nobody without a signature, or with one of another key', async () => {
    const s = serve('p0');
    for (const header of [undefined, 'Bearer x', 'Subrosa key=x', `Subrosa ${'key='.repeat(10_000)}`])
      expect(await s.send(header, { method: 'GET', role: 'p0', path: '/v1/admin/models' })).toMatchObject(refused(/signature is expected/));
    expect(await s.ask('GET', 'models', undefined, { key: stranger })).toMatchObject(refused(/does not know the owner's key/));
    expect((await s.ask('GET', 'models')).status).toBe(200);
  });
  test('not with a signature for another role, method, path, query or time, nor under another’s name', async () => {
    const s = serve('p0');
    await s.ask('POST', `uploads/${hidden.hash}`, declared('p0'));
    expect(await s.ask('DELETE', `models/${hidden.hash}`, undefined, { at: 'p1' })).toMatchObject(refused(/another role than p0/));
    const good: ToSign = { method: 'GET', role: 'p0', path: '/v1/admin/models' };
    const header = (): string => signRequest(owner, good);
    expect(await s.send(header(), { ...good, method: 'DELETE', path: `/v1/admin/models/${hidden.hash}` })).toMatchObject(
      refused(/does not fit/),
    );
    expect(await s.send(header(), { ...good, path: '/v1/admin/models?x=1' })).toMatchObject(refused(/does not fit/));
    expect(
      await s.send(
        header().replace(/time=(\d+)/, (_, t) => `time=${Number(t) + 1}`),
        good,
      ),
    ).toMatchObject(refused(/does not fit/));
    expect(await s.send(signRequest(stranger, good).replace(publicOf(stranger), publicOf(owner)), good)).toMatchObject(
      refused(/does not fit/),
    );
    expect((await s.ask('GET', 'models')).body).toMatchObject({ uploads: [{ hash: hidden.hash }] });
  });
  test('once: a captured request is worth nothing, not even to a server that has started anew', async () => {
    const s = serve('p0');
    const request: ToSign = { method: 'DELETE', role: 'p0', path: `/v1/admin/models/${hidden.hash}` };
    expect((await upload(s, 'p0')).status).toBe(201);
    const captured = signRequest(owner, request);
    expect((await s.send(captured, request)).status).toBe(204);
    expect((await upload(s, 'p0')).status).toBe(201);
    for (const server of [s, serve('p0', { dir: s.dir })])
      expect(await server.send(captured, request)).toMatchObject(refused(/answered already/));
    // Six minutes later the nonce may be forgotten: then its time is refused.
    s.clock.ahead = 360_000;
    expect(await s.send(captured, request)).toMatchObject(refused(/clock is off by 3[56]\d s/));
    expect(onDisk(s)).toEqual([hidden.hash]);
  });
  test('not from a clock that is off by more than five minutes, either way, and the answer says by how much', async () => {
    const s = serve('p0');
    for (const off of [-301, 301, 86_400])
      expect(await s.ask('GET', 'models', undefined, { now: Date.now() + 1000 * off })).toMatchObject(
        refused(new RegExp(`clock is off by ${Math.abs(off)} s`)),
      );
    for (const off of [-290, 290]) expect((await s.ask('GET', 'models', undefined, { now: Date.now() + 1000 * off })).status).toBe(200);
  });
  test('a request from a clock ahead stays known for as long as its time is good', async () => {
    const s = serve('p0');
    const request: ToSign = { method: 'GET', role: 'p0', path: '/v1/admin/models' };
    const captured = signRequest(owner, request, Date.now() + 290_000);
    expect((await s.send(captured, request)).status).toBe(200);
    for (const ahead of [100_000, 400_000, 589_000]) {
      s.clock.ahead = ahead;
      expect((await s.ask('GET', 'models')).status).toBe(200);
      expect(await s.send(captured, request)).toMatchObject(refused(/answered already/));
    }
  });
});
