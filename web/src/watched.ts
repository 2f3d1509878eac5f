/**
 * Runs as they can be watched: what this page sends is noted on its way out, what the parties received is asked of them (src/server/demo.ts;
 * parties that others can reach do not answer that).
 */
import { keystream } from '../../src/client/chacha20.ts';
import type { Fetch, ProgressReport } from '../../src/client/index.ts';
import type { Seen } from '../../src/server/demo.ts';
import { fromBase64 } from './bytes.ts';
import type { Report } from './report.tsx';
import type { WorkState } from './working.ts';

export interface Watching {
  readonly state?: WorkState;
  readonly report?: Report;
}
export type Watch = (watching: Watching) => void;

/** What is known of a run before it starts. */
export type About = Pick<Report, 'thing' | 'model' | 'weights' | 'plain'>;

interface Step {
  readonly session: string;
  readonly params: Readonly<Record<string, number>>;
  /** Bytes of P1's share. */
  readonly bytes: number;
  /** Of P1's answer. */
  answer: number;
}

/** Milliseconds between two looks at the parties while a run lasts. */
const lookEvery = 250;
const mostColumns = 96;

export class Watcher {
  private step?: Step;

  /** P0's and P1's URL. */
  constructor(private readonly parties: readonly [string, string]) {}

  /** For the client: the platform's, overheard. */
  readonly fetch: Fetch = async (url, init) => {
    const { pathname, origin, searchParams } = new URL(url);
    const [, session] = /^\/v1\/sessions\/([0-9a-f]{32})\/steps\/\d+$/.exec(pathname) ?? [];
    const step: Step | undefined =
      session && origin === this.parties[1]
        ? {
            session,
            params: Object.fromEntries([...searchParams].map(([k, v]) => [k, Number(v)])),
            bytes: (init.body as Uint8Array).length,
            answer: 0,
          }
        : undefined;
    this.step = step ?? this.step;
    const response = await fetch(url, init);
    if (step) step.answer = Number(response.headers.get('content-length') ?? 0);
    return response;
  };

  /** Runs `job`, telling how far it is and what the parties have seen so far. Throws what `job` throws. */
  async run<T>(
    about: About,
    watch: Watch,
    job: (onProgress: (p: ProgressReport) => void) => Promise<T>,
  ): Promise<{ value: T; seconds: number }> {
    this.step = undefined;
    const from = performance.now();
    let [looking, over] = [false, false];
    const look = async (seconds?: number): Promise<void> => {
      const step = this.step;
      if (!step || (looking && seconds === undefined)) return;
      looking = true;
      try {
        const seen = await this.seen(step.session);
        if (!over || seconds !== undefined) watch({ report: reportOf(about, step, seen, seconds) });
      } finally {
        looking = false;
      }
    };
    // A look that fails while the run goes on is no one's concern: the last one counts.
    const timer = setInterval(() => look().catch(() => {}), lookEvery);
    try {
      const value = await job((p) =>
        watch({
          state:
            'round' in p
              ? { text: `round ${p.round} of ${p.rounds}`, ...p }
              : { text: p.queued > 0 ? `${p.queued} before this one` : 'sent' },
        }),
      );
      const seconds = (performance.now() - from) / 1000;
      over = true;
      clearInterval(timer);
      await look(seconds);
      return { value, seconds };
    } finally {
      clearInterval(timer);
    }
  }

  private async seen(session: string): Promise<[Seen, Seen]> {
    const ask = async (party: string): Promise<Seen> => {
      const response = await fetch(`${party}/v1/demo/sessions/${session}`, { credentials: 'omit' });
      if (!response.ok) throw new Error(`${party} does not show what it received: was it started by subrosa up?`);
      return (await response.json()) as Seen;
    };
    return Promise.all([ask(this.parties[0]), ask(this.parties[1])]);
  }
}

function reportOf(
  about: About,
  { session, params, bytes, answer }: Step,
  seen: readonly [Seen, Seen],
  seconds: number | undefined,
): Report {
  const words = bytes / 4;
  // P0 was sent a seed: its share is what it makes of that, as here.
  const own = new Uint32Array(words);
  const seed = fromBase64(seen[0].received.client.first);
  if (seed.length === 32) keystream(seed, own);
  const columns = Math.min(mostColumns, Math.ceil(Math.sqrt(words)));
  const shares = [new Uint8Array(own.buffer), fromBase64(seen[1].received.client.first)] as const;
  return { ...about, session, params, seconds, words, columns, answerBytes: answer, seen, shares };
}
