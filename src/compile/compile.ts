/**
 * compile: graph + calibration → program + integer weights.
 *
 * Passes before this one (import, rewrite, calibrate) work on the float graph; after it the program is checked and can be bound.
 */
import { type Graph, ModelError, type Tensor } from '../graph/graph.ts';
import { check } from '../program/check.ts';
import { dimAttr, type Program } from '../program/program.ts';
import { Builder, type WeightTensor } from './builder.ts';
import type { Calibration } from './calibrate.ts';
import { lastRowsOnly } from './last-rows.ts';
import { lowerNode, unsupported } from './lower/index.ts';
import { activationBits, Lowering, normedBits, room } from './lower/lowering.ts';
import type { precisions } from './precision.ts';
import { type Profile, profiled } from './profile.ts';

export interface CompileOptions {
  readonly weights: 'public' | 'private';
  /** Longest input the program will serve, for each named parameter; default 128. */
  readonly max?: Readonly<Record<string, number>>;
  /** Default: fine for images, decoder for those, usual for all else. */
  readonly precision?: keyof typeof precisions;
  /** Default: lan. */
  readonly profile?: Profile;
  /** Decoders: sequences that a step may go on with at once, at most; default 8. */
  readonly sequences?: number;
  /** Decoders: rows of the public prefix, by the cache input they begin ([rows, width] each). Default: none. */
  readonly prefix?: ReadonlyMap<string, Tensor>;
}

const usualFor = (graph: Graph): keyof typeof precisions => (graph.caches ? 'decoder' : graph.inputs.some((i) => i.shape.length === 4) ? 'fine' : 'usual');

export interface Compiled {
  readonly program: Program;
  readonly weights: ReadonlyMap<string, WeightTensor>;
  /** Where answers will be less precise than usual, and why. */
  readonly warnings: readonly string[];
}

/** Row lengths that share one choice of fits. */
const buckets = [8, 16, 32, 64, 128, 256, 512, 1024];
/** A decoder's prompt, its prefix before it, is a little longer than 64 rows, and its steps see multiples of 64: row gates grow faster than rows. */
const decoderBuckets = [32, 64, 80, 128, 192, 256, 384, 512, 1024];

/**
 * Parameters of a decoder beside its new rows, n in all: sequences, of which each has as many of them; keys, the rows of its caches that a
 * step sees, empty ones at the end counted; and for each sequence its slot among those of the session, and past, the rows that are filled
 * before the step. Shapes do not follow these two, and keys goes in strides (`keysFor`), so that one plan serves many steps.
 */
const decoding = (prefix: number, keys: number, sequences: number): Program['params'] => ({
  keys: { min: 1, max: keys },
  sequences: { min: 1, max: sequences, usual: 1 },
  past: { min: prefix, max: keys, shapes: false },
  slot: { min: 0, max: sequences - 1, shapes: false, usual: 0 },
});
const usualSequences = 8;

/** Throws ModelError naming every operator that cannot run privately, at once. */
export function compile(given: Graph, seen: Calibration, options: CompileOptions): Compiled {
  const missing = unsupported(given);
  if (missing.length > 0) throw new ModelError(`${given.name}: ${missing.length} operator${missing.length > 1 ? 's' : ''} cannot run privately: ${missing.join(', ')}`);
  const { graph, calibration } = lastRowsOnly(given, seen);
  const cached = new Set(graph.caches?.flatMap(({ input, output }) => [input, output]));
  const inputs = graph.inputs.filter((i) => !cached.has(i.name));
  const parameters = [...new Set(inputs.flatMap((i) => i.shape.filter((d): d is string => typeof d === 'string')))];
  const most = (p: string): number => options.max?.[p] ?? 128;
  const params: Program['params'] = {
    ...Object.fromEntries(parameters.map((p) => [p, { min: 1, max: most(p) }])),
    ...(graph.caches ? decoding([...(options.prefix?.values() ?? [])][0]?.shape[0] ?? 0, options.max?.keys ?? 2 * Math.max(...parameters.map(most)), Math.min(options.sequences ?? usualSequences, most('n'))) : {}),
  };
  const longest = Math.max(0, ...Object.values(params).map((p) => p.max));
  const b = new Builder(options.weights);
  const low = new Lowering(graph, calibration, b, [...(graph.caches ? decoderBuckets : buckets).filter((n) => n < longest), longest], profiled(options.precision ?? usualFor(graph), options.profile), options.prefix);
  for (const input of inputs) {
    // Places are no values: what makes rows of them declares the input.
    if (low.consumers.get(input.name)?.every((n) => n.op === 'OneHotRows')) continue;
    const range = low.range(input.name);
    const bound = 2 * Math.max(range.max, 2 ** -6);
    const centring = range.rows ? Math.log2(2 * range.rows.centred * (input.shape.at(-1) as number)) : 0;
    const f = range.integers ? 0 : Math.max(1, Math.min(range.rows ? normedBits : activationBits, Math.floor(room - 1 - Math.log2(bound)), Math.floor(room - 0.5 - centring)));
    b.layer = 'input';
    low.defineShare(input.name, b.input(input.name, input.shape, 2 ** f, bound, input.name), f);
    low.inputBits.set(input.name, f);
  }
  for (const node of graph.nodes) lowerNode(low, node);
  for (const name of graph.outputs.filter((o) => !cached.has(o))) {
    b.layer = 'output';
    const v = low.value(name);
    const t = low.share(v);
    const scale = t.scale as number;
    const bits = low.revealBits(t);
    b.outputs.push({ name, tensor: b.gate('reveal', [t], { s: 0, bits, shape: t.shape.map(dimAttr) }, { kind: 'share', bits, scale, bound: t.bound, label: name, shape: t.shape })[0].id });
  }
  const program: Program = {
    format: 'subrosa-program/2',
    name: graph.name,
    weights: options.weights,
    weightsHash: '',
    params,
    tensors: b.tensors,
    inputs: b.inputs,
    outputs: b.outputs,
    gates: b.gates,
  };
  check(program);
  return { program, weights: b.weights, warnings: b.warnings };
}
