/** program.json: one canonical text, checked when read, named by the SHA-256 of its bytes. */
import { z } from 'zod';
import { ModelError } from '../graph/graph.ts';
import { bind } from '../program/bind.ts';
import { check } from '../program/check.ts';
import { mostParams, type Program } from '../program/program.ts';
import { mostPlaces } from '../ring/dpf.ts';
import { canonical, parseJson } from './files.ts';

const number = z.union([
  z.number(),
  // biome-ignore lint/suspicious/noThenProperty: the program's own word; these objects are never awaited
  z.strictObject({ by: z.string(), upTo: z.array(z.number()).min(1), then: z.array(z.number()).min(1) }),
  z.strictObject({ dim: z.string().min(1).max(200) }),
]);
const dimension = z.union([z.int().min(0), z.string().min(1).max(200)]);
const id = z.int().min(0);
const positive = z.number().positive();
const hex64 = z.string().regex(/^[0-9a-f]{64}$/);

const ProgramFile = z.strictObject({
  format: z.literal('subrosa-program/2', 'not a program of this version; compile the model again'),
  name: z.string().max(1000),
  weights: z.enum(['public', 'private']),
  weightsHash: hex64,
  params: z.record(
    z.string().regex(/^[A-Za-z_]\w*$/),
    z.strictObject({
      min: z.int().min(0),
      max: z
        .int()
        .min(0)
        .max(1 << 24),
      shapes: z.literal(false).optional(),
      usual: z.int().min(0).optional(),
    }),
  ),
  tensors: z.array(
    z.strictObject({
      kind: z.enum(['share', 'wire']),
      bits: number,
      scale: z.union([number, z.array(positive).min(1)]),
      bound: number,
      label: z.string().optional(),
    }),
  ),
  inputs: z
    .array(
      z.strictObject({
        name: z.string(),
        tensor: id,
        shape: z.array(dimension).max(16),
        scale: positive,
        bound: positive,
        encoding: z.strictObject({ dpf: z.array(z.int().min(1).max(mostPlaces)).min(1).max(16) }).optional(),
      }),
    )
    .min(1),
  outputs: z.array(z.strictObject({ name: z.string(), tensor: id })).min(1),
  gates: z.array(
    z.strictObject({ id, gate: z.string(), layer: z.string(), in: z.array(id).max(64), out: z.array(id).max(64), attrs: z.unknown() }),
  ),
});

export const programText = (program: Program): string => `${canonical(program)}\n`;

/** Throws ModelError for a text that is no program, or one that breaks a rule of the checker. */
export function parseProgram(text: string, path: string): Program {
  // That no key stands twice shows in the canonical form.
  const program = parseJson(text, ProgramFile, path, { twice: true }) as unknown as Program;
  const fail = (reason: string): never => {
    throw new ModelError(`${path}: ${reason}`);
  };
  if (programText(program) !== text) fail('not in canonical form: it was edited, or cut short; compile the model again');
  const known = (list: readonly number[], who: string): void => {
    const beyond = list.find((t) => t >= program.tensors.length);
    if (beyond !== undefined) fail(`${who} names tensor ${beyond} of ${program.tensors.length}`);
  };
  for (const i of program.inputs) known([i.tensor], `input '${i.name}'`);
  for (const o of program.outputs) known([o.tensor], `output '${o.name}'`);
  for (const g of program.gates) known([...g.in, ...g.out], `gate ${g.id} (${g.gate})`);
  try {
    check(program);
    const { tensors } = bind(program, mostParams(program));
    const large = tensors.find((t) => t.size >= 2 ** 30);
    if (large) fail(`tensor ${large.id} of shape [${large.shape}] is larger than a role's memory`);
  } catch (e) {
    if (e instanceof ModelError) throw e;
    fail((e as Error).message);
  }
  return program;
}
