import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { Case, integers, threeKernels } from '../gates/gate.case.ts';
import type { Program } from '../program/program.ts';
import { formats, packBlocks, unpackPanels } from '../ring/kernels/panels.ts';
import { fitInto, footprint } from '../runtime/footprint.ts';
import { LocalCluster } from '../runtime/local.ts';
import { loadModel, type Model, type Role } from '../runtime/model.ts';
import { FileReader } from './reader.ts';
import { type Integers, openWeights, writePrivate, writePublic } from './weights.ts';

const home = mkdtempSync(join(tmpdir(), 'subrosa-reader-'));
afterAll(() => rmSync(home, { recursive: true }));

const [K, N, M] = [384, 416, 3000];
const matrix = (rows: number, columns: number, most: number): Integers => ({
  shape: [rows, columns],
  data: Int32Array.from(integers(rows * columns, most)),
});
const blocks = packBlocks(formats.blocks4, K, N, (j, b) => ({
  scale: 100 + j + b,
  second: j - 300,
  q: Array.from({ length: 32 }, (_, i) => (i + j + b) % 16),
}));
/** Of halves, of words, in blocks. */
const weights = {
  halves: matrix(K, N, 2 ** 14),
  words: matrix(N, M, 2 ** 20),
  blocks: {
    shape: [K, N],
    blocks,
    get data() {
      return unpackPanels(blocks, formats.blocks4, K, N);
    },
  } as Integers,
};

/** y = (x·halves)·words, z = x·blocks. */
function programOf(kind: 'public' | 'private', weightsHash: string): Program {
  const c = new Case(weights, kind === 'private');
  const gate = kind === 'public' ? 'matmulPublic' : 'matmulPrivate';
  const times = (x: number, weight: string, k: number, n: number, inBlocks?: 4): number =>
    c.gate(gate, [kind === 'public' ? x : c.gate('open', [x], null, { kind: 'wire' })], { weight, K: k, N: n, blocks: inBlocks });
  const x = c.input([{ dim: 'n' } as unknown as number, K]);
  c.output(times(times(x, 'halves', K, N), 'words', N, M));
  c.output(times(x, 'blocks', K, N, kind === 'public' ? 4 : undefined));
  const program = c.program({ n: { min: 1, max: 3 } });
  return { ...program, weightsHash, inputs: [{ ...program.inputs[0], shape: ['n', K] }] };
}

function product(x: readonly number[], k: number, w: Integers): number[] {
  const n = w.shape[1];
  const { data } = w;
  return Array.from({ length: (x.length / k) * n }, (_, i) => {
    let s = 0;
    for (let j = 0; j < k; j++) s = (s + Math.imul(x[Math.floor(i / n) * k + j], data[j * n + (i % n)])) | 0;
    return s;
  });
}

describe.each(['public', 'private'] as const)('%s weights that stay on disk', (kind) => {
  test('products are those of weights in memory', () => {
    const dir = join(home, kind);
    const list = new Map(Object.entries(weights));
    mkdirSync(dir);
    const hash = kind === 'public' ? writePublic(dir, list) : writePrivate(dir, list);
    const program = programOf(kind, hash);
    const open = (role: Role) => openWeights(kind === 'public' ? dir : join(dir, role), role, kind, hash);
    for (const kept of [0, 300_000]) {
      const sources = { p0: open('p0'), p1: open('p1'), dealer: open('dealer') };
      const load = (role: Role, i: number): Model =>
        loadModel(program, role, threeKernels()[i], sources[role], { bytes: kept, reader: sources[role].reader?.() });
      const cluster = new LocalCluster({ p0: load('p0', 0), p1: load('p1', 1), dealer: load('dealer', 2) });
      for (const n of [1, 3, 1]) {
        const x = integers(n * K, 2 ** 16);
        const { y0, y1 } = cluster.run({ n }, { x0: x });
        expect([...y0.data]).toEqual(product(product(x, K, weights.halves), N, weights.words));
        expect([...y1.data]).toEqual(product(x, K, weights.blocks));
      }
      for (const s of Object.values(sources)) s.close();
    }
    // The same program, measured.
    const p0 = open('p0');
    const none = footprint(program, 'p0', p0, 0);
    expect(loadModel(program, 'p0', threeKernels()[0], p0, { bytes: 0, reader: p0.reader?.() }).end).toBe(none.weights);
    expect(fitInto(program, 'p0', p0, 2 ** 31, 1)).toEqual({ footprint: footprint(program, 'p0', p0) });
    const room = none.weights + none.step + none.caches + 1000;
    expect(fitInto(program, 'p0', p0, room, 1)).toEqual({ footprint: none, kept: 1000 });
    p0.close();
  });
});

describe('the reader', () => {
  const path = join(home, 'bytes');
  const bytes = Uint8Array.from({ length: 1 << 20 }, (_, i) => (i * 31) >> 3);
  writeFileSync(path, bytes);
  const file = { tensors: new Map([['t', { name: 't', dtype: 'U8' as const, shape: [bytes.length], begin: 0, end: bytes.length }]]) };

  test('gives pieces in any order, and round and round', () => {
    const reader = new FileReader(path, file);
    const cuts = Array.from({ length: 64 }, (_, i) => ({ from: (i * 16384) % 1_000_000, bytes: 1 + ((i * 977) % 20000) }));
    const numbers = cuts.map(({ from, bytes: n }) => reader.add('t', from, n));
    const order = [...numbers, ...numbers, 5, 6, 7, 3, 60, 61, 62, 63, 0, 1];
    for (const i of order) expect(Buffer.compare(reader.take(i), bytes.subarray(cuts[i].from, cuts[i].from + cuts[i].bytes))).toBe(0);
    expect(() => reader.add('t', 0, bytes.length + 1)).toThrow('no');
    expect(() => reader.add('u', 0, 1)).toThrow("'u'");
    reader.close();
  });
  test('says so when the file is cut short', () => {
    const reader = new FileReader(path, file);
    reader.add('t', bytes.length - 100, 100);
    truncateSync(path, 1000);
    expect(() => reader.take(0)).toThrow('could not be read');
    reader.close();
  });
});
