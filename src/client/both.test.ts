import { expect, test } from 'vitest';
import { both } from './both.ts';
import { type ErrorCode, SubrosaError } from './errors.ts';

const error = (code: ErrorCode): SubrosaError => new SubrosaError(code, code);
/** A party that fails with `code` after `ms`, 'aborted' when it is stopped before. */
const failing =
  (code: ErrorCode | undefined, ms: number) =>
  (stop: AbortSignal): Promise<string> =>
    new Promise((resolve, reject) => {
      stop.addEventListener('abort', () => reject(error('aborted')));
      if (ms < Number.POSITIVE_INFINITY) setTimeout(() => (code ? reject(error(code)) : resolve('fine')), ms);
    });
type Ask = ReturnType<typeof failing>;
const run = (a: Ask, b: Ask, signal?: AbortSignal): Promise<[string, string]> =>
  both<Ask, string>([a, b], signal, (ask, _, stop) => ask(stop));
const never = failing(undefined, Number.POSITIVE_INFINITY);

test('two answers, in the parties’ order', async () => {
  expect(await both([1, 2] as [number, number], undefined, (p, i) => Promise.resolve(`${p} ${i}`))).toEqual(['1 0', '2 1']);
});

const causes: [string, [ErrorCode, number], [ErrorCode, number], ErrorCode][] = [
  ['a cause says more than what follows from it', ['peer-failed', 0], ['bad-message', 20], 'bad-message'],
  ['whichever comes first', ['bad-message', 20], ['peer-failed', 0], 'bad-message'],
  ['a broken socket names the party that is gone', ['peer-failed', 0], ['unreachable', 20], 'unreachable'],
  ['but what a party says of itself says more', ['unreachable', 0], ['draining', 20], 'draining'],
  ['an end says least', ['ended', 0], ['peer-failed', 20], 'peer-failed'],
  ['a silence says less than a broken socket', ['timeout', 0], ['unreachable', 20], 'unreachable'],
];
test.each(causes)('%s', async (_, a, b, expected) => {
  await expect(run(failing(...a), failing(...b))).rejects.toMatchObject({ code: expected });
});

test('a cause stops the other party at once', async () => {
  const from = performance.now();
  await expect(run(failing('quota', 0), never)).rejects.toMatchObject({ code: 'quota' });
  expect(performance.now() - from).toBeLessThan(100);
});

test('a consequence leaves the other a moment to say why, and no more', async () => {
  const from = performance.now();
  await expect(run(failing('peer-failed', 0), never)).rejects.toMatchObject({ code: 'peer-failed' });
  expect(performance.now() - from).toBeGreaterThan(150);
  expect(performance.now() - from).toBeLessThan(1000);
});

test('the caller’s signal stops both', async () => {
  const stop = new AbortController();
  const stopped: number[] = [];
  const ask =
    (i: number): Ask =>
    (signal) => {
      signal.addEventListener('abort', () => stopped.push(i));
      return never(signal);
    };
  const answer = run(ask(0), ask(1), stop.signal);
  stop.abort();
  await expect(answer).rejects.toMatchObject({ code: 'aborted' });
  expect(stopped.sort()).toEqual([0, 1]);
  await expect(run(never, never, AbortSignal.abort())).rejects.toMatchObject({ code: 'aborted' });
});

test('an error that is none of ours comes as it is', async () => {
  await expect(
    both([0, 1] as [number, number], undefined, () => {
      return Promise.reject(new TypeError('bug'));
    }),
  ).rejects.toThrow(TypeError);
});
