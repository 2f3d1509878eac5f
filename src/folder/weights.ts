/** A role's weights: what of them is written where, and how a role reads its own part and nothing else. */
import { chmodSync, copyFileSync, linkSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { ModelError, sizeOf } from '../graph/graph.ts';
import type { SafeTensors, TensorData } from '../import/safetensors.ts';
import { openSafetensors } from '../import/safetensors-file.ts';
import { type Program, ProgramError } from '../program/program.ts';
import type { Stored } from '../runtime/footprint.ts';
import type { Reader } from '../runtime/matrices.ts';
import type { Role, WeightSource } from '../runtime/model.ts';
import { canonical, hashOf, parseJson, readText, writeTensors } from './files.ts';
import { FileReader } from './reader.ts';
import { maskNonce, maskWords, newSeed, readSeeds, writeSeeds } from './seeds.ts';

export interface Integers {
  readonly shape: readonly number[];
  readonly data: Int32Array;
  /** A matrix in blocks (ring/kernels/panels.ts): bytes as they are stored, in place of data. */
  readonly blocks?: Uint8Array;
}

export type WeightKind = Program['weights'];

const publicFile = 'weights.safetensors';
const maskedFile = 'masked.safetensors';
/** Files that only their owner may read. */
export const secretFiles: readonly string[] = ['seed', 'seeds'];

/** What a role holds of a model's weights, by file name. */
export function roleWeightFiles(role: Role, kind: WeightKind): readonly string[] {
  if (kind === 'public') return role === 'dealer' ? [] : [publicFile];
  return role === 'dealer' ? ['seeds', 'tensors.json'] : [maskedFile, 'seed'];
}

const byName = (a: string, b: string): number => (a < b ? -1 : 1);

/** weights.safetensors: 16 bits a value where a tensor's values fit, else 32; blocks as they are. Returns the file's hash. */
export function writePublic(dir: string, weights: ReadonlyMap<string, Integers>): string {
  const tensors = new Map<string, TensorData>();
  for (const [name, w] of weights) {
    if (w.blocks) tensors.set(name, { dtype: 'U8', shape: [w.blocks.length], data: w.blocks });
    else {
      const { shape, data } = w;
      const small = data.every((v) => v >= -32768 && v < 32768);
      tensors.set(name, small ? { dtype: 'I16', shape, data: Int16Array.from(data) } : { dtype: 'I32', shape, data });
    }
  }
  return writeTensors(join(dir, publicFile), tensors);
}

const DealerTensors = z.strictObject({
  format: z.literal('subrosa-masks/1'),
  tensors: z.array(z.strictObject({ name: z.string(), shape: z.array(z.int().min(0)).max(16) })),
});

function roleFolders(dir: string): void {
  for (const role of ['p0', 'p1', 'dealer']) {
    mkdirSync(join(dir, role));
    chmodSync(join(dir, role), 0o700);
  }
}

/** Public weights, for a folder of each role. Returns the hash of the file. */
export function copyPublic(from: string, dir: string): string {
  roleFolders(dir);
  for (const party of ['p0', 'p1']) copyFileSync(join(from, publicFile), join(dir, party, publicFile));
  return hashOf(join(dir, 'p0', publicFile));
}

/** p0/, p1/ and dealer/, under fresh seeds. A tensor's data is asked for when its turn comes. Returns the hash of the masked file. */
export function writePrivate(dir: string, weights: ReadonlyMap<string, Integers>): string {
  const seeds = [newSeed(), newSeed()] as const;
  const names = [...weights.keys()].sort(byName);
  const masked = names.map((name, k): [string, TensorData] => {
    const tensor = weights.get(name) as Integers;
    return [name, lazily(tensor.shape, () => maskedWords(tensor.data, seeds, k))];
  });
  roleFolders(dir);
  const hash = writeTensors(join(dir, 'p0', maskedFile), new Map(masked));
  alike(join(dir, 'p0', maskedFile), join(dir, 'p1', maskedFile));
  writeSeeds(join(dir, 'p0', 'seed'), hash, [seeds[0]]);
  writeSeeds(join(dir, 'p1', 'seed'), hash, [seeds[1]]);
  writeSeeds(join(dir, 'dealer', 'seeds'), hash, seeds);
  const tensors = names.map((name) => ({ name, shape: weights.get(name)?.shape }));
  writeFileSync(join(dir, 'dealer', 'tensors.json'), canonical({ format: 'subrosa-masks/1', tensors }), { flag: 'wx' });
  for (const s of seeds) s.fill(0);
  return hash;
}

/** One file under two names, where the disk can: it may be large, and nobody writes to it again. */
function alike(from: string, to: string): void {
  try {
    linkSync(from, to);
  } catch {
    copyFileSync(from, to);
  }
}

/** F = W − B_0 − B_1 of tensor number k. */
function maskedWords(data: Int32Array, seeds: readonly [Uint8Array, Uint8Array], k: number): Int32Array {
  const [b0, b1] = [maskWords(seeds[0], k, 0, data.length), maskWords(seeds[1], k, 1, data.length)];
  for (let i = 0; i < data.length; i++) b0[i] = data[i] - b0[i] - b1[i];
  return b0;
}

/** A model's weights need not lie in memory at once: writing looks at each tensor's size first, at its words when they are written. */
const lazily = (shape: readonly number[], words: () => Int32Array): TensorData => ({
  dtype: 'I32',
  shape,
  get data() {
    return words();
  },
});

/** A role's weights, read when asked for; `close` lets go of the file. */
export interface OpenWeights extends WeightSource, Stored {
  elementBytes(name: string): 1 | 2 | 4;
  /** Reads matrices that are not kept in memory, ahead of their use. */
  reader?(): Reader;
  close(): void;
}

const elementBytes: Readonly<Record<string, 1 | 2 | 4>> = { U8: 1, I16: 2, I32: 4 };

/** What a role reads of its weights, from its own files in `dir` and no others. `kind` and `hash` are the program's. */
export function openWeights(dir: string, role: Role, kind: WeightKind, hash: string): OpenWeights {
  const nothing = (): never => {
    throw new ProgramError(`internal: ${role} asks for weights it does not hold`);
  };
  if (role === 'dealer')
    return kind === 'public'
      ? { words: nothing, weightMask: nothing, shapes: new Map(), elementBytes: () => 4, close() {} }
      : dealerMasks(dir, hash, nothing);
  const path = join(dir, kind === 'public' ? publicFile : maskedFile);
  const file = openSafetensors(path);
  try {
    if (hashOf(path) !== hash)
      throw new ModelError(`${path}: not the weights this program was compiled with (its SHA-256 differs); compile the model again`);
    const shapes = new Map([...file.tensors].map(([name, { shape }]) => [name, shape]));
    let reader: FileReader | undefined;
    const open = {
      words: (name: string) => integers(file, name),
      bytes: (name: string) => file.bytes(name),
      elementBytes: (name: string): 1 | 2 | 4 => elementBytes[file.tensors.get(name)?.dtype ?? ''] ?? 4,
      reader() {
        reader ??= new FileReader(path, file);
        return reader;
      },
      shapes,
      close() {
        reader?.close();
        file.close();
      },
    };
    if (kind === 'public') return { ...open, weightMask: nothing };
    const [seed] = readSeeds(join(dir, 'seed'), hash, 1);
    const own = role === 'p0' ? 0 : 1;
    const numbers = numbered(shapes.keys());
    return {
      ...open,
      weightMask(party, name) {
        const shape = shapes.get(name);
        if (party !== own || !shape) return nothing();
        return { shape, data: maskWords(seed, numbers.get(name) as number, own, sizeOf(shape)) };
      },
      maskStream(party, name) {
        if (party !== own) return nothing();
        return { seed, nonce: maskNonce(numbers.get(name) as number, own) };
      },
      close() {
        seed.fill(0);
        open.close();
      },
    };
  } catch (e) {
    file.close();
    throw e;
  }
}

function dealerMasks(dir: string, hash: string, nothing: () => never): OpenWeights {
  const seeds = readSeeds(join(dir, 'seeds'), hash, 2);
  const path = join(dir, 'tensors.json');
  const { tensors } = parseJson(readText(path), DealerTensors, path);
  const shapes = new Map(tensors.map((t) => [t.name, t.shape]));
  const numbers = numbered(shapes.keys());
  return {
    words: nothing,
    shapes,
    elementBytes: () => 4,
    maskStream: (party, name) => ({ seed: seeds[party], nonce: maskNonce(numbers.get(name) as number, party) }),
    close() {
      for (const s of seeds) s.fill(0);
    },
    weightMask(party, name) {
      const shape = shapes.get(name);
      if (!shape) throw new ModelError(`${path}: no tensor '${name}', which the program uses`);
      return { shape, data: maskWords(seeds[party], numbers.get(name) as number, party, sizeOf(shape)) };
    },
  };
}

const numbered = (names: Iterable<string>): Map<string, number> => new Map([...names].sort(byName).map((name, k) => [name, k]));

/** Straight to 32-bit words: `tensor()` would go through doubles. */
function integers(file: SafeTensors, name: string): Integers {
  const info = file.tensors.get(name);
  if (!info) throw new ModelError(`${file.label}: no tensor '${name}', which the program uses`);
  const bytes = file.bytes(name);
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice();
  const { buffer, byteOffset, byteLength } = aligned;
  if (info.dtype === 'I32') return { shape: info.shape, data: new Int32Array(buffer, byteOffset, byteLength / 4) };
  if (info.dtype === 'I16') return { shape: info.shape, data: Int32Array.from(new Int16Array(buffer, byteOffset, byteLength / 2)) };
  throw new ModelError(`${file.label}: tensor '${name}' is ${info.dtype}; I16 and I32 are expected`);
}
