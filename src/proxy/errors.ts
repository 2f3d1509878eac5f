/** Errors as OpenAI's API says them: {"error": {message, type, param, code}} with a status its clients know what to do with. */
import { codes, SubrosaError } from '../client/errors.ts';

export class ApiError extends Error {
  override name = 'ApiError';

  constructor(
    readonly status: number,
    message: string,
    readonly more: { readonly param?: string; readonly code?: string; readonly retryAfter?: number } = {},
  ) {
    super(message);
  }

  get body(): object {
    const type = this.status === 429 ? 'rate_limit_error' : this.status < 500 ? 'invalid_request_error' : 'server_error';
    return { error: { message: this.message, type, param: this.more.param ?? null, code: this.more.code ?? null } };
  }
}

export const bad = (message: string, param?: string, code?: string): ApiError => new ApiError(400, message, { param, code });

/** Statuses of the parties that are the caller's as well; the others are between this proxy and them. */
const passed = new Set<number>([400, 429, 503, 504]);

/** Anything thrown, as what the caller is told. What is not known here is not described: messages may hold what they should not. */
export function apiError(e: unknown): ApiError {
  if (e instanceof ApiError) return e;
  if (!(e instanceof SubrosaError)) return new ApiError(500, 'the proxy failed: its log says why', { code: 'internal' });
  const { status } = codes[e.code];
  return new ApiError(e.code !== 'bad-message' && passed.has(status) ? status : 502, e.message, { code: e.code, retryAfter: e.retryAfter });
}
