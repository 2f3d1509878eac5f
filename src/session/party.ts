/**
 * A party at work: sessions of clients, one step at a time, over links to the other party, the dealer and the clients.
 *
 * It enforces single use by itself: steps of a session only go up, seeds live in memory only and are forgotten with the session, and a lost
 * link ends every session that leaned on it.
 *
 * Both parties must run the same step. P1 says which inputs it has, P0 chooses among those that both have and says go: a client that
 * sends to one party only, or other things to each, keeps nobody waiting but itself.
 *
 * What others can make a party keep is bounded: an input a session, of the size its parameters say; `mostSessions` a client; an early
 * opening a session; an early zero seed for as many sessions as P0 has announced, `mostZeros` at most.
 */
import { createDecipheriv, createHash } from 'node:crypto';
import { SubrosaError } from '../client/errors.ts';
import type { Frame, Link } from '../net/link.ts';
import { dim, type Params } from '../program/program.ts';
import { type Model, type Prepared, preparedFor } from '../runtime/model.ts';
import { PartyStep } from '../runtime/party.ts';
import type { HostEvents, Limits } from './events.ts';
import { newSeed, sessionKey, type Setting } from './keys.ts';
import { decode, decodeInput, encode, Failed, frames, Open } from './messages.ts';
import { type ModelStore, type Takes, unknownModel } from './store.ts';

export interface PartyOptions {
  readonly index: 0 | 1;
  readonly models: ModelStore;
  /** SHA-256 of P0's and P1's public keys. */
  readonly spki: readonly [string, string];
  readonly limits?: Partial<Limits>;
  readonly events?: HostEvents;
  /** Whether reports of steps say what each kind of gate took. */
  readonly profile?: boolean;
}

interface Session {
  readonly number: number;
  readonly setting: Setting;
  readonly client: Link;
  seed?: Uint8Array;
  zero?: Uint8Array;
  ready: boolean;
  lastStep: number;
  /** P0: the input that P1 has said it has. */
  peerHas?: { readonly step: number; readonly digest: Uint8Array };
}

interface Running {
  readonly session: Session;
  readonly step: PartyStep;
  /** The round whose message has been sent, or −1. */
  sent: number;
  credited: number;
  /** The first block that a credit may still hold back. */
  nextCredit: number;
  /** Blocks that have come. */
  blocks: number;
  /** Whether it stands still for want of corrections. */
  starved: boolean;
}

interface Waiting {
  readonly session: Session;
  readonly step: number;
  readonly params: Params;
  readonly bytes: Uint8Array;
  readonly digest: Buffer;
  /** P1: P0 has said go. */
  go: boolean;
}

const mostSessions = 256;
const mostZeros = 4096;

export class PartyHost {
  /** Openings sent. */
  rounds = 0;
  private readonly sessions = new Map<number, Session>();
  private queue: Waiting[] = [];
  private readonly prepared = new WeakMap<Model, Map<string, Prepared>>();
  private running?: Running;
  /** P1: openings of a step or round it has not reached yet, for want of corrections: at most one a session, since P0 waits for ours. */
  private early: { session: number; seq: number; payload: Uint8Array }[] = [];
  private readonly earlyZeros = new Map<number, Uint8Array>();
  private peer?: Link;
  private dealer?: Link;

  constructor(private readonly options: PartyOptions) {}

  connectPeer(link: Link): void {
    this.peer = link;
    link.frameSink = (type, session, seq, length) => (type === frames.opening && this.expects(session, seq) && length === this.running!.step.outgoing().length ? this.running!.step.incoming(length) : null);
    link.onFrame = (f) => this.guard(f.session, link, () => this.fromPeer(f));
    link.onClose = (error) => this.lost(link, error);
  }

  connectDealer(link: Link): void {
    this.dealer = link;
    link.frameSink = (type, session, seq) => (type === frames.block && this.running?.session.number === session ? (this.placeOf(this.running, seq) ?? null) : null);
    link.onFrame = (f) => this.guard(f.session, link, () => this.fromDealer(f));
    link.onClose = (error) => this.lost(link, error);
  }

  connectClient(link: Link): void {
    link.onFrame = (f) => this.guard(f.session, link, () => this.fromClient(link, f));
    link.onClose = () => {
      for (const s of [...this.sessions.values()]) if (s.client === link) this.end(s, this.peer, this.dealer);
      this.watch();
    };
  }

  private fromClient(link: Link, f: Frame): void {
    const session = this.sessions.get(f.session);
    if (f.type === frames.open) return this.open(link, f, session);
    if (f.type === frames.end || f.type === frames.failed) {
      // A session that has ended here already may be ended again.
      if (session?.client === link) this.end(session, this.peer, this.dealer);
      return;
    }
    if (!session || session.client !== link) throw new SubrosaError('ended', 'no such session: open a new one');
    if (f.type !== frames.input || !session.ready) throw new SubrosaError('bad-message', 'the client sent what is no input, or sent it before the session was ready');
    const { step, params, bytes } = decodeInput(f.payload, 'the client');
    if (step <= session.lastStep) throw new SubrosaError('step-order', `step ${step} after step ${session.lastStep}: steps only go up`);
    if (this.running?.session === session || this.queue.some((w) => w.session === session)) throw new SubrosaError('bad-message', 'a session runs one input at a time');
    const takes = this.options.models.takes(session.setting.hash);
    if (!takes) throw unknownModel(session.setting.hash);
    const total = this.options.index === 0 ? 32 : inputBytes(takes, params);
    if (bytes.length !== total) throw new SubrosaError('bad-message', `the client's share has ${bytes.length} bytes; ${total} are expected`);
    session.lastStep = step;
    const digest = createHash('sha256').update(JSON.stringify([step, Object.entries(params).sort()])).digest();
    this.queue.push({ session, step, params, bytes: bytes.slice(), digest, go: false });
    if (this.options.index === 1) this.peer!.send(frames.have, session.number, step, digest);
    this.start();
  }

  private open(link: Link, f: Frame, known: Session | undefined): void {
    const open = decode(Open, f.payload, 'the client');
    if (!this.options.models.takes(open.hash)) throw unknownModel(open.hash);
    if (known) throw new SubrosaError('bad-message', 'the session exists already');
    if ([...this.sessions.values()].filter((s) => s.client === link).length >= mostSessions) throw new SubrosaError('too-large', `a client may have ${mostSessions} sessions open: end some`);
    if (!this.peer || !this.dealer) throw new SubrosaError('peer-failed', `${this.peer ? 'the dealer' : 'the other party'} is not connected`);
    const setting = { id: open.id, hash: open.hash, spki: this.options.spki };
    const session: Session = { number: f.session, setting, client: link, ready: false, lastStep: -1 };
    this.sessions.set(f.session, session);
    this.dealer.send(frames.open, f.session, 0, encode(open));
    if (this.options.index === 0) {
      const seed = newSeed();
      session.zero = sessionKey(seed, 'zero', setting);
      this.peer.send(frames.zero, f.session, 0, seed);
      seed.fill(0);
    } else this.takeZero(session);
  }

  private fromDealer(f: Frame): void {
    const session = this.sessions.get(f.session);
    if (!session) return;
    const r = this.running;
    if (f.type === frames.seed) {
      if (session.seed || f.payload.length !== 32) throw new SubrosaError('bad-message', 'the dealer sent a second seed, or one of another size');
      session.seed = sessionKey(f.payload, this.options.index === 0 ? 'mask 0' : 'mask 1', session.setting);
      f.payload.fill(0);
      this.answer(session);
    } else if (f.type === frames.block && r?.session === session) {
      const place = this.placeOf(r, f.seq);
      if (place?.length !== f.payload.length) throw new SubrosaError('bad-message', `the dealer sent block ${f.seq} of ${f.payload.length} bytes out of turn`);
      if (f.payload.buffer !== place.buffer || f.payload.byteOffset !== place.byteOffset) place.set(f.payload);
      r.blocks++;
      this.options.events?.received?.(session.setting.id, 'dealer', place);
      r.step.blockArrived();
      this.drive();
    } else if (f.type === frames.failed) this.fail(session, decode(Failed, f.payload, 'the dealer').message, this.peer);
    else if (f.type === frames.end) this.fail(session, 'the dealer ended the session', this.peer);
  }

  /** Where the dealer's block of this number goes, if it is the next one and what lay there before has been let go. */
  private placeOf(r: Running, seq: number): Uint8Array | undefined {
    const { binding, ring } = r.step.prepared;
    if (this.options.index === 0 || seq !== r.blocks || seq >= binding.blocks.length || ring.after[seq] > r.step.released) return undefined;
    const { at, bytes } = r.step.blockAt(seq);
    return r.step.prepared.model.k.u8.subarray(at, at + bytes);
  }

  private fromPeer(f: Frame): void {
    const session = this.sessions.get(f.session);
    if (f.type === frames.zero && this.options.index === 1) {
      if (session?.zero || f.payload.length !== 32) throw new SubrosaError('bad-message', 'p0 sent a second zero seed, or one of another size');
      this.earlyZeros.set(f.session, f.payload.slice());
      if (this.earlyZeros.size > mostZeros) this.earlyZeros.delete(this.earlyZeros.keys().next().value as number);
      if (session) this.takeZero(session);
      return;
    }
    if (f.type === frames.end || f.type === frames.failed) this.earlyZeros.delete(f.session);
    if (!session) return;
    if (f.type === frames.opening) this.opened(session, f);
    else if (f.type === frames.have && this.options.index === 0) {
      session.peerHas = { step: f.seq, digest: f.payload.slice() };
      this.start();
    } else if (f.type === frames.go && this.options.index === 1) {
      const input = this.queue.find((w) => w.session === session && w.step === f.seq && !w.go);
      if (!input) throw new SubrosaError('bad-message', `p0 said go for step ${f.seq}, which is not here`);
      input.go = true;
      this.queue = [...this.queue.filter((w) => w !== input && w.go), input, ...this.queue.filter((w) => !w.go)];
      this.start();
    } else if (f.type === frames.failed) this.fail(session, decode(Failed, f.payload, 'the other party').message, this.dealer);
    else if (f.type === frames.end) this.fail(session, 'the session was ended at the other party', this.dealer);
    else throw new SubrosaError('bad-message', `the other party sent a frame of type ${f.type}`);
  }

  private opened(session: Session, f: Frame): void {
    this.options.events?.received?.(session.setting.id, 'peer', f.payload);
    if (this.expects(f.session, f.seq)) return this.complete(f.payload);
    const next = this.running?.session === session ? this.running.step.round === f.seq && this.running.starved : this.queue.some((w) => w.session === session && w.go) && f.seq === 0;
    if (this.options.index === 0 || !next || this.early.some((e) => e.session === f.session)) throw new SubrosaError('bad-message', `the other party sent the opening of round ${f.seq} out of turn`);
    this.early.push({ session: f.session, seq: f.seq, payload: f.payload.slice() });
  }

  private takeZero(session: Session): void {
    const seed = this.earlyZeros.get(session.number);
    if (!seed) return;
    this.earlyZeros.delete(session.number);
    session.zero = sessionKey(seed, 'zero', session.setting);
    seed.fill(0);
    this.answer(session);
  }

  private answer(session: Session): void {
    if (!session.seed || !session.zero || session.ready) return;
    session.ready = true;
    session.client.send(frames.ready, session.number, 0, encode({ id: session.setting.id, hash: session.setting.hash }));
  }

  /** Begins the next step that both parties have, when none is running. */
  private start(): void {
    if (this.running || !this.peer || !this.dealer) return;
    const leads = this.options.index === 0;
    const at = this.queue.findIndex((w) => (leads ? w.session.peerHas?.step === w.step : w.go));
    if (at < 0) return;
    const [next] = this.queue.splice(at, 1);
    const { session, step, params, bytes } = next;
    this.guard(session.number, session.client, () => {
      if (leads && !next.digest.equals(session.peerHas!.digest)) throw new SubrosaError('bad-message', 'the client sent the parties different parameters');
      const model = this.options.models.acquire(session.setting.hash);
      this.options.models.release(session.setting.hash);
      let cache = this.prepared.get(model);
      if (!cache) this.prepared.set(model, (cache = new Map()));
      const prepared = preparedFor(model, cache, params);
      const run = new PartyStep(prepared, this.options.index, step, { mask: session.seed!, zero: session.zero! }, this.options.profile ? new Map() : undefined);
      this.placeInputs(run, bytes);
      bytes.fill(0);
      this.running = { session, step: run, sent: -1, credited: 0, nextCredit: 0, blocks: 0, starved: false };
      if (leads) this.peer!.send(frames.go, session.number, step, new Uint8Array(0));
      else this.dealer!.send(frames.step, session.number, 0, encode({ step, params }));
      this.drive();
    });
  }

  private placeInputs(run: PartyStep, bytes: Uint8Array): void {
    const { inputs } = run.prepared.binding.program;
    const places = inputs.map((i) => run.input(i.name));
    const total = places.reduce((s, p) => s + 4 * p.size, 0);
    // P0's share is the ChaCha20 stream of the client's seed, in its standard order.
    const words = this.options.index === 0 ? createDecipheriv('chacha20', bytes, new Uint8Array(16)).update(new Uint8Array(total)) : bytes;
    let from = 0;
    for (const p of places) {
      run.prepared.model.k.u8.set(words.subarray(from, from + 4 * p.size), p.at);
      from += 4 * p.size;
    }
  }

  private expects(session: number, seq: number): boolean {
    return this.running?.session.number === session && this.running.step.round === seq && this.running.sent === seq;
  }

  /** The peer's message of this round; it may lie in its place already. */
  private complete(payload: Uint8Array): void {
    const { step } = this.running!;
    if (payload.length <= step.outgoing().length) {
      const place = step.incoming(payload.length);
      if (payload.buffer !== place.buffer || payload.byteOffset !== place.byteOffset) place.set(payload);
    }
    step.receive(payload.length);
    this.drive();
  }

  private drive(): void {
    const r = this.running;
    if (!r) return;
    const waiting = r.step.advance();
    r.starved = waiting === 'corrections';
    if (this.options.index === 1) this.giveCredit(r);
    if (waiting === 'round' && r.sent < r.step.round) {
      r.sent = r.step.round;
      this.rounds++;
      this.peer!.send(frames.opening, r.session.number, r.step.round, r.step.outgoing());
      const early = this.early.findIndex((e) => e.session === r.session.number && e.seq === r.step.round);
      if (early >= 0) {
        const [{ payload }] = this.early.splice(early, 1);
        this.complete(payload);
      }
    }
    if (waiting === 'done') this.finish(r);
  }

  /** Tells the dealer what has been let go when a block waits for it: small messages cost as much as small rounds. */
  private giveCredit(r: Running): void {
    const { after } = r.step.prepared.ring;
    while (r.nextCredit < after.length && after[r.nextCredit] <= r.credited) r.nextCredit++;
    if (r.nextCredit === after.length || after[r.nextCredit] > r.step.released) return;
    r.credited = r.step.released;
    this.dealer!.send(frames.credit, r.session.number, r.credited, new Uint8Array(0));
  }

  private finish(r: Running): void {
    const { k } = r.step.prepared.model;
    r.step.prepared.binding.program.outputs.forEach((o, i) => {
      const out = r.step.output(o.name);
      r.session.client.send(frames.output, r.session.number, i, k.u8.subarray(out.at, out.at + 4 * out.size));
    });
    this.running = undefined;
    this.start();
  }

  /** Forgets a session: keys, inputs, the step it may be running. `tell`: who else must. */
  private end(session: Session, ...tell: (Link | undefined)[]): void {
    this.sessions.delete(session.number);
    // A step that is still queued must not run under erased keys.
    for (const w of this.queue) if (w.session === session) w.bytes.fill(0);
    this.queue = this.queue.filter((w) => w.session !== session);
    this.early = this.early.filter((e) => e.session !== session.number);
    if (this.running?.session === session) {
      this.running.step.forget();
      this.running = undefined;
    }
    session.seed?.fill(0);
    session.zero?.fill(0);
    for (const link of tell) link?.send(frames.end, session.number, 0, new Uint8Array(0));
    this.start();
  }

  private fail(session: Session, message: string, ...tell: (Link | undefined)[]): void {
    session.client.send(frames.failed, session.number, 0, encode({ code: 'peer-failed', message }));
    this.end(session, ...tell);
  }

  private lost(link: Link, error?: Error): void {
    if (link !== this.peer && link !== this.dealer) return;
    const other = link === this.peer ? this.dealer : this.peer;
    if (link === this.peer) this.peer = undefined;
    else this.dealer = undefined;
    for (const s of [...this.sessions.values()]) this.fail(s, error?.message ?? `${link.peer} closed the connection`, other);
    this.earlyZeros.clear();
    this.watch();
  }

  /** Silence counts only where something is due: from the peer while a step waits or runs, from the dealer for seeds and corrections. */
  private watch(): void {
    const all = [...this.sessions.values()];
    this.peer?.awaiting(this.running !== undefined || this.queue.length > 0 || all.some((s) => !s.zero));
    this.dealer?.awaiting(this.running?.starved === true || all.some((s) => !s.seed));
  }

  /** Runs a handler; what it throws ends the session with a message to all, and nothing else. A client ends sessions of its own only. */
  private guard(number: number, link: Link, run: () => void): void {
    try {
      run();
    } catch (e) {
      const code = e instanceof SubrosaError ? e.code : 'internal';
      const message = e instanceof Error ? e.message : 'failed';
      const failure = encode({ code, message: message.slice(0, 900) });
      const session = this.sessions.get(number);
      if (session && (link === session.client || link === this.peer || link === this.dealer)) {
        for (const l of [session.client, this.peer, this.dealer]) l?.send(frames.failed, number, 0, failure);
        this.end(session);
      } else link.send(frames.failed, number, 0, failure);
    }
    this.watch();
  }
}

/** Bytes of all inputs at these parameters. Throws SubrosaError when the program does not take them. */
function inputBytes(program: Takes, params: Params): number {
  for (const [name, { min, max }] of Object.entries(program.params))
    if (!(params[name] >= min && params[name] <= max)) throw new SubrosaError('bad-message', `${name} = ${params[name]}: the program takes ${min} to ${max}`);
  return program.inputs.reduce((s, i) => s + i.shape.reduce<number>((n, d) => n * dim(d, params), 4), 0);
}
