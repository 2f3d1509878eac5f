import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { TextModel } from './models.ts';
import { type Sequence, Sequences } from './sequences.ts';

const model = { bytesPerToken: 10 } as TextModel;
const other = { bytesPerToken: 10 } as TextModel;
let closed: string[];
const sequence = (name: string, ids: number[], owner = 'anna', of = model): Sequence => ({
  model: of,
  owner,
  ids,
  decoder: { length: ids.length, limit: 99, step: () => Promise.reject(new Error('unused')), close: () => void closed.push(name) },
});
beforeEach(() => {
  closed = [];
  vi.useFakeTimers();
});
afterEach(() => vi.useRealTimers());
const settled = () => vi.advanceTimersByTimeAsync(0);

describe('kept sequences', () => {
  test('go to the prompt that begins with all they hold, the longest first, once', () => {
    const s = new Sequences({ bytes: 1000, count: 9, seconds: 60 });
    const [short, long] = [sequence('short', [1]), sequence('long', [1, 2])];
    for (const each of [long, short]) s.keep(each);
    for (const prompt of [[1], [2, 1, 2], []]) expect(s.take(model, 'anna', prompt)).toBeUndefined();
    expect(s.take(model, 'anna', [1, 2, 3])).toBe(long);
    expect(s.take(model, 'anna', [1, 2, 3])).toBe(short);
    expect(s.take(model, 'anna', [1, 2, 3])).toBeUndefined();
    expect([s.size, closed]).toEqual([0, []]);
  });
  test('go back to what they share with the prompt, where their decoder can, unless most would be lost', () => {
    const s = new Sequences({ bytes: 1000, count: 9, seconds: 60 });
    const back: number[] = [];
    const plain = sequence('a', [1, 2, 3, 4]);
    // One row of a public prefix.
    const able = { ...plain, decoder: { ...plain.decoder, length: 5, rewind: (length: number) => void back.push(length) } };
    s.keep(able);
    expect(s.take(model, 'anna', [1, 9])).toBeUndefined();
    expect(s.take(model, 'anna', [1, 2, 9])?.ids).toEqual([1, 2]);
    expect(back).toEqual([3]);
    s.keep(sequence('b', [1, 2, 3, 4]));
    expect(s.take(model, 'anna', [1, 2, 3, 4])).toBeUndefined();
  });
  test('never go to another owner, nor to another model', () => {
    const s = new Sequences({ bytes: 1000, count: 9, seconds: 60 });
    s.keep(sequence('a', [1], 'anna'));
    expect(s.take(model, 'ben', [1, 2])).toBeUndefined();
    expect(s.take(other, 'anna', [1, 2])).toBeUndefined();
    expect(s.take(model, 'anna', [1, 2])).toBeDefined();
  });
  test('end after their time', async () => {
    const s = new Sequences({ bytes: 1000, count: 9, seconds: 60 });
    s.keep(sequence('a', [1]));
    await vi.advanceTimersByTimeAsync(59_000);
    expect(closed).toEqual([]);
    await vi.advanceTimersByTimeAsync(1000);
    expect([s.size, closed]).toEqual([0, ['a']]);
  });
  test('that were taken are not ended by their old time', async () => {
    const s = new Sequences({ bytes: 1000, count: 9, seconds: 60 });
    s.keep(sequence('a', [1]));
    s.take(model, 'anna', [1, 2]);
    await vi.advanceTimersByTimeAsync(120_000);
    expect(closed).toEqual([]);
  });
  test('give way to later ones where memory ends; one that is too large is not kept', async () => {
    const s = new Sequences({ bytes: 50, count: 9, seconds: 60 });
    for (const [name, ids] of Object.entries({ a: [1, 1], b: [2, 2], c: [3, 3], whole: [4, 4, 4, 4, 4], huge: [5, 5, 5, 5, 5, 5] })) {
      s.keep(sequence(name, ids));
      await settled();
      if (name === 'c') expect(closed).toEqual(['a']);
    }
    expect([s.size, closed]).toEqual([1, ['a', 'b', 'c', 'huge']]);
    expect(s.take(model, 'anna', [4, 4, 4, 4, 4, 4])).toBeDefined();
  });
  test('are so many at most, and the oldest makes room when asked', async () => {
    const s = new Sequences({ bytes: 1000, count: 2, seconds: 60 });
    for (const [i, name] of ['a', 'b', 'c'].entries()) s.keep(sequence(name, [i]));
    await settled();
    expect([s.size, closed]).toEqual([2, ['a']]);
    expect([await s.dropOldest(), await s.dropOldest(), await s.dropOldest()]).toEqual([true, true, false]);
    expect(closed).toEqual(['a', 'b', 'c']);
  });
  test('are all let go at the end', async () => {
    const s = new Sequences({ bytes: 1000, count: 9, seconds: 60 });
    s.keep(sequence('a', [1]));
    s.keep(sequence('b', [2]));
    s.close();
    await settled();
    expect(closed).toEqual(['a', 'b']);
  });
});
