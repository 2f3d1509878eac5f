/**
 * subrosa inspect: one input through all roles in this one process, every tensor added up and held against plaintext.
 *
 * Only here can it be done: a party's wire protocol has no message that reveals a share. Times are of party 0 alone, without the network.
 */
import { type CompiledFolder, weightSource } from '../folder/index.ts';
import type { BoundTensor } from '../gates/gate.ts';
import { fastProducts } from '../graph/fast.ts';
import type { Tensor } from '../graph/graph.ts';
import { interpret } from '../graph/interpret.ts';
import type { Binding } from '../program/bind.ts';
import { cost, type LayerCost } from '../program/cost.ts';
import { newMemory } from '../ring/kernels/memory.ts';
import { wasmKernels } from '../ring/kernels/wasm.ts';
import { LocalCluster } from '../runtime/local.ts';
import { loadModel, type Role } from '../runtime/model.ts';
import { prefixCaches } from '../tasks/generate/index.ts';
import { type BuildOptions, compiledOf } from './compiled.ts';
import { type Given, promptInput, readInputs } from './inputs.ts';
import { atText } from './params.ts';
import { acceptable } from './run.ts';
import { columns, drawn } from './table.ts';
import { bytesText, out, percent, print, progress, say, secondsText, UsageError } from './terminal.ts';

interface Options extends BuildOptions {
  readonly input?: readonly string[];
  readonly json?: boolean;
}

/** One output of a gate. */
interface Seen {
  readonly label?: string;
  readonly shape: readonly number[];
  readonly kind: string;
  readonly bits: number;
  /** Largest |value|, real, and what the compiler promised. */
  readonly max: number;
  readonly bound: number;
  /** Largest |value|·scale over what the ring allows. */
  readonly used: number;
  /** Out of the ring, or a value of the graph larger than calibration promised. */
  readonly past_bound: boolean;
  /** Against plaintext, where the tensor carries a value of the graph; `relative`: rms error over the rms of the value. */
  readonly max_error?: number;
  readonly rms_error?: number;
  readonly relative?: number;
}

interface GateReport {
  readonly id: number;
  readonly gate: string;
  readonly layer: string;
  readonly rounds: number;
  readonly bytes: number;
  readonly seconds: number;
  readonly outputs: Seen[];
}

interface LayerReport {
  readonly layer: string;
  readonly gates: number;
  readonly rounds: number;
  readonly bytes: number;
  readonly seconds: number;
  readonly used: number;
  readonly past_bound: boolean;
  /** Of the layer's worst tensor. */
  readonly tensor?: string;
  readonly max_error?: number;
  readonly rms_error?: number;
  readonly relative?: number;
}

export async function inspectCommand(
  model: string,
  inputs: readonly string[],
  options: Options,
  command?: { getOptionValueSource(name: string): string | undefined },
): Promise<void> {
  const folder = await compiledOf(model, { ...options, given: command?.getOptionValueSource('weights') === 'cli' });
  const all =
    folder.client.task === 'text-generation'
      ? inputs.map((text) => promptInput(folder.client, folder.program, text))
      : await readInputs(folder.client, folder.program, inputs, options.input);
  if (all.length !== 1) throw new UsageError(`inspect takes one input, got ${all.length || 'none'}`);
  const gates = inspect(folder, all[0]);
  const layers = byLayer(gates, cost(folder.program, acceptable(folder, all[0])).layers);
  const worst = layers.filter((l) => l.relative !== undefined).sort((a, b) => (b.relative as number) - (a.relative as number))[0];
  if (options.json)
    return print(
      JSON.stringify({
        model: folder.client.name,
        input: all[0].title,
        worst: worst && { layer: worst.layer, tensor: worst.tensor, relative: worst.relative },
        past_bound: layers.filter((l) => l.past_bound).map((l) => l.layer),
        layers,
        gates,
      }),
    );
  show(folder, all[0], layers, worst);
}

const warmBelow = 1e9;

/** Runs the program with all roles here and looks at every tensor. */
export function inspect(folder: CompiledFolder, given: Given): GateReport[] {
  const { program } = folder;
  const params = acceptable(folder, given);
  fastProducts();
  const plain = new Map<string, Tensor>(Object.entries(given.inputs));
  const graph = folder.plain();
  const prefix = prefixCaches({ graph, client: folder.client }, folder.client.generation?.prefix ?? []);
  interpret(graph, { ...given.inputs, ...prefix }, (name, value) => void plain.set(name, value));
  const load = (role: Role) => loadModel(program, role, wasmKernels(newMemory(2 ** 32 - 2 ** 16)), weightSource(folder.dir, role));
  const cluster = new LocalCluster({ p0: load('p0'), p1: load('p1'), dealer: load('dealer') });
  const { binding } = cluster.prepare(params).p0;
  const times = new PhaseTimes(binding);
  const words = Object.fromEntries(
    program.inputs.map((i) => [i.name, Float64Array.from(given.inputs[i.name].data, (v) => Math.round(v * i.scale))]),
  );
  const line = progress(`inspecting ${folder.client.name}`);
  // Times of a first run are mostly the engine's compiling; large models do not notice.
  const rest = graph.caches ? { params } : {};
  if (cost(program, params).partyMacs < warmBelow) cluster.run(params, words, rest);
  const seen = new Map<number, Seen[]>();
  const quarters = extended(binding);
  cluster.run(params, words, {
    ...rest,
    profiles: { p0: times, p1: new Map(), dealer: new Map() },
    onGate(gate, reveal) {
      const { node } = binding.gates[gate];
      seen.set(
        gate,
        node.outs.map((t) => look(t, reveal(t.id), quarters.has(t.id), t.label === undefined ? undefined : plain.get(t.label))),
      );
      line.update(`gate ${seen.size} of ${program.gates.length}`);
    },
  });
  line.done();
  return binding.gates.map(({ node, cost }) => ({
    id: node.id,
    gate: node.gate,
    layer: node.layer,
    rounds: cost.rounds,
    bytes: 2 * cost.openedBytes + cost.correctionBytes,
    seconds: times.gates[node.id],
    outputs: seen.get(node.id) ?? [],
  }));
}

/** Party 0's seconds by gate: a profile is told after every phase, and phases run in the binding's order. */
class PhaseTimes extends Map<string, number> {
  readonly gates: Float64Array;
  private phase = 0;

  constructor(private readonly binding: Binding) {
    super();
    this.gates = new Float64Array(binding.gates.length);
  }

  override set(kind: string, total: number): this {
    if (kind !== 'pack') this.gates[this.binding.phases[this.phase++].gate] += total - (this.get(kind) ?? 0);
    return super.set(kind, total);
  }
}

/** Tensors that are extended, as they are or moved about: an extension needs them within a quarter of the ring on either side. */
function extended(binding: Binding): Set<number> {
  const found = new Set<number>();
  for (const { node } of [...binding.gates].reverse()) {
    const moves = /^(reshape|permute|slice|concat|im2col)$/.test(node.gate) && node.outs.some((o) => found.has(o.id));
    if (moves || node.gate === 'extend') for (const t of node.ins) found.add(t.id);
  }
  return found;
}

/** The value as the tensor has it: of a decoder's last layer, the last row alone. */
function rowsOf(value: Tensor | undefined, { shape }: BoundTensor): Tensor['data'] | undefined {
  if (!value) return undefined;
  const [rows, width] = shape;
  const last = shape.length === 2 && value.shape.length === 2 && value.shape[1] === width && value.shape[0] > rows;
  return last ? value.data.subarray(value.data.length - rows * width) : value.data;
}

function look(t: BoundTensor, words: Float64Array, quarter: boolean, value: Tensor | undefined): Seen {
  const plain = rowsOf(value, t);
  const scale = (i: number): number => (typeof t.scale === 'number' ? t.scale : t.scale[i % t.scale.length]);
  const allowed = 2 ** (t.bits - (quarter ? 2 : 1));
  let [max, most, worst, squares, power] = [0, 0, 0, 0, 0];
  for (let i = 0; i < words.length; i++) {
    const v = words[i] / scale(i);
    max = Math.max(max, Math.abs(v));
    most = Math.max(most, Math.abs(words[i]));
    if (plain) {
      const e = Math.abs(v - plain[i]);
      worst = Math.max(worst, e);
      squares += e * e;
      power += plain[i] * plain[i];
    }
  }
  const common = {
    label: t.label,
    shape: t.shape,
    kind: t.kind,
    bits: t.bits,
    max,
    bound: t.bound,
    used: most / allowed,
    past_bound: most > allowed || (t.label !== undefined && max > t.bound),
  };
  if (plain?.length !== words.length) return common;
  const rms = Math.sqrt(squares / Math.max(1, words.length));
  return { ...common, max_error: worst, rms_error: rms, relative: power > 0 ? Math.sqrt(squares / power) : rms };
}

function byLayer(gates: readonly GateReport[], costs: readonly LayerCost[]): LayerReport[] {
  const rows = new Map<string, GateReport[]>();
  for (const g of gates) rows.set(g.layer, [...(rows.get(g.layer) ?? []), g]);
  return [...rows].map(([layer, list]) => {
    const seen = list.flatMap((g) => g.outputs);
    const worst = seen.filter((s) => s.relative !== undefined).sort((a, b) => (b.relative as number) - (a.relative as number))[0];
    const { rounds, openedBytes, correctionBytes } = costs.find((c) => c.layer === layer) as LayerCost;
    return {
      layer,
      gates: list.length,
      rounds,
      bytes: openedBytes + correctionBytes,
      seconds: list.reduce((s, g) => s + g.seconds, 0),
      used: Math.max(0, ...seen.map((s) => s.used)),
      past_bound: seen.some((s) => s.past_bound),
      ...(worst ? { tensor: worst.label, max_error: worst.max_error, rms_error: worst.rms_error, relative: worst.relative } : {}),
    };
  });
}

const small = (v: number | undefined): string => (v === undefined ? '' : v.toExponential(1));

function show(folder: CompiledFolder, given: Given, layers: readonly LayerReport[], worst: LayerReport | undefined): void {
  const { program } = folder;
  const params = acceptable(folder, given);
  print(
    `${out.bold(folder.client.name)}, ${program.weights} weights, ${given.title}${Object.keys(params).length > 0 ? `, ${atText(params)}` : ''}: private against plaintext`,
  );
  const table = columns(
    ['left', 'right', 'right', 'right', 'right', 'right', 'right', 'right'],
    ['layer', 'max error', 'rms error', 'relative', 'of range', 'rounds', 'bytes', 'time'],
  );
  for (const l of layers) {
    const paint = l.past_bound ? out.red : l === worst ? out.yellow : (s: string): string => s;
    table.push(
      [
        l.layer,
        small(l.max_error),
        small(l.rms_error),
        l.relative === undefined ? '' : percent(l.relative, 2),
        percent(l.used, 0),
        `${l.rounds}`,
        bytesText(l.bytes),
        secondsText(l.seconds),
      ].map(paint),
    );
  }
  print(drawn(table));
  if (worst) print(`worst layer: ${worst.layer}, rms error ${percent(worst.relative as number, 2)} of ${worst.tensor}`);
  const past = layers.filter((l) => l.past_bound);
  if (past.length === 0) print('every tensor stayed within its bound');
  else
    print(
      out.red(`past its bound: ${past.map((l) => l.layer).join(', ')}; calibrate on inputs like this one (subrosa compile --calibrate)`),
    );
  say(out.dim('layers that run side by side share rounds. bytes: opened both ways and from the dealer. time: one party, one thread'));
}
