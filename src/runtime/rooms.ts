/**
 * A model's working memory, shared out: steps run in rooms, prepared for their parameters, and sessions keep their caches in regions. No two
 * of either overlap.
 *
 * A room that is given back stays prepared for the next step of those parameters; when memory, or what may be kept, runs out, all rooms
 * nobody uses are given up. One in use is never moved.
 *
 * Regions of caches lie one below the other at the top, and leave the bottom to rooms: a session that is open for long cannot keep
 * everybody's steps from running.
 */
import type { Params } from '../program/program.ts';
import type { Ptr } from '../ring/kernels/kernels.ts';
import { cacheBytes } from './caches.ts';
import { stepBytes } from './footprint.ts';
import { MemoryFull, type Model, type Prepared, prepare } from './model.ts';

export interface Room {
  readonly key: string;
  readonly from: Ptr;
  readonly prepared: Prepared;
  taken: boolean;
}

/** Memory for the caches of one session, zeros at first. */
export interface Region {
  readonly from: Ptr;
  readonly to: Ptr;
}

export class Rooms {
  /** By address. */
  private rooms: Room[] = [];
  private largest = 0;
  /** By place, counted from the top of the memory. */
  private readonly regions: (Region | undefined)[] = [];

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
    const shaping = this.shaping(params);
    const key = JSON.stringify(shaping);
    const room = this.rooms.find((r) => r.key === key && !r.taken) ?? this.build(key, Object.fromEntries(shaping));
    if (room) room.taken = true;
    return room;
  }

  /** Prepares what a step of these parameters will take, where nothing like it is there, and has a place. */
  foresee(params: Params): void {
    const shaping = this.shaping(params);
    const key = JSON.stringify(shaping);
    if (this.regionBytes > 0) void this.places;
    if (!this.rooms.some((r) => r.key === key)) this.build(key, Object.fromEntries(shaping));
  }

  /** One plan serves all values of the parameters that no shape depends on. */
  private shaping(params: Params): [name: string, value: number][] {
    return Object.entries(params)
      .filter(([name]) => {
        const declared = this.model.program.params[name];
        return declared && declared.shapes !== false;
      })
      .sort();
  }

  giveBack(room: Room): void {
    room.taken = false;
  }

  /**
   * Zeros for a session's caches, until `wipe`. 'full': sessions have all that is theirs to have. 'later': a step stands where the next
   * region would be. Throws MemoryFull when there is no place for one.
   */
  takeCaches(): Region | 'full' | 'later' {
    const bytes = this.regionBytes;
    if (this.places === 0)
      throw new MemoryFull(`${this.model.program.name}: its memory has no place for the ${bytes} bytes of one session's caches`);
    let why: 'full' | 'later' = 'full';
    for (let place = 0; place < this.places; place++) {
      if (this.regions[place]) continue;
      const to = this.top - place * bytes;
      const region = { from: to - bytes, to };
      const clear = (r: Room): boolean => r.prepared.end <= region.from;
      why = 'later';
      if (!this.rooms.every((r) => clear(r) || !r.taken)) continue;
      this.rooms = this.rooms.filter(clear);
      this.regions[place] = region;
      this.model.k.u8.fill(0, region.from, region.to);
      return region;
    }
    return why;
  }

  /** Takes a session's caches back, and leaves nothing of them. */
  wipe(region: Region): void {
    this.model.k.u8.fill(0, region.from, region.to);
    this.regions[this.regions.indexOf(region)] = undefined;
  }

  private get top(): Ptr {
    return 64 * Math.floor(this.model.k.u8.length / 64);
  }
  private get regionBytes(): number {
    return 64 * Math.ceil(cacheBytes(this.model.program, this.model.role) / 64);
  }

  /** As many regions as leave half of the memory, and place for the largest step, to rooms; but one, if it fits at all. */
  private get places(): number {
    if (this.mostRegions === undefined) {
      const free = this.top - this.model.end;
      const reserve = Math.max(free / 2, stepBytes(this.model));
      this.mostRegions = Math.max(Math.floor((free - reserve) / this.regionBytes), free >= this.regionBytes ? 1 : 0);
    }
    return this.mostRegions;
  }
  private mostRegions?: number;

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
    const regions = this.regions.filter((r) => r !== undefined);
    let from = this.model.end;
    for (const used of [...this.rooms.map((r) => ({ from: r.from, to: r.prepared.end })), ...regions].sort((a, b) => a.from - b.from)) {
      gaps.push({ from, to: used.from });
      from = used.to;
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
