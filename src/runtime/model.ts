/**
 * A program with its weights in one role's memory: panels packed, constants laid out, ready for any number of runs.
 */
import type { BoundGate, BoundTensor, RoleWeights } from '../gates/gate.ts';
import { gates } from '../gates/index.ts';
import { type Binding, bind } from '../program/bind.ts';
import { type Params, type Program, ProgramError, varies } from '../program/program.ts';
import { type Kernels, prgScratch, type Ptr } from '../ring/kernels/kernels.ts';
import { type Plan, type RingPlan, planDealer, planParty, planRing } from './plan.ts';

export type Role = 'p0' | 'p1' | 'dealer';

/** Integer tensors by name, as they enter the ring; and, for private weights, the mask words a role can draw. */
export interface WeightSource {
  words(name: string): { shape: readonly number[]; data: Int32Array };
  weightMask(party: 0 | 1, name: string): { shape: readonly number[]; data: Int32Array };
}

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

/** What a model, or a step at its parameters, needs does not fit into the memory it was given. */
export class MemoryFull extends ProgramError {}

/** Hands out memory from `top` up to `limit`, for what stays. */
class Shelf implements RoleWeights {
  constructor(readonly role: Role, readonly k: Kernels, private readonly source: WeightSource, public top: Ptr, private readonly limit: Ptr, private readonly name: string) {}

  keep(n: number): Ptr {
    const at = this.top;
    this.room(at + Math.ceil((4 * n) / 64) * 64);
    this.top = at + Math.ceil((4 * n) / 64) * 64;
    return at;
  }
  private room(to: Ptr): void {
    if (to > this.limit) throw new MemoryFull(`${this.name} needs more than the ${Math.floor(this.limit / 2 ** 20)} MiB of one memory: use shorter inputs or a smaller model`);
  }
  lend(values: Int32Array): Ptr {
    this.room(this.top + 4 * values.length);
    this.k.i32.set(values, this.top / 4);
    return this.top;
  }
  keepWords(values: ArrayLike<number>): Ptr {
    const at = this.keep(values.length);
    if (values instanceof Int32Array) this.k.i32.set(values, at / 4);
    else for (let i = 0; i < values.length; i++) this.k.u32[at / 4 + i] = modulo32(values[i]);
    return at;
  }
  keepF32(values: ArrayLike<number>): Ptr {
    const at = this.keep(values.length);
    this.k.f32.set(values, at / 4);
    return at;
  }
  keepF64(values: ArrayLike<number>): Ptr {
    const at = this.keep(2 * values.length);
    this.k.f64.set(values, at / 8);
    return at;
  }
  words(name: string) {
    return this.source.words(name);
  }
  weightMask(party: 0 | 1, name: string) {
    return this.source.weightMask(party, name);
  }
}

/** An integer of any size below 2^53 as a word. */
export const modulo32 = (v: number): number => ((v % 2 ** 32) + 2 ** 32) % 2 ** 32;

export function loadModel(program: Program, role: Role, k: Kernels, source: WeightSource): Model {
  const shelf = new Shelf(role, k, source, reserved, k.u8.length, `the model ${program.name}`);
  const loaded = program.gates.map((g) => (varies(g.attrs) ? undefined : gates.get(g.gate)?.load?.(shelf, g.attrs)));
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
  const arena = shelf.keep(plan.bytes / 4);
  const tensors: BoundTensor[] = binding.tensors.map((t, i) => {
    const p = plan.tensors[i];
    return { ...t, at: arena + p.at, rho: arena + p.rho, mask: arena + p.mask };
  });
  const bound = binding.gates.map((g, i) => ({ ...g.node, ins: g.node.ins.map((t) => tensors[t.id]), outs: g.node.outs.map((t) => tensors[t.id]), loaded: loaded[i] }));
  for (const list of plan.memory as number[][]) for (let i = 0; i < list.length; i++) list[i] += arena;
  return { model, binding: { ...binding, tensors }, plan, ring, gates: bound, keys, scratch, outgoing, incoming, corrections, slotBytes, end: shelf.top };
}

/** Bytes each party sends in each round. */
export function messageBytes(b: Binding): number[] {
  const bytes = new Array<number>(b.rounds).fill(0);
  // A gate opens the same number of bytes in each of its rounds unless it says otherwise by its openings; the largest bound is its sum.
  for (const g of b.gates) for (let r = g.start; r < g.end; r++) bytes[r] += g.cost.openedBytes;
  return bytes;
}
