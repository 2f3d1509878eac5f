/** A list of faults, their places and times, from one number. */
import { callers } from './callers.ts';
import { type Fault, type Moment, moments } from './fault.ts';
import { fullDisks, operators } from './operators.ts';
import { Random } from './random.ts';
import { rogues } from './rogues.ts';
import { strikes } from './strikes.ts';

export const faults: readonly Fault[] = [...strikes, ...rogues, ...callers, ...operators, fullDisks];

export interface Planned {
  readonly fault: Fault;
  readonly variant: string;
  readonly moment: Moment;
  readonly seed: number;
}

/**
 * One of each fault; then, as far as they go, one of each variant, and of each moment at which a role can be killed; the rest by weight. Those that
 * end a process come in the first half.
 */
export function plan(seed: number, count: number): Planned[] {
  const random = new Random(seed);
  const one = (fault: Fault, variant = random.pick(fault.variants), moment: Moment = random.pick(moments)): Planned => ({
    fault,
    variant,
    moment,
    seed: random.int(0, 2 ** 31),
  });
  const planned = faults.map((f) => one(f));
  const every = faults.flatMap((f) => f.variants.flatMap((v) => (f.during && f.ends ? moments.map((m) => one(f, v, m)) : [one(f, v)])));
  planned.push(...random.shuffle(every).slice(0, Math.max(0, count - planned.length)));
  while (planned.length < count) planned.push(one(random.weighted(faults)));
  const ends = (p: Planned): boolean => p.fault.during && p.fault.ends === true;
  const others = random.shuffle(planned.filter((p) => !ends(p)));
  const half = Math.max(0, Math.floor(planned.length / 2) - planned.filter(ends).length);
  return [...random.shuffle([...planned.filter(ends), ...others.slice(0, half)]), ...others.slice(half)];
}
