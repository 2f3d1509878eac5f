import { expect, test } from 'vitest';
import { logEvents, makeLog } from './log.ts';

function heard(level: 'debug' | 'info' | 'warn' = 'info') {
  const lines: string[] = [];
  return { log: makeLog('p0', level, (l) => void lines.push(l)), lines, last: () => JSON.parse(lines.at(-1)!) as Record<string, unknown> };
}

test('a line is one JSON object that says when, who and how serious', () => {
  const { log, lines, last } = heard();
  log.warn({ peer: 'p1' }, 'dis\nconnected');
  expect(lines[0].trim()).not.toContain('\n');
  expect(last()).toMatchObject({ level: 'warn', role: 'p0', peer: 'p1', msg: 'dis\nconnected' });
  expect(Number.isNaN(Date.parse(last().time as string))).toBe(false);
});

test('a line for a step and one for a session, with times, sizes and names', () => {
  const { log, last } = heard();
  const events = logEvents(log);
  events.stepDone!({
    client: 'web',
    hash: 'ab'.repeat(32),
    params: { n: 8 },
    queuedSeconds: 0.0123,
    seconds: 1.5,
    rounds: 7,
    sentBytes: 10,
    receivedBytes: 20,
  });
  expect(last()).toMatchObject({
    msg: 'step',
    client: 'web',
    model: 'abababababab',
    params: { n: 8 },
    queued: 12.3,
    ms: 1500,
    rounds: 7,
    sent: 10,
    received: 20,
  });
  events.sessionEnded!('web', 'ab'.repeat(32), 'timeout');
  expect(last()).toMatchObject({ msg: 'session ended', client: 'web', code: 'timeout' });
  events.sessionEnded!('web', 'ab'.repeat(32));
  expect(last()).not.toHaveProperty('code');
});

test('what must not be logged is not, wherever in an object it stands', () => {
  const { log, lines } = heard('debug');
  const secret = 'deadbeef';
  for (const name of ['authorization', 'token', 'seed', 'share', 'words', 'input', 'bytes', 'key', 'keyPem', 'payload'])
    for (const value of [
      { [name]: secret },
      { a: { [name]: secret } },
      { a: { b: { [name]: secret } } },
      { a: { b: { c: { [name]: secret } } } },
    ])
      log.info(value, 'a line');
  expect(lines).toHaveLength(40);
  expect(lines.join('')).not.toContain(secret);
});

test('an error is its code and message; its stack is for debugging', () => {
  const error = Object.assign(new Error('p1 was silent'), { code: 'timeout' });
  const info = heard('info');
  info.log.error({ err: error }, 'no link');
  expect(info.last().err).toEqual({ code: 'timeout', message: 'p1 was silent' });
  const debug = heard('debug');
  debug.log.error({ err: error }, 'no link');
  expect((debug.last().err as { stack: string }).stack).toContain('log.test.ts');
});

test('the level is the least that is written, and may change', () => {
  const { log, lines } = heard('warn');
  log.info('not this');
  log.level = 'info';
  log.info('this');
  expect(lines).toHaveLength(1);
});
