/** Steps a caller may run: a bucket that fills at its rate and holds a minute's worth. */
import { SubrosaError } from '../client/errors.ts';
import type { Caller } from './types.ts';

export class Quota {
  private readonly buckets = new Map<string, { steps: number; at: number }>();

  /** `now`: seconds, by a clock that only goes forward. */
  constructor(private readonly now: () => number = () => performance.now() / 1000) {}

  /** Takes one step. Throws SubrosaError 'quota', with the seconds until there is one again. */
  take({ name, stepsPerMinute: most }: Caller): void {
    if (most === undefined) return;
    const at = this.now();
    const bucket = this.buckets.get(name);
    const steps = bucket ? Math.min(most, bucket.steps + ((at - bucket.at) * most) / 60) : most;
    // Callers may come by certificate or address, without end: a full bucket need not be remembered.
    if (this.buckets.size >= mostBuckets) for (const [other, b] of this.buckets) if (at - b.at >= 60) this.buckets.delete(other);
    this.buckets.set(name, { steps: steps >= 1 ? steps - 1 : steps, at });
    if (steps < 1)
      throw new SubrosaError('quota', `${most} steps a minute are allowed: wait`, { retryAfter: Math.ceil(((1 - steps) * 60) / most) });
  }
}

const mostBuckets = 4096;
