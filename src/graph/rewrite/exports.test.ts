/** Files PyTorch itself exported (test/fixtures/onnx/export.py): read, rewritten, held to onnxruntime at several lengths. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { difference, randomizer, randomTensor, reference } from '../../../test/fixtures/onnx/build.ts';
import { readOnnx } from '../../import/onnx/read.ts';
import { type Graph, type Tensor, tensor } from '../graph.ts';
import { interpret } from '../interpret.ts';
import { bindInputs, rewrite } from './index.ts';

const random = randomizer(11);
const file = (name: string): Uint8Array => readFileSync(new URL(`../../../test/fixtures/onnx/${name}.onnx`, import.meta.url));
const opsOf = (g: Graph): string => g.nodes.map((n) => n.op).join(' ');

async function holds(bytes: Uint8Array, graph: Graph, inputs: Record<string, Tensor>): Promise<void> {
  const want = await reference(bytes, inputs);
  expect(difference(interpret(readOnnx(bytes), inputs).y, want.y)).toBeLessThan(1e-5);
  expect(difference(interpret(graph, inputs).y, want.y)).toBeLessThan(1e-5);
}

describe.each([11, 17])('opset %i', (opset) => {
  test('a BERT layer with its mask bound', async () => {
    const bytes = file(`bert-${opset}`);
    const graph = rewrite(bindInputs(readOnnx(bytes), { mask: 1, kinds: 0 }));
    expect(opsOf(graph)).toBe(
      'Shape Gather Add Gather Unsqueeze Slice Add LayerNormalization Linear Linear Linear Attention Linear Add LayerNormalization Linear Gelu Linear Add LayerNormalization ReduceMean ReduceL2 Clip Expand Div',
    );
    for (const n of [1, 6, 20]) {
      const row = (f: (i: number) => number): Tensor =>
        tensor(
          Array.from({ length: n }, (_, i) => f(i)),
          [1, n],
          'i64',
        );
      await holds(bytes, graph, { ids: row((i) => (i * 7) % 40), mask: row(() => 1), kinds: row(() => 0) });
    }
  });

  test('nn.TransformerEncoderLayer: sequence-first layouts leave nothing behind', async () => {
    const bytes = file(`encoder-${opset}`);
    const graph = rewrite(readOnnx(bytes));
    expect(opsOf(graph)).toBe('LayerNormalization Linear Linear Linear Attention Linear Add LayerNormalization Linear Gelu Linear Add');
    await holds(bytes, graph, { x: randomTensor([1, 7, 16], random) });
  });

  test('RMSNorm and SwiGLU', async () => {
    const bytes = file(`llama-${opset}`);
    const graph = rewrite(readOnnx(bytes));
    expect(opsOf(graph)).toBe('RMSNormalization Linear Silu Linear Mul Linear Add');
    for (const n of [1, 5, 12]) await holds(bytes, graph, { x: randomTensor([1, n, 16], random) });
  });

  test('a convolutional network', async () => {
    const bytes = file(`cnn-${opset}`);
    const graph = rewrite(readOnnx(bytes));
    expect(opsOf(graph)).toBe('Conv HardSwish Conv Clip MaxPool Conv Silu GroupNormalization Mish GlobalAveragePool Flatten Linear');
    await holds(bytes, graph, { x: randomTensor([1, 3, 16, 16], random) });
  });
});
