/** A program at two parties: runs, each in a session of its own, and the model's files. */
import { both, type Silence } from './both.ts';
import { errorFrom, SubrosaError } from './errors.ts';
import type { Manifest, Params } from './manifest.ts';
import { errorIn, type Party } from './party.ts';
import {
  type ClientInputs,
  type ClientOutput,
  encodeInputs,
  outputsAt,
  paramsOf,
  reconstruct,
  type Secrets,
  splitInputs,
} from './share.ts';
import { readRecords, streamType } from './stream.ts';

/** In the queue, how many steps are before this one; then the rounds done. */
export type ProgressReport = { readonly queued: number } | { readonly round: number; readonly rounds: number };

export interface RunOptions {
  /** Parameters that no input's shape tells: `keys` and `past` of a decoder, and where it has several sequences theirs (`sequenceParams`). */
  readonly params?: Params;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: ProgressReport) => void;
}

interface Session {
  readonly id: string;
  step: number;
}

/** Seconds a party may take for anything but a step. */
export const answerSeconds = 30;
/** Seconds a file may take: a table of embeddings, on a slow line. */
const fileSeconds = 300;
/** Seconds between tries: 0.25, 0.5, 1 …, or what the server asks for. One that asks for more than `longestPause` is not waited for. */
const firstPause = 0.25;
const longestPause = 10;

/** Runs may overlap: each has a session to itself, and a session is used again when its run is done. */
export class Client {
  private readonly silence: Silence<Party>;
  private readonly idle: Session[] = [];
  private readonly ending = new Set<Promise<unknown>>();
  private readonly files = new Map<string, Promise<Uint8Array<ArrayBuffer>>>();
  private readonly closing = new AbortController();

  /** @internal: `connect` makes clients. */
  constructor(
    private readonly parties: readonly [Party, Party],
    /** What both parties say of the program. */
    readonly manifest: Manifest,
    private readonly retries: number,
    silence: number,
  ) {
    // Both are ready, or done with a step, at nearly the same time: what is missing is lost on the way.
    const error = ({ name }: Party): SubrosaError =>
      new SubrosaError('timeout', `${name} did not answer within ${silence} s of the other party`, { from: name });
    this.silence = { seconds: silence, error };
  }

  /**
   * The outputs by name. Throws SubrosaError: 'bad-input' before anything is sent; 'aborted' by the signal; otherwise what the servers said,
   * after `retries` tries where trying can help. A share is never sent twice.
   */
  async run(inputs: ClientInputs, { params: given, signal, onProgress }: RunOptions = {}): Promise<Record<string, ClientOutput>> {
    if (this.closing.signal.aborted) throw new SubrosaError('aborted', 'the client was closed');
    const params = paramsOf(this.manifest, inputs, given);
    const secrets = encodeInputs(this.manifest, inputs);
    const { sizes } = outputsAt(this.manifest, params);
    const stop = new AbortController();
    const abort = (): void => stop.abort(signal?.reason);
    if (signal?.aborted) abort();
    for (const s of [signal, this.closing.signal]) s?.addEventListener('abort', abort);
    try {
      for (let tries = 0; ; tries++) {
        try {
          const answers = await this.attempt(
            tries > 0,
            secrets,
            sizes,
            new URLSearchParams(Object.entries(params).map(([k, v]) => [k, `${v}`])),
            stop.signal,
            onProgress,
          );
          return reconstruct(this.manifest, params, answers);
        } catch (e) {
          if (!(e instanceof SubrosaError) || !e.retryable || tries >= this.retries) throw e;
          // A session that was merely over is replaced at once.
          const pause = e.code === 'ended' ? 0 : (e.retryAfter ?? firstPause * 2 ** tries * (0.75 + 0.5 * chance()));
          if (pause > longestPause) throw e;
          await wait(pause, stop.signal);
        }
      }
    } finally {
      secrets.words.fill(0);
      secrets.places.fill(0);
      for (const s of [signal, this.closing.signal]) s?.removeEventListener('abort', abort);
    }
  }

  /**
   * A client whose runs, one at a time, are steps of one session: for programs that keep rows from step to step, `past` of which a step leans
   * on. Nothing is tried again. When a step fails the session is over, and the next one begins another, which has no rows yet: parties
   * refuse a `past` beyond them ('bad-message'). Close it when the text is done: parties keep the rows until then.
   */
  session(): Client {
    return new Client(this.parties, this.manifest, 0, this.silence.seconds);
  }

  /** A file of the model, by its name in the manifest: from either party, and what the manifest says it is. Fetched once. */
  file(name: string): Promise<Uint8Array<ArrayBuffer>> {
    const known = this.files.get(name);
    if (known) return known;
    const file = this.fetchFile(name);
    this.files.set(name, file);
    file.catch(() => this.files.delete(name));
    return file;
  }

  /** Ends runs ('aborted') and sessions. Resolves when the parties know, or cannot be told. */
  async close(): Promise<void> {
    this.closing.abort();
    for (const session of this.idle.splice(0)) this.end(session.id);
    await Promise.all(this.ending);
  }

  private async attempt(
    fresh: boolean,
    secrets: Secrets,
    sizes: readonly number[],
    params: URLSearchParams,
    signal: AbortSignal,
    onProgress?: RunOptions['onProgress'],
  ): Promise<[Uint32Array, Uint32Array][]> {
    if (fresh) for (const stale of this.idle.splice(0)) this.end(stale.id);
    const session = this.idle.pop() ?? (await this.open(signal));
    const bytes = 4 * sizes.reduce((a, b) => a + b, 0);
    const path = `v1/sessions/${session.id}/steps/${session.step++}?${params}`;
    const uploads = splitInputs(secrets, session.id);
    let thrown: { error: unknown } | undefined;
    const report = (progress: ProgressReport): void => {
      try {
        onProgress?.(progress);
      } catch (error) {
        thrown = { error };
        throw new SubrosaError('aborted', 'onProgress threw');
      }
    };
    try {
      const ask = async (party: Party, index: 0 | 1, stop: AbortSignal): Promise<Uint32Array> => {
        const streams = index === 0 && onProgress !== undefined;
        const answer = await party.ask(path, {
          method: 'POST',
          body: uploads[index],
          headers: { 'Content-Type': 'application/octet-stream', ...(streams ? { Accept: streamType } : {}) },
          signal: stop,
          most: bytes,
          read: streams ? (body) => readRecords(body, bytes, (type, json) => told(type, json, party.name, report)) : undefined,
        });
        if (answer.length !== bytes)
          throw new SubrosaError('bad-message', `${party.name} answered ${answer.length} bytes; ${bytes} are due`, { from: party.name });
        return new Uint32Array(answer.buffer);
      };
      const answers = await both(this.parties, signal, ask, this.silence);
      if (this.closing.signal.aborted) this.end(session.id);
      else this.idle.push(session);
      return sizes.map((size, i) => {
        const at = sizes.slice(0, i).reduce((a, b) => a + b, 0);
        return [answers[0].subarray(at, at + size), answers[1].subarray(at, at + size)];
      });
    } catch (e) {
      this.end(session.id);
      throw thrown ? thrown.error : e;
    } finally {
      for (const bytes of uploads) bytes.fill(0);
    }
  }

  /** Both parties must answer with this session and program before any share is made. */
  private async open(signal: AbortSignal): Promise<Session> {
    const { hash } = this.manifest;
    const id = Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, '0')).join('');
    const body = new TextEncoder().encode(JSON.stringify({ id, hash }));
    try {
      const ask = async (party: Party, _: 0 | 1, stop: AbortSignal): Promise<void> => {
        const answer = await party.json('v1/sessions', {
          method: 'POST',
          body,
          headers: { 'Content-Type': 'application/json' },
          signal: stop,
          seconds: answerSeconds,
        });
        if (answer.id !== id || answer.hash !== hash)
          throw new SubrosaError('mismatch', `${party.name} answered for another session or program: nothing was sent`, {
            from: party.name,
          });
      };
      await both(this.parties, signal, ask, this.silence);
    } catch (e) {
      this.end(id);
      throw e;
    }
    return { id, step: 0 };
  }

  /** Tells both parties, without waiting: they find out by themselves, but later. */
  private end(id: string): void {
    for (const party of this.parties) {
      const told = party.ask(`v1/sessions/${id}`, { method: 'DELETE', seconds: answerSeconds }).catch(() => {});
      this.ending.add(told);
      void told.finally(() => this.ending.delete(told));
    }
  }

  private async fetchFile(name: string): Promise<Uint8Array<ArrayBuffer>> {
    const { files, hash } = this.manifest;
    const file = Object.hasOwn(files, name) ? files[name] : undefined;
    if (!file)
      throw new SubrosaError(
        'unknown-model',
        `${this.manifest.name} has no file '${name}': it has ${Object.keys(files).join(', ') || 'none'}`,
      );
    if (!crypto.subtle)
      throw new SubrosaError('bad-input', 'this page has no crypto.subtle, which checks files: serve it over https, or from localhost');
    const path = `v1/models/${hash}/client/${name.split('/').map(encodeURIComponent).join('/')}`;
    const from = async (party: Party): Promise<Uint8Array<ArrayBuffer>> => {
      const bytes = await party.ask(path, { most: file.bytes, signal: this.closing.signal, seconds: fileSeconds });
      const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
      if (Array.from(digest, (b) => b.toString(16).padStart(2, '0')).join('') !== file.sha256)
        throw new SubrosaError('mismatch', `${party.name} sent a '${name}' that is not the one both parties agreed on`, {
          from: party.name,
        });
      return bytes;
    };
    const [p0, p1] = this.parties;
    return from(p0).catch((e) => from(p1).catch(() => Promise.reject(e)));
  }
}

function told(type: 1 | 3, json: unknown, party: string, onProgress: (progress: ProgressReport) => void): void {
  if (type === 1) {
    onProgress(json as ProgressReport);
    return;
  }
  const error = errorIn(json) ?? { code: 'internal', message: 'it failed and did not say why' };
  throw errorFrom({ ...error, message: `${party}: ${error.message}` }, { from: party, retryAfter: error.retryAfter });
}

/** In [0, 1): keeps clients that failed together from coming back together. */
const chance = (): number => crypto.getRandomValues(new Uint32Array(1))[0] / 2 ** 32;

function wait(seconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const abort = (): void => {
      clearTimeout(timer);
      reject(new SubrosaError('aborted', 'the run was stopped', { cause: signal.reason }));
    };
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', abort);
      resolve();
    }, 1000 * seconds);
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort, { once: true });
  });
}
