/** Three services from configuration files, as an operator starts them: processes, their logs, what they answer. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { stringify } from 'smol-toml';
import { type Identity, makeIdentity } from '../src/net/keys.ts';
import type { Role } from '../src/runtime/model.ts';

const bin = fileURLToPath(new URL('../bin/subrosa.js', import.meta.url));
export const roles: readonly Role[] = ['p0', 'p1', 'dealer'];
const listeners = ['links', 'api', 'metrics'] as const;
type Listener = (typeof listeners)[number];
const host = '127.0.0.1';

/** Ports that were free a moment ago: they stay the same over restarts. */
async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from(
      { length: count },
      () =>
        new Promise<ReturnType<typeof createServer>>((resolve) => {
          const server = createServer().listen(0, host, () => resolve(server));
        }),
    ),
  );
  const ports = servers.map((s) => (s.address() as { port: number }).port);
  await Promise.all(servers.map((s) => new Promise((done) => s.close(done))));
  return ports;
}

export interface LogLine {
  readonly level: string;
  readonly msg: string;
  readonly [key: string]: unknown;
}

/** One process. */
export class RoleService {
  stdout = '';
  stderr = '';
  readonly ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  private heard = (): void => {};

  constructor(
    readonly role: Role,
    readonly child: ChildProcess,
  ) {
    child.stdout!.on('data', (d) => {
      this.stdout += d;
      this.heard();
    });
    child.stderr!.on('data', (d) => {
      this.stderr += d;
    });
    this.ended = new Promise((resolve) => child.once('close', (code, signal) => resolve({ code, signal })));
  }

  get lines(): LogLine[] {
    return this.stdout
      .split('\n')
      .slice(0, -1)
      .map((l) => JSON.parse(l) as LogLine);
  }

  /** The first log line from `after` on for which `wanted` holds. Throws what the process said when it ends before, or takes a minute. */
  async line(wanted: string | ((l: LogLine) => boolean), after = 0): Promise<LogLine> {
    const test = typeof wanted === 'string' ? (l: LogLine): boolean => l.msg === wanted : wanted;
    const over = this.ended.then(() => true);
    const until = Date.now() + 60_000;
    for (;;) {
      const found = this.lines.slice(after).find(test);
      if (found) return found;
      const news = new Promise<boolean>((resolve) => {
        this.heard = () => resolve(false);
        setTimeout(() => resolve(false), 100).unref();
      });
      if ((await Promise.race([over, news])) && !this.lines.slice(after).some(test))
        throw new Error(`${this.role} ended: ${this.stderr}${this.stdout}`);
      if (Date.now() > until) throw new Error(`${this.role} did not log ${wanted}: ${this.stderr}${this.stdout}`);
    }
  }

  kill(signal: NodeJS.Signals): ReturnType<() => typeof this.ended> {
    this.child.kill(signal);
    return this.ended;
  }
}

export interface ClusterFiles {
  /** Folders of models by role, made by the caller. */
  readonly models: Readonly<Record<Role, string>>;
  /** Added to each role's configuration. */
  readonly more?: (role: Role, s: Services) => Record<string, unknown>;
}

/** Configuration, keys and processes of a cluster, in a folder of its own. */
export class Services {
  readonly dir = mkdtempSync(join(tmpdir(), 'subrosa-services-'));
  readonly identities = Object.fromEntries(roles.map((r) => [r, makeIdentity(r)])) as Record<Role, Identity>;
  readonly running = new Map<Role, RoleService>();
  /** Every process there was. */
  readonly all: RoleService[] = [];
  private ports: ReadonlyMap<string, number> = new Map();

  static async make(files: ClusterFiles): Promise<Services> {
    const s = new Services();
    const names = listeners.flatMap((what) => roles.map((role) => `${what} ${role}`));
    const ports = await freePorts(names.length);
    s.ports = new Map(names.map((name, i) => [name, ports[i]]));
    for (const role of roles) {
      mkdirSync(join(s.dir, role));
      s.writeKey(role, s.identities[role]);
      s.write(role, { ...s.base(role, files.models[role]), ...files.more?.(role, s) });
    }
    return s;
  }

  file(role: Role, name = 'config.toml'): string {
    return join(this.dir, role, name);
  }
  writeKey(role: Role, identity: Identity): void {
    writeFileSync(this.file(role, 'key.pem'), identity.keyPem, { mode: 0o600 });
    writeFileSync(this.file(role, 'cert.pem'), identity.certPem);
  }
  write(role: Role, config: Record<string, unknown>): void {
    writeFileSync(this.file(role), stringify(config));
  }
  at(what: Listener, role: Role): string {
    return `${host}:${this.ports.get(`${what} ${role}`)}`;
  }
  get parties(): [string, string] {
    return [`http://${this.at('api', 'p0')}`, `http://${this.at('api', 'p1')}`];
  }

  /** What a role's configuration holds unless a test says otherwise. */
  base(role: Role, models: string): Record<string, unknown> {
    const pins = (r: Role): { pins: string[] } => ({ pins: [this.identities[r].spki] });
    const dials = (r: Role): object => ({ ...pins(r), address: this.at('links', r) });
    const links = {
      dealer: { listen: this.at('links', 'dealer'), p0: pins('p0'), p1: pins('p1') },
      p0: { listen: this.at('links', 'p0'), p1: pins('p1'), dealer: dials('dealer') },
      p1: { p0: dials('p0'), dealer: dials('dealer') },
    }[role];
    return {
      role,
      links: { key: 'key.pem', cert: 'cert.pem', ...links },
      ...(role === 'dealer' ? {} : { api: { listen: this.at('api', role), open: true } }),
      models: { dir: models },
      times: { redial: 0.5, drain: 10 },
      metrics: { listen: this.at('metrics', role) },
    };
  }

  start(role: Role): RoleService {
    const command = role === 'dealer' ? 'dealer' : 'party';
    const child = spawn(process.execPath, [bin, command, '--config', this.file(role)], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, NO_COLOR: '1' },
    });
    const service = new RoleService(role, child);
    this.running.set(role, service);
    this.all.push(service);
    return service;
  }

  /** Starts all, and waits until each is ready. */
  async startAll(order: readonly Role[] = roles): Promise<void> {
    await Promise.all(order.map((role) => this.start(role).line('ready')));
  }

  async get(role: Role, path: string): Promise<{ status: number; text: string }> {
    const response = await fetch(`http://${this.at('metrics', role)}${path}`);
    return { status: response.status, text: await response.text() };
  }

  /** Descriptors a role's process has open. */
  descriptors(role: Role): number {
    return readdirSync(`/proc/${this.running.get(role)!.child.pid}/fd`).length;
  }
  async close(): Promise<void> {
    await Promise.all(this.all.map((s) => (s.child.exitCode === null && s.child.signalCode === null ? s.kill('SIGKILL') : undefined)));
    rmSync(this.dir, { recursive: true, force: true });
  }
}
