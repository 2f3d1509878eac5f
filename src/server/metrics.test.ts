import { expect, test } from 'vitest';
import { roleMetrics, tightest } from './metrics.ts';
import { squares } from './net.case.ts';

const hash = 'ab'.repeat(32);
const label = 'abababababab';
const metrics = () => {
  const now = { sessions: 0, queued: 0, running: 0, up: true, sent: 5, ready: true, memory: 4096 };
  const m = roleMetrics({
    load: () => now,
    links: () => [{ peer: 'p1', up: now.up, sentBytes: now.sent, receivedBytes: 7 }],
    models: () => [{ hash, memory: now.memory }],
    program: (h) => (h === hash ? squares : undefined),
    ready: () => now.ready,
    reloaded: () => Date.now() - 5000,
  });
  const value = async (name: string): Promise<number> => {
    const line = (await m.registry.metrics()).split('\n').find((l) => l.startsWith(`subrosa_${name} `));
    return Number(line?.split(' ')[1]);
  };
  return { ...m, now, value };
};

test('what is asked at each scrape is what is so then', async () => {
  const { now, value } = metrics();
  expect([await value('ready'), await value('sessions'), await value('link_up{peer="p1"}'), await value('models_resident')]).toEqual([
    1, 0, 1, 1,
  ]);
  Object.assign(now, { sessions: 3, queued: 2, running: 1, up: false, sent: 9, ready: false, memory: 0 });
  expect([await value('ready'), await value('sessions'), await value('queue_length'), await value('running_steps')]).toEqual([0, 3, 2, 1]);
  expect([await value('link_up{peer="p1"}'), await value('models_resident')]).toEqual([0, 0]);
  expect([
    await value('link_bytes_total{peer="p1",direction="sent"}'),
    await value('link_bytes_total{peer="p1",direction="received"}'),
  ]).toEqual([9, 7]);
  expect(await value('reload_age_seconds')).toBeCloseTo(5, 0);
});

test('steps, sessions and gates are counted', async () => {
  const { events, value, modelEvicted } = metrics();
  const step = { client: 'a', hash, params: {}, queuedSeconds: 0.2, seconds: 0.03, rounds: 4, sentBytes: 10, receivedBytes: 30 };
  events.sessionOpened('a', hash);
  events.stepDone({ ...step, profile: new Map([['square', 0.5]]) });
  events.stepDone({
    ...step,
    profile: new Map([
      ['square', 0.25],
      ['extend', 1],
    ]),
  });
  events.sessionEnded('a', hash);
  events.sessionEnded('a', hash, 'peer-failed');
  modelEvicted();
  expect([
    await value(`sessions_opened_total{model="${label}"}`),
    await value('sessions_ended_total{code="none"}'),
    await value('sessions_ended_total{code="peer-failed"}'),
  ]).toEqual([1, 1, 1]);
  expect([await value(`steps_total{model="${label}"}`), await value(`rounds_total{model="${label}"}`)]).toEqual([2, 8]);
  expect([await value('gate_seconds_total{gate="square"}'), await value('gate_seconds_total{gate="extend"}')]).toEqual([0.75, 1]);
  expect([await value(`step_seconds_count{model="${label}"}`), await value(`queue_seconds_sum{model="${label}"}`)]).toEqual([2, 0.4]);
  expect(await value(`step_bytes_total{model="${label}",direction="received"}`)).toBe(60);
  expect(await value('model_evictions_total')).toBe(1);
});

test('the tightest tensor is that of the program, of those that carry a value of the model', async () => {
  // Without a label no tensor counts.
  expect(tightest(squares)).toBe(0);
  const labelled = { ...squares, tensors: squares.tensors.map((t, i) => ({ ...t, ...(i === 3 || i === 4 ? { label: `t${i}` } : {}) })) };
  expect(tightest(labelled)).toBe((72 * 2 ** 10) / 2 ** 31);
  expect(tightest({ ...labelled, tensors: labelled.tensors.map((t) => ({ ...t, bits: 20 })) })).toBe((72 * 2 ** 10) / 2 ** 19);
  expect(await metrics().value(`bound_used_ratio{model="${label}"}`)).toBe(0);
});
