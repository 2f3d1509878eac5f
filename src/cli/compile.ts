/** subrosa compile: a model to a folder of program and weights, and what there is to know about it. */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { type CompiledFolder, isCompiled } from '../folder/index.ts';
import { cost, type ProgramCost } from '../program/cost.ts';
import type { Program } from '../program/program.ts';
import { build } from './build.ts';
import type { BuildOptions } from './compiled.ts';
import { compiledFolder, locate } from './locate.ts';
import { atText, largest } from './params.ts';
import { columns, drawn } from './table.ts';
import { bytesText, countText, out, percent, plural, print, say, secondsText, UsageError } from './terminal.ts';

interface Options extends BuildOptions {
  readonly output?: string;
  readonly force?: boolean;
  readonly json?: boolean;
}

export async function compileCommand(model: string, options: Options): Promise<void> {
  const at = locate(model);
  if (at.kind === 'compiled') throw new UsageError(`${at.dir} is compiled already`, `subrosa run ${model} INPUT`);
  const dir = options.output ?? compiledFolder(`${at.name}-${options.weights}${options.network === 'wan' ? '-wan' : ''}`);
  if (existsSync(dir)) {
    const ours = isCompiled(dir);
    if (ours && !options.force && options.output !== undefined)
      throw new UsageError(`${dir} holds a compiled model already`, '--force replaces it');
    if (!ours && (!statSync(dir).isDirectory() || readdirSync(dir).length > 0))
      throw new UsageError(`${dir} exists and is no compiled model: choose another folder`);
  }
  const { folder, about, seconds } = await build(at, dir, options, { replace: true });
  if (options.json) return print(JSON.stringify({ dir, calibration: about, seconds, ...summary(folder) }));
  summarise(folder);
  say(
    `compiled in ${secondsText(seconds)}; next: subrosa ${folder.client.generation ? 'generate' : 'run'} ${dir} ${folder.client.generation ? 'PROMPT' : 'INPUT'}, subrosa cost ${dir}`,
  );
}

/** The power of two of the activations' scales, lowest and highest. */
function scaleBits(program: Program): [number, number] {
  const bits = program.tensors.flatMap((t) =>
    t.bits === 32 && t.label !== undefined && typeof t.scale === 'number' ? [Math.log2(t.scale)] : [],
  );
  return bits.length === 0 ? [0, 0] : [Math.floor(Math.min(...bits)), Math.ceil(Math.max(...bits))];
}

function summary(folder: CompiledFolder): {
  program: string;
  gates: number;
  params: object;
  scaleBits: [number, number];
  tightest: object[];
  cost: ProgramCost;
} {
  const { program } = folder;
  return {
    program: folder.hash,
    gates: program.gates.length,
    params: program.params,
    scaleBits: scaleBits(program),
    tightest: (folder.record()?.tightest ?? []).slice(0, 5),
    cost: cost(program, largest(program)),
  };
}

function summarise(folder: CompiledFolder): void {
  const { program, client } = folder;
  const at = largest(program);
  const total = cost(program, at);
  const [low, high] = scaleBits(program);
  const rows: [string, string][] = [
    ['task', `${client.task}${client.labels.length > 0 ? `, ${plural(client.labels.length, 'label')}` : ''}`],
    [
      'weights',
      program.weights === 'public'
        ? 'public: both parties hold them'
        : 'private: shared between the parties, p0/ p1/ dealer/ go to one server each',
    ],
    ...(program.weights === 'private' && client.before.constants.size > 0
      ? [['in the clear', 'clients look up embeddings themselves: those tables are in client/'] as [string, string]]
      : []),
    ...(program.inputs.some((i) => i.encoding)
      ? [['tokens', 'looked up inside the run: clients send keys, and have no table'] as [string, string]]
      : []),
    ['calibrated on', client.calibration],
    ['program', folder.hash.slice(0, 16)],
    ['gates', `${program.gates.length}`],
    ['scales', `2^${low} to 2^${high}`],
    ['rounds', `${total.rounds}`],
    ['between the parties', bytesText(total.bytes.p0p1)],
    ['from the dealer', bytesText(total.bytes.dealer)],
    ['from and to the client', bytesText(total.bytes.client)],
    ['multiply-adds', `${countText(total.partyMacs)} a party, ${countText(total.dealerMacs)} at the dealer`],
  ];
  print(`${out.bold(client.name)} in ${folder.dir}${Object.keys(at).length > 0 ? `, an input of ${atText(at)}` : ''}`);
  for (const [k, v] of rows) print(`  ${k.padEnd(24)}${v}`);
  const margins = (folder.record()?.tightest ?? []).slice(0, 5);
  if (margins.length === 0) return;
  print('  tightest margins (bound · scale, of the largest value the ring allows)');
  const table = columns(['right', 'left', 'left']);
  for (const m of margins) table.push([percent(m.used), m.tensor, m.tensor.startsWith(m.layer) ? '' : out.dim(m.layer)]);
  print(drawn(table));
}
