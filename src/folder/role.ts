/**
 * A model as one role has it: a folder of program.json, that role's weights or what stands for them, and, at a party, client/.
 *
 *             public weights          private weights
 *   party     weights.safetensors     masked.safetensors (F), seed (its own, mode 0600)
 *   dealer                            seeds (both, mode 0600), tensors.json; never F
 *
 * Nothing else may lie in it: no other file, no link, no seed that others can read. What a role must not know must not lie on its disk, and
 * a folder that breaks the rule is refused before anything in it is used.
 */
import { lstatSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { ManifestFile } from '../client/manifest.ts';
import { ModelError } from '../graph/graph.ts';
import type { Program } from '../program/program.ts';
import type { Role } from '../runtime/model.ts';
import { clientFiles, readClientInfo } from './client.ts';
import { hashOf, hashText, readText } from './files.ts';
import { parseProgram } from './program.ts';
import { type OpenWeights, openWeights, roleWeightFiles, secretFiles, type WeightKind } from './weights.ts';

/** What a role's folder holds besides client/, all of it needed. */
export const roleFiles = (role: Role, weights: WeightKind): readonly string[] => ['program.json', ...roleWeightFiles(role, weights)];

/** Whether a role may hold a file of this name ('client/tokenizer.json'), whatever the model. */
export function mayHold(role: Role, weights: WeightKind, name: string): boolean {
  return roleFiles(role, weights).includes(name) || (role !== 'dealer' && clientFiles.some((f) => name === `client/${f}`));
}

export interface RoleFolder {
  readonly dir: string;
  readonly role: Role;
  readonly hash: string;
  readonly program: Program;
  /** Bytes of each file, by name. */
  readonly files: ReadonlyMap<string, number>;
  /** This role's weights; their hash is compared with the program's now. */
  weights(): OpenWeights;
  /** What clients are given: the task, and each file's size and SHA-256. Undefined at the dealer, and where client/ is missing. */
  client(): { readonly task: string; readonly files: Readonly<Record<string, ManifestFile>> } | undefined;
}

/** Reads and checks a role's folder. Throws ModelError naming the file that breaks a rule, and the rule. */
export function readRole(dir: string, role: Role, hash: string): RoleFolder {
  const files = listed(dir);
  const text = readText(join(dir, 'program.json'));
  if (hashText(text) !== hash)
    throw new ModelError(`${join(dir, 'program.json')}: its SHA-256 is not ${hash.slice(0, 16)}…, the name it was given here`);
  const program = parseProgram(text, join(dir, 'program.json'));
  for (const name of files.keys())
    if (!mayHold(role, program.weights, name)) throw new ModelError(`${join(dir, name)}: ${role} must not hold this file: take it away`);
  for (const name of roleFiles(role, program.weights))
    if (!files.has(name)) throw new ModelError(`${join(dir, name)}: missing: deploy the model again`);
  return {
    dir,
    role,
    hash,
    program,
    files,
    weights: () => openWeights(dir, role, program.weights, program.weightsHash),
    client() {
      const names = [...files.keys()].filter((f) => f.startsWith('client/'));
      if (names.length === 0) return undefined;
      const { task } = readClientInfo(join(dir, 'client'), hash);
      const entries = names.map((f) => [f.slice('client/'.length), { bytes: files.get(f) as number, sha256: hashOf(join(dir, f)) }]);
      return { task, files: Object.fromEntries(entries) };
    },
  };
}

/** Every file below `dir` with its size. Folders besides client/, links, devices and seeds open to others are refused. */
function listed(dir: string): Map<string, number> {
  const files = new Map<string, number>();
  const walk = (prefix: string): void => {
    for (const entry of readdirSync(join(dir, prefix))) {
      const name = `${prefix}${entry}`;
      const path = join(dir, name);
      const stat = lstatSync(path);
      if (stat.isDirectory() && name === 'client') walk('client/');
      else if (stat.isFile()) files.set(name, stat.size);
      else
        throw new ModelError(
          `${path}: ${stat.isSymbolicLink() ? 'a symbolic link' : 'no plain file'}; a model's folder holds plain files only`,
        );
      if (secretFiles.includes(name) && (stat.mode & 0o077) !== 0)
        throw new ModelError(
          `${path}: others may read it (mode ${(stat.mode & 0o777).toString(8)}): chmod 600, and think of the seed as known`,
        );
    }
  };
  if (!lstatSync(dir).isDirectory()) throw new ModelError(`${dir}: not a folder`);
  walk('');
  return files;
}
