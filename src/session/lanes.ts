/**
 * Lanes: how many steps may be at work at once, and the memory each works in; and the memory that sessions keep between their steps.
 *
 * A lease keeps a model and a room of its memory from everyone else while anything may still be written there or sent from there: the step
 * itself, the rest of a frame whose session has ended meanwhile, blocks that wait for the wire.
 */
import { SubrosaError } from '../client/errors.ts';
import type { Params } from '../program/program.ts';
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

/** A session's memory. Its model stays as long as it does. */
export interface Caches {
  readonly region: Region;
  /** Wipes it and gives it back, once. */
  letGo(): void;
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
   * A lane and memory for a step; and, with its first step, memory for what the session keeps. Undefined: all lanes are taken, or what it
   * needs is in use by others; ask again when a lease has ended. Throws SubrosaError when that would not help: 'busy' where other sessions
   * keep all there is.
   */
  take(hash: string, params: Params, session: { caches?: Caches }): Lease | undefined {
    if (this.full || this.taken >= this.lanes) return undefined;
    const place = this.room(hash, params, session);
    if (!place) {
      this.full = true;
      return undefined;
    }
    const [rooms, room] = place;
    this.taken++;
    const moment = session.caches && { params, caches: session.caches.region.from };
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

  private room(hash: string, params: Params, session: { caches?: Caches }): [Rooms, Room] | undefined {
    let model: Model;
    try {
      model = this.models.acquire(hash);
    } catch (e) {
      if (this.taken > 0 && e instanceof SubrosaError && e.code === 'out-of-memory') return undefined;
      throw e;
    }
    let caches: Caches | undefined;
    try {
      const rooms = this.of(model);
      if (!session.caches && cacheBytes(model.program, model.role) > 0) {
        // Before the room, which might lie where it belongs.
        caches = this.caches(hash, rooms);
        if (!caches) return this.without(hash);
      }
      const room = rooms.take(params);
      if (room) {
        session.caches ??= caches;
        return [rooms, room];
      }
    } catch (e) {
      caches?.letGo();
      this.models.release(hash);
      throw e instanceof MemoryFull ? new SubrosaError('too-large', e.message) : e;
    }
    caches?.letGo();
    return this.without(hash);
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

  private without(hash: string): undefined {
    this.models.release(hash);
    return undefined;
  }
}
