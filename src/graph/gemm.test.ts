import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { firstFree, newMemory } from '../ring/kernels/memory.ts';
import { wasmKernels } from '../ring/kernels/wasm.ts';
import { gemm, markConstant, useKernels } from './gemm.ts';
import { type Tensor, tensor } from './graph.ts';

const random = (n: number, seed: number): Float32Array => Float32Array.from({ length: n }, (_, i) => Math.sin(seed + 12.9898 * i) * 2);

function reference(a: Float32Array, b: Float32Array, M: number, N: number, K: number, transposed: boolean): Float64Array {
  const c = new Float64Array(M * N);
  for (let i = 0; i < M; i++)
    for (let j = 0; j < N; j++) for (let k = 0; k < K; k++) c[i * N + j] += a[i * K + k] * (transposed ? b[j * K + k] : b[k * N + j]);
  return c;
}

const sizes = [
  [1, 1, 1],
  [2, 3, 5],
  [7, 17, 33],
  [16, 16, 16],
  [49, 64, 64],
  [49, 64, 128],
  [5, 100, 300],
  [129, 31, 65],
  [1, 384, 384],
] as const;

function check(M: number, N: number, K: number, transposed: boolean, owner?: Tensor): void {
  const a = random(M * K + 3, 1);
  const b = owner ? (owner.data as Float32Array) : random(N * K + 5, 2);
  const [aAt, bAt, cAt] = [3, owner ? 0 : 5, 2];
  const c = new Float32Array(M * N + 4).fill(7);
  gemm({ M, N, K, a, aAt, b, bAt, transposed, c, cAt, owner });
  const want = reference(a.subarray(aAt), b.subarray(bAt), M, N, K, transposed);
  let worst = 0;
  for (let i = 0; i < M * N; i++) worst = Math.max(worst, Math.abs(c[cAt + i] - want[i]));
  expect(worst).toBeLessThan(8e-5 * Math.sqrt(K));
  expect([c[0], c[1], c[M * N + 2], c[M * N + 3]]).toEqual([7, 7, 7, 7]);
}

describe.each(['scalar', 'wasm', 'wasm in little memory'])('%s', (kind) => {
  beforeAll(() => {
    if (kind !== 'scalar') {
      const bytes = kind === 'wasm' ? 64 << 20 : 3 << 19;
      useKernels(wasmKernels(newMemory(bytes)), firstFree);
    }
  });
  afterAll(() => useKernels(undefined));

  test.each(sizes)('a product of %i×%i over %i is right, at any offset', (M, N, K) => {
    check(M, N, K, false);
    check(M, N, K, true);
  });

  test('packed constants stay right when the arena fills and is reused', () => {
    const owners = Array.from({ length: 24 }, (_, i) => tensor(random(300 * 200, 10 + i), [300, 200]));
    for (const t of owners) markConstant(t);
    for (let round = 0; round < 2; round++) for (const t of owners) check(20, 200, 300, false, t);
    check(20, 300, 200, true, owners[0]);
  });
});

test('an empty inner axis gives zeros', () => {
  const c = new Float32Array(4).fill(9);
  gemm({ M: 2, N: 2, K: 0, a: new Float32Array(0), aAt: 0, b: new Float32Array(0), bAt: 0, transposed: false, c, cAt: 0 });
  expect([...c]).toEqual([0, 0, 0, 0]);
});
