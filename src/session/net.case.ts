/**
 * A network within this process, for tests: two parties, a dealer, and links on which frames can be watched, lost, held back, delayed and
 * cut in two.
 */
import { expect } from 'vitest';
import { SubrosaError } from '../client/errors.ts';
import { manifestOf } from '../client/manifest.ts';
import { threeKernels } from '../gates/gate.case.ts';
import type { Frame, FrameSink, Link } from '../net/link.ts';
import { linkPair } from '../net/memory.ts';
import type { Program } from '../program/program.ts';
import type { Kernels } from '../ring/kernels/kernels.ts';
import { loadModel, type Role } from '../runtime/model.ts';
import { none, squares } from '../runtime/small.case.ts';
import { ClientSession } from './client.ts';
import { DealerHost } from './dealer.ts';
import type { HostEvents, Limits } from './events.ts';
import { PartyHost } from './party.ts';
import { type ModelStore, oneModel } from './store.ts';

export const hash = 'ab'.repeat(32);
const roles: readonly Role[] = ['p0', 'p1', 'dealer'];

const models = roles.map((role, i) => loadModel(squares, role, threeKernels()[i], none));

/**
 * Stores of several programs over one memory a role: one model is resident at a time, and loading another writes over it, so whatever a host
 * still does with a model it has released shows in its answers. `loads` counts.
 */
export function evicting(
  programs: Readonly<Record<string, Program>>,
  kernels: readonly Kernels[] = threeKernels(),
): { stores: ModelStore[]; loads: () => number } {
  let loads = 0;
  const stores = roles.map((role, i): ModelStore => {
    let resident: { hash: string; store: ModelStore; users: number } | undefined;
    return {
      takes: (h) => (programs[h] ? manifestOf(programs[h], h) : undefined),
      acquire(h) {
        if (resident?.hash !== h) {
          if (resident && resident.users > 0) throw new SubrosaError('out-of-memory', 'another model is in use');
          loads++;
          kernels[i].u8.fill(0xee, 65536, 65536 + (1 << 22));
          resident = { hash: h, store: oneModel(h, loadModel(programs[h], role, kernels[i], none)), users: 0 };
        }
        resident.users++;
        return resident.store.acquire(h);
      },
      release(h) {
        if (resident?.hash !== h || resident.users === 0) throw new Error(`released ${h}, which is not in use`);
        resident.users--;
      },
    };
  });
  return { stores, loads: () => loads };
}

export interface Seen {
  readonly from: string;
  readonly to: string;
  readonly frame: Frame;
}

export interface NetOptions {
  readonly limits?: Partial<Limits>;
  /** By role: P0, P1, dealer. */
  readonly stores?: readonly ModelStore[];
  readonly events?: HostEvents;
  /** Turns of the event loop that a frame between the roles takes, drawn anew for each half of it. */
  readonly delay?: () => number;
}

export class Net {
  readonly seen: Seen[] = [];
  readonly dealer: DealerHost;
  readonly parties: readonly PartyHost[];
  /** As p0, p1 hold them. */
  between!: readonly [Link, Link];
  readonly toDealer: Link[] = [];
  readonly ofDealer: Link[] = [];
  /** Frames that do not arrive. */
  lost: (s: Seen) => boolean = () => false;
  /** Frames that arrive when they are let go, and after them what comes for their sessions on the same way. */
  held: (s: Seen) => boolean = () => false;
  private kept: { way: string; arrive: () => void }[] = [];

  constructor(private readonly options: NetOptions = {}) {
    const { limits, events, stores = models.map((m) => oneModel(hash, m)) } = options;
    const spki = ['s0', 's1'] as const;
    this.dealer = new DealerHost({ models: stores[2], spki, limits });
    // P0's events alone: those of P1 would be the same.
    this.parties = ([0, 1] as const).map(
      (index) => new PartyHost({ index, models: stores[index], spki, limits, events: index === 0 ? events : undefined }),
    );
    this.joinParties();
    for (const i of [0, 1] as const) this.joinDealer(i);
  }

  /** Connects the parties, anew perhaps. */
  joinParties(): void {
    this.between = linkPair('p0', 'p1');
    this.parties.forEach((party, i) => {
      party.connectPeer(this.between[i]);
      this.listen(this.between[i], `p${1 - i}`, `p${i}`);
    });
  }
  joinDealer(i: 0 | 1): void {
    [this.toDealer[i], this.ofDealer[i]] = linkPair(`p${i}`, 'dealer');
    this.parties[i].connectDealer(this.toDealer[i]);
    if (this.options.delay) sentLate(this.ofDealer[i], this.options.delay);
    this.dealer.connect(i, this.ofDealer[i]);
    this.listen(this.toDealer[i], 'dealer', `p${i}`);
    this.listen(this.ofDealer[i], `p${i}`, 'dealer');
  }
  letGo(): void {
    this.held = () => false;
    for (const { arrive } of this.kept.splice(0)) arrive();
  }

  private listen(link: Link, from: string, to: string): void {
    const { onFrame, frameSink, onClose } = link;
    const slow = this.options.delay ? slowed(onFrame, frameSink, this.options.delay) : undefined;
    if (slow) {
      link.frameSink = undefined;
      link.onClose = (e) => {
        slow.close();
        onClose(e);
      };
    }
    link.onFrame = (frame) => {
      const copy = (): Frame => ({ ...frame, payload: frame.payload.slice() });
      const s = { from, to, frame: copy() };
      if (this.lost(s)) return;
      const way = `${from} ${to} ${frame.session}`;
      const stays = this.held(s) || this.kept.some((k) => k.way === way);
      // A frame is its owner's during the call only.
      const own = stays || slow ? copy() : frame;
      const arrive = (): void => {
        this.seen.push(s);
        (slow?.frame ?? onFrame)(own);
      };
      if (stays) this.kept.push({ way, arrive });
      else arrive();
    };
  }

  client(name = 'client'): [Link, Link] {
    return [0, 1].map((i) => {
      const [mine, theirs] = linkPair(name, `p${i}`);
      this.parties[i].connectClient(theirs);
      return mine;
    }) as [Link, Link];
  }
  session(links = this.client(), program = squares, of = hash): Promise<ClientSession> {
    return ClientSession.open(links, program, of);
  }
  of(type: number, to?: string): Frame[] {
    return this.seen.filter((s) => s.frame.type === type && (to === undefined || s.to === to)).map((s) => s.frame);
  }
}

/** What is sent leaves some turns later, from where it lies when it may: as long payloads do on a stream. */
function sentLate(link: Link, delay: () => number): void {
  const { send } = link;
  let last = Promise.resolve();
  link.send = (type, session, seq, payload, released) => {
    const bytes = released ? payload : (payload as Uint8Array).slice();
    last = last.then(async () => {
      for (let i = delay(); i > 0; i--) await new Promise((resolve) => setImmediate(resolve));
      send.call(link, type, session, seq, bytes, released);
    });
    return true;
  };
}

/** Frames in order, each after some turns, its payload written in two halves with turns between, as streams do. */
function slowed(onFrame: Link['onFrame'], sink: FrameSink | undefined, delay: () => number): { frame(f: Frame): void; close(): void } {
  const waiting: Frame[] = [];
  let busy = false;
  let closed = false;
  const turns = async (): Promise<void> => {
    for (let i = delay(); i > 0; i--) await new Promise((resolve) => setImmediate(resolve));
  };
  const pump = async (): Promise<void> => {
    busy = true;
    for (let f = waiting.shift(); f && !closed; f = waiting.shift()) {
      await turns();
      if (closed) return;
      const place = f.payload.length > 0 ? sink?.(f.type, f.session, f.seq, f.payload.length) : null;
      if (place) {
        const half = f.payload.length >> 1;
        place.set(f.payload.subarray(0, half));
        await turns();
        if (closed) return;
        place.set(f.payload.subarray(half), half);
        f.payload = place;
      }
      onFrame(f);
    }
    busy = false;
  };
  return {
    frame(f) {
      waiting.push(f);
      if (!busy) void pump();
    },
    close() {
      closed = true;
    },
  };
}

export const x = (n: number, v = 1.5, width = 4) => ({ x: { shape: [n, width], data: new Array<number>(width * n).fill(v) } });
export const settle = (ms = 20): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Asks for squares and holds the answer against what it should be. */
export async function ask(s: ClientSession, n = 2, v = 1.5): Promise<void> {
  const { y } = await s.run(x(n, v));
  expect(y.shape).toEqual([n, 4]);
  expect(Math.max(...y.data.map((got) => Math.abs(got - v * v - v)))).toBeLessThan(2 ** -9);
}

/** Asks for `powers(times, width)`. */
export async function askPower(s: ClientSession, times: number, n = 2, v = 0.9, width = 3): Promise<void> {
  const { y } = await s.run(x(n, v, width));
  expect(y.shape).toEqual([n, width]);
  const want = v ** (2 ** times);
  expect(y.data.reduce((worst, got) => Math.max(worst, Math.abs(got - want)), 0)).toBeLessThan(2 ** -6);
}
