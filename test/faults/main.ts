/**
 * Faults by the hundred, from one number:
 *
 *     npm run test:faults -- [--seed 1] [--faults 1000] [--sessions 1000] [--out FILE] [--only TEXT]
 *
 * Ends with 1 when an answer was wrong, an error had no type, or anything else was not as expected.
 */
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { roles } from '../services.ts';
import { Campaign } from './campaign.ts';
import type { Fault } from './fault.ts';
import { faults, plan } from './plan.ts';
import { grown, summary } from './summary.ts';

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    faults: { type: 'string', default: '1000' },
    sessions: { type: 'string', default: '1000' },
    only: { type: 'string', default: '' },
    out: { type: 'string' },
  },
});
const [seed, count, sessions] = [values.seed, values.faults, values.sessions].map(Number);
const from = performance.now();
const campaign = await Campaign.start(seed);
let failed: unknown;
let codes = {};
try {
  const list = plan(seed, count).filter((p) => p.fault.name.includes(values.only) && (campaign.disk || p.fault.name !== 'a full disk'));
  // What ends a role comes in the first half: from here on each is one process.
  const turns = {
    fault: faults.find((f) => f.name === 'more models than memory') as Fault,
    variant: 'in turn',
    moment: 'early' as const,
    seed,
  };
  const last = list.findLastIndex((p) => p.fault.during && p.fault.ends);
  const warm = Math.min(list.length - 1, last + 40);
  for (const [i, planned] of list.entries()) {
    try {
      const r = await campaign.inject(planned);
      const at = planned.fault.during ? `, ${planned.moment}` : '';
      if (r.unexpected.length > 0 || values.only || count < 100)
        console.log(
          `${i}: ${planned.fault.name}, ${planned.variant}${at}: ${r.result} ${Math.round(r.answered)}+${Math.round(r.recovered)} ms ${r.unexpected.join('; ')}`,
        );
    } catch (e) {
      console.log(`${i}: ${planned.fault.name}, ${planned.variant}, ${planned.moment}`);
      throw e;
    }
    if (i === warm) {
      // Models in memory are to be as many as may be: what grows from here on is something else.
      await campaign.inject(turns);
      await campaign.sample('warm');
    }
    if (i % 50 === 49) console.log(`${i + 1} faults in ${Math.round((performance.now() - from) / 1000)} s`);
  }
  await campaign.sample('after the faults');
  codes = await campaign.failSessions(sessions);
  await campaign.sample('after the failed sessions');
  const { samples } = campaign;
  const problems = [
    ...grown(samples.warm, samples['after the faults']),
    ...grown(samples['after the faults'], samples['after the failed sessions']),
    ...campaign.leaks().slice(0, 5),
  ];
  if (problems.length > 0) throw new Error(problems.join('; '));
} catch (e) {
  failed = e;
  console.error(e);
  for (const r of roles)
    console.error(
      r,
      campaign.world.cluster.services.running.get(r)?.stdout.slice(-2500),
      campaign.world.cluster.services.running.get(r)?.stderr.slice(-2500),
    );
}
const said = { seed, seconds: (performance.now() - from) / 1000, ...summary(campaign), failedSessions: codes };
console.log(JSON.stringify(said, null, 1));
if (values.out) writeFileSync(values.out, `${JSON.stringify(said, null, 1)}\n`);
await campaign.close();
process.exit(failed || campaign.reports.some((r) => r.unexpected.length > 0) ? 1 : 0);
