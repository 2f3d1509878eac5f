/** How far a run is, and what went wrong. */
import type { Working } from './working.ts';

export function Progress({ work }: { work: Working }) {
  const { state } = work;
  if (!state) return null;
  return (
    <span class="progress">
      <progress aria-label="Rounds done" max={state.rounds ?? 1} value={state.rounds === undefined ? undefined : state.round} />
      <span aria-hidden="true">{state.text}</span>
      <button type="button" class="quiet" onClick={() => work.stop()}>
        stop
      </button>
    </span>
  );
}

export function Problem({ error }: { error: unknown }) {
  if (error === undefined) return null;
  const { message, code, retryable } = error as { message?: string; code?: string; retryable?: boolean };
  return (
    <p role="alert" class="problem">
      {message ?? String(error)} {code && <code>{code}</code>} {retryable && 'Trying again may help.'}
    </p>
  );
}
