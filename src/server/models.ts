/**
 * The models of one role: folders on its disk, and as many of them in memory as fit.
 *
 * A model is loaded when a session first asks for it and stays until its memory is needed: then the one unused for longest goes, and
 * never one that is held. Each model sees as much memory as its weights and lanes take, known before it is loaded
 * (src/runtime/footprint.ts), and no more, so that the cap holds whatever a host does with it.
 */
import { mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { SubrosaError } from '../client/errors.ts';
import { type Manifest, manifestOf } from '../client/manifest.ts';
import { canonical, type OpenWeights, readRole } from '../folder/index.ts';
import type { Program } from '../program/program.ts';
import { fitInto, largestMemory } from '../runtime/footprint.ts';
import { loadModel, type Model, type Role } from '../runtime/model.ts';
import { defaultLimits } from '../session/events.ts';
import { type ModelStore, type Takes, unknownModel } from '../session/store.ts';
import { Space } from './spaces.ts';
import type { Catalogue } from './types.ts';

export interface RoleModelsOptions {
  /** Holds one folder a model, named by its program's hash. Made when it is not there. */
  readonly dir: string;
  readonly role: Role;
  /** Bytes that the models in memory may take together. */
  readonly memory: number;
  /** Threads each model computes with, the caller's included. */
  readonly threads: number;
  /** Steps that may run at once: each has memory of its own. Default: that of the hosts. */
  readonly lanes?: number;
  readonly onEvent?: (event: ModelEvent) => void;
}

/** For logs. `refused`: a folder that breaks a rule; it is left as it is, and not served. */
export type ModelEvent =
  | { readonly kind: 'refused'; readonly path: string; readonly reason: string }
  | { readonly kind: 'loaded' | 'evicted' | 'added' | 'removed'; readonly hash: string; readonly name: string; readonly bytes: number };

interface Known {
  readonly program: Program;
  readonly manifest: Manifest;
  readonly text: string;
  /** Bytes on disk. */
  readonly bytes: number;
}

interface Resident {
  readonly model: Model;
  readonly weights: OpenWeights;
  /** All of it is counted from the start. */
  readonly space: Space;
  held: number;
}

export interface ModelState {
  readonly hash: string;
  readonly name: string;
  readonly weights: Manifest['weights'];
  /** Bytes on disk; bytes in memory, 0 when it is not loaded; sessions that hold it. */
  readonly disk: number;
  readonly memory: number;
  readonly held: number;
}

const sparePlaces = 4;
/** Sequences that may keep caches at once, where that fits under the cap. */
const keptSequences = 16;
const hashName = /^[0-9a-f]{64}$/;
/** Uploads in progress lie here until they are whole (admin.ts). */
export const uploadsFolder = '.uploads';

export class RoleModels implements ModelStore, Catalogue {
  readonly dir: string;
  readonly role: Role;
  private readonly known = new Map<string, Known>();
  /** In order of use: the one unused for longest comes first. */
  private readonly resident = new Map<string, Resident>();

  constructor(private readonly options: RoleModelsOptions) {
    this.dir = resolve(options.dir);
    this.role = options.role;
    mkdirSync(this.dir, { recursive: true, mode: 0o700 });
    for (const entry of readdirSync(this.dir)) {
      if (entry === uploadsFolder) continue;
      try {
        if (!hashName.test(entry)) throw new Error('not a model that was deployed here (folders are named by their hash): take it away');
        this.take(entry);
      } catch (e) {
        this.tell({ kind: 'refused', path: join(this.dir, entry), reason: (e as Error).message });
      }
    }
  }

  takes(hash: string): Takes | undefined {
    return this.known.get(hash)?.manifest;
  }

  /** What is public of it: for rounds, bounds, costs. */
  program(hash: string): Program | undefined {
    return this.known.get(hash)?.program;
  }

  acquire(hash: string): Model {
    const known = this.known.get(hash);
    if (!known) throw unknownModel(hash);
    const entry = this.resident.get(hash) ?? this.load(hash, known);
    entry.held++;
    this.touch(hash, entry);
    return entry.model;
  }

  release(hash: string): void {
    this.letGo(hash);
    if (!this.known.has(hash) && this.holders(hash) === 0) Space.giveBack([this.evict(hash)]);
  }

  list(): { name: string; hash: string; weights: Manifest['weights']; task: string }[] {
    return [...this.known.values()].map(({ manifest: { name, hash, weights, task } }) => ({ name, hash, weights, task }));
  }

  manifest(hash: string): { text: string; manifest: Manifest } | undefined {
    return this.known.get(hash);
  }

  clientFile(hash: string, name: string): string | undefined {
    const files = this.known.get(hash)?.manifest.files;
    return files && Object.hasOwn(files, name) ? join(this.dir, hash, 'client', name) : undefined;
  }

  /** What lies on disk and in memory, for the owner and for metrics. */
  states(): ModelState[] {
    return [...this.known].map(([hash, { manifest, bytes }]) => {
      const entry = this.resident.get(hash);
      return { hash, name: manifest.name, weights: manifest.weights, disk: bytes, memory: entry?.space.bytes ?? 0, held: entry?.held ?? 0 };
    });
  }

  /** Bytes of all models in memory. */
  get used(): number {
    return [...this.resident.values()].reduce((sum, r) => sum + r.space.bytes, 0);
  }

  /**
   * Takes over the folder at `from`, on the same disk, by a rename: it is served from then on. Throws ModelError when it breaks a rule, and
   * SubrosaError 'too-large' when it could never be loaded here; it stays where it was then.
   */
  adopt(from: string, hash: string): void {
    const folder = readRole(from, this.role, hash);
    const weights = folder.weights();
    try {
      const { bytes } = this.bytesOf(folder.program, weights);
      if (bytes > this.options.memory) throw this.tooLarge(folder.program.name, bytes, 0);
    } finally {
      weights.close();
    }
    folder.client();
    const to = join(this.dir, hash);
    // A folder that was refused when this server started may lie there.
    rmSync(to, { recursive: true, force: true });
    renameSync(from, to);
    const { manifest, bytes } = this.take(hash);
    this.tell({ kind: 'added', hash, name: manifest.name, bytes });
  }

  /** Forgets the model and deletes its folder. Sessions that hold it end in their own time; its memory goes with the last of them. */
  remove(hash: string): void {
    const known = this.known.get(hash);
    if (!known) throw unknownModel(hash);
    this.known.delete(hash);
    rmSync(join(this.dir, hash), { recursive: true, force: true });
    if (this.holders(hash) === 0) Space.giveBack([this.evict(hash)]);
    this.tell({ kind: 'removed', hash, name: known.manifest.name, bytes: known.bytes });
  }

  /** Lets go of everything, held or not. */
  close(): void {
    Space.giveBack([...this.resident.keys()].map((hash) => this.evict(hash)));
  }

  private take(hash: string): Known {
    const folder = readRole(join(this.dir, hash), this.role, hash);
    const client = folder.client();
    const manifest = manifestOf(folder.program, hash, client?.task, client?.files);
    const known = {
      program: folder.program,
      manifest,
      text: canonical(manifest),
      bytes: [...folder.files.values()].reduce((a, b) => a + b, 0),
    };
    this.known.set(hash, known);
    return known;
  }

  private load(hash: string, { manifest: { name } }: Known): Resident {
    const { role, threads } = this.options;
    const { program, weights } = this.checked(hash);
    let space: Space | undefined;
    try {
      const { bytes, kept } = this.bytesOf(program, weights);
      space = Space.for(bytes, this.makeRoom(name, bytes), threads);
      const storage = kept === undefined ? undefined : { bytes: kept, reader: weights.reader?.() };
      const entry = { model: loadModel(program, role, space.view(bytes), weights, storage), weights, space, held: 0 };
      this.resident.set(hash, entry);
      this.tell({ kind: 'loaded', hash, name, bytes: space.bytes });
      return entry;
    } catch (e) {
      weights.close();
      if (space) Space.giveBack([space]);
      throw e;
    }
  }

  /** The folder is read again at each load: what was changed on disk meanwhile is noticed. */
  private checked(hash: string): { program: Program; weights: OpenWeights } {
    const path = join(this.dir, hash);
    try {
      const folder = readRole(path, this.role, hash);
      return { program: folder.program, weights: folder.weights() };
    } catch (e) {
      this.tell({ kind: 'refused', path, reason: (e as Error).message });
      throw new SubrosaError(
        'internal',
        `program ${hash.slice(0, 16)}… cannot be loaded here: its files were changed; the server's log says how`,
      );
    }
  }

  /**
   * Bytes the model takes in memory: its weights, a place for each step that may run at once, and caches of sessions. Where lengths vary, a few places more:
   * one that is kept prepared saves the next step of its length 50 to 80 ms (MiniLM), and steps of many lengths leave gaps.
   * `kept`: of a model that goes beyond the cap, what of its matrices stays in memory.
   */
  private bytesOf(program: Program, weights: OpenWeights): { bytes: number; kept?: number } {
    const places = (this.options.lanes ?? defaultLimits.lanes) + (Object.keys(program.params).length > 0 ? sparePlaces : 0);
    const cap = Math.min(largestMemory, this.options.memory);
    const { footprint, kept } = fitInto(program, this.role, weights, cap, places);
    if (kept !== undefined) return { bytes: cap - Math.min(0, kept), kept };
    const { weights: own, loading, step, caches } = footprint;
    const least = Math.max(loading, own + places * step + caches);
    return { bytes: Math.min(largestMemory, Math.max(least, Math.min(least + (keptSequences - 1) * caches, this.options.memory))) };
  }

  /** 'too-large': it never fits; 'out-of-memory': not beside those in use. */
  private tooLarge(name: string, bytes: number, held: number): SubrosaError {
    const { memory } = this.options;
    const text = `the model ${name} takes ${mib(bytes)} MiB at ${this.role}; of its ${mib(memory)} MiB for models ${mib(held)} are in use`;
    if (bytes > memory) return new SubrosaError('too-large', `${text}: raise the cap ('models.memory')`);
    return new SubrosaError('out-of-memory', text);
  }

  /** Evicts until `bytes` fit. Returns the spaces that were left; one of them, used again, takes no more than it did. */
  private makeRoom(name: string, bytes: number): Space[] {
    const { memory } = this.options;
    const held = [...this.resident.values()].reduce((sum, r) => sum + (r.held > 0 ? r.space.bytes : 0), 0);
    if (bytes > memory - held) throw this.tooLarge(name, bytes, held);
    const left: Space[] = [];
    for (const hash of [...this.resident.keys()]) {
      if (this.used + bytes <= memory) break;
      if (this.holders(hash) === 0) left.push(this.evict(hash));
    }
    return left;
  }

  private touch(hash: string, entry: Resident): void {
    this.resident.delete(hash);
    this.resident.set(hash, entry);
  }

  /** How often it is held; undefined: it is not in memory. */
  private holders(hash: string): number | undefined {
    return this.resident.get(hash)?.held;
  }

  private letGo(hash: string): void {
    const entry = this.resident.get(hash);
    if (!entry || entry.held === 0) throw new Error(`internal: program ${hash.slice(0, 16)}… is released more often than acquired`);
    entry.held--;
    this.touch(hash, entry);
  }

  /** Takes a hash, and returns the space only: what is on the stack when a space is given back is not collected. */
  private evict(hash: string): Space {
    const { model, weights, space } = this.resident.get(hash) as Resident;
    this.resident.delete(hash);
    weights.close();
    this.tell({ kind: 'evicted', hash, name: model.program.name, bytes: space.bytes });
    return space;
  }

  private tell(event: ModelEvent): void {
    this.options.onEvent?.(event);
  }
}

const mib = (bytes: number): number => Math.ceil(bytes / 2 ** 20);
