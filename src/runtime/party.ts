/**
 * One step of a program at a party, without I/O: `advance` runs as far as it can and says what it waits for; whoever hosts it moves bytes.
 *
 * Openings of a round leave in one message, in the order of gates; the peer's message of the round is added to our own words in place.
 */
import type { Opening } from '../gates/gate.ts';
import { ProgramError } from '../program/program.ts';
import { packedBytes, packedWords, type Ptr } from '../ring/kernels/kernels.ts';
import { type Moment, placeCaches } from './caches.ts';
import { PartyPart, type Place, planned } from './context.ts';
import type { Prepared } from './model.ts';

/** What a step waits for: our message of the round is ready and the peer's is due; correction blocks are due; nothing, it is done. */
export type Waiting = 'round' | 'corrections' | 'done';

export interface StepKeys {
  /** This party's PRG key for the session. */
  readonly mask: Uint8Array;
  /** The key of the zero sharing both parties know. */
  readonly zero: Uint8Array;
}

/** Seconds spent in each kind of gate, when asked for. */
export type Profile = Map<string, number>;

export class PartyStep {
  private readonly running = new Map<number, { part: Generator<Opening[], void, void>; ctx: PartyPart }>();
  private openings: Opening[] = [];
  private next = 0;
  /** Rounds whose openings are complete. */
  round = 0;
  private waitingForPeer = false;
  private outgoingBytes = 0;
  /** Blocks that have arrived, and blocks this step has let go (in order). */
  private arrived = 0;
  released = 0;
  /** Called when a gate has run to its end. For `inspect`. */
  onGate?: (gate: number) => void;
  private readonly finished: Uint8Array;
  private readonly place: Place;

  /** `moment`: what of the step its plan does not say; none for programs without caches. */
  constructor(readonly prepared: Prepared, readonly index: 0 | 1, step: number, keys: StepKeys, private readonly profile?: Profile, moment?: Moment) {
    const { k } = prepared.model;
    k.u8.set(keys.mask, prepared.keys);
    k.u8.set(keys.zero, prepared.keys + 32);
    this.finished = new Uint8Array(prepared.gates.length);
    this.place = { k, keys: prepared.keys, scratch: prepared.scratch, step, params: { ...prepared.binding.params, ...moment?.params }, kept: moment ? placeCaches(prepared, moment.caches) : [] };
  }

  /** Where this party's share of an input goes. */
  input(name: string): { at: Ptr; size: number; shape: readonly number[] } {
    const { program, tensors } = this.prepared.binding;
    const input = program.inputs.find((i) => i.name === name);
    if (!input) throw new ProgramError(`the program has no input '${name}': it has ${program.inputs.map((i) => i.name).join(', ')}`);
    return tensors[input.tensor];
  }

  /** Words of all inputs that come as words. */
  get inputWords(): number {
    return this.prepared.binding.program.inputs.reduce((s, i) => s + (i.encoding ? 0 : this.input(i.name).size), 0);
  }

  /** This party's words of a revealed output. */
  output(name: string): { at: Ptr; size: number; bits: number; shape: readonly number[] } {
    const { program, tensors } = this.prepared.binding;
    return tensors[program.outputs.find((o) => o.name === name)!.tensor];
  }

  /** Where the dealer's block number i belongs (party 1). */
  blockAt(i: number): { at: Ptr; bytes: number } {
    const block = this.prepared.binding.blocks[i];
    return { at: this.prepared.corrections + this.prepared.ring.offsets[i], bytes: block.bytes };
  }

  /** Block number i, the next in order, lies in its place. */
  blockArrived(): void {
    this.arrived++;
  }

  advance(): Waiting {
    const { phases, rounds } = this.prepared.binding;
    if (this.waitingForPeer) return 'round';
    while (this.next < phases.length && phases[this.next].round === this.round) {
      if (!this.hasCorrections(phases[this.next].gate, phases[this.next].phase)) return 'corrections';
      this.run(phases[this.next].gate);
      this.next++;
    }
    if (this.round === rounds) {
      this.forget();
      return 'done';
    }
    this.packMessage();
    this.waitingForPeer = true;
    return 'round';
  }

  /** This round's message: masked words only. Valid until `receive`. */
  outgoing(): Uint8Array {
    const { outgoing, model } = this.prepared;
    return model.k.u8.subarray(outgoing, outgoing + this.outgoingBytes);
  }

  /** Where the peer's message of this round may be put before `receive`. */
  incoming(bytes: number): Uint8Array {
    const { incoming, model } = this.prepared;
    return model.k.u8.subarray(incoming, incoming + bytes);
  }

  /** The peer's message, lying at `incoming`, has `bytes` bytes. */
  receive(bytes: number): void {
    if (bytes !== this.outgoingBytes) throw new ProgramError(`round ${this.round}: expected ${this.outgoingBytes} bytes from the other party, got ${bytes}`);
    const { k } = this.prepared.model;
    let at = this.prepared.incoming;
    for (const o of this.openings) {
      if (o.packed) k.xor(o.at, o.at, at, packedWords(1, o.n));
      else k.openSum(o.at, o.at, at, o.bits, o.n);
      at += packedBytes(o.bits, o.n);
    }
    this.openings = [];
    this.round++;
    this.waitingForPeer = false;
  }

  /** Wipes this step's keys from the kernels' memory: at its end, or when it is given up. */
  forget(): void {
    const { keys, model } = this.prepared;
    model.k.u8.fill(0, keys, keys + 64);
  }

  private hasCorrections(gate: number, phase: number): boolean {
    if (this.index === 0) return true;
    const g = this.prepared.binding.gates[gate];
    if (g.cost.correctionBytes === 0 || phase !== (g.def.correctionPhase ?? g.cost.rounds)) return true;
    return this.arrived > this.blockOf(gate);
  }

  private blockIndex?: Map<number, number>;
  private blockOf(gate: number): number {
    this.blockIndex ??= new Map(this.prepared.binding.blocks.map((b, i) => [b.gate, i]));
    return this.blockIndex.get(gate)!;
  }

  private run(id: number): void {
    const g = this.prepared.gates[id];
    let state = this.running.get(id);
    if (!state) {
      const ctx = new PartyPart(this.place, planned(this.prepared.plan.memory[id]), this.index, id);
      state = { ctx, part: this.prepared.binding.gates[id].def.party(ctx, g) };
      this.running.set(id, state);
    }
    if (this.index === 1 && state.ctx.block === 0 && this.prepared.binding.gates[id].cost.correctionBytes > 0) state.ctx.block = this.blockAt(this.blockOf(id)).at;
    const from = this.profile ? performance.now() : 0;
    const result = state.part.next();
    if (this.profile) this.profile.set(g.gate, (this.profile.get(g.gate) ?? 0) + (performance.now() - from) / 1000);
    if (result.done) {
      this.running.delete(id);
      this.finished[id] = 1;
      this.onGate?.(id);
      const { blocks } = this.prepared.binding;
      while (this.released < blocks.length && this.finished[blocks[this.released].gate]) this.released++;
    } else this.openings.push(...result.value);
  }

  private packMessage(): void {
    const { k } = this.prepared.model;
    const from = this.profile ? performance.now() : 0;
    let at = this.prepared.outgoing;
    for (const o of this.openings) {
      if (o.packed) k.copy(at, o.at, packedWords(1, o.n));
      else k.pack(at, o.at, o.bits, o.n);
      at += 4 * packedWords(o.bits, o.n);
    }
    this.outgoingBytes = at - this.prepared.outgoing;
    if (this.profile) this.profile.set('pack', (this.profile.get('pack') ?? 0) + (performance.now() - from) / 1000);
  }
}
