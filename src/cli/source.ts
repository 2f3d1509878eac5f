/** A model as it is before compiling: the private graph, the client's two, and what the client must know. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import type { ClientInfo } from '../folder/index.ts';
import { type Graph, ModelError } from '../graph/graph.ts';
import { rewrite } from '../graph/rewrite/index.ts';
import { generates, importPretrained } from '../import/families/index.ts';
import { readOnnx } from '../import/onnx/read.ts';
import { loadImageSpec } from '../tasks/image.ts';
import { plainSpec } from '../tasks/pixels.ts';
import { type Decoding, readDecoding } from './language.ts';
import type { Uncompiled } from './locate.ts';

export interface Source {
  readonly name: string;
  /** Rewritten: what is calibrated and compiled. */
  readonly graph: Graph;
  readonly before: Graph;
  readonly after: Graph;
  readonly info: Omit<ClientInfo, 'tokenizer' | 'calibration'>;
  readonly tokenizerDir?: string;
  /** Language models that generate. */
  readonly decoding?: Decoding;
}

/** `maxTokens` and `prefix` are for decoders: positions are made for so many, and every sequence begins so. */
export function readSource(at: Uncompiled, options: { readonly maxTokens?: number; readonly prefix?: string } = {}): Source {
  if (at.kind === 'gguf' || (at.kind === 'folder' && generates(at.dir))) return decoder(readDecoding(at, options));
  return at.kind === 'folder' ? pretrained(at.dir, at.name) : fromOnnx(at);
}

function decoder(decoding: Decoding): Source {
  const { language, prefix, keys } = decoding;
  const { graph, client, meta, eos, chatTemplate } = language;
  return {
    name: graph.name,
    graph,
    before: client.before,
    after: client.after,
    info: {
      name: graph.name,
      task: 'text-generation',
      family: meta.family,
      labels: [],
      maxTokens: keys,
      firstPosition: 0,
      generation: { prefix: [...prefix], eos: [...eos], chatTemplate },
    },
    decoding,
  };
}

function pretrained(dir: string, name: string): Source {
  const { graph, client, meta } = importPretrained(dir);
  return {
    name,
    graph: { ...rewrite(graph), name },
    before: client.before,
    after: client.after,
    info: {
      name,
      task: meta.task,
      family: meta.family,
      labels: [...meta.labels],
      maxTokens: meta.maxTokens,
      firstPosition: meta.firstPosition,
      image: meta.image ? loadImageSpec(dir, meta.image) : undefined,
    },
    tokenizerDir: dir,
  };
}

const Beside = z.looseObject({
  task: z.enum(['image-classification', 'image-features', 'tensors']).optional(),
  labels: z.array(z.string()).optional(),
  id2label: z.record(z.string(), z.string()).optional(),
});

/** What NAME.json beside NAME.onnx, or config.json, says of labels and task. */
function beside(at: { file: string; dirs: readonly string[] }): z.infer<typeof Beside> {
  const path = [at.file.replace(/\.onnx$/, '.json'), ...at.dirs.map((d) => join(d, 'config.json'))].find((f) => existsSync(f));
  if (!path) return {};
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(path, 'utf8'));
  } catch (e) {
    throw new ModelError(`${path}: not JSON: ${(e as Error).message}`);
  }
  const result = Beside.safeParse(value);
  if (!result.success) throw new ModelError(`${path}: ${result.error.issues[0].path.join('.')}: ${result.error.issues[0].message}`);
  return result.data;
}

function fromOnnx(at: { file: string; name: string; dirs: readonly string[] }): Source {
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(at.file);
  } catch (e) {
    throw new ModelError(`${at.file}: cannot be read (${(e as NodeJS.ErrnoException).code})`);
  }
  let graph: Graph;
  try {
    graph = { ...rewrite(readOnnx(bytes, { externalDir: at.dirs[0], name: at.name })), name: at.name };
  } catch (e) {
    throw e instanceof ModelError ? new ModelError(`${at.file}: ${e.message}`, { cause: e }) : e;
  }
  const integer = graph.inputs.filter((i) => i.dtype !== 'f32');
  if (integer.length > 0)
    throw new ModelError(
      `${at.file}: input ${integer.map((i) => `'${i.name}'`).join(', ')} holds token ids, which only safetensors models take: use the folder with config.json and model.safetensors`,
    );
  const said = beside(at);
  const labels = said.labels ?? Object.values(said.id2label ?? {});
  const { private_, after } = splitSoftmax(graph);
  const shape = graph.inputs.length === 1 ? graph.inputs[0].shape : [];
  const image =
    shape.length === 4 && shape[0] === 1 && (shape[1] === 1 || shape[1] === 3) ? (shape.slice(1) as [number, number, number]) : undefined;
  const fixed = image?.every((d) => typeof d === 'number') ? image : undefined;
  const task = said.task ?? (fixed && labels.length > 0 ? 'image-classification' : 'tensors');
  if (task !== 'tensors' && !fixed)
    throw new ModelError(`${at.file}: its input [${shape}] is no image of a fixed size, but it is described as ${task}`);
  const spec = !fixed
    ? undefined
    : (at.dirs
        .map((d) => (existsSync(join(d, 'preprocessor_config.json')) ? loadImageSpec(d, fixed) : undefined))
        .find((s) => s !== undefined) ?? plainSpec(fixed));
  return {
    name: at.name,
    graph: private_,
    before: {
      name: `${at.name} (client, before)`,
      inputs: graph.inputs,
      outputs: graph.inputs.map((i) => i.name),
      nodes: [],
      constants: new Map(),
    },
    after: task === 'image-classification' && after.nodes.length === 0 ? probabilities(after) : after,
    info: { name: at.name, task, family: 'onnx', labels, maxTokens: 0, firstPosition: 0, image: spec },
  };
}

/** A softmax at the very end goes to the client, who learns from logits what it learns from probabilities. */
function splitSoftmax(graph: Graph): { private_: Graph; after: Graph } {
  const last = graph.nodes.filter(
    (n) => n.op === 'Softmax' && graph.outputs.includes(n.outputs[0]) && !graph.nodes.some((m) => m.inputs.includes(n.outputs[0])),
  );
  const before = new Map(last.map((n) => [n.outputs[0], n.inputs[0]]));
  const outputs = [...new Set(graph.outputs.map((o) => before.get(o) ?? o))];
  return {
    private_: { ...graph, nodes: graph.nodes.filter((n) => !last.includes(n)), outputs },
    after: {
      name: `${graph.name} (client, after)`,
      inputs: outputs.map((name) => ({ name, dtype: 'f32', shape: [] })),
      outputs: graph.outputs.filter((o) => before.has(o)),
      nodes: last,
      constants: new Map(),
    },
  };
}

/** Logits to probabilities; the input's shape is not known yet and is filled in after calibration. */
function probabilities(after: Graph): Graph {
  const [logits] = after.inputs;
  return {
    ...after,
    inputs: [logits],
    outputs: ['probabilities'],
    nodes: [{ op: 'Softmax', name: '/softmax', inputs: [logits.name], outputs: ['probabilities'], attrs: { axis: -1 } }],
  };
}
