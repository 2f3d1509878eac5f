import fc from 'fast-check';
import { expect, test } from 'vitest';
import { threeKernels } from '../gates/gate.case.ts';
import { check } from '../program/check.ts';
import { ProgramError } from '../program/program.ts';
import { LocalCluster } from './local.ts';
import { loadModel } from './model.ts';
import { none, places } from './small.case.ts';

function clusterOf(spans: readonly number[]): LocalCluster {
  const program = places(spans);
  check(program);
  const [p0, p1, dealer] = threeKernels();
  return new LocalCluster({
    p0: loadModel(program, 'p0', p0, none),
    p1: loadModel(program, 'p1', p1, none),
    dealer: loadModel(program, 'dealer', dealer, none),
  });
}

test('rows that two parties make of keys add up to one-hot rows, for any spans and places', () => {
  const spans = fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(spans, fc.integer({ min: 1, max: 8 }), fc.infiniteStream(fc.nat()), (spans, n, next) => {
      const width = spans.reduce((a, b) => a + b, 0);
      const given = Array.from({ length: n * spans.length }, (_, i) => next.next().value % spans[i % spans.length]);
      const wanted = new Array<number>(n * width).fill(0);
      let from = 0;
      given.forEach((place, i) => {
        wanted[from + place] = 1;
        from += spans[i % spans.length];
      });
      const { y } = clusterOf(spans).run({ n }, { x: new Array<number>(n * width).fill(0), places: given });
      expect(Array.from(y.data)).toEqual(wanted);
    }),
    { numRuns: 25 },
  );
});

test('words beside keys come to their own place', () => {
  const { y } = clusterOf([2, 3]).run({ n: 2 }, { x: [1, 1, 0, 0, -1, 0, 0, 0, 0, 1], places: [1, 0, 0, 2] });
  expect(Array.from(y.data)).toEqual([1, 2, 1, 0, -1, 1, 0, 0, 0, 2]);
});

test('a place beyond its span, half a row, a program whose shape and spans disagree', () => {
  const cluster = clusterOf([2, 3]);
  const x = new Array<number>(5).fill(0);
  for (const wrong of [
    [2, 0],
    [0, 3],
    [-1, 0],
    [0.5, 0],
    [Number.NaN, 0],
  ])
    expect(() => cluster.run({ n: 1 }, { x, places: wrong })).toThrow('places is expected');
  expect(() => cluster.run({ n: 1 }, { x, places: [1] })).toThrow('expected 2 values, got 1');
  const program = places([2, 3]);
  const inputs = [program.inputs[0], { ...program.inputs[1], shape: ['n', 3] }];
  expect(() => check({ ...program, inputs })).toThrow(ProgramError);
  expect(() => check({ ...program, inputs })).toThrow('comes as keys of 2 spans (rule 3)');
});
