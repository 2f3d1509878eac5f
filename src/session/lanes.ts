/**
 * Lanes: how many steps may be at work at once, and the memory each works in.
 *
 * A lease keeps a model and a room of its memory from everyone else while anything may still be written there or sent from there: the step
 * itself, the rest of a frame whose session has ended meanwhile, blocks that wait for the wire.
 */
import { SubrosaError } from '../client/errors.ts';
import type { Params } from '../program/program.ts';
import { MemoryFull, type Model, type Prepared } from '../runtime/model.ts';
import { type Room, Rooms } from '../runtime/rooms.ts';
import type { ModelStore } from './store.ts';

export class Lease {
  private holds = 1;

  constructor(
    readonly prepared: Prepared,
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
   * A lane and memory for a step. Undefined: all lanes are taken, or what it needs is in use by others; ask again when a lease has ended.
   * Throws SubrosaError when that would not help.
   */
  take(hash: string, params: Params): Lease | undefined {
    if (this.full || this.taken >= this.lanes) return undefined;
    const place = this.room(hash, params);
    if (!place) {
      this.full = true;
      return undefined;
    }
    const [rooms, room] = place;
    this.taken++;
    return new Lease(room.prepared, () => {
      rooms.giveBack(room);
      this.models.release(hash);
      this.taken--;
      this.full = false;
      this.onFree();
    });
  }

  private room(hash: string, params: Params): [Rooms, Room] | undefined {
    let model: Model;
    try {
      model = this.models.acquire(hash);
    } catch (e) {
      if (this.taken > 0 && e instanceof SubrosaError && e.code === 'out-of-memory') return undefined;
      throw e;
    }
    try {
      const rooms = this.rooms.get(model) ?? new Rooms(model);
      this.rooms.set(model, rooms);
      const room = rooms.take(params);
      if (room) return [rooms, room];
    } catch (e) {
      this.models.release(hash);
      throw e instanceof MemoryFull ? new SubrosaError('too-large', e.message) : e;
    }
    this.models.release(hash);
    return undefined;
  }
}
