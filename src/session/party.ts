/**
 * A party at work: sessions of clients, one step at a time, over links to the other party, the dealer and the clients.
 *
 * It enforces single use by itself: steps of a session only go up, seeds live in memory only and are forgotten with the session, and a lost
 * link ends every session that leaned on it.
 */
import { createDecipheriv } from 'node:crypto';
import type { Frame, Link } from '../net/link.ts';
import type { Params } from '../program/program.ts';
import { type Model, type Prepared, prepare } from '../runtime/model.ts';
import { PartyStep, type Profile } from '../runtime/party.ts';
import { newSeed, sessionKey, type Setting } from './keys.ts';
import { decode, decodeInput, encode, Failed, frames, Open, SessionError } from './messages.ts';

export interface PartyOptions {
  readonly index: 0 | 1;
  readonly model: Model;
  readonly hash: string;
  /** SHA-256 of P0's and P1's public keys. */
  readonly spki: readonly [string, string];
  readonly profile?: Profile;
  /** Hears the bytes this party receives from the others in a step. For the demo's view of a server. */
  readonly onReceived?: (from: string, bytes: Uint8Array) => void;
}

interface Session {
  readonly number: number;
  readonly setting: Setting;
  readonly client: Link;
  seed?: Uint8Array;
  zero?: Uint8Array;
  ready: boolean;
  lastStep: number;
}

interface Running {
  readonly session: Session;
  readonly step: PartyStep;
  /** The round whose message has been sent, or −1. */
  sent: number;
  credited: number;
  /** The first block that a credit may still hold back. */
  nextCredit: number;
}

interface Waiting {
  readonly session: Session;
  readonly step: number;
  readonly params: Params;
  readonly bytes: Uint8Array;
}

export class PartyHost {
  private readonly sessions = new Map<number, Session>();
  private readonly queue: Waiting[] = [];
  private readonly prepared = new Map<string, Prepared>();
  private running?: Running;
  /** Openings of a step or round this party has not reached yet: at most one a session, since the peer waits for ours. */
  private early: { session: number; seq: number; payload: Uint8Array }[] = [];
  private readonly earlyZeros = new Map<number, Uint8Array>();
  private peer?: Link;
  private dealer?: Link;

  constructor(private readonly options: PartyOptions) {}

  connectPeer(link: Link): void {
    this.peer = link;
    link.frameSink = (type, session, seq, length) => (type === frames.opening && this.expects(session, seq) && length === this.running!.step.outgoing().length ? this.running!.step.incoming(length) : null);
    link.onFrame = (f) => this.guard(f.session, link, () => this.fromPeer(f));
    link.onClose = (error) => this.lost(link.peer, error);
    link.awaiting(true);
  }

  connectDealer(link: Link): void {
    this.dealer = link;
    link.frameSink = (type, session, seq) => {
      if (type !== frames.block || this.running?.session.number !== session || seq >= this.running.step.prepared.binding.blocks.length) return null;
      const { at, bytes } = this.running.step.blockAt(seq);
      return this.options.model.k.u8.subarray(at, at + bytes);
    };
    link.onFrame = (f) => this.guard(f.session, link, () => this.fromDealer(f));
    link.onClose = (error) => this.lost('dealer', error);
  }

  connectClient(link: Link): void {
    link.onFrame = (f) => this.guard(f.session, link, () => this.fromClient(link, f));
    link.onClose = () => {
      for (const s of this.sessions.values()) if (s.client === link) this.end(s, true);
    };
  }

  private fromClient(link: Link, f: Frame): void {
    if (f.type === frames.open) {
      const open = decode(Open, f.payload, 'the client');
      if (open.hash !== this.options.hash) throw new SessionError('unknown-model', `this party does not have program ${open.hash.slice(0, 16)}…: deploy it, or ask for ${this.options.hash.slice(0, 16)}…`);
      if (this.sessions.has(f.session)) throw new SessionError('bad-message', 'the session exists already');
      if (!this.peer || !this.dealer) throw new SessionError('peer-failed', `${this.peer ? 'the dealer' : 'the other party'} is not connected`);
      const setting = { id: open.id, hash: open.hash, spki: this.options.spki };
      const session: Session = { number: f.session, setting, client: link, ready: false, lastStep: -1 };
      this.sessions.set(f.session, session);
      this.dealer.send(frames.open, f.session, 0, encode(open));
      this.dealer.awaiting(true);
      if (this.options.index === 0) {
        const seed = newSeed();
        session.zero = sessionKey(seed, 'zero', setting);
        this.peer.send(frames.zero, f.session, 0, seed);
      } else this.takeZero(session);
      return;
    }
    const session = this.sessions.get(f.session);
    if (!session || session.client !== link) throw new SessionError('ended', 'no such session: open a new one');
    if (f.type === frames.end) return this.end(session, true);
    if (f.type !== frames.input || !session.ready) throw new SessionError('bad-message', 'an input was sent before the session was ready');
    const { step, params, bytes } = decodeInput(f.payload, 'the client');
    if (step <= session.lastStep) throw new SessionError('step-order', `step ${step} after step ${session.lastStep}: steps only go up`);
    session.lastStep = step;
    this.queue.push({ session, step, params, bytes: bytes.slice() });
    this.start();
  }

  private fromDealer(f: Frame): void {
    const session = this.sessions.get(f.session);
    if (!session) return;
    if (f.type === frames.seed) {
      session.seed = sessionKey(f.payload, this.options.index === 0 ? 'mask 0' : 'mask 1', session.setting);
      this.answer(session);
    } else if (f.type === frames.block && this.running?.session === session) {
      this.options.onReceived?.('dealer', f.payload);
      this.running.step.blockArrived();
      this.drive();
    } else if (f.type === frames.failed) this.fail(session, decode(Failed, f.payload, 'the dealer').message);
  }

  private fromPeer(f: Frame): void {
    if (f.type === frames.opening) {
      this.options.onReceived?.('peer', f.payload);
      if (this.expects(f.session, f.seq)) this.complete(f.payload);
      else this.early.push({ session: f.session, seq: f.seq, payload: f.payload.slice() });
      return;
    }
    if (f.type === frames.zero && this.options.index === 1) {
      this.earlyZeros.set(f.session, f.payload.slice());
      const session = this.sessions.get(f.session);
      if (session) this.takeZero(session);
      return;
    }
    const session = this.sessions.get(f.session);
    if (session && f.type === frames.failed) this.fail(session, decode(Failed, f.payload, 'the other party').message);
  }

  private takeZero(session: Session): void {
    const seed = this.earlyZeros.get(session.number);
    if (!seed) return;
    this.earlyZeros.delete(session.number);
    session.zero = sessionKey(seed, 'zero', session.setting);
    this.answer(session);
  }

  private answer(session: Session): void {
    if (!session.seed || !session.zero || session.ready) return;
    session.ready = true;
    session.client.send(frames.ready, session.number, 0, encode({ id: session.setting.id, hash: session.setting.hash }));
  }

  /** Begins the next step when none is running. */
  private start(): void {
    const next = this.running ? undefined : this.queue.shift();
    if (!next) return;
    this.guard(next.session.number, next.session.client, () => {
      const { session, step, params, bytes } = next;
      const prepared = this.prepare(params);
      const run = new PartyStep(prepared, this.options.index, step, { mask: session.seed!, zero: session.zero! }, this.options.profile);
      this.placeInputs(run, bytes);
      this.running = { session, step: run, sent: -1, credited: 0, nextCredit: 0 };
      if (this.options.index === 1) this.dealer!.send(frames.step, session.number, 0, encode({ step, params }));
      this.drive();
    });
  }

  private prepare(params: Params): Prepared {
    const key = JSON.stringify(Object.entries(params).sort());
    let p = this.prepared.get(key);
    if (!p) {
      // Memory is handed out upwards; when it is full, all places are given up and made anew.
      const base = [...this.prepared.values()].reduce((top, q) => Math.max(top, q.end), this.options.model.end);
      try {
        p = prepare(this.options.model, params, base);
      } catch (e) {
        if (this.prepared.size === 0) throw e;
        this.prepared.clear();
        p = prepare(this.options.model, params);
      }
      this.prepared.set(key, p);
    }
    return p;
  }

  private placeInputs(run: PartyStep, bytes: Uint8Array): void {
    const { inputs } = run.prepared.binding.program;
    const places = inputs.map((i) => run.input(i.name));
    const total = places.reduce((s, p) => s + 4 * p.size, 0);
    const seeded = this.options.index === 0;
    if (bytes.length !== (seeded ? 32 : total)) throw new SessionError('bad-message', `the client's share has ${bytes.length} bytes; ${seeded ? 32 : total} are expected`);
    // P0's share is the ChaCha20 stream of the client's seed, in its standard order.
    const words = seeded ? createDecipheriv('chacha20', bytes, new Uint8Array(16)).update(new Uint8Array(total)) : bytes;
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
    if (this.options.index === 1) this.giveCredit(r);
    if (waiting === 'round' && r.sent < r.step.round) {
      r.sent = r.step.round;
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
    const { k } = this.options.model;
    r.step.prepared.binding.program.outputs.forEach((o, i) => {
      const out = r.step.output(o.name);
      r.session.client.send(frames.output, r.session.number, i, k.u8.subarray(out.at, out.at + 4 * out.size));
    });
    this.running = undefined;
    this.start();
  }

  private end(session: Session, tell: boolean): void {
    this.sessions.delete(session.number);
    session.seed?.fill(0);
    session.zero?.fill(0);
    if (tell) for (const link of [this.peer, this.dealer]) link?.send(frames.end, session.number, 0, new Uint8Array(0));
    if (this.running?.session === session) {
      this.running = undefined;
      this.start();
    }
  }

  private fail(session: Session, message: string): void {
    session.client.send(frames.failed, session.number, 0, encode({ code: 'peer-failed', message }));
    this.end(session, false);
  }

  private lost(who: string, error?: Error): void {
    for (const s of [...this.sessions.values()]) this.fail(s, error?.message ?? `${who} closed the connection`);
    if (who === 'dealer') this.dealer = undefined;
    else this.peer = undefined;
  }

  /** Runs a handler; what it throws ends the session with a message to all, and nothing else. */
  private guard(number: number, link: Link, run: () => void): void {
    try {
      run();
    } catch (e) {
      const code = e instanceof SessionError ? e.code : 'internal';
      const message = e instanceof Error ? e.message : 'failed';
      const failure = encode({ code, message: message.slice(0, 900) });
      const session = this.sessions.get(number);
      if (session) {
        session.client.send(frames.failed, number, 0, failure);
        for (const l of [this.peer, this.dealer]) l?.send(frames.failed, number, 0, failure);
        this.end(session, false);
      } else link.send(frames.failed, number, 0, failure);
    }
  }
}
