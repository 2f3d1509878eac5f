/** A model's client/ from the parties: its task, the graphs on either side of the private run, its tokenizer. */
import { type Graph, ModelError } from '../graph/graph.ts';
import { type GraphJson, graphOf } from '../import/graph-json.ts';
import { parseSafetensors } from '../import/safetensors.ts';
import type { ImageSpec } from '../tasks/pixels.ts';
import type { TextTokenizer } from '../tasks/text.ts';
import type { Client } from './client.ts';
import { SubrosaError } from './errors.ts';

/** client.json, and the graphs it goes with. */
export interface ClientModel {
  readonly name: string;
  readonly program: string;
  readonly task: string;
  readonly labels: readonly string[];
  /** Longest input in tokens; 0 when the input is no text. */
  readonly maxTokens: number;
  readonly firstPosition: number;
  readonly image?: ImageSpec;
  /** Text generation: public tokens that every sequence begins with, tokens that end one, and how turns are written (Jinja). */
  readonly generation?: { readonly prefix: readonly number[]; readonly eos: readonly number[]; readonly chatTemplate?: string };
  readonly tokenizer: boolean;
  /** From what the person has to the program's inputs; from the program's outputs to the answer. */
  readonly before: Graph;
  readonly after: Graph;
}

/** Every file is checked against the manifest's hash by `client.file`. Throws SubrosaError. */
export async function loadModel(client: Client): Promise<ClientModel> {
  const [info, before, after, tensors] = await Promise.all([
    json<Omit<ClientModel, 'before' | 'after'> & { format: string }>(client, 'client.json', 'subrosa-client/1'),
    json<GraphJson>(client, 'before.json', 'subrosa-graph/1'),
    json<GraphJson>(client, 'after.json', 'subrosa-graph/1'),
    client.file('client.safetensors'),
  ]);
  if (info.program !== client.manifest.hash)
    throw new SubrosaError(
      'mismatch',
      `client.json belongs to program ${`${info.program}`.slice(0, 16)}…, the parties run ${client.manifest.hash.slice(0, 16)}…`,
    );
  return asInput(() => {
    const file = parseSafetensors(tensors, 'client.safetensors');
    return { ...info, before: graphOf(before, 'before/', file, 'before.json'), after: graphOf(after, 'after/', file, 'after.json') };
  });
}

/** Its code is fetched when a page first needs one. */
export async function loadTokenizer(client: Client): Promise<TextTokenizer> {
  const { makeTokenizer } = await import('../tasks/text.ts');
  const config = 'tokenizer_config.json';
  const [tokenizer, settings] = await Promise.all([
    json<object>(client, 'tokenizer.json'),
    Object.hasOwn(client.manifest.files, config) ? json<object>(client, config) : {},
  ]);
  return asInput(() => makeTokenizer(tokenizer, settings));
}

async function json<T extends object>(client: Client, name: string, format?: string): Promise<T> {
  const text = new TextDecoder().decode(await client.file(name));
  try {
    const value = JSON.parse(text) as T & { format?: unknown };
    if (format === undefined || value.format === format) return value;
  } catch {}
  throw new SubrosaError('bad-message', `'${name}' is not one this client reads: it may be newer`);
}

/** What cannot be made of an input, as the error it is to the caller. */
export function asInput<T>(make: () => T): T {
  try {
    return make();
  } catch (e) {
    throw e instanceof ModelError || e instanceof RangeError ? new SubrosaError('bad-input', e.message, { cause: e }) : e;
  }
}
