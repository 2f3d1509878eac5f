/** What the page asks of the cluster: its models, a picture's classes, a text's embedding. */
import { type Client, type ClientInputs, connect } from '../../src/client/index.ts';
import type { Graph } from '../../src/graph/graph.ts';
import { interpret } from '../../src/graph/interpret.ts';
import { type GraphJson, graphOf } from '../../src/import/graph-json.ts';
import { parseSafetensors } from '../../src/import/safetensors.ts';
import { type Answer, answerOf, asTensor, type Ranked } from '../../src/tasks/answer.ts';
import { programInputs } from '../../src/tasks/encoded.ts';
import { type ImageSpec, type Pixels, toTensor } from '../../src/tasks/pixels.ts';
import { type Watch, Watcher } from './watched.ts';

export interface Classified {
  readonly classes: readonly Ranked[];
  readonly seconds: number;
}
export interface Embedded {
  readonly embedding: ArrayLike<number>;
  readonly seconds: number;
}
export interface Asked {
  readonly signal: AbortSignal;
  readonly watch: Watch;
}

export interface PictureModel {
  readonly weights: 'public' | 'private';
  readonly spec: ImageSpec;
  /** Pixels of the model's size, as it is to see them. */
  classify(pixels: Pixels, asked: Asked): Promise<Classified>;
}
export interface TextModel {
  readonly weights: 'public' | 'private';
  embed(text: string, asked: Asked): Promise<Embedded>;
}
export interface Models {
  readonly picture?: PictureModel;
  readonly text?: TextModel;
}

interface Listed {
  readonly hash: string;
  readonly task: string;
}

/** client.json, as far as it is needed here. */
interface Info {
  readonly task: string;
  readonly labels: readonly string[];
  readonly maxTokens: number;
  readonly firstPosition: number;
  readonly image?: ImageSpec;
}

/** The first model of each task. Throws SubrosaError. */
export async function openModels(parties: readonly [string, string]): Promise<Models> {
  const response = await fetch(`${parties[0]}/v1/models`, { credentials: 'omit' });
  const { models } = (await response.json()) as { models: readonly Listed[] };
  const open = async <M>(task: string, make: (model: Model) => M): Promise<M | undefined> => {
    const listed = models.find((m) => m.task === task);
    return listed && make(await Model.open(parties, listed.hash));
  };
  const [picture, text] = await Promise.all([open('image-classification', pictures), open('sentence-embedding', texts)]);
  return { picture, text };
}

class Model {
  private graphs?: Promise<Record<'before' | 'after', Graph>>;

  private constructor(
    readonly client: Client,
    readonly info: Info,
    private readonly watcher: Watcher,
  ) {}

  static async open(parties: readonly [string, string], hash: string): Promise<Model> {
    const watcher = new Watcher(parties);
    const client = await connect({ parties, model: hash, fetch: watcher.fetch });
    return new Model(client, JSON.parse(new TextDecoder().decode(await client.file('client.json'))) as Info, watcher);
  }

  async json(name: string): Promise<object> {
    return JSON.parse(new TextDecoder().decode(await this.client.file(name))) as object;
  }

  /** With public weights a text encoder's table of words is among these: fetched at the first run. */
  load(): Promise<Record<'before' | 'after', Graph>> {
    this.graphs ??= (async () => {
      const file = parseSafetensors(await this.client.file('client.safetensors'));
      const graph = async (name: string): Promise<Graph> => graphOf((await this.json(`${name}.json`)) as GraphJson, `${name}/`, file, name);
      return { before: await graph('before'), after: await graph('after') };
    })();
    return this.graphs;
  }

  async run(thing: string, plain: Uint8Array, inputs: ClientInputs, { signal, watch }: Asked): Promise<{ value: Answer; seconds: number }> {
    const { name, weights } = this.client.manifest;
    const { after } = await this.load();
    return this.watcher.run({ thing, model: name, weights, plain }, watch, async (onProgress) => {
      const outputs = await this.client.run(inputs, { signal, onProgress });
      return answerOf({ ...this.info, after }, Object.fromEntries(Object.entries(outputs).map(([k, v]) => [k, asTensor(v)])));
    });
  }
}

function pictures(model: Model): PictureModel {
  const { image } = model.info;
  const { weights } = model.client.manifest;
  // Turned round already, where it had to be: the page shows what the model gets.
  const spec: ImageSpec = { ...(image as ImageSpec), invert: false };
  return {
    weights,
    spec: image as ImageSpec,
    async classify(pixels, asked) {
      const { before } = await model.load();
      const given = interpret(before, { [before.inputs[0].name]: toTensor(pixels, spec) });
      const { value, seconds } = await model.run('picture', Uint8Array.from(pixels.data), given, asked);
      return { classes: value.classes ?? [], seconds };
    },
  };
}

function texts(model: Model): TextModel {
  const { maxTokens, firstPosition } = model.info;
  let tokenizer: Promise<import('../../src/tasks/text.ts').TextTokenizer> | undefined;
  const load = async () => {
    const { makeTokenizer } = await import('../../src/tasks/text.ts');
    return makeTokenizer(await model.json('tokenizer.json'), await model.json('tokenizer_config.json'));
  };
  return {
    weights: model.client.manifest.weights,
    async embed(text, asked) {
      asked.watch({ state: { text: 'fetching the tokenizer' } });
      tokenizer ??= load();
      const encoded = (await tokenizer).encode(text, { maxTokens });
      const { before } = await model.load();
      const { value, seconds } = await model.run(
        'sentence',
        new TextEncoder().encode(text),
        programInputs({ before, firstPosition }, encoded),
        asked,
      );
      return { embedding: value.outputs.sentence_embedding.data, seconds };
    },
  };
}
