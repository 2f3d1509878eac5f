/** Bodies of requests: how long one may be is known before it is read, and no more is. */
import { SubrosaError } from '../client/errors.ts';

export interface BodyLimits {
  /** Bytes of all bodies being read at once. Beyond it a caller is answered 'busy'. */
  readonly uploadBytes: number;
  /** Seconds without a byte of a body. */
  readonly stallSeconds: number;
}

export class Bodies {
  private reading = 0;

  constructor(private readonly limits: BodyLimits) {}

  /** A body of exactly `bytes`. Throws SubrosaError 'too-large', 'bad-message', 'busy', 'timeout', 'aborted'. */
  async exactly(request: Request, bytes: number): Promise<Uint8Array<ArrayBuffer>> {
    const body = await this.atMost(request, bytes);
    if (body.length !== bytes) throw new SubrosaError('bad-message', `the body has ${body.length} bytes; ${bytes} are expected`);
    return body;
  }

  async atMost(request: Request, bytes: number): Promise<Uint8Array<ArrayBuffer>> {
    const said = request.headers.get('content-length');
    if (said !== null && !(Number(said) <= bytes)) throw tooLarge(bytes);
    if (this.reading + bytes > this.limits.uploadBytes)
      throw new SubrosaError('busy', 'too many uploads at once: try again', { retryAfter: 1 });
    this.reading += bytes;
    try {
      return await read(request, bytes, this.limits.stallSeconds);
    } finally {
      this.reading -= bytes;
    }
  }
}

const tooLarge = (bytes: number): SubrosaError => new SubrosaError('too-large', `the body is longer than the ${bytes} bytes expected`);

async function read(request: Request, bytes: number, stallSeconds: number): Promise<Uint8Array<ArrayBuffer>> {
  const body = new Uint8Array(bytes);
  if (!request.body) return body.subarray(0, 0);
  const reader = request.body.getReader();
  let at = 0;
  try {
    for (;;) {
      const { done, value } = await within(reader.read(), stallSeconds);
      if (done) return body.subarray(0, at);
      if (at + value.length > bytes) throw tooLarge(bytes);
      body.set(value, at);
      at += value.length;
    }
  } catch (e) {
    reader.cancel().catch(() => {});
    throw e instanceof SubrosaError ? e : new SubrosaError('aborted', 'the caller went away');
  }
}

function within<T>(promise: Promise<T>, seconds: number): Promise<T> {
  let late: ReturnType<typeof setTimeout>;
  const timeout = new Promise<never>((_, reject) => {
    late = setTimeout(() => reject(new SubrosaError('timeout', `no byte of the body for ${seconds} s`)), 1000 * seconds);
  });
  return Promise.race([promise, timeout]).finally(() => clearTimeout(late));
}
