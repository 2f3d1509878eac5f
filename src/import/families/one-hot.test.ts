/** Embeddings looked up inside the run, in the three ways a client may ask: the same answers, within what quantised tables cost. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { calibrate } from '../../compile/calibrate.ts';
import { type Compiled, compile } from '../../compile/compile.ts';
import { clusterOf, noise } from '../../compile/lower/tiny.case.ts';
import { type Graph, type GraphNode, type Tensor, tensor } from '../../graph/graph.ts';
import { interpret } from '../../graph/interpret.ts';
import { cost } from '../../program/cost.ts';
import { privateLookup, withRows } from './one-hot.ts';

const [words, positions, hidden] = [300, 16, 12];
const draw = noise(5);
const random = (shape: readonly number[], gain: number, mean = 0): Tensor =>
  tensor(
    Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => mean + gain * draw()),
    shape,
  );
const node = (op: string, inputs: string[], output: string, attrs: GraphNode['attrs'] = {}): GraphNode => ({
  op,
  name: `/net/${output}`,
  inputs,
  outputs: [output],
  attrs,
});
const ids = ['input_ids', 'position_ids', 'token_type_ids'];

/** The client's part of BERT. */
const bert: Graph = {
  name: 'before',
  inputs: ids.map((name) => ({ name, dtype: 'i64', shape: ['n'] })),
  outputs: ['embeddings'],
  nodes: [
    ...ids.map((name, i) => node('Gather', [`table${i}`, name], `row${i}`, { axis: 0 })),
    node('Add', ['row0', 'row1'], 'some'),
    node('Add', ['some', 'row2'], 'embeddings'),
  ],
  constants: new Map([words, positions, 2].map((rows, i) => [`table${i}`, random([rows, hidden], 0.5)])),
};
/** That of Gemma: one table, scaled. */
const gemma: Graph = {
  ...bert,
  nodes: [node('Gather', ['table0', 'input_ids'], 'row', { axis: 0 }), node('Mul', ['row', 'by'], 'embeddings')],
  constants: new Map([...bert.constants, ['by', tensor([Math.sqrt(hidden)], [])]]),
};
/** And one layer that stands for the rest. */
const graph: Graph = {
  name: 'tiny',
  inputs: [{ name: 'embeddings', dtype: 'f32', shape: ['n', hidden] }],
  outputs: ['y'],
  nodes: [
    node('LayerNormalization', ['embeddings', 'gain', 'shift'], 'normed', { epsilon: 1e-5, axis: -1 }),
    node('Linear', ['normed', 'W'], 'h'),
    node('Gelu', ['h'], 'g', { approximate: 'none' }),
    node('Linear', ['g', 'V'], 'y'),
  ],
  constants: new Map([
    ['gain', random([hidden], 0.1, 1)],
    ['shift', random([hidden], 0.1)],
    ['W', random([hidden, 24], 0.3)],
    ['V', random([24, 6], 0.3)],
  ]),
};

const tokens = (n: number, seed: number): Record<string, Tensor> => {
  const column = (f: (i: number) => number): Tensor =>
    tensor(
      Array.from({ length: n }, (_, i) => f(i)),
      [n],
      'i64',
    );
  return {
    input_ids: column((i) => (seed * 7919 + i * 131) % words),
    position_ids: column((i) => i),
    token_type_ids: column((i) => (i * seed) % 2),
  };
};

const ways = ['client', 'one-hot', 'dpf'] as const;
function made(
  before: Graph,
  way: (typeof ways)[number],
  weights: 'public' | 'private',
): { compiled: Compiled; plain: Graph; before: Graph } {
  const samples = Array.from({ length: 40 }, (_, i) => interpret(before, tokens(4 + (i % 8), i)));
  const calibration = calibrate(graph, samples);
  if (way === 'client') return { compiled: compile(graph, calibration, { weights, max: { n: 12 } }), plain: graph, before };
  const lookup = privateLookup(graph, before, way);
  const compiled = compile(lookup.graph, withRows(calibration, lookup), { weights, max: { n: 12 } });
  return { compiled, plain: lookup.graph, before: lookup.before };
}

describe.each([
  ['BERT’s sum of three tables', bert],
  ['Gemma’s scaled table', gemma],
])('%s', (_, before) => {
  test.each(['public', 'private'] as const)('%s weights: looked up by the client, by rows, by keys', (weights) => {
    for (const way of ways) {
      const { compiled, plain, before: own } = made(before, way, weights);
      const cluster = clusterOf(compiled);
      const scale = compiled.program.tensors[compiled.program.outputs[0].tensor].scale as number;
      for (const [n, seed] of [
        [1, 3],
        [12, 8],
      ]) {
        const want = interpret(graph, interpret(before, tokens(n, seed))).y.data;
        const inputs = interpret(own, tokens(n, seed));
        // What is looked up inside means the same in plaintext.
        interpret(plain, inputs).y.data.forEach((v, i) => {
          expect(Math.abs(v - want[i])).toBeLessThan(1e-5);
        });
        const given = Object.fromEntries(
          compiled.program.inputs.map((i) => [i.name, Float64Array.from(inputs[i.name].data, (v) => Math.round(v * i.scale))]),
        );
        const { y } = cluster.run({ n }, given);
        for (const [i, v] of want.entries()) expect(Math.abs(y.data[i] / scale - v), `${way}, value ${i}`).toBeLessThan(0.01);
      }
    }
  });
});

test('with keys the client has no table, sends places, and far fewer bytes', () => {
  const [rows, keys] = (['one-hot', 'dpf'] as const).map((way) => made(bert, way, 'private'));
  for (const { before } of [rows, keys]) expect([...before.constants.values()].every((t) => t.data.length === 1)).toBe(true);
  expect(keys.compiled.program.inputs).toEqual([
    { name: 'places', tensor: expect.any(Number), shape: ['n', 3], scale: 1, bound: 2, encoding: { dpf: [words, positions, 2] } },
  ]);
  const [a, b] = [rows, keys].map(({ compiled }) => cost(compiled.program, { n: 12 }));
  // Between the parties and from the dealer it is the same run.
  expect({ ...b.bytes, client: 0 }).toEqual({ ...a.bytes, client: 0 });
  // Of 300 words: rows of 1272 bytes; keys of 114 + 16 more for each doubling.
  expect(a.bytes.client - b.bytes.client).toBeGreaterThan(12 * 600);
});

test('places that the run itself computes are no input', () => {
  const lookup = privateLookup(graph, bert, 'dpf');
  const moved = { ...lookup.graph, nodes: lookup.graph.nodes.map((n) => (n.op === 'OneHotRows' ? { ...n, inputs: ['other'] } : n)) };
  const calibration = withRows(calibrate(graph, [interpret(bert, tokens(4, 1))]), lookup);
  calibration.values.set('places', { shape: ['n', 3], max: 1 });
  expect(() => compile(moved, calibration, { weights: 'private' })).toThrow('they must be an input');
});

test('what is no sum of table rows is refused', () => {
  const squared = { ...gemma, nodes: [gemma.nodes[0], node('Mul', ['row', 'row'], 'embeddings')] };
  expect(() => privateLookup(graph, squared, 'dpf')).toThrow('use --embedding client');
});
