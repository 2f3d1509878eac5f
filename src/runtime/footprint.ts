/**
 * What a model takes of a role's memory, before any of it is loaded: `loadModel` and `prepare` run over kernels that do nothing and tensors
 * that are only a size. So the figures are those of the real thing, byte for byte (footprint.test.ts).
 */
import type { Params, Program } from '../program/program.ts';
import type { Kernels } from '../ring/kernels/kernels.ts';
import { silentKernels } from './context.ts';
import { loadModel, prepare, type Role, type WeightSource } from './model.ts';

export interface Footprint {
  /** Bytes of weights and constants, the kernels' own first page included. */
  readonly weights: number;
  /** Bytes a step takes besides, at the largest parameters. */
  readonly step: number;
}

const largest = (program: Program): Params => Object.fromEntries(Object.entries(program.params).map(([name, { max }]) => [name, max]));

/** `shapes`: of the role's tensors, by name. `memory`: bytes of the largest memory there is. */
export function footprint(
  program: Program,
  role: Role,
  shapes: ReadonlyMap<string, readonly number[]>,
  memory = 2 ** 32 - 2 ** 16,
): Footprint {
  let zeros = new Int32Array(0);
  const sized = (name: string): { shape: readonly number[]; data: Int32Array } => {
    const shape = shapes.get(name);
    if (!shape) throw new Error(`no tensor '${name}', which the program uses`);
    const n = shape.reduce((a, b) => a * b, 1);
    if (zeros.length < n) zeros = new Int32Array(n);
    return { shape, data: zeros.subarray(0, n) };
  };
  const source: WeightSource = { words: sized, weightMask: (_, name) => sized(name) };
  const model = loadModel(program, role, measuring(memory), source);
  return { weights: model.end, step: prepare(model, largest(program)).end - model.end };
}

/** Kernels that do nothing, over views that keep nothing (what is written beyond an array's end is dropped). */
function measuring(bytes: number): Kernels {
  const view = { length: bytes, set(): void {} };
  const views: Record<string, unknown> = { u8: view, i32: view, u32: new Uint32Array(0), f32: view, f64: view };
  return new Proxy({} as Kernels, { get: (_, name) => views[name as string] ?? silentKernels[name as keyof Kernels] });
}
