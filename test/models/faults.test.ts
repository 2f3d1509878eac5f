/** What goes wrong, a fault of each kind, in real processes; `npm run test:faults` injects a thousand. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Campaign } from '../faults/campaign.ts';
import { moments } from '../faults/fault.ts';
import { faults, plan } from '../faults/plan.ts';
import { grown } from '../faults/summary.ts';
import { roles } from '../services.ts';

const seed = 1;
let campaign: Campaign;
beforeAll(async () => {
  campaign = await Campaign.start(seed);
}, 120_000);
afterAll(() => campaign?.close());

test('a seed says which faults, where and when', () => {
  const names = (n: number): string[] => plan(n, 1000).map((p) => `${p.fault.name}, ${p.variant}, ${p.moment}, ${p.seed}`);
  expect(names(1)).toEqual(names(1));
  expect(names(1)).not.toEqual(names(2));
  const all = names(1).join('\n');
  for (const f of faults) for (const v of f.variants) expect(all).toContain(`${f.name}, ${v}`);
  for (const role of roles) for (const m of moments) expect(all).toContain(`kill -9, ${role}, ${m}`);
});

test('one of each kind: a right answer or a code, others go on, and all is well again', async () => {
  for (const planned of plan(seed, faults.length)) {
    if (planned.fault.name === 'a full disk' && !campaign.disk) continue;
    const { fault, variant, moment } = planned;
    const { unexpected } = await campaign.inject(planned);
    expect([`${fault.name}, ${variant}, ${moment}`, unexpected]).toEqual([expect.any(String), []]);
  }
  expect(campaign.world.bystanders.every((b) => b.right > faults.length)).toBe(true);
}, 240_000);

test('sessions that fail leave no memory and no descriptor behind', async () => {
  await campaign.failSessions(60);
  await campaign.sample('before');
  const codes = await campaign.failSessions(240);
  await campaign.sample('after');
  expect(Object.keys(codes).sort()).toEqual(expect.arrayContaining(['aborted', 'bad-message', 'mismatch']));
  expect(grown(campaign.samples.before, campaign.samples.after)).toEqual([]);
  for (const role of roles) expect(campaign.samples.after[role].sessions).toBeLessThan(20);
}, 60_000);

test('no share, seed or token is in a file or a log, and no seed came twice', () => {
  const { witness } = campaign.world;
  expect(witness.seeds).toBeGreaterThan(100);
  expect(witness.secrets.length).toBeGreaterThan(200);
  expect(campaign.leaks()).toEqual([]);
  writeFileSync(join(campaign.home, 'dump'), `1 ${witness.secrets[7].toString('hex')} 2`);
  expect(campaign.leaks()).toEqual(['secret 7 in hex in a file']);
  expect(() => witness.seed(Buffer.alloc(32), 'a test') ?? witness.seed(Buffer.alloc(32), 'a test')).toThrow('used twice');
});
