/** subrosa cost: what an answer will take, from the gates' own formulas; nothing runs. */
import type { CompiledFolder } from '../folder/index.ts';
import { bind } from '../program/bind.ts';
import { cost, type LayerCost, type ProgramCost } from '../program/cost.ts';
import type { Params } from '../program/program.ts';
import { type BuildOptions, compiledOf } from './compiled.ts';
import { alone, estimate, type Machine, measure, networks } from './estimate.ts';
import { atText, largest } from './params.ts';
import { columns, drawn } from './table.ts';
import { bytesText, countText, out, percent, print, say, secondsText, UsageError } from './terminal.ts';

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

function show(folder: CompiledFolder, params: Params, total: ProgramCost, machine: Machine): void {
  const { program, client } = folder;
  const at = atText(params);
  print(`${out.bold(client.name)}, ${program.weights} weights${at && `, ${at}`}: one answer`);
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
