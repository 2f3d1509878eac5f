/** Serves the demo page (dist/web, built by vite) on this machine, under a policy that lets it speak to the two parties and nobody else. */
import { readdirSync, readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { extname, join, sep } from 'node:path';
import { gzipSync } from 'node:zlib';

const types: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
};
const host = '127.0.0.1';

export interface Page {
  /** http://127.0.0.1:PORT */
  readonly origin: string;
  /** From here on the page is served; the addresses of P0 and P1 become part of it. */
  serve(parties: readonly [string, string]): void;
  close(): void;
}

/** Even this server learns nothing: the page may connect to the parties only, and nothing inline runs. */
const policy = (parties: readonly string[]): string =>
  [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    `connect-src ${parties.join(' ')}`,
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join('; ');

/** Listens on a port of its own choosing for 0. Throws what listening throws (EADDRINUSE). */
export async function openPage(dir: string, port: number): Promise<Page> {
  let files = new Map<string, { readonly type: string; readonly bytes: Uint8Array; readonly packed: Uint8Array }>();
  let headers: Readonly<Record<string, string>> = {};
  const server: Server = createServer((request, response) => {
    const path = new URL(request.url ?? '/', 'http://page').pathname;
    const file = files.get(path === '/' ? '/index.html' : path);
    if (!file || (request.method !== 'GET' && request.method !== 'HEAD')) {
      response.writeHead(file ? 405 : 404, { ...headers, 'content-type': 'text/plain' }).end(file ? 'GET only\n' : 'no such file\n');
      return;
    }
    const packed = /\bgzip\b/.test(request.headers['accept-encoding'] ?? '');
    response.writeHead(200, {
      ...headers,
      'content-type': file.type,
      // Names of assets carry their hash.
      'cache-control': path.startsWith('/assets/') ? 'public, max-age=31536000, immutable' : 'no-store',
      vary: 'accept-encoding',
      ...(packed ? { 'content-encoding': 'gzip' } : {}),
    });
    response.end(request.method === 'HEAD' ? undefined : packed ? file.packed : file.bytes);
  });
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(port, host, resolve));
  return {
    origin: `http://${host}:${(server.address() as AddressInfo).port}`,
    serve(parties) {
      headers = {
        'content-security-policy': policy(parties),
        'x-content-type-options': 'nosniff',
        'referrer-policy': 'no-referrer',
        'cross-origin-opener-policy': 'same-origin',
        'cross-origin-resource-policy': 'same-origin',
      };
      const entries = readdirSync(dir, { recursive: true, withFileTypes: true }).filter((e) => e.isFile());
      files = new Map(
        entries.map((e) => {
          const path = join(e.parentPath, e.name);
          const bytes = e.name.endsWith('.html')
            ? Buffer.from(readFileSync(path, 'utf8').replace('%PARTIES%', parties.join(' ')))
            : readFileSync(path);
          const type = types[extname(e.name)] ?? 'application/octet-stream';
          return [path.slice(dir.length).split(sep).join('/'), { type, bytes, packed: gzipSync(bytes) }];
        }),
      );
    },
    close() {
      server.close();
      server.closeAllConnections();
    },
  };
}
