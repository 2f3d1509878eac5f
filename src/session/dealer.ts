/**
 * The dealer at work: seeds for a session when both parties asked for it, then a stream of corrections to party 1 for each step, ahead of
 * the run by a bounded window. It receives public parameters and counts, never data.
 */
import { SubrosaError } from '../client/errors.ts';
import type { Frame, Link } from '../net/link.ts';
import type { Params } from '../program/program.ts';
import { DealerStep } from '../runtime/dealer.ts';
import { dealerSlots, type Model, type Prepared, preparedFor } from '../runtime/model.ts';
import type { DealerEvents, Limits } from './events.ts';
import { newSeed, sessionKey } from './keys.ts';
import { decode, encode, frames, Open, Step } from './messages.ts';
import { type ModelStore, unknownModel } from './store.ts';

export interface DealerOptions {
  readonly models: ModelStore;
  readonly spki: readonly [string, string];
  readonly limits?: Partial<Limits>;
  readonly events?: DealerEvents;
  /** Whether reports of steps say what each kind of gate took. */
  readonly profile?: boolean;
}

interface Session {
  readonly asked: [boolean, boolean];
  readonly open: Open;
  keys?: [Uint8Array, Uint8Array];
  lastStep: number;
}

interface Stream {
  readonly session: number;
  readonly step: DealerStep;
  released: number;
}

/** Bytes made between two looks at the links. */
const slice = 1 << 18;

export class DealerHost {
  private readonly links: [Link?, Link?] = [undefined, undefined];
  private readonly sessions = new Map<number, Session>();
  private readonly queue: { session: number; step: number; params: Params }[] = [];
  private readonly prepared = new WeakMap<Model, Map<string, Prepared>>();
  private stream?: Stream;
  private scheduled = false;
  private blocked = false;
  /** Slots whose blocks are not yet on the wire. A slot of a stream that has ended stays taken until then, too. */
  private readonly sending = new Array<boolean>(dealerSlots).fill(false);

  constructor(private readonly options: DealerOptions) {}

  connect(party: 0 | 1, link: Link): void {
    this.links[party] = link;
    if (party === 1) this.blocked = false;
    link.onFrame = (f) => {
      try {
        this.from(party, f);
      } catch (e) {
        this.fail(f.session, e);
      }
    };
    link.onDrain = () => {
      this.blocked = false;
      this.later();
    };
    link.onClose = (error) => {
      if (this.links[party] !== link) return;
      this.links[party] = undefined;
      if (party === 1) this.blocked = false;
      for (const number of [...this.sessions.keys()]) {
        this.links[1 - party]?.send(frames.failed, number, 0, encode({ code: 'peer-failed', message: error?.message ?? `p${party} closed its link to the dealer` }));
        this.end(number);
      }
    };
  }

  private from(party: 0 | 1, f: Frame): void {
    if (f.type === frames.open) return this.open(party, f);
    const session = this.sessions.get(f.session);
    if (!session) return;
    if (f.type === frames.end || f.type === frames.failed) return this.end(f.session);
    if (party !== 1) throw new SubrosaError('bad-message', `p0 sent a frame of type ${f.type}`);
    if (f.type === frames.credit) {
      const s = this.stream;
      if (s?.session === f.session) {
        if (f.seq < s.released || f.seq > s.step.prepared.binding.blocks.length) throw new SubrosaError('bad-message', `p1 let go ${f.seq} blocks after ${s.released}`);
        s.released = f.seq;
      }
      this.later();
    } else if (f.type === frames.step) {
      const { step, params } = decode(Step, f.payload, 'p1');
      if (!session.keys || step <= session.lastStep) throw new SubrosaError('step-order', `step ${step} after step ${session.lastStep}: steps only go up`);
      session.lastStep = step;
      this.queue.push({ session: f.session, step, params });
      this.later();
    }
  }

  private open(party: 0 | 1, f: Frame): void {
    const open = decode(Open, f.payload, `p${party}`);
    if (!this.options.models.takes(open.hash)) throw unknownModel(open.hash);
    const session = this.sessions.get(f.session) ?? { asked: [false, false], open, lastStep: -1 };
    if (session.asked[party] || session.open.id !== open.id) throw new SubrosaError('mismatch', 'the parties asked for different sessions under one number');
    this.sessions.set(f.session, session);
    session.asked[party] = true;
    if (!session.asked[1 - party]) return;
    const setting = { id: open.id, hash: open.hash, spki: this.options.spki };
    const seeds = [newSeed(), newSeed()];
    session.keys = [sessionKey(seeds[0], 'mask 0', setting), sessionKey(seeds[1], 'mask 1', setting)];
    this.links.forEach((l, i) => {
      l?.send(frames.seed, f.session, 0, seeds[i]);
    });
    for (const s of seeds) s.fill(0);
  }

  /** Ends a session with a word to both parties. */
  private fail(number: number, e: unknown): void {
    const code = e instanceof SubrosaError ? e.code : 'internal';
    for (const l of this.links) l?.send(frames.failed, number, 0, encode({ code, message: `dealer: ${(e as Error).message}`.slice(0, 900) }));
    this.end(number);
  }

  private end(number: number): void {
    for (const key of this.sessions.get(number)?.keys ?? []) key.fill(0);
    this.sessions.delete(number);
    for (let i = this.queue.length - 1; i >= 0; i--) if (this.queue[i].session === number) this.queue.splice(i, 1);
    if (this.stream?.session === number) {
      this.stream.step.forget();
      this.stream = undefined;
    }
    this.later();
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
    let made = 0;
    while (made < slice && !this.blocked) {
      // A step may be given memory anew, where blocks of the last one still lie: they leave first.
      if (!this.stream && this.sending.includes(true)) return;
      this.stream ??= this.begin();
      const s = this.stream;
      if (!s) return;
      const after = s.step.mayFollow;
      if (after === undefined) {
        this.stream = undefined;
        continue;
      }
      if (after > s.released) return;
      const slot = this.sending.indexOf(false);
      if (slot < 0) return;
      try {
        made += this.deal(s, slot);
      } catch (e) {
        this.fail(s.session, e);
      }
    }
    if (!this.blocked) this.later();
  }

  private deal(s: Stream, slot: number): number {
    const block = s.step.next(slot)!;
    this.sending[slot] = true;
    this.blocked = !this.links[1]!.send(frames.block, s.session, block.index, block.bytes, () => {
      this.sending[slot] = false;
      this.later();
    });
    return block.bytes.length;
  }

  /** The next step asked for; a step that cannot be prepared ends its session, and the one after it has its turn. */
  private begin(): Stream | undefined {
    for (let next = this.queue.shift(); next; next = this.queue.shift()) {
      try {
        const { keys, open } = this.sessions.get(next.session)!;
        const model = this.options.models.acquire(open.hash);
        this.options.models.release(open.hash);
        let cache = this.prepared.get(model);
        if (!cache) this.prepared.set(model, (cache = new Map()));
        return { session: next.session, step: new DealerStep(preparedFor(model, cache, next.params), next.step, keys!, this.options.profile ? new Map() : undefined), released: 0 };
      } catch (e) {
        this.fail(next.session, e);
      }
    }
    return undefined;
  }
}
