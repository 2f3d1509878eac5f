/** Files of a compiled folder: read with one-line errors, written whole or not at all. */
import { createHash } from 'node:crypto';
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import type { z } from 'zod';
import { ModelError } from '../graph/graph.ts';
import { duplicateKey, safetensorsChunks, type TensorData } from '../import/safetensors.ts';

/** What a text file of a compiled folder may have at most; a program of hundreds of layers has a tenth of it. */
const longestText = 1 << 28;

export function readText(path: string): string {
  try {
    if (statSync(path).size > longestText) throw new ModelError(`${path}: longer than ${longestText >> 20} MiB`);
    return new TextDecoder('utf-8', { fatal: true }).decode(readFileSync(path));
  } catch (e) {
    if (e instanceof ModelError) throw e;
    const { code } = e as NodeJS.ErrnoException;
    if (e instanceof TypeError) throw new ModelError(`${path}: not UTF-8 text`);
    throw new ModelError(code === 'ENOENT' || code === 'ENOTDIR' ? `${path}: no such file` : `${path}: cannot be read (${code})`);
  }
}

/** A JSON text against its schema; the first thing wrong with it, and where. `twice`: a key may stand twice in an object. */
export function parseJson<T>(text: string, schema: z.ZodType<T>, path: string, { twice = false } = {}): T {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (e) {
    throw new ModelError(`${path}: not JSON: ${(e as Error).message}`);
  }
  const key = twice ? undefined : duplicateKey(text);
  if (key !== undefined) throw new ModelError(`${path}: '${key}' stands twice in one object`);
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw new ModelError(`${path}: ${issue.path.map(String).join('.') || 'file'}: ${issue.message}`);
}

/** SHA-256 of a file's bytes, in hex. */
export function hashOf(path: string): string {
  const hash = createHash('sha256');
  const fd = openSync(path, 'r');
  try {
    const chunk = new Uint8Array(1 << 20);
    for (let n = readSync(fd, chunk); n > 0; n = readSync(fd, chunk)) hash.update(chunk.subarray(0, n));
  } finally {
    closeSync(fd);
  }
  return hash.digest('hex');
}

export const hashText = (text: string): string => createHash('sha256').update(text, 'utf8').digest('hex');

/** Writes a safetensors file piece by piece and returns its SHA-256. */
export function writeTensors(path: string, tensors: ReadonlyMap<string, TensorData>): string {
  const hash = createHash('sha256');
  const fd = openSync(path, 'wx');
  try {
    for (const chunk of safetensorsChunks(tensors)) {
      hash.update(chunk);
      for (let at = 0; at < chunk.length; ) at += writeSync(fd, chunk, at, Math.min(chunk.length - at, 1 << 30));
    }
  } finally {
    closeSync(fd);
  }
  return hash.digest('hex');
}

/** JSON in one spelling: keys sorted, no spaces, no numbers that JSON lacks. Equal values give equal bytes, so a hash names a value. */
export function canonical(value: unknown): string {
  if (typeof value === 'number' && !Number.isFinite(value)) throw new RangeError(`${value} cannot be written as JSON`);
  if (value === null || typeof value !== 'object') return JSON.stringify(value) ?? 'null';
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`;
  const entries = Object.entries(value as Record<string, unknown>).filter(([, v]) => v !== undefined);
  entries.sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${entries.map(([k, v]) => `${JSON.stringify(k)}:${canonical(v)}`).join(',')}}`;
}

/**
 * Makes the folder `dir` by `fill(temporary)`: it appears complete, in one rename, or not at all. An existing `dir` is replaced when
 * `replace` says so for it (then only), and stays as it was when anything fails.
 */
export function writeFolder(dir: string, fill: (temporary: string) => void, replace: (existing: string) => boolean = () => false): void {
  const target = resolve(dir);
  if (existsSync(target) && !isEmpty(target) && !replace(target)) throw new ModelError(`${dir} exists already; nothing was written`);
  const parent = dirname(target);
  mkdirSync(parent, { recursive: true });
  sweep(parent, basename(target));
  const temporary = join(parent, `.${basename(target)}.${process.pid}.tmp`);
  rmSync(temporary, { recursive: true, force: true });
  try {
    mkdirSync(temporary);
    fill(temporary);
    const old = `${temporary}.old`;
    if (existsSync(target)) renameSync(target, old);
    try {
      renameSync(temporary, target);
    } catch (e) {
      if (existsSync(old)) renameSync(old, target);
      throw e;
    }
    rmSync(old, { recursive: true, force: true });
  } catch (e) {
    rmSync(temporary, { recursive: true, force: true });
    throw e;
  }
}

/** Text files by path, in a folder that does not exist yet, all of it its owner's alone (0600 in 0700). */
export function writeTree(dir: string, files: ReadonlyMap<string, string>): void {
  writeFolder(dir, (temporary) => {
    chmodSync(temporary, 0o700);
    for (const [name, text] of files) {
      mkdirSync(dirname(join(temporary, name)), { recursive: true, mode: 0o700 });
      writeFileSync(join(temporary, name), text, { mode: 0o600, flag: 'wx' });
    }
  });
}

const isEmpty = (path: string): boolean => statSync(path).isDirectory() && readdirSync(path).length === 0;

/** Removes what processes that are gone left behind when they were killed in mid-write. */
function sweep(parent: string, name: string): void {
  for (const entry of readdirSync(parent)) {
    const [, pid] = entry.startsWith(`.${name}.`) ? (/\.(\d+)\.tmp$/.exec(entry) ?? []) : [];
    if (pid !== undefined && !alive(Number(pid))) rmSync(join(parent, entry), { recursive: true, force: true });
  }
}

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (e) {
    return (e as NodeJS.ErrnoException).code === 'EPERM';
  }
}
