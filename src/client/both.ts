/** One question to both parties: both answer, or the error that says most is thrown. */
import { type ErrorCode, SubrosaError } from './errors.ts';

/**
 * What follows from a failure elsewhere says least: a party whose peer is gone, or told to end, only repeats it. A socket that broke under
 * us names the party that is gone, so it says more than the other one's 'peer-failed'. Everything else is the cause itself.
 */
const telling: Partial<Record<ErrorCode, number>> = { aborted: 0, ended: 1, 'peer-failed': 2, timeout: 3, unreachable: 4 };
const says = (e: unknown): number => (e instanceof SubrosaError ? (telling[e.code] ?? 5) : 6);

/** Milliseconds the other party has to say why, when the first error is but a consequence. */
const grace = 250;

export interface Silence<P> {
  /** How long one party may be silent when the other has answered. */
  readonly seconds: number;
  /** What is thrown when it is silent for longer. */
  readonly error: (party: P) => SubrosaError;
}

/** When one fails the other is stopped: at once when the error is the cause itself, else after `grace`. */
export async function both<P, T>(
  parties: readonly [P, P],
  signal: AbortSignal | undefined,
  ask: (party: P, index: 0 | 1, signal: AbortSignal) => Promise<T>,
  silence?: Silence<P>,
): Promise<[T, T]> {
  const stopped = (): SubrosaError => new SubrosaError('aborted', 'the run was stopped', { cause: signal?.reason });
  if (signal?.aborted) throw stopped();
  const stop = new AbortController();
  const abort = (): void => stop.abort(signal?.reason);
  signal?.addEventListener('abort', abort);
  let timer: ReturnType<typeof setTimeout> | undefined;
  let late: SubrosaError | undefined;
  const answers = await Promise.allSettled(
    parties.map(async (party, i) => {
      try {
        const answer = await ask(party, i as 0 | 1, stop.signal);
        if (silence)
          timer ??= setTimeout(() => {
            late = silence.error(parties[1 - i]);
            abort();
          }, 1000 * silence.seconds);
        return answer;
      } catch (e) {
        if (says(e) > 4) abort();
        else timer ??= setTimeout(abort, grace);
        throw e;
      }
    }),
  );
  clearTimeout(timer);
  signal?.removeEventListener('abort', abort);
  if (signal?.aborted) throw stopped();
  if (late) throw late;
  const failures = answers.flatMap((a) => (a.status === 'rejected' ? [a.reason as unknown] : []));
  if (failures.length > 0) throw failures.reduce((most, e) => (says(e) > says(most) ? e : most));
  return answers.map((a) => (a as PromiseFulfilledResult<T>).value) as [T, T];
}
