/** What the page asks of the cluster: its models, a picture's classes, a text's embedding. */
import { type Client, connect } from '../../src/client/index.ts';
import { type Pipeline, pipeline, type Scored } from '../../src/client/pipeline.ts';
import type { ImageSpec, Pixels } from '../../src/tasks/pixels.ts';
import { bytesText } from './bytes.ts';
import { type Watch, Watcher } from './watched.ts';

export interface Classified {
  /** Likeliest first. */
  readonly classes: readonly Scored[];
  readonly seconds: number;
}
export interface Embedded {
  readonly embedding: Float32Array;
  readonly seconds: number;
}
export interface Asked {
  readonly signal: AbortSignal;
  readonly watch: Watch;
}

export interface PictureModel {
  readonly weights: 'public' | 'private';
  readonly spec: ImageSpec;
  /** Pixels of the model's size. */
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

/** The first model of each task. Throws SubrosaError. */
export async function openModels(parties: readonly [string, string]): Promise<Models> {
  const response = await fetch(`${parties[0]}/v1/models`, { credentials: 'omit' });
  const { models } = (await response.json()) as { models: readonly { readonly hash: string; readonly task: string }[] };
  const open = async <M>(task: string, make: (client: Client, watcher: Watcher) => M): Promise<M | undefined> => {
    const listed = models.find((m) => m.task === task);
    if (!listed) return undefined;
    const watcher = new Watcher(parties);
    return make(await connect({ parties, model: listed.hash, fetch: watcher.fetch }), watcher);
  };
  const [picture, text] = await Promise.all([open('image-classification', pictures), open('sentence-embedding', texts)]);
  return { picture: await picture, text };
}

async function pictures(client: Client, watcher: Watcher): Promise<PictureModel> {
  const { name, weights } = client.manifest;
  const classifier = await pipeline('image-classification', client);
  return {
    weights,
    spec: classifier.model.image as ImageSpec,
    async classify(pixels, { signal, watch }) {
      const about = { thing: 'picture', model: name, weights, plain: Uint8Array.from(pixels.data) };
      const { value, seconds } = await watcher.run(about, watch, (onProgress) => classifier(pixels, { signal, onProgress }));
      return { classes: value, seconds };
    },
  };
}

function texts(client: Client, watcher: Watcher): TextModel {
  const { name, weights, files } = client.manifest;
  const size = Object.values(files).reduce((sum, { bytes }) => sum + bytes, 0);
  // With public weights the table of words is the client's: worth fetching only when somebody searches.
  let opened: Promise<Pipeline<'feature-extraction'>> | undefined;
  const open = (): Promise<Pipeline<'feature-extraction'>> => {
    opened ??= pipeline('feature-extraction', client).catch((e) => {
      opened = undefined;
      throw e;
    });
    return opened;
  };
  return {
    weights,
    async embed(text, { signal, watch }) {
      if (!opened) watch({ state: { text: `fetching tokenizer and words, ${bytesText(size)}, once` } });
      const embedder = await open();
      const about = { thing: 'sentence', model: name, weights, plain: new TextEncoder().encode(text) };
      const { value, seconds } = await watcher.run(about, watch, (onProgress) => embedder(text, { signal, onProgress }));
      return { embedding: value.data, seconds };
    },
  };
}
