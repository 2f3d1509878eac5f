/**
 * HTTP listeners: an application behind Node's server, with every limit set that keeps others from holding memory and descriptors. A body
 * that comes too slowly is answered 408; a client that does not read its answer loses its connection.
 */
import { readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { createServer as createSecure, type Server as SecureServer, type ServerOptions } from 'node:https';
import type { AddressInfo } from 'node:net';
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
  renew(config: Pick<ApiConfig, 'cert' | 'key' | 'clientCa'>): void;
  /** No new connections or requests; resolves when those that run are answered, or cut off after `seconds`. */
  close(seconds: number): Promise<void>;
}

export interface HttpOptions {
  /** 'api', 'metrics': for messages. */
  readonly name: string;
  readonly listen: string;
  readonly tls?: Pick<ApiConfig, 'cert' | 'key' | 'clientCa'>;
  readonly times: Config['times'];
  readonly connections: number;
}

type Tls = Pick<ApiConfig, 'cert' | 'key' | 'clientCa'>;

/** Throws ConfigError. */
function secure({ cert, key, clientCa }: Tls): ServerOptions {
  const read = (name: string, path: string | undefined): string | undefined => {
    try {
      return path && readFileSync(path, 'utf8');
    } catch (e) {
      throw new ConfigError(`'api.${name}': ${(e as Error).message}`);
    }
  };
  return { cert: read('cert', cert), key: read('key', key), ca: read('clientCa', clientCa), minVersion: 'TLSv1.2' };
}

/** Throws ConfigError, or LinkError 'port-in-use' or 'listen-failed'. */
export async function listenHttp(app: App, options: HttpOptions): Promise<HttpListener> {
  const { name, listen, tls, times } = options;
  const { host, port } = hostPort(listen);
  const limits = {
    headersTimeout: 1000 * times.headers,
    requestTimeout: 1000 * times.request,
    keepAliveTimeout: 1000 * times.idle,
    connectionsCheckingInterval: 1000 * Math.min(5, times.headers / 2),
    maxHeaderSize: 16384,
  };
  const answer = getRequestListener(app.fetch);
  let server: Server | SecureServer;
  try {
    // Whether a client's certificate is good enough is for auth.ts to say: tokens may serve instead.
    server = tls?.cert ? createSecure({ ...secure(tls), ...limits, requestCert: tls.clientCa !== undefined, rejectUnauthorized: false }, answer) : createServer(limits, answer);
  } catch (e) {
    throw e instanceof ConfigError ? e : new ConfigError(`'${name}.cert' or '${name}.key' is not what TLS takes: ${(e as Error).message}`);
  }
  server.maxConnections = options.connections;
  server.maxRequestsPerSocket = 0;
  // Silence is no fault while an answer is being made; it is while one lies here unread.
  server.timeout = 1000 * times.answer;
  server.on('timeout', (socket) => {
    if (socket.writableLength > 0) socket.destroy();
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', (e: NodeJS.ErrnoException) => {
      const inUse = e.code === 'EADDRINUSE';
      const why = inUse ? 'is in use: stop what listens there, or choose another port' : `cannot be listened on: ${e.message}`;
      reject(new LinkError(inUse ? 'port-in-use' : 'listen-failed', name, `'${name}.listen': port ${port} on ${host} ${why}`, { cause: e }));
    });
    server.listen(port, host, resolve);
  });
  return {
    address: `${listen.slice(0, listen.lastIndexOf(':'))}:${(server.address() as AddressInfo).port}`,
    renew(next) {
      if (!('setSecureContext' in server)) return;
      try {
        server.setSecureContext(secure(next));
      } catch (e) {
        throw e instanceof ConfigError ? e : new ConfigError(`'${name}.cert' or '${name}.key' is not what TLS takes: ${(e as Error).message}`);
      }
    },
    close: (seconds) =>
      new Promise((resolve) => {
        const cut = setTimeout(() => server.closeAllConnections(), 1000 * seconds);
        server.close(() => {
          clearTimeout(cut);
          resolve();
        });
        server.closeIdleConnections();
      }),
  };
}
