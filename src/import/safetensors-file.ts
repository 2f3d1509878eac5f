import { closeSync, existsSync, fstatSync, openSync, readFileSync, readSync, renameSync, rmSync, writeSync } from 'node:fs';
import { basename, join } from 'node:path';
import { ModelError } from '../graph/graph.ts';
import {
  duplicateKey,
  readSafetensors,
  type SafeTensors,
  type Source,
  safetensorsChunks,
  type TensorData,
  type TensorInfo,
} from './safetensors.ts';

/** A file read piece by piece. Throws ModelError when it cannot be opened, or ends while being read. */
export function openSource(path: string): { source: Source; close: () => void } {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch (e) {
    throw new ModelError(`${path}: cannot be opened (${(e as NodeJS.ErrnoException).code})`);
  }
  const read = (begin: number, end: number): Uint8Array => {
    const bytes = new Uint8Array(end - begin);
    for (let at = 0; at < bytes.length; ) {
      const n = readSync(fd, bytes, at, Math.min(bytes.length - at, 1 << 30), begin + at);
      if (n === 0) throw new ModelError(`${path}: ended at byte ${begin + at} while it was being read`);
      at += n;
    }
    return bytes;
  };
  return { source: { label: path, size: fstatSync(fd).size, read }, close: () => closeSync(fd) };
}

/** safetensors on disk: one file read tensor by tensor, or the several files of a sharded model as if they were one. */
export function openSafetensors(path: string): SafeTensors {
  const { source, close } = openSource(path);
  try {
    return readSafetensors(source, close);
  } catch (e) {
    close();
    throw e;
  }
}

const INDEX = 'model.safetensors.index.json';

/** A model folder's weights: model.safetensors, or the shards its index names. */
export function openWeights(dir: string): SafeTensors {
  const single = join(dir, 'model.safetensors');
  const index = join(dir, INDEX);
  if (existsSync(single) || !existsSync(index)) return openSafetensors(single);
  const home = shardMap(index);
  const shards = new Map<string, SafeTensors>();
  const close = (): void => {
    for (const shard of shards.values()) shard.close();
  };
  try {
    for (const file of new Set(home.values())) shards.set(file, openSafetensors(join(dir, file)));
    const of = (name: string): SafeTensors => shards.get(home.get(name) ?? '') ?? fail(index, `no tensor '${name}'`);
    const tensors = new Map<string, TensorInfo>();
    for (const [name, file] of home)
      tensors.set(name, of(name).tensors.get(name) ?? fail(index, `tensor '${name}' is not in ${file}, where it should be`));
    for (const [file, shard] of shards)
      for (const name of shard.tensors.keys())
        if (home.get(name) !== file) fail(index, `tensor '${name}' in ${file} is not listed for that file`);
    return {
      label: index,
      tensors,
      metadata: new Map(),
      bytes: (name) => of(name).bytes(name),
      tensor: (name) => of(name).tensor(name),
      close,
    };
  } catch (e) {
    close();
    throw e;
  }
}

const fail = (label: string, reason: string): never => {
  throw new ModelError(`${label}: ${reason}`);
};

function shardMap(path: string): Map<string, string> {
  const text = readFileSync(path, 'utf8');
  let map: unknown;
  try {
    map = (JSON.parse(text) as { weight_map?: unknown }).weight_map;
  } catch (e) {
    fail(path, `not JSON: ${(e as Error).message}`);
  }
  const twice = duplicateKey(text);
  if (twice !== undefined) fail(path, `'${twice}' stands twice`);
  if (typeof map !== 'object' || map === null || Array.isArray(map)) return fail(path, 'has no weight_map');
  const out = new Map<string, string>();
  for (const [name, file] of Object.entries(map)) {
    if (typeof file !== 'string' || basename(file) !== file || !file.endsWith('.safetensors'))
      return fail(path, `tensor '${name}' names ${JSON.stringify(file)}: a .safetensors file beside the index is expected`);
    out.set(name, file);
  }
  return out;
}

/** Written beside the target and renamed: a reader sees the whole file or none. */
export function saveSafetensors(path: string, tensors: ReadonlyMap<string, TensorData>, metadata?: ReadonlyMap<string, string>): void {
  const temporary = `${path}.${process.pid}.tmp`;
  const fd = openSync(temporary, 'w');
  try {
    for (const chunk of safetensorsChunks(tensors, metadata))
      for (let at = 0; at < chunk.length; ) at += writeSync(fd, chunk, at, Math.min(chunk.length - at, 1 << 30));
    closeSync(fd);
    renameSync(temporary, path);
  } catch (e) {
    rmSync(temporary, { force: true });
    throw e;
  }
}
