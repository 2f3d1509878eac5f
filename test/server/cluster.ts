/** A cluster as its operators start it: keys by `subrosa keys`, three processes, a model by `subrosa deploy`. */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { Agent, request } from 'node:https';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import type { ConnectOptions } from '../../src/client/index.ts';
import type { Role } from '../../src/runtime/model.ts';
import { subrosa } from '../cli/subrosa.ts';
import { roles } from './parts.ts';

const bin = fileURLToPath(new URL('../../bin/subrosa.js', import.meta.url));

export class TestCluster {
  private readonly children = new Map<Role, ChildProcess>();

  private constructor(
    readonly dir: string,
    readonly port: number,
  ) {}

  /** Resolves when all roles are connected. */
  static async start(dir: string): Promise<TestCluster> {
    const port = await freePorts(5);
    const made = await subrosa(['keys', dir, '--port', `${port}`]);
    if (made.code !== 0) throw new Error(made.stderr);
    const cluster = new TestCluster(dir, port);
    await Promise.all(roles.map((role) => cluster.run(role)));
    return cluster;
  }

  /** Starts a role; resolves when it says that it is ready. */
  run(role: Role): Promise<void> {
    const child = spawn(process.execPath, [bin, role === 'dealer' ? 'dealer' : 'party', '--config', join(this.dir, role, `${role}.toml`)], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.children.set(role, child);
    let said = '';
    return new Promise((resolve, reject) => {
      for (const stream of [child.stdout, child.stderr])
        stream?.on('data', (d) => {
          said += d;
          if (said.includes('"msg":"ready"')) resolve();
        });
      child.once('close', () => reject(new Error(`${role} ended: ${said}`)));
    });
  }

  pid(role: Role): number {
    return this.children.get(role)?.pid as number;
  }

  async stop(role: Role): Promise<void> {
    const child = this.children.get(role);
    this.children.delete(role);
    if (!child || child.exitCode !== null) return;
    const ended = new Promise((resolve) => child.once('close', resolve));
    child.kill('SIGKILL');
    await ended;
  }

  async close(): Promise<void> {
    await Promise.all(roles.map((role) => this.stop(role)));
  }

  deploy(...args: string[]): ReturnType<typeof subrosa> {
    return subrosa(['deploy', ...args, '--to', join(this.dir, 'cluster.toml'), '--key', join(this.dir, 'owner.key')]);
  }

  /** What a client needs to use a model here. */
  client(model: string): ConnectOptions {
    const token = readFileSync(join(this.dir, 'client.token'), 'utf8').trim();
    return {
      parties: [`https://localhost:${this.port}`, `https://localhost:${this.port + 1}`],
      model,
      token,
      fetch: trusting(readFileSync(join(this.dir, 'ca.pem'), 'utf8')),
    };
  }
}

/** The first of n ports that are free now. */
async function freePorts(n: number): Promise<number> {
  for (;;) {
    const first = 20_000 + Math.floor(Math.random() * 30_000);
    const free = await Promise.all(
      Array.from(
        { length: n },
        (_, i) =>
          new Promise<boolean>((resolve) => {
            const server = createServer();
            server.once('error', () => resolve(false)).listen(first + i, '127.0.0.1', () => server.close(() => resolve(true)));
          }),
      ),
    );
    if (free.every(Boolean)) return first;
  }
}

/** fetch, with an authority of one's own: Node's takes none. */
export function trusting(ca: string): NonNullable<ConnectOptions['fetch']> {
  const agent = new Agent({ ca, keepAlive: true });
  return (input, init = {}) =>
    new Promise((resolve, reject) => {
      const call = request(
        String(input),
        { method: init.method, agent, headers: Object.fromEntries(new Headers(init.headers)) },
        (answer) => {
          const headers = Object.entries(answer.headers).flatMap(([k, v]): [string, string][] => (typeof v === 'string' ? [[k, v]] : []));
          const empty = answer.statusCode === 204 || answer.statusCode === 304;
          if (empty) answer.resume();
          resolve(new Response(empty ? null : (Readable.toWeb(answer) as ReadableStream), { status: answer.statusCode, headers }));
        },
      );
      call.on('error', reject);
      init.signal?.addEventListener('abort', () => call.destroy());
      call.end(init.body as Uint8Array | string | undefined);
    });
}
