/** The vision transformer that ships with the project, from file to fused graph. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { difference, reference } from '../../../test/fixtures/onnx/build.ts';
import { type Tensor, tensor } from '../../graph/graph.ts';
import { interpret } from '../../graph/interpret.ts';
import { rewrite } from '../../graph/rewrite/index.ts';
import { readOnnx } from './read.ts';

const path = (name: string): URL => new URL(`../../../models/${name}`, import.meta.url);

describe('the shipped vision transformer', () => {
  const bytes = readFileSync(path('fashion-vit.onnx'));
  const pixels = readFileSync(path('fashion-test-200.bin')).subarray(200);
  const image = (i: number): Tensor =>
    tensor(
      Array.from(pixels.subarray(784 * i, 784 * (i + 1)), (p) => p / 255),
      [1, 1, 28, 28],
    );

  test('becomes fused operators only', () => {
    const graph = rewrite(readOnnx(bytes));
    const counts: Record<string, number> = {};
    for (const n of graph.nodes) counts[n.op] = (counts[n.op] ?? 0) + 1;
    expect(counts).toEqual({
      Conv: 1,
      Reshape: 1,
      Transpose: 1,
      Add: 9,
      LayerNormalization: 9,
      Linear: 25,
      Attention: 4,
      Gelu: 4,
      ReduceMean: 1,
    });
    expect(graph.inputs).toEqual([{ name: 'image', dtype: 'f32', shape: [1, 1, 28, 28] }]);
  });

  test('gives the logits onnxruntime gives, before and after rewriting', async () => {
    const graph = readOnnx(bytes);
    const short = rewrite(graph);
    for (let i = 0; i < 5; i++) {
      const want = await reference(bytes, { image: image(i) });
      expect(difference(interpret(graph, { image: image(i) }).logits, want.logits)).toBeLessThan(1e-4);
      expect(difference(interpret(short, { image: image(i) }).logits, want.logits)).toBeLessThan(1e-4);
    }
  });
});
