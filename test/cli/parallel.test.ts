import { expect, test } from 'vitest';
import { calibrateOnAllCores } from '../../src/cli/parallel.ts';
import { calibrate, merged } from '../../src/compile/calibrate.ts';
import { type Graph, tensor } from '../../src/graph/graph.ts';

/** Every kind of range: per tensor, per channel, rows of a normalisation, heads of an attention, capped ones. */
const graph: Graph = {
  name: 'tiny',
  inputs: [{ name: 'x', dtype: 'f32', shape: ['n', 4] }],
  outputs: ['y', 'z'],
  nodes: [
    { op: 'LayerNormalization', name: '/norm', inputs: ['x', 'g', 'b'], outputs: ['h'], attrs: { axis: -1, epsilon: 1e-5 } },
    { op: 'Attention', name: '/attention', inputs: ['h', 'h', 'x'], outputs: ['y'], attrs: { heads: 2, scale: 0.7 } },
    { op: 'Attention', name: '/capped', inputs: ['h', 'h', 'x'], outputs: ['z'], attrs: { heads: 2, scale: 0.7, softcap: 0.5 } },
  ],
  constants: new Map([
    ['g', tensor([1, 2, 3, 4], [4])],
    ['b', tensor([0, 1, 0, -1], [4])],
  ]),
};
const samples = Array.from({ length: 12 }, (_, i) => {
  const n = 2 + (i % 5);
  return {
    x: tensor(
      Array.from({ length: 4 * n }, (_, j) => Math.sin(3 * i + j * j)),
      [n, 4],
    ),
  };
});

test('ranges of the parts, put together, are the ranges of the whole', () => {
  const part = (k: number) =>
    calibrate(
      graph,
      samples.filter((_, i) => i % 3 === k),
    );
  expect([0, 1, 2].map(part).reduce(merged)).toEqual(calibrate(graph, samples));
});

test('a part in which every sample has one length does not hide that the length varies', () => {
  const [a, b] = [samples.slice(0, 1), samples.slice(1)].map((s) => calibrate(graph, s));
  for (const both of [merged(a, b), merged(b, a)]) expect(both.values.get('y')?.shape).toEqual(['n', 4]);
});

test('progress counts every sample once', async () => {
  const seen: number[] = [];
  await calibrateOnAllCores(graph, samples, (done, total) => seen.push(done / total));
  expect(seen.at(-1)).toBe(1);
});

test('a sample far beyond all others is left out, and named; many of them are the model', () => {
  const usual = Array.from({ length: 60 }, (_, i) => samples[i % samples.length]);
  const loud = { x: { ...samples[1].x, data: (samples[1].x.data as Float32Array).map((v) => 100 * v) } };
  // Whether it comes first or last.
  for (const at of [0, 30, 60]) {
    const cal = calibrate(graph, [...usual.slice(0, at), loud, ...usual.slice(at)]);
    expect(cal.strange).toEqual([at]);
    expect({ ...cal, strange: [] }).toEqual({ ...calibrate(graph, usual), strange: [] });
  }
  const often = calibrate(graph, [...usual, loud, loud]);
  expect(often.strange).toEqual([]);
  expect(often.values.get('x')?.max).toBeCloseTo(100 * Math.max(...samples[1].x.data.map(Math.abs)), 3);
});
