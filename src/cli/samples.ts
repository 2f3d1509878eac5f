/** Sample inputs that ranges are measured on: the person's own, or what the project ships or makes for the task. */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { type Graph, ModelError, sizeOf, type Tensor, tensor } from '../graph/graph.ts';
import { interpret } from '../graph/interpret.ts';
import { pick, textInputs } from '../tasks/encoded.ts';
import { type ImageSpec, toTensor } from '../tasks/pixels.ts';
import type { TextTokenizer } from '../tasks/text.ts';
import { loadTokenizer } from '../tasks/text-file.ts';
import { isImageFile, readFileOf, tensorsFrom } from './files.ts';
import { type Decoding, decoderInputs, sequences } from './language.ts';
import { shipped } from './locate.ts';
import type { Source } from './source.ts';
import { madeImages, madeNormals } from './synthetic.ts';
import { countText, plural, UsageError } from './terminal.ts';

export interface Samples {
  /** Inputs of the private graph. */
  readonly inputs: Record<string, Tensor>[];
  /** The text of sample number i, where it is one. */
  readonly text?: (i: number) => string;
  /** What they are, in words. */
  readonly about: string;
}

/** Tokens at least, when the shipped texts are used. */
const fewestTokens = 30_000;
/** The same of decoders with billions of weights, whose tokens are as many as `decoderBudget` multiply-adds allow. */
const fewestOfLarge = 2000;
const decoderBudget = 6e12;
/** Multiply-adds a calibration may take without being asked for: images of large models are fewer. */
const budget = 1.2e12;

export async function samplesFor(source: Source, maxTokens: number, files: readonly string[] | undefined): Promise<Samples> {
  if (files) return ownSamples(source, maxTokens, files);
  const { image } = source.info;
  if (source.decoding) {
    const enough = Math.max(fewestOfLarge, Math.min(fewestTokens, decoderBudget / weightsOf(source.graph)));
    const list = sequences(source.decoding, readTexts(shipped('calibration/texts.jsonl')), enough);
    return fromSequences(source.decoding, list, 'texts that come with subrosa');
  }
  if (source.tokenizerDir !== undefined && source.before.inputs.some((i) => i.name === 'input_ids')) return shippedTexts(source, maxTokens);
  if (image?.channels === 1 && image.width === 28 && image.height === 28) {
    const images = fashionImages('fashion-calibration.bin', image).slice(0, 256);
    return {
      inputs: images.map(({ image: t }) => before(source, { [source.before.inputs[0].name]: t })),
      about: `${images.length} images of clothes that come with subrosa`,
    };
  }
  if (image) {
    const count = Math.max(21, Math.min(140, Math.floor(budget / multiplyAdds(source.graph))));
    const inputs = madeImages(image, count).map((p) => before(source, { [source.before.inputs[0].name]: toTensor(p, image) }));
    return { inputs, about: `${count} made images (gradients, noise, shapes, textures)` };
  }
  const count = 128;
  const normal = (i: number): Record<string, Tensor> =>
    Object.fromEntries(
      source.before.inputs.map((input, k) => {
        const shape = input.shape.map((d) => (typeof d === 'number' ? d : 1 + (i % maxTokens)));
        return [input.name, tensor(madeNormals(sizeOf(shape), 131 * i + k + 1), shape)];
      }),
    );
  return {
    inputs: Array.from({ length: count }, (_, i) => before(source, normal(i))),
    about: `${count} inputs of standard normal noise, for want of knowing better`,
  };
}

const before = (source: Source, given: Record<string, Tensor>): Record<string, Tensor> => interpret(source.before, given);

/** Products with constants, for one input: a lower bound, good enough to choose a number of samples. */
const multiplyAdds = (graph: Graph): number => 1e6 + 200 * weightsOf(graph);

function weightsOf(graph: Graph): number {
  let total = 0;
  for (const n of graph.nodes) if (/^(Linear|Conv)$/.test(n.op)) total += sizeOf(graph.constants.get(n.inputs[1])?.shape ?? []);
  return total;
}

export interface LabelledImage {
  readonly label: number;
  readonly image: Tensor;
  readonly pixels: Uint8Array;
}

/** One of the shipped sets: N labels, then N images of 28×28 bytes. */
export function fashionImages(file: string, spec: ImageSpec): LabelledImage[] {
  const bytes = readFileOf(shipped(file));
  const n = bytes.length / 785;
  if (!Number.isInteger(n))
    throw new ModelError(`${shipped(file)}: ${bytes.length} bytes are no whole number of images; install subrosa again`);
  return Array.from({ length: n }, (_, i) => {
    const pixels = bytes.subarray(n + 784 * i, n + 784 * (i + 1));
    return { label: bytes[i], pixels, image: toTensor({ width: 28, height: 28, channels: 1, data: pixels }, { ...spec, invert: false }) };
  });
}

/** The first of the shipped texts that make enough tokens; the file is shuffled, so they are a sample of all. */
function shippedTexts(source: Source, maxTokens: number): Samples {
  const path = shipped('calibration/texts.jsonl');
  const { inputs, tokens } = encodeAll(source, maxTokens, readTexts(path), fewestTokens);
  return { inputs, about: `${plural(inputs.length, 'text')} (${countText(tokens)} tokens) that come with subrosa` };
}

function fromSequences(decoding: Decoding, list: readonly number[][], what: string): Samples {
  const tokens = list.reduce((sum, ids) => sum + ids.length, 0);
  return {
    inputs: list.map((ids) => decoderInputs(decoding, ids)),
    text: (i) => decoding.tokenizer.decode(list[i]),
    about: `${plural(list.length, 'sequence')} (${countText(tokens)} tokens) of ${what}`,
  };
}

function encodeAll(
  source: Source,
  maxTokens: number,
  texts: readonly string[],
  enough = Number.POSITIVE_INFINITY,
): { inputs: Record<string, Tensor>[]; tokens: number } {
  const tokenizer: TextTokenizer = loadTokenizer(source.tokenizerDir as string);
  const inputs: Record<string, Tensor>[] = [];
  let tokens = 0;
  for (const text of texts) {
    const encoded = tokenizer.encode(text, { maxTokens });
    inputs.push(before(source, pick(textInputs(encoded, source.info.firstPosition), source.before)));
    tokens += encoded.ids.length;
    if (tokens >= enough) break;
  }
  return { inputs, tokens };
}

/** .txt: a text a line; .jsonl: a JSON string, or an object with `text`, a line. */
export function readTexts(path: string): string[] {
  const lines = new TextDecoder()
    .decode(readFileOf(path))
    .split('\n')
    .filter((l) => l.trim() !== '');
  if (!path.endsWith('.jsonl')) return lines;
  return lines.map((line, i) => {
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch {
      value = undefined;
    }
    const text = typeof value === 'object' && value !== null ? (value as { text?: unknown }).text : value;
    if (typeof text !== 'string') throw new UsageError(`${path}: line ${i + 1} is no JSON string and no object with a text`);
    return text;
  });
}

async function ownSamples(source: Source, maxTokens: number, given: readonly string[]): Promise<Samples> {
  const files = given.flatMap((path) => {
    if (!existsSync(path)) throw new UsageError(`${path}: no such file to calibrate on`);
    return statSync(path).isDirectory()
      ? readdirSync(path)
          .sort()
          .map((f) => join(path, f))
          .filter((f) => statSync(f).isFile())
      : [path];
  });
  if (source.decoding) {
    const other = files.find((f) => !/\.(txt|jsonl)$/.test(f));
    if (other !== undefined) throw new UsageError(`${other}: a language model is calibrated on texts, .txt (a text a line) or .jsonl`);
    const list = sequences(source.decoding, files.flatMap(readTexts), Number.POSITIVE_INFINITY);
    if (list.length === 0) throw new UsageError(`${given.join(', ')}: nothing to calibrate on`);
    return fromSequences(source.decoding, list, files.length === 1 ? basename(files[0]) : `${files.length} files`);
  }
  const inputs: Record<string, Tensor>[] = [];
  for (const file of files) {
    if (/\.(txt|jsonl)$/.test(file)) {
      if (source.tokenizerDir === undefined) throw new UsageError(`${file}: ${source.name} takes no text`);
      inputs.push(...encodeAll(source, maxTokens, readTexts(file)).inputs);
    } else if (isImageFile(file)) {
      if (!source.info.image) throw new UsageError(`${file}: ${source.name} takes no image`);
      const { readImage } = await import('../tasks/image.ts');
      inputs.push(before(source, { [source.before.inputs[0].name]: await readImage(file, source.info.image) }));
    } else if (/\.(npy|json)$/.test(file)) inputs.push(...tensorsFrom(file, source.before).map((t) => before(source, t)));
    else
      throw new UsageError(
        `${file}: cannot calibrate on this kind of file`,
        'images, .npy, .json, .txt (a text a line) and .jsonl are read',
      );
  }
  if (inputs.length === 0) throw new UsageError(`${given.join(', ')}: nothing to calibrate on`);
  return { inputs, about: `${plural(inputs.length, 'sample')} from ${files.length === 1 ? basename(files[0]) : `${files.length} files`}` };
}
