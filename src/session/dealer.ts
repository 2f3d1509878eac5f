/**
 * The dealer at work: seeds for a session when both parties asked for it, then a stream of corrections to party 1 for each step, ahead of
 * the run by a bounded window. It receives public parameters and counts, never data.
 *
 * Streams of several steps take turns, block by block; one that waits for credit lets the others go on.
 */
import { SubrosaError } from '../client/errors.ts';
import type { Frame, Link } from '../net/link.ts';
import type { Params } from '../program/program.ts';
import { DealerStep } from '../runtime/dealer.ts';
import { dealerSlots } from '../runtime/model.ts';
import { afterStep, Drain, drainingError } from './drain.ts';
import { type DealerEvents, defaultLimits, type HostLoad, type Limits } from './events.ts';
import { newSeed, sessionKey } from './keys.ts';
import { type Caches, Lanes, type Lease } from './lanes.ts';
import { decode, encode, failure, frames, lossOf, Open, Step, tagOf } from './messages.ts';
import { inputBytes, keepRows } from './sessions.ts';
import { type ModelStore, unknownModel } from './store.ts';

export interface DealerOptions {
  readonly models: ModelStore;
  /** SHA-256 of P0's and P1's public keys. */
  readonly spki: readonly [string, string];
  readonly limits?: Partial<Limits>;
  readonly events?: DealerEvents;
  /** Whether reports of steps say what each kind of gate took. */
  readonly profile?: boolean;
}

interface Session {
  readonly number: number;
  readonly tag: number;
  readonly asked: [boolean, boolean];
  readonly open: Open;
  keys?: [Uint8Array, Uint8Array];
  lastStep: number;
  /** The last one P1 has done. */
  done: number;
  /** What it keeps from step to step, by slot: rows, and the memory they lie in from the slot's first step on. */
  readonly rows: Map<number, number>;
  readonly caches: Map<number, Caches>;
}

interface Asked {
  readonly session: Session;
  readonly step: number;
  readonly params: Params;
}

interface Stream extends Asked {
  readonly making: DealerStep;
  readonly lease: Lease;
  /** Slots whose blocks are not on the wire yet. */
  readonly sending: boolean[];
  released: number;
  bytes: number;
  readonly at: number;
  readonly profile?: Map<string, number>;
}

/** Bytes made between two looks at the links. */
const slice = 1 << 18;

export class DealerHost {
  private readonly limits: Limits;
  private readonly lanes: Lanes;
  private readonly links: [Link?, Link?] = [undefined, undefined];
  private readonly sessions = new Map<number, Session>();
  private queue: Asked[] = [];
  /** In the order of turns. */
  private streams: Stream[] = [];
  private scheduled = false;
  /** Enough is queued on the link to P1. */
  private blocked = false;
  private draining?: Drain;
  private ending?: NodeJS.Timeout;

  constructor(private readonly options: DealerOptions) {
    this.limits = { ...defaultLimits, ...options.limits };
    this.lanes = new Lanes(options.models, this.limits.lanes, () => this.later());
  }

  /** A party's link. One that is there already is closed, and all sessions end. */
  connect(party: 0 | 1, link: Link): void {
    const old = this.links[party];
    if (old) {
      this.lost(party, old, new SubrosaError('peer-failed', `${old.peer} connected anew`));
      old.close();
    }
    this.links[party] = link;
    link.onFrame = (f) => {
      if (link === this.links[party]) this.from(party, f);
    };
    link.onDrain = () => {
      if (link !== this.links[party] || party === 0) return;
      this.blocked = false;
      this.later();
    };
    link.onClose = (error) => this.lost(party, link, error);
  }

  load(): HostLoad {
    const connected = this.links.flatMap((l) => l?.peer ?? []);
    return { sessions: this.sessions.size, queued: this.queue.length, running: this.streams.length, connected };
  }

  /** From now on no session is opened and no step begun. Resolves when P1 has done those it is at, and sessions have ended. */
  drain(): Promise<void> {
    this.draining ??= new Drain();
    this.settle();
    return this.draining.done;
  }

  private lost(party: 0 | 1, link: Link, error?: Error): void {
    if (this.links[party] !== link) return;
    this.links[party] = undefined;
    if (party === 1) this.blocked = false;
    const loss = lossOf(link, error);
    for (const s of [...this.sessions.values()]) this.fail(s, loss);
  }

  private from(party: 0 | 1, f: Frame): void {
    if (f.type === frames.open) return this.open(party, f);
    const session = this.sessions.get(f.session);
    if (!session) return;
    if (f.type === frames.end || f.type === frames.failed) {
      if (f.seq === session.tag) this.end(session);
      return;
    }
    try {
      if (party !== 1) throw new SubrosaError('bad-message', `p0 sent a frame of type ${f.type}`);
      if (f.type === frames.credit) this.credit(session, f.seq);
      else if (f.type === frames.step) this.step(session, decode(Step, f.payload, 'p1'));
      else if (f.type === frames.done) {
        session.done = f.seq;
        this.settle();
      } else throw new SubrosaError('bad-message', `p1 sent a frame of type ${f.type}`);
    } catch (e) {
      this.fail(session, e);
    }
  }

  private credit(session: Session, blocks: number): void {
    const stream = this.streams.find((s) => s.session === session);
    // The last ones are let go when all are made.
    if (!stream) return;
    if (blocks < stream.released || blocks > stream.making.prepared.binding.blocks.length)
      throw new SubrosaError('bad-message', `p1 let go ${blocks} blocks after ${stream.released}`);
    stream.released = blocks;
    this.later();
  }

  private step(session: Session, { step, params }: Step): void {
    if (!session.keys || step <= session.lastStep)
      throw new SubrosaError('step-order', `step ${step} after step ${session.lastStep}: steps only go up`);
    if (this.streams.some((s) => s.session === session))
      throw new SubrosaError('bad-message', 'p1 asked for a step before the last one was done');
    if (this.draining) throw drainingError('it');
    const takes = this.options.models.takes(session.open.hash);
    if (!takes) throw unknownModel(session.open.hash);
    inputBytes(takes, params);
    keepRows(takes, params, session.rows);
    session.lastStep = step;
    this.queue.push({ session, step, params });
    this.later();
  }

  /** A newcomer that cannot be had is refused, and whoever has its number already is not disturbed. */
  private open(party: 0 | 1, f: Frame): void {
    let tag = 0;
    try {
      const open = decode(Open, f.payload, `p${party}`);
      tag = tagOf(open.id);
      if (!this.options.models.takes(open.hash)) throw unknownModel(open.hash);
      if (this.draining) throw drainingError('it');
      const known = this.sessions.get(f.session);
      if (known && (known.asked[party] || known.open.id !== open.id || known.open.hash !== open.hash))
        throw new SubrosaError('mismatch', 'the parties asked for different sessions under one number');
      if (!known && this.sessions.size >= this.limits.sessions)
        throw new SubrosaError('busy', `${this.limits.sessions} sessions are open at the dealer: try again later`);
      const session = known ?? { number: f.session, tag, asked: [false, false], open, lastStep: -1, done: -1, rows: new Map(), caches: new Map() };
      this.sessions.set(f.session, session);
      session.asked[party] = true;
      if (session.asked[1 - party]) this.seed(session);
    } catch (e) {
      const { code, message } = failure(e);
      this.links[party]?.send(frames.failed, f.session, tag, encode({ code, message: `dealer: ${message}` }));
    }
  }

  private seed(session: Session): void {
    const { id, hash } = session.open;
    const setting = { id, hash, spki: this.options.spki };
    const seeds = [newSeed(), newSeed()];
    session.keys = [sessionKey(seeds[0], 'mask 0', setting), sessionKey(seeds[1], 'mask 1', setting)];
    for (const [i, l] of this.links.entries()) l?.send(frames.seed, session.number, session.tag, seeds[i]);
    for (const s of seeds) s.fill(0);
  }

  /** Ends a session with a word to both parties. */
  private fail(session: Session, e: unknown): void {
    const { code, message } = failure(e);
    for (const l of this.links) l?.send(frames.failed, session.number, session.tag, encode({ code, message: `dealer: ${message}` }));
    this.end(session);
  }

  private end(session: Session): void {
    if (this.sessions.get(session.number) !== session) return;
    this.sessions.delete(session.number);
    for (const key of session.keys ?? []) key.fill(0);
    this.queue = this.queue.filter((w) => w.session !== session);
    const stream = this.streams.find((s) => s.session === session);
    if (stream) {
      stream.making.forget();
      this.leave(stream);
    }
    for (const c of session.caches.values()) c.letGo();
    this.later();
    this.settle();
  }

  private leave(stream: Stream): void {
    this.streams = this.streams.filter((s) => s !== stream);
    stream.lease.letGo();
  }

  /** Goes on with `drain`. What P1 has done may not be done at P0, so sessions end a while after. */
  private settle(): void {
    if (!this.draining || [...this.sessions.values()].some((s) => s.done < s.lastStep)) return;
    if (this.sessions.size === 0) return this.draining.resolve();
    this.ending ??= setTimeout(() => {
      this.ending = undefined;
      for (const s of [...this.sessions.values()]) if (s.done === s.lastStep) this.fail(s, drainingError('it'));
    }, afterStep);
  }

  /** Works on after the links had their turn. */
  private later(): void {
    if (this.scheduled) return;
    this.scheduled = true;
    setImmediate(() => {
      this.scheduled = false;
      this.work();
    });
  }

  private work(): void {
    while (this.begin());
    let made = 0;
    while (made < slice && !this.blocked) {
      const next = this.streams.find((s) => s.making.mayFollow! <= s.released && s.sending.includes(false));
      if (!next) return;
      try {
        made += this.deal(next);
      } catch (e) {
        this.fail(next.session, e);
      }
    }
    if (!this.blocked) this.later();
  }

  /** Makes and sends a stream's next block; the others have their turn before it has another. */
  private deal(stream: Stream): number {
    const { session, making, sending, lease } = stream;
    const slot = sending.indexOf(false);
    const block = making.next(slot)!;
    const { length } = block.bytes;
    if (this.streams.length > 1) this.streams = [...this.streams.filter((s) => s !== stream), stream];
    stream.bytes += length;
    sending[slot] = true;
    lease.hold();
    this.blocked = !this.links[1]!.send(frames.block, session.number, block.index, block.bytes, () => {
      sending[slot] = false;
      lease.letGo();
      this.later();
    });
    if (making.mayFollow === undefined) this.finish(stream);
    return length;
  }

  private finish(stream: Stream): void {
    const { session, params, bytes, at, profile } = stream;
    this.leave(stream);
    this.options.events?.stepDealt?.({ hash: session.open.hash, params, seconds: (performance.now() - at) / 1000, bytes, profile });
  }

  /** Begins the next step asked for, when there is a lane for it; one that cannot be prepared ends its session. */
  private begin(): boolean {
    const [next] = this.queue;
    if (!next) return false;
    const { session, step, params } = next;
    try {
      const lease = this.lanes.take(session.open.hash, params, session);
      if (!lease) return false;
      this.queue.shift();
      const profile = this.options.profile ? new Map<string, number>() : undefined;
      const making = new DealerStep(lease.prepared, step, session.keys!, profile, lease.moment);
      const stream: Stream = {
        ...next,
        making,
        lease,
        profile,
        sending: new Array<boolean>(dealerSlots).fill(false),
        released: 0,
        bytes: 0,
        at: performance.now(),
      };
      this.streams.push(stream);
      if (making.mayFollow === undefined) this.finish(stream);
    } catch (e) {
      this.fail(session, e);
    }
    return true;
  }
}
