import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import { certify, makeAuthority } from '../net/authority.ts';
import { type Identity, makeIdentity, spkiOf } from '../net/keys.ts';
import type { Link, LinkError } from '../net/link.ts';
import { dial } from '../net/tls.ts';
import type { Role } from '../runtime/model.ts';
import { parseConfig } from './config.ts';
import { RoleLinks, readIdentity } from './links.ts';

const host = '127.0.0.1';
const identities = Object.fromEntries(['p0', 'p1', 'dealer', 'client', 'other'].map((n) => [n, makeIdentity(n)])) as Record<
  Role | 'client' | 'other',
  Identity
>;
const pins = (...names: (keyof typeof identities)[]): string[] => names.map((n) => identities[n].spki);

/** One role's links, and what was heard of them. */
interface Side {
  readonly links: RoleLinks;
  readonly taken: [Role, Link][];
  readonly failures: LinkError[];
  /** Resolves when the role has been told of `count` links that stand, of those that went. */
  up(count: number): Promise<void>;
  down(count: number): Promise<void>;
  failed(count: number): Promise<void>;
}
const open: RoleLinks[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((l) => l.close()));
});

function configOf(role: Role, links: object) {
  const api = role === 'dealer' ? {} : { api: { listen: `${host}:0`, open: true } };
  return parseConfig({ role, links: { key: 'k', cert: 'c', ...links }, times: { redial: 0.2, connect: 2 }, ...api });
}

async function start(role: Role, links: object, identity: Identity = identities[role]): Promise<Side> {
  const counts = { up: 0, down: 0, failed: 0 };
  let news: (() => void)[] = [];
  const tell = (what: keyof typeof counts): void => {
    counts[what]++;
    for (const n of news.splice(0)) n();
  };
  const wait = async (what: keyof typeof counts, count: number): Promise<void> => {
    while (counts[what] < count) await new Promise<void>((resolve) => (news = [...news, resolve]));
  };
  const taken: [Role, Link][] = [];
  const failures: LinkError[] = [];
  const made = await RoleLinks.open(configOf(role, links), identity, {
    connect(peer, link) {
      taken.push([peer, link]);
      link.onFrame = () => {};
    },
    up: () => tell('up'),
    down: () => tell('down'),
    failed: (e) => {
      failures.push(e);
      tell('failed');
    },
  });
  open.push(made);
  return { links: made, taken, failures, up: (n) => wait('up', n), down: (n) => wait('down', n), failed: (n) => wait('failed', n) };
}
const any = `${host}:0`;
const p0Links = (dealerPort: number, p1 = pins('p1')) => ({
  listen: any,
  p1: { pins: p1 },
  dealer: { pins: pins('dealer'), address: `${host}:${dealerPort}` },
});
const p1Links = (p0Port: number, dealerPort: number) => ({
  p0: { pins: pins('p0'), address: `${host}:${p0Port}` },
  dealer: { pins: pins('dealer'), address: `${host}:${dealerPort}` },
});
const dealerLinks = (listen = any) => ({ listen, p0: { pins: pins('p0') }, p1: { pins: pins('p1') } });

test('three roles find each other, whoever comes last, and again after one has gone', async () => {
  const first = await start('dealer', dealerLinks());
  const { port } = first.links;
  await first.links.close();
  // The parties call a dealer that is not there.
  const p0 = await start('p0', p0Links(port!));
  const p1 = await start('p1', p1Links(p0.links.port!, port!));
  await Promise.all([p0.up(1), p1.up(1)]);
  expect([p0.links.missing, p1.links.missing]).toEqual([['dealer'], ['dealer']]);
  const dealer = await start('dealer', dealerLinks(`${host}:${port}`));
  await Promise.all([p0.up(2), p1.up(2), dealer.up(2)]);
  expect([p0.links.missing, p1.links.missing, dealer.links.missing]).toEqual([[], [], []]);
  await dealer.links.close();
  await Promise.all([p0.down(1), p1.down(1)]);
  expect(p0.links.missing).toEqual(['dealer']);
  const again = await start('dealer', dealerLinks(`${host}:${port}`));
  await Promise.all([p0.up(3), p1.up(3), again.up(2)]);
  // While nothing answered, each reason was told of once, not each attempt.
  expect(p0.failures.filter((e) => e.code === 'refused').length).toBeLessThanOrEqual(2);
});

describe('the link between the parties takes P1’s key and no other', () => {
  test.each(['dealer', 'client', 'other'] as const)('not that of %s, whose certificate is valid', async (who) => {
    const p0 = await start('p0', p0Links(1));
    const from = p0.failures.length;
    const address = { host, port: p0.links.port! };
    await expect(dial({ ...address, identity: identities[who], peer: { name: 'p0', spki: identities.p0.spki } })).rejects.toMatchObject({
      code: 'auth',
    });
    while (!p0.failures.slice(from).some((e) => e.code === 'auth')) await p0.failed(p0.failures.length + 1);
    expect(p0.taken).toEqual([]);
    expect(p0.links.missing).toContain('p1');
  });
  test('and P1 goes on no link to one that is not P0: the dealer at P0’s address', async () => {
    const dealer = await start('dealer', dealerLinks());
    const p1 = await start('p1', p1Links(dealer.links.port!, dealer.links.port!));
    await p1.failed(1);
    expect(p1.failures[0]).toMatchObject({ code: 'auth', peer: 'p0' });
    await p1.up(1);
    expect(p1.taken.map(([peer]) => peer)).toEqual(['dealer']);
  });
});

test('dates and issuers do not count where the key does: an expired certificate of the pinned key', async () => {
  const tenYearsAgo = Date.now() - 10 * 366 * 86_400_000;
  const { keyPem, certPem } = certify(makeAuthority('whoever', tenYearsAgo), ['elsewhere.example.org'], tenYearsAgo);
  const expired: Identity = { name: 'p1', keyPem, certPem, spki: spkiOf(certPem) };
  const links = p0Links(1);
  const p0 = await start('p0', { ...links, p1: { pins: [expired.spki] } });
  const p1 = await start('p1', p1Links(p0.links.port!, 1), expired);
  await Promise.all([p0.up(1), p1.up(1)]);
  expect(p0.links.spkiOf('p1')).toBe(expired.spki);
});

test('strangers’ connections are bounded, and leave the way free when they go', async () => {
  const p0 = await start('p0', p0Links(1));
  const sockets = Array.from({ length: 160 }, () => connect(p0.links.port!, host));
  let closed = 0;
  for (const s of sockets) s.once('close', () => closed++).on('error', () => {});
  while (closed < 32) await new Promise((resolve) => setTimeout(resolve, 10));
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(closed).toBe(32);
  for (const s of sockets) s.destroy();
  const p1 = await start('p1', p1Links(p0.links.port!, 1));
  await Promise.all([p0.up(1), p1.up(1)]);
});

describe('pins change while links stand', () => {
  test('a second key is taken beside the first, and the keys in use are known', async () => {
    const p0 = await start('p0', p0Links(1));
    const p1 = await start('p1', p1Links(p0.links.port!, 1));
    await Promise.all([p0.up(1), p1.up(1)]);
    expect([p0.links.spkiOf('p0'), p0.links.spkiOf('p1')]).toEqual(pins('p0', 'p1'));
    p0.links.renew(configOf('p0', p0Links(1, pins('p1', 'other'))), identities.p0);
    expect(p0.links.missing).toEqual(['dealer']);
    await p1.links.close();
    const renewed = await start('p1', p1Links(p0.links.port!, 1), identities.other);
    await Promise.all([p0.up(2), renewed.up(1)]);
    expect(p0.links.spkiOf('p1')).toBe(identities.other.spki);
  });
  test('a link under a key that is no longer pinned ends, and does not come back', async () => {
    const p0 = await start('p0', p0Links(1));
    const p1 = await start('p1', p1Links(p0.links.port!, 1));
    await Promise.all([p0.up(1), p1.up(1)]);
    const before = p0.failures.length;
    p0.links.renew(configOf('p0', p0Links(1, pins('other'))), identities.p0);
    await Promise.all([p0.down(1), p1.down(1)]);
    while (!p0.failures.slice(before).some((e) => e.code === 'auth')) await p0.failed(p0.failures.length + 1);
    expect(p0.links.missing).toContain('p1');
  });
});

test('a role that calls anew replaces its old link, whose owner hears of the end first', async () => {
  const p0 = await start('p0', p0Links(1));
  const call = () => dial({ host, port: p0.links.port!, identity: identities.p1, peer: { name: 'p0', spki: identities.p0.spki } });
  await call();
  await p0.up(1);
  const order: string[] = [];
  const [, old] = p0.taken[0];
  const { onClose } = old;
  old.onClose = (e) => {
    onClose(e);
    order.push(`old ended, ${p0.taken.length} taken`);
  };
  const second = await call();
  await p0.up(2);
  expect(order).toEqual(['old ended, 1 taken']);
  second.send(16, 1, 0, new Uint8Array(100));
  const [, link] = p0.taken[1];
  await new Promise<void>((resolve) => (link.onFrame = () => resolve()));
  // What the first link counted is not forgotten.
  expect(p0.links.totals().find((t) => t.peer === 'p1')).toEqual({ peer: 'p1', up: true, sentBytes: 0, receivedBytes: 116 });
});

describe('a key and its certificate', () => {
  const dir = mkdtempSync(join(tmpdir(), 'subrosa-keys-'));
  afterAll(() => rmSync(dir, { recursive: true }));
  const write = (keyPem: string, certPem: string) => {
    writeFileSync(join(dir, 'k'), keyPem);
    writeFileSync(join(dir, 'c'), certPem);
    const config = configOf('p0', p0Links(1));
    return () => readIdentity({ ...config, links: { ...config.links, key: join(dir, 'k'), cert: join(dir, 'c') } });
  };
  test('belong together', () => {
    const { keyPem, certPem, spki } = identities.p0;
    expect(write(keyPem, certPem)()).toEqual({ name: 'p0', keyPem, certPem, spki });
    expect(write(keyPem, identities.p1.certPem)).toThrow(/does not carry the key/);
    expect(write('no key', certPem)).toThrow(/no PEM key or certificate/);
    rmSync(join(dir, 'c'));
    expect(() => readIdentity({ ...configOf('p0', p0Links(1)), links: { key: join(dir, 'k'), cert: join(dir, 'c') } })).toThrow(
      /'links\.cert': ENOENT/,
    );
  });
});
