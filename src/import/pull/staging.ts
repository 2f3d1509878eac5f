import { createHash, type Hash } from 'node:crypto';
import { createReadStream, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { z } from 'zod';
import { ModelError } from '../../graph/graph.ts';

/**
 * Where a download grows until it is whole: `.NAME.pull-KEY/` beside the model folder, KEY naming the exact version. It becomes the model
 * folder in one rename, so that a model folder with a subrosa-source.json is always complete; an interrupted pull leaves the staging
 * folder, and the next one of the same version goes on in it.
 */
export const SOURCE_FILE = 'subrosa-source.json';

const Digest = z.string().regex(/^[0-9a-f]{64}$/);
const Source = z.object({
  /** 'hub' or 'pypi'. */
  from: z.enum(['hub', 'pypi']),
  /** owner/name, or the package. */
  name: z.string(),
  /** The commit, or the package's version. */
  revision: z.string(),
  /** The server's address, or the wheel's file name. */
  at: z.string(),
  files: z.record(z.string(), z.object({ size: z.int().min(0), sha256: Digest })),
});
export type Source = z.infer<typeof Source>;
export type SourceFiles = Source['files'];

/** The record of a complete model folder, or undefined; a record that its files do not fit is an error. */
export function readSource(dir: string): Source | undefined {
  const path = join(dir, SOURCE_FILE);
  if (!existsSync(path)) return undefined;
  let source: Source;
  try {
    source = Source.parse(JSON.parse(readFileSync(path, 'utf8')));
  } catch {
    throw new ModelError(`${path} is damaged: delete ${dir} and pull again`);
  }
  for (const [file, { size }] of Object.entries(source.files)) {
    const found = existsSync(join(dir, file)) ? statSync(join(dir, file)).size : undefined;
    if (found !== size)
      throw new ModelError(
        `${join(dir, file)} ${found === undefined ? 'is gone' : `has ${found} bytes instead of ${size}`}: delete ${dir} and pull again`,
      );
  }
  return source;
}

/** A complete folder's files against the hashes on record. */
export async function verifySource(dir: string): Promise<void> {
  const source = readSource(dir);
  if (!source) throw new ModelError(`${dir} has no ${SOURCE_FILE}`);
  for (const [file, { sha256 }] of Object.entries(source.files)) {
    const found = (await hashFile(join(dir, file))).digest('hex');
    if (found !== sha256) throw new ModelError(`${join(dir, file)} has changed since it was pulled: sha256 ${found}, ${sha256} on record`);
  }
}

/** The target is free, or ours to replace. */
export function checkTarget(dir: string): void {
  if (existsSync(dir) && !existsSync(join(dir, SOURCE_FILE)) && (!statSync(dir).isDirectory() || readdirSync(dir).length > 0))
    throw new ModelError(`${dir} is there and was not pulled by this program: choose another folder`);
}

export function stage(dir: string, key: string): string {
  const target = resolve(dir);
  const staging = join(dirname(target), `.${basename(target)}.pull-${key.replace(/[^\w.-]/g, '_').slice(0, 40)}`);
  mkdirSync(staging, { recursive: true });
  return staging;
}

/** Writes the record and puts the staging folder where the model belongs. */
export function settle(staging: string, dir: string, source: Source): void {
  writeFileSync(join(staging, SOURCE_FILE), `${JSON.stringify(source, null, 2)}\n`);
  const old = `${staging}.old`;
  rmSync(old, { recursive: true, force: true });
  if (existsSync(dir)) renameSync(dir, old);
  renameSync(staging, dir);
  rmSync(old, { recursive: true, force: true });
}

export async function hashFile(path: string, hash: Hash = createHash('sha256')): Promise<Hash> {
  if (existsSync(path))
    await pipeline(createReadStream(path), async (chunks: AsyncIterable<Buffer>) => {
      for await (const c of chunks) hash.update(c);
    });
  return hash;
}
