/**
 * A compiled folder, split into one folder for each role, complete and with nothing more than that role may hold:
 *
 *   p0/  p1/     program.json, client/, and weights.safetensors, or masked.safetensors and that party's seed
 *   dealer/      program.json, and, private weights, both seeds and tensors.json
 *   client/      what clients are given, and manifest.json, what both parties will tell them of the model
 *
 * Private weights are masked anew each time, under fresh seeds: so the masked weights, their hash and the program's differ from any other
 * split of the same model, and parts of two splits, at two sets of servers, do not fit together.
 */
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { manifestOf } from '../client/manifest.ts';
import type { Role } from '../runtime/model.ts';
import { rewriteClient } from './client.ts';
import { canonical, hashText, readText, writeFolder } from './files.ts';
import { type CompiledFolder, weightSource } from './index.ts';
import { programText } from './program.ts';
import { type RoleFolder, readRole } from './role.ts';
import { copyPublic, type Integers, writePrivate } from './weights.ts';

export const roles: readonly Role[] = ['p0', 'p1', 'dealer'];

export interface Protected {
  readonly dir: string;
  /** Of the program: what the model is called from here on. */
  readonly hash: string;
  readonly roles: Readonly<Record<Role, RoleFolder>>;
}

/** Writes `out`, which must not exist or be empty. Throws ModelError. */
export function protect(folder: CompiledFolder, out: string): Protected {
  const { dir, program } = folder;
  let hash = '';
  writeFolder(out, (temporary) => {
    const weightsHash =
      program.weights === 'public' ? copyPublic(dir, temporary) : withClear(folder, (weights) => writePrivate(temporary, weights));
    const text = programText({ ...program, weightsHash });
    hash = hashText(text);
    for (const role of roles) writeFileSync(join(temporary, role, 'program.json'), text, { flag: 'wx' });
    for (const to of ['p0/client', 'p1/client', 'client']) rewriteClient(join(dir, 'client'), folder.hash, join(temporary, to), hash);
    const client = readRole(join(temporary, 'p0'), 'p0', hash).client();
    const manifest = manifestOf(program, hash, client?.task, client?.files);
    writeFileSync(join(temporary, 'client', 'manifest.json'), canonical(manifest), { flag: 'wx' });
  });
  return readProtected(out);
}

/** Whether `protect` wrote this folder. */
export const isProtected = (dir: string): boolean =>
  existsSync(join(dir, 'dealer', 'program.json')) && existsSync(join(dir, 'p0', 'program.json'));

/** Reads and checks the parts of a model. */
export function readProtected(dir: string): Protected {
  const hash = hashText(readText(join(dir, 'dealer', 'program.json')));
  const read = (role: Role): RoleFolder => readRole(join(dir, role), role, hash);
  return { dir, hash, roles: { p0: read('p0'), p1: read('p1'), dealer: read('dealer') } };
}

/** The weights in the clear, which only their owner's folder gives: computed when asked for, one tensor at a time. */
function withClear<T>(folder: CompiledFolder, use: (weights: ReadonlyMap<string, Integers>) => T): T {
  const [party, dealer] = [weightSource(folder.dir, 'p0'), weightSource(folder.dir, 'dealer')];
  try {
    const clear = (name: string): Int32Array => {
      const { data } = party.words(name);
      for (const i of [0, 1] as const) {
        const mask = dealer.weightMask(i, name).data;
        for (let j = 0; j < data.length; j++) data[j] += mask[j];
      }
      return data;
    };
    const weights = [...party.shapes].map(([name, shape]): [string, Integers] => [
      name,
      {
        shape,
        get data() {
          return clear(name);
        },
      },
    ]);
    return use(new Map(weights));
  } finally {
    party.close();
    dealer.close();
  }
}
