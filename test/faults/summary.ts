/** The figures of a campaign. */
import type { Role } from '../../src/runtime/model.ts';
import { roles } from '../services.ts';
import type { Campaign } from './campaign.ts';
import type { Sample } from './cluster.ts';

const quantile = (of: readonly number[], q: number): number =>
  [...of].sort((a, b) => a - b)[Math.min(of.length - 1, Math.floor(q * of.length))] ?? 0;
const count = (of: readonly string[]): Record<string, number> => {
  const counts: Record<string, number> = {};
  for (const k of of) counts[k] = (counts[k] ?? 0) + 1;
  return counts;
};

export function summary({ reports, samples, world }: Campaign): object {
  const byFault: Record<string, { count: number; results: Record<string, number>; answered: number; recovered: number; others: number }> =
    {};
  for (const name of new Set(reports.map((r) => r.planned.fault.name))) {
    const own = reports.filter((r) => r.planned.fault.name === name);
    byFault[name] = {
      count: own.length,
      results: count(own.map((r) => r.result)),
      answered: Math.round(
        quantile(
          own.map((r) => r.answered),
          1,
        ),
      ),
      recovered: Math.round(
        quantile(
          own.map((r) => r.recovered),
          1,
        ),
      ),
      others: own.reduce((s, r) => s + Object.values(r.others).reduce((a, b) => a + b, 0), 0),
    };
  }
  const recovered = reports.map((r) => r.recovered);
  return {
    faults: reports.length,
    rightOfBystanders: world.bystanders.reduce((s, b) => s + b.right, 0),
    failuresOfBystanders: world.bystanders.map((b) => b.codes),
    seeds: world.witness.seeds,
    recoveredMs: {
      median: Math.round(quantile(recovered, 0.5)),
      p95: Math.round(quantile(recovered, 0.95)),
      most: Math.round(quantile(recovered, 1)),
    },
    unexpected: reports.flatMap((r) => r.unexpected.map((u) => `${r.planned.fault.name}, ${r.planned.variant}, ${r.planned.moment}: ${u}`)),
    byFault,
    samples,
  };
}

/** What long-lived processes may have more than before, garbage collected. Connections that callers keep open come and go. */
const allowed = { rss: 0.1, heap: 4e6, descriptors: 16 };

/** Which roles hold more than before; a role that is another process meanwhile cannot be compared. */
export function grown(before: Record<Role, Sample>, after: Record<Role, Sample>): string[] {
  return roles.flatMap((r) => {
    const [a, b] = [before[r], after[r]];
    if (a.pid !== b.pid) return [`${r} is another process`];
    return [
      ...(b.rss > a.rss * (1 + allowed.rss) ? [`${r}: memory from ${mib(a.rss)} to ${mib(b.rss)} MiB`] : []),
      ...(b.heap > a.heap + allowed.heap ? [`${r}: heap from ${mib(a.heap)} to ${mib(b.heap)} MiB`] : []),
      ...(b.descriptors > a.descriptors + allowed.descriptors ? [`${r}: descriptors from ${a.descriptors} to ${b.descriptors}`] : []),
    ];
  });
}
const mib = (bytes: number): string => (bytes / 2 ** 20).toFixed(1);
