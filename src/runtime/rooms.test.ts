import { expect, test } from 'vitest';
import { threeKernels } from '../gates/gate.case.ts';
import type { Kernels } from '../ring/kernels/kernels.ts';
import { loadModel, MemoryFull, prepare } from './model.ts';
import { type Room, Rooms } from './rooms.ts';
import { none, powers } from './small.case.ts';

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
