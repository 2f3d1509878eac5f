/**
 * What clients see of a party: models, their manifests and files, sessions and steps. docs/openapi.yaml describes it.
 *
 * An adapter, no more: every session is a client's link to the host (hosted.ts), so what a host enforces holds here too. A session belongs to
 * the caller who opened it; to anyone else it is as if it were not there.
 */
import { createReadStream } from 'node:fs';
import { Readable } from 'node:stream';
import { type Context, Hono } from 'hono';
import { cors } from 'hono/cors';
import { z } from 'zod';
import { codes, SubrosaError } from '../client/errors.ts';
import type { Manifest } from '../client/manifest.ts';
import { inputBytes, outputsAt } from '../client/share.ts';
import { records, streamType } from '../client/stream.ts';
import { type Params, parametersOf } from '../program/program.ts';
import { decode, Open, type Progress } from '../session/messages.ts';
import { Bodies, type BodyLimits } from './body.ts';
import { type Host, HostedSession } from './hosted.ts';
import { Quota } from './quota.ts';
import type { Caller, Catalogue } from './types.ts';

export interface ApiLimits extends BodyLimits {
  /** Seconds a session may take to be ready at both parties. */
  readonly openSeconds: number;
}

export const apiLimits: ApiLimits = { openSeconds: 20, uploadBytes: 2 ** 29, stallSeconds: 20 };

export interface ClientApi {
  readonly index: 0 | 1;
  readonly host: Host;
  readonly catalogue: Catalogue;
  /** Who asks. Throws SubrosaError 'unauthorized' or 'forbidden'. */
  readonly authenticate: (c: Context) => Caller | Promise<Caller>;
  /** Why no session can be opened now ('not-ready', 'draining'); undefined when it can. */
  readonly ready: () => SubrosaError | undefined;
  /** Web pages that may call: origins as browsers send them, or '*'. */
  readonly origins?: readonly string[];
  readonly limits?: Partial<ApiLimits>;
  /** Hears what was answered as 'internal': the answer itself says nothing of it. */
  readonly onError?: (error: unknown) => void;
}

interface Session {
  readonly caller: string;
  readonly manifest: Manifest;
  readonly hosted: HostedSession;
  /** Whether a step is on its way. One that fails ends the session, so it need not be taken back. */
  running: boolean;
}

type Env = { Variables: { caller: Caller } };

const sessionId = /^[0-9a-f]{32}$/;
const Step = z
  .string()
  .regex(/^\d{1,10}$/)
  .transform(Number)
  .refine((step) => step <= 2 ** 32 - 2);
const longestOpen = 1024;
/** Reports of progress that wait for a slow reader. */
const mostReports = 16;
/** Seconds a caller is asked to wait where the error does not say. */
const waits: Partial<Record<keyof typeof codes, number>> = { busy: 1, 'not-ready': 2, draining: 10, 'out-of-memory': 5 };

export function clientApi(options: ClientApi): Hono<Env> {
  const { index, host, catalogue } = options;
  const limits = { ...apiLimits, ...options.limits };
  const bodies = new Bodies(limits);
  const quota = new Quota();
  const sessions = new Map<string, Session>();
  const numbers = new Set<number>();
  const app = new Hono<Env>();

  app.onError((e, c) => errorResponse(c, e, options.onError));
  app.notFound((c) => errorResponse(c, new SubrosaError('bad-message', `no such route: ${c.req.method} ${c.req.path}`)));
  app.get('/healthz', (c) => c.json({ status: 'ok' }));
  app.get('/readyz', (c) => {
    const why = options.ready();
    return why ? errorResponse(c, why) : c.json({ status: 'ready' });
  });

  app.use(
    '/v1/*',
    cors({
      origin: options.origins?.includes('*') ? '*' : [...(options.origins ?? [])],
      allowMethods: ['GET', 'POST', 'DELETE'],
      allowHeaders: ['Authorization', 'Content-Type', 'Accept'],
      exposeHeaders: ['Retry-After', 'ETag'],
      maxAge: 600,
    }),
  );
  app.use('/v1/*', async (c, next) => {
    c.header('X-Content-Type-Options', 'nosniff');
    c.header('Cache-Control', 'no-store');
    c.set('caller', await options.authenticate(c));
    await next();
  });

  app.get('/v1/models', (c) =>
    c.json({ party: index, models: catalogue.list().map(({ name, hash, weights, task }) => ({ name, hash, weights, task })) }),
  );

  const known = (hash: string): NonNullable<ReturnType<Catalogue['manifest']>> => {
    const found = catalogue.manifest(hash);
    if (!found) throw new SubrosaError('unknown-model', 'no such model here: GET /v1/models lists them');
    return found;
  };
  app.get('/v1/models/:hash', (c) => c.body(known(c.req.param('hash')).text, 200, { 'Content-Type': 'application/json' }));

  app.get('/v1/models/:hash/client/:file{.+}', (c) => {
    const [hash, name] = [c.req.param('hash'), c.req.param('file')];
    const { files } = known(hash).manifest;
    const path = Object.hasOwn(files, name) ? catalogue.clientFile(hash, name) : undefined;
    if (path === undefined) throw new SubrosaError('unknown-model', 'the model has no such file: its manifest lists them');
    const etag = `"${files[name].sha256}"`;
    c.header('ETag', etag);
    c.header('Cache-Control', 'private, max-age=31536000, immutable');
    if (c.req.header('If-None-Match') === etag) return c.body(null, 304);
    c.header('Content-Type', name.endsWith('.json') ? 'application/json' : 'application/octet-stream');
    c.header('Content-Length', `${files[name].bytes}`);
    return c.req.method === 'HEAD' ? c.body(null) : c.body(Readable.toWeb(createReadStream(path)) as ReadableStream);
  });

  app.post('/v1/sessions', async (c) => {
    const why = options.ready();
    if (why) throw why;
    const { id, hash } = decode(Open, await bodies.atMost(c.req.raw, longestOpen), 'the caller');
    const { manifest } = known(hash);
    const number = Number.parseInt(id.slice(0, 8), 16);
    if (numbers.has(number)) throw new SubrosaError('busy', 'a session of this number is open: draw another id');
    const caller = c.get('caller').name;
    numbers.add(number);
    const hosted = new HostedSession(host, caller, `p${index}`, number, () => {
      numbers.delete(number);
      sessions.delete(id);
    });
    sessions.set(id, { caller, manifest, hosted, running: false });
    await hosted.open(id, hash, limits.openSeconds, c.req.raw.signal);
    return c.json({ id, hash }, 201);
  });

  const own = (c: Context<Env>): Session => {
    const id = c.req.param('id') ?? '';
    const session = sessionId.test(id) ? sessions.get(id) : undefined;
    if (session?.caller !== c.get('caller').name) throw new SubrosaError('ended', 'no such session: open a new one');
    return session as Session;
  };

  app.post('/v1/sessions/:id/steps/:step', async (c) => {
    const session = own(c);
    try {
      return await step(c, session);
    } catch (e) {
      // The other party may have its half of the input already: it must not wait for this one.
      session.hosted.end(new SubrosaError('ended', 'a step of the session failed: open a new one'));
      throw e;
    }
  });

  const step = async (c: Context<Env>, session: Session): Promise<Response> => {
    const { manifest, hosted } = session;
    const { success, data: number } = Step.safeParse(c.req.param('step'));
    if (!success) throw new SubrosaError('bad-message', 'steps are whole numbers from 0');
    const params = paramsOf(manifest, new URL(c.req.url).searchParams);
    const bytes = inputBytes(manifest, params)[index];
    if (session.running) throw new SubrosaError('step-order', 'a session runs one input at a time');
    quota.take(c.get('caller'));
    session.running = true;
    const { sizes } = outputsAt(manifest, params);
    const { signal } = c.req.raw;
    let listener = (_: Progress): void => {};
    const words = hosted
      .run(number, params, await bodies.exactly(c.req.raw, bytes), sizes, signal, (progress) => listener(progress))
      .finally(() => {
        session.running = false;
      });
    if (c.req.header('Accept') !== streamType) return c.body(await words, 200, { 'Content-Type': 'application/octet-stream' });
    const stream = recordStream(
      words,
      (report) => {
        listener = report;
      },
      () => hosted.end(new SubrosaError('aborted', 'the caller went away')),
      options.onError,
    );
    return c.body(stream, 200, { 'Content-Type': streamType });
  };

  app.delete('/v1/sessions/:id', (c) => {
    own(c).hosted.end(new SubrosaError('ended', 'the caller ended the session'));
    return c.body(null, 204);
  });

  return app;
}

/** Parameters as the query says them: those of the program, once each, and no other. */
function paramsOf(manifest: Manifest, query: URLSearchParams): Params {
  const names = parametersOf(manifest.params, { sequences: Number(query.get('sequences')) }).map(([name]) => name);
  if ([...query.keys()].sort().join() !== [...names].sort().join())
    throw new SubrosaError('bad-message', `the query says the program's parameters: ${names.join(', ') || 'it has none'}`);
  return Object.fromEntries(
    names.map((name) => {
      const text = query.get(name) as string;
      if (!/^\d{1,9}$/.test(text)) throw new SubrosaError('bad-message', `${name}: a whole number is expected`);
      return [name, Number(text)];
    }),
  );
}

/** Progress as the host reports it, then the words, or why there are none. `gone`: nobody reads on. */
function recordStream(
  words: Promise<Uint8Array>,
  listen: (report: (progress: Progress) => void) => void,
  gone: () => void,
  onError: ClientApi['onError'],
): ReadableStream<Uint8Array> {
  return new ReadableStream<Uint8Array>(
    {
      start(controller) {
        listen((progress) => {
          // A caller that does not read is not told more and more.
          if ((controller.desiredSize ?? 0) > 0) controller.enqueue(records.progress(JSON.stringify(progress)));
        });
        words
          .then(records.output, (e) => records.error(JSON.stringify(errorBody(e, onError))))
          .then((last) => {
            controller.enqueue(last);
            controller.close();
          })
          // Cancelled.
          .catch(() => {});
      },
      cancel: gone,
    },
    { highWaterMark: mostReports },
  );
}

function sayable(e: unknown, onError?: (e: unknown) => void): SubrosaError {
  if (e instanceof SubrosaError && e.code !== 'internal') return e;
  onError?.(e);
  return e instanceof SubrosaError ? e : new SubrosaError('internal', 'internal error: see the log of this party');
}

function errorBody(e: unknown, onError?: (e: unknown) => void): { error: { code: string; message: string; retryAfter?: number } } {
  const { code, message, retryAfter = waits[code] } = sayable(e, onError);
  return { error: { code, message, ...(retryAfter === undefined ? {} : { retryAfter }) } };
}

/** Every error a caller sees has this form, and the status its code has. */
export function errorResponse(c: Context, e: unknown, onError?: (e: unknown) => void): Response {
  const body = errorBody(e, onError);
  const { code, retryAfter } = body.error;
  if (retryAfter !== undefined) c.header('Retry-After', `${retryAfter}`);
  c.header('Cache-Control', 'no-store');
  // A caller that went away reads no status; a response must have one.
  return c.json(body, (codes[code as keyof typeof codes].status || 499) as 400);
}
