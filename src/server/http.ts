/**
 * HTTP listeners: an application behind Node's server, with every limit set that keeps others from holding memory and descriptors. A body
 * that comes too slowly is answered 408; a client that does not read its answer loses its connection.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createServer as createSecure, type ServerOptions } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { getRequestListener, type HttpBindings } from '@hono/node-server';
import type { Hono } from 'hono';
import { LinkError } from '../net/link.ts';
import { type ApiConfig, type Config, ConfigError } from './config.ts';
import { hostPort } from './schema.ts';

export type App = Hono<{ Bindings: HttpBindings }>;

export interface HttpListener {
  /** 'host:port', with the port it was given for port 0. */
  readonly address: string;
  /** Reads certificates again: for connections to come. Throws ConfigError, and keeps the old ones. */
  renew(tls: Tls): void;
  /** No new connections or requests; resolves when those that run are answered, or cut off after `seconds`. */
  close(seconds: number): Promise<void>;
}

export interface HttpOptions {
  /** 'api', 'metrics': for messages. */
  readonly name: string;
  readonly listen: string;
  readonly tls?: Tls;
  readonly times: Pick<Config['times'], 'headers' | 'request' | 'idle' | 'answer'>;
  readonly connections: number;
}

type Tls = Pick<ApiConfig, 'cert' | 'key' | 'clientCa'>;

/** Throws ConfigError. */
function secure(tls: Tls): ServerOptions {
  const read = (name: 'cert' | 'key' | 'clientCa'): string | undefined => {
    try {
      return tls[name] && readFileSync(tls[name], 'utf8');
    } catch (e) {
      throw new ConfigError(`'api.${name}': ${(e as Error).message}`);
    }
  };
  const [cert, key, ca] = [read('cert'), read('key'), read('clientCa')];
  try {
    // OpenSSL takes a key of another kind than the certificate's without a word, and then serves neither.
    if (cert && key && !new X509Certificate(cert).checkPrivateKey(createPrivateKey(key)))
      throw new Error('the key is that of another certificate');
    return { cert, key, ca, minVersion: 'TLSv1.2' };
  } catch (e) {
    throw new ConfigError(`'api.cert' or 'api.key' is not what TLS takes: ${(e as Error).message}`);
  }
}

/** Throws ConfigError, or LinkError 'port-in-use' or 'listen-failed'. */
export async function listenHttp(app: App, options: HttpOptions): Promise<HttpListener> {
  const { name, listen, tls, times } = options;
  const { host, port } = hostPort(listen);
  const limits = {
    headersTimeout: 1000 * Math.min(times.headers, times.request),
    requestTimeout: 1000 * times.request,
    keepAliveTimeout: 1000 * times.idle,
    connectionsCheckingInterval: 1000 * Math.min(5, times.headers / 2),
    maxHeaderSize: 16384,
  };
  const answer = getRequestListener(app.fetch);
  // Whether a client's certificate is good enough is for auth.ts to say: tokens may serve instead.
  const server = tls?.cert
    ? createSecure({ ...secure(tls), ...limits, requestCert: tls.clientCa !== undefined, rejectUnauthorized: false }, answer)
    : createServer(limits, answer);
  server.maxConnections = options.connections;
  server.maxRequestsPerSocket = 0;
  // Silence is no fault while an answer is being made; it is while one lies here unread, and between requests.
  const between = new WeakSet<Socket>();
  server.on('request', ({ socket }, response) => {
    between.delete(socket);
    response.once('close', () => between.add(socket));
  });
  server.timeout = 1000 * times.answer;
  server.on('timeout', (socket) => {
    if (socket.writableLength > 0 || between.has(socket)) socket.destroy();
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', (e: NodeJS.ErrnoException) => {
      const inUse = e.code === 'EADDRINUSE';
      const why = inUse ? 'is in use: stop what listens there, or choose another port' : `cannot be listened on: ${e.message}`;
      reject(
        new LinkError(inUse ? 'port-in-use' : 'listen-failed', name, `'${name}.listen': port ${port} on ${host} ${why}`, { cause: e }),
      );
    });
    server.listen(port, host, resolve);
  });
  return {
    address: `${listen.slice(0, listen.lastIndexOf(':'))}:${(server.address() as AddressInfo).port}`,
    renew(next) {
      if ('setSecureContext' in server) server.setSecureContext(secure(next));
    },
    close: (seconds) =>
      new Promise((resolve) => {
        const cut = setTimeout(() => server.closeAllConnections(), 1000 * seconds);
        // Those that are idle now, and those that will be when their answer is sent.
        const idle = setInterval(() => server.closeIdleConnections(), 50);
        server.close(() => {
          clearTimeout(cut);
          clearInterval(idle);
          resolve();
        });
        server.closeIdleConnections();
      }),
  };
}
