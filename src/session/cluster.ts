/**
 * A whole cluster on this machine: two parties and a dealer as processes of their own, mutual TLS, on loopback unless told, this process the client.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { SubrosaError } from '../client/errors.ts';
import type { ClientInputs, ClientOutput } from '../client/share.ts';
import { readCompiled } from '../folder/index.ts';
import { type Identity, makeIdentity } from '../net/keys.ts';
import type { Link } from '../net/link.ts';
import { dial } from '../net/tls.ts';
import type { Params } from '../program/program.ts';
import type { Role } from '../runtime/model.ts';
import { ClientSession } from './client.ts';
import type { FromRole, RoleStats, ToRole } from './role.ts';

export interface RunStats {
  /** From the client's shares to its answer. */
  readonly seconds: number;
  readonly rounds: number;
  /** Payload and frame headers, both directions. */
  readonly bytes: { readonly p0p1: number; readonly dealer: number; readonly client: number };
  /** The first bytes P0 received in this run, when asked for. */
  readonly received?: Uint8Array;
  /** Seconds by kind of gate and role, when asked for; CPU seconds of each process. */
  readonly profile?: Record<Role, [string, number][]>;
  readonly cpu: Record<Role, number>;
}

export interface ClusterRun {
  readonly outputs: Record<string, ClientOutput>;
  readonly stats: RunStats;
}

export interface Cluster {
  readonly setupSeconds: number;
  /** The roles' process ids, for tests. */
  readonly pids: Readonly<Record<Role, number>>;
  /**
   * A step of this cluster's one session. `params`: those that no shape tells. Throws SubrosaError 'bad-input' when the program does not
   * take the inputs. Any other error ends the cluster: no process is left.
   */
  run(inputs: ClientInputs, params?: Params): Promise<ClusterRun>;
  peakRss(): Promise<Record<Role, number>>;
  close(): Promise<void>;
}

export interface ClusterOptions {
  /** Threads each role computes with. Default: the machine's cores shared out among the three. */
  readonly threads?: number;
  /** Bytes of memory each role keeps to; weights that go beyond it stay on disk. */
  readonly memory?: number;
  readonly timeoutSeconds?: number;
  readonly keepReceived?: boolean;
  readonly profile?: boolean;
  readonly onProgress?: (text: string) => void;
  /** Where a role runs: the address it listens at, and a command before Node's own, such as one that enters a network namespace. */
  readonly place?: (role: Role) => { readonly host: string; readonly command?: readonly string[] };
}

const roles: readonly Role[] = ['p0', 'p1', 'dealer'];
const loopback = (): { host: string; command?: readonly string[] } => ({ host: '127.0.0.1' });

class RoleProcess {
  private readonly waiting: { kind: FromRole['kind']; resolve: (m: FromRole) => void; reject: (e: Error) => void }[] = [];
  failure?: Error;

  constructor(
    readonly role: Role,
    readonly child: ChildProcess,
    onFailure: (e: Error) => void,
  ) {
    const fail = (e: Error): void => {
      this.failure ??= e;
      for (const w of this.waiting.splice(0)) w.reject(e);
      onFailure(e);
    };
    child.on('message', (m: FromRole) => {
      if (m.kind === 'failed') return fail(new SubrosaError('internal', `${role}: ${m.message}`));
      const i = this.waiting.findIndex((w) => w.kind === m.kind);
      if (i >= 0) this.waiting.splice(i, 1)[0].resolve(m);
    });
    child.on('exit', (code, signal) => fail(new SubrosaError('peer-failed', `${role}'s process ended (${signal ?? `exit code ${code}`})`)));
    child.on('error', (e) => fail(new SubrosaError('internal', `${role}'s process could not be started: ${e.message}`)));
  }

  /** Throws SubrosaError when the role is gone, or has not answered within `limit` milliseconds. */
  ask<K extends FromRole['kind']>(message: ToRole, kind: K, limit: number): Promise<Extract<FromRole, { kind: K }>> {
    if (this.failure) return Promise.reject(this.failure);
    return new Promise((resolve, reject) => {
      const late = setTimeout(
        () => reject(new SubrosaError('peer-failed', `${this.role}'s process has not answered for ${limit / 1000} s`)),
        limit,
      );
      this.waiting.push({
        kind,
        resolve: (m) => {
          clearTimeout(late);
          (resolve as (m: FromRole) => void)(m);
        },
        reject: (e) => {
          clearTimeout(late);
          reject(e);
        },
      });
      this.child.send(message);
    });
  }
}

/** Milliseconds a role may take to start: Node, the kernels' check, the weights. */
const loading = 120_000;

const sharedOut = (): number => Math.max(1, Math.min(8, Math.floor(availableParallelism() / roles.length)));

/**
 * Cores of a dealer that works for a language model: in a prompt's step both parties wait for it at times, and leave it all (SmolLM2, 64 tokens
 * on 2 cores: 1.75 s -> 1.52 s). Elsewhere its second thread is in their way (MiniLM-128: 0.66 s -> 0.72 s).
 */
const allCores = (): number => Math.min(8, availableParallelism());

/** Throws SubrosaError, LinkError or what reading the folder throws; no process is left behind. */
export async function startCluster(dir: string, options: ClusterOptions = {}): Promise<Cluster> {
  const from = performance.now();
  const { program, hash } = readCompiled(dir);
  const silenceTimeout = 1000 * (options.timeoutSeconds ?? 20);
  const links = { silenceTimeout };
  const identities = Object.fromEntries([...roles, 'client'].map((name) => [name, makeIdentity(name)])) as Record<
    Role | 'client',
    Identity
  >;
  const peers = [...roles, 'client' as const].map((name) => ({ name, spki: identities[name].spki }));
  const knows: Record<Role, readonly string[]> = { p0: ['p1', 'dealer', 'client'], p1: ['p0', 'dealer', 'client'], dealer: ['p0', 'p1'] };
  const entry = fileURLToPath(new URL(import.meta.url.endsWith('.ts') ? '../../dist/session/role.js' : './role.js', import.meta.url));
  let failed: Error | undefined;
  const open: Link[] = [];
  const place = options.place ?? loopback;
  const processes = roles.map((role) => {
    const [execPath, ...execArgv] = [...(place(role).command ?? []), process.execPath];
    const child = fork(entry, [], {
      execPath,
      execArgv,
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      env: process.env,
      serialization: 'advanced',
    });
    return new RoleProcess(role, child, (e) => {
      failed ??= e;
    });
  });
  const stop = async (): Promise<void> => {
    for (const l of open) l.close();
    await Promise.all(
      processes.map(({ child }) => {
        if (child.exitCode !== null || child.signalCode !== null) return undefined;
        const gone = new Promise((resolve) => child.once('exit', resolve));
        child.kill();
        // One that hangs, or is stopped, does not hear that.
        const harder = setTimeout(() => child.kill('SIGKILL'), 1000);
        return gone.then(() => clearTimeout(harder));
      }),
    );
  };
  const killAll = (): void => {
    for (const { child } of processes) child.kill('SIGKILL');
  };
  process.once('exit', killAll);
  try {
    options.onProgress?.('starting two parties and a dealer');
    const at: Record<string, { host: string; port: number }> = {};
    await Promise.all(
      processes.map(async (p) => {
        const { host } = place(p.role);
        const config = {
          role: p.role,
          host,
          dir,
          hash,
          identity: identities[p.role],
          peers: peers.filter((q) => knows[p.role].includes(q.name)),
          links,
          keepReceived: options.keepReceived ?? false,
          profile: options.profile ?? false,
          threads: options.threads ?? (p.role === 'dealer' && program.params.past ? allCores() : sharedOut()),
          memory: options.memory,
        };
        at[p.role] = { host, port: (await p.ask({ kind: 'start', config }, 'listening', Math.max(silenceTimeout, loading))).port };
      }),
    );
    options.onProgress?.('connecting by mutual TLS');
    await Promise.all(processes.map((p) => p.ask({ kind: 'dial', at }, 'connected', silenceTimeout)));
    for (const name of ['p0', 'p1'] as const)
      open.push(await dial({ ...at[name], identity: identities.client, peer: peers.find((q) => q.name === name)!, ...links }));
    const session = await ClientSession.open([open[0], open[1]], program, hash);
    const stats = async (): Promise<Record<Role, RoleStats>> =>
      Object.fromEntries(
        await Promise.all(processes.map(async (p) => [p.role, (await p.ask({ kind: 'stats' }, 'stats', silenceTimeout)).stats])),
      ) as Record<Role, RoleStats>;
    let before = await stats();
    const step = async (inputs: ClientInputs, params: Params | undefined, at: number) => {
      const outputs = await session.run(inputs, params);
      return { outputs, seconds: (performance.now() - at) / 1000, after: await stats() };
    };
    const clientBytes = (): number => open.reduce((s, l) => s + l.counters.sentBytes + l.counters.receivedBytes, 0);
    return {
      setupSeconds: (performance.now() - from) / 1000,
      pids: Object.fromEntries(processes.map((p) => [p.role, p.child.pid])) as Record<Role, number>,
      async run(inputs, params) {
        if (failed) {
          await stop();
          throw failed;
        }
        const sent = clientBytes();
        const at = performance.now();
        const { outputs, seconds, after } = await step(inputs, params, at).catch(async (e: Error) => {
          if (e instanceof SubrosaError && e.code === 'bad-input') throw e;
          // The session is lost, and with it the cluster's use: nothing is left behind.
          failed ??= e;
          await stop();
          throw failed;
        });
        const delta = (role: Role, peer: string): number => (after[role].sent[peer] ?? 0) - (before[role].sent[peer] ?? 0);
        const result: ClusterRun = {
          outputs,
          stats: {
            seconds,
            rounds: after.p0.rounds - before.p0.rounds,
            bytes: {
              p0p1: delta('p0', 'p1') + delta('p1', 'p0'),
              dealer: delta('dealer', 'p0') + delta('dealer', 'p1'),
              client: clientBytes() - sent,
            },
            received: options.keepReceived ? new Uint8Array(Buffer.from(after.p0.received, 'base64')) : undefined,
            profile: options.profile ? { p0: after.p0.profile, p1: after.p1.profile, dealer: after.dealer.profile } : undefined,
            cpu: { p0: after.p0.cpu - before.p0.cpu, p1: after.p1.cpu - before.p1.cpu, dealer: after.dealer.cpu - before.dealer.cpu },
          },
        };
        before = after;
        return result;
      },
      async peakRss() {
        const s = await stats();
        return { p0: s.p0.rss, p1: s.p1.rss, dealer: s.dealer.rss };
      },
      async close() {
        session.close();
        process.off('exit', killAll);
        await stop();
      },
    };
  } catch (e) {
    process.off('exit', killAll);
    await stop();
    throw failed ?? e;
  }
}
