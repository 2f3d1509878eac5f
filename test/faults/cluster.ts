/** The three services as processes, a proxy on every connection between them, and proxies of its own for a client that is to suffer. */
import { createHash } from 'node:crypto';
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Client } from '../../src/client/client.ts';
import { connect } from '../../src/client/connect.ts';
import type { Fetch } from '../../src/client/party.ts';
import { certify, makeAuthority } from '../../src/net/authority.ts';
import type { Role } from '../../src/runtime/model.ts';
import { trusting } from '../server/cluster.ts';
import { roles, Services } from '../services.ts';
import type { Subject } from './models.ts';
import { Relay } from './relay.ts';

/** Connections between roles, named by who dials whom. */
export const between = ['p1-p0', 'p0-dealer', 'p1-dealer'] as const;
export const toParties = ['client-p0', 'client-p1'] as const;
export type Wire = (typeof between)[number] | (typeof toParties)[number];
export const wires: readonly Wire[] = [...between, ...toParties];

/** Seconds; short, so that a stall is noticed while one waits for it. */
export const limits = { silence: 1.5, wait: 2, step: 4, stall: 1.5, answer: 2 };
export const tokens = { bystander: 'token-of-the-bystanders-4711', victim: 'token-of-the-victims-0815' };

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');
const port = (address: string): number => Number(address.split(':')[1]);
const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export interface ClusterOptions {
  readonly subjects: readonly Subject[];
  readonly level?: 'debug' | 'info' | 'warn';
  /** Merged into each role's configuration. */
  readonly more?: Partial<Record<'limits' | 'times', Record<string, unknown>>> & {
    readonly owners?: readonly object[];
    readonly memory?: Readonly<Record<Role, string>>;
  };
}

export class FaultCluster {
  readonly authority = makeAuthority('faults');
  readonly proxies = {} as Record<Wire, Relay>;
  private constructor(
    readonly services: Services,
    readonly models: Readonly<Record<Role, string>>,
  ) {}

  static async start(dir: string, { subjects, level = 'info', more = {} }: ClusterOptions): Promise<FaultCluster> {
    const models = Object.fromEntries(roles.map((r) => [r, join(dir, `models-${r}`)])) as Record<Role, string>;
    for (const role of roles) {
      mkdirSync(models[role], { recursive: true });
      for (const { parts } of subjects) cpSync(parts.roles[role].dir, join(models[role], parts.hash), { recursive: true });
    }
    let services: Services | undefined;
    const ends: Record<Wire, () => string> = {
      'p1-p0': () => services!.at('links', 'p0'),
      'p0-dealer': () => services!.at('links', 'dealer'),
      'p1-dealer': () => services!.at('links', 'dealer'),
      'client-p0': () => services!.at('api', 'p0'),
      'client-p1': () => services!.at('api', 'p1'),
    };
    const proxies = Object.fromEntries(await Promise.all(wires.map(async (w) => [w, await Relay.open(() => port(ends[w]()))]))) as Record<
      Wire,
      Relay
    >;
    services = await Services.make({
      models,
      more: (role, s) => {
        const pins = (r: Role): { pins: string[] } => ({ pins: [s.identities[r].spki] });
        const dials = (r: Role, wire: Wire): object => ({ ...pins(r), address: `127.0.0.1:${proxies[wire].port}` });
        const links = {
          dealer: { listen: s.at('links', 'dealer'), p0: pins('p0'), p1: pins('p1') },
          p0: { listen: s.at('links', 'p0'), p1: pins('p1'), dealer: dials('dealer', 'p0-dealer') },
          p1: { p0: dials('p0', 'p1-p0'), dealer: dials('dealer', 'p1-dealer') },
        }[role];
        const api = {
          listen: s.at('api', role),
          cert: 'api.crt',
          key: 'api.key',
          ...(role === 'dealer' ? {} : { tokens: Object.entries(tokens).map(([name, t]) => ({ name, sha256: sha256(t) })) }),
        };
        return {
          ...(more.owners ? { owners: more.owners } : {}),
          links: { key: 'key.pem', cert: 'cert.pem', ...links },
          api,
          log: { level },
          models: { dir: models[role], ...(more.memory && { memory: more.memory[role] }) },
          times: {
            silence: limits.silence,
            redial: 0.5,
            drain: 5,
            stall: limits.stall,
            headers: 2,
            answer: limits.answer,
            connect: 2,
            ...more.times,
          },
          limits: { waitSeconds: limits.wait, stepSeconds: limits.step, ...more.limits },
        };
      },
    });
    const cluster = new FaultCluster(services, models);
    Object.assign(cluster.proxies, proxies);
    for (const role of roles) {
      const { certPem, keyPem } = certify(cluster.authority, ['127.0.0.1', 'localhost']);
      writeFileSync(services.file(role, 'api.crt'), certPem);
      writeFileSync(services.file(role, 'api.key'), keyPem, { mode: 0o600 });
    }
    for (const role of roles) services.start(role);
    await cluster.ready(60);
    return cluster;
  }

  /** Where the client connects that faults are meant for; bystanders go straight to the parties. */
  urls(whose: 'victim' | 'bystander'): [string, string] {
    return whose === 'victim'
      ? [`https://127.0.0.1:${this.proxies['client-p0'].port}`, `https://127.0.0.1:${this.proxies['client-p1'].port}`]
      : [`https://${this.services.at('api', 'p0')}`, `https://${this.services.at('api', 'p1')}`];
  }

  connect(whose: 'victim' | 'bystander', subject: Subject, fetch: Fetch = this.fetch()): Promise<Client> {
    return connect({
      parties: this.urls(whose),
      model: subject.parts.hash,
      token: tokens[whose],
      retries: 0,
      silence: limits.silence,
      fetch,
    });
  }

  /** fetch with connections of its own. */
  fetch(): Fetch {
    return trusting(this.authority.certPem);
  }

  pid(role: Role): number {
    return this.services.running.get(role)!.child.pid as number;
  }

  async isReady(role: Role): Promise<boolean> {
    return this.services.get(role, '/readyz').then(
      ({ status }) => status === 200,
      () => false,
    );
  }

  /** Throws when a role is not ready within `seconds`. Returns milliseconds that it took. */
  async ready(seconds: number, which: readonly Role[] = roles): Promise<number> {
    const from = performance.now();
    for (;;) {
      const states = await Promise.all(which.map((r) => this.isReady(r)));
      if (states.every(Boolean)) return performance.now() - from;
      if (performance.now() - from > 1000 * seconds) {
        const logs = roles.map(
          (r) => `${r}: ${this.services.running.get(r)?.stdout.slice(-1500)}${this.services.running.get(r)?.stderr.slice(-500)}`,
        );
        throw new Error(`not ready within ${seconds} s: ${which.filter((_, i) => !states[i])}\n${logs.join('\n')}`);
      }
      await sleep(30);
    }
  }

  /** kill -9 and another process in its place, `pause` milliseconds later. Resolves when the process is started. */
  async restart(role: Role, pause = 0): Promise<void> {
    await this.services.running.get(role)!.kill('SIGKILL');
    await sleep(pause);
    this.services.start(role);
  }

  /** Bytes of memory and descriptors a role's process has, and what its engine says. */
  async sample(role: Role): Promise<Sample> {
    const status = readFileSync(`/proc/${this.pid(role)}/status`, 'utf8');
    const { text } = await this.services.get(role, '/metrics');
    const value = (name: string): number => Number(new RegExp(`^${name} (.*)$`, 'm').exec(text)?.[1]);
    return {
      pid: this.pid(role),
      rss: 1024 * Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]),
      heap: value('nodejs_heap_size_used_bytes'),
      external: value('nodejs_external_memory_bytes'),
      descriptors: this.services.descriptors(role),
      sessions: value('subrosa_sessions'),
    };
  }

  async close(): Promise<void> {
    for (const p of Object.values(this.proxies)) p.heal();
    await this.services.close();
    await Promise.all(Object.values(this.proxies).map((p) => p.close()));
  }
}

export interface Sample {
  readonly pid: number;
  readonly rss: number;
  readonly heap: number;
  readonly external: number;
  readonly descriptors: number;
  /** Open at this role; NaN at none. */
  readonly sessions: number;
}
