import { expect, test } from 'vitest';
import { Turns } from './turns.ts';

const never = new AbortController().signal;
const settled = () => new Promise((resolve) => setTimeout(resolve));

test('so many at once, the others in order, each after one that ended', async () => {
  const turns = new Turns(2, 9);
  const begun: number[] = [];
  const take = (i: number) =>
    turns.take(never).then((done) => {
      begun.push(i);
      return done;
    });
  const taken = [0, 1, 2, 3].map(take);
  await settled();
  expect(begun).toEqual([0, 1]);
  const first = await taken[0];
  first();
  first();
  await settled();
  expect(begun).toEqual([0, 1, 2]);
  for (const i of [1, 2]) (await taken[i])();
  (await taken[3])();
  await Promise.all([take(4), take(5)]);
  expect(begun).toEqual([0, 1, 2, 3, 4, 5]);
});
test('too many who wait are told so; who goes away leaves the queue', async () => {
  const turns = new Turns(1, 1);
  const done = await turns.take(never);
  const gone = new AbortController();
  const waiting = turns.take(gone.signal);
  await expect(turns.take(never)).rejects.toMatchObject({ status: 429, more: { retryAfter: 5 } });
  gone.abort(new Error('gone'));
  await expect(waiting).rejects.toThrow('gone');
  const next = turns.take(never);
  done();
  (await next)();
  await expect(turns.take(gone.signal)).rejects.toThrow('gone');
});
