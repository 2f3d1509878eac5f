/**
 * A party at work: sessions of clients, some steps at once, over links to the other party, the dealer and the clients.
 *
 * It enforces single use by itself: steps of a session only go up, seeds live in memory only and are forgotten with the session, and a lost
 * link ends every session that leaned on it.
 *
 * Both parties must run the same steps. P1 says which inputs it has, P0 chooses among those that both have and says go; P1 and the dealer
 * begin steps in that order, so the one that began first never waits for one that began later. A client that sends to one party only, or
 * other things to each, keeps nobody waiting but itself, and that for a bounded time.
 *
 * What others can make a party keep is bounded: an input a session, of the size its parameters say; sessions and inputs by `Limits`; an early
 * opening a session; an early zero seed for as many sessions as P0 has announced, `mostZeros` at most.
 */
import { type ErrorCode, SubrosaError } from '../client/errors.ts';
import type { Frame, Link } from '../net/link.ts';
import { PartyStep } from '../runtime/party.ts';
import { afterStep, Drain, drainingError } from './drain.ts';
import { defaultLimits, type HostEvents, type HostLoad, type Limits } from './events.ts';
import { newSeed, sessionKey } from './keys.ts';
import { Lanes, type Lease } from './lanes.ts';
import { decode, decodeInput, encode, failure, frames, lossOf, Open, type Progress, relayed, tagOf } from './messages.ts';
import { FairQueue } from './queue.ts';
import { Run } from './run.ts';
import {
  digestOf,
  type Input,
  inputBytes,
  keepRows,
  lookEvery,
  overdue,
  placeInputs,
  type Session,
  Sessions,
  type Work,
} from './sessions.ts';
import { type ModelStore, unknownModel } from './store.ts';

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

const mostZeros = 4096;
/** Milliseconds between two words to a client on how far its step is. */
const tellEvery = 100;
const nothing = new Uint8Array(0);
const roles = ['peer', 'dealer'] as const;

export class PartyHost {
  /** Openings sent. */
  rounds = 0;
  private readonly limits: Limits;
  private readonly lanes: Lanes;
  private readonly sessions = new Sessions();
  private readonly queue = new FairQueue<Input>();
  /** P1: inputs P0 has said go for, in that order. */
  private going: Input[] = [];
  private readonly working = new Set<Work>();
  private readonly earlyZeros = new Map<number, { readonly tag: number; readonly seed: Uint8Array }>();
  private readonly links: { peer?: Link; dealer?: Link } = {};
  private starting = false;
  private clock?: NodeJS.Timeout;
  private settling = false;
  private draining?: Drain;

  constructor(private readonly options: PartyOptions) {
    this.limits = { ...defaultLimits, ...options.limits };
    this.lanes = new Lanes(options.models, this.limits.lanes, () => this.start());
  }

  /** A link to the other party. One that is there already is closed, and its sessions end. */
  connectPeer(link: Link): void {
    this.connect('peer', link, (run, type, seq, length) => (type === frames.opening ? run.openingPlace(seq, length) : null));
  }

  /** A link to the dealer. One that is there already is closed, and its sessions end. */
  connectDealer(link: Link): void {
    this.connect('dealer', link, (run, type, seq) => (type === frames.block ? run.blockPlace(seq) : null));
  }

  /** A client's link: its sessions end with it. `link.peer` is the client's name, by which limits and turns go. */
  connectClient(link: Link): void {
    link.onFrame = (f) => this.guard(f, link, () => this.fromClient(link, f));
    link.onClose = () => {
      for (const s of this.sessions.all()) if (s.client === link) this.end(s, undefined, this.links.peer, this.links.dealer);
      this.watch();
    };
  }

  load(): HostLoad {
    const connected = roles.flatMap((role) => this.links[role]?.peer ?? []);
    return { sessions: this.sessions.size, queued: this.queue.size, running: this.working.size, connected };
  }

  /** From now on no session is opened and no input taken. Resolves when the steps that wait or run are done, and sessions have ended. */
  drain(): Promise<void> {
    this.draining ??= new Drain();
    this.settle();
    return this.draining.done;
  }

  private connect(
    role: 'peer' | 'dealer',
    link: Link,
    placeOf: (run: Run, type: number, seq: number, length: number) => Uint8Array | null,
  ): void {
    const old = this.links[role];
    if (old) {
      this.lost(role, old, new SubrosaError('peer-failed', `${old.peer} connected anew`));
      old.close();
    }
    this.links[role] = link;
    // Memory that the link is writing the rest of a frame to.
    let landing: Lease | undefined;
    const landed = (): void => {
      const lease = landing;
      landing = undefined;
      lease?.letGo();
    };
    link.frameSink = (type, number, seq, length) => {
      landed();
      const work = this.sessions.get(number)?.work;
      const place = work ? placeOf(work.run, type, seq, length) : null;
      if (place) landing = work!.lease.hold();
      return place;
    };
    link.onFrame = (f) => {
      landed();
      if (link === this.links[role]) this.guard(f, link, () => (role === 'peer' ? this.fromPeer(f) : this.fromDealer(f)));
    };
    link.onClose = (error) => {
      landed();
      this.lost(role, link, error);
    };
  }

  private fromClient(link: Link, f: Frame): void {
    const session = this.sessions.get(f.session);
    if (f.type === frames.open) return this.open(link, f, session);
    if (f.type === frames.end || f.type === frames.failed) {
      // A session that has ended here already may be ended again.
      if (session?.client === link) this.end(session, undefined, this.links.peer, this.links.dealer);
      return;
    }
    if (!session || session.client !== link) throw new SubrosaError('ended', 'no such session: open a new one');
    if (f.type !== frames.input || !session.ready)
      throw new SubrosaError('bad-message', 'the client sent what is no input, or sent it before the session was ready');
    const { step, params, bytes } = decodeInput(f.payload, 'the client');
    if (step <= session.lastStep) throw new SubrosaError('step-order', `step ${step} after step ${session.lastStep}: steps only go up`);
    if (session.input || session.work) throw new SubrosaError('bad-message', 'a session runs one input at a time');
    const { id, hash } = session.setting;
    const takes = this.options.models.takes(hash);
    if (!takes) throw unknownModel(hash);
    const total = inputBytes(takes, params)[this.options.index];
    if (bytes.length !== total)
      throw new SubrosaError('bad-message', `the client's share has ${bytes.length} bytes; ${total} are expected`);
    if (this.draining) throw drainingError('this party');
    const { queue, queuePerClient } = this.limits;
    if (this.queue.size >= queue || this.queue.waiting(link.peer) >= queuePerClient)
      throw new SubrosaError('busy', `${this.queue.size} inputs wait here: try again later, in a new session`);
    keepRows(takes, params, session.rows);
    this.options.events?.received?.(id, 'client', bytes);
    const digest = digestOf(step, params);
    session.lastStep = step;
    session.since = performance.now();
    session.input = { client: link.peer, session, step, params, bytes: bytes.slice(), digest, at: session.since, go: false };
    this.queue.push(session.input);
    if (this.options.index === 1) this.links.peer!.send(frames.have, session.number, step, digest);
    // Both parties plan at once: P0 is about to begin, and P1 would only when it is told.
    this.lanes.foresee(session.setting.hash, params);
    if (!this.start()) this.tellPlaces(session);
  }

  private open(link: Link, f: Frame, known: Session | undefined): void {
    const { id, hash, progress } = decode(Open, f.payload, 'the client');
    if (!this.options.models.takes(hash)) throw unknownModel(hash);
    if (known) throw new SubrosaError('bad-message', 'a session of this number is open: choose another');
    if (this.draining) throw drainingError('this party');
    this.sessions.room(link.peer, this.limits);
    const { peer, dealer } = this.links;
    if (!peer || !dealer)
      throw new SubrosaError('not-ready', `${peer ? 'the dealer' : 'the other party'} is not connected: try again soon`);
    const setting = { id, hash, spki: this.options.spki };
    const session: Session = {
      number: f.session,
      tag: tagOf(id),
      setting,
      client: link,
      ready: false,
      lastStep: -1,
      rows: new Map(),
      caches: new Map(),
      since: performance.now(),
      told: progress ? 0 : undefined,
    };
    this.sessions.add(session);
    this.clock ??= setInterval(() => this.sweep(), lookEvery(this.limits)).unref();
    this.options.events?.sessionOpened?.(link.peer, hash);
    dealer.send(frames.open, f.session, 0, encode({ id, hash }));
    if (this.options.index === 0) {
      const seed = newSeed();
      session.zero = sessionKey(seed, 'zero', setting);
      peer.send(frames.zero, f.session, session.tag, seed);
      seed.fill(0);
    } else this.takeZero(session);
  }

  private fromDealer(f: Frame): void {
    const session = this.sessions.get(f.session);
    if (!session) return;
    if (f.type === frames.block) {
      // The rest of a stream that has been ended may still be on its way.
      if (!session.work) return;
      session.work.run.block(f.seq, f.payload);
      this.options.events?.received?.(session.setting.id, 'dealer', f.payload);
      return this.drive(session.work);
    }
    if (f.seq !== session.tag) return;
    if (f.type === frames.seed) {
      if (session.seed || f.payload.length !== 32)
        throw new SubrosaError('bad-message', 'the dealer sent a second seed, or one of another size');
      session.seed = sessionKey(f.payload, this.options.index === 0 ? 'mask 0' : 'mask 1', session.setting);
      f.payload.fill(0);
      this.answer(session);
    } else if (f.type === frames.failed) {
      const { code, message } = relayed(f.payload, 'the dealer');
      this.fail(session, code, message, this.links.peer);
    } else if (f.type === frames.end) this.fail(session, 'ended', 'the dealer ended the session', this.links.peer);
    else throw new SubrosaError('bad-message', `the dealer sent a frame of type ${f.type}`);
  }

  private fromPeer(f: Frame): void {
    const session = this.sessions.get(f.session);
    const same = session?.tag === f.seq;
    if (f.type === frames.zero && this.options.index === 1) {
      if ((same && session.zero) || f.payload.length !== 32)
        throw new SubrosaError('bad-message', 'p0 sent a second zero seed, or one of another size');
      this.earlyZeros.set(f.session, { tag: f.seq, seed: f.payload.slice() });
      if (this.earlyZeros.size > mostZeros) this.earlyZeros.delete(this.earlyZeros.keys().next().value as number);
      if (same) this.takeZero(session);
    } else if (f.type === frames.failed || f.type === frames.end) {
      if (this.earlyZeros.get(f.session)?.tag === f.seq) this.earlyZeros.delete(f.session);
      if (!same) return;
      const { code, message } =
        f.type === frames.failed
          ? relayed(f.payload, 'the other party')
          : { code: 'ended' as const, message: 'the session was ended at the other party' };
      this.fail(session, code, message, this.links.dealer);
    } else if (!session) return;
    else if (f.type === frames.opening) this.opened(session, f);
    else if (f.type === frames.have && this.options.index === 0) {
      if (f.payload.length !== 32) throw new SubrosaError('bad-message', 'p1 said what it has in a message of another size');
      session.peerHas = { step: f.seq, digest: f.payload.slice() };
      if (!session.input) session.since = performance.now();
      this.start();
    } else if (f.type === frames.go && this.options.index === 1) {
      if (session.input?.step !== f.seq || session.input.go)
        throw new SubrosaError('bad-message', `p0 said go for step ${f.seq}, which is not here`);
      session.input.go = true;
      this.going.push(session.input);
      this.start();
    } else throw new SubrosaError('bad-message', `the other party sent a frame of type ${f.type}`);
  }

  private opened(session: Session, f: Frame): void {
    const { work, input } = session;
    this.options.events?.received?.(session.setting.id, 'peer', f.payload);
    if (work) {
      work.run.opening(f.seq, f.payload);
      return this.drive(work);
    }
    if (!input?.go || input.early || f.seq !== 0)
      throw new SubrosaError('bad-message', `the other party sent the opening of round ${f.seq} out of turn`);
    input.early = f.payload.slice();
  }

  private takeZero(session: Session): void {
    const early = this.earlyZeros.get(session.number);
    if (early?.tag !== session.tag) return;
    this.earlyZeros.delete(session.number);
    session.zero = sessionKey(early.seed, 'zero', session.setting);
    early.seed.fill(0);
    this.answer(session);
  }

  private answer(session: Session): void {
    if (!session.seed || !session.zero || session.ready) return;
    session.ready = true;
    session.since = performance.now();
    this.sessions.opening.delete(session);
    session.client.send(frames.ready, session.number, 0, encode({ id: session.setting.id, hash: session.setting.hash }));
  }

  /** Begins the steps whose turn it is, as many as there are lanes. Answers whether any began. */
  private start(): boolean {
    if (this.starting) return false;
    this.starting = true;
    let began = false;
    while (this.startNext()) began = true;
    this.starting = false;
    if (began) this.tellPlaces();
    this.watch();
    return began;
  }

  private startNext(): boolean {
    const { peer, dealer } = this.links;
    const next = this.options.index === 0 ? this.queue.next((w) => w.session.peerHas?.step === w.step) : this.going[0];
    if (!next || !peer || !dealer) return false;
    const { session, step, params, bytes } = next;
    try {
      if (this.options.index === 0 && !next.digest.equals(session.peerHas!.digest))
        throw new SubrosaError('bad-message', 'the client sent the parties different parameters');
      const lease = this.lanes.take(session.setting.hash, params, session);
      if (!lease) return false;
      this.queue.remove(next, true);
      if (this.options.index === 1) this.going.shift();
      session.input = undefined;
      const profile = this.options.profile ? new Map<string, number>() : undefined;
      const keys = { mask: session.seed!, zero: session.zero! };
      const run = new PartyStep(lease.prepared, this.options.index, step, keys, profile, lease.moment);
      const work: Work = {
        input: next,
        step: run,
        lease,
        profile,
        at: performance.now(),
        run: new Run(this.options.index, session.number, run, peer, dealer, next.early, (round, n) => this.turned(work, round, n)),
      };
      session.work = work;
      this.working.add(work);
      placeInputs(run, bytes, session.setting.id);
      bytes.fill(0);
      if (this.options.index === 0) peer.send(frames.go, session.number, step, nothing);
      else dealer.send(frames.step, session.number, 0, encode({ step, params }));
      this.drive(work);
    } catch (e) {
      this.failed(session, e);
    }
    return true;
  }

  private drive(work: Work): void {
    if (work.run.advance()) this.finish(work);
  }

  private turned({ input: { session }, run }: Work, round: number, bytes: number): void {
    this.options.events?.round?.(session.setting.id, round, bytes);
    this.tell(session, { round, rounds: run.rounds });
  }

  private finish(work: Work): void {
    const { input, step, run, profile } = work;
    const { session, params } = input;
    const { binding, model } = step.prepared;
    binding.program.outputs.forEach((o, i) => {
      const out = step.output(o.name);
      session.client.send(frames.output, session.number, i, model.k.u8.subarray(out.at, out.at + 4 * out.size));
    });
    if (this.options.index === 1) this.links.dealer!.send(frames.done, session.number, input.step, nothing);
    this.leave(work);
    session.since = performance.now();
    const [queuedSeconds, seconds] = [(work.at - input.at) / 1000, (session.since - work.at) / 1000];
    const { sentBytes, receivedBytes, rounds } = run;
    this.options.events?.stepDone?.({
      client: input.client,
      hash: session.setting.hash,
      params,
      queuedSeconds,
      seconds,
      rounds,
      sentBytes,
      receivedBytes,
      profile,
    });
    this.settle();
  }

  /** Gives back a step's lane. */
  private leave(work: Work): void {
    work.input.session.work = undefined;
    this.working.delete(work);
    this.rounds += work.run.openings;
    work.lease.letGo();
  }

  /** Forgets a session: keys, inputs, the step it may be running. `tell`: who else must. */
  private end(session: Session, code?: ErrorCode, ...tell: (Link | undefined)[]): void {
    const { number, client, setting, input, work } = session;
    if (!this.sessions.remove(session)) return;
    if (this.sessions.size === 0) {
      clearInterval(this.clock);
      this.clock = undefined;
    }
    if (input) {
      // A step that is still queued must not run under erased keys.
      input.bytes.fill(0);
      this.queue.remove(input);
      this.going = this.going.filter((w) => w !== input);
    }
    session.seed?.fill(0);
    session.zero?.fill(0);
    for (const link of tell) link?.send(frames.end, number, session.tag, nothing);
    if (work) {
      work.run.forget();
      this.leave(work);
    }
    for (const c of session.caches.values()) c.letGo();
    this.options.events?.sessionEnded?.(client.peer, setting.hash, code);
    this.start();
    this.settle();
  }

  /** Ends a session with a word to its client, and to those given. */
  private fail(session: Session, code: ErrorCode, message: string, ...tell: (Link | undefined)[]): void {
    const word = encode({ code, message });
    session.client.send(frames.failed, session.number, 0, word);
    for (const link of tell) link?.send(frames.failed, session.number, session.tag, word);
    this.end(session, code);
  }

  private failed(session: Session, e: unknown): void {
    const { code, message } = failure(e);
    this.fail(session, code, message, this.links.peer, this.links.dealer);
  }

  private lost(role: 'peer' | 'dealer', link: Link, error?: Error): void {
    if (link !== this.links[role]) return;
    this.links[role] = undefined;
    const other = role === 'peer' ? this.links.dealer : this.links.peer;
    const { code, message } = lossOf(link, error);
    for (const s of this.sessions.all()) this.fail(s, code, message, other);
    if (role === 'peer') this.earlyZeros.clear();
    this.watch();
  }

  /** Ends what has waited for too long. */
  private sweep(): void {
    const now = performance.now();
    for (const s of this.sessions.all()) {
      const late = overdue(s, this.options.index === 0, now, this.limits);
      if (late) this.failed(s, late);
    }
    this.settle();
    this.watch();
  }

  /** Tells the clients that asked for it how many steps are before theirs. */
  private tellPlaces(only?: Session): void {
    let place = 0;
    for (const { session } of this.queue.inOrder()) {
      if (!only || only === session) this.tell(session, { queued: place });
      place++;
    }
  }

  private tell(session: Session, progress: Progress): void {
    if (session.told === undefined) return;
    const now = performance.now();
    if (now - session.told < tellEvery) return;
    session.told = now;
    session.client.send(frames.progress, session.number, session.lastStep, encode(progress));
  }

  /** Goes on with `drain`. A session whose step has just ended here may not have ended at the other party: its client is given time to go. */
  private settle(): void {
    if (!this.draining || this.settling || this.working.size > 0 || this.queue.size > 0) return;
    this.settling = true;
    const now = performance.now();
    for (const s of this.sessions.all()) if (now - s.since >= afterStep) this.failed(s, drainingError('this party'));
    this.settling = false;
    if (this.sessions.size === 0) this.draining.resolve();
  }

  /** Silence counts only where something is due: from the peer while a step waits or runs, from the dealer for seeds and corrections. */
  private watch(): void {
    let peer = this.working.size > 0 || this.queue.size > 0;
    let dealer = false;
    for (const { run } of this.working) dealer ||= run.starved;
    for (const { zero, seed } of this.sessions.opening) {
      peer ||= !zero;
      dealer ||= !seed;
    }
    this.links.peer?.awaiting(peer);
    this.links.dealer?.awaiting(dealer);
  }

  /** Runs a handler; what it throws ends the session with a message to all, and nothing else. A client ends sessions of its own only. */
  private guard(f: Frame, link: Link, run: () => void): void {
    try {
      run();
    } catch (e) {
      const session = this.sessions.get(f.session);
      const role = link === this.links.peer || link === this.links.dealer;
      if (session && (role || link === session.client)) this.failed(session, role ? blamed(e) : e);
      else link.send(frames.failed, f.session, role ? f.seq : 0, encode(failure(e)));
    }
    this.watch();
  }
}

/** What another role should not have said is no fault of the client's: a new session may succeed. */
function blamed(e: unknown): unknown {
  return e instanceof SubrosaError && e.code === 'bad-message' ? new SubrosaError('peer-failed', e.message) : e;
}
