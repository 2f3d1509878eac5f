import { cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { canonical, readCompiled, weightSource } from '../../src/folder/index.ts';
import { ModelError } from '../../src/graph/graph.ts';
import { at, home, write } from './tiny.ts';

afterAll(() => rmSync(home, { recursive: true }));
write('public', 'public');
const hidden = write('private', 'private');
write('again', 'private');

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
