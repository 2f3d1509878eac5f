/**
 * Masks of private weights. W = F + B_0 + B_1 mod 2^32, tensor by tensor: F is in both parties' masked.safetensors, B_i is a stream that
 * party i and the dealer draw from a 32-byte seed. Two roles together have the weights, one alone has noise.
 *
 * B_i of tensor number k (tensors in order of their names' code units) is the ChaCha12 stream with the seed as key and nonce
 * (0xffffffff, k, i), in the word order of the kernels' PRG. Seeds are drawn anew by every compile and mask nothing else.
 */
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { ModelError } from '../graph/graph.ts';
import { type Kernels, prgScratch } from '../ring/kernels/kernels.ts';
import { firstFree, newMemory } from '../ring/kernels/memory.ts';
import { wasmKernels } from '../ring/kernels/wasm.ts';
import { readText } from './files.ts';

/** Step number of these nonces; a session's steps never get there. */
const weightStep = 0xffffffff;
/** Words drawn at a time: a multiple of 4096, as `prg` wants its starts. */
const batch = 1 << 16;

let kernels: Kernels | undefined;
function ownKernels(): Kernels {
  kernels ??= wasmKernels(newMemory(firstFree + 4 * batch + prgScratch + 4096));
  return kernels;
}

export const maskNonce = (tensor: number, party: 0 | 1): readonly [number, number, number] => [weightStep, tensor, party];

/** n words of the mask B_party of tensor number `tensor`. */
export function maskWords(seed: Uint8Array, tensor: number, party: 0 | 1, n: number, k: Kernels = ownKernels()): Int32Array {
  const out = new Int32Array(n);
  const dst = firstFree;
  const key = dst + 4 * batch;
  k.u8.set(seed, key);
  for (let first = 0; first < n; first += batch) {
    const count = Math.min(batch, n - first);
    k.prg(dst, key, ...maskNonce(tensor, party), 32, first, count, key + 64);
    out.set(k.i32.subarray(dst / 4, dst / 4 + count), first);
  }
  k.u8.fill(0, dst, key + 32);
  return out;
}

export const newSeed = (): Uint8Array => new Uint8Array(randomBytes(32));

const head = 'subrosa-seed/1';

/** Readable by the owner alone. The first line names the weights the seeds belong to, so that folders are not mixed up. */
export function writeSeeds(path: string, weightsHash: string, seeds: readonly Uint8Array[]): void {
  const lines = [`${head} ${weightsHash}`, ...seeds.map((s) => Buffer.from(s).toString('hex'))];
  writeFileSync(path, `${lines.join('\n')}\n`, { mode: 0o600, flag: 'wx' });
}

export function readSeeds(path: string, weightsHash: string, count: number): Uint8Array[] {
  const [first, ...seeds] = readText(path).trimEnd().split('\n');
  if (!first.startsWith(`${head} `) || seeds.length !== count || seeds.some((s) => !/^[0-9a-f]{64}$/.test(s)))
    throw new ModelError(
      `${path}: ${count === 1 ? 'a seed of 64 hexadecimal digits is' : 'two seeds of 64 hexadecimal digits are'} expected after '${head} HASH'`,
    );
  if (first !== `${head} ${weightsHash}`)
    throw new ModelError(`${path} belongs to other weights than this program: take all files from one compile`);
  return seeds.map((s) => new Uint8Array(Buffer.from(s, 'hex')));
}
