/** From a model to a compiled folder: import, calibrate, compile, write. */
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { deserialize, serialize } from 'node:v8';
import type { Calibration } from '../compile/calibrate.ts';
import { type Compiled, compile } from '../compile/compile.ts';
import type { Profile } from '../compile/profile.ts';
import { type CompiledFolder, type CompileRecord, readCompiled, writeCompiled } from '../folder/index.ts';
import { type Graph, type Tensor, tensor } from '../graph/graph.ts';
import { interpret } from '../graph/interpret.ts';
import { privateLookup, withRows } from '../import/families/one-hot.ts';
import { bind } from '../program/bind.ts';
import type { Program, TensorDecl } from '../program/program.ts';
import { simulate } from '../program/timing.ts';
import type { BuildOptions } from './compiled.ts';
import { embeddingOf } from './embedding.ts';
import { networks, usualMachine, workOf } from './estimate.ts';
import { compileKey, keyOf } from './key.ts';
import { kernelBytes, mostNew } from './language.ts';
import { homeFolder, type Uncompiled } from './locate.ts';
import { calibrateOnAllCores } from './parallel.ts';
import { largest } from './params.ts';
import { samplesFor } from './samples.ts';
import { readSource, type Source } from './source.ts';
import { oneLine, progress, say, secondsText, UsageError } from './terminal.ts';

const defaultTokens = 128;

export interface Built {
  readonly folder: CompiledFolder;
  /** What it was calibrated on. */
  readonly about: string;
  readonly seconds: number;
}

export async function build(at: Uncompiled, dir: string, options: BuildOptions, how: { replace: boolean; key?: string }): Promise<Built> {
  const start = performance.now();
  const key = how.key ?? compileKey(at, options);
  const source = readSource(at, options);
  const { decoding } = source;
  const maxTokens = decoding?.keys ?? tokensFor(source, options.maxTokens);
  const samples = await samplesFor(source, maxTokens, options.calibrate);
  const calibration = await calibrated(at, source, samples.inputs, options);
  say(`calibrated on ${samples.about}${options.calibrate ? '' : '; --calibrate takes your own'}`);
  for (const i of calibration.strange)
    say(`left out: sample ${i + 1}${samples.text ? `, ${JSON.stringify(oneLine(samples.text(i)))}` : ''}: its values go far beyond all others'; inputs like it are answered wrongly`);
  const parameters = decoding ? ['n', 'keys'] : parametersOf(source.graph);
  const max = decoding ? { n: Math.min(mostNew, maxTokens - decoding.prefix.length), keys: maxTokens } : undefined;
  const lowering = progress(`compiling ${source.name}`);
  lowering.update('fitting functions, lowering');
  const embedding = embeddingOf(options, source.before);
  const lookup = embedding === 'client' ? undefined : privateLookup(source.graph, source.before, embedding);
  const { graph, before } = lookup ?? source;
  const { program, weights, warnings } = compiledFor(options.network, (profile) =>
    compile(graph, lookup ? withRows(calibration, lookup) : calibration, {
      weights: options.weights,
      max: max ?? Object.fromEntries(parameters.map((p) => [p, maxTokens])),
      prefix: decoding && new Map(Object.entries(decoding.caches)),
      profile,
    }),
  );
  lowering.done();
  for (const w of warnings) say(w);
  const record: CompileRecord = { key, tightest: tightest(program, calibration).slice(0, 20) };
  await undisturbed(() =>
    writeCompiled(
      dir,
      {
        program,
        weights,
        client: { ...source.info, maxTokens: parameters.length > 0 ? maxTokens : 0, calibration: samples.about },
        graphs: { before, after: shaped(source, samples.inputs[0]) },
        tokenizer: decoding?.language ?? source.tokenizerDir,
        plain: graph,
        record,
      },
      { replace: how.replace },
    ),
  );
  const seconds = (performance.now() - start) / 1000;
  if (how.key !== undefined) say(`compiled in ${secondsText(seconds)}`);
  return { folder: readCompiled(dir), about: samples.about, seconds };
}

/** What narrower words must save of the time for what they cost in precision. */
const worthwhile = 0.02;

/** For a WAN: narrower words where the estimate for the longest input falls enough by them. The same on every machine. */
export function compiledFor(network: 'lan' | 'wan' | undefined, make: (profile: Profile) => Compiled): Compiled {
  if (network !== 'wan') return make('lan');
  const line = networks.find((n) => n.name === 'WAN')!;
  const seconds = ({ program }: Compiled): number => simulate(workOf(bind(program, largest(program)), usualMachine), line);
  const [wan, narrow] = [make('wan'), make('narrow')];
  return seconds(narrow) < (1 - worthwhile) * seconds(wan) ? narrow : wan;
}

/** Ranges take minutes for a large model and are the same for public and private weights, so they are kept. */
async function calibrated(
  at: Uncompiled,
  source: Source,
  inputs: readonly Record<string, Tensor>[],
  options: BuildOptions,
): Promise<Calibration> {
  const code = ['compile/calibrate', 'graph', 'import', 'tasks', 'cli/samples', 'cli/language', 'cli/synthetic'];
  const key = keyOf(at, options, code, inputs.length, source.decoding?.prefix);
  const path = join(homeFolder, 'calibrated', key.slice(0, 32));
  if (existsSync(path)) {
    try {
      return deserialize(readFileSync(path)) as Calibration;
    } catch {
      // Cut short: made again.
    }
  }
  const line = progress(`calibrating ${source.name}`);
  const bytes = source.decoding && kernelBytes(source.decoding.language);
  const calibration = await calibrateOnAllCores(source.graph, inputs, (done, total) => line.update(`${done} of ${total} samples`), bytes);
  line.done();
  if (source.decoding) spanTable(calibration, source.before);
  try {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(`${path}.${process.pid}`, serialize(calibration));
    renameSync(`${path}.${process.pid}`, path);
  } catch {
    // Only a convenience: a folder that cannot be written to costs time, nothing else.
  }
  return calibration;
}

/** Any token may come: the embeddings' bound, beyond which a client refuses to share, covers the whole table. */
function spanTable(calibration: Calibration, before: Graph): void {
  const range = calibration.values.get(before.outputs[0]);
  if (!range) return;
  const everyToken = interpret(before, wholeVocabulary(before));
  for (const v of everyToken[before.outputs[0]].data) range.max = Math.max(range.max, Math.abs(v) / 1.9);
}

/** Every token once, at the first position. */
function wholeVocabulary(before: Graph): Record<string, Tensor> {
  const lookup = before.nodes.find((n) => n.op === 'Gather' && n.inputs[1] === 'input_ids');
  const rows = before.constants.get(lookup?.inputs[0] ?? '')?.shape[0] ?? 1;
  return {
    input_ids: tensor(
      Array.from({ length: rows }, (_, i) => i),
      [rows],
      'i64',
    ),
    position_ids: tensor(new Array<number>(rows).fill(0), [rows], 'i64'),
  };
}

export const parametersOf = (graph: Graph): string[] => [
  ...new Set(graph.inputs.flatMap((i) => i.shape.filter((d): d is string => typeof d === 'string'))),
];

function tokensFor(source: Source, asked: number | undefined): number {
  const most = source.info.maxTokens;
  if (asked !== undefined && parametersOf(source.graph).length === 0)
    throw new UsageError(`--max-tokens ${asked}: every input of ${source.name} has one fixed size`);
  if (asked !== undefined && most > 0 && asked > most) throw new UsageError(`--max-tokens ${asked}: ${source.name} takes at most ${most}`);
  return asked ?? (most > 0 ? Math.min(defaultTokens, most) : defaultTokens);
}

/** The client's last graph, with the shapes its inputs have (an ONNX file does not say). */
function shaped(source: Source, sample: Record<string, Tensor>): Graph {
  if (source.after.inputs.every((i) => i.shape.length > 0)) return source.after;
  const values = interpret(source.graph, sample);
  return { ...source.after, inputs: source.after.inputs.map((i) => ({ ...i, shape: values[i.name].shape })) };
}

/**
 * Tensors by how near their bounds bring them to the ring: bound·scale of the largest value allowed. A channel with a scale of its own
 * counts with twice its own calibrated maximum.
 */
function tightest(program: Program, calibration: Calibration): CompileRecord['tightest'] {
  const layers = new Map<number, string>();
  for (const g of program.gates) for (const t of g.out) layers.set(t, g.layer);
  const rows = program.tensors.map((t, id) => ({
    tensor: t.label ?? `tensor ${id}`,
    layer: layers.get(id) ?? 'input',
    used: usedOf(t, calibration),
  }));
  return rows.filter((r) => r.used > 0).sort((a, b) => b.used - a.used);
}

function usedOf(t: TensorDecl, calibration: Calibration): number {
  if (typeof t.bits !== 'number' || typeof t.bound !== 'number' || t.bits > 32) return 0;
  const most = 2 ** (t.bits - 2);
  if (typeof t.scale === 'number') return t.label === undefined ? 0 : (t.bound * t.scale) / most;
  const channels = t.label === undefined ? undefined : calibration.values.get(t.label)?.channels;
  if (!Array.isArray(t.scale) || channels?.lo.length !== t.scale.length) return 0;
  return Math.max(...t.scale.map((s, j) => (2 * Math.max(-channels.lo[j], channels.hi[j], 0) * s) / most));
}

/** Ctrl-C during a write waits for its end, so that nothing half-written stays. */
async function undisturbed(work: () => void): Promise<void> {
  let stopped = 0;
  const note = (signal: NodeJS.Signals): void => {
    stopped = signal === 'SIGINT' ? 130 : 143;
  };
  process.on('SIGINT', note).on('SIGTERM', note);
  try {
    work();
    await new Promise((resolve) => setImmediate(resolve));
  } finally {
    process.off('SIGINT', note).off('SIGTERM', note);
  }
  if (stopped > 0) process.exit(stopped);
}
