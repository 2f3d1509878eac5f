/** One party over HTTP: requests, and whatever goes wrong with them as a SubrosaError that says which party. */
import { errorFrom, SubrosaError } from './errors.ts';

export type Fetch = (input: string, init: RequestInit) => Promise<Response>;

export interface Ask {
  readonly method?: 'GET' | 'POST' | 'DELETE';
  readonly body?: Uint8Array<ArrayBuffer>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
  /** Longest wait for the whole answer; none when absent. */
  readonly seconds?: number;
  /** Longer answers are refused. */
  readonly most?: number;
  /** Reads the answer instead, when it is one. */
  readonly read?: (body: ReadableStream<Uint8Array>) => Promise<Uint8Array<ArrayBuffer>>;
}

const longestError = 1 << 16;

export class Party {
  /** 'p0' or 'p1' once it has said which. */
  name: string;

  constructor(
    readonly url: URL,
    private readonly token: string | undefined,
    private readonly fetch: Fetch,
  ) {
    this.name = url.host;
  }

  /** The answer's bytes. Throws SubrosaError: what the party said, 'unreachable', 'timeout', or 'aborted' by the signal. */
  async ask(
    path: string,
    { method = 'GET', body, headers = {}, signal, seconds, most = Number.POSITIVE_INFINITY, read }: Ask = {},
  ): Promise<Uint8Array<ArrayBuffer>> {
    const stop = new AbortController();
    const abort = (): void => stop.abort();
    if (signal?.aborted) abort();
    signal?.addEventListener('abort', abort);
    let late = false;
    const expire = (): void => {
      late = true;
      abort();
    };
    const timer = seconds === undefined ? undefined : setTimeout(expire, 1000 * seconds);
    try {
      const response = await this.fetch(new URL(path, this.url).href, {
        method,
        body,
        headers: { ...headers, ...(this.token === undefined ? {} : { Authorization: `Bearer ${this.token}` }) },
        signal: stop.signal,
        // A share goes to the server it was meant for, and says nothing of the page it comes from.
        redirect: 'error',
        credentials: 'omit',
        referrerPolicy: 'no-referrer',
        // So that a page that is being left still ends its sessions.
        keepalive: method === 'DELETE',
      });
      if (!response.ok) throw await this.refusal(response);
      return await (read && response.body ? read(response.body) : atMost(response, most));
    } catch (e) {
      if (signal?.aborted) throw new SubrosaError('aborted', 'the run was stopped', { cause: signal.reason });
      if (late) throw new SubrosaError('timeout', `${this.name} did not answer within ${seconds} s`, { from: this.name });
      if (e instanceof SubrosaError)
        throw e.from === undefined ? new SubrosaError(e.code, `${this.name}: ${e.message}`, { from: this.name, cause: e }) : e;
      // What `fetch` throws hides the reason in its cause, where there is one at all.
      const cause = (e as Error).cause as { message?: string; code?: string } | undefined;
      throw new SubrosaError(
        'unreachable',
        `${this.name} (${this.url.origin}) cannot be reached: ${cause?.message || cause?.code || (e as Error).message}`,
        { from: this.name, cause: e },
      );
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', abort);
    }
  }

  async json(path: string, ask: Ask = {}): Promise<Record<string, unknown>> {
    const value = parseJson(await this.ask(path, { most: 1 << 24, ...ask }));
    if (typeof value !== 'object' || value === null)
      throw new SubrosaError('bad-message', `${this.name} (${this.url.origin}) does not answer as a party does`, { from: this.name });
    return value as Record<string, unknown>;
  }

  /** What an answer that is none says. A proxy in between may have written it. */
  private async refusal(response: Response): Promise<SubrosaError> {
    const said = errorIn(parseJson(await atMost(response, longestError).catch(() => new Uint8Array(0))));
    const after = Number(response.headers.get('retry-after') ?? Number.NaN);
    const more = { from: this.name, retryAfter: Number.isFinite(after) ? after : undefined };
    if (said) return errorFrom({ ...said, message: `${this.name}: ${said.message}` }, more);
    const code =
      response.status === 413 ? 'too-large' : response.status === 429 ? 'busy' : response.status >= 500 ? 'unreachable' : 'bad-message';
    return new SubrosaError(code, `${this.name} (${this.url.origin}) answered HTTP ${response.status}, not as a party does`, more);
  }
}

/** Undefined for what is no JSON. */
export const parseJson = (bytes: Uint8Array): unknown => {
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return undefined;
  }
};

/** The error a party's JSON holds, if it does. */
export function errorIn(json: unknown): { code: string; message: string; retryAfter?: number } | undefined {
  const { error } = (json ?? {}) as { error?: { code?: unknown; message?: unknown; retryAfter?: unknown } };
  if (typeof error?.code !== 'string' || typeof error.message !== 'string') return undefined;
  return {
    code: error.code,
    message: error.message.slice(0, 1000),
    ...(typeof error.retryAfter === 'number' ? { retryAfter: error.retryAfter } : {}),
  };
}

async function atMost(response: Response, most: number): Promise<Uint8Array<ArrayBuffer>> {
  if (!response.body) return new Uint8Array(0);
  const reader = response.body.getReader();
  const parts: Uint8Array[] = [];
  let length = 0;
  for (let next = await reader.read(); !next.done; next = await reader.read()) {
    length += next.value.length;
    if (length > most) {
      reader.cancel().catch(() => {});
      throw new SubrosaError('bad-message', `the answer is longer than the ${most} bytes due`);
    }
    parts.push(next.value);
  }
  const whole = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
