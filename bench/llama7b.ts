/**
 * A model of LLaMA-7B's shape with synthetic weights, in real processes on one machine: two parties, a dealer and this client, over mutual TLS.
 *
 *   npm run bench:llama7b -- [--weights public|private] [--layers N] [--prompt N] [--tokens N] [--memory MiB] [--profile] [--json]
 *
 * Public weights are of 4 bits (Q4_0 blocks, 4.1 GB as panels); private ones are masked words (27 GB), and what goes beyond a role's memory is read
 * from disk in every pass, its masks drawn anew. One pass over --prompt tokens (8) gives the first token, each pass after it another. The model is
 * made once, in .subrosa/bench: some minutes, and the disk that its weights take.
 *
 * Weights are normal, as LLaMA's are when training begins, and the same in all layers (on disk each layer has its own); ranges are calibrated on
 * the plaintext interpreter, whose logits the private ones are held to.
 */
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { deserialize, serialize } from 'node:v8';
import { generator, madeNormals } from '../src/cli/synthetic.ts';
import { type Calibration, calibrate } from '../src/compile/calibrate.ts';
import { compile } from '../src/compile/compile.ts';
import { readCompiled } from '../src/folder/index.ts';
import { programText } from '../src/folder/program.ts';
import { writePrivate, writePublic } from '../src/folder/weights.ts';
import { fastProducts } from '../src/graph/fast.ts';
import { type Graph, type Tensor, tensor } from '../src/graph/graph.ts';
import { interpret } from '../src/graph/interpret.ts';
import { rewrite } from '../src/graph/rewrite/index.ts';
import { importFolder } from '../src/import/families/index.ts';
import { type ClusterRun, startCluster } from '../src/session/cluster.ts';
import { emptyCaches } from '../src/tasks/generate/decoder.ts';
import { median } from './subjects.ts';

const { values } = parseArgs({
  options: {
    weights: { type: 'string' },
    layers: { type: 'string', default: '32' },
    prompt: { type: 'string', default: '8' },
    tokens: { type: 'string', default: '3' },
    memory: { type: 'string' },
    profile: { type: 'boolean' },
    json: { type: 'boolean' },
  },
});
const [layers, prompt, tokens] = [values.layers, values.prompt, values.tokens].map(Number);
const keys = 64;
const [hidden, inner, heads, vocab] = [4096, 11008, 32, 32000];
const home = join(import.meta.dirname, '..', '.subrosa', 'bench');
const say = (text: string): void => void process.stderr.write(`${text}\n`);

/** Q4_0 blocks of normal weights: their root mean square is 0.02. */
function blocks(rows: number, columns: number, seed: number): Uint8Array {
  const rnd = generator(seed);
  const count = (rows * columns) / 32;
  const out = new Uint8Array(18 * count);
  // 0.0046 as a half: q of −7 … 7, whose mean is zero, has a root mean square of 4.3.
  for (let b = 0; b < count; b++) {
    out[18 * b] = 0xb8;
    out[18 * b + 1] = 0x1c;
    for (let i = 2; i < 18; i++) {
      const v = 225 * rnd();
      out[18 * b + i] = 17 + (v % 15) + 16 * Math.floor(v / 15);
    }
  }
  return out;
}

/** LLaMA's graph over a checkpoint that is made as it is asked for. */
function model(): Graph {
  const shapes = new Map<string, readonly number[]>([
    ['model.embed_tokens.weight', [vocab, hidden]],
    ['lm_head.weight', [vocab, hidden]],
    ['model.norm.weight', [hidden]],
  ]);
  const parts: Record<string, readonly number[]> = {
    'mlp.gate_proj': [inner, hidden],
    'mlp.up_proj': [inner, hidden],
    'mlp.down_proj': [hidden, inner],
    input_layernorm: [hidden],
    post_attention_layernorm: [hidden],
  };
  for (const p of ['q', 'k', 'v', 'o']) parts[`self_attn.${p}_proj`] = [hidden, hidden];
  for (let i = 0; i < layers; i++) for (const [p, shape] of Object.entries(parts)) shapes.set(`model.layers.${i}.${p}.weight`, shape);
  const made = new Map<string, Uint8Array>();
  const { graph } = importFolder(
    {
      dir: 'llama7b',
      config: {
        model_type: 'llama',
        vocab_size: vocab,
        hidden_size: hidden,
        num_hidden_layers: layers,
        num_attention_heads: heads,
        intermediate_size: inner,
        max_position_embeddings: 2048,
        rms_norm_eps: 1e-6,
        rope_theta: 10000,
        tie_word_embeddings: false,
      },
      weights: {
        label: 'llama7b',
        tensors: new Map([...shapes].map(([name, shape]) => [name, { shape, dtype: shape.length === 1 ? 'F32' : 'Q4_0' }])),
        tensor: (name) => {
          const shape = shapes.get(name) as readonly number[];
          return {
            dtype: 'f32',
            shape,
            data: new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(
              shape.length === 1 ? 1 : 0,
              0,
              shape.length === 1 ? undefined : 0,
            ),
          };
        },
        lowBit(name) {
          const shape = shapes.get(name) as readonly number[];
          if (shape.length === 1) return undefined;
          const kind = name.replace(/layers\.\d+/, 'layers');
          if (!made.has(kind)) made.set(kind, blocks(shape[0], shape[1], made.size + 1));
          return { type: 'Q4_0', bytes: made.get(kind) as Uint8Array };
        },
        close() {},
      },
      json: () => undefined,
      moduleWeights: () => {
        throw new Error('no modules');
      },
    },
    { maxTokens: keys, outputs: ['logits'] },
  );
  const lean = rewrite(graph);
  // One tensor object for all layers, so that the interpreter packs it once.
  const first = (name: string): string => name.replace(/^layers\.\d+/, 'layers.0');
  const constants = new Map([...lean.constants].map(([name, t]) => [name, lean.constants.get(first(name)) ?? t]));
  return { ...lean, name: 'llama7b', constants };
}

const rows = (n: number, seed: number): Tensor => tensor(madeNormals(n * hidden, seed), [n, hidden]);

function calibrated(graph: Graph): Calibration {
  const path = join(home, `llama7b-${layers}.calibration`);
  if (existsSync(path)) return deserialize(readFileSync(path)) as Calibration;
  const samples = [4, 12, 8].map((n, i) => ({ embeddings: rows(n, i + 1), ...emptyCaches(graph) }));
  const c = calibrate(graph, samples, (done, total) => say(`calibrating: ${done} of ${total}`));
  writeFileSync(path, serialize(c));
  return c;
}

function build(weights: 'public' | 'private', graph: Graph): string {
  const dir = join(home, `llama7b-${layers}-${weights}`);
  if (existsSync(dir)) return dir;
  mkdirSync(home, { recursive: true });
  const bytes = (weights === 'public' ? 0.65 : 4.05) * (layers * (4 * hidden * hidden + 3 * hidden * inner) + hidden * vocab);
  const { bavail, bsize } = statfsSync(home);
  if (bavail * bsize < 1.1 * bytes)
    throw new Error(`${home}: ${Math.round(bytes / 1e9)} GB of disk are needed, ${Math.round((bavail * bsize) / 1e9)} are free`);
  const calibration = calibrated(graph);
  say(`compiling with ${weights} weights`);
  const compiled = compile(graph, calibration, { weights, max: { n: 16, keys } });
  const temporary = `${dir}.${process.pid}`;
  mkdirSync(temporary);
  try {
    say(`writing ${Math.round(bytes / 1e9)} GB`);
    const weightsHash = weights === 'public' ? writePublic(temporary, compiled.weights) : writePrivate(temporary, compiled.weights);
    writeFileSync(join(temporary, 'program.json'), programText({ ...compiled.program, weightsHash }));
    renameSync(temporary, dir);
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
  return dir;
}

interface Figures {
  readonly seconds: number;
  readonly rounds: number;
  readonly bytes: ClusterRun['stats']['bytes'];
  readonly cpu: ClusterRun['stats']['cpu'];
}

async function measure(weights: 'public' | 'private', graph: Graph): Promise<void> {
  const dir = build(weights, graph);
  readCompiled(dir);
  const memory = values.memory === undefined ? undefined : Number(values.memory) * 2 ** 20;
  const cluster = await startCluster(dir, { timeoutSeconds: 900, memory, profile: values.profile ?? false });
  try {
    const input = rows(prompt, 99);
    const pass = async (embeddings: Tensor, past: number): Promise<ClusterRun> => cluster.run({ embeddings }, { keys, past });
    const cold = await pass(input, 0);
    const warm = await pass(input, 0);
    const plainStart = performance.now();
    const expected = interpret(graph, { embeddings: input, ...emptyCaches(graph) }).logits.data as Float32Array;
    const plainSeconds = (performance.now() - plainStart) / 1000;
    const got = Float32Array.from(warm.outputs.logits.data);
    const steps: ClusterRun[] = [];
    for (let i = 0; i < tokens; i++) steps.push(await pass(rows(1, 200 + i), prompt + i));
    const off = Math.sqrt(expected.reduce((s, v, i) => s + (v - got[i]) ** 2, 0) / expected.reduce((s, v) => s + v * v, 0));
    const figures = ({ stats }: ClusterRun, seconds = stats.seconds): Figures => ({
      seconds,
      rounds: stats.rounds,
      bytes: stats.bytes,
      cpu: stats.cpu,
    });
    const result = {
      weights,
      layers,
      node: process.version,
      prompt,
      cold: figures(cold),
      prefill: figures(warm),
      decode: steps.length > 0 ? figures(steps[steps.length - 1], median(steps.map((s) => s.stats.seconds))) : undefined,
      plaintextSeconds: plainSeconds,
      error: off,
      sameToken: got.indexOf(Math.max(...got)) === expected.indexOf(Math.max(...expected)),
      rss: await cluster.peakRss(),
      setupSeconds: cluster.setupSeconds,
    };
    if (values.json) return console.log(JSON.stringify(result));
    const line = (name: string, f: Figures): void =>
      console.log(
        `  ${name.padEnd(24)} ${f.seconds.toFixed(2)} s  ${((f.bytes.p0p1 + f.bytes.dealer + f.bytes.client) / 1e6).toFixed(1)} MB  ${f.rounds} rounds  CPU ${Object.values(
          f.cpu,
        )
          .map((v) => v.toFixed(1))
          .join(' + ')} s`,
      );
    console.log(`LLaMA-7B's shape, ${layers} layers, ${weights} weights; set up in ${cluster.setupSeconds.toFixed(0)} s`);
    line(`first pass, ${prompt} in`, result.cold);
    line(`one token, ${prompt} in`, result.prefill);
    if (result.decode) line('each token after it', result.decode);
    for (const [role, list] of Object.entries((steps.at(-1) ?? warm).stats.profile ?? {}))
      console.log(
        `    ${role}: ${[...list]
          .sort((a, b) => b[1] - a[1])
          .slice(0, 6)
          .map(([k, v]) => `${k} ${v.toFixed(2)} s`)
          .join(', ')}`,
      );
    console.log(
      `  logits off by ${(100 * off).toFixed(2)} % (rms); the likeliest token is ${result.sameToken ? '' : 'not '}the plaintext's; interpreter, warm: ${plainSeconds.toFixed(2)} s`,
    );
    console.log(
      `  memory: ${Object.entries(result.rss)
        .map(([role, b]) => `${role} ${(b / 2 ** 30).toFixed(1)}`)
        .join(', ')} GiB`,
    );
  } finally {
    await cluster.close();
  }
}

fastProducts(2 ** 31 - 2 ** 16);
if (!values.json) console.log(`Node ${process.version}, ${cpus().length} cores (${cpus()[0]?.model.trim()})`);
const graph = model();
for (const weights of ['public', 'private'] as const) if (!values.weights || values.weights === weights) await measure(weights, graph);
