/** subrosa up: a whole cluster on this machine, two parties and a dealer as services, and the demo page in front of it. */
import { type ChildProcess, fork, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { connect } from '../client/index.ts';
import type { CompiledFolder } from '../folder/index.ts';
import { protect } from '../folder/protect.ts';
import { sizeOf } from '../graph/graph.ts';
import { KNOWN, pull } from '../import/pull/index.ts';
import { type Identity, makeIdentity } from '../net/keys.ts';
import { dim } from '../program/program.ts';
import type { Role } from '../runtime/model.ts';
import { keysFor } from '../tasks/generate/index.ts';
import { compiledOf } from './compiled.ts';
import { pulledFolder } from './locate.ts';
import { openPage } from './page.ts';
import { bytesText, err, print, progress, say, UsageError } from './terminal.ts';
import type { FromUp, Start } from './up-role.ts';

interface Options {
  readonly json?: boolean;
  readonly port?: number;
  readonly open?: boolean;
}

const roles: readonly Role[] = ['dealer', 'p0', 'p1'];
const page = fileURLToPath(new URL('../web/', import.meta.url)).replace(/[\\/]$/, '');
/** Milliseconds a role may take to start, and to end when asked. */
const patience = { start: 60_000, end: 3000 };

export async function upCommand(names: readonly string[], options: Options): Promise<void> {
  if (!existsSync(join(page, 'index.html'))) throw new UsageError('the demo page is not built', 'npm run build:web');
  const models: CompiledFolder[] = [];
  for (const name of names.length > 0 ? names : defaults()) {
    await pulled(name);
    models.push(await compiledOf(name, { weights: 'public' }));
  }
  const site = await openPage(page, options.port ?? 0).catch((e: NodeJS.ErrnoException) => {
    throw e.code === 'EADDRINUSE' ? new UsageError(`port ${options.port} is in use`, 'give another --port, or none') : e;
  });
  const cluster = new LocalRoles();
  const ended = new Promise<'stopped'>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => resolve('stopped'));
  });
  try {
    const parties = await Promise.race([cluster.start(models, [site.origin]), cluster.failed, ended]);
    if (parties === 'stopped') return;
    site.serve(parties);
    const listed = models.map((m) => m.program.name);
    if (options.json) print(JSON.stringify({ web: site.origin, parties, models: listed }));
    else {
      print(`page     ${err.bold(site.origin)}`);
      print(`parties  ${parties.join('  ')}`);
      print(`models   ${listed.join(', ')}`);
      say(err.dim('Ctrl-C ends all of it'));
    }
    if (options.open) openBrowser(site.origin);
    await Promise.race([cluster.failed, ended]);
  } finally {
    site.close();
    await cluster.close();
  }
}

/** What needs no download, and the sentence encoder when it was pulled. */
const defaults = (): string[] => ['fashion-vit', ...(existsSync(pulledFolder('minilm')) ? ['minilm'] : [])];

async function pulled(name: string): Promise<void> {
  if (!Object.hasOwn(KNOWN, name) || existsSync(name) || existsSync(pulledFolder(name))) return;
  const line = progress(`pulling ${name}`);
  await pull(name, pulledFolder(name), { onProgress: ({ file, done }) => line.update(`${file}  ${bytesText(done)}`) }).finally(line.done);
}

/** Keys, models and processes of the three roles. Everything is below one private folder, and goes with it. */
export class LocalRoles {
  private readonly dir = mkdtempSync(join(tmpdir(), `subrosa-up-${process.pid}-`));
  private readonly children = new Map<Role, ChildProcess>();
  private fail: (e: Error) => void = () => {};
  private closing = false;
  /** Rejects when a role ends that should not. */
  readonly failed = new Promise<never>((_, reject) => {
    this.fail = reject;
  });
  private readonly lastResort = (): void => {
    for (const child of this.children.values()) child.kill('SIGKILL');
    rmSync(this.dir, { recursive: true, force: true });
  };

  constructor() {
    // Whoever awaits it hears of it; nobody may, while nothing has started.
    this.failed.catch(() => {});
    process.once('exit', this.lastResort);
  }

  /** Resolves with the parties' URLs when all roles are connected. `origins`: of pages that may call. */
  async start(models: readonly CompiledFolder[], origins: readonly string[]): Promise<[string, string]> {
    const line = progress('starting');
    const identities = Object.fromEntries(roles.map((role) => [role, makeIdentity(role)])) as Record<Role, Identity>;
    const pins = (role: Role): { pins: string[] } => ({ pins: [identities[role].spki] });
    const links: Partial<Record<Role, string>> = {};
    const apis: Partial<Record<Role, string>> = {};
    const ready: Promise<unknown>[] = [];
    for (const role of roles) {
      mkdirSync(join(this.dir, role, 'models'), { recursive: true, mode: 0o700 });
      writeFileSync(join(this.dir, role, 'key.pem'), identities[role].keyPem, { mode: 0o600 });
      writeFileSync(join(this.dir, role, 'cert.pem'), identities[role].certPem);
    }
    const hashes: string[] = [];
    for (const model of models) {
      line.update(model.program.name);
      const parts = protect(model, join(this.dir, 'parts'));
      for (const role of roles) renameSync(parts.roles[role].dir, join(this.dir, role, 'models', parts.hash));
      rmSync(parts.dir, { recursive: true });
      hashes.push(parts.hash);
    }
    for (const role of roles) {
      line.update(role);
      const dir = join(this.dir, role);
      const dials = (peer: Role): object => ({ ...pins(peer), address: links[peer] });
      const local = '127.0.0.1:0';
      const api = { listen: local, open: true, origins };
      const config = {
        role,
        threads: Math.max(1, Math.min(8, Math.floor(availableParallelism() / roles.length))),
        log: { level: 'error' },
        models: { dir: 'models' },
        links: {
          key: 'key.pem',
          cert: 'cert.pem',
          ...{
            dealer: { listen: local, p0: pins('p0'), p1: pins('p1') },
            p0: { listen: local, p1: pins('p1'), dealer: dials('dealer') },
            p1: { p0: dials('p0'), dealer: dials('dealer') },
          }[role],
        },
        ...(role === 'dealer' ? {} : { api }),
      };
      const child = this.spawn(role, { config, dir });
      ready.push(this.hear(role, child, (m) => 'ready' in m));
      const at = (await this.hear(role, child, (m) => 'links' in m || 'api' in m)) as { links?: string; api?: string };
      links[role] = at.links;
      apis[role] = at.api;
    }
    line.update('connecting');
    await Promise.all(ready);
    const parties: [string, string] = [`http://${apis.p0}`, `http://${apis.p1}`];
    for (const hash of hashes) {
      line.update('loading models');
      await warm(parties, hash);
    }
    line.done();
    return parties;
  }

  /** Ends the processes, those that do not hear included, and removes the folder. */
  async close(): Promise<void> {
    this.closing = true;
    await Promise.all(
      [...this.children.values()].map((child) => {
        if (child.exitCode !== null || child.signalCode !== null) return undefined;
        const gone = new Promise((resolve) => child.once('exit', resolve));
        if (child.connected) child.disconnect();
        const harder = setTimeout(() => child.kill('SIGKILL'), patience.end);
        return gone.then(() => clearTimeout(harder));
      }),
    );
    process.off('exit', this.lastResort);
    rmSync(this.dir, { recursive: true, force: true });
  }

  private spawn(role: Role, start: Start): ChildProcess {
    const entry = fileURLToPath(new URL('./up-role.js', import.meta.url));
    // Standard output belongs to the answer: what a role logs goes to standard error.
    const child = fork(entry, [], { stdio: ['ignore', 2, 2, 'ipc'] });
    this.children.set(role, child);
    child.once('exit', (code, signal) => {
      if (!this.closing) this.fail(new Error(`${role} ended by itself (${signal ?? `exit code ${code}`}), so the cluster was stopped`));
    });
    child.once('error', (e) => this.fail(new Error(`${role} could not be started: ${e.message}`)));
    child.send(start);
    return child;
  }

  private hear(role: Role, child: ChildProcess, wanted: (m: FromUp) => boolean): Promise<FromUp> {
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`${role} has not started within ${patience.start / 1000} s`)), patience.start);
      late.unref();
      child.on('message', (m: FromUp) => {
        if ('failed' in m) return this.fail(new Error(`${role}: ${m.failed}`));
        if (!wanted(m)) return;
        clearTimeout(late);
        resolve(m);
      });
    });
  }
}

/** One answer to zeros: the model is in memory then, and the first person waits no longer than the next. */
async function warm(parties: [string, string], model: string): Promise<void> {
  const client = await connect({ parties, model });
  const { params, inputs } = client.manifest;
  const least = Object.fromEntries(Object.entries(params).map(([name, { min }]) => [name, min]));
  const zeros = inputs.map(({ name, shape }) => {
    const sides = shape.map((d) => dim(d, least));
    return [name, { shape: sides, data: new Float32Array(sizeOf(sides)) }];
  });
  const step = least.past === undefined ? least : { ...least, keys: keysFor(least.past + least.n, params.keys.max) };
  await client.run(Object.fromEntries(zeros), { params: step });
  await client.close();
}

function openBrowser(url: string): void {
  const [command, ...args] = { darwin: ['open'], win32: ['cmd', '/c', 'start', ''] }[process.platform as string] ?? ['xdg-open'];
  const child = spawn(command, [...args, url], { stdio: 'ignore', detached: true });
  child.once('error', () => say(`no browser could be opened: go to ${url}`));
  child.unref();
}
