/**
 * The links between the roles, kept up: whoever may dial is accepted, whoever is to be dialled is dialled again and again, and each link that
 * stands is given to the host. Pins may change while links stand: one whose key is no longer pinned is closed.
 */
import { createPrivateKey, randomInt, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { type Identity, spkiOf } from '../net/keys.ts';
import type { Link, LinkError, LinkOptions } from '../net/link.ts';
import { dial, keyOfPeer, type Listener, listen, type Peer } from '../net/tls.ts';
import type { Role } from '../runtime/model.ts';
import { type Config, ConfigError, callers, dials } from './config.ts';
import { bytesOf, hostPort } from './schema.ts';

export interface LinkEvents {
  /** A link stands: the host takes it. */
  connect(peer: Role, link: Link): void;
  up(peer: Role): void;
  /** `error`: why; undefined when this side closed it. */
  down(peer: Role, error?: LinkError): void;
  /** An attempt failed, for another reason than the one before it; or a connection was refused. */
  failed(error: LinkError): void;
}

export interface LinkTotals {
  readonly peer: Role;
  readonly up: boolean;
  readonly sentBytes: number;
  readonly receivedBytes: number;
}

/** Two links stand here at most; the rest is for strangers who are about to be refused. */
const mostConnections = 128;
/** Milliseconds. */
const firstPause = 100;

/** The role's key and certificate. Throws ConfigError. */
export function readIdentity({ role, links }: Config): Identity {
  const read = (key: 'key' | 'cert'): string => {
    try {
      return readFileSync(links[key], 'utf8');
    } catch (e) {
      throw new ConfigError(`'links.${key}': ${(e as Error).message}`);
    }
  };
  const [keyPem, certPem] = [read('key'), read('cert')];
  try {
    if (new X509Certificate(certPem).checkPrivateKey(createPrivateKey(keyPem)))
      return { name: role, keyPem, certPem, spki: spkiOf(certPem) };
  } catch (e) {
    throw new ConfigError(`'links.key' or 'links.cert' is no PEM key or certificate: ${(e as Error).message}`);
  }
  throw new ConfigError(`${links.cert} does not carry the key of ${links.key}: they belong together`);
}

export class RoleLinks {
  #config: Config;
  #identity: Identity;
  #listener?: Listener;
  #closed = false;
  readonly #events: LinkEvents;
  readonly #options: LinkOptions;
  readonly #up = new Map<Role, Link>();
  readonly #past = new Map<Role, { sent: number; received: number }>();
  /** Ends the pause before the next attempt. */
  readonly #wake = new Map<Role, () => void>();
  readonly #said = new Map<Role, string>();

  private constructor(config: Config, identity: Identity, events: LinkEvents) {
    this.#config = config;
    this.#identity = identity;
    this.#events = events;
    this.#options = { silenceTimeout: 1000 * config.times.silence, maxPayload: Math.min(2 ** 32 - 1, bytesOf(config.limits.frame)) };
  }

  /** Listens, and begins to dial. Throws LinkError 'port-in-use' or 'listen-failed'. */
  static async open(config: Config, identity: Identity, events: LinkEvents): Promise<RoleLinks> {
    const links = new RoleLinks(config, identity, events);
    if (config.links.listen) {
      const where = hostPort(config.links.listen);
      const onRefused = (error: LinkError): void => events.failed(error);
      links.#listener = await listen(
        { ...where, identity, peers: links.#callers(), connections: mostConnections, onRefused, ...links.#options },
        (link) => links.#take(link.peer as Role, link),
      );
    }
    for (const peer of dials[config.role]) void links.#keepDialling(peer);
    return links;
  }

  get port(): number | undefined {
    return this.#listener?.port;
  }

  get missing(): readonly Role[] {
    return this.#others.filter((p) => !this.#up.has(p));
  }

  /** The key a role proved on its link, or this role's own; undefined while it is not connected. */
  spkiOf(role: Role): string | undefined {
    if (role === this.#config.role) return this.#identity.spki;
    const link = this.#up.get(role);
    return link && keyOfPeer(link);
  }

  totals(): LinkTotals[] {
    return this.#others.map((peer) => {
      const link = this.#up.get(peer);
      const { sent, received } = this.#past.get(peer) ?? { sent: 0, received: 0 };
      return {
        peer,
        up: link !== undefined,
        sentBytes: sent + (link?.counters.sentBytes ?? 0),
        receivedBytes: received + (link?.counters.receivedBytes ?? 0),
      };
    });
  }

  /** Another certificate for the same key, other pins and addresses: for connections to come. Links under a key that is no longer pinned end. */
  renew(config: Config, identity: Identity): void {
    this.#config = config;
    this.#identity = identity;
    this.#listener?.renew(identity, this.#callers());
    for (const [peer, link] of this.#up) if (!this.#pinsOf(peer).includes(keyOfPeer(link) ?? '')) link.close();
    for (const wake of this.#wake.values()) wake();
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const wake of this.#wake.values()) wake();
    for (const link of this.#up.values()) link.close();
    await this.#listener?.close();
  }

  get #others(): readonly Role[] {
    return [...callers[this.#config.role], ...dials[this.#config.role]];
  }

  #pinsOf(peer: Role): readonly string[] {
    return this.#config.links[peer]?.pins ?? [];
  }

  #peer(name: Role): Peer {
    const [spki, ...more] = this.#pinsOf(name);
    return { name, spki, more };
  }

  /** Whoever may call, and no other: a dealer that could pass for the other party would be sent openings whose masks it knows. */
  #callers(): Peer[] {
    return callers[this.#config.role].map((p) => this.#peer(p));
  }

  #take(peer: Role, link: Link): void {
    const before = this.#up.get(peer);
    if (before) {
      // The peer has given the old one up, or it would not call: sessions that leaned on it end first.
      this.#whenDown(before, () => this.#take(peer, link));
      before.close();
      return;
    }
    if (this.#closed) {
      link.close();
      return;
    }
    this.#up.set(peer, link);
    this.#said.delete(peer);
    this.#events.connect(peer, link);
    this.#whenDown(link, (error) => {
      const past = this.#past.get(peer) ?? { sent: 0, received: 0 };
      this.#past.set(peer, { sent: past.sent + link.counters.sentBytes, received: past.received + link.counters.receivedBytes });
      this.#up.delete(peer);
      this.#events.down(peer, error);
      if (!this.#closed && dials[this.#config.role].includes(peer)) void this.#keepDialling(peer);
    });
    this.#events.up(peer);
  }

  /** After all who were to be told before. */
  #whenDown(link: Link, then: (error?: LinkError) => void): void {
    const { onClose } = link;
    link.onClose = (error) => {
      onClose(error);
      then(error);
    };
  }

  async #keepDialling(peer: Role): Promise<void> {
    for (let pause = firstPause; !this.#closed; pause = Math.min(2 * pause, 1000 * this.#config.times.redial)) {
      try {
        const { address } = this.#config.links[peer]!;
        const options = {
          ...hostPort(address!),
          identity: this.#identity,
          peer: this.#peer(peer),
          connectTimeout: 1000 * this.#config.times.connect,
        };
        this.#take(peer, await dial({ ...options, ...this.#options }));
        return;
      } catch (e) {
        const error = e as LinkError;
        if (this.#said.get(peer) !== error.code) this.#events.failed(error);
        this.#said.set(peer, error.code);
      }
      // Jitter: parties that lost a dealer do not all come back at one moment.
      await this.#pause(peer, pause / 2 + randomInt(Math.ceil(pause / 2)));
    }
  }

  #pause(peer: Role, milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.#wake.delete(peer);
        resolve();
      };
      const timer = setTimeout(done, milliseconds);
      this.#wake.set(peer, done);
      if (this.#closed) done();
    });
  }
}
