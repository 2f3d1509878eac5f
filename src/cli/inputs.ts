/** What a person gives, as inputs of the program: files and texts through the client's own graph. */
import { existsSync, readFileSync } from 'node:fs';
import type { Client } from '../folder/index.ts';
import type { Graph, Tensor } from '../graph/graph.ts';
import { interpret } from '../graph/interpret.ts';
import { readNpy } from '../import/npy.ts';
import type { Params, Program } from '../program/program.ts';
import { type Encoded, pick, programInputs, textInputs } from '../tasks/encoded.ts';
import { inputRows, keysFor, limitsOf } from '../tasks/generate/index.ts';
import type { TextTokenizer } from '../tasks/text.ts';
import { loadTokenizer } from '../tasks/text-file.ts';
import { isImageFile, jsonTensors, readFileOf, shaped, tensorsFrom } from './files.ts';
import { oneLine, say, UsageError } from './terminal.ts';

export interface Given {
  /** For tables and messages. */
  readonly title: string;
  /** The program's inputs, real values. */
  readonly inputs: Record<string, Tensor>;
  readonly encoded?: Encoded;
  /** Parameters that no input's shape tells. */
  readonly params?: Params;
}

export const isText = (client: Client): boolean => client.tokenizer && client.before.inputs.some((i) => i.name === 'input_ids');

/** One entry per answer. `named`: NAME=FILE options, which make up one input together. */
export async function readInputs(
  client: Client,
  program: Program,
  given: readonly string[],
  named: readonly string[] = [],
): Promise<Given[]> {
  if (client.task === 'text-generation')
    throw new UsageError(`${client.name} is a language model, which goes on token by token`, 'subrosa generate MODEL "A prompt"');
  if (named.length > 0) {
    if (given.length > 0) throw new UsageError(`--input and '${oneLine(given[0])}' together: give one or the other`);
    return [namedInputs(client, program, named)];
  }
  if (given.length === 0) throw new UsageError(`${client.name} needs an input`, expected(client));
  if (client.task === 'question-answering') return questions(client, given);
  const all: Given[] = [];
  for (const what of given) all.push(...(await oneInput(client, what)));
  return all;
}

const expected = (client: Client): string =>
  isText(client)
    ? 'a text is expected: subrosa run MODEL "some words"'
    : client.image
      ? `an image file, or .npy of [${client.before.inputs[0].shape}], is expected`
      : `.npy or .json is expected for ${client.before.inputs.map((i) => `${i.name} [${i.shape}]`).join(', ')}`;

async function oneInput(client: Client, what: string): Promise<Given[]> {
  const title = oneLine(what);
  const through = (t: Record<string, Tensor>, i: number, all: readonly unknown[]): Given => ({
    title: all.length > 1 ? `${title} (${i})` : title,
    inputs: interpret(client.before, t),
  });
  if (isText(client) && !(/\.npy$/.test(what) && existsSync(what))) return [textInput(client, textOf(what))];
  if (/\.(npy|json)$/.test(what)) return tensorsFrom(what, client.before).map(through);
  if (/^\s*[[{]/.test(what)) return [jsonTensors(what, client.before, 'input')].map(through);
  if (!existsSync(what)) throw new UsageError(`${title}: no such file`, expected(client));
  if (!client.image)
    throw new UsageError(`${title}: ${client.name} takes no ${isImageFile(what) ? 'images' : 'files of this kind'}`, expected(client));
  readFileOf(what);
  const { readImage } = await import('../tasks/image.ts');
  return [{ [client.before.inputs[0].name]: await readImage(what, client.image) }].map(through);
}

/** '-' is standard input, an existing .txt its contents, everything else itself. */
function textOf(what: string): string {
  if (what === '-') return readFileSync(0, 'utf8').trim();
  return what.endsWith('.txt') && existsSync(what) ? new TextDecoder().decode(readFileOf(what)).trim() : what;
}

/** A language model's first pass: a prompt after the public prefix, as much of it as one step takes. */
export function promptInput(client: Client, program: Program, text: string): Given {
  const limits = limitsOf(program.params);
  const ids = tokenizerOf(client)
    .ids(textOf(text))
    .slice(0, Math.min(limits.n, limits.keys - limits.prefix));
  if (ids.length === 0) throw new UsageError('the prompt is empty');
  const past = limits.prefix;
  const keys = keysFor(past + ids.length, limits.keys, ids.length);
  return { title: oneLine(text), inputs: inputRows(client.before, ids, past), params: { keys, past } };
}

const tokenizers = new Map<string, TextTokenizer>();
function tokenizerOf(client: Client): TextTokenizer {
  const known = tokenizers.get(client.dir) ?? loadTokenizer(client.dir);
  tokenizers.set(client.dir, known);
  return known;
}

function textInput(client: Client, text: string, pair?: string): Given {
  const title = oneLine(text) || '(no text)';
  let encoded: Encoded;
  try {
    encoded = tokenizerOf(client).encode(text, { pair, maxTokens: client.maxTokens });
  } catch (e) {
    throw e instanceof RangeError ? new UsageError(e.message) : e;
  }
  if (encoded.cut > 0)
    say(
      `'${title}': the last ${encoded.cut} tokens do not fit ${client.maxTokens} and were left out; compile with a larger --max-tokens to keep them`,
    );
  return { title, encoded, inputs: programInputs(client, encoded) };
}

function questions(client: Client, given: readonly string[]): Given[] {
  if (given.length % 2 !== 0)
    throw new UsageError(
      `${client.name} answers questions: give pairs of question and context`,
      'subrosa run MODEL "Who wrote it?" "It was written by …"',
    );
  return Array.from({ length: given.length / 2 }, (_, i) => textInput(client, textOf(given[2 * i]), textOf(given[2 * i + 1])));
}

/** NAME is an input of the client's graph (what is missing of a text's three is filled in), or of the private program. */
function namedInputs(client: Client, program: Program, named: readonly string[]): Given {
  const files = new Map<string, string>();
  for (const option of named) {
    const [, name, file] = /^([^=]+)=(.+)$/s.exec(option) ?? [];
    if (!name) throw new UsageError(`--input ${option}: NAME=FILE.npy is expected`);
    if (files.has(name)) throw new UsageError(`--input ${name} is given twice`);
    files.set(name, file);
  }
  const read = (graph: Pick<Graph, 'inputs'>): Record<string, Tensor> =>
    Object.fromEntries(
      [...files].map(([name, file]) => {
        const input = graph.inputs.find((i) => i.name === name);
        if (!input)
          throw new UsageError(
            `--input ${name}: no input is called that`,
            `there are ${[...new Set([...client.before.inputs, ...program.inputs].map((i) => i.name))].join(', ')}`,
          );
        return [name, shaped(readNpy(readFileOf(file), file), input, file)];
      }),
    );
  const title = [...files.values()].join(', ');
  const own = client.before.inputs.some((i) => files.has(i.name));
  if (!own) return { title, inputs: read({ inputs: program.inputs.map((i) => ({ name: i.name, dtype: 'f32', shape: i.shape })) }) };
  const given = read(client.before);
  const ids = given.input_ids;
  const filled = ids
    ? { ...textInputs({ ids: Array.from(ids.data), types: new Array<number>(ids.data.length).fill(0) }, client.firstPosition), ...given }
    : given;
  return { title, inputs: interpret(client.before, pick(filled, client.before)) };
}
