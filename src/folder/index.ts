/**
 * A compiled model as a folder.
 *
 *   program.json              the program, canonical JSON; its SHA-256 names it, and roles refuse to run under different hashes
 *   weights.safetensors       public weights: integers as they enter the ring, I16 where a tensor fits, else I32
 *   p0/  p1/                  private weights instead: masked.safetensors (F, I32, the same in both) and seed (32 bytes, hex, mode 0600)
 *   dealer/                   private weights: seeds (both, 0600) and tensors.json (names and shapes); never F
 *   client/                   client.json, tokenizer files, before.json, after.json, client.safetensors
 *   plain/                    the float graph (graph.json, graph.safetensors) and record.json: the owner's, for --check and inspect
 *
 * Who gets what: a party program.json and, public, weights.safetensors, private, its own p0/ or p1/; the dealer program.json and dealer/;
 * clients program.json and client/. plain/ holds the weights in the clear: with private weights it never leaves the owner.
 * program.weightsHash is the SHA-256 of weights.safetensors or masked.safetensors, so the hash of the program covers all numbers.
 * Everything is validated when read, and a folder appears complete, in one rename, or not at all.
 */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { type Graph, ModelError } from '../graph/graph.ts';
import type { Program } from '../program/program.ts';
import type { Role } from '../runtime/model.ts';
import { type Client, type ClientInfo, readClient, type TokenizerObjects, writeClient } from './client.ts';
import { canonical, hashText, parseJson, readText, writeFolder } from './files.ts';
import { readGraph, writeGraph } from './graph.ts';
import { parseProgram, programText } from './program.ts';
import { type Integers, type OpenWeights, openWeights, writePrivate, writePublic } from './weights.ts';

export type { Client, ClientInfo } from './client.ts';
export { canonical, hashOf, hashText, parseJson, readText, writeTree } from './files.ts';
export { readGraph, writeGraph } from './graph.ts';
export { parseProgram, programText } from './program.ts';
export { isProtected, type Protected, protect, readProtected, roles } from './protect.ts';
export { mayHold, type RoleFolder, readRole, roleFiles } from './role.ts';
export { maskWords } from './seeds.ts';
export type { OpenWeights, WeightKind } from './weights.ts';

const Record = z.strictObject({
  /** Hash of model files, calibration files, options and compiler: an equal one needs no compiling. */
  key: z.string(),
  /** Tensors that come closest to the ring: bound·scale over the largest value allowed. */
  tightest: z.array(z.strictObject({ tensor: z.string(), layer: z.string(), used: z.number() })),
});
export type CompileRecord = z.infer<typeof Record>;

export interface CompiledFolder {
  readonly dir: string;
  readonly program: Program;
  readonly programText: string;
  readonly hash: string;
  /** Read when first asked for; a party's copy of the folder has none, and asking is a ModelError. */
  readonly client: Client;
  /** The float graph the program was lowered from. */
  plain(): Graph;
  record(): CompileRecord | undefined;
}

export const isCompiled = (dir: string): boolean => existsSync(join(dir, 'program.json'));

/** The program read last: a command and the cluster it starts read the same folder, and checking takes a while. */
let lately: { readonly hash: string; readonly program: Program } | undefined;

export function readCompiled(dir: string): CompiledFolder {
  if (!isCompiled(dir)) throw new ModelError(`${dir}: no program.json; a folder that subrosa compile wrote is expected`);
  const text = readText(join(dir, 'program.json'));
  const hash = hashText(text);
  if (lately?.hash !== hash) lately = { hash, program: parseProgram(text, join(dir, 'program.json')) };
  const { program } = lately;
  let client: Client | undefined;
  return {
    dir,
    program,
    programText: text,
    hash,
    get client() {
      if (!existsSync(join(dir, 'client'))) throw new ModelError(`${dir} has no client/: what clients need was left out of this copy`);
      client ??= readClient(join(dir, 'client'), hash);
      return client;
    },
    plain() {
      if (!existsSync(join(dir, 'plain')))
        throw new ModelError(`${dir} has no plain/: the float model stays with its owner, so plaintext cannot be compared here`);
      return readGraph(join(dir, 'plain'));
    },
    record() {
      const path = join(dir, 'plain', 'record.json');
      return existsSync(path) ? parseJson(readText(path), Record, path) : undefined;
    },
  };
}

/** The weights of one role, from that role's files alone (and program.json). */
export function weightSource(dir: string, role: Role): OpenWeights {
  const { weights, weightsHash } = parseJson(readText(join(dir, 'program.json')), Head, join(dir, 'program.json'));
  return openWeights(weights === 'public' ? dir : join(dir, role), role, weights, weightsHash);
}
const Head = z.looseObject({ weights: z.enum(['public', 'private']), weightsHash: z.string() });

export interface ToWrite {
  /** weightsHash is filled in here. */
  readonly program: Program;
  readonly weights: ReadonlyMap<string, Integers>;
  readonly client: Omit<ClientInfo, 'tokenizer'>;
  readonly graphs: { readonly before: Graph; readonly after: Graph };
  /** A folder whose tokenizer files go to the client, or what would be in them. */
  readonly tokenizer?: string | TokenizerObjects;
  readonly plain: Graph;
  readonly record: CompileRecord;
}

/** Writes the folder; an existing compiled folder is replaced only with `replace`, anything else never. Returns the program's hash. */
export function writeCompiled(dir: string, c: ToWrite, { replace = false } = {}): string {
  let hash = '';
  writeFolder(
    dir,
    (temporary) => {
      const weightsHash = c.program.weights === 'public' ? writePublic(temporary, c.weights) : writePrivate(temporary, c.weights);
      const text = programText({ ...c.program, weightsHash });
      hash = hashText(text);
      writeFileSync(join(temporary, 'program.json'), text);
      writeClient(join(temporary, 'client'), hash, c.client, c.graphs, c.tokenizer);
      const plain = join(temporary, 'plain');
      mkdirSync(plain, { mode: 0o700 });
      writeGraph(plain, c.plain);
      writeFileSync(join(plain, 'record.json'), canonical(c.record));
    },
    (existing) => replace && isCompiled(existing),
  );
  return hash;
}
