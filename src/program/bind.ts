/**
 * bind: a program at fixed public parameters: shapes, choices made, costs, and the schedule of rounds.
 *
 * Schedule: a gate starts in the first round in which its inputs are there and takes as many rounds as it has yields. What independent
 * gates open in a round travels in one message. Every role computes the same binding from (program, parameters).
 */
import type { BoundGate, BoundTensor, Cost, Gate } from '../gates/gate.ts';
import { rowsEach } from '../gates/causal.ts';
import { size } from '../gates/gate.ts';
import { gates } from '../gates/index.ts';
import { tensorShape } from './inputs.ts';
import { type Params, type Program, ProgramError, type TensorDecl, dim, resolve, withUsual } from './program.ts';

/** One run of a gate's part between two yields, in one round. */
export interface Phase {
  readonly gate: number;
  readonly phase: number;
  readonly round: number;
}

export interface ScheduledGate {
  readonly node: Omit<BoundGate, 'loaded'>;
  readonly def: Gate;
  readonly cost: Cost;
  readonly start: number;
  /** Round of its last phase. */
  readonly end: number;
}

/** What the dealer sends for one gate; blocks travel in this order. */
export interface Block {
  readonly gate: number;
  readonly bytes: number;
  /** The round whose phases first read it, and the round after which it can be forgotten. */
  readonly needed: number;
  readonly done: number;
}

export interface Binding {
  readonly program: Program;
  readonly params: Params;
  readonly tensors: readonly BoundTensor[];
  readonly gates: readonly ScheduledGate[];
  readonly phases: readonly Phase[];
  readonly rounds: number;
  readonly blocks: readonly Block[];
}

export function bind(program: Program, given: Params): Binding {
  const params = withUsual(program.params, given);
  checkParams(program, params);
  const tensors: BoundTensor[] = new Array(program.tensors.length);
  const place = (id: number, shape: readonly number[]): BoundTensor => {
    // Field by field: programs have thousands of tensors, and engines copy objects slowly.
    const { kind, bits, scale, bound, label }: TensorDecl = resolve(program.tensors[id], params);
    tensors[id] = { kind, bits, scale, bound, label, id, shape, size: size(shape), at: 0, rho: 0, mask: 0 };
    return tensors[id];
  };
  const ready = new Map<number, number>();
  for (const input of program.inputs) {
    place(input.tensor, tensorShape(input).map((d) => dim(d, params)));
    ready.set(input.tensor, 0);
  }
  const scheduled = program.gates.map((node): ScheduledGate => {
    const def = gates.get(node.gate);
    if (!def) throw new ProgramError(`gate ${node.id} (${node.layer}): no gate is called '${node.gate}'`);
    const attrs = resolve(node.attrs, params);
    const ins = node.in.map((id) => tensors[id]);
    if (ins.some((t) => !t)) throw new ProgramError(`gate ${node.id} (${node.gate}, ${node.layer}) uses a tensor that nothing before it makes`);
    const shapes = def.shapes(attrs, ins.map((t) => t.shape));
    const outs = node.out.map((id, i) => place(id, shapes[i]));
    const bound = { id: node.id, gate: node.gate, layer: node.layer, attrs, ins, outs, loaded: undefined };
    const cost = def.cost(bound);
    const start = Math.max(0, ...node.in.map((id) => ready.get(id) ?? 0));
    const end = start + cost.rounds;
    for (const id of node.out) ready.set(id, end);
    return { node: bound, def, cost, start, end };
  });
  // By round, in a round by gate.
  const turns: Phase[][] = [];
  for (const g of scheduled) for (let phase = 0; phase <= g.cost.rounds; phase++) (turns[g.start + phase] ??= []).push({ gate: g.node.id, phase, round: g.start + phase });
  const phases = turns.flat();
  const blocks = scheduled
    .filter((g) => g.cost.correctionBytes > 0)
    .map((g) => ({ gate: g.node.id, bytes: g.cost.correctionBytes, needed: g.start + (g.def.correctionPhase ?? g.cost.rounds), done: g.end }))
    .sort((a, b) => a.needed - b.needed || a.gate - b.gate);
  return { program, params, tensors, gates: scheduled, phases, rounds: Math.max(0, ...scheduled.map((g) => g.end)), blocks };
}

function checkParams(program: Program, params: Params): void {
  for (const [name, { min, max, shapes }] of Object.entries(program.params)) {
    if (shapes === false) continue;
    const v = params[name];
    if (!Number.isInteger(v) || v < min || v > max) throw new ProgramError(`parameter ${name} = ${v}: the program takes integers from ${min} to ${max}`);
  }
  if (program.params.sequences) rowsEach(params.n, params.sequences);
}
