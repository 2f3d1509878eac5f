/** A small model's parts, as `subrosa protect` makes them, and places to put them. */
import { cpSync, mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { canonical, hashOf, type Protected, protect, readCompiled } from '../../src/folder/index.ts';
import type { Role } from '../../src/runtime/model.ts';
import type { Declared } from '../../src/server/uploads.ts';
import { at, write } from '../cli/tiny.ts';

export { at, home } from '../cli/tiny.ts';
export const roles = ['p0', 'p1', 'dealer'] as const;

let count = 0;
/** A folder of its own below the tests' home. */
export const fresh = (name: string): string => at(`${name}-${count++}`);

const compiled: Partial<Record<'public' | 'private', { dir: string; weights: ReturnType<typeof write>['weights'] }>> = {};
/** The compiled model, and its weights in the clear. */
export function model(kind: 'public' | 'private') {
  compiled[kind] ??= { dir: at(`compiled-${kind}`), weights: write(`compiled-${kind}`, kind).weights };
  return compiled[kind];
}

/** A split of its own. */
export const split = (kind: 'public' | 'private'): Protected => protect(readCompiled(model(kind).dir), fresh('parts'));

/** The models folder of a role, with these models in it. */
export function modelsDir(role: Role, ...parts: readonly Protected[]): string {
  const dir = fresh(`models-${role}`);
  mkdirSync(dir);
  for (const p of parts) cpSync(p.roles[role].dir, join(dir, p.hash), { recursive: true });
  return dir;
}

/** Every file below a folder, by its name relative to it. */
export function filesBelow(dir: string, prefix = ''): Map<string, Buffer> {
  const files = new Map<string, Buffer>();
  for (const entry of readdirSync(join(dir, prefix))) {
    const name = `${prefix}${entry}`;
    if (statSync(join(dir, name)).isDirectory()) for (const [k, v] of filesBelow(dir, `${name}/`)) files.set(k, v);
    else files.set(name, readFileSync(join(dir, name)));
  }
  return files;
}

/** What `deploy` would say of this folder. */
export function declaration(dir: string, weights: 'public' | 'private'): Declared {
  const entries = [...filesBelow(dir)].map(([name, bytes]) => [name, { bytes: bytes.length, sha256: hashOf(join(dir, name)) }]);
  return JSON.parse(canonical({ weights, files: Object.fromEntries(entries) })) as Declared;
}
