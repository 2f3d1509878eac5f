import { copyFileSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { writeFolder } from '../../src/folder/files.ts';
import { canonical, hashText, maskWords, readCompiled, readGraph, weightSource, writeGraph } from '../../src/folder/index.ts';
import { type Graph, tensor } from '../../src/graph/graph.ts';
import { lowBitTensor } from '../../src/import/gguf/low-bit.ts';
import { newMemory } from '../../src/ring/kernels/memory.ts';
import { plainKernels } from '../../src/ring/kernels/plain.ts';
import { at, graph, home, write } from './tiny.ts';

afterAll(() => rmSync(home, { recursive: true }));
const [open, hidden] = [write('public', 'public'), write('private', 'private')];

describe('a compiled folder', () => {
  test('comes back as it was written: program, client, float graph', () => {
    for (const [name, c] of [
      ['public', open],
      ['private', hidden],
    ] as const) {
      const folder = readCompiled(at(name));
      expect(canonical({ ...folder.program, weightsHash: '' })).toBe(canonical(c.program));
      expect(folder.hash).toBe(hashText(readFileSync(join(at(name), 'program.json'), 'utf8')));
      expect(folder.client).toMatchObject({
        name: 'tiny',
        task: 'tensors',
        tokenizer: false,
        calibration: 'sines',
        before: { outputs: ['x'] },
      });
      expect(folder.plain()).toEqual(graph);
      expect(folder.record()).toEqual({ key: 'k', tightest: [] });
    }
  });
  test('gives both parties the public weights, and the dealer none', () => {
    for (const role of ['p0', 'p1'] as const)
      for (const [name, w] of open.weights) expect(weightSource(at('public'), role).words(name)).toEqual(w);
    expect(() => weightSource(at('public'), 'dealer').words([...open.weights.keys()][0])).toThrow('does not hold');
  });
  test('splits private weights so that F + B0 + B1 = W and the dealer knows B0 and B1', () => {
    const [p0, p1, dealer] = (['p0', 'p1', 'dealer'] as const).map((role) => weightSource(at('private'), role));
    for (const [name, w] of hidden.weights) {
      const [F, b0, b1] = [p0.words(name), p0.weightMask(0, name), p1.weightMask(1, name)];
      expect(F).toEqual(p1.words(name));
      expect(Array.from(F.data, (v, i) => (v + b0.data[i] + b1.data[i]) | 0)).toEqual([...w.data]);
      expect([dealer.weightMask(0, name), dealer.weightMask(1, name)]).toEqual([b0, b1]);
      expect(() => dealer.words(name)).toThrow('does not hold');
      expect(() => p0.weightMask(1, name)).toThrow('does not hold');
    }
  });
  test('serves a role that has only its own files', () => {
    for (const role of ['p0', 'p1', 'dealer'] as const) {
      const dir = at(`only-${role}`);
      mkdirSync(dir);
      copyFileSync(join(at('private'), 'program.json'), join(dir, 'program.json'));
      cpSync(join(at('private'), role), join(dir, role), { recursive: true });
      const name = [...hidden.weights.keys()][0];
      expect(weightSource(dir, role).weightMask(role === 'p1' ? 1 : 0, name).data).toHaveLength(
        hidden.weights.get(name)?.data.length as number,
      );
      expect(() => readCompiled(dir).client).toThrow('no client/');
      expect(() => readCompiled(dir).plain()).toThrow('no plain/');
    }
  });
  test('keeps seeds from other users, and draws new ones every time', () => {
    for (const path of ['p0/seed', 'p1/seed', 'dealer/seeds']) expect(statSync(join(at('private'), path)).mode & 0o777).toBe(0o600);
    write('again', 'private');
    expect(readFileSync(join(at('again'), 'p0', 'seed'), 'utf8')).not.toBe(readFileSync(join(at('private'), 'p0', 'seed'), 'utf8'));
    expect(readCompiled(at('again')).hash).not.toBe(readCompiled(at('private')).hash);
  });
});

test('mask words are the stream the plain kernels say, from any start', () => {
  const seed = Uint8Array.from({ length: 32 }, (_, i) => 7 * i);
  const n = 70_000;
  const k = plainKernels(newMemory(1 << 20));
  expect(maskWords(seed, 3, 1, n)).toEqual(maskWords(seed, 3, 1, n, k));
  expect(maskWords(seed, 3, 1, 5)).not.toEqual(maskWords(seed, 3, 0, 5));
  expect(maskWords(seed, 3, 1, 5)).not.toEqual(maskWords(seed, 4, 1, 5));
});

test('a graph keeps attributes of every kind, and constants with any name', () => {
  const odd: Graph = {
    ...graph,
    nodes: [
      {
        op: 'Pad',
        name: '/p',
        inputs: ['x', ''],
        outputs: ['y'],
        attrs: { low: Number.NEGATIVE_INFINITY, list: [1, Number.NaN], words: ['a', 'b'], text: 'é', value: tensor([1, 2], [2], 'i64') },
      },
    ],
    constants: new Map([
      ['__metadata__', tensor([1], [], 'bool')],
      ['7', tensor([], [0])],
    ]),
  };
  mkdirSync(at('graph'));
  writeGraph(at('graph'), odd);
  expect(readGraph(at('graph'))).toEqual(odd);
});

test('a graph on disk keeps weights in the few bits they came in', () => {
  const bytes = Uint8Array.from({ length: 2 * 20 }, (_, i) => (i % 20 === 1 || i % 20 === 3 ? 0x20 : 7 * i));
  const graph: Graph = {
    name: 'few bits',
    inputs: [{ name: 'x', dtype: 'f32', shape: ['n', 32] }],
    outputs: ['y'],
    nodes: [{ op: 'Linear', name: '/y', inputs: ['x', 'w'], outputs: ['y'], attrs: {} }],
    constants: new Map([['w', lowBitTensor('Q4_1', [2, 32], bytes)]]),
  };
  mkdirSync(at('few'));
  writeGraph(at('few'), graph);
  expect(statSync(join(at('few'), 'graph.safetensors')).size).toBeLessThan(200);
  const w = readGraph(at('few')).constants.get('w');
  expect([w?.shape, w?.lowBit?.type, Buffer.from(w?.lowBit?.bytes ?? []).equals(bytes)]).toEqual([[32, 2], 'Q4_1', true]);
  expect(w?.data).toEqual(graph.constants.get('w')?.data);
  // More weights than the bytes hold.
  const path = join(at('few'), 'graph.json');
  writeFileSync(path, readFileSync(path, 'utf8').replace('[2,32]', '[4,32]'));
  expect(() => readGraph(at('few'))).toThrow('do not fit');
});

describe('writing is all or nothing', () => {
  test('what fails half-way leaves nothing, and what was there stays', () => {
    const fail = (): never => {
      throw new Error('disk full');
    };
    expect(() => writeFolder(at('new'), fail)).toThrow('disk full');
    expect(() => writeFolder(at('public'), fail, () => true)).toThrow('disk full');
    expect(readCompiled(at('public')).program.name).toBe('tiny');
    expect(existsSync(at('new'))).toBe(false);
    expect(readdirSync(home).filter((f) => f.endsWith('.tmp') || f.endsWith('.old'))).toEqual([]);
  });
  test('a folder that is not ours is never replaced', () => {
    mkdirSync(at('mine'));
    writeFileSync(join(at('mine'), 'thesis.txt'), 'all of it');
    expect(() => writeFolder(at('mine'), () => {})).toThrow('exists already');
    expect(readdirSync(at('mine'))).toEqual(['thesis.txt']);
  });
  test('leftovers of a killed process are swept, those of a living one are not', () => {
    const [dead, alive] = [at('.swept.4194304000.tmp'), at(`.swept.${process.ppid}.tmp`)];
    mkdirSync(dead);
    mkdirSync(alive);
    writeFolder(at('swept'), () => {});
    expect([existsSync(dead), existsSync(alive)]).toEqual([false, true]);
    rmSync(alive, { recursive: true });
  });
});
