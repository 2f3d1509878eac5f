/** `subrosa up` as a person starts it, and a real browser in front of it. */
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { fileURLToPath } from 'node:url';
import { type Browser, chromium } from 'playwright-core';

const bin = fileURLToPath(new URL('../bin/subrosa.js', import.meta.url));

export interface Up {
  readonly pid: number;
  readonly web: string;
  readonly parties: readonly [string, string];
  readonly models: readonly string[];
  readonly stdout: () => string;
  readonly stderr: () => string;
  /** Process ids of P0, P1 and the dealer. */
  readonly roles: Readonly<Record<'p0' | 'p1' | 'dealer', number>>;
  /** Sends a signal and waits for the end. */
  end(signal: NodeJS.Signals): Promise<number | null>;
  /** Resolves with the exit code. */
  readonly ended: Promise<number | null>;
}

/** Starts it with `--json` and waits for its line. Throws what it says when it ends before. */
export async function up(args: readonly string[]): Promise<Up> {
  const child = spawn(process.execPath, [bin, 'up', '--json', ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, NO_COLOR: '1' },
  });
  let [stdout, stderr] = ['', ''];
  child.stderr.on('data', (d) => {
    stderr += d;
  });
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  await new Promise<void>((resolve, reject) => {
    child.stdout.on('data', (d) => {
      stdout += d;
      if (stdout.includes('\n')) resolve();
    });
    ended.then((code) => reject(new Error(`subrosa up ended with ${code}: ${stderr}`)));
  });
  const { web, parties, models } = JSON.parse(stdout) as Pick<Up, 'web' | 'parties' | 'models'>;
  // In the order in which they were started.
  const [dealer, p0, p1] = execFileSync('ps', ['-o', 'pid=', '--ppid', `${child.pid}`], { encoding: 'utf8' })
    .trim()
    .split(/\s+/)
    .map(Number)
    .sort((a, b) => a - b);
  return {
    pid: child.pid as number,
    web,
    parties,
    models,
    stdout: () => stdout,
    stderr: () => stderr,
    roles: { dealer, p0, p1 },
    ended,
    end(signal) {
      child.kill(signal);
      return ended;
    },
  };
}

export const alive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};
/** Folders that it keeps keys and models in. */
export const foldersOf = ({ pid }: Up): string[] => readdirSync(tmpdir()).filter((f) => f.startsWith(`subrosa-up-${pid}-`));

/** Quiet and offline: it asks nobody for anything but what a test has it load. */
const flags =
  '--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync'.split(
    ' ',
  );

export function browser(): Promise<Browser> {
  const executablePath = ['/usr/bin/chromium', '/usr/bin/chromium-browser'].find((p) => existsSync(p));
  if (!executablePath) throw new Error('the page is tested in Chromium, which is not installed: apt-get install chromium');
  return chromium.launch({ executablePath, args: flags });
}
