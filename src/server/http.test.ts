import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { get } from 'node:https';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import { Hono } from 'hono';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import { certify, makeAuthority } from '../net/authority.ts';
import { makeIdentity } from '../net/keys.ts';
import { authenticator } from './auth.ts';
import { type App, type HttpListener, type HttpOptions, listenHttp } from './http.ts';

const dir = mkdtempSync(join(tmpdir(), 'subrosa-http-'));
afterAll(() => rmSync(dir, { recursive: true }));
const listeners: HttpListener[] = [];
afterEach(async () => {
  await Promise.all(listeners.splice(0).map((l) => l.close(0)));
});
const times = { silence: 1, connect: 1, redial: 1, drain: 1, headers: 0.4, request: 1, stall: 1, answer: 0.5, idle: 0.5 };

async function serve(app: App, options: Partial<HttpOptions> = {}): Promise<HttpListener & { port: number }> {
  const l = await listenHttp(app, { name: 'api', listen: '127.0.0.1:0', times, connections: 8, ...options });
  listeners.push(l);
  return { ...l, port: Number(l.address.split(':')[1]) };
}
const hello = (): App => new Hono<never>().get('/', (c) => c.text('hello')) as unknown as App;

/** A connection of its own, what it has heard, and when it ended. */
function raw(port: number): { socket: Socket; heard: () => string; ended: Promise<void> } {
  const socket = connect(port, '127.0.0.1');
  let text = '';
  socket.on('data', (d) => {
    text += d.toString('latin1');
  });
  socket.on('error', () => {});
  return { socket, heard: () => text, ended: new Promise((resolve) => socket.once('close', () => resolve())) };
}
const seconds = async (work: Promise<unknown>): Promise<number> => {
  const from = performance.now();
  await work;
  return (performance.now() - from) / 1000;
};

describe('a client that keeps a connection without need loses it', () => {
  test.each([
    ['headers that never end', 'GET / HTTP/1.1\r\nHost: a\r\nX-', /408/],
    ['a body that never ends', 'POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc', /408|^$/],
    ['no request at all', '', /408|^$/],
  ])('%s', async (_, sent, answer) => {
    const app = hello();
    app.onError((_, c) => c.text('', 500));
    app.post('/body', async (c) => c.text(await c.req.text()));
    const { port } = await serve(app);
    const client = raw(port);
    client.socket.write(sent);
    expect(await seconds(client.ended)).toBeLessThan(4);
    expect(client.heard()).toMatch(answer);
  });
  test.each(['HTTP/1.1', 'HTTP/1.0'])('no further request, %s', async (version) => {
    const { port } = await serve(hello());
    const client = raw(port);
    client.socket.write(`GET / ${version}\r\nHost: a\r\nConnection: keep-alive\r\n\r\n`);
    // Node waits a second longer than it says.
    expect(await seconds(client.ended)).toBeLessThan(3);
    expect(client.heard()).toMatch(/200 OK[\s\S]*hello$/);
  });
  test('an answer left unread; what is made slowly is waited for', async () => {
    const app = hello();
    app.get('/much', (c) => c.body(new Uint8Array(2 ** 26)));
    app.get('/slow', async (c) => {
      await new Promise((resolve) => setTimeout(resolve, 1500));
      return c.text('done');
    });
    const { port } = await serve(app);
    const lazy = raw(port);
    lazy.socket.pause();
    lazy.socket.write('GET /much HTTP/1.1\r\nHost: a\r\n\r\n');
    const slow = fetch(`http://127.0.0.1:${port}/slow`).then((r) => r.text());
    // The server's end is what counts: this one sees it once it reads.
    await new Promise((resolve) => setTimeout(resolve, 2000));
    lazy.socket.resume();
    await lazy.ended;
    expect(lazy.heard().length).toBeLessThan(2 ** 26);
    expect(await slow).toBe('done');
  });
  test('connections beyond the limit are closed at once', async () => {
    const { port } = await serve(hello(), { connections: 2, times: { ...times, headers: 30, request: 30 } });
    const held = [raw(port), raw(port)];
    await new Promise((resolve) => setTimeout(resolve, 100));
    const third = raw(port);
    expect(await seconds(third.ended)).toBeLessThan(0.4);
    for (const h of held) h.socket.destroy();
  });
});

test('a port in use is named', async () => {
  const { address } = await serve(hello());
  await expect(serve(hello(), { listen: address })).rejects.toMatchObject({
    code: 'port-in-use',
    message: expect.stringMatching(/'api\.listen': port \d+ on 127\.0\.0\.1 is in use/),
  });
});

test('closing waits for what is being answered, and no longer than asked', async () => {
  const app = hello();
  app.get('/slow/:ms', async (c) => {
    await new Promise((resolve) => setTimeout(resolve, Number(c.req.param('ms'))));
    return c.text('done');
  });
  for (const [ms, limit, expected] of [
    [300, 5, 'done'],
    [3000, 0.3, 'cut'],
  ] as const) {
    const l = await serve(app);
    const answer = fetch(`http://127.0.0.1:${l.port}/slow/${ms}`).then(
      (r) => r.text(),
      () => 'cut',
    );
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(await seconds(l.close(limit))).toBeLessThan(1);
    expect(await answer).toBe(expected);
  }
});

describe('over TLS', () => {
  const authority = makeAuthority('a test');
  const write = (name: string, text: string): string => {
    writeFileSync(join(dir, name), text);
    return join(dir, name);
  };
  const files = (names: readonly string[]) => {
    const { certPem, keyPem } = certify(authority, names);
    return { cert: write('cert.pem', certPem), key: write('key.pem', keyPem) };
  };
  /** Status and the server's certificate, by a connection of its own. */
  const ask = (port: number, options: object = {}): Promise<{ status: number; names: string }> =>
    new Promise((resolve, reject) => {
      get({ host: '127.0.0.1', servername: 'localhost', port, ca: authority.certPem, agent: false, ...options }, (r) => {
        const names = (r.socket as unknown as { getPeerCertificate(): { subjectaltname: string } }).getPeerCertificate().subjectaltname;
        r.resume().once('end', () => resolve({ status: r.statusCode ?? 0, names }));
      }).once('error', reject);
    });

  test('a renewed certificate is that of the next connection, and the ones that stand go on', async () => {
    const tls = files(['localhost', 'before.example.org']);
    const l = await serve(hello(), { tls });
    expect((await ask(l.port)).names).toContain('before');
    const standing = connectTls({ host: '127.0.0.1', servername: 'localhost', port: l.port, ca: authority.certPem });
    await new Promise((resolve) => standing.once('secureConnect', resolve));
    l.renew(files(['localhost', 'after.example.org']));
    expect((await ask(l.port)).names).toContain('after');
    const answer = new Promise<string>((resolve) => standing.once('data', (d) => resolve(d.toString('latin1'))));
    standing.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    expect(await answer).toMatch(/^HTTP\/1\.1 200/);
    standing.destroy();
  });
  test('a certificate that is none is refused, and the one before it stays', async () => {
    const tls = files(['localhost', 'before.example.org']);
    const l = await serve(hello(), { tls });
    const other = write('other.pem', makeIdentity('x').keyPem);
    expect(() => l.renew({ cert: tls.cert, key: other })).toThrow(/'api\.cert' or 'api\.key' is not what TLS takes/);
    expect(() => l.renew({ cert: join(dir, 'nowhere'), key: tls.key })).toThrow(/'api\.cert': ENOENT/);
    expect((await ask(l.port)).names).toContain('before');
    await expect(serve(hello(), { tls: { cert: tls.cert, key: other } })).rejects.toThrow(/is not what TLS takes/);
  });
  test('a client certificate of the configured authority lets in, one of another does not', async () => {
    // The least that is an authority: one certificate, of itself.
    const ann = makeIdentity('ann.example.org');
    const clients = makeAuthority('clients');
    const tls = { ...files(['localhost']), clientCa: write('clients.pem', ann.certPem + clients.certPem) };
    const who = authenticator(() => ({ listen: '', behindProxy: false, tokens: [], open: false, origins: [], ...tls }));
    const app = hello();
    const seen: string[] = [];
    app.get('/who', (c) => {
      try {
        seen.push(who(c.env.incoming).name);
        return c.text('in');
      } catch {
        return c.text('out', 401);
      }
    });
    const { port } = await serve(app, { tls });
    const with_ = ({ certPem, keyPem }: { certPem: string; keyPem: string }) => ask(port, { path: '/who', cert: certPem, key: keyPem });
    expect((await with_(ann)).status).toBe(200);
    expect(seen).toEqual(['cert:ann.example.org']);
    expect((await with_(makeIdentity('ann.example.org'))).status).toBe(401);
    // A certificate for servers is none for clients, whoever signed it.
    expect((await with_(certify(clients, ['ann.example.org']))).status).toBe(401);
    expect((await ask(port, { path: '/who' })).status).toBe(401);
  });
});
