/**
 * OpenAI's API over private models, on the person's own machine: prompts and answers are in the clear on this side of it, and nowhere else.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { type Context, Hono } from 'hono';
import { bodyLimit } from 'hono/body-limit';
import { streamSSE } from 'hono/streaming';
import { chat } from './chat.ts';
import { completion } from './completions.ts';
import { embeddings } from './embeddings.ts';
import { Engine, type EngineLimits, engineLimits } from './engine.ts';
import { ApiError, apiError, bad } from './errors.ts';
import type { EmbeddingModel, Models, TextModel } from './models.ts';
import { ChatRequest, CompletionRequest, EmbeddingRequest, parse } from './schema.ts';

export interface ProxyOptions {
  readonly models: Models;
  /** Keys that may call; without any, whoever reaches the port may. Callers with different keys share no cache in either case. */
  readonly apiKeys?: readonly string[];
  /** Host names a request may be for. Default: those of this machine, so that no web page can reach it by a name of its own. */
  readonly hosts?: (name: string) => boolean;
  readonly limits?: Partial<EngineLimits>;
  /** Hears what was answered as 500: the answer itself says nothing of it. */
  readonly onError?: (error: unknown) => void;
}

export interface Api {
  readonly app: Hono<Env>;
  /** Lets go of all kept sequences. */
  close(): void;
}

type Env = { Variables: { owner: string } };

const longestBody = 1 << 24;
const here = (name: string): boolean => /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/i.test(name);
const sha256 = (text: string): Buffer => createHash('sha256').update(text).digest();

export function openaiApi({ models, apiKeys = [], hosts = here, limits, onError }: ProxyOptions): Api {
  const engine = new Engine({ ...engineLimits, ...limits });
  const known = apiKeys.map(sha256);
  const app = new Hono<Env>();

  const find = <K extends 'text' | 'embedding'>(kind: K, id: string): K extends 'text' ? TextModel : EmbeddingModel => {
    const model = models.get(id);
    if (!model) throw unknown(models, id);
    if (model.kind !== kind)
      throw bad(kind === 'text' ? `'${id}' makes embeddings, and no text` : `'${id}' makes text, and no embeddings`, 'model');
    return model as never;
  };

  app.use(async (c, next) => {
    if (!hosts(new URL(c.req.url).hostname)) throw new ApiError(403, 'this host name is not one of this proxy', { code: 'forbidden_host' });
    const [, key = ''] = /^bearer +(\S+) *$/i.exec(c.req.header('authorization') ?? '') ?? [];
    const hash = sha256(key);
    if (known.length > 0 && !known.some((k) => timingSafeEqual(k, hash)))
      throw new ApiError(401, key === '' ? "an 'Authorization: Bearer KEY' header is needed" : 'Incorrect API key provided', {
        code: 'invalid_api_key',
      });
    c.set('owner', hash.toString('hex'));
    await next();
  });
  app.use(
    '/v1/*',
    bodyLimit({
      maxSize: longestBody,
      onError: () => {
        throw new ApiError(413, `the body is longer than ${longestBody} bytes`);
      },
    }),
  );
  app.onError((e, c) => refuse(c, e, onError));
  app.notFound((c) => refuse(c, new ApiError(404, `Unknown request URL: ${c.req.method} ${c.req.path}`, { code: 'unknown_url' })));

  app.get('/v1/models', (c) => c.json({ object: 'list', data: [...models].map(([id, m]) => listed(id, m)) }));
  app.get('/v1/models/:id{.+}', (c) => {
    const id = c.req.param('id');
    const model = models.get(id);
    if (!model) throw unknown(models, id);
    return c.json(listed(id, model));
  });

  app.post('/v1/chat/completions', async (c) => {
    const r = parse(ChatRequest, await json(c));
    return answer(c, r.stream, chat(engine, find('text', r.model), c.get('owner'), r));
  });
  app.post('/v1/completions', async (c) => {
    const r = parse(CompletionRequest, await json(c));
    return answer(c, r.stream, completion(engine, find('text', r.model), c.get('owner'), r));
  });
  app.post('/v1/embeddings', async (c) => {
    const r = parse(EmbeddingRequest, await json(c));
    return c.json(await embeddings(find('embedding', r.model), r, c.req.raw.signal));
  });

  async function answer(
    c: Context,
    stream: boolean | null | undefined,
    to: { stream(signal: AbortSignal): AsyncGenerator<object, void>; answer(signal: AbortSignal): Promise<object> },
  ): Promise<Response> {
    if (!stream) return c.json(await to.answer(c.req.raw.signal));
    return streamSSE(c, async (out) => {
      const gone = new AbortController();
      out.onAbort(() => gone.abort());
      const send = (data: string): Promise<void> => out.writeSSE({ data });
      try {
        for await (const chunk of to.stream(gone.signal)) await send(JSON.stringify(chunk));
        await send('[DONE]');
      } catch (e) {
        if (gone.signal.aborted) return;
        const error = told(e, onError);
        await send(JSON.stringify(error.body));
      }
    });
  }

  return { app, close: () => engine.sequences.close() };
}

const listed = (id: string, { created }: TextModel | EmbeddingModel): object => ({ id, object: 'model', created, owned_by: 'subrosa' });

const unknown = (models: Models, id: string): ApiError =>
  new ApiError(404, `The model '${id}' does not exist here: there are ${[...models.keys()].join(', ') || 'none'}`, {
    param: 'model',
    code: 'model_not_found',
  });

/** A page of another site can send forms and plain text without being asked; JSON it cannot. */
async function json(c: Context): Promise<unknown> {
  if (!/^application\/json\b/i.test(c.req.header('content-type') ?? ''))
    throw new ApiError(415, "'Content-Type: application/json' is needed");
  try {
    return await c.req.json();
  } catch (e) {
    throw e instanceof ApiError ? e : bad('the body is not JSON');
  }
}

function told(e: unknown, onError: ProxyOptions['onError']): ApiError {
  const error = apiError(e);
  if (error.status === 500) onError?.(e);
  return error;
}

function refuse(c: Context, e: unknown, onError?: ProxyOptions['onError']): Response {
  // Nobody reads it: the caller went away.
  if (c.req.raw.signal.aborted) return new Response(null, { status: 499 });
  const { status, body, more } = told(e, onError);
  if (more.retryAfter !== undefined) c.header('retry-after', `${more.retryAfter}`);
  return c.json(body, status as 400);
}
