/** The shipped model over real processes and mutual TLS: answers, what crosses the wire, and every way a role can fail. */
import { appendFileSync, cpSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { readCompiled } from '../src/folder/index.ts';
import { cost } from '../src/program/cost.ts';
import type { Role } from '../src/runtime/model.ts';
import { type Cluster, type ClusterOptions, startCluster } from '../src/session/cluster.ts';
import { argmax, asFolder, calibrated, compiled, furthest, images, plainLogits } from './vit.ts';

const folders = new Map<string, { dir: string; remove: () => void }>();
beforeAll(async () => {
  const c = await calibrated(48);
  for (const kind of ['public', 'private'] as const) folders.set(kind, asFolder(compiled(c, kind)));
}, 60_000);
afterAll(() => {
  for (const f of folders.values()) f.remove();
});

let cluster: Cluster | undefined;
/** Every process any test of this file started, stopped ones too: none outlives its test. */
afterEach(async () => {
  await cluster?.close();
  const pids = Object.values(cluster?.pids ?? {});
  cluster = undefined;
  expect(pids.filter(lives)).toEqual([]);
});
async function start(kind: string, options: ClusterOptions = {}): Promise<Cluster> {
  cluster = await startCluster(folders.get(kind)!.dir, { threads: 1, ...options });
  return cluster;
}
/** Whether a process runs; one that has ended and waits to be collected does not. */
function lives(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    if (existsSync('/proc/self')) return false;
  }
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
const input = (i: number) => {
  const { shape, data } = images[i].image;
  return { [readCompiled(folders.get('public')!.dir).program.inputs[0].name]: { shape, data: Array.from(data) } };
};

describe.each(['public', 'private'] as const)('with %s weights', (kind) => {
  test('answers are the plaintext’s; rounds and bytes on each link are those of cost, exactly, every time', async () => {
    const c = await start(kind);
    const { rounds, bytes } = cost(readCompiled(folders.get(kind)!.dir).program, {});
    for (let i = 0; i < 4; i++) {
      const { outputs, stats } = await c.run(input(i));
      const [got] = Object.values(outputs);
      const plain = plainLogits(images[i]);
      expect(got.shape).toEqual([1, 10]);
      expect(argmax(got.data)).toBe(argmax(plain));
      expect(furthest(got.data, plain)).toBeLessThanOrEqual(0.02);
      expect({ rounds: stats.rounds, bytes: stats.bytes }).toEqual({ rounds, bytes });
    }
  });
});

test('what P0 receives differs from step to step and from session to session', async () => {
  const seen: Buffer[] = [];
  for (let session = 0; session < 2; session++) {
    const c = await start('public', { keepReceived: true });
    for (let step = 0; step < 2; step++) seen.push(Buffer.from((await c.run(input(0))).stats.received!));
    await c.close();
  }
  expect(new Set(seen.map((b) => b.length)).size).toBe(1);
  for (const [i, a] of seen.entries())
    for (const b of seen.slice(i + 1)) {
      // One byte in 256 agrees by chance, and the zeros that fill blocks.
      const same = a.reduce((s, v, j) => s + (v === b[j] ? 1 : 0), 0);
      expect(same / a.length).toBeLessThan(0.15);
    }
}, 60_000);

describe('a role that', () => {
  const others: Record<Role, RegExp> = { p0: /\bp0\b/, p1: /\bp1\b/, dealer: /dealer/ };
  const named = Object.entries(others) as [Role, RegExp][];

  test.each(named)('is killed in the middle of a run ends it at once, by its name: %s', async (role, name) => {
    const c = await start('public', { timeoutSeconds: 10 });
    await c.run(input(0));
    const from = performance.now();
    const run = c.run(input(1));
    setTimeout(() => process.kill(c.pids[role], 'SIGKILL'), 15);
    await expect(run).rejects.toThrow(name);
    expect(performance.now() - from).toBeLessThan(5000);
    expect(Object.values(c.pids).filter(lives)).toEqual([]);
    await expect(c.run(input(0))).rejects.toThrow(name);
  });

  test.each(named)('is killed between runs ends the next one: %s', async (role, name) => {
    const c = await start('public', { timeoutSeconds: 10 });
    process.kill(c.pids[role], 'SIGKILL');
    await new Promise((resolve) => setTimeout(resolve, 200));
    await expect(c.run(input(0))).rejects.toThrow(name);
    expect(Object.values(c.pids).filter(lives)).toEqual([]);
  });

  test.each(named)('falls silent ends the run within the timeout, by its name: %s', async (role, name) => {
    const c = await start('public', { timeoutSeconds: 1 });
    await c.run(input(0));
    process.kill(c.pids[role], 'SIGSTOP');
    try {
      const from = performance.now();
      await expect(c.run(input(1))).rejects.toThrow(name);
      const seconds = (performance.now() - from) / 1000;
      expect(seconds).toBeGreaterThan(0.5);
      expect(seconds).toBeLessThan(4);
    } finally {
      if (lives(c.pids[role])) process.kill(c.pids[role], 'SIGKILL');
    }
    expect(Object.values(c.pids).filter(lives)).toEqual([]);
  });

  test('is silent while nothing is due disturbs nobody', async () => {
    const c = await start('public', { timeoutSeconds: 1 });
    await c.run(input(0));
    process.kill(c.pids.p1, 'SIGSTOP');
    await new Promise((resolve) => setTimeout(resolve, 2500));
    process.kill(c.pids.p1, 'SIGCONT');
    await c.run(input(1));
  });
});

describe('a folder that', () => {
  const other = (name: string): string => {
    const dir = `${folders.get('public')!.dir}-${name}`;
    cpSync(folders.get('public')!.dir, dir, { recursive: true });
    return dir;
  };
  test('was changed is refused: program', async () => {
    const dir = other('program');
    appendFileSync(join(dir, 'program.json'), ' ');
    await expect(startCluster(dir)).rejects.toThrow(/program\.json/);
  });
  test('was changed is refused: weights', async () => {
    const dir = other('weights');
    const file = join(dir, 'weights.safetensors');
    const bytes = readFileSync(file);
    bytes[bytes.length - 1] ^= 1;
    writeFileSync(file, bytes);
    await expect(startCluster(dir)).rejects.toThrow(/weights\.safetensors/);
  });
  test('breaks a rule is refused by every role', async () => {
    const dir = other('rule');
    const path = join(dir, 'program.json');
    const text = readFileSync(path, 'utf8');
    // An extension that opens one bit less than its bound needs.
    const program = readCompiled(dir).program;
    const gate = program.gates.find((g) => g.gate === 'extend')!;
    const tensor = program.tensors[gate.out[0]];
    const at = text.indexOf(`"bound":${tensor.bound},`);
    expect(at).toBeGreaterThan(0);
    writeFileSync(path, text.replaceAll(`"bound":${tensor.bound},`, `"bound":${2 ** 24},`));
    await expect(startCluster(dir)).rejects.toThrow(/\(rule [56]\)/);
  });
  afterAll(() => {
    for (const name of ['program', 'weights', 'rule']) rmSync(`${folders.get('public')!.dir}-${name}`, { recursive: true, force: true });
  });
});

test('an input that the program does not take is refused before anything is sent, and the session goes on', async () => {
  const c = await start('public');
  const [name] = Object.keys(input(0));
  const bad = (change: (data: number[]) => void, shape = [1, 1, 28, 28]) => {
    const { data } = input(0)[name];
    change(data);
    return { [name]: { shape, data } };
  };
  for (const given of [
    bad((d) => (d[3] = Number.NaN)),
    bad((d) => (d[783] = 1e6)),
    bad((d) => (d[0] = Number.POSITIVE_INFINITY)),
    bad(() => {}, [1, 1, 784]),
    bad((d) => d.pop()),
    {},
  ])
    await expect(c.run(given)).rejects.toMatchObject({ code: 'bad-input' });
  const { stats } = await c.run(input(0));
  expect(stats.bytes).toEqual(cost(readCompiled(folders.get('public')!.dir).program, {}).bytes);
});

test('two clusters one after another, and a run after closing', async () => {
  for (let i = 0; i < 2; i++) {
    const c = await start('public');
    expect(argmax(Object.values((await c.run(input(i))).outputs)[0].data)).toBe(argmax(plainLogits(images[i])));
    await c.close();
    await expect(c.run(input(0))).rejects.toThrow();
  }
});
