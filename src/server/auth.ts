/**
 * Who a caller of the client's interface is: by bearer token, by client certificate, or by address where the configuration says that anyone
 * may call. What the configuration says now counts, so that tokens change while the server runs.
 */
import { createHash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { isIPv6 } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { SubrosaError } from '../client/errors.ts';
import type { ApiConfig } from './config.ts';
import type { Caller } from './types.ts';

/** Throws SubrosaError 'unauthorized'. */
export type Authenticate = (request: IncomingMessage) => Caller;

export function authenticator(current: () => ApiConfig): Authenticate {
  return (request) => {
    const api = current();
    const { authorization } = request.headers;
    if (authorization !== undefined) {
      const [, token] = /^bearer +(\S{1,512}) *$/i.exec(authorization) ?? [];
      if (token === undefined) throw new SubrosaError('unauthorized', "the Authorization header is not 'Bearer TOKEN'");
      // Looked up by hash: how long that takes tells nothing of a token.
      const sha256 = createHash('sha256').update(token).digest('hex');
      const known = api.tokens.find((t) => t.sha256 === sha256);
      if (!known) throw new SubrosaError('unauthorized', 'the token is not known here: ask whoever runs this party');
      return { name: known.name, stepsPerMinute: known.stepsPerMinute ?? api.stepsPerMinute };
    }
    const socket = request.socket as Partial<TLSSocket> & IncomingMessage['socket'];
    if (api.clientCa && socket.authorized) {
      const subject = socket.getPeerCertificate?.().subject;
      const name = [subject?.CN].flat()[0];
      // A prefix, so that a certificate cannot be called like a token and share its quota.
      if (name) return { name: `cert:${name.slice(0, 64)}`, stepsPerMinute: api.stepsPerMinute };
    }
    if (api.open) return { name: `address:${network(addressOf(request, api.behindProxy))}`, stepsPerMinute: api.stepsPerMinute };
    const ways = [api.tokens.length > 0 && "an 'Authorization: Bearer TOKEN' header", api.clientCa && 'a client certificate'].filter(
      Boolean,
    );
    throw new SubrosaError('unauthorized', `${ways.join(' or ')} is needed`);
  };
}

/** Behind a proxy, the last address of X-Forwarded-For: that one the proxy itself wrote. */
function addressOf(request: IncomingMessage, behindProxy: boolean): string {
  const forwarded = behindProxy ? [request.headers['x-forwarded-for']].flat().join(',').split(',').at(-1)?.trim() : undefined;
  return forwarded || request.socket.remoteAddress || 'unknown';
}

/** Whoever has an IPv6 address has 2^64 of them: one caller is a /64. */
function network(address: string): string {
  const [, v4] = /^(?:::ffff:)?(\d+\.\d+\.\d+\.\d+)$/i.exec(address) ?? [];
  if (v4) return v4;
  if (!isIPv6(address)) return address.slice(0, 64);
  const [head, tail] = address.split('%')[0].split('::');
  const groups = (part: string | undefined): string[] => (part ? part.split(':') : []);
  const zeros = 8 - groups(head).length - groups(tail).length;
  const full = tail === undefined ? groups(head) : [...groups(head), ...new Array(zeros).fill('0'), ...groups(tail)];
  return `${full.slice(0, 4).join(':')}::/64`;
}
