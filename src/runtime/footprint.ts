/**
 * What a model takes of a role's memory, before any of it is loaded: `loadModel` and `prepare` run over kernels that do nothing and tensors
 * that are only a size. So the figures are those of the real thing, byte for byte (footprint.test.ts).
 */
import { type Params, type Program, ProgramError } from '../program/program.ts';
import type { Kernels } from '../ring/kernels/kernels.ts';
import { cacheBytes } from './caches.ts';
import { silentKernels } from './context.ts';
import { loadModel, type Model, prepare, type Role, type WeightSource } from './model.ts';

/** Bytes of the largest memory there is: 4 GiB less the page that a pointer past its end would need. */
export const largestMemory = 2 ** 32 - 2 ** 16;

export interface Footprint {
  /** Bytes of weights and constants, the kernels' own first page included; and what loading them takes in passing. */
  readonly weights: number;
  readonly loading: number;
  /** Bytes a step takes besides, at the largest parameters; and a session's caches. */
  readonly step: number;
  readonly caches: number;
}

const largest = (program: Program): Params => Object.fromEntries(Object.entries(program.params).map(([name, { max }]) => [name, max]));

/** `shapes`: of the role's tensors, by name. Throws MemoryFull when not even one step fits into the largest memory. */
export function footprint(program: Program, role: Role, shapes: ReadonlyMap<string, readonly number[]>): Footprint {
  let zeros = new Int32Array(0);
  const sized = (name: string): { shape: readonly number[]; data: Int32Array } => {
    const shape = shapes.get(name);
    if (!shape) throw new ProgramError(`no tensor '${name}' in this role's weights, which the program uses`);
    const n = shape.reduce((a, b) => a * b, 1);
    if (zeros.length < n) zeros = new Int32Array(n);
    return { shape, data: zeros.subarray(0, n) };
  };
  const source: WeightSource = { words: sized, weightMask: (_, name) => sized(name) };
  const passing = { top: 0 };
  const model = loadModel(program, role, measuring(largestMemory, passing), source);
  return { weights: model.end, loading: Math.max(model.end, passing.top), step: stepBytes(model), caches: cacheBytes(program, role) };
}

/** Bytes a step of this model takes at the largest parameters. Throws MemoryFull when the largest memory there is has no room for it. */
export const stepBytes = (model: Model): number =>
  prepare({ ...model, k: measuring(largestMemory, { top: 0 }) }, largest(model.program)).end - model.end;

/** Kernels that do nothing, over views that keep nothing but the end of what was written to them whole. */
function measuring(bytes: number, passing: { top: number }): Kernels {
  const view = {
    length: bytes,
    set(values: ArrayLike<number>, at: number): void {
      passing.top = Math.max(passing.top, 4 * (at + values.length));
    },
  };
  // Written word by word: what lies beyond a typed array's end is dropped. Such writes, and doubles, go to memory that is kept.
  const views: Record<string, unknown> = { u8: view, i32: view, u32: new Uint32Array(0), f32: view, f64: { set(): void {} } };
  return new Proxy({} as Kernels, { get: (_, name) => views[name as string] ?? silentKernels[name as keyof Kernels] });
}
