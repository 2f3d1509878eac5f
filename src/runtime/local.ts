/**
 * All roles in one process, for tests, `inspect` and the mask ledger. No link is involved: messages are handed over.
 *
 * Here, and only here, shares of both parties can be added up: the wire protocol of a party has no message that reveals one.
 */
import { encodePoints, splitPoints } from '../client/share.ts';
import type { BoundTensor } from '../gates/gate.ts';
import { type Params, type Program, type ProgramInput, sequencesOf } from '../program/program.ts';
import type { Kernels, Ptr } from '../ring/kernels/kernels.ts';
import { cacheBytes } from './caches.ts';
import { DealerStep } from './dealer.ts';
import { expandKeys } from './inputs.ts';
import { type Model, type Prepared, prepare, type Role } from './model.ts';
import { PartyStep, type Profile } from './party.ts';

export interface LocalModels {
  readonly p0: Model;
  readonly p1: Model;
  readonly dealer: Model;
}

export interface Transcript {
  /** Each party's messages, round by round, and the dealer's blocks, in order. */
  readonly p0: Uint8Array[];
  readonly p1: Uint8Array[];
  readonly dealer: Uint8Array[];
}

export interface LocalOptions {
  readonly step?: number;
  /** Parameters that no shape depends on (`past`). Such programs keep rows in caches: `newSession` empties them. */
  readonly params?: Params;
  /** Three 32-byte keys: P0's masks, P1's masks, the zero sharing. Default: fresh ones. */
  readonly keys?: readonly [Uint8Array, Uint8Array, Uint8Array];
  readonly transcript?: Transcript;
  readonly profiles?: { p0: Profile; p1: Profile; dealer: Profile };
  /** Called when a gate has run on both parties; `reveal` gives the values of its outputs. */
  readonly onGate?: (gate: number, reveal: (tensor: number) => Float64Array) => void;
}

export interface Revealed {
  readonly shape: readonly number[];
  /** Signed integers at the output's scale. */
  readonly data: Float64Array;
}

export class LocalCluster {
  private readonly prepared = new Map<string, { p0: Prepared; p1: Prepared; dealer: Prepared }>();

  constructor(private readonly models: LocalModels) {}

  get program(): Program {
    return this.models.p0.program;
  }

  prepare(params: Params): { p0: Prepared; p1: Prepared; dealer: Prepared } {
    const key = JSON.stringify(params);
    let all = this.prepared.get(key);
    if (!all) {
      this.prepared.clear();
      all = { p0: prepare(this.models.p0, params), p1: prepare(this.models.p1, params), dealer: prepare(this.models.dealer, params) };
      this.prepared.set(key, all);
    }
    return all;
  }

  /** Empties the caches: steps from here on belong to another session. */
  newSession(): void {
    for (const role of ['p0', 'p1', 'dealer'] as const) {
      const { u8 } = this.models[role].k;
      u8.fill(0, this.caches(role, this.program.params.slot?.max ?? 0));
    }
  }

  /** A sequence's, slot below slot from the top of the role's memory. */
  private caches(role: Role, slot: number): Ptr {
    return 64 * Math.floor((this.models[role].k.u8.length - (slot + 1) * cacheBytes(this.program, role)) / 64);
  }

  /** inputs: integers at the input's scale, by name; places where it comes as keys. Returns the reconstructed outputs by name. */
  run(params: Params, inputs: Readonly<Record<string, ArrayLike<number>>>, options: LocalOptions = {}): Record<string, Revealed> {
    const { p0, p1, dealer } = this.prepare(params);
    const keys = options.keys ?? [random(32), random(32), random(32)];
    const step = options.step ?? 0;
    const all = { ...params, ...options.params };
    const moment = (role: Role) => options.params && { params: all, caches: sequencesOf(all).map(({ slot }) => this.caches(role, slot)) };
    const parties = [
      new PartyStep(p0, 0, step, { mask: keys[0], zero: keys[2] }, options.profiles?.p0, moment('p0')),
      new PartyStep(p1, 1, step, { mask: keys[1], zero: keys[2] }, options.profiles?.p1, moment('p1')),
    ] as const;
    const dealing = new DealerStep(dealer, step, [keys[0], keys[1]], options.profiles?.dealer, moment('dealer'));
    for (const input of this.program.inputs) shareInput(parties, input, inputs[input.name]);
    const deal = (): boolean => {
      const after = dealing.mayFollow;
      if (after === undefined || after > parties[1].released) return false;
      const block = dealing.next()!;
      const to = parties[1].blockAt(block.index);
      parties[1].prepared.model.k.u8.set(block.bytes, to.at);
      parties[1].blockArrived();
      options.transcript?.dealer.push(block.bytes.slice());
      return true;
    };
    if (options.onGate) this.watch(parties, options.onGate);
    for (;;) {
      const a = parties[0].advance();
      let b = parties[1].advance();
      while (b === 'corrections') {
        if (!deal()) throw new Error('internal: the correction stream has locked');
        b = parties[1].advance();
      }
      if (a === 'done' && b === 'done') break;
      const messages = parties.map((p) => p.outgoing().slice());
      options.transcript?.p0.push(messages[0]);
      options.transcript?.p1.push(messages[1]);
      for (const i of [0, 1] as const) {
        parties[i].incoming(messages[1 - i].length).set(messages[1 - i]);
        parties[i].receive(messages[1 - i].length);
      }
    }
    while (deal());
    return Object.fromEntries(this.program.outputs.map((o) => [o.name, { shape: p0.binding.tensors[o.tensor].shape, data: this.reveal(params, o.tensor) }]));
  }

  /** P0 runs ahead of P1 and reuses memory, so its words of a gate's outputs are kept until P1 has run the gate too. */
  private watch(parties: readonly [PartyStep, PartyStep], onGate: NonNullable<LocalOptions['onGate']>): void {
    const [p0, p1] = parties.map((p) => p.prepared);
    const kept = new Map<number, Words>();
    parties[0].onGate = (gate) => {
      for (const o of p0.gates[gate].outs) kept.set(o.id, wordsOf(p0, o.id));
    };
    parties[1].onGate = (gate) => {
      onGate(gate, (t) => combine(p0.binding.tensors[t], kept.get(t)!, wordsOf(p1, t)));
      for (const o of p0.gates[gate].outs) kept.delete(o.id);
    };
  }

  /** The value of a tensor that is in both parties' memory, as signed integers at its scale. */
  private reveal(params: Params, tensor: number): Float64Array {
    const { p0, p1 } = this.prepare(params);
    return combine(p0.binding.tensors[tensor], wordsOf(p0, tensor), wordsOf(p1, tensor));
  }
}

/** A copy of a party's words of a tensor; X as well for a wire. */
interface Words {
  readonly own: Uint32Array | BigUint64Array;
  readonly X?: Uint32Array;
}

function wordsOf({ binding, model: { k } }: Prepared, tensor: number): Words {
  const t = binding.tensors[tensor];
  const words = (at: Ptr): Uint32Array => k.u32.slice(at / 4, at / 4 + t.size);
  if (t.kind === 'wire') return { own: words(t.rho), X: words(t.at) };
  return { own: t.bits > 32 ? new BigUint64Array(k.u8.slice(t.at, t.at + 8 * t.size).buffer) : words(t.at) };
}

function combine(t: BoundTensor, a: Words, b: Words): Float64Array {
  if (a.own instanceof BigUint64Array) return Float64Array.from(a.own, (v, i) => Number(BigInt.asIntN(t.bits, v + (b.own[i] as bigint))));
  const bits = t.kind === 'wire' ? 32 : t.bits;
  return Float64Array.from(a.own, (v, i) => signed((v + (b.own[i] as number) + (a.X ? a.X[i] : 0)) % 2 ** bits, bits));
}

/** The representative of v mod 2^bits nearest to zero. */
export const signed = (v: number, bits: number): number => (v >= 2 ** (bits - 1) ? v - 2 ** bits : v);

function shareInput(parties: readonly [PartyStep, PartyStep], input: ProgramInput, values: ArrayLike<number> | undefined): void {
  const places = parties.map((p) => p.input(input.name));
  const { size, shape } = places[0];
  const spans = input.encoding?.dpf;
  const due = spans ? (size / shape.at(-1)!) * spans.length : size;
  if (values?.length !== due) throw new RangeError(`input '${input.name}': expected ${due} values, got ${values?.length ?? 'none'}`);
  if (spans) {
    const points = encodePoints({ params: {}, inputs: [input] }, { [input.name]: { shape: [], data: values } });
    const salt = random(16);
    splitPoints(points, salt).forEach((keys, i) => void expandKeys(parties[i], input.name, spans, keys, salt));
    return;
  }
  const [k0, k1] = parties.map((p) => p.prepared.model.k);
  const r = new Uint32Array(random(4 * size).buffer);
  for (let i = 0; i < r.length; i++) {
    k0.u32[places[0].at / 4 + i] = r[i];
    k1.u32[places[1].at / 4 + i] = values[i] - r[i];
  }
}

export function random(bytes: number): Uint8Array {
  const out = new Uint8Array(bytes);
  for (let i = 0; i < bytes; i += 65536) crypto.getRandomValues(out.subarray(i, Math.min(bytes, i + 65536)));
  return out;
}
