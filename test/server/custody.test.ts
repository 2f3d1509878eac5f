/**
 * Who holds what: three processes, a model with private weights deployed to them twice, and then a look at every file they have and at all
 * of their memory. No role may have the weights, a party nothing of the other's seed, the dealer nothing of F.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { connect } from '../../src/client/index.ts';
import { calibrate } from '../../src/compile/calibrate.ts';
import { compile } from '../../src/compile/compile.ts';
import { type Protected, protect, readCompiled, writeCompiled } from '../../src/folder/index.ts';
import { type Graph, tensor } from '../../src/graph/graph.ts';
import { interpret } from '../../src/graph/interpret.ts';
import { panelWords } from '../../src/ring/kernels/kernels.ts';
import { firstFree, newMemory } from '../../src/ring/kernels/memory.ts';
import { formats, smallBytes } from '../../src/ring/kernels/panels.ts';
import { wasmKernels } from '../../src/ring/kernels/wasm.ts';
import type { Role } from '../../src/runtime/model.ts';
import { RoleModels } from '../../src/server/models.ts';
import { TestCluster } from './cluster.ts';
import { modelsDir, roles } from './parts.ts';
import { found, inProcess, onDisk, type Patterns } from './search.ts';

const dir = mkdtempSync(join(tmpdir(), 'subrosa-custody-'));
const width = 64;
const wave = (n: number, f: number): number[] => Array.from({ length: n }, (_, i) => Math.sin(f * (i + 1) ** 1.5));
const W = tensor(wave(width * width, 0.7), [width, width]);
const graph: Graph = {
  name: 'secret',
  inputs: [{ name: 'x', dtype: 'f32', shape: [1, width] }],
  outputs: ['y'],
  nodes: [
    { op: 'Linear', name: '/a', inputs: ['x', 'W'], outputs: ['h'], attrs: {} },
    { op: 'Gelu', name: '/b', inputs: ['h'], outputs: ['y'], attrs: { approximate: 'none' } },
  ],
  constants: new Map([['W', W]]),
};
const input = (i: number) => ({ x: tensor(wave(width, i + 1.3), [1, width]) });
const samples = Array.from({ length: 8 }, (_, i) => input(i));
const identity: Graph = { ...graph, nodes: [], constants: new Map(), outputs: ['x'] };
const client = {
  name: 'secret',
  task: 'tensors' as const,
  family: 'test',
  labels: [],
  maxTokens: 0,
  firstPosition: 0,
  calibration: 'waves',
};

function compiled(kind: 'public' | 'private'): { dir: string; weights: ReadonlyMap<string, { data: Int32Array }> } {
  const at = join(dir, kind);
  const c = compile(graph, calibrate(graph, samples), { weights: kind, max: {} });
  writeCompiled(at, { ...c, client, graphs: { before: identity, after: identity }, plain: graph, record: { key: 'k', tightest: [] } });
  return { dir: at, weights: c.weights };
}

/** 32 bytes from the middle. */
const middle = (a: ArrayBufferView): Buffer =>
  Buffer.from(a.buffer, a.byteOffset, a.byteLength).subarray(a.byteLength / 2, a.byteLength / 2 + 32);
/** Words as they lie in a file, and as a product's panels in a role's memory. */
function forms(name: string, words: Int32Array): Patterns {
  const k = wasmKernels(newMemory(2 ** 20));
  const panels = firstFree + 4 * words.length;
  k.i32.set(words, firstFree / 4);
  k.packB(panels, firstFree, width, width, width, 0, 4);
  return {
    [`${name}, words`]: middle(words),
    [`${name}, panels`]: Buffer.from(middle(k.u8.slice(panels, panels + 4 * panelWords(width, width)))),
  };
}

/** The same of public weights, which are kept in 16 bits. */
function halves(words: Int16Array): Patterns {
  const k = wasmKernels(newMemory(2 ** 20));
  const panels = firstFree + 2 * words.length;
  k.u8.set(new Uint8Array(words.buffer), firstFree);
  k.packHalves(panels, firstFree, width, width, width, 0);
  return { 'W, 16 bits': middle(words), 'W, halves': Buffer.from(middle(k.u8.slice(panels, panels + smallBytes(width, width, formats.halves)))) };
}

const hidden = compiled('private');
const splits = [1, 2].map((n) => protect(readCompiled(hidden.dir), join(dir, `parts-${n}`)));

/** What of a split only some may have, as bytes to look for. */
function secretsOf({ roles: of }: Protected, n: number) {
  const [[name, { data: clear }]] = [...hidden.weights].filter(([, w]) => w.data.length === width * width);
  const [p0, p1] = [of.p0.weights(), of.p1.weights()];
  const [F, b0, b1] = [p0.words(name), p0.weightMask(0, name), p1.weightMask(1, name)].map((t) => Int32Array.from(t.data));
  p0.close();
  p1.close();
  const seed = (role: 'p0' | 'p1'): Patterns => {
    const [, text] = readFileSync(join(of[role].dir, 'seed'), 'utf8').split('\n');
    return { [`seed of ${role} as text, ${n}`]: Buffer.from(text), [`seed of ${role}, ${n}`]: Buffer.from(text, 'hex') };
  };
  const both = b0.map((v, i) => v + b1[i]);
  return {
    W: { ...forms('W', clear), ...halves(Int16Array.from(clear)), 'W, floats': middle(Float32Array.from(W.data)) },
    F: forms(`F, ${n}`, F),
    B: forms(`B, ${n}`, both),
    p0: { ...seed('p0'), ...forms(`B0, ${n}`, b0) },
    p1: { ...seed('p1'), ...forms(`B1, ${n}`, b1) },
  };
}
const secrets = splits.map((s, i) => secretsOf(s, i + 1));
const all = (pick: (s: (typeof secrets)[number]) => Patterns): Patterns => Object.assign({}, ...secrets.map(pick)) as Patterns;
const forbidden: Record<Role, Patterns> = {
  p0: all((s) => ({ ...s.W, ...s.B, ...s.p1 })),
  p1: all((s) => ({ ...s.W, ...s.B, ...s.p0 })),
  dealer: all((s) => ({ ...s.W, ...s.F })),
};
/** What a role has for sure: where this is not found, nothing would be. */
const held = {
  disk: {
    p0: ['F, 1, words', 'F, 2, words', 'seed of p0 as text, 1', 'seed of p0 as text, 2'],
    p1: ['F, 1, words', 'F, 2, words', 'seed of p1 as text, 1', 'seed of p1 as text, 2'],
    dealer: [1, 2].flatMap((n) => ['p0', 'p1'].map((p) => `seed of ${p} as text, ${n}`)).sort(),
  },
  memory: {
    p0: ['B0, 1, panels', 'B0, 2, panels', 'F, 1, panels', 'F, 2, panels', 'seed of p0, 1', 'seed of p0, 2'],
    p1: ['B1, 1, panels', 'B1, 2, panels', 'F, 1, panels', 'F, 2, panels', 'seed of p1, 1', 'seed of p1, 2'],
    dealer: ['B, 1, panels', 'B, 2, panels', ...[1, 2].flatMap((n) => ['p0', 'p1'].map((p) => `seed of ${p}, ${n}`))],
  },
};
const every = all((s) => ({ ...s.W, ...s.F, ...s.B, ...s.p0, ...s.p1 }));
const named = (names: readonly string[]): Patterns => Object.fromEntries(names.map((n) => [n, every[n]]));

let cluster: TestCluster;
beforeAll(async () => {
  cluster = await TestCluster.start(join(dir, 'cluster'));
}, 60_000);
afterAll(async () => {
  await cluster?.close();
  rmSync(dir, { recursive: true });
});

test('two splits share neither seeds nor masked weights nor a name, and both are the model', async () => {
  expect(splits[0].hash).not.toBe(splits[1].hash);
  expect(new Set(secrets.flatMap((s) => Object.values({ ...s.F, ...s.p0, ...s.p1 }).map((b) => Buffer.from(b).toString('hex')))).size).toBe(
    20,
  );
  for (const s of splits) {
    const { code, stderr } = await cluster.deploy(s.dir);
    expect([code, stderr]).toEqual([0, expect.stringContaining('deployed')]);
  }
  const x = input(3);
  const plain = interpret(graph, x).y.data;
  for (const s of splits) {
    const model = await connect(cluster.client(s.hash));
    const { y } = await model.run({ x: { shape: [1, width], data: Array.from(x.x.data) } });
    expect(Math.max(...Array.from(y.data, (v, i) => Math.abs(v - plain[i])))).toBeLessThan(0.05);
    await model.close();
  }
});

describe.each(roles)('%s', (role) => {
  test('has on its disk what it needs, and nothing it must not have', () => {
    const folder = join(cluster.dir, role);
    expect(onDisk(folder, named(held.disk[role]))).toEqual(held.disk[role].toSorted());
    expect(onDisk(folder, forbidden[role])).toEqual([]);
  });
  test.runIf(existsSync('/proc/self/pagemap'))(
    'has in its memory, all of the process, what it computes with, and nothing it must not have',
    () => {
      const pid = cluster.pid(role);
      expect(inProcess(pid, named(held.memory[role]))).toEqual(held.memory[role].toSorted());
      expect(inProcess(pid, forbidden[role])).toEqual([]);
    },
  );
  test('the same in the memory of its models alone, where no process can be read', () => {
    const models = new RoleModels({ dir: modelsDir(role, ...splits), role, memory: 2 ** 31, threads: 1 });
    const memory = splits.map((s) => models.acquire(s.hash).k.u8.subarray(0, 2 ** 24));
    const panels = held.memory[role].filter((n) => n.includes('panels'));
    expect(found(memory, named(panels))).toEqual(panels.toSorted());
    expect(found(memory, forbidden[role])).toEqual([]);
    models.close();
  });
});

test('the search finds what should not be there: planted on a disk, in a process, in a model’s memory', async () => {
  const open = compiled('public');
  expect(onDisk(open.dir, secrets[0].W)).toEqual(['W, 16 bits', 'W, floats']);
  const parts = protect(readCompiled(open.dir), join(dir, 'parts-open'));
  const models = new RoleModels({ dir: modelsDir('p0', parts), role: 'p0', memory: 2 ** 31, threads: 1 });
  expect(found([models.acquire(parts.hash).k.u8.subarray(0, 2 ** 24)], secrets[0].W)).toEqual(['W, halves']);
  models.close();
  // The dealer's seeds and F in a party's folder: found on the disk, and refused by the role.
  const folder = modelsDir('p0', splits[0]);
  writeFileSync(join(folder, splits[0].hash, 'seeds'), readFileSync(join(splits[0].roles.dealer.dir, 'seeds')), { mode: 0o600 });
  expect(onDisk(folder, forbidden.p0)).toEqual(['seed of p1 as text, 1']);
  expect(new RoleModels({ dir: folder, role: 'p0', memory: 2 ** 31, threads: 1 }).list()).toEqual([]);
  if (!existsSync('/proc/self/pagemap')) return;
  // A party that was given the model with public weights has them in its memory.
  expect((await cluster.deploy(parts.dir)).code).toBe(0);
  const model = await connect(cluster.client(parts.hash));
  await model.run({ x: { shape: [1, width], data: Array.from(input(1).x.data) } });
  await model.close();
  expect(inProcess(cluster.pid('p0'), forbidden.p0)).toContain('W, halves');
  expect(inProcess(cluster.pid('dealer'), forbidden.dealer)).toEqual([]);
});
