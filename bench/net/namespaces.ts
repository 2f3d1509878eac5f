/**
 * Hosts as network namespaces of this machine, each with one line of a given rate both ways, and a way of `rtt`/2 between any two.
 *
 * Where the kernel has netem: a veth pair a host, a bridge between them, netem for the delay, tbf at both ends of the pair for the rate.
 * Elsewhere wire.c does the same over TUN devices; it is compiled with cc when first needed.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Network } from '../../src/cli/estimate.ts';

/** Milliseconds of traffic a queue holds before it drops: a common size of routers' buffers. */
const queue = 50;
const subnet = '10.213.0';

const run = (command: string, ...args: string[]): string =>
  execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
const works = (command: string, ...args: string[]): boolean => {
  try {
    run(command, ...args);
    return true;
  } catch {
    return false;
  }
};

/** One line for whoever lacks what this needs; undefined where nothing is missing. */
export function missing(): string | undefined {
  if (process.platform !== 'linux') return 'network namespaces need Linux';
  if (process.getuid?.() !== 0) return 'network namespaces need root: sudo npm run bench:net';
  if (!works('ip', '-V')) return 'ip is missing: install iproute2';
  if (!works('ip', 'netns')) return 'this kernel has no network namespaces';
  if (!netem() && !works('cc', '--version'))
    return 'this kernel has no netem (tc), and there is no cc to compile bench/net/wire.c in its place';
  return undefined;
}

let known: boolean | undefined;
function netem(): boolean {
  if (known !== undefined) return known;
  const probe = `sn-probe${process.pid}`;
  if (!works('tc', '-V') || !works('ip', 'netns', 'add', probe)) return false;
  known = works('tc', '-n', probe, 'qdisc', 'add', 'dev', 'lo', 'root', 'netem', 'delay', '1ms');
  run('ip', 'netns', 'del', probe);
  return known;
}

export interface Settings {
  /** tcp_congestion_control in every namespace. */
  readonly congestion?: string;
  /** Settings of docs/networks.md for servers far apart. */
  readonly tuned?: boolean;
}

/** Hosts of one network; `close` takes all of it down, and so does the end of this process. */
export class Namespaces {
  readonly #spaces: string[] = [];
  #wire?: ChildProcess;
  #folder?: string;
  readonly #names: readonly string[];
  readonly #atExit = (): void => this.close();

  private constructor(names: readonly string[]) {
    this.#names = names;
    process.once('exit', this.#atExit);
  }

  static async open(names: readonly string[], network: Network, settings: Settings = {}): Promise<Namespaces> {
    const n = new Namespaces(names);
    try {
      for (const name of names) {
        run('ip', 'netns', 'add', n.space(name));
        n.#spaces.push(n.space(name));
      }
      if (netem()) n.#bridge(network);
      else await n.#tuns(network);
      for (const name of names) n.#kernel(name, settings);
      return n;
    } catch (e) {
      n.close();
      throw e;
    }
  }

  /** The way packets are delayed here. */
  static get means(): string {
    return netem() ? 'tc netem' : 'bench/net/wire.c (this kernel has no netem)';
  }

  space(name: string): string {
    return `sn${process.pid}-${name}`;
  }

  host(name: string): string {
    return `${subnet}.${this.#names.indexOf(name) + 1}`;
  }

  /** What stands before a command that is to run on a host. */
  at(name: string): string[] {
    return ['ip', 'netns', 'exec', this.space(name)];
  }

  close(): void {
    process.off('exit', this.#atExit);
    this.#wire?.kill('SIGKILL');
    this.#wire = undefined;
    for (const space of this.#spaces.splice(0)) works('ip', 'netns', 'del', space);
    if (this.#folder) rmSync(this.#folder, { recursive: true, force: true });
  }

  #device(name: string): string {
    return `sn${process.pid % 1e5}${name}`.slice(0, 15);
  }

  #bridge({ rtt, bandwidth }: Network): void {
    const hub = this.space('hub');
    run('ip', 'netns', 'add', hub);
    this.#spaces.push(hub);
    run('ip', '-n', hub, 'link', 'add', 'hub', 'type', 'bridge');
    run('ip', '-n', hub, 'link', 'set', 'hub', 'up');
    const rate = ['tbf', 'rate', `${bandwidth}bit`, 'burst', `${Math.max(131072, Math.round(bandwidth / 4000))}`, 'latency', `${queue}ms`];
    for (const name of this.#names) {
      const space = this.space(name);
      run('ip', '-n', hub, 'link', 'add', name, 'type', 'veth', 'peer', 'name', 'net', 'netns', space);
      run('ip', '-n', hub, 'link', 'set', name, 'master', 'hub', 'up');
      run('tc', '-n', hub, 'qdisc', 'add', 'dev', name, 'root', ...rate);
      run('ip', '-n', space, 'addr', 'add', `${this.host(name)}/24`, 'dev', 'net');
      run('ip', '-n', space, 'link', 'set', 'net', 'up');
      run('tc', '-n', space, 'qdisc', 'add', 'dev', 'net', 'root', 'handle', '1:', 'netem', 'delay', `${rtt * 5e5}us`, 'limit', '200000');
      run('tc', '-n', space, 'qdisc', 'add', 'dev', 'net', 'parent', '1:', 'handle', '2:', ...rate);
    }
  }

  async #tuns({ rtt, bandwidth }: Network): Promise<void> {
    this.#folder = mkdtempSync(join(tmpdir(), 'subrosa-wire-'));
    const wire = join(this.#folder, 'wire');
    run('cc', '-O2', '-o', wire, join(import.meta.dirname, 'wire.c'));
    const args = [bandwidth, rtt * 5e5, queue * 1000].map((v) => `${Math.round(v)}`);
    const child = spawn(wire, [...args, ...this.#names.map((n) => `${this.#device(n)}=${this.host(n)}`)], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#wire = child;
    await new Promise<void>((resolve, reject) => {
      child.stdout.once('data', () => resolve());
      child.once('exit', (code) => reject(new Error(`wire ended with exit code ${code}`)));
      child.once('error', reject);
    });
    for (const name of this.#names) {
      const space = this.space(name);
      run('ip', 'link', 'set', this.#device(name), 'netns', space, 'name', 'net');
      run('ip', '-n', space, 'addr', 'add', `${this.host(name)}/24`, 'dev', 'net');
      run('ip', '-n', space, 'link', 'set', 'net', 'up', 'txqueuelen', '10000');
    }
  }

  #kernel(name: string, { congestion, tuned = false }: Settings): void {
    run('ip', '-n', this.space(name), 'link', 'set', 'lo', 'up');
    const values = {
      ...(congestion ? { 'net.ipv4.tcp_congestion_control': congestion } : {}),
      'net.ipv4.tcp_slow_start_after_idle': tuned ? '0' : '1',
      'net.ipv4.tcp_rmem': tuned ? '4096 131072 67108864' : '4096 131072 6291456',
      'net.ipv4.tcp_wmem': tuned ? '4096 65536 67108864' : '4096 16384 4194304',
      // A route's old measurements would tell the next run something.
      'net.ipv4.tcp_no_metrics_save': '1',
    };
    for (const [key, value] of Object.entries(values)) run(...(this.at(name) as [string]), 'sysctl', '-qw', `${key}=${value}`);
  }
}
