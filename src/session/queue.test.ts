import { expect, test } from 'vitest';
import { FairQueue } from './queue.ts';

const of = (text: string) => text.split(' ').map((t) => ({ client: t[0], name: t }));
const served = (q: FairQueue<{ client: string; name: string }>, ready = (_: { name: string }) => true): string => {
  const out: string[] = [];
  for (let next = q.next(ready); next; next = q.next(ready)) {
    q.remove(next, true);
    out.push(next.name);
  }
  return out.join(' ');
};

test('first come, first served within a client; clients in turn', () => {
  const q = new FairQueue<{ client: string; name: string }>();
  for (const item of of('a1 a2 a3 a4 b1 c1 b2')) q.push(item);
  expect([...q.inOrder()].map((i) => i.name).join(' ')).toBe('a1 b1 c1 a2 b2 a3 a4');
  expect([q.size, q.waiting('a'), q.waiting('d')]).toEqual([7, 4, 0]);
  expect(served(q)).toBe('a1 b1 c1 a2 b2 a3 a4');
  expect(q.size).toBe(0);
});

test('what is not ready is passed over and keeps its turn', () => {
  const q = new FairQueue<{ client: string; name: string }>();
  for (const item of of('a1 a2 b1 b2')) q.push(item);
  expect(served(q, (i) => !['a1', 'b1'].includes(i.name))).toBe('a2 b2');
  expect(served(q)).toBe('a1 b1');
});

test('one who comes late waits for one step of each other client, however many they have', () => {
  const q = new FairQueue<{ client: string; name: string }>();
  for (const item of of('a1 a2 a3 a4 a5')) q.push(item);
  q.remove(q.next(() => true)!, true);
  q.push({ client: 'b', name: 'b1' });
  expect(served(q)).toBe('a2 b1 a3 a4 a5');
});

test('what is taken out without being served costs nobody a turn', () => {
  const q = new FairQueue<{ client: string; name: string }>();
  const items = of('a1 a2 b1');
  for (const item of items) q.push(item);
  q.remove(items[0]);
  q.remove(items[0]);
  expect(q.size).toBe(2);
  expect(served(q)).toBe('a2 b1');
});
