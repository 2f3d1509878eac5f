import { X509Certificate } from 'node:crypto';
import { createServer, get } from 'node:https';
import type { AddressInfo } from 'node:net';
import { expect, test } from 'vitest';
import { certify, makeAuthority } from './authority.ts';

const root = makeAuthority('a test authority');
const names = ['localhost', '127.0.0.1', '::1', 'fd00::1:2', 'p0.example.org'];
const leaf = certify(root, names);

test('a server certificate is signed by the authority, for every name and address, and is no authority itself', () => {
  const [ca, server] = [root, leaf].map(({ certPem }) => new X509Certificate(certPem));
  expect(ca.ca && ca.checkIssued(ca) && ca.verify(ca.publicKey)).toBe(true);
  expect(server.ca).toBe(false);
  expect(server.checkIssued(ca) && server.verify(ca.publicKey)).toBe(true);
  expect(server.checkHost('localhost')).toBe('localhost');
  expect(server.checkHost('p0.example.org')).toBe('p0.example.org');
  expect(server.checkHost('p1.example.org')).toBeUndefined();
  for (const ip of ['127.0.0.1', '::1', 'fd00::1:2']) expect(server.checkIP(ip)).toBe(ip);
  expect(server.checkIP('127.0.0.2')).toBeUndefined();
  expect(new Date(server.validTo).getTime() - Date.now()).toBeLessThan(398 * 86_400_000);
});

test('a client that trusts the authority connects; one that trusts another does not', async () => {
  const server = createServer({ key: leaf.keyPem, cert: leaf.certPem }, (_, answer) => answer.end('here')).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address() as AddressInfo;
  const fetched = (ca: string): Promise<string> =>
    new Promise((resolve, reject) => {
      get({ host: '127.0.0.1', port, ca, agent: false }, (r) => r.on('data', (d) => resolve(`${d}`))).on('error', reject);
    });
  try {
    expect(await fetched(root.certPem)).toBe('here');
    await expect(fetched(makeAuthority('a test authority').certPem)).rejects.toThrow();
  } finally {
    server.close();
  }
});
