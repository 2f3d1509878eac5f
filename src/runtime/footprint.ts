/**
 * What a model takes of a role's memory, before any of it is loaded: `loadModel` and `prepare` run over kernels that do nothing and tensors
 * that are only a size. So the figures are those of the real thing, byte for byte (footprint.test.ts).
 */
import { mostParams, type Params, type Program, ProgramError } from '../program/program.ts';
import type { Kernels } from '../ring/kernels/kernels.ts';
import { cacheBytes } from './caches.ts';
import { silentKernels } from './context.ts';
import { loadModel, MemoryFull, type Model, prepare, type Role, type WeightSource } from './model.ts';

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


/** What a role's files say of its tensors, nothing read yet. */
export interface Stored {
  /** By name. */
  readonly shapes: ReadonlyMap<string, readonly number[]>;
  elementBytes(name: string): 1 | 2 | 4;
}

/** `kept`: bytes of matrices that stay in memory; all unless told. Throws MemoryFull when not even one step fits into the largest memory. */
export function footprint(program: Program, role: Role, stored: Stored, kept?: number): Footprint {
  let zeros = new Int32Array(0);
  const sized = (name: string): { shape: readonly number[]; data: Int32Array } => {
    const shape = stored.shapes.get(name);
    if (!shape) throw new ProgramError(`no tensor '${name}' in this role's weights, which the program uses`);
    const n = shape.reduce((a, b) => a * b, 1);
    if (zeros.length < n) zeros = new Int32Array(n);
    return { shape, data: zeros.subarray(0, n) };
  };
  const source: WeightSource = {
    words: sized,
    weightMask: (_, name) => sized(name),
    bytes: (name) => new Uint8Array(sized(name).data.buffer, 0, sized(name).data.length * stored.elementBytes(name)),
    elementBytes: (name) => stored.elementBytes(name),
    maskStream: () => ({ seed: new Uint8Array(32), nonce: [0, 0, 0] }),
  };
  const storage = kept === undefined ? undefined : { bytes: kept, reader: { add: () => 0, take: () => new Uint8Array(0) } };
  const passing = { top: 0 };
  const model = loadModel(program, role, measuring(largestMemory, passing), source, storage);
  return { weights: model.end, loading: Math.max(model.end, passing.top), step: stepBytes(model), caches: cacheBytes(program, role) };
}

/** What a model takes when as much of it as can be stays in memory. `kept`: bytes of matrices that stay, where not all do; below zero: what the rest lacks. */
export interface Fit {
  readonly footprint: Footprint;
  readonly kept?: number;
}

/** In a memory of `bytes` that must also hold `places` steps and a session's caches. */
export function fitInto(program: Program, role: Role, stored: Stored, bytes: number, places: number): Fit {
  try {
    if (storedBytes(program, role, stored) < bytes) {
      const whole = footprint(program, role, stored);
      if (needs(whole, places) <= bytes) return { footprint: whole };
    }
  } catch (e) {
    if (!(e instanceof MemoryFull)) throw e;
  }
  const least = footprint(program, role, stored, 0);
  return { footprint: least, kept: bytes - needs(least, places) };
}
const needs = ({ weights, loading, step, caches }: Footprint, places: number): number => Math.max(loading, weights + places * step + caches);
/** Bytes of its tensors, which a model takes at least: one look at their sizes spares measuring what cannot fit, or surely does. */
export const storedBytes = (program: Program, role: Role, { shapes, elementBytes }: Stored): number =>
  (program.weights === 'private' && role !== 'dealer' ? 2 : 1) *
  [...shapes].reduce((sum, [name, shape]) => sum + shape.reduce((a, b) => a * b, elementBytes(name)), 0);

/** Bytes a step of this model takes at the largest parameters. Throws MemoryFull when the largest memory there is has no room for it. */
export const stepBytes = (model: Model): number =>
  prepare({ ...model, k: measuring(largestMemory, { top: 0 }) }, mostParams(model.program)).end - model.end;

/** Kernels that do nothing, over views that keep nothing but the end of what was written to them whole. */
function measuring(bytes: number, passing: { top: number }): Kernels {
  const view = (unit: number) => ({
    length: bytes,
    set(values: ArrayLike<number>, at: number): void {
      passing.top = Math.max(passing.top, unit * (at + values.length));
    },
  });
  // Written word by word: what lies beyond a typed array's end is dropped. Such writes, and doubles, go to memory that is kept.
  const views: Record<string, unknown> = { u8: view(1), i32: view(4), u32: new Uint32Array(0), f32: view(4), f64: { set(): void {} } };
  return new Proxy({} as Kernels, { get: (_, name) => views[name as string] ?? silentKernels[name as keyof Kernels] });
}
