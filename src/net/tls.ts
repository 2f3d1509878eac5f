/**
 * Links over mutual TLS 1.3. Each side pins the other's KEY: a good certificate with another key is refused, whoever signed it, so that
 * the dealer, who knows every mask, cannot read the link between the parties by standing in its middle.
 *
 * Who dials does not matter for speed (accepted.ts), unless that shortcut is missing: then the receiver of the bulk should dial, so
 * party 1 dials the dealer.
 */
import { constants } from 'node:crypto';
import type { AddressInfo, OnReadOpts } from 'node:net';
import { type CommonConnectionOptions, connect, createServer, type SecureContextOptions, type TLSSocket } from 'node:tls';
import { readByEvents, readByFixedBuffer } from './accepted.ts';
import { type Identity, spkiOfKey } from './keys.ts';
import { hello, type Link, LinkError, type LinkErrorCode, type LinkOptions } from './link.ts';
import { type Pipe, StreamLink } from './stream.ts';

/** A key this side talks to, and what it is called here. */
export interface Peer {
  name: string;
  spki: string;
  /** Further keys it may come with, while one replaces the other. */
  more?: readonly string[];
}

export interface ListenOptions extends LinkOptions {
  host: string;
  /** 0 takes any free port. */
  port: number;
  identity: Identity;
  peers: readonly Peer[];
  /** Connections at once, handshakes included; further ones are closed. Default: no limit. */
  connections?: number;
  /** Hears of each connection that did not become a link. */
  onRefused?: (error: LinkError) => void;
  /** Reads by Node's 'data' events even where accepted.ts knows a cheaper way. */
  plainReads?: boolean;
}

export interface DialOptions extends LinkOptions {
  host: string;
  port: number;
  identity: Identity;
  peer: Peer;
  /** Milliseconds for one attempt. Default 10 s. */
  connectTimeout?: number;
  /** Milliseconds to go on trying while nothing listens there yet. Default 0. */
  patience?: number;
}

export interface Listener {
  readonly port: number;
  /** For connections to come: another certificate or key of this side, other keys of peers. Throws when they are not what TLS takes. */
  renew(identity: Identity, peers: readonly Peer[]): void;
  /** Stops listening; links live on. */
  close(): Promise<void>;
}

/** The key that the peer of a link proved to have: SHA-256 of its SubjectPublicKeyInfo, in hex. */
export const keyOfPeer = (link: Link): string | undefined => proved.get(link);
const proved = new WeakMap<Link, string>();

const connectTimeout = 10_000;
const readSize = 1 << 16;

/** AES-128-GCM first: with AES instructions it is the quickest, and its keys are as long as the masks' security. */
function secure(identity: Identity): SecureContextOptions & CommonConnectionOptions {
  return {
    key: identity.keyPem,
    cert: identity.certPem,
    minVersion: 'TLSv1.3',
    maxVersion: 'TLSv1.3',
    ciphers: 'TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256',
    honorCipherOrder: true,
    ecdhCurve: 'X25519:P-256',
    // No session is resumed: each connection proves its key anew.
    secureOptions: constants.SSL_OP_NO_TICKET,
    // Not by chain but by key, below: both paths through this file ask `peerOf`.
    rejectUnauthorized: false,
    requestCert: true,
  };
}

export function listen(options: ListenOptions, onLink: (link: Link) => void): Promise<Listener> {
  const { host, port, identity, onRefused = (): void => {} } = options;
  let { peers } = options;
  const server = createServer({ ...secure(identity), handshakeTimeout: connectTimeout, noDelay: true });
  if (options.connections !== undefined) server.maxConnections = options.connections;
  server.on('secureConnection', (socket) => {
    const from = `${socket.remoteAddress}:${socket.remotePort}`;
    const spki = pinOf(socket);
    const peer = peerOf(spki, peers);
    const link = new StreamLink(peer?.name ?? from, pipeOf(socket), options);
    const receive = (bytes: Uint8Array, length: number): boolean => link.received(bytes, length);
    if (options.plainReads || !readByFixedBuffer(socket, readSize, receive)) readByEvents(socket, receive);
    reportEnd(socket, link, `the link to ${link.peer}`);
    if (peer === undefined) {
      link.dismiss('auth');
      onRefused(new LinkError('auth', from, `${from} came with ${shown(spki)}, which is not pinned here`));
      return;
    }
    proved.set(link, spki!);
    const timer = setTimeout(() => {
      link.handOver().dismiss();
      onRefused(new LinkError('timeout', peer.name, `${peer.name} at ${from} sent no hello within ${connectTimeout} ms`));
    }, connectTimeout);
    link.onClose = (error) => {
      clearTimeout(timer);
      onRefused(error ?? new LinkError('closed', peer.name, `${peer.name} at ${from} left before its hello`));
    };
    link.onHello = () => {
      clearTimeout(timer);
      onLink(link.handOver());
    };
    link.control(hello);
  });
  server.on('tlsClientError', (error, socket) => {
    const from = `${socket.remoteAddress ?? 'a peer'}:${socket.remotePort ?? ''}`;
    onRefused(new LinkError('tls', from, `${from} failed the TLS handshake: ${error.message}`, { cause: error }));
  });
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const inUse = error.code === 'EADDRINUSE';
      const message = inUse
        ? `port ${port} on ${host} is in use: stop what listens there, or choose another port`
        : `cannot listen on port ${port} of ${host}: ${error.message}`;
      reject(new LinkError(inUse ? 'port-in-use' : 'listen-failed', identity.name, message, { cause: error }));
    });
    server.listen(port, host, () => {
      const close = (): Promise<void> => new Promise((done) => server.close(() => done()));
      const renew = (next: Identity, known: readonly Peer[]): void => {
        server.setSecureContext(secure(next));
        peers = known;
      };
      resolve({ port: (server.address() as AddressInfo).port, renew, close });
    });
  });
}

export async function dial(options: DialOptions): Promise<Link> {
  const until = performance.now() + (options.patience ?? 0);
  for (let wait = 20; ; wait = Math.min(2 * wait, 500)) {
    try {
      return await dialOnce(options);
    } catch (error) {
      if (!(error instanceof LinkError && error.code === 'refused') || performance.now() + wait > until) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

function dialOnce(options: DialOptions): Promise<Link> {
  const { host, port, identity, peer } = options;
  const where = `${peer.name} at ${host}:${port}`;
  const limit = options.connectTimeout ?? connectTimeout;
  return new Promise((resolve, reject) => {
    const buffer = new Uint8Array(readSize);
    const onread: OnReadOpts = { buffer, callback: (length) => link.received(buffer, length) };
    // A name, not a literal: Node's types do not list `onread` here, its documentation does.
    const connection = { ...secure(identity), host, port, onread };
    const socket: TLSSocket = connect(connection);
    const link = new StreamLink(peer.name, pipeOf(socket), options);
    const refuse = (error: LinkError, tell?: LinkErrorCode): void => {
      clearTimeout(timer);
      if (tell) link.handOver().dismiss(tell);
      else socket.destroy();
      reject(error);
    };
    const timer = setTimeout(
      () => refuse(new LinkError('timeout', peer.name, `${where} did not finish connecting within ${limit} ms`)),
      limit,
    );
    link.onClose = (error) => refuse(error ?? new LinkError('closed', peer.name, `${where} closed the connection`));
    link.onHello = () => {
      clearTimeout(timer);
      resolve(link.handOver());
    };
    socket.setNoDelay(true);
    socket.once('secureConnect', () => {
      const spki = pinOf(socket);
      if (peerOf(spki, [peer]) !== undefined) {
        proved.set(link, spki!);
        link.control(hello);
      } else {
        const message = `${where} came with ${shown(spki)}, which is not the one pinned: check the address and the pin`;
        refuse(new LinkError('auth', peer.name, message), 'auth');
      }
    });
    reportEnd(socket, link, where);
  });
}

function pinOf(socket: TLSSocket): string | undefined {
  const certificate = socket.getPeerX509Certificate();
  return certificate && spkiOfKey(certificate.publicKey);
}

function peerOf(spki: string | undefined, peers: readonly Peer[]): Peer | undefined {
  return spki === undefined ? undefined : peers.find((peer) => peer.spki === spki || peer.more?.includes(spki));
}

/** The peer's key for a message: enough of the pin to recognise it. */
const shown = (spki: string | undefined): string => (spki === undefined ? 'no key' : `the key ${spki.slice(0, 16)}…`);

function pipeOf(socket: TLSSocket): Pipe {
  return {
    write: (bytes, done) => void socket.write(bytes, done),
    resume: () => void socket.resume(),
    end: () => void socket.end(),
    destroy: () => void socket.destroy(),
  };
}

const codes: Record<string, LinkErrorCode> = {
  ECONNREFUSED: 'refused',
  ENOTFOUND: 'unreachable',
  EAI_AGAIN: 'unreachable',
  EHOSTUNREACH: 'unreachable',
  ENETUNREACH: 'unreachable',
  ETIMEDOUT: 'unreachable',
  ECONNRESET: 'closed',
  EPIPE: 'closed',
};
const advice: Partial<Record<LinkErrorCode, string>> = {
  refused: 'nothing listens there: start it, or check the port',
  unreachable: 'cannot be reached: check the address and the network',
  closed: 'broke the connection: see its log',
};

function reportEnd(socket: TLSSocket, link: StreamLink, where: string): void {
  socket.on('error', (error: NodeJS.ErrnoException) => {
    const code = codes[error.code ?? ''] ?? 'tls';
    link.ended(new LinkError(code, link.peer, `${where}: ${advice[code] ?? error.message}`, { cause: error }));
  });
  socket.on('end', () => link.ended());
  socket.on('close', () => link.ended());
}
