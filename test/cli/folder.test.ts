import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { calibrate } from '../../src/compile/calibrate.ts';
import { type Compiled, compile } from '../../src/compile/compile.ts';
import { writeFolder } from '../../src/folder/files.ts';
import {
  canonical,
  hashText,
  maskWords,
  readCompiled,
  readGraph,
  weightSource,
  writeCompiled,
  writeGraph,
} from '../../src/folder/index.ts';
import { type Graph, ModelError, tensor } from '../../src/graph/graph.ts';
import { newMemory } from '../../src/ring/kernels/memory.ts';
import { plainKernels } from '../../src/ring/kernels/plain.ts';

const home = mkdtempSync(join(tmpdir(), 'subrosa-folder-'));
afterAll(() => rmSync(home, { recursive: true }));
const at = (name: string): string => join(home, name);

/** y = Gelu(x·W + b): small, and has wide and narrow weights. */
const graph: Graph = {
  name: 'tiny',
  inputs: [{ name: 'x', dtype: 'f32', shape: ['n', 3] }],
  outputs: ['y'],
  nodes: [
    { op: 'Linear', name: '/a/Linear', inputs: ['x', 'W', 'b'], outputs: ['h'], attrs: {} },
    { op: 'Gelu', name: '/a/Gelu', inputs: ['h'], outputs: ['y'], attrs: { approximate: 'none' } },
  ],
  constants: new Map([
    [
      'W',
      tensor(
        [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, -12].map((v) => v / 10),
        [3, 4],
      ),
    ],
    ['b', tensor([0.1, -0.2, 0.3, 50], [4])],
  ]),
};
const samples = Array.from({ length: 8 }, (_, i) => ({
  x: tensor(
    Array.from({ length: 3 * (i + 1) }, (_, j) => Math.sin(i + j)),
    [i + 1, 3],
  ),
}));
const identity: Graph = { ...graph, nodes: [], constants: new Map(), outputs: ['x'] };
const compiled = (weights: 'public' | 'private'): Compiled => compile(graph, calibrate(graph, samples), { weights, max: { n: 16 } });

function write(name: string, weights: 'public' | 'private'): Compiled {
  const c = compiled(weights);
  const client = {
    name: 'tiny',
    task: 'tensors' as const,
    family: 'test',
    labels: [],
    maxTokens: 16,
    firstPosition: 0,
    calibration: 'sines',
  };
  writeCompiled(at(name), {
    ...c,
    client,
    graphs: { before: identity, after: identity },
    plain: graph,
    record: { key: 'k', tightest: [] },
  });
  return c;
}
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

describe('hostile folders are refused with a ModelError that names the file', () => {
  let count = 0;
  /** A copy of a good folder with one file changed. */
  const spoilt = (from: 'public' | 'private', path: string, change: (text: string) => string | Uint8Array | undefined): string => {
    const dir = at(`hostile-${count++}`);
    cpSync(at(from), dir, { recursive: true });
    const changed = change(readFileSync(join(dir, path), 'latin1'));
    if (changed === undefined) rmSync(join(dir, path));
    else writeFileSync(join(dir, path), changed, typeof changed === 'string' ? 'latin1' : undefined);
    return dir;
  };
  /** A program, client or graph, with what the tests below change in it. */
  interface Loose {
    format: string;
    extra: number;
    weightsHash: string;
    params: Record<string, { min: number; max: number }>;
    tensors: { bits: number; bound: number }[];
    inputs: { tensor: number; scale: number }[];
    outputs: { tensor: number }[];
    gates: { id: number; gate: string; in: number[]; out: number[]; attrs: unknown }[];
    program: string;
    task: string;
    constants: string[];
  }
  const edit =
    (f: (p: Loose) => void) =>
    (text: string): string => {
      const p = JSON.parse(text) as Loose;
      f(p);
      return `${canonical(p)}\n`;
    };
  const programs: [string, (text: string) => string | Uint8Array, RegExp][] = [
    ['cut short', (t) => t.slice(0, t.length >> 1), /not JSON/],
    ['not UTF-8', () => Uint8Array.of(0xff, 0xfe, 0x00), /not UTF-8/],
    ['with another spelling of the same value', (t) => ` ${t}`, /canonical/],
    ['with a key twice', (t) => t.replace('{', '{"name":"other",'), /canonical/],
    ['of another format', edit((p) => (p.format = 'subrosa-program/9')), /not a program of this version/],
    ['with a key too many', edit((p) => (p.extra = 1)), /extra/],
    ['that names no weights', edit((p) => (p.weightsHash = '')), /weightsHash/],
    ['with a gate nobody knows', edit((p) => (p.gates[0].gate = 'reveal_all')), /reveal_all.*no gate has this name/],
    ['whose gate is misnumbered', edit((p) => (p.gates[1].id = 0)), /ids count from 0/],
    [
      'that uses a tensor before it is made',
      edit((p) => (p.gates[0].in = [p.gates[p.gates.length - 1].out[0]])),
      /before anything makes it/,
    ],
    ['that makes a tensor twice', edit((p) => (p.gates[1].out = p.gates[0].out)), /second time|rule 3/],
    ['that reveals what no reveal gate made', edit((p) => (p.outputs[0].tensor = p.inputs[0].tensor)), /not made by a reveal gate/],
    ['with attributes missing', edit((p) => (p.gates[0].attrs = null)), /program\.json: /],
    ['with a ring of no bits', edit((p) => (p.tensors[p.gates[0].out[0]].bits = 0)), /bits/],
    ['with a negative bound', edit((p) => (p.tensors[p.gates[0].out[0]].bound = -1)), /bound/],
    ['with a scale of zero', edit((p) => (p.inputs[0].scale = 0)), /scale/],
    ['with a parameter that goes backwards', edit((p) => (p.params.n = { min: 9, max: 2 })), /from 9 to 2/],
    ['with 2^24 + 1 tokens', edit((p) => (p.params.n.max = 2 ** 24 + 1)), /params\.n\.max/],
  ];
  test.each(programs)('a program %s', (_, change, message) => {
    const dir = spoilt('public', 'program.json', change);
    expect(() => readCompiled(dir)).toThrow(ModelError);
    expect(() => readCompiled(dir)).toThrow(message);
    expect(() => readCompiled(dir)).toThrow('program.json');
  });
  const flip = (t: string): Uint8Array => {
    const bytes = Buffer.from(t, 'latin1');
    bytes[bytes.length - 1] ^= 1;
    return new Uint8Array(bytes);
  };
  test('weights that are not the program’s', () => {
    expect(() => weightSource(spoilt('public', 'weights.safetensors', flip), 'p0')).toThrow(/weights\.safetensors: not the weights/);
    expect(() => weightSource(spoilt('private', 'p1/masked.safetensors', flip), 'p1')).toThrow(/masked\.safetensors: not the weights/);
    expect(() =>
      weightSource(
        spoilt('public', 'weights.safetensors', () => undefined),
        'p1',
      ),
    ).toThrow(ModelError);
  });
  test('seeds that are cut short, or of another compile', () => {
    expect(() =>
      weightSource(
        spoilt('private', 'p0/seed', (t) => t.slice(0, -9)),
        'p0',
      ),
    ).toThrow(/seed: a seed of 64/);
    expect(() =>
      weightSource(
        spoilt('private', 'dealer/seeds', (t) => `${t.split('\n').slice(0, 2).join('\n')}\n`),
        'dealer',
      ),
    ).toThrow(/two seeds/);
    expect(() =>
      weightSource(
        spoilt('private', 'p0/seed', () => readFileSync(join(at('again'), 'p0', 'seed'), 'latin1')),
        'p0',
      ),
    ).toThrow(/other weights/);
    expect(() =>
      weightSource(
        spoilt('private', 'dealer/tensors.json', () => '{"format":"subrosa-masks/1","tensors":[]}'),
        'dealer',
      ).weightMask(0, [...hidden.weights.keys()][0]),
    ).toThrow(/no tensor/);
  });
  test('a client of another program, or one that lacks a tensor', () => {
    expect(
      () =>
        readCompiled(
          spoilt(
            'public',
            'client/client.json',
            edit((c) => (c.program = '0'.repeat(64))),
          ),
        ).client,
    ).toThrow(/belongs to program/);
    expect(
      () =>
        readCompiled(
          spoilt(
            'public',
            'client/before.json',
            edit((g) => (g.constants = ['nothing'])),
          ),
        ).client,
    ).toThrow(/'nothing' is not in/);
    expect(
      () =>
        readCompiled(
          spoilt(
            'public',
            'client/client.json',
            edit((c) => (c.task = 'mining')),
          ),
        )?.client,
    ).toThrow(/task/);
    expect(() => readCompiled(spoilt('public', 'plain/graph.safetensors', (t) => t.slice(0, -4))).plain()).toThrow(ModelError);
  });
});
