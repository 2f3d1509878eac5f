import { createHash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { expect, test } from 'vitest';
import { authenticator } from './auth.ts';
import type { ApiConfig } from './config.ts';

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');
const closed: ApiConfig = {
  listen: '127.0.0.1:1',
  behindProxy: false,
  tokens: [
    { name: 'web', sha256: sha256('t0ken'), stepsPerMinute: 9 },
    { name: 'app', sha256: sha256('other') },
  ],
  open: false,
  origins: [],
};
const request = (headers: Record<string, string>, socket: object = { remoteAddress: '192.0.2.7' }): IncomingMessage =>
  ({ headers, socket }) as unknown as IncomingMessage;
const codeOf = (call: () => unknown): string => {
  try {
    call();
  } catch (e) {
    return (e as { code: string }).code;
  }
  return 'let in';
};

test('a token is known by its hash, and brings its quota', () => {
  const who = authenticator(() => ({ ...closed, stepsPerMinute: 5 }));
  expect(who(request({ authorization: 'Bearer t0ken' }))).toEqual({ name: 'web', stepsPerMinute: 9 });
  expect(who(request({ authorization: 'bearer other' }))).toEqual({ name: 'app', stepsPerMinute: 5 });
});

test('a wrong token, another scheme, and none are unauthorized; an open server does not forgive a wrong token', () => {
  for (const api of [closed, { ...closed, open: true }])
    for (const authorization of [
      'Bearer wrong',
      `Bearer ${sha256('t0ken')}`,
      'Basic dDprZW4=',
      'Bearer',
      'Bearer a b',
      `Bearer ${'x'.repeat(600)}`,
    ])
      expect(codeOf(() => authenticator(() => api)(request({ authorization })))).toBe('unauthorized');
  expect(codeOf(() => authenticator(() => closed)(request({})))).toBe('unauthorized');
});

test('tokens count as they are now', () => {
  let api = closed;
  const who = authenticator(() => api);
  const call = () => who(request({ authorization: 'Bearer t0ken' }));
  expect(call().name).toBe('web');
  api = { ...closed, tokens: [] };
  expect(codeOf(call)).toBe('unauthorized');
});

test('a certificate counts when an authority is configured and the handshake verified it, and cannot pass for a token', () => {
  const socket = (authorized: boolean, CN: string | string[]) => ({
    remoteAddress: '192.0.2.7',
    authorized,
    getPeerCertificate: () => ({ subject: { CN } }),
  });
  const who = authenticator(() => ({ ...closed, clientCa: 'ca.pem' }));
  expect(who(request({}, socket(true, 'web'))).name).toBe('cert:web');
  expect(who(request({}, socket(true, ['a', 'b']))).name).toBe('cert:a');
  expect(codeOf(() => who(request({}, socket(false, 'web'))))).toBe('unauthorized');
  expect(codeOf(() => authenticator(() => closed)(request({}, socket(true, 'web'))))).toBe('unauthorized');
});

test('where anyone may call, callers are told apart by address, IPv6 by its /64, behind a proxy by what the proxy saw', () => {
  const name = (headers: Record<string, string>, remoteAddress: string, behindProxy = false): string =>
    authenticator(() => ({ ...closed, open: true, behindProxy }))(request(headers, { remoteAddress })).name;
  expect(name({}, '192.0.2.7')).toBe('address:192.0.2.7');
  expect(name({}, '::ffff:192.0.2.7')).toBe('address:192.0.2.7');
  expect(name({}, '2001:db8:1:2:3:4:5:6')).toBe('address:2001:db8:1:2::/64');
  expect(name({}, '2001:db8:1:2::9')).toBe(name({}, '2001:db8:1:2:ffff::1'));
  expect(name({}, '2001:db8::9')).toBe('address:2001:db8:0:0::/64');
  expect(name({}, '::1')).toBe('address:0:0:0:0::/64');
  // What a client claims counts only where the proxy adds to it, and then only the proxy's own word.
  expect(name({ 'x-forwarded-for': '203.0.113.9' }, '192.0.2.7')).toBe('address:192.0.2.7');
  expect(name({ 'x-forwarded-for': '10.0.0.1, 203.0.113.9' }, '127.0.0.1', true)).toBe('address:203.0.113.9');
});
