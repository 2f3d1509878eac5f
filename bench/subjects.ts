/** The models that benches run: shipped and pulled ones from their compiled folders, BERT-base's shape with random weights. */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compiledFor } from '../src/cli/build.ts';
import { calibrate } from '../src/compile/calibrate.ts';
import { compile } from '../src/compile/compile.ts';
import { writeCompiled } from '../src/folder/index.ts';
import { type Graph, type GraphNode, type Tensor, tensor } from '../src/graph/graph.ts';
import type { Program } from '../src/program/program.ts';

const root = join(import.meta.dirname, '..');

/** Numbers that look normal, the same on every machine. */
function normals(seed: number): () => number {
  let s = seed >>> 0;
  const uniform = (): number => {
    s = (Math.imul(s, 1664525) + 1013904223) >>> 0;
    return s / 2 ** 32;
  };
  return () => Math.sqrt(-2 * Math.log(uniform() + 1e-9)) * Math.cos(2 * Math.PI * uniform());
}

/** An encoder of BERT's shape with random weights whose activations have the ranges of a trained one: scores to ±12, unit variances. */
function bert(layers: number, hidden: number, inner: number, heads: number): Graph {
  const random = normals(7);
  const constants = new Map<string, Tensor>();
  const nodes: GraphNode[] = [];
  const constant = (name: string, shape: number[], spread: number, centre = 0): string => {
    const n = shape.reduce((a, b) => a * b, 1);
    constants.set(
      name,
      tensor(
        Float32Array.from({ length: n }, () => centre + spread * random()),
        shape,
      ),
    );
    return name;
  };
  const node = (op: string, name: string, inputs: string[], attrs: GraphNode['attrs'] = {}): string => {
    nodes.push({ op, name, inputs, outputs: [name], attrs });
    return name;
  };
  const linear = (name: string, x: string, K: number, N: number, spread = 1): string =>
    node('Linear', name, [x, constant(`${name}.w`, [K, N], spread / Math.sqrt(K)), constant(`${name}.b`, [N], 0.02)]);
  const norm = (name: string, x: string): string =>
    node('LayerNormalization', name, [x, constant(`${name}.g`, [hidden], 0.1, 1), constant(`${name}.h`, [hidden], 0.1)], {
      axis: -1,
      epsilon: 1e-12,
    });
  let x = norm('/embeddings/LayerNorm', 'embeddings');
  for (let i = 0; i < layers; i++) {
    const at = `/encoder/layer.${i}`;
    const [q, k, v] = ['query', 'key', 'value'].map((s) => linear(`${at}/attention/${s}`, x, hidden, hidden, s === 'value' ? 0.6 : 1.3));
    const context = node('Attention', `${at}/attention/Attention`, [q, k, v], { heads, scale: 1 / Math.sqrt(hidden / heads) });
    x = norm(
      `${at}/attention/LayerNorm`,
      node('Add', `${at}/attention/Add`, [linear(`${at}/attention/output`, context, hidden, hidden), x]),
    );
    const wide = linear(`${at}/intermediate/dense`, x, hidden, inner, 0.8);
    x = norm(
      `${at}/output/LayerNorm`,
      node('Add', `${at}/output/Add`, [
        linear(`${at}/output/dense`, node('Gelu', `${at}/activation`, [wide], { approximate: 'none' }), inner, hidden),
        x,
      ]),
    );
  }
  return { name: 'bert-base-shape', inputs: [{ name: 'embeddings', dtype: 'f32', shape: ['n', hidden] }], outputs: [x], nodes, constants };
}

export interface Subject {
  readonly name: string;
  readonly tokens: number;
  folder(weights: 'public' | 'private', network?: 'lan' | 'wan'): string;
  readonly kinds: readonly ('public' | 'private')[];
}

function compiledFolder(folder: string, options: string): string {
  const dir = join(root, '.subrosa', 'compiled', folder);
  if (!existsSync(dir))
    throw new Error(
      `${folder} is not compiled yet: node bin/subrosa.js pull minilm; node bin/subrosa.js compile ${options} -o .subrosa/compiled/${folder}`,
    );
  return dir;
}
/** MiniLM from the sum of its embeddings: with private weights, the client holds the table. */
function summed(weights: 'public' | 'private', network = 'lan'): string {
  const [suffix, option] = network === 'wan' ? ['-wan', ' --network wan'] : ['', ''];
  return weights === 'public'
    ? compiledFolder(`minilm-public${suffix}`, `minilm${option}`)
    : compiledFolder(`minilm-private-client-embedding${suffix}`, `minilm --weights private --client-embedding${option}`);
}

const temporary = mkdtempSync(join(tmpdir(), 'subrosa-bench-'));
process.once('exit', () => rmSync(temporary, { recursive: true, force: true }));

function bertFolder(weights: 'public' | 'private', network?: 'lan' | 'wan'): string {
  const dir = join(temporary, `bert-${weights}-${network ?? 'lan'}`);
  if (existsSync(dir)) return dir;
  const graph = bert(12, 768, 3072, 12);
  const random = normals(11);
  const sample = (n: number): Record<string, Tensor> => ({
    embeddings: tensor(
      Float32Array.from({ length: n * 768 }, () => 0.05 * random()),
      [n, 768],
    ),
  });
  const calibration = calibrate(graph, [sample(128), sample(96), sample(64)]);
  const { program, weights: integers } = compiledFor(network, (profile) =>
    compile(graph, calibration, { weights, max: { n: 128 }, profile }),
  );
  const none: Graph = { ...graph, nodes: [], constants: new Map(), outputs: ['embeddings'] };
  writeCompiled(dir, {
    program,
    weights: integers,
    client: {
      task: 'tensors',
      name: graph.name,
      family: 'bert',
      labels: [],
      maxTokens: 128,
      firstPosition: 0,
      calibration: 'random values',
    },
    graphs: { before: { ...none, outputs: ['embeddings'] }, after: { ...none, inputs: [], outputs: [] } },
    plain: graph,
    record: { key: '', tightest: [] },
  });
  return dir;
}

export const subjects: readonly Subject[] = [
  { name: 'vit', tokens: 0, kinds: ['public', 'private'], folder: (w) => compiledFolder(`fashion-vit-${w}`, `fashion-vit --weights ${w}`) },
  { name: 'minilm-32', tokens: 32, kinds: ['public', 'private'], folder: summed },
  { name: 'minilm-128', tokens: 128, kinds: ['public', 'private'], folder: summed },
  // The private table looked up inside the run, tokens as keys.
  { name: 'minilm-32-lookup', tokens: 32, kinds: ['private'], folder: () => compiledFolder('minilm-private', 'minilm --weights private') },
  { name: 'bert-128', tokens: 128, kinds: ['private', 'public'], folder: bertFolder },
];

/** Rows with a one for a word, one for the position and one for the type, as BERT's stacked tables have them. */
const oneHots = (n: number, width: number): Float32Array =>
  Float32Array.from({ length: n * width }, (_, i) =>
    i % width === 1000 + Math.floor(i / width) || i % width === width - 514 + Math.floor(i / width) || i % width === width - 2 ? 1 : 0,
  );

/** Inputs of a program for a subject: as a client's would be, random. */
export function inputsOf(program: Program, tokens: number): () => Record<string, { shape: number[]; data: Float32Array }> {
  const random = normals(3);
  return () =>
    Object.fromEntries(
      program.inputs.map((i) => {
        const shape = i.shape.map((d) => (typeof d === 'number' ? d : tokens));
        const size = shape.reduce((a, b) => a * b, 1);
        const data =
          i.scale === 1
            ? oneHots(shape[0], shape[1])
            : Float32Array.from({ length: size }, () => Math.max(-i.bound / 2, Math.min(0.05 * random(), i.bound / 2)));
        return [i.name, { shape, data }];
      }),
    );
}

export const median = (v: readonly number[]): number => [...v].sort((a, b) => a - b)[v.length >> 1];
