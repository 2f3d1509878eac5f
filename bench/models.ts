/**
 * Whole models in real processes: two parties, a dealer and this client on one machine, over mutual TLS.
 *
 *   npm run bench:models -- [minilm-32] [minilm-128] [bert-128] [vit] [--weights public|private] [--runs N] [--profile] [--json]
 *
 * Prints the median of N warm runs (default 5) from the client's shares to its answer, bytes and rounds as counted on the links, CPU seconds
 * and memory of each role, and the plaintext model's seconds (this project's interpreter, one thread) in the same run.
 */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { calibrate } from '../src/compile/calibrate.ts';
import { compile } from '../src/compile/compile.ts';
import { readCompiled, writeCompiled } from '../src/folder/index.ts';
import { fastProducts } from '../src/graph/fast.ts';
import { type Graph, type GraphNode, type Tensor, tensor } from '../src/graph/graph.ts';
import { interpret } from '../src/graph/interpret.ts';
import { type RunStats, startCluster } from '../src/session/cluster.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { weights: { type: 'string' }, runs: { type: 'string', default: '5' }, profile: { type: 'boolean' }, json: { type: 'boolean' } },
});
const runs = Number(values.runs);
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
    constants.set(name, tensor(Float32Array.from({ length: n }, () => centre + spread * random()), shape));
    return name;
  };
  const node = (op: string, name: string, inputs: string[], attrs: GraphNode['attrs'] = {}): string => {
    nodes.push({ op, name, inputs, outputs: [name], attrs });
    return name;
  };
  const linear = (name: string, x: string, K: number, N: number, spread = 1): string =>
    node('Linear', name, [x, constant(`${name}.w`, [K, N], spread / Math.sqrt(K)), constant(`${name}.b`, [N], 0.02)]);
  const norm = (name: string, x: string): string => node('LayerNormalization', name, [x, constant(`${name}.g`, [hidden], 0.1, 1), constant(`${name}.h`, [hidden], 0.1)], { axis: -1, epsilon: 1e-12 });
  let x = norm('/embeddings/LayerNorm', 'embeddings');
  for (let i = 0; i < layers; i++) {
    const at = `/encoder/layer.${i}`;
    const [q, k, v] = ['query', 'key', 'value'].map((s) => linear(`${at}/attention/${s}`, x, hidden, hidden, s === 'value' ? 0.6 : 1.3));
    const context = node('Attention', `${at}/attention/Attention`, [q, k, v], { heads, scale: 1 / Math.sqrt(hidden / heads) });
    x = norm(`${at}/attention/LayerNorm`, node('Add', `${at}/attention/Add`, [linear(`${at}/attention/output`, context, hidden, hidden), x]));
    const wide = linear(`${at}/intermediate/dense`, x, hidden, inner, 0.8);
    x = norm(`${at}/output/LayerNorm`, node('Add', `${at}/output/Add`, [linear(`${at}/output/dense`, node('Gelu', `${at}/activation`, [wide], { approximate: 'none' }), inner, hidden), x]));
  }
  return { name: 'bert-base-shape', inputs: [{ name: 'embeddings', dtype: 'f32', shape: ['n', hidden] }], outputs: [x], nodes, constants };
}

interface Subject {
  readonly name: string;
  readonly tokens: number;
  folder(weights: 'public' | 'private'): string;
  readonly kinds: readonly ('public' | 'private')[];
}

function compiledFolder(folder: string, options: string): string {
  const dir = join(root, '.subrosa', 'compiled', folder);
  if (!existsSync(dir)) throw new Error(`${folder} is not compiled yet: node bin/subrosa.js pull minilm; node bin/subrosa.js compile ${options} -o .subrosa/compiled/${folder}`);
  return dir;
}
/** MiniLM from the sum of its embeddings: with private weights, the client holds the table. */
const summed = (weights: 'public' | 'private'): string =>
  weights === 'public' ? compiledFolder('minilm-public', 'minilm') : compiledFolder('minilm-private-client-embedding', 'minilm --weights private --client-embedding');

const temporary = mkdtempSync(join(tmpdir(), 'subrosa-bench-'));
process.once('exit', () => rmSync(temporary, { recursive: true, force: true }));

function bertFolder(weights: 'public' | 'private'): string {
  const dir = join(temporary, `bert-${weights}`);
  if (existsSync(dir)) return dir;
  const graph = bert(12, 768, 3072, 12);
  const random = normals(11);
  const sample = (n: number): Record<string, Tensor> => ({ embeddings: tensor(Float32Array.from({ length: n * 768 }, () => 0.05 * random()), [n, 768]) });
  const calibration = calibrate(graph, [sample(128), sample(96), sample(64)]);
  const { program, weights: integers } = compile(graph, calibration, { weights, max: { n: 128 } });
  const none: Graph = { ...graph, nodes: [], constants: new Map(), outputs: ['embeddings'] };
  writeCompiled(dir, {
    program,
    weights: integers,
    client: { task: 'tensors', name: graph.name, family: 'bert', labels: [], maxTokens: 128, firstPosition: 0, calibration: 'random values' },
    graphs: { before: { ...none, outputs: ['embeddings'] }, after: { ...none, inputs: [], outputs: [] } },
    plain: graph,
    record: { key: '', tightest: [] },
  });
  return dir;
}

const subjects: readonly Subject[] = [
  { name: 'vit', tokens: 0, kinds: ['public', 'private'], folder: (w) => compiledFolder(`fashion-vit-${w}`, `fashion-vit --weights ${w}`) },
  { name: 'minilm-32', tokens: 32, kinds: ['public', 'private'], folder: summed },
  { name: 'minilm-128', tokens: 128, kinds: ['public', 'private'], folder: summed },
  // The private table looked up inside the run, by one-hot rows.
  { name: 'minilm-32-lookup', tokens: 32, kinds: ['private'], folder: () => compiledFolder('minilm-private', 'minilm --weights private') },
  { name: 'bert-128', tokens: 128, kinds: ['private', 'public'], folder: bertFolder },
];

/** Rows with a one for a word, one for the position and one for the type, as BERT's stacked tables have them. */
const oneHots = (n: number, width: number): Float32Array =>
  Float32Array.from({ length: n * width }, (_, i) => (i % width === 1000 + Math.floor(i / width) || i % width === width - 514 + Math.floor(i / width) || i % width === width - 2 ? 1 : 0));

const median = (v: readonly number[]): number => [...v].sort((a, b) => a - b)[v.length >> 1];

async function measure(s: Subject, weights: 'public' | 'private'): Promise<object> {
  const dir = s.folder(weights);
  const compiled = readCompiled(dir);
  const { program } = compiled;
  const random = normals(3);
  const inputs = (): Record<string, { shape: number[]; data: Float32Array }> =>
    Object.fromEntries(
      program.inputs.map((i) => {
        const shape = i.shape.map((d) => (typeof d === 'number' ? d : s.tokens));
        const size = shape.reduce((a, b) => a * b, 1);
        const data = i.scale === 1 ? oneHots(shape[0], shape[1]) : Float32Array.from({ length: size }, () => Math.max(-i.bound / 2, Math.min(0.05 * random(), i.bound / 2)));
        return [i.name, { shape, data }];
      }),
    );
  const plain = compiled.plain();
  const tensors = Object.fromEntries(Object.entries(inputs()).map(([k, v]) => [k, tensor(v.data, v.shape)]));
  interpret(plain, tensors);
  const floatSeconds = median(
    Array.from({ length: 3 }, () => {
      const from = performance.now();
      interpret(plain, tensors);
      return (performance.now() - from) / 1000;
    }),
  );
  const cluster = await startCluster(dir, { profile: values.profile ?? false });
  try {
    await cluster.run(inputs());
    await cluster.run(inputs());
    const results: RunStats[] = [];
    for (let i = 0; i < runs; i++) results.push((await cluster.run(inputs())).stats);
    const seconds = results.map((r) => r.seconds);
    const last = results.at(-1)!;
    const total = last.bytes.p0p1 + last.bytes.dealer + last.bytes.client;
    const row = {
      model: s.name, weights, node: process.version, seconds: median(seconds), fastest: Math.min(...seconds), rounds: last.rounds, megabytes: total / 1e6,
      cpu: last.cpu, plaintextSeconds: floatSeconds, ratio: median(seconds) / floatSeconds, rss: await cluster.peakRss(), bytes: last.bytes,
    };
    if (!values.json) {
      const cpu = (['p0', 'p1', 'dealer'] as const).map((r) => median(results.map((x) => x.cpu[r])).toFixed(2)).join(' + ');
      const rss = Object.values(row.rss).map((v) => `${Math.round(v / 2 ** 20)}`).join(', ');
      console.log(
        `${s.name.padEnd(11)} ${weights.padEnd(8)} ${row.seconds.toFixed(3)} s (fastest ${row.fastest.toFixed(3)})  ${row.megabytes.toFixed(1).padStart(6)} MB  ${row.rounds} rounds  CPU ${cpu} s  plaintext ${floatSeconds.toFixed(3)} s (×${row.ratio.toFixed(1)})  ${rss} MiB`,
      );
      if (last.profile) for (const [role, list] of Object.entries(last.profile)) console.log(`    ${role}: ${list.sort((a, b) => b[1] - a[1]).slice(0, 8).map(([k, v]) => `${k} ${(1000 * v).toFixed(0)} ms`).join(', ')}`);
    }
    return row;
  } finally {
    await cluster.close();
  }
}

fastProducts();
const wanted = subjects.filter((s) => positionals.length === 0 || positionals.includes(s.name));
if (!values.json) console.log(`Node ${process.version}, ${cpus().length} cores (${cpus()[0]?.model.trim()}), median of ${runs} warm runs`);
const rows = [];
for (const s of wanted) for (const w of s.kinds) if (!values.weights || values.weights === w) rows.push(await measure(s, w));
if (values.json) console.log(JSON.stringify(rows));
