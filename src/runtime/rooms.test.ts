import { expect, test } from 'vitest';
import { threeKernels } from '../gates/gate.case.ts';
import type { Kernels } from '../ring/kernels/kernels.ts';
import { cacheBytes } from './caches.ts';
import { loadModel, MemoryFull, prepare } from './model.ts';
import { type Region, type Room, Rooms } from './rooms.ts';
import { none, powers, remembers } from './small.case.ts';

/** A memory in which `fits` rooms of the longest length have place. */
function modelWith(fits: number) {
  const [k] = threeKernels();
  const program = powers(2, 4096);
  const { end } = loadModel(program, 'p0', k, none);
  const room = prepare(loadModel(program, 'p0', k, none), { n: 16 }).end - end;
  const small = Object.assign(Object.create(k) as Kernels, { u8: k.u8.subarray(0, end + Math.floor(fits * room)) });
  return { model: loadModel(program, 'p0', small, none), room };
}
const apart = (rooms: readonly Room[]): boolean =>
  rooms.every((a) => rooms.every((b) => a === b || a.prepared.end <= b.from || b.prepared.end <= a.from));

test('rooms in use never overlap, whatever is taken and given back; a free one is used again', () => {
  const { model } = modelWith(3.5);
  const rooms = new Rooms(model);
  const taken: Room[] = [];
  let seed = 1;
  const random = (n: number): number => {
    seed = (seed * 48271) % 2147483647;
    return seed % n;
  };
  let refused = 0;
  for (let i = 0; i < 120; i++) {
    if (taken.length > 0 && random(5) < 2) rooms.giveBack(taken.splice(random(taken.length), 1)[0]);
    const room = rooms.take({ n: 1 + random(16) });
    if (room) taken.push(room);
    else refused++;
    expect(apart(taken)).toBe(true);
    for (const { prepared, from } of taken) expect(from >= model.end && prepared.end <= model.k.u8.length).toBe(true);
  }
  expect(refused).toBeGreaterThan(5);
  expect(taken.length).toBeGreaterThan(2);
  for (const room of taken) rooms.giveBack(room);
  const again = rooms.take({ n: 16 })!;
  rooms.giveBack(again);
  expect(rooms.take({ n: 16 })).toBe(again);
  expect(rooms.take({ n: 16 })).not.toBe(again);
});

test('a step that is foreseen finds its room prepared; a second one is not prepared for', () => {
  const { model } = modelWith(3.5);
  const rooms = new Rooms(model);
  rooms.foresee({ n: 8 });
  rooms.foresee({ n: 8 });
  const room = rooms.take({ n: 8 })!;
  rooms.foresee({ n: 8 });
  expect(room.from).toBe(model.end);
  rooms.giveBack(room);
  expect(rooms.take({ n: 8 })).toBe(room);
});

test('what would not fit alone is refused for good; what others leave no place for may come again', () => {
  const { model } = modelWith(1.5);
  const rooms = new Rooms(model);
  const one = rooms.take({ n: 16 })!;
  expect(rooms.take({ n: 16 })).toBeUndefined();
  rooms.giveBack(one);
  expect(rooms.take({ n: 15 })).toBeDefined();
  expect(() => new Rooms(modelWith(0.7).model).take({ n: 16 })).toThrow(MemoryFull);
});

test('rooms nobody uses are kept up to a bound only', () => {
  const { model, room } = modelWith(40);
  const rooms = new Rooms(model, 2 * room);
  let top = 0;
  for (let n = 16; n > 0; n--) {
    const r = rooms.take({ n })!;
    top = Math.max(top, r.prepared.end);
    rooms.giveBack(r);
  }
  expect(top - model.end).toBeLessThan(4 * room);
});

test('regions of caches are zeros, overlap nothing, and leave place for the largest step', () => {
  const [k] = threeKernels();
  const program = remembers(1024, 64);
  const bytes = cacheBytes(program, 'p0');
  const { end } = loadModel(program, 'p0', k, none);
  const step = prepare(loadModel(program, 'p0', k, none), { n: 4 }).end - end;
  const small = Object.assign(Object.create(k) as Kernels, { u8: k.u8.subarray(0, end + 3 * step) });
  k.u8.fill(1, end, small.u8.length);
  const rooms = new Rooms(loadModel(program, 'p0', small, none));
  const most = Math.floor((1.5 * step) / bytes);
  expect(most).toBeGreaterThan(1);
  // Rooms nobody uses fill the memory: they make way.
  const all: Room[] = [];
  for (let room = rooms.take({ n: 4, past: 0 }); room; room = rooms.take({ n: 4, past: 0 })) all.push(room);
  expect(rooms.takeCaches()).toBe('later');
  for (const room of all) rooms.giveBack(room);
  const regions = Array.from({ length: most }, () => rooms.takeCaches() as Region);
  expect(rooms.takeCaches()).toBe('full');
  const room = rooms.take({ n: 4, past: 60 }) as Room;
  const used = [...regions, { from: room.from, to: room.prepared.end }].sort((a, b) => a.from - b.from);
  used.forEach(({ from, to }, i) => {
    expect(from).toBeGreaterThanOrEqual(i ? used[i - 1].to : end);
    expect(to).toBeLessThanOrEqual(small.u8.length);
  });
  for (const r of regions) {
    expect(r.to - r.from).toBeGreaterThanOrEqual(bytes);
    expect(k.u8.subarray(r.from, r.to).every((b) => b === 0)).toBe(true);
    k.u8.fill(2, r.from, r.to);
  }
  rooms.wipe(regions[1]);
  expect(k.u8.subarray(regions[1].from, regions[1].to).every((b) => b === 0)).toBe(true);
  expect(rooms.takeCaches()).toEqual(regions[1]);
  // `past` makes no plan of its own.
  rooms.giveBack(room);
  expect(rooms.take({ n: 4, past: 7 })).toBe(room);
});

test('a memory without place for one session’s caches says so', () => {
  const [k] = threeKernels();
  const program = remembers(1024, 64);
  const { end } = loadModel(program, 'p0', k, none);
  const small = Object.assign(Object.create(k) as Kernels, { u8: k.u8.subarray(0, end + cacheBytes(program, 'p0') - 64) });
  expect(() => new Rooms(loadModel(program, 'p0', small, none)).takeCaches()).toThrow(MemoryFull);
});
