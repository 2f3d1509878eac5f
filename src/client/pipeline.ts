/**
 * subrosa/client/pipeline: a task and a model, called like a function, answering as transformers.js does. The picture or text never leaves the
 * page but as two shares: resizing, tokenizing, the first and the last graph run here.
 */

import type { Tensor } from '../graph/graph.ts';
import { interpret } from '../graph/interpret.ts';
import { type Answer, answerOf, asTensor } from '../tasks/answer.ts';
import type { Encoded } from '../tasks/encoded.ts';
import { cosine, programInputs } from '../tasks/encoded.ts';
import { toTensor } from '../tasks/pixels.ts';
import type { TextTokenizer } from '../tasks/text.ts';
import type { Client, RunOptions } from './client.ts';
import { type ConnectOptions, connect } from './connect.ts';
import { SubrosaError } from './errors.ts';
import { asInput, type ClientModel, loadModel, loadTokenizer } from './model.ts';
import { type Decode, type Picture, pixelsOf } from './picture.ts';

export type { ClientModel } from './model.ts';
export type { Decode, Picture } from './picture.ts';

export interface PipelineOptions extends Omit<ConnectOptions, 'model'> {
  /** Decodes pictures where there is no canvas. */
  readonly decode?: Decode;
}

export interface Scored {
  readonly label: string;
  readonly score: number;
}
export interface Entity {
  readonly entity: string;
  readonly score: number;
  /** Position among the tokens, the first special one counted. */
  readonly index: number;
  readonly word: string;
}
export interface Embeddings {
  readonly type: 'float32';
  /** [texts, width]. */
  readonly dims: readonly [number, number];
  readonly data: Float32Array;
  tolist(): number[][];
}
export interface Found {
  readonly text: string;
  readonly index: number;
  readonly score: number;
}

type Top = RunOptions & { readonly top_k?: number };
/** One input, one answer; a list of inputs, a list of answers. */
interface Each<In, Out, Options> {
  (input: In, options?: Options): Promise<Out>;
  (inputs: readonly In[], options?: Options): Promise<Out[]>;
}

/** What each task's pipeline is called with, and answers. */
export interface Tasks {
  'image-classification': Each<Picture, Scored[], Top>;
  'text-classification': Each<string, Scored[], Top>;
  'token-classification': Each<string, Entity[], RunOptions & { readonly ignore_labels?: readonly string[] }>;
  'question-answering': (question: string, context: string, options?: RunOptions) => Promise<{ answer: string; score: number }>;
  'feature-extraction': (texts: string | readonly string[], options?: RunOptions) => Promise<Embeddings>;
  'sentence-similarity': (text: string, others: readonly string[], options?: RunOptions) => Promise<number[]>;
}
export type Task = keyof Tasks;

/** Other names of tasks, and the tasks of client.json that serve each. */
const aliases = {
  'sentiment-analysis': 'text-classification',
  ner: 'token-classification',
  'sentence-embedding': 'feature-extraction',
} as const;
type Aliases = typeof aliases;
const serves: Record<Task, string> = {
  'image-classification': 'image-classification',
  'text-classification': 'text-classification',
  'token-classification': 'token-classification',
  'question-answering': 'question-answering',
  'feature-extraction': 'sentence-embedding',
  'sentence-similarity': 'sentence-embedding',
};

export type Pipeline<T extends Task> = Tasks[T] & {
  readonly client: Client;
  readonly model: ClientModel;
  /** Ends the sessions. A client that was given is the giver's to close. */
  dispose(): Promise<void>;
};

/** Runs at once, for lists: each has a session of its own, and hides the others' way over the network. */
const atOnce = 4;

/**
 * `model`: a name or hash, with `parties` in the options, or a client that is connected already. Throws SubrosaError: 'bad-input' for a task
 * the model is not for, and what `connect` may throw.
 */
export async function pipeline<T extends Task | keyof Aliases>(
  task: T,
  model: string | Client,
  options: PipelineOptions | Pick<PipelineOptions, 'decode'> = {},
): Promise<Pipeline<T extends keyof Aliases ? Aliases[T] : T extends Task ? T : never>> {
  const name = (aliases[task as keyof Aliases] ?? task) as Task;
  if (!Object.hasOwn(serves, name))
    throw new SubrosaError('bad-input', `no task '${task}': there are ${[...Object.keys(serves), ...Object.keys(aliases)].join(', ')}`);
  if (typeof model === 'string' && !('parties' in options))
    throw new SubrosaError('bad-input', 'the URLs of the two parties are missing: { parties: [url, url] }');
  const client = typeof model === 'string' ? await connect({ ...(options as PipelineOptions), model }) : model;
  try {
    const loaded = await loadModel(client);
    if (loaded.task !== serves[name]) throw new SubrosaError('bad-input', `${loaded.name} is for ${loaded.task}, not for ${name}`);
    const tokenizer = name === 'image-classification' ? undefined : await loadTokenizer(client);
    const run = made[name](new Runner(client, loaded, tokenizer, options.decode));
    return Object.assign(run, { client, model: loaded, dispose: () => (client === model ? Promise.resolve() : client.close()) }) as never;
  } catch (e) {
    if (client !== model) await client.close();
    throw e;
  }
}

/** Texts by meaning: their embeddings stay in this page, and so does the search; only the query's shares leave it. */
export async function semanticSearch(
  embed: Tasks['feature-extraction'],
  texts: readonly string[],
  options?: RunOptions,
): Promise<(query: string, options?: Top) => Promise<Found[]>> {
  const known = texts.length > 0 ? (await embed(texts, options)).tolist() : [];
  return async (query, { top_k = 5, ...run } = {}) => {
    const [wanted] = (await embed(query, run)).tolist();
    const found = known.map((vector, index) => ({ text: texts[index], index, score: cosine(wanted, vector) }));
    return found.sort((a, b) => b.score - a.score).slice(0, top_k);
  };
}

class Runner {
  constructor(
    readonly client: Client,
    readonly model: ClientModel,
    readonly tokenizer: TextTokenizer | undefined,
    readonly decode: Decode | undefined,
  ) {}

  async picture(picture: Picture, options: RunOptions): Promise<Answer> {
    const { image, before } = this.model;
    if (!image) throw new SubrosaError('bad-input', `${this.model.name} does not say how it wants its pictures`);
    const pixels = await pixelsOf(picture, image, this.decode);
    return this.answer(
      asInput(() => interpret(before, { [before.inputs[0].name]: toTensor(pixels, image) })),
      options,
    );
  }

  /** A text that is too long loses its end; two that are too long together are refused. */
  async text(text: string, pair: string | undefined, options: RunOptions): Promise<Answer & { readonly encoded: Encoded }> {
    const encoded = asInput(() => (this.tokenizer as TextTokenizer).encode(text, { pair, maxTokens: this.model.maxTokens }));
    return {
      ...(await this.answer(
        asInput(() => programInputs(this.model, encoded)),
        options,
        encoded,
      )),
      encoded,
    };
  }

  private async answer(inputs: Record<string, Tensor>, { signal, onProgress }: RunOptions, encoded?: Encoded): Promise<Answer> {
    const outputs = await this.client.run(inputs, { signal, onProgress });
    return asInput(() =>
      answerOf(this.model, Object.fromEntries(Object.entries(outputs).map(([name, o]) => [name, asTensor(o)])), { encoded }),
    );
  }
}

const scored = (answer: Answer, top_k: number): Scored[] =>
  (answer.classes ?? []).slice(0, top_k).map(({ label, probability }) => ({ label, score: probability }));

const made: { readonly [T in Task]: (r: Runner) => Tasks[T] } = {
  'image-classification': (r) => each(async (picture: Picture, { top_k = 5, ...o }: Top) => scored(await r.picture(picture, o), top_k)),
  'text-classification': (r) => each(async (text: string, { top_k = 1, ...o }: Top) => scored(await r.text(text, undefined, o), top_k)),
  'token-classification': (r) =>
    each(async (text: string, { ignore_labels = ['O'], ...o }: RunOptions & { ignore_labels?: readonly string[] }) => {
      const { tokens = [], encoded } = await r.text(text, undefined, o);
      return tokens.flatMap(({ label, probability }, index) => {
        // Special tokens decode to nothing.
        const word = (r.tokenizer as TextTokenizer).decode([encoded.ids[index]]);
        return word === '' || ignore_labels.includes(label) ? [] : [{ entity: label, score: probability, index, word }];
      });
    }),
  'question-answering':
    (r) =>
    async (question, context, options = {}) => {
      const { span } = await r.text(question, context, options);
      return { answer: span?.text ?? '', score: span?.probability ?? 0 };
    },
  'feature-extraction':
    (r) =>
    (texts, options = {}) =>
      embeddings(r, typeof texts === 'string' ? [texts] : texts, options),
  'sentence-similarity':
    (r) =>
    async (text, others, options = {}) => {
      const [first, ...rest] = (await embeddings(r, [text, ...others], options)).tolist();
      return rest.map((other) => cosine(first, other));
    },
};

async function embeddings(r: Runner, texts: readonly string[], options: RunOptions): Promise<Embeddings> {
  const rows = await some(texts, async (text) => {
    const { sentence_embedding: embedding } = (await r.text(text, undefined, options)).outputs;
    if (!embedding) throw new SubrosaError('bad-input', `${r.model.name} makes no sentence embedding`);
    return Float32Array.from(embedding.data);
  });
  const width = rows[0]?.length ?? 0;
  const data = new Float32Array(rows.length * width);
  for (const [i, row] of rows.entries()) data.set(row, i * width);
  return { type: 'float32', dims: [rows.length, width], data, tolist: () => rows.map((row) => Array.from(row)) };
}

function each<In, Out, Options>(one: (input: In, options: Options) => Promise<Out>): Each<In, Out, Options> {
  return ((input: In | readonly In[], options: Options = {} as Options) =>
    Array.isArray(input) ? some(input as readonly In[], (i) => one(i, options)) : one(input as In, options)) as Each<In, Out, Options>;
}

/** All, `atOnce` at a time, in order. The first that fails ends it. */
async function some<In, Out>(inputs: readonly In[], one: (input: In) => Promise<Out>): Promise<Out[]> {
  const out = new Array<Out>(inputs.length);
  let next = 0;
  let failed = false;
  const work = async (): Promise<void> => {
    while (next < inputs.length && !failed) {
      const i = next++;
      try {
        out[i] = await one(inputs[i]);
      } catch (e) {
        failed = true;
        throw e;
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, inputs.length) }, work));
  return out;
}
