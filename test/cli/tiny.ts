/** A model small enough to compile in every test, and folders of it. */
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { calibrate } from '../../src/compile/calibrate.ts';
import { type Compiled, compile } from '../../src/compile/compile.ts';
import { writeCompiled } from '../../src/folder/index.ts';
import { type Graph, tensor } from '../../src/graph/graph.ts';

export const home = mkdtempSync(join(tmpdir(), 'subrosa-folder-'));
export const at = (name: string): string => join(home, name);

/** y = Gelu(x·W + b): small, and has wide and narrow weights. */
export const graph: Graph = {
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

/** Compiles and writes it as home/NAME. */
export function write(name: string, weights: 'public' | 'private'): Compiled {
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
