/** subrosa cost: what an answer will take, from the gates' own formulas; nothing runs. */
import type { CompiledFolder } from '../folder/index.ts';
import { bind } from '../program/bind.ts';
import { cost, type LayerCost, type ProgramCost } from '../program/cost.ts';
import type { Params } from '../program/program.ts';
import { keysFor, limitsOf } from '../tasks/generate/index.ts';
import { type BuildOptions, compiledOf } from './compiled.ts';
import { alone, estimate, type Machine, measure, networks } from './estimate.ts';
import { atText, largest } from './params.ts';
import { columns, drawn } from './table.ts';
import { bytesText, countText, out, percent, plural, print, say, secondsText, UsageError } from './terminal.ts';

interface Options extends BuildOptions {
  readonly tokens?: number;
  readonly json?: boolean;
}

export async function costCommand(
  model: string,
  options: Options,
  command?: { getOptionValueSource(name: string): string | undefined },
): Promise<void> {
  const folder = await compiledOf(model, { ...options, given: command?.getOptionValueSource('weights') === 'cli' });
  if (folder.client.generation) return decoderCost(folder, options);
  const params = paramsFor(folder, options.tokens);
  const total = cost(folder.program, params);
  const machine = measure();
  if (options.json) return print(JSON.stringify(json(folder, params, total, machine)));
  show(folder, params, total, machine);
}

function paramsFor({ program, client }: CompiledFolder, tokens: number | undefined): Params {
  if (tokens === undefined) return largest(program);
  const entries = Object.entries(program.params);
  if (entries.length === 0) throw new UsageError(`--tokens ${tokens}: every input of ${client.name} has one fixed size`);
  for (const [name, { min, max }] of entries)
    if (tokens < min || tokens > max)
      throw new UsageError(
        `--tokens ${tokens}: the program was compiled for ${name} from ${min} to ${max}`,
        'compile with a larger --max-tokens',
      );
  return Object.fromEntries(entries.map(([name]) => [name, tokens]));
}

const ofLayer = (l: LayerCost, m: Machine): number => alone({ ...l, opened: l.openedBytes, correction: l.correctionBytes }, m);

function json(folder: CompiledFolder, params: Params, total: ProgramCost, machine: Machine): object {
  const row = ({ layer, openedBytes, correctionBytes, ...rest }: LayerCost, name: string): object => ({
    [name]: layer,
    ...rest,
    bytes: { p0p1: openedBytes, dealer: correctionBytes },
  });
  const { layers, kinds, ...rest } = total;
  return {
    model: folder.client.name,
    program: folder.hash,
    weights: folder.program.weights,
    params,
    gates: folder.program.gates.length,
    ...rest,
    seconds: estimate(bind(folder.program, params), total, machine),
    machine,
    networks,
    tightest: folder.record()?.tightest[0],
    layers: layers.map((l) => ({ ...row(l, 'layer'), seconds: ofLayer(l, machine) })),
    kinds: kinds.map((k) => row(k, 'gate')),
  };
}

/** A decoder has two kinds of step: the prompt's, of many rows, and a token's. */
function decoderCost(folder: CompiledFolder, { tokens, json: asJson }: Options): void {
  const machine = measure();
  const steps = decoderSteps(folder, tokens).map(({ name, params }) => ({ name, params, total: cost(folder.program, params) }));
  if (asJson) {
    const entries = steps.map(({ name, params, total }) => [name, json(folder, params, total, machine)]);
    print(
      JSON.stringify({ model: folder.client.name, program: folder.hash, weights: folder.program.weights, ...Object.fromEntries(entries) }),
    );
    return;
  }
  for (const [i, { name, params, total }] of steps.entries()) {
    if (i > 0) print();
    show(folder, params, total, machine, name === 'decode' ? 'one token' : `a prompt of ${plural(params.n, 'token')}`);
  }
}

/** `tokens`: rows there are when the step is done, the prefix not counted; unless told, a prompt of one full step, and a token after it. */
export function decoderSteps({ program }: CompiledFolder, tokens?: number): { name: 'prefill' | 'decode'; params: Params }[] {
  const { n, keys, prefix } = limitsOf(program.params);
  if (tokens !== undefined && prefix + tokens > keys)
    throw new UsageError(`--tokens ${tokens}: the program was compiled for ${keys - prefix}`, 'compile with a larger --max-tokens');
  const rows = tokens ?? n;
  const first = Math.min(n, rows);
  const decoded = Math.min(prefix + (tokens ?? n + 1), keys);
  return [
    { name: 'prefill', params: { n: first, keys: keysFor(prefix + first, keys, first), past: prefix } },
    { name: 'decode', params: { n: 1, keys: keysFor(decoded, keys), past: decoded - 1 } },
  ];
}

function show(folder: CompiledFolder, params: Params, total: ProgramCost, machine: Machine, what = 'one answer'): void {
  const { program, client } = folder;
  const at = atText(params);
  print(`${out.bold(client.name)}, ${program.weights} weights${at && `, ${at}`}: ${what}`);
  const head = ['rounds', 'P0-P1', 'dealer', 'mult-adds', 'here'];
  const align = ['left', 'right', 'right', 'right', 'right', 'right', 'right'] as const;
  const cells = (l: LayerCost): string[] => [
    l.layer,
    `${l.rounds}`,
    bytesText(l.openedBytes),
    bytesText(l.correctionBytes),
    countText(l.partyMacs),
    secondsText(ofLayer(l, machine)),
  ];
  const layers = columns([...align], ['layer', ...head]);
  for (const l of total.layers) layers.push(cells(l));
  const seconds = estimate(bind(program, params), total, machine);
  const bold = [
    `total`,
    `${total.rounds}`,
    bytesText(total.bytes.p0p1),
    bytesText(total.bytes.dealer),
    countText(total.partyMacs),
    secondsText(seconds.here),
  ];
  layers.push(bold.map((c) => out.bold(c)));
  print(drawn(layers));
  print();
  const kinds = columns([...align], ['gate', ...head, 'how many']);
  for (const k of [...total.kinds].sort((a, b) => b.openedBytes + b.correctionBytes - a.openedBytes - a.correctionBytes))
    kinds.push([...cells(k), `${k.gates}`]);
  print(drawn(kinds));
  print();
  const tight = folder.record()?.tightest[0];
  print(`  client  ${bytesText(total.bytes.client)} to and from both parties`);
  print(`  dealer  ${countText(total.dealerMacs)} multiply-adds`);
  if (tight) print(`  tightest bound  ${percent(tight.used)} of the ring, ${tight.tensor}`);
  print(
    `  estimated  ${out.bold(secondsText(seconds.here))} on this machine alone (${machine.cores} cores), and with each role on one like it`,
  );
  for (const n of networks)
    print(
      `    ${out.bold(secondsText(seconds.over[n.name]).padEnd(8))} over ${n.name}: ${1000 * n.rtt} ms there and back, ${n.bandwidth >= 1e9 ? `${n.bandwidth / 1e9} Gbit/s` : `${n.bandwidth / 1e6} Mbit/s`}`,
    );
  say(
    out.dim(
      'layers that run side by side share rounds, so theirs add up to more than the total; rounds and bytes are exact, seconds are estimates',
    ),
  );
}
