import { describe, expect, test } from 'vitest';
import type { Graph } from '../../graph/graph.ts';
import { lowBitTensor } from '../../import/gguf/low-bit.ts';
import { blockOf, dequantise, formats as fileFormats } from '../../import/gguf/quants.ts';
import { formats, unpackPanels } from '../../ring/kernels/panels.ts';
import { blocksOf } from './blocks.ts';
import { run } from './tiny.case.ts';

let seed = 7;
const byte = (): number => {
  seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
  return seed >>> 24;
};

/** Blocks of a file with scales and minima a model might have, [N, K]. */
function blocksIn(type: string, N: number, K: number, size = 0.02) {
  const { size: count, bytes } = blockOf(type);
  const out = Uint8Array.from({ length: ((N * K) / count) * bytes }, byte);
  const view = new DataView(out.buffer);
  // Halves of the right size: exponent of `size`, any fraction.
  const half = (sign: number): number => (sign << 15) | ((15 + Math.floor(Math.log2(size))) << 10) | ((byte() << 2) & 1023);
  for (let at = 0; at < out.length; at += bytes) {
    const places = /_K$/.test(type) ? (type === 'Q6_K' ? [208] : [0, 2]) : type.endsWith('_1') ? [0, 2] : [0];
    for (const [i, p] of places.entries()) view.setUint16(at + p, half(i), true);
  }
  return { type, shape: [N, K] as const, bytes: out, floats: () => dequantise(type, out, N * K) };
}

describe('blocks of a file as blocks of integers', () => {
  test.each(['Q4_0', 'Q4_1', 'Q5_0', 'Q5_1', 'Q4_K', 'Q5_K', 'Q6_K', 'Q8_0'])('%s: within the bound', (type) => {
    const [N, K] = [21, 256];
    const low = blocksIn(type, N, K, /_K$/.test(type) ? 0.001 : 0.02);
    // Rings leave Q8_0 a few units for a step of q.
    const units = Float64Array.from(
      { length: N },
      (_, j) => 2 ** ((type === 'Q8_0' ? 7 : type === 'Q6_K' ? 9 : type.startsWith('Q5') ? 11 : 13) + (j % 3)),
    );
    const silent = new Set([3]);
    const order = Array.from({ length: N }, (_, j) => (5 * j) % N);
    const made = blocksOf(low, order, units, silent)!;
    const format = formats[type.startsWith('Q4') ? 'blocks4' : type === 'Q6_K' ? 'pairs8' : 'blocks8'];
    expect(made.format).toBe(format);
    const entries = unpackPanels(made.bytes, format, K, N);
    const floats = low.floats();
    const most = format === formats.blocks4 ? 4.5 : fileFormats.get(type)?.hasMin ? 1.5 : 1;
    for (let j = 0; j < N; j++)
      for (let k = 0; k < K; k++) {
        const c = order[j];
        const off = entries[k * N + j] - (silent.has(c) ? 0 : floats[c * K + k] * units[c]);
        expect(Math.abs(off)).toBeLessThanOrEqual(most + 1e-3);
      }
  });
  const none = new Set<number>();
  test('not where scales would be too coarse', () => {
    expect(blocksOf(blocksIn('Q4_1', 4, 64), undefined, [256, 256, 256, 256], none)).toBeUndefined();
    // A step of q below a unit.
    expect(blocksOf(blocksIn('Q8_0', 4, 64), undefined, [16, 16, 16, 16], none)).toBeUndefined();
    const lost = blocksIn('Q8_0', 4, 64);
    lost.bytes.fill(0x7c, 0, 2);
    expect(blocksOf(lost, undefined, [128, 128, 128, 128], none)).toBeUndefined();
  });
  test.each(['Q4_0', 'Q4_1', 'Q5_0', 'Q5_1', 'Q4_K', 'Q5_K', 'Q6_K', 'Q8_0'])('%s: as many units as a half has room for', (type) => {
    const [N, K] = [4, 256];
    const low = blocksIn(type, N, K, /_K$/.test(type) ? 0.001 : 0.02);
    const units = [2 ** 12, 2 ** 22, 2 ** 12, 2 ** 21];
    const order = [1, 0, 3, 2];
    const { bytes, format, fewer } = blocksOf(low, order, units, none)!;
    expect(fewer).toEqual([1, expect.any(Number), 1, expect.any(Number)]);
    // Made at that many units from the start, it is the same; at four times as many, it does not fit.
    const fitting = units.map((u, c) => u / fewer[c]);
    expect(blocksOf(low, order, fitting, none)).toEqual({ bytes, format, fewer: [1, 1, 1, 1] });
    const more = blocksOf(
      low,
      order,
      fitting.map((u, c) => (fewer[c] > 1 ? 4 * u : u)),
      none,
    )!.fewer;
    expect(more.map((f) => f > 1)).toEqual([false, true, false, true]);
  });
  test('either scale of a pair may be the one that has no room', () => {
    const low = blocksIn('Q6_K', 1, 256, 0.001);
    const at = (g: number): number => {
      low.bytes.fill(1, 192, 208);
      low.bytes[192 + g] = 127;
      return blocksOf(low, undefined, [2 ** 16], none)!.fewer[0];
    };
    expect(at(0)).toBeGreaterThan(1);
    expect(at(1)).toBe(at(0));
  });
});

test.each([
  ['Q4_1', 'blocks4', 0.02],
  ['Q8_0', 'blocks8', 0.001],
  ['Q6_K', 'pairs8', 0.00005],
  ['Q4_1', 'blocks4', 0.02, 'with a channel that has too many units'],
] as const)('a linear layer after a normalisation runs on blocks of %s, factors and all', (type, format, scale, loud?) => {
  const [K, N] = [256, 40];
  const low = blocksIn(type, N, K, scale);
  // One weight 2^9 times as large, of an input as small.
  const small = (i: number): number => (loud && i === 0 ? 2 ** -9 : 1);
  if (loud) {
    const block = low.bytes.subarray(5 * (K / 32) * 20).subarray(0, 20);
    block[1] += 9 << 2;
    block.fill(0, 4).fill(1, 4, 5);
  }
  const graph: Graph = {
    name: 'blocks',
    inputs: [{ name: 'x', dtype: 'f32', shape: ['n', K] }],
    outputs: ['y'],
    nodes: [
      { op: 'RMSNormalization', name: '/norm', inputs: ['x', 'gamma'], outputs: ['h'], attrs: { axis: -1, epsilon: 1e-5 } },
      { op: 'Linear', name: '/linear', inputs: ['h', 'w', 'b'], outputs: ['y'], attrs: {} },
    ],
    constants: new Map([
      ['gamma', { dtype: 'f32', shape: [K], data: Float32Array.from({ length: K }, (_, i) => (0.5 + (i % 7) / 7) * small(i)) }],
      ['w', lowBitTensor(low.type, [N, K], low.bytes)],
      ['b', { dtype: 'f32', shape: [N], data: Float32Array.from({ length: N }, (_, i) => i / 10 - 2) }],
    ]),
  };
  const params = { calibrate: [{ n: 3 }, { n: 5 }], run: [{ n: 1 }, { n: 4 }] };
  const { compiled, error, size } = run(graph, { weights: 'public', params });
  const product = compiled.program.gates.find((g) => g.gate === 'matmulPublic')!;
  expect((product.attrs as { blocks?: number }).blocks).toBe(formats[format]);
  expect(compiled.program.gates.some((g) => g.gate === 'affine')).toBe(loud !== undefined);
  expect(error.y).toBeLessThan(0.005 * size.y);
  // Private weights are masked word by word.
  const hidden = run(graph, { weights: 'private', params });
  expect([...hidden.compiled.weights.values()].every((w) => w.blocks === undefined)).toBe(true);
  expect(hidden.error.y).toBeLessThan(0.005 * hidden.size.y);
});
