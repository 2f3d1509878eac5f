/** subrosa run: two parties and a dealer as processes of their own, this process the client. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { encodeWords, paramsOf } from '../client/share.ts';
import type { CompiledFolder } from '../folder/index.ts';
import { fastProducts } from '../graph/fast.ts';
import type { Graph, Tensor } from '../graph/graph.ts';
import { interpret } from '../graph/interpret.ts';
import { writeNpy } from '../import/npy.ts';
import { bind } from '../program/bind.ts';
import type { Params } from '../program/program.ts';
import { type Cluster, type RunStats, startCluster } from '../session/cluster.ts';
import { type Answer, answerOf, asTensor } from '../tasks/answer.ts';
import { answerLines, type Check, compare, outputsJson, similarities } from './answer.ts';
import { type BuildOptions, compiledOf } from './compiled.ts';
import { type Given, readInputs } from './inputs.ts';
import { bytesText, oneLine, out, plural, print, progress, say, secondsText, UsageError } from './terminal.ts';

interface Options extends BuildOptions {
  readonly input?: readonly string[];
  readonly json?: boolean;
  readonly out?: string;
  readonly check?: boolean;
  readonly threads?: number;
  readonly timeout?: number;
}

export interface Run {
  readonly given: Given;
  readonly answer: Answer;
  readonly stats: RunStats;
  /** Seconds of the run before, with the same shapes: the processes had not run them yet. */
  readonly first: number;
  readonly check?: Check;
}

export async function runCommand(
  model: string,
  inputs: readonly string[],
  options: Options,
  command?: { getOptionValueSource(name: string): string | undefined },
): Promise<void> {
  const folder = await compiledOf(model, { ...options, given: command?.getOptionValueSource('weights') === 'cli' });
  const given = await readInputs(folder.client, folder.program, inputs, options.input);
  const params = given.map((g) => acceptable(folder, g));
  if (options.out !== undefined) checkOut(options.out);
  const plain = options.check ? folder.plain() : undefined;
  const runs: Run[] = [];
  const cluster = await startHere(folder, options);
  let peak = { p0: 0, p1: 0, dealer: 0 };
  try {
    for (const [i, g] of given.entries()) {
      const same = i > 0 && JSON.stringify(params[i]) === JSON.stringify(params[i - 1]);
      runs.push(await runOne(folder, cluster, g, params[i], { warm: !same, plain }));
    }
    peak = await cluster.peakRss();
  } finally {
    await cluster.close();
  }
  if (options.out !== undefined) writeOutputs(options.out, runs);
  const alike = similarities(runs.map((r) => r.answer));
  if (options.json) print(JSON.stringify(json(runs, cluster.setupSeconds, peak, alike)));
  else show(folder, runs, cluster.setupSeconds, alike);
}

/** Whether the program takes the input at all, before anything is started or sent. Returns its parameters. */
export function acceptable(folder: CompiledFolder, { inputs, params: given }: Given): Params {
  const params = paramsOf(folder.program, inputs, given);
  encodeWords(folder.program, inputs);
  return params;
}

/** The cluster; Ctrl-C ends its processes. */
export async function startHere(
  folder: CompiledFolder,
  options: { threads?: number; timeout?: number; keepReceived?: boolean },
): Promise<Cluster> {
  const line = progress('starting');
  const stop = (signal: NodeJS.Signals): void => process.exit(signal === 'SIGINT' ? 130 : 143);
  process.on('SIGINT', stop).on('SIGTERM', stop);
  try {
    const cluster = await startCluster(folder.dir, {
      threads: options.threads,
      timeoutSeconds: options.timeout,
      keepReceived: options.keepReceived,
      onProgress: (text) => line.update(text),
    });
    return {
      ...cluster,
      async close() {
        process.off('SIGINT', stop).off('SIGTERM', stop);
        await cluster.close();
      },
    };
  } finally {
    line.done();
  }
}

/** One private answer. `warm`: these shapes are new to the processes, so a run that is not counted goes first. */
export async function runOne(
  folder: CompiledFolder,
  cluster: Cluster,
  given: Given,
  params: Params,
  { warm, plain }: { warm: boolean; plain?: Graph },
): Promise<Run> {
  const { client, program } = folder;
  const line = progress(`running ${given.title}`);
  const tick = setInterval(() => line.update('the parties compute'), 500);
  try {
    let done = await cluster.run(given.inputs);
    const first = done.stats.seconds;
    // A second run of the same shapes costs as much again; long ones are long mostly by computing, and are not repeated.
    if (warm && first < longRun) done = await cluster.run(given.inputs);
    const shapes = bind(program, params).tensors;
    const results = Object.fromEntries(
      program.outputs.map((o): [string, Tensor] => [o.name, asTensor({ shape: shapes[o.tensor].shape, data: done.outputs[o.name].data })]),
    );
    const answer = answerOf(client, results, given);
    if (plain) fastProducts();
    const check = plain && compare(answer, answerOf(client, interpret(plain, given.inputs), given));
    return { given, answer, stats: done.stats, first, check };
  } finally {
    clearInterval(tick);
    line.done();
  }
}
const longRun = 10;

function checkOut(dir: string): void {
  try {
    mkdirSync(dir, { recursive: true });
  } catch (e) {
    throw new UsageError(`--out ${dir}: cannot be made (${(e as NodeJS.ErrnoException).code})`);
  }
}

/** DIR/NAME.npy; with several inputs DIR/0/NAME.npy, DIR/1/NAME.npy … */
function writeOutputs(dir: string, runs: readonly Run[]): void {
  runs.forEach((run, i) => {
    const to = runs.length === 1 ? dir : join(dir, `${i}`);
    mkdirSync(to, { recursive: true });
    for (const [name, t] of Object.entries(run.answer.outputs))
      writeFileSync(join(to, `${name.replace(/[^\w.-]+/g, '_').replace(/^\.+/, '_')}.npy`), writeNpy(t));
  });
  say(`outputs in ${dir}`);
}

function json(runs: readonly Run[], setup: number, peak: Record<string, number>, alike: number[][] | undefined): object {
  const entries = runs.map(({ given, answer, stats, first, check }) => ({
    input: given.title,
    ...(given.encoded ? { tokens: given.encoded.ids.length } : {}),
    outputs: outputsJson(answer.outputs),
    ...(answer.classes ? { label: answer.classes[0].label, probability: answer.classes[0].probability } : {}),
    ...(answer.tokens ? { labels: answer.tokens } : {}),
    ...(answer.span ? { answer: answer.span.text, probability: answer.span.probability } : {}),
    seconds: stats.seconds,
    first_seconds: first,
    rounds: stats.rounds,
    bytes: stats.bytes,
    ...(check ? { check } : {}),
  }));
  const { input: _, ...head } = entries[0];
  return {
    ...head,
    setup_seconds: setup,
    peak_rss: peak,
    ...(runs.length > 1 ? { runs: entries } : {}),
    ...(alike ? { similarities: alike } : {}),
  };
}

export const statsText = ({ seconds, rounds, bytes }: RunStats): string =>
  `${secondsText(seconds)}, ${plural(rounds, 'round')}; ${bytesText(bytes.p0p1)} between the parties, ${bytesText(bytes.dealer)} from the dealer, ${bytesText(bytes.client)} client`;

export const checkText = (c: Check): string =>
  `against plaintext: cosine ${c.cosine.toFixed(6)}, largest difference ${c.max_abs.toExponential(1)}${c.same_label === undefined ? '' : c.same_label ? ', same class' : `, plaintext says ${c.plain_label}`}`;

function show(folder: CompiledFolder, runs: readonly Run[], setup: number, alike: number[][] | undefined): void {
  for (const run of runs) {
    if (runs.length > 1 || run.given.encoded)
      print(`${run.given.title}${run.given.encoded ? out.dim(`  ${plural(run.given.encoded.ids.length, 'token')}`) : ''}`);
    for (const line of answerLines(folder.client, run.answer)) print(line);
    say(out.dim(`  ${statsText(run.stats)}`));
    if (run.check) say(`  ${run.check.same_label === false ? out.red(checkText(run.check)) : checkText(run.check)}`);
  }
  if (alike) {
    print('similarity');
    for (const [i, row] of alike.entries())
      print(`  ${row.map((v) => v.toFixed(3).padStart(6)).join(' ')}  ${oneLine(runs[i].given.title, 40)}`);
  }
  say(out.dim(`set up in ${secondsText(setup)}`));
}
