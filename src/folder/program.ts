/** program.json: one canonical text, checked when read, named by the SHA-256 of its bytes. */
import { z } from 'zod';
import { ModelError } from '../graph/graph.ts';
import { bind } from '../program/bind.ts';
import type { Program } from '../program/program.ts';
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
  format: z.literal('subrosa-program/1', 'not a program of this version; compile the model again'),
  name: z.string().max(1000),
  weights: z.enum(['public', 'private']),
  weightsHash: hex64,
  params: z.record(
    z.string().regex(/^[A-Za-z_]\w*$/),
    z.strictObject({
      min: z.int().min(1),
      max: z
        .int()
        .min(1)
        .max(1 << 24),
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
    .array(z.strictObject({ name: z.string(), tensor: id, shape: z.array(dimension).max(16), scale: positive, bound: positive }))
    .min(1),
  outputs: z.array(z.strictObject({ name: z.string(), tensor: id })).min(1),
  gates: z.array(
    z.strictObject({ id, gate: z.string(), layer: z.string(), in: z.array(id).max(64), out: z.array(id).max(64), attrs: z.unknown() }),
  ),
});

export const programText = (program: Program): string => `${canonical(program)}\n`;

/** Throws ModelError for a text that is no program, or one that cannot be bound at its smallest and largest parameters. */
export function parseProgram(text: string, path: string): Program {
  const program = parseJson(text, ProgramFile, path) as unknown as Program;
  const fail = (reason: string): never => {
    throw new ModelError(`${path}: ${reason}`);
  };
  if (programText(program) !== text) fail('not in canonical form: it was edited, or cut short; compile the model again');
  const made = new Set<number>();
  const make = (tensor: number, who: string): void => {
    if (tensor >= program.tensors.length) fail(`${who} makes tensor ${tensor} of ${program.tensors.length}`);
    if (made.has(tensor)) fail(`${who} makes tensor ${tensor} a second time`);
    made.add(tensor);
  };
  for (const i of program.inputs) make(i.tensor, `input '${i.name}'`);
  program.gates.forEach((g, i) => {
    if (g.id !== i) fail(`gate ${i} is numbered ${g.id}`);
    for (const t of g.in) if (!made.has(t)) fail(`gate ${i} (${g.gate}) uses tensor ${t} before it is made`);
    for (const t of g.out) make(t, `gate ${i} (${g.gate})`);
  });
  for (const o of program.outputs)
    if (!program.gates.some((g) => g.gate === 'reveal' && g.out[0] === o.tensor)) fail(`output '${o.name}' is revealed by no gate`);
  for (const [name, { min, max }] of Object.entries(program.params)) if (min > max) fail(`parameter ${name} goes from ${min} to ${max}`);
  for (const end of ['min', 'max'] as const) {
    const params = Object.fromEntries(Object.entries(program.params).map(([name, range]) => [name, range[end]]));
    try {
      const { tensors } = bind(program, params);
      for (const t of tensors)
        if (t && !(Number.isInteger(t.bits) && t.bits >= 1 && t.bits <= 52 && t.bound > 0 && t.size < 2 ** 32))
          fail(`tensor ${t.id} has ${t.bits} bits, bound ${t.bound}, shape [${t.shape}]`);
    } catch (e) {
      if (e instanceof ModelError) throw e;
      fail((e as Error).message);
    }
  }
  return program;
}
