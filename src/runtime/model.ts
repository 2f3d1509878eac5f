/**
 * A program with its weights in one role's memory: panels packed, constants laid out, ready for any number of runs.
 */
import type { BoundGate, BoundTensor } from '../gates/gate.ts';
import { gates } from '../gates/index.ts';
import { type Binding, bind } from '../program/bind.ts';
import { type Params, type Program, varies } from '../program/program.ts';
import { dpfScratch, dpfWords } from '../ring/dpf.ts';
import { type Kernels, prgScratch, type Ptr } from '../ring/kernels/kernels.ts';
import { Shelf, type Storage, type WeightSource } from './shelf.ts';
import { type Plan, type RingPlan, planDealer, planParty, planRing } from './plan.ts';

export { MemoryFull, type Storage, type WeightSource } from './shelf.ts';

export type Role = 'p0' | 'p1' | 'dealer';

export interface Model {
  readonly program: Program;
  readonly role: Role;
  readonly k: Kernels;
  readonly source: WeightSource;
  /** What each gate's load returned; undefined where it depends on the step's parameters. */
  readonly loaded: readonly unknown[];
  /** First byte after the weights. */
  readonly end: Ptr;
}

/** Bytes at the bottom of the memory that belong to the kernels' own constants. */
const reserved = 65536;

/** `storage`: what of the weights stays in memory; all of them unless told. */
export function loadModel(program: Program, role: Role, k: Kernels, source: WeightSource, storage?: Storage): Model {
  const shelf = new Shelf(role, k, source, reserved, k.u8.length, `the model ${program.name}`, storage);
  const loaded = program.gates.map((g) => (varies(g.attrs) ? undefined : gates.get(g.gate)?.load?.(shelf, g.attrs)));
  shelf.finish();
  return { program, role, k, source, loaded, end: shelf.top };
}

export const dealerSlots = 3;

/** A model at fixed parameters: schedule and memory, ready to run steps. */
export interface Prepared {
  readonly model: Model;
  readonly binding: Binding;
  readonly plan: Plan;
  readonly ring: RingPlan;
  readonly gates: readonly BoundGate[];
  /** Where this role keeps keys, messages, corrections; `end` is the first byte after all of it. */
  readonly keys: Ptr;
  readonly scratch: Ptr;
  readonly outgoing: Ptr;
  readonly incoming: Ptr;
  readonly corrections: Ptr;
  /** Dealer: blocks are made in turn in `dealerSlots` places of this size, so that one can be sent while the next is made. */
  readonly slotBytes: number;
  /** Parties: where keys of point functions are expanded, one at a time. */
  readonly expansion: { readonly words: Ptr; readonly scratch: Ptr };
  readonly end: Ptr;
}

/** Everything lies from `base` up to `limit`. Throws MemoryFull. */
export function prepare(model: Model, params: Params, base: Ptr = model.end, limit: Ptr = model.k.u8.length): Prepared {
  const { program, role, k } = model;
  const binding = bind(program, params);
  const shelf = new Shelf(role, k, model.source, base, limit, `${program.name} with ${JSON.stringify(params)}`);
  const loaded = binding.gates.map((g, i) => (varies(program.gates[i].attrs) ? g.def.load?.(shelf, g.node.attrs) : model.loaded[i]));
  const dealer = role === 'dealer';
  const plan = dealer ? planDealer(binding, loaded) : planParty(binding, role === 'p0' ? 0 : 1, loaded);
  const ring = planRing(binding);
  const keys = shelf.keep(64);
  const scratch = shelf.keep(prgScratch / 4);
  const message = dealer ? 0 : Math.max(64, ...messageBytes(binding));
  const outgoing = shelf.keep(message / 4);
  const incoming = shelf.keep(message / 4);
  const slotBytes = Math.ceil(Math.max(0, ...binding.blocks.map((b) => b.bytes)) / 64) * 64;
  const corrections = role === 'p1' ? shelf.keep(ring.bytes / 4) : dealer ? shelf.keep((dealerSlots * slotBytes) / 4) : 0;
  const span = dealer ? 0 : Math.max(0, ...program.inputs.flatMap((i) => i.encoding?.dpf ?? []));
  const expansion = { words: span && shelf.keep(dpfWords(span)), scratch: span && shelf.keep(dpfScratch(span) / 4) };
  const arena = shelf.keep(plan.bytes / 4);
  const tensors: BoundTensor[] = binding.tensors.map((t, i) => {
    const p = plan.tensors[i];
    return { ...t, at: arena + p.at, rho: arena + p.rho, mask: arena + p.mask };
  });
  const bound = binding.gates.map((g, i) => ({ ...g.node, ins: g.node.ins.map((t) => tensors[t.id]), outs: g.node.outs.map((t) => tensors[t.id]), loaded: loaded[i] }));
  for (const list of plan.memory as number[][]) for (let i = 0; i < list.length; i++) list[i] += arena;
  return { model, binding: { ...binding, tensors }, plan, ring, gates: bound, keys, scratch, outgoing, incoming, corrections, slotBytes, expansion, end: shelf.top };
}

/** Bytes each party sends in each round. */
export function messageBytes(b: Binding): number[] {
  const bytes = new Array<number>(b.rounds).fill(0);
  // A gate opens the same number of bytes in each of its rounds unless it says otherwise by its openings; the largest bound is its sum.
  for (const g of b.gates) for (let r = g.start; r < g.end; r++) bytes[r] += g.cost.openedBytes;
  return bytes;
}
