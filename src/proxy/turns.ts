/** Who may compute now: so many at once, the others in the order they came. */
import { ApiError } from './errors.ts';

export class Turns {
  private running = 0;
  private readonly waiting: (() => void)[] = [];

  constructor(
    private readonly atOnce: number,
    private readonly queue: number,
  ) {}

  /** Resolves with what ends the turn. Throws ApiError 429 when too many wait, and what `signal` was aborted with. */
  async take(signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted();
    if (this.running < this.atOnce) this.running++;
    else await this.wait(signal);
    let over = false;
    return () => {
      if (over) return;
      over = true;
      // A turn goes to who waits next, or back.
      const next = this.waiting.shift();
      if (next) next();
      else this.running--;
    };
  }

  private wait(signal: AbortSignal): Promise<void> {
    if (this.waiting.length >= this.queue)
      throw new ApiError(429, `${this.queue} requests are waiting already: try again later`, { code: 'busy', retryAfter: 5 });
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        this.waiting.splice(this.waiting.indexOf(go), 1);
        reject(signal.reason);
      };
      const go = (): void => {
        signal.removeEventListener('abort', leave);
        resolve();
      };
      signal.addEventListener('abort', leave, { once: true });
      this.waiting.push(go);
    });
  }
}
