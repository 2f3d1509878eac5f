import { expect, test } from 'vitest';
import { type Graph, type GraphNode, ModelError, type Tensor, tensor } from './graph.ts';
import { interpret } from './interpret.ts';

const n = (op: string, inputs: string[], outputs: string[], attrs: GraphNode['attrs'] = {}): GraphNode => ({
  op,
  name: `/${outputs[0]}`,
  inputs,
  outputs,
  attrs,
});
const graph = (nodes: GraphNode[], outputs: string[], shape: (number | string)[] = ['n', 2]): Graph => ({
  name: 'g',
  inputs: [{ name: 'x', dtype: 'f32', shape }],
  outputs,
  nodes,
  constants: new Map([
    ['w', tensor([1, 2, 3, 4], [2, 2])],
    ['b', tensor([10, 20], [2])],
  ]),
});

test('Linear is x·W + b at every length', () => {
  const g = graph([n('Linear', ['x', 'w', 'b'], ['y'])], ['y']);
  expect([...interpret(g, { x: tensor([1, 0], [1, 2]) }).y.data]).toEqual([11, 22]);
  expect([...interpret(g, { x: tensor([1, 0, 0, 1], [2, 2]) }).y.data]).toEqual([11, 22, 13, 24]);
});

test('Attention is softmax(scale·q·kᵀ)·v for each head', () => {
  const g = graph([n('Attention', ['x', 'x', 'x'], ['y'], { heads: 2, scale: 0.5 })], ['y']);
  const x = [1, 2, -1, 0.5, 0.3, -2];
  const y = interpret(g, { x: tensor(x, [3, 2]) }).y.data;
  for (let h = 0; h < 2; h++) {
    for (let i = 0; i < 3; i++) {
      const e = [0, 1, 2].map((j) => Math.exp(0.5 * x[2 * i + h] * x[2 * j + h]));
      const sum = e[0] + e[1] + e[2];
      expect(y[2 * i + h]).toBeCloseTo(
        e.reduce((s, w, j) => s + (w / sum) * x[2 * j + h], 0),
        6,
      );
    }
  }
});

test('OneHotRows has a one in each span, at its place, and takes no other', () => {
  const run = (places: number[], dtype: 'i64' | 'f32' = 'i64'): Tensor =>
    interpret(
      {
        name: 'rows',
        inputs: [{ name: 'x', dtype, shape: ['n', 2] }],
        outputs: ['y'],
        nodes: [{ op: 'OneHotRows', name: 'y', inputs: ['x'], outputs: ['y'], attrs: { spans: [3, 2] } }],
        constants: new Map(),
      },
      { x: tensor(places, [places.length / 2, 2], dtype) },
    ).y;
  expect(Array.from(run([2, 0, 0, 1]).data)).toEqual([0, 0, 1, 1, 0, 1, 0, 0, 0, 1]);
  expect(() => run([0, 2])).toThrow('place 2 of 2');
  expect(() => run([-1, 0])).toThrow('place -1 of 3');
  expect(() => run([0, 0], 'f32')).toThrow('places are f32');
});

test('the listener hears every value, in order, with its node', () => {
  const heard: string[] = [];
  const g = graph([n('Relu', ['x'], ['a']), n('Neg', ['a'], ['y'])], ['y']);
  interpret(g, { x: tensor([1, -1], [1, 2]) }, (name, value, node) => heard.push(`${name} ${node.op} ${[...value.data]}`));
  expect(heard).toEqual(['a Relu 1,0', 'y Neg -1,0']);
});

test('an output may be an input or a constant', () => {
  const out = interpret(graph([], ['x', 'b']), { x: tensor([1, -1], [1, 2]) });
  expect([[...out.x.data], [...out.b.data]]).toEqual([
    [1, -1],
    [10, 20],
  ]);
});

test.each([
  [{}, "input 'x' f32 [n,2] is missing"],
  [{ x: tensor([1, 2, 3], [1, 3]) }, "input 'x': expected f32 [n,2], got f32 [1,3]"],
  [{ x: tensor([1, 2], [1, 2], 'i64') }, "input 'x': expected f32 [n,2], got i64 [1,2]"],
])('a wrong input is named', (inputs, message) => {
  expect(() => interpret(graph([n('Relu', ['x'], ['y'])], ['y']), inputs)).toThrow(new ModelError(message));
});

test('a node that cannot run is named', () => {
  const x = tensor([1, 2], [1, 2]);
  expect(() => interpret(graph([n('Nope', ['x'], ['y'])], ['y']), { x })).toThrow(new ModelError('/y: operator Nope is not supported'));
  expect(() => interpret(graph([n('MatMul', ['x', 'x'], ['y'])], ['y']), { x })).toThrow(new ModelError('/y (MatMul): [1,2] times [1,2]'));
  expect(() => interpret(graph([n('Relu', ['z'], ['y'])], ['y']), { x })).toThrow(new ModelError("/y (Relu): value 'z' is not computed"));
});
