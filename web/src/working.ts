/** The one piece of work under way: the two tasks share the cluster's attention, and the button. */
import { useMemo, useRef, useState } from 'preact/hooks';

export interface WorkState {
  readonly text: string;
  readonly round?: number;
  readonly rounds?: number;
}

export interface Working {
  readonly busy: boolean;
  readonly state?: WorkState;
  /** Throws what `job` throws; undefined when the person stopped it. */
  run<T>(job: (signal: AbortSignal) => Promise<T>): Promise<T | undefined>;
  tell(state: WorkState): void;
  stop(): void;
}

export function useWorking(): Working {
  const [state, setState] = useState<WorkState>();
  const current = useRef<AbortController | undefined>(undefined);
  const actions = useMemo<Pick<Working, 'run' | 'tell' | 'stop'>>(
    () => ({
      async run(job) {
        current.current?.abort();
        const own = new AbortController();
        current.current = own;
        setState({ text: 'sharing' });
        try {
          return await job(own.signal);
        } catch (e) {
          if (own.signal.aborted) return undefined;
          throw e;
        } finally {
          if (current.current === own) {
            current.current = undefined;
            setState(undefined);
          }
        }
      },
      tell: (s) => current.current && setState(s),
      stop: () => current.current?.abort(),
    }),
    [],
  );
  return { ...actions, state, busy: state !== undefined };
}
