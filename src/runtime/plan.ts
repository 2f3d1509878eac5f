/**
 * plan: where every tensor and every piece of working memory of one step lies, for one role.
 *
 * Found by running the gates' parts once without arithmetic, in the order of the schedule, on an allocator: what a part asks for it gets
 * at the same place when it really runs, so nothing is allocated then. Offsets are in bytes from the start of the arena.
 */
import type { BoundTensor } from '../gates/gate.ts';
import type { Binding } from '../program/bind.ts';
import { DealerPart, nowhere, PartyPart } from './context.ts';

const align = (bytes: number): number => Math.ceil(bytes / 64) * 64;

/** First fit over a list of free holes. */
export class Allocator {
  private holes: { at: number; bytes: number }[] = [{ at: 0, bytes: Number.MAX_SAFE_INTEGER }];
  private readonly taken = new Map<number, number>();
  peak = 0;

  take(bytes: number): number {
    const need = Math.max(64, align(bytes));
    const i = this.holes.findIndex((h) => h.bytes >= need);
    const { at } = this.holes[i];
    this.holes[i] = { at: at + need, bytes: this.holes[i].bytes - need };
    if (this.holes[i].bytes === 0) this.holes.splice(i, 1);
    this.taken.set(at, need);
    this.peak = Math.max(this.peak, at + need);
    return at;
  }

  free(at: number): void {
    const bytes = this.taken.get(at);
    if (bytes === undefined) throw new Error(`internal: ${at} is not allocated`);
    this.taken.delete(at);
    const i = this.holes.findIndex((h) => h.at > at);
    this.holes.splice(i, 0, { at, bytes });
    for (let j = i; j >= Math.max(0, i - 1); j--) {
      const next = this.holes[j + 1];
      if (next && this.holes[j].at + this.holes[j].bytes === next.at) {
        this.holes[j].bytes += next.bytes;
        this.holes.splice(j + 1, 1);
      }
    }
  }
}

export interface TensorPlace {
  at: number;
  rho: number;
  mask: number;
}

export interface Plan {
  readonly tensors: readonly TensorPlace[];
  /** Per gate: what its calls of words() and temp() return, in order. */
  readonly memory: readonly (readonly number[])[];
  /** Arena size in bytes. */
  readonly bytes: number;
}

/** Tensors that share memory (views) live as one. */
class Lifetimes {
  private readonly root: number[];
  private readonly uses: number[];
  private readonly memory = new Map<number, number[]>();

  constructor(private readonly binding: Binding, private readonly allocator: Allocator, private readonly places: TensorPlace[], counts: (tensor: BoundTensor) => boolean) {
    this.root = binding.tensors.map((_, i) => i);
    this.uses = binding.tensors.map(() => 0);
    for (const g of binding.gates) if (g.def.view) this.root[g.node.outs[0].id] = this.root[g.node.ins[0].id];
    for (const g of binding.gates) for (const t of g.node.ins) if (counts(t)) this.uses[this.root[t.id]]++;
    for (const o of binding.program.outputs) this.uses[this.root[o.tensor]]++;
  }

  place(t: BoundTensor, slots: readonly (keyof TensorPlace)[]): void {
    const taken: number[] = [];
    for (const slot of slots) {
      this.places[t.id][slot] = this.allocator.take(4 * t.size * (t.bits > 32 ? 2 : 1));
      taken.push(this.places[t.id][slot]);
    }
    this.memory.set(t.id, taken);
  }

  /** What nobody uses is given back, once its maker has run: until then it is written to like any other. */
  settle(t: BoundTensor): void {
    if (this.uses[this.root[t.id]] === 0) this.drop(this.root[t.id]);
  }

  alias(out: BoundTensor, from: BoundTensor): void {
    Object.assign(this.places[out.id], this.places[from.id]);
  }

  used(t: BoundTensor): void {
    const root = this.root[t.id];
    if (--this.uses[root] === 0) this.drop(root);
  }

  private drop(id: number): void {
    for (const at of this.memory.get(id) ?? []) this.allocator.free(at);
    this.memory.delete(id);
  }
}

const emptyPlaces = (b: Binding): TensorPlace[] => b.tensors.map(() => ({ at: 0, rho: 0, mask: 0 }));

/** `loaded`: what the gates' load returned on this role, by gate id. */
export function planParty(b: Binding, index: 0 | 1, loaded: readonly unknown[]): Plan {
  const allocator = new Allocator();
  const tensors = emptyPlaces(b);
  const memory: number[][] = b.gates.map(() => []);
  const lifetimes = new Lifetimes(b, allocator, tensors, () => true);
  const running = new Map<number, { part: Generator<unknown, void, void>; words: number[]; temps: number[] }>();
  for (const i of b.program.inputs) lifetimes.place(b.tensors[i.tensor], ['at']);
  for (const i of b.program.inputs) lifetimes.settle(b.tensors[i.tensor]);
  for (const { gate, phase } of b.phases) {
    const g = b.gates[gate];
    if (phase === 0) {
      if (g.def.view) lifetimes.alias(g.node.outs[0], g.node.ins[0]);
      else if (!g.def.stays) for (const o of g.node.outs) lifetimes.place(o, o.kind === 'wire' ? ['at', 'rho'] : ['at']);
      const state = { words: [] as number[], temps: [] as number[] };
      const ask = (list: number[]) => (n: number): number => {
        const at = allocator.take(4 * n);
        list.push(at);
        memory[gate].push(at);
        return at;
      };
      const ctx = new PartyPart(nowhere, { words: ask(state.words), temp: ask(state.temps) }, index, gate);
      running.set(gate, { ...state, part: g.def.party(ctx, { ...g.node, loaded: loaded[gate] }) });
    }
    const r = running.get(gate)!;
    r.part.next();
    for (const at of r.temps.splice(0)) allocator.free(at);
    if (phase === g.cost.rounds) {
      for (const at of r.words) allocator.free(at);
      running.delete(gate);
      for (const t of g.node.ins) lifetimes.used(t);
      for (const t of g.node.outs) lifetimes.settle(t);
    }
  }
  return { tensors, memory, bytes: allocator.peak };
}

/** The order in which the dealer prepares gates: that in which P1 needs them; gates that only draw masks before those that use them. */
export function dealerOrder(b: Binding): number[] {
  const blocks = new Map(b.blocks.map((k, i) => [k.gate, i]));
  const order: number[] = [];
  const done = new Set<number>();
  const makes = new Map<number, number>();
  for (const g of b.gates) for (const o of g.node.outs) makes.set(o.id, g.node.id);
  const prepare = (id: number): void => {
    if (done.has(id)) return;
    done.add(id);
    for (const t of b.gates[id].node.ins) {
      const maker = makes.get(t.id);
      if (t.kind === 'wire' && maker !== undefined && !blocks.has(maker)) prepare(maker);
    }
    order.push(id);
  };
  for (const { gate } of b.blocks) prepare(gate);
  return order;
}

export function planDealer(b: Binding, loaded: readonly unknown[]): Plan {
  const allocator = new Allocator();
  const tensors = emptyPlaces(b);
  const memory: number[][] = b.gates.map(() => []);
  const order = dealerOrder(b);
  const prepared = new Set(order);
  // A wire is kept at the dealer until the last gate that the dealer prepares has used it.
  const lifetimes = new Lifetimes(restricted(b, prepared), allocator, tensors, (t) => t.kind === 'wire');
  for (const id of order) {
    const g = b.gates[id];
    if (g.def.view) lifetimes.alias(g.node.outs[0], g.node.ins[0]);
    else if (!g.def.stays) for (const o of g.node.outs) if (o.kind === 'wire') lifetimes.place(o, ['mask']);
    const temps: number[] = [];
    const ask = (n: number): number => {
      const at = allocator.take(4 * n);
      temps.push(at);
      memory[id].push(at);
      return at;
    };
    const ctx = new DealerPart(nowhere, { words: ask, temp: ask }, id, 0);
    g.def.dealer?.(ctx, { ...g.node, loaded: loaded[id] });
    for (const at of temps) allocator.free(at);
    for (const t of g.node.ins) if (t.kind === 'wire') lifetimes.used(t);
    for (const t of g.node.outs) if (t.kind === 'wire') lifetimes.settle(t);
  }
  return { tensors, memory, bytes: allocator.peak };
}

const restricted = (b: Binding, keep: ReadonlySet<number>): Binding => ({ ...b, gates: b.gates.filter((g) => keep.has(g.node.id)), program: { ...b.program, outputs: [] } });

/**
 * Where each correction block lies in P1's ring buffer, and how many blocks P1 must have let go before the dealer may send it.
 * Blocks are let go in order; the buffer holds at least twice what any round needs at once, so the stream cannot lock.
 *
 * The stream is spread over the rounds: while the dealer sends as fast as it can, every opening of P0's waits behind it on P1's line
 * (MiniLM-32 over 40 ms, 100 Mbit/s: 15 ms more a round). So of the bytes that one straight line from the first round to the last would
 * have brought, the dealer goes `lead` ahead, counted from where that line meets the most demanding round.
 */
export interface RingPlan {
  readonly bytes: number;
  readonly offsets: readonly number[];
  readonly after: readonly number[];
}

/** More than lines hold on the way: 100 Mbit/s and 40 ms make half of a MiB, 1 Gbit/s and 30 ms four. */
const lead = 4 << 20;
/** Blocks of one grain are let go together: each time costs P1 a message. */
const grain = 1 << 20;

/** By block: the round P1 must have reached before the block is sent. */
function paced(b: Binding): number[] {
  const total = b.blocks.reduce((s, k) => s + k.bytes, 0);
  const slope = total / Math.max(1, b.rounds);
  let sum = 0;
  const ends = b.blocks.map((k) => (sum += k.bytes));
  const behind = Math.max(0, ...b.blocks.map((k, i) => ends[i] - slope * k.needed));
  return ends.map((end) => Math.max(0, Math.ceil((Math.floor(end / grain) * grain - behind - lead) / slope)));
}

export function planRing(b: Binding, window = 48 << 20): RingPlan {
  const live = new Float64Array(b.rounds + 1);
  for (const k of b.blocks) for (let r = k.needed; r <= k.done; r++) live[r] += align(k.bytes);
  const bytes = Math.max(window, 2 * Math.max(0, ...live) + align(Math.max(0, ...b.blocks.map((k) => k.bytes))));
  const offsets: number[] = [];
  const after: number[] = [];
  const rounds = paced(b);
  let head = 0;
  let released = 0;
  let past = 0;
  for (const [i, k] of b.blocks.entries()) {
    while (past < i && b.blocks[past].done < rounds[i]) past++;
    const size = align(k.bytes);
    if (head + size > bytes) head = 0;
    for (let j = released; j < i; j++) {
      const overlaps = offsets[j] < head + size && head < offsets[j] + align(b.blocks[j].bytes);
      if (overlaps) released = j + 1;
    }
    offsets.push(head);
    after.push(Math.max(released, past));
    head += size;
  }
  return { bytes, offsets, after };
}
