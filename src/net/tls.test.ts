import { createHash } from 'node:crypto';
import { connect as connectTcp, createServer as createTcp, type Server, type Socket } from 'node:net';
import { type ConnectionOptions, connect, createServer, type TLSSocket } from 'node:tls';
import { afterEach, describe, expect, test } from 'vitest';
import { headerSize, writeHeader } from './framing.ts';
import { makeIdentity } from './keys.ts';
import { closing, linkCases, listenTo, pattern } from './link.case.ts';
import { type Link, LinkError, type LinkOptions } from './link.ts';
import { dial, type Listener, type ListenOptions, listen } from './tls.ts';

const host = '127.0.0.1';
const [p0, p1, dealer] = ['p0', 'p1', 'dealer'].map((name) => makeIdentity(name));
const cleanUp: (() => unknown)[] = [];

afterEach(async () => {
  for (const act of cleanUp.splice(0).reverse()) await act();
});

/** p0 listens for p1. */
async function listening(
  options: Partial<ListenOptions> = {},
): Promise<{ listener: Listener; port: number; links: Link[]; refusals: LinkError[]; refusal: Promise<LinkError>; link: Promise<Link> }> {
  const links: Link[] = [];
  const refusals: LinkError[] = [];
  let refuse: (error: LinkError) => void;
  let accept: (link: Link) => void;
  const refusal = new Promise<LinkError>((resolve) => (refuse = resolve));
  const link = new Promise<Link>((resolve) => (accept = resolve));
  const onRefused = (error: LinkError): void => {
    refusals.push(error);
    refuse(error);
  };
  const listener = await listen({ host, port: 0, identity: p0, peers: [p1], onRefused, ...options }, (made) => {
    links.push(made);
    cleanUp.push(() => made.close());
    accept(made);
  });
  cleanUp.push(() => void listener.close());
  return { listener, port: listener.port, links, refusals, refusal, link };
}

async function pair(options: LinkOptions & { plainReads?: boolean } = {}): Promise<[Link, Link]> {
  const { port, link } = await listening(options);
  const there = await dial({ host, port, identity: p1, peer: p0, ...options });
  cleanUp.push(() => there.close());
  return [await link, there];
}

describe('sent by the accepting side', () => linkCases((options) => pair(options)));
describe('sent by the dialing side', () => {
  // The cases send from the first link to the second: turn them round, and their names with them.
  linkCases(async (options) => {
    const { port, link } = await listening({ identity: p1, peers: [p0], ...options });
    const a = await dial({ host, port, identity: p0, peer: p1, ...options });
    return [a, await link];
  });
});
describe('read by plain events', () => {
  linkCases(async (options) => {
    const { port, link } = await listening({ identity: p1, peers: [p0], plainReads: true, ...options });
    const a = await dial({ host, port, identity: p0, peer: p1, ...options });
    return [a, await link];
  });
});

test('100 MB arrive whole, both ways at once', async () => {
  const links = await pair();
  const size = 3_333_333;
  const count = 30;
  const block = pattern(size, 1);
  const digest = (): ReturnType<typeof createHash> => createHash('sha256');
  const expected = digest();
  for (let seq = 0; seq < count; seq++) {
    block[0] = seq;
    expected.update(block);
  }
  const want = expected.digest('hex');
  const got = links.map((link) => {
    const hash = digest();
    return new Promise<string>((resolve) => {
      link.onFrame = ({ seq, payload }) => {
        hash.update(payload);
        if (seq === count - 1) resolve(hash.digest('hex'));
      };
    });
  });
  for (let seq = 0; seq < count; seq++) {
    block[0] = seq;
    for (const link of links) link.send(16, 1, seq, block);
  }
  expect(await Promise.all(got)).toEqual([want, want]);
});

describe('keys are pinned', () => {
  test('the dealer cannot take party 1’s place on the parties’ link', async () => {
    const { port, refusal, links } = await listening();
    await expect(dial({ host, port, identity: dealer, peer: p0 })).rejects.toMatchObject({ code: 'auth', peer: 'p0' });
    expect(await refusal).toMatchObject({ code: 'auth' });
    expect((await refusal).message).toContain(dealer.spki.slice(0, 16));
    expect(links).toEqual([]);
  });

  test('the dealer cannot take party 0’s place', async () => {
    const { port, refusal, links } = await listening({ identity: dealer });
    const error: LinkError = await dial({ host, port, identity: p1, peer: p0 }).catch((thrown) => thrown);
    expect(error).toMatchObject({ code: 'auth', peer: 'p0' });
    expect(error.message).toMatch(/which is not the one pinned: check the address and the pin/);
    expect(await refusal).toMatchObject({ peer: 'p1' });
    expect(links).toEqual([]);
  });

  test('the right name on another key is refused', async () => {
    const { port, links } = await listening();
    await expect(dial({ host, port, identity: makeIdentity('p1'), peer: p0 })).rejects.toMatchObject({ code: 'auth' });
    expect(links).toEqual([]);
  });

  test('a peer without a certificate is refused, and what it sends is not read', async () => {
    const { port, refusal, links } = await listening();
    const socket = await rawClient(port, {});
    const frame = new Uint8Array(headerSize);
    writeHeader(frame, 0, 0, 0, 0, 0);
    socket.write(frame);
    expect((await refusal).message).toMatch(/came with no key, which is not pinned here/);
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(links).toEqual([]);
  });

  test('one listener knows several peers by their keys', async () => {
    const { port, links } = await listening({ peers: [p1, { name: 'the dealer', spki: dealer.spki }] });
    for (const identity of [dealer, p1]) {
      const link = await dial({ host, port, identity, peer: p0 });
      cleanUp.push(() => link.close());
    }
    expect(links.map(({ peer }) => peer)).toEqual(['the dealer', 'p1']);
  });

  test('both kinds of key work', async () => {
    const other = makeIdentity('p1', 'p256');
    const { port } = await listening({ peers: [other] });
    (await dial({ host, port, identity: other, peer: p0 })).close();
  });
});

/** A TLS client that may misbehave. */
function rawClient(port: number, options: ConnectionOptions): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, rejectUnauthorized: false, ...options }, () => resolve(socket));
    socket.on('error', reject);
    cleanUp.push(() => socket.destroy());
  });
}
const asP1 = { key: p1.keyPem, cert: p1.certPem };

test('only TLS 1.3, with AES-128-GCM, and no session is resumed', async () => {
  const { port } = await listening();
  await expect(rawClient(port, { ...asP1, maxVersion: 'TLSv1.2' })).rejects.toThrow();
  const first = await rawClient(port, asP1);
  expect([first.getProtocol(), first.getCipher().standardName]).toEqual(['TLSv1.3', 'TLS_AES_128_GCM_SHA256']);
  const sessions: Buffer[] = [first.getSession() as Buffer];
  first.on('session', (session) => sessions.push(session));
  first.on('data', () => {});
  await new Promise((resolve) => setTimeout(resolve, 50));
  for (const session of sessions) expect((await rawClient(port, { ...asP1, session })).isSessionReused()).toBe(false);
});

test('garbage in place of frames ends the connection', async () => {
  const { port, refusal } = await listening();
  const socket = await rawClient(port, asP1);
  const closed = new Promise((resolve) => socket.once('close', resolve));
  socket.on('data', () => {});
  socket.write('GET / HTTP/1.1\r\nHost: p0\r\n\r\n');
  expect(await refusal).toMatchObject({ code: 'bad-frame', peer: 'p1' });
  await closed;
});

test('garbage in place of TLS is reported and harms no one', async () => {
  const { port, refusal } = await listening();
  const socket = connectTcp(port, host, () => socket.write('GET / HTTP/1.1\r\nHost: p0\r\n\r\n'));
  socket.on('error', () => {});
  cleanUp.push(() => socket.destroy());
  expect(await refusal).toMatchObject({ code: 'tls' });
  (await dial({ host, port, identity: p1, peer: p0 })).close();
});

test('a peer that vanishes ends the link with closed', async () => {
  const { port, link } = await listening();
  const socket = await rawClient(port, asP1);
  const greeting = new Uint8Array(headerSize);
  writeHeader(greeting, 0, 0, 0, 0, 0);
  socket.write(greeting);
  const end = closing(await link);
  socket.destroy();
  expect(await end).toMatchObject({ code: 'closed', peer: 'p1' });
});

test('a peer that stops reading and writing runs into the time-out', async () => {
  const { port, link } = await listening({ silenceTimeout: 150 });
  const socket = await rawClient(port, asP1);
  const greeting = new Uint8Array(headerSize);
  writeHeader(greeting, 0, 0, 0, 0, 0);
  socket.write(greeting);
  const made = await link;
  socket.pause();
  listenTo(made);
  made.awaiting(true);
  expect(await closing(made)).toMatchObject({ code: 'timeout', peer: 'p1' });
});

function tcp(serve: (socket: Socket) => void): Promise<{ server: Server; port: number }> {
  return new Promise((resolve) => {
    const server = createTcp(serve).listen(0, host, () => resolve({ server, port: (server.address() as { port: number }).port }));
    cleanUp.push(() => void server.close());
  });
}

test('a server that accepts and says nothing runs into the connect time-out', async () => {
  const sockets: Socket[] = [];
  const { port } = await tcp((socket) => sockets.push(socket));
  cleanUp.push(() => sockets.forEach((socket) => void socket.destroy()));
  const error: LinkError = await dial({ host, port, identity: p1, peer: p0, connectTimeout: 100 }).catch((thrown) => thrown);
  expect(error).toMatchObject({ code: 'timeout', peer: 'p0', message: `p0 at ${host}:${port} did not finish connecting within 100 ms` });
});

test('a TLS server that never says hello runs into the connect time-out', async () => {
  const server = createServer({ key: p0.keyPem, cert: p0.certPem });
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  const sockets: Socket[] = [];
  server.on('secureConnection', (socket) => sockets.push(socket));
  cleanUp.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const { port } = server.address() as { port: number };
  await expect(dial({ host, port, identity: p1, peer: p0, connectTimeout: 200 })).rejects.toMatchObject({ code: 'timeout' });
});

test('a port in use is named', async () => {
  const { port } = await listening();
  const error: LinkError = await listen({ host, port, identity: p0, peers: [] }, () => {}).catch((thrown) => thrown);
  expect(error).toBeInstanceOf(LinkError);
  expect(error).toMatchObject({
    code: 'port-in-use',
    message: `port ${port} on ${host} is in use: stop what listens there, or choose another port`,
  });
});

test('nothing listening is refused, or waited for with patience', async () => {
  const { server, port } = await tcp(() => {});
  await new Promise((resolve) => server.close(resolve));
  const options = { host, port, identity: p1, peer: p0 };
  const error: LinkError = await dial(options).catch((thrown) => thrown);
  expect(error).toMatchObject({ code: 'refused', message: `p0 at ${host}:${port}: nothing listens there: start it, or check the port` });
  const later = dial({ ...options, patience: 5000 });
  await new Promise((resolve) => setTimeout(resolve, 100));
  await listening({ port });
  (await later).close();
});

test('a host that does not exist is unreachable', async () => {
  await expect(dial({ host: 'no-such-host.invalid', port: 1, identity: p1, peer: p0 })).rejects.toMatchObject({ code: 'unreachable' });
});
