import { expect, test } from 'vitest';
import { interleave } from './interleave.ts';

const tick = () => new Promise((resolve) => setTimeout(resolve));
async function* counts(name: string, n: number, log: string[]): AsyncGenerator<number, string> {
  log.push(`${name} begins`);
  try {
    for (let i = 0; i < n; i++) {
      await tick();
      yield i;
    }
    return name;
  } finally {
    log.push(`${name} ends`);
  }
}

test('values come as they are made, results in order; so many run at once', async () => {
  const log: string[] = [];
  const all = interleave([counts('a', 3, log), counts('b', 1, log), counts('c', 2, log)], 2);
  const seen: string[] = [];
  let step = await all.next();
  for (; !step.done; step = await all.next()) seen.push(step.value.join(' '));
  expect(step.value).toEqual(['a', 'b', 'c']);
  expect([...seen].sort()).toEqual(['0 0', '0 1', '0 2', '1 0', '2 0', '2 1']);
  expect(seen.indexOf('1 0')).toBeLessThan(seen.indexOf('0 1'));
  expect(log.indexOf('c begins')).toBeGreaterThan(log.indexOf('b ends'));
});
test('one that fails, or a listener that leaves, ends them all', async () => {
  const log: string[] = [];
  async function* fails(): AsyncGenerator<number, string> {
    yield 1;
    throw new Error('no');
  }
  const all = interleave([counts('a', 99, log), fails()], 2);
  await expect(
    (async () => {
      for await (const _ of all);
    })(),
  ).rejects.toThrow('no');
  await expect.poll(() => log).toContain('a ends');
  for await (const _ of interleave([counts('b', 99, log)], 1)) break;
  await expect.poll(() => log).toContain('b ends');
});
