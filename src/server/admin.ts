/**
 * The owners' interface of a role: what models it has, uploads, removal. Every request is signed (owner.ts), and its body is checked
 * against the hash that was signed before any of it counts.
 *
 *   GET    /v1/admin/models                               {role, models, uploads}
 *   POST   /v1/admin/uploads/{hash}                       {weights, files: {name: {bytes, sha256}}} → {there} or {files: {name: bytes here}}
 *   PUT    /v1/admin/uploads/{hash}/{file…}?offset=N      a chunk of at most 16 MiB → {bytes}
 *   POST   /v1/admin/uploads/{hash}/commit                201 when the model is served
 *   DELETE /v1/admin/models/{hash}                        the model, and what lies of an upload of it
 */
import { join } from 'node:path';
import { type Context, Hono } from 'hono';
import { SubrosaError } from '../client/errors.ts';
import type { Role } from '../runtime/model.ts';
import { unknownModel } from '../session/store.ts';
import { errorResponse } from './api.ts';
import { Bodies } from './body.ts';
import { type RoleModels, uploadsFolder } from './models.ts';
import { bodyHash, OwnerGate, type OwnerKey } from './owner.ts';
import { type Disk, type UploadLimits, Uploads } from './uploads.ts';

export interface AdminOptions {
  readonly role: Role;
  readonly models: RoleModels;
  /** Asked at each request: a configuration may be read again. */
  readonly owners: () => readonly OwnerKey[];
  readonly limits?: Partial<UploadLimits>;
  /** Milliseconds. */
  readonly now?: () => number;
  readonly disk?: Disk;
  /** Hears what owners did: for the log. */
  readonly onEvent?: (event: { readonly owner: string; readonly action: 'declare' | 'commit' | 'remove'; readonly hash: string }) => void;
  /** Hears what was answered as 'internal': the answer itself says nothing of it. */
  readonly onError?: (error: unknown) => void;
}

type Env = { Variables: { owner: string; body: string } };

export const longestChunk = 2 ** 24;
const longestDeclaration = 2 ** 16;
const uploads = '/v1/admin/uploads/:hash{[0-9a-f]{64}}';

export function adminApi({ role, models, owners, limits, now, disk, onEvent, onError }: AdminOptions): Hono<Env> {
  const store = new Uploads(models, limits, disk, now);
  const gate = new OwnerGate(role, owners, join(models.dir, uploadsFolder, 'nonces'), now);
  const bodies = new Bodies({ uploadBytes: 16 * longestChunk, stallSeconds: 20 });
  const app = new Hono<Env>();

  const bodyOf = async (c: Context<Env>, most: number): Promise<Uint8Array> => {
    const body = await bodies.atMost(c.req.raw, most);
    if (bodyHash(body) !== c.get('body'))
      throw new SubrosaError('bad-message', 'the body is not the one that was signed: it was changed on its way');
    return body;
  };
  const did = (c: Context<Env>, action: 'declare' | 'commit' | 'remove'): void =>
    onEvent?.({ owner: c.get('owner'), action, hash: c.req.param('hash') as string });

  app.onError((e, c) => errorResponse(c, e, onError));
  app.use('/v1/admin/*', async (c, next) => {
    const { pathname, search } = new URL(c.req.url);
    const { owner, body } = gate.check(c.req.method, `${pathname}${search}`, c.req.header('authorization'));
    c.set('owner', owner);
    c.set('body', body);
    c.header('Cache-Control', 'no-store');
    await next();
  });

  app.get('/v1/admin/models', (c) => c.json({ role, models: models.states(), uploads: store.states() }));

  app.post(uploads, async (c) => {
    const { hash } = c.req.param();
    const files = store.declare(hash, json(await bodyOf(c, longestDeclaration)));
    did(c, 'declare');
    return c.json(files ? { there: false, files } : { there: true, files: {} });
  });

  app.post(`${uploads}/commit`, async (c) => {
    await store.commit(c.req.param('hash'));
    did(c, 'commit');
    return c.json({ there: true }, 201);
  });

  app.put(`${uploads}/:file{.+}`, async (c) => {
    const { hash, file } = c.req.param();
    const offset = c.req.query('offset') ?? '';
    if (!/^\d{1,15}$/.test(offset)) throw new SubrosaError('bad-message', "'?offset=N' says where the chunk begins");
    return c.json({ bytes: store.write(hash, file, Number(offset), await bodyOf(c, longestChunk)) });
  });

  app.delete('/v1/admin/models/:hash{[0-9a-f]{64}}', (c) => {
    const { hash } = c.req.param();
    const partial = store.remove(hash);
    if (models.takes(hash)) models.remove(hash);
    else if (!partial) throw unknownModel(hash);
    did(c, 'remove');
    return c.body(null, 204);
  });

  return app;
}

function json(body: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body));
  } catch {
    throw new SubrosaError('bad-message', 'the body is no JSON');
  }
}
