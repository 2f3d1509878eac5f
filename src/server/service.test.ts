/** A role in this process; test/services.test.ts has them as an operator does. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { get } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stringify } from 'smol-toml';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import { certify, makeAuthority } from '../net/authority.ts';
import { makeIdentity } from '../net/keys.ts';
import { ConfigError, readConfig } from './config.ts';
import { makeLog } from './log.ts';
import { type RunningRole, type StartOptions, startRole } from './service.ts';

const dir = mkdtempSync(join(tmpdir(), 'subrosa-service-'));
afterAll(() => rmSync(dir, { recursive: true }));
const running: RunningRole[] = [];
afterEach(async () => {
  await Promise.all(running.splice(0).map((r) => r.close()));
});

const identity = makeIdentity('p1');
const authority = makeAuthority('a test');
const file = join(dir, 'p1.toml');
function write(change: (c: Record<string, Record<string, unknown>>) => void = () => {}): void {
  const peer = (digit: string): object => ({ pins: [digit.repeat(64)], address: '127.0.0.1:9' });
  const config = {
    role: 'p1',
    links: { key: 'key.pem', cert: 'cert.pem', p0: peer('0'), dealer: peer('d') },
    api: { listen: '127.0.0.1:0', open: true } as Record<string, unknown>,
    metrics: { listen: '127.0.0.1:0' },
  };
  change(config as never);
  writeFileSync(join(dir, 'key.pem'), identity.keyPem);
  writeFileSync(join(dir, 'cert.pem'), identity.certPem);
  writeFileSync(file, stringify(config));
}
function certificate(name: string): void {
  const { certPem, keyPem } = certify(authority, ['localhost', name]);
  writeFileSync(join(dir, 'api.crt'), certPem);
  writeFileSync(join(dir, 'api.key'), keyPem);
}
const lines: string[] = [];
async function start(options: StartOptions = {}): Promise<RunningRole> {
  const role = await startRole(readConfig(file), { file, log: makeLog('p1', 'info', (l) => void lines.push(l)), ...options });
  running.push(role);
  return role;
}

test('says where it listens, what is missing, and what was added to its interface', async () => {
  write();
  const role = await start({ extend: (app) => void app.get('/v1/extra', (c) => c.text('more')) });
  expect(role.addresses).toEqual({
    links: undefined,
    api: expect.stringMatching(/^127\.0\.0\.1:\d+$/),
    metrics: expect.stringMatching(/^127\.0\.0\.1:\d+$/),
  });
  expect(role.missing()).toEqual(['p0 is not connected', 'dealer is not connected']);
  expect(await (await fetch(`http://${role.addresses.api}/v1/extra`)).text()).toBe('more');
  for (const address of [role.addresses.api, role.addresses.metrics]) expect((await fetch(`http://${address}/readyz`)).status).toBe(503);
  const nowhere = await fetch(`http://${role.addresses.api}/nowhere`);
  expect([nowhere.status, await nowhere.json()]).toEqual([400, { error: { code: 'bad-message', message: 'no such route: GET /nowhere' } }]);
  const closed = role.drain();
  expect(role.missing()).toEqual(['shutting down']);
  await closed;
  await expect(fetch(`http://${role.addresses.api}/healthz`)).rejects.toThrow();
});

describe('reload', () => {
  const names = (address: string): Promise<string> =>
    new Promise((resolve, reject) => {
      get(
        {
          host: '127.0.0.1',
          port: Number(address.split(':')[1]),
          servername: 'localhost',
          path: '/healthz',
          ca: authority.certPem,
          agent: false,
        },
        (r) => {
          const { subjectaltname } = (r.socket as unknown as { getPeerCertificate(): { subjectaltname: string } }).getPeerCertificate();
          r.resume().once('end', () => resolve(subjectaltname));
        },
      ).once('error', reject);
    });
  const secure = (c: Record<string, Record<string, unknown>>): void => void Object.assign(c.api, { cert: 'api.crt', key: 'api.key' });

  test('serves the renewed certificate; one that does not fit changes nothing, other keys included', async () => {
    certificate('before.example.org');
    write(secure);
    const role = await start();
    expect(await names(role.addresses.api!)).toContain('before');
    certificate('after.example.org');
    expect(await role.reload()).toEqual({ live: [], restart: [] });
    expect(await names(role.addresses.api!)).toContain('after');
    writeFileSync(join(dir, 'api.key'), makeIdentity('x').keyPem);
    write((c) => {
      secure(c);
      c.log = { level: 'error' };
    });
    await expect(role.reload()).rejects.toThrow(ConfigError);
    expect(await names(role.addresses.api!)).toContain('after');
    certificate('at-last.example.org');
    expect(await role.reload()).toEqual({ live: ['log.level'], restart: [] });
    expect(await names(role.addresses.api!)).toContain('at-last');
  });
  test('notices new certificates by itself', async () => {
    certificate('before.example.org');
    write(secure);
    const role = await start();
    certificate('after.example.org');
    const until = Date.now() + 8000;
    while (!(await names(role.addresses.api!)).includes('after') && Date.now() < until)
      await new Promise((resolve) => setTimeout(resolve, 100));
    expect(await names(role.addresses.api!)).toContain('after');
  }, 20_000);
});

test('what cannot start leaves nothing behind', async () => {
  write();
  const first = await start();
  write((c) => {
    c.api.listen = '127.0.0.1:0';
    c.metrics.listen = first.addresses.metrics;
  });
  await expect(start()).rejects.toMatchObject({ code: 'port-in-use' });
  // The first role's two listeners are left, and those of the tests before go in their own time.
  const listening = (): number => process.getActiveResourcesInfo().filter((r) => r === 'TCPServerWrap').length;
  for (let i = 0; i < 100 && listening() > 2; i++) await new Promise((resolve) => setTimeout(resolve, 20));
  expect(listening()).toBe(2);
  write((c) => (c.links.cert = 'nowhere.pem'));
  await expect(start()).rejects.toThrow(/'links\.cert': ENOENT/);
});
