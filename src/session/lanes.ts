/**
 * Lanes: how many steps may be at work at once, and the memory each works in; and the memory that sessions keep between their steps.
 *
 * A lease keeps a model and a room of its memory from everyone else while anything may still be written there or sent from there: the step
 * itself, the rest of a frame whose session has ended meanwhile, blocks that wait for the wire.
 */
import { SubrosaError } from '../client/errors.ts';
import { type Params, sequencesOf } from '../program/program.ts';
import { cacheBytes, type Moment } from '../runtime/caches.ts';
import { MemoryFull, type Model, type Prepared } from '../runtime/model.ts';
import { type Region, type Room, Rooms } from '../runtime/rooms.ts';
import type { ModelStore } from './store.ts';

export class Lease {
  private holds = 1;

  /** `moment`: what of the step its plan does not say; undefined for programs without caches. */
  constructor(
    readonly prepared: Prepared,
    readonly moment: Moment | undefined,
    private readonly free: () => void,
  ) {}

  hold(): this {
    this.holds++;
    return this;
  }
  letGo(): void {
    if (--this.holds === 0) this.free();
  }
}

/** The memory of one of a session's sequences. Its model stays as long as it does. */
export interface Caches {
  readonly region: Region;
  /** Wipes it and gives it back, once. */
  letGo(): void;
}

/** A session, as far as memory goes: by slot. */
interface Keeper {
  readonly caches: Map<number, Caches>;
}

export class Lanes {
  private readonly rooms = new WeakMap<Model, Rooms>();
  private taken = 0;
  /** Somebody was refused for want of memory: nothing changes that before a lease ends. */
  private full = false;

  /** `onFree`: a lease has ended. */
  constructor(
    private readonly models: ModelStore,
    private readonly lanes: number,
    private readonly onFree: () => void,
  ) {}

  /**
   * A lane and memory for a step; and memory for what the session keeps, of each sequence with its first step. Undefined: all lanes are taken, or what it
   * needs is in use by others; ask again when a lease has ended. Throws SubrosaError when that would not help: 'busy' where other sessions
   * keep all there is.
   */
  take(hash: string, params: Params, session: Keeper): Lease | undefined {
    if (this.full || this.taken >= this.lanes) return undefined;
    const place = this.room(hash, params, session);
    if (!place) {
      this.full = true;
      return undefined;
    }
    const [rooms, room] = place;
    this.taken++;
    const caches = sequencesOf(params).flatMap(({ slot }) => session.caches.get(slot)?.region.from ?? []);
    const moment = caches.length > 0 ? { params, caches } : undefined;
    return new Lease(room.prepared, moment, () => {
      rooms.giveBack(room);
      this.models.release(hash);
      this.taken--;
      this.full = false;
      this.onFree();
    });
  }

  /** Prepares for a step that is on its way, while the other roles do: what cannot be had is said when it is taken. */
  foresee(hash: string, params: Params): void {
    if (this.taken > 0) return;
    try {
      const model = this.models.acquire(hash);
      try {
        this.of(model).foresee(params);
      } finally {
        this.models.release(hash);
      }
    } catch {}
  }

  private of(model: Model): Rooms {
    const rooms = this.rooms.get(model) ?? new Rooms(model);
    this.rooms.set(model, rooms);
    return rooms;
  }

  private room(hash: string, params: Params, session: Keeper): [Rooms, Room] | undefined {
    let model: Model;
    try {
      model = this.models.acquire(hash);
    } catch (e) {
      if (this.taken > 0 && e instanceof SubrosaError && e.code === 'out-of-memory') return undefined;
      throw e;
    }
    const caches = new Map<number, Caches>();
    const without = (): undefined => {
      for (const c of caches.values()) c.letGo();
      this.models.release(hash);
    };
    try {
      const rooms = this.of(model);
      // Before the room, which might lie where they belong.
      if (cacheBytes(model.program, model.role) > 0)
        for (const { slot } of sequencesOf(params)) {
          if (session.caches.has(slot)) continue;
          const made = this.caches(hash, rooms);
          if (!made) return without();
          caches.set(slot, made);
        }
      const room = rooms.take(params);
      if (!room) return without();
      for (const [slot, c] of caches) session.caches.set(slot, c);
      return [rooms, room];
    } catch (e) {
      without();
      throw e instanceof MemoryFull ? new SubrosaError('too-large', e.message) : e;
    }
  }

  private caches(hash: string, rooms: Rooms): Caches | undefined {
    const region = rooms.takeCaches();
    if (region === 'full')
      throw new SubrosaError('busy', 'other sessions keep all the memory there is for what they have read: try again later');
    if (region === 'later') return undefined;
    this.models.acquire(hash);
    return {
      region,
      letGo: () => {
        rooms.wipe(region);
        this.models.release(hash);
        this.full = false;
      },
    };
  }
}
