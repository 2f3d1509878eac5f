/**
 * Models on their way to a role's disk. An upload is declared first, with the size and SHA-256 of each file, then written in chunks, each
 * where the last one ended, and stands in the role's models only when all of it is there and right, in one rename. Until then it lies in
 * {models}/.uploads/{hash}: declared.json, and files/. One that nobody has touched for a day is deleted.
 */
import { createHash } from 'node:crypto';
import {
  closeSync,
  createReadStream,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  rmSync,
  statfsSync,
  statSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { SubrosaError } from '../client/errors.ts';
import { canonical, mayHold, parseJson, readText, roleFiles } from '../folder/index.ts';
import { ModelError } from '../graph/graph.ts';
import { ProgramError } from '../program/program.ts';
import { type RoleModels, uploadsFolder } from './models.ts';

const Declared = z.strictObject({
  weights: z.enum(['public', 'private']),
  files: z.record(z.string().max(200), z.strictObject({ bytes: z.int().min(1), sha256: z.string().regex(/^[0-9a-f]{64}$/) })),
});
/** What the owner is about to send: every file, by its name in the role's folder. */
export type Declared = z.infer<typeof Declared>;

/** What an upload needs of a disk; a test puts a small one in its place. */
export interface Disk {
  /** Bytes free to this process where `path` lies. */
  free(path: string): number;
  write(fd: number, bytes: Uint8Array, at: number): void;
}

export interface UploadLimits {
  /** Bytes of one model. */
  readonly modelBytes: number;
  /** Uploads in progress. */
  readonly uploads: number;
  /** Seconds after which an upload that nobody goes on with is deleted. */
  readonly staleSeconds: number;
}

export const uploadLimits: UploadLimits = { modelBytes: 2 ** 35, uploads: 16, staleSeconds: 86_400 };

/** Left free on the disk, for logs and what else runs there. */
const reserve = 2 ** 26;

const realDisk: Disk = {
  free(path) {
    const { bavail, bsize } = statfsSync(path);
    return bavail * bsize;
  },
  write(fd, bytes, at) {
    for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done, bytes.length - done, at + done);
  },
};

export class Uploads {
  private readonly dir: string;
  private readonly limits: UploadLimits;
  /** Uploads a request is at work on: one at a time. */
  private readonly busy = new Set<string>();

  constructor(
    private readonly models: RoleModels,
    limits: Partial<UploadLimits> = {},
    private readonly disk: Disk = realDisk,
    private readonly now: () => number = Date.now,
  ) {
    this.limits = { ...uploadLimits, ...limits };
    this.dir = join(models.dir, uploadsFolder);
    mkdirSync(this.dir, { recursive: true, mode: 0o700 });
    this.sweep();
  }

  /** Bytes that are here already of each file, so that an upload that was cut goes on; undefined: the whole model is here. */
  declare(hash: string, value: unknown): Record<string, number> | undefined {
    if (this.models.takes(hash)) return undefined;
    this.sweep();
    const declared = this.checked(hash, value);
    const text = canonical(declared);
    const at = join(this.dir, hash);
    // Other sizes or hashes under one name: what lies here belongs to something else.
    if (existsSync(at) && this.declared(hash) !== text) rmSync(at, { recursive: true });
    if (!existsSync(at) && this.pending().length >= this.limits.uploads)
      throw new SubrosaError('busy', `${this.models.role} has ${this.limits.uploads} uploads in progress: finish or remove one`);
    const here = Object.fromEntries(Object.keys(declared.files).map((name) => [name, sizeOf(join(at, 'files', name))]));
    const missing = Object.entries(declared.files).reduce((sum, [name, { bytes }]) => sum + bytes - here[name], 0);
    const free = this.disk.free(this.dir) - reserve;
    if (missing > free) throw diskFull(this.models.role, missing, Math.max(0, free));
    if (!existsSync(at)) {
      mkdirSync(join(at, 'files'), { recursive: true, mode: 0o700 });
      writeFileSync(join(at, 'declared.json'), text, { mode: 0o600 });
    }
    return here;
  }

  /** Appends a chunk to a file of a declared upload. `offset`: where the sender believes the file ends. Returns its length now. */
  write(hash: string, name: string, offset: number, chunk: Uint8Array): number {
    const { files } = this.read(hash);
    if (!Object.hasOwn(files, name)) throw new SubrosaError('bad-message', `the upload declares no file '${name}'`);
    const path = join(this.dir, hash, 'files', name);
    const size = sizeOf(path);
    if (offset !== size)
      throw new SubrosaError(
        'mismatch',
        `${name} has ${size} bytes here, the chunk begins at ${offset}: declare the upload again and go on`,
      );
    if (offset + chunk.length > files[name].bytes)
      throw new SubrosaError('too-large', `${name}: ${files[name].bytes} bytes were declared, this chunk ends at ${offset + chunk.length}`);
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    const fd = openSync(path, size === 0 ? 'w' : 'r+', 0o600);
    try {
      this.disk.write(fd, chunk, offset);
    } catch (e) {
      // What of it was written is right, and counts: the next chunk begins there.
      const { code } = e as NodeJS.ErrnoException;
      if (code === 'ENOSPC' || code === 'EDQUOT') throw diskFull(this.models.role, chunk.length, 0);
      throw e;
    } finally {
      closeSync(fd);
    }
    this.touch(hash);
    return offset + chunk.length;
  }

  /** Checks every file and hands the model over. A file whose bytes are not those declared is deleted, so that it is sent again. */
  async commit(hash: string): Promise<void> {
    if (this.models.takes(hash)) return;
    const { files } = this.read(hash);
    if (this.busy.has(hash)) throw new SubrosaError('busy', 'this upload is being committed', { retryAfter: 1 });
    this.busy.add(hash);
    try {
      const at = join(this.dir, hash, 'files');
      for (const [name, { bytes, sha256 }] of Object.entries(files)) {
        const path = join(at, name);
        const size = sizeOf(path);
        if (size < bytes) throw new SubrosaError('mismatch', `${name} is not complete: ${size} of ${bytes} bytes are here`);
        if ((await settled(path)) !== sha256) {
          rmSync(path);
          throw new SubrosaError('mismatch', `${name}: its SHA-256 is not the one declared: send it again`);
        }
      }
      try {
        this.models.adopt(at, hash);
      } catch (e) {
        if (!(e instanceof ModelError || e instanceof ProgramError)) throw e;
        throw new SubrosaError('bad-input', e.message.replace(`${at}/`, ''));
      }
      rmSync(join(this.dir, hash), { recursive: true });
    } finally {
      this.busy.delete(hash);
    }
  }

  /** Deletes what lies here of an upload. False when nothing does. */
  remove(hash: string): boolean {
    if (this.busy.has(hash)) throw new SubrosaError('busy', 'this upload is being committed', { retryAfter: 1 });
    const at = join(this.dir, hash);
    const there = existsSync(at);
    rmSync(at, { recursive: true, force: true });
    return there;
  }

  /** Uploads in progress: bytes here, bytes declared. */
  states(): { readonly hash: string; readonly bytes: number; readonly of: number }[] {
    return this.pending().map((hash) => {
      const entries = Object.entries(this.read(hash).files);
      const bytes = entries.reduce((sum, [name]) => sum + sizeOf(join(this.dir, hash, 'files', name)), 0);
      return { hash, bytes, of: entries.reduce((sum, [, f]) => sum + f.bytes, 0) };
    });
  }

  private checked(hash: string, value: unknown): Declared {
    const { role } = this.models;
    const { data, error } = Declared.safeParse(value);
    if (!data)
      throw new SubrosaError('bad-message', `declaration: ${error.issues[0].path.join('.') || 'body'}: ${error.issues[0].message}`);
    for (const name of Object.keys(data.files))
      if (!mayHold(role, data.weights, name))
        throw new SubrosaError('forbidden', `${role} must not hold '${name}' of a model with ${data.weights} weights`);
    for (const name of roleFiles(role, data.weights))
      if (!Object.hasOwn(data.files, name))
        throw new SubrosaError('bad-message', `${role} needs '${name}' of a model with ${data.weights} weights`);
    if (data.files['program.json'].sha256 !== hash)
      throw new SubrosaError('mismatch', "program.json's SHA-256 is not the hash the model is uploaded under");
    const bytes = Object.values(data.files).reduce((sum, f) => sum + f.bytes, 0);
    if (bytes > this.limits.modelBytes)
      throw new SubrosaError('too-large', `the model has ${gb(bytes)} for ${role}, which takes ${gb(this.limits.modelBytes)} at most`);
    return data;
  }

  private declared(hash: string): string {
    try {
      return readText(join(this.dir, hash, 'declared.json'));
    } catch {
      return '';
    }
  }

  private read(hash: string): Declared {
    const path = join(this.dir, hash, 'declared.json');
    if (!existsSync(path)) throw new SubrosaError('unknown-model', `no upload of ${hash.slice(0, 16)}… here: declare it first`);
    return parseJson(readText(path), Declared, path);
  }

  private pending(): string[] {
    return readdirSync(this.dir, { withFileTypes: true })
      .filter((e) => e.isDirectory() && existsSync(join(this.dir, e.name, 'declared.json')))
      .map((e) => e.name);
  }

  private touch(hash: string): void {
    const seconds = this.now() / 1000;
    utimesSync(join(this.dir, hash, 'declared.json'), seconds, seconds);
  }

  private sweep(): void {
    for (const { name } of readdirSync(this.dir, { withFileTypes: true }).filter((e) => e.isDirectory())) {
      const path = join(this.dir, name, 'declared.json');
      const last = existsSync(path) ? statSync(path).mtimeMs : 0;
      if (!this.busy.has(name) && this.now() - last > 1000 * this.limits.staleSeconds)
        rmSync(join(this.dir, name), { recursive: true, force: true });
    }
  }
}

const sizeOf = (path: string): number => statSync(path, { throwIfNoEntry: false })?.size ?? 0;
const gb = (bytes: number): string => `${(bytes / 1e9).toPrecision(3)} GB`;
const diskFull = (role: string, need: number, free: number): SubrosaError =>
  new SubrosaError(
    'too-large',
    `${role}'s disk is full: ${gb(need)} more are needed, ${gb(free)} are free: make room there and deploy again, it goes on where it stopped`,
  );

/** SHA-256 of a file, in hex, once its bytes are on the disk. */
async function settled(path: string): Promise<string> {
  const fd = openSync(path, 'r+');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Uint8Array);
  return hash.digest('hex');
}
