/**
 * Everything that can end a private run, as a code. Codes are stable, messages may change; the HTTP interface uses the same ones, and each
 * says whether trying again can help. Nothing in a message depends on an input or a share.
 */
export const codes = {
  // The caller's own doing: nothing was sent, or nothing was accepted.
  'bad-input': { status: 400, retry: false }, // shape, range, NaN: refused before sharing
  'bad-message': { status: 400, retry: false }, // not what the protocol expects
  unauthorized: { status: 401, retry: false }, // no token or key, or one that is not known here
  forbidden: { status: 403, retry: false }, // known, but not allowed this
  'unknown-model': { status: 404, retry: false },
  'step-order': { status: 409, retry: false }, // steps of a session only go up
  mismatch: { status: 409, retry: false }, // the parties disagree about the program or the session: nothing was sent
  ended: { status: 410, retry: true }, // the session is over; a new one may be opened
  'too-large': { status: 413, retry: false },
  // The servers cannot, now.
  busy: { status: 429, retry: true }, // the queue is full
  quota: { status: 429, retry: true }, // this client has used up what it may
  'not-ready': { status: 503, retry: true }, // starting, or another role is not connected
  draining: { status: 503, retry: true }, // shutting down: no new sessions
  'out-of-memory': { status: 503, retry: true }, // the model does not fit beside those in use
  'peer-failed': { status: 502, retry: true }, // another role is gone, or broke the protocol
  timeout: { status: 504, retry: true }, // a role was silent for too long
  internal: { status: 500, retry: false },
  // The client's side of the network.
  unreachable: { status: 0, retry: true },
  aborted: { status: 0, retry: false }, // by the caller's signal
} as const satisfies Record<string, { status: number; retry: boolean }>;

export type ErrorCode = keyof typeof codes;

export class SubrosaError extends Error {
  override name = 'SubrosaError';
  readonly code: ErrorCode;
  /** Which server said so, or did not answer: 'p0', 'p1'; undefined when the client found it itself. */
  readonly from?: string;
  /** Seconds the server asks to wait before trying again. */
  readonly retryAfter?: number;

  constructor(code: ErrorCode, message: string, more: { from?: string; retryAfter?: number; cause?: unknown } = {}) {
    super(message, more.cause === undefined ? undefined : { cause: more.cause });
    this.code = code;
    this.from = more.from;
    this.retryAfter = more.retryAfter;
  }

  /** Whether a new session may succeed where this one failed. */
  get retryable(): boolean {
    return codes[this.code].retry;
  }
}

/** An error as a server says it: a code that is not known here becomes 'internal'. */
export function errorFrom(
  { code, message }: { readonly code: string; readonly message: string },
  more: { from?: string; retryAfter?: number } = {},
): SubrosaError {
  return Object.hasOwn(codes, code)
    ? new SubrosaError(code as ErrorCode, message, more)
    : new SubrosaError('internal', `${message} (${code})`, more);
}
