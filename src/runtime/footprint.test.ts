import { rmSync } from 'node:fs';
import { afterAll, expect, test } from 'vitest';
import { at, home, write } from '../../test/cli/tiny.ts';
import { readCompiled, weightSource } from '../folder/index.ts';
import { newMemory } from '../ring/kernels/memory.ts';
import { wasmKernels } from '../ring/kernels/wasm.ts';
import { footprint } from './footprint.ts';
import { loadModel, prepare } from './model.ts';

afterAll(() => rmSync(home, { recursive: true }));

test.each(['public', 'private'] as const)('of a model with %s weights: what loading and preparing it really take, to the byte', (kind) => {
  write(kind, kind);
  const { program } = readCompiled(at(kind));
  for (const role of ['p0', 'p1', 'dealer'] as const) {
    const weights = weightSource(at(kind), role);
    const found = footprint(program, role, weights);
    // Memory for all of it and not a page more.
    const k = wasmKernels(newMemory(Math.max(found.loading, found.weights + found.step)));
    const model = loadModel(program, role, k, weights);
    expect([model.end, prepare(model, { n: program.params.n.max }).end - model.end]).toEqual([found.weights, found.step]);
    expect(prepare(model, { n: 1 }).end - model.end).toBeLessThanOrEqual(found.step);
    const less = wasmKernels(newMemory(Math.max(1, found.weights + found.step - 65536)));
    expect(() => prepare(loadModel(program, role, less, weights), { n: program.params.n.max })).toThrow('needs more than');
    weights.close();
  }
});
