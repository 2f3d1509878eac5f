/**
 * A model's working memory, shared out among steps: each runs in a room of its own, prepared for its parameters, and no two rooms overlap.
 *
 * A room that is given back stays prepared for the next step of those parameters; when memory, or what may be kept, runs out, all rooms
 * nobody uses are given up. One in use is never moved.
 */
import type { Params } from '../program/program.ts';
import type { Ptr } from '../ring/kernels/kernels.ts';
import { MemoryFull, type Model, type Prepared, prepare } from './model.ts';

export interface Room {
  readonly key: string;
  readonly from: Ptr;
  readonly prepared: Prepared;
  taken: boolean;
}

export class Rooms {
  /** By address. */
  private rooms: Room[] = [];
  private largest = 0;

  /** `keepBytes`: rooms in all, above which those nobody uses are given up when another is wanted. */
  constructor(
    private readonly model: Model,
    private readonly keepBytes = 2 ** 30,
  ) {}

  /**
   * A room for a step, until `giveBack`. Undefined: what it needs is in use. Throws MemoryFull when it would not fit even alone, ProgramError
   * when the program does not take the parameters.
   */
  take(params: Params): Room | undefined {
    const key = JSON.stringify(Object.entries(params).sort());
    const room = this.rooms.find((r) => r.key === key && !r.taken) ?? this.build(key, params);
    if (room) room.taken = true;
    return room;
  }

  giveBack(room: Room): void {
    room.taken = false;
  }

  private build(key: string, params: Params): Room | undefined {
    const bytes = this.rooms.reduce((sum, r) => sum + r.prepared.end - r.from, 0);
    if (bytes > this.keepBytes) this.rooms = this.rooms.filter((r) => r.taken);
    for (;;) {
      const room = this.fit(key, params);
      if (room) return room;
      if (this.rooms.every((r) => r.taken)) return undefined;
      this.rooms = this.rooms.filter((r) => r.taken);
    }
  }

  /** In the first gap that any room so far would fit into, else in whichever holds it. */
  private fit(key: string, params: Params): Room | undefined {
    const gaps: { from: Ptr; to: Ptr }[] = [];
    let from = this.model.end;
    for (const r of this.rooms) {
      gaps.push({ from, to: r.from });
      from = r.prepared.end;
    }
    gaps.push({ from, to: this.model.k.u8.length });
    const wide = (g: { from: Ptr; to: Ptr }): boolean => g.to - g.from >= this.largest;
    for (const gap of [...gaps.filter(wide), ...gaps.filter((g) => g.to > g.from && !wide(g))]) {
      try {
        const prepared = prepare(this.model, params, gap.from, gap.to);
        this.largest = Math.max(this.largest, prepared.end - gap.from);
        const room = { key, from: gap.from, prepared, taken: false };
        this.rooms = [...this.rooms, room].sort((a, b) => a.from - b.from);
        return room;
      } catch (e) {
        if (!(e instanceof MemoryFull) || this.rooms.length === 0) throw e;
      }
    }
    return undefined;
  }
}
