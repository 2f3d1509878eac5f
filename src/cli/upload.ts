/** An owner's side of a role's upload interface (server/admin.ts): signed requests, chunks that go on where they were cut. */
import type { KeyObject } from 'node:crypto';
import { createHash } from 'node:crypto';
import { closeSync, createReadStream, openSync, readSync, statSync } from 'node:fs';
import { Agent as PlainAgent, request as plainRequest, type RequestOptions } from 'node:http';
import { Agent, request } from 'node:https';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { codes, type ErrorCode, SubrosaError } from '../client/errors.ts';
import type { Role } from '../runtime/model.ts';
import { signRequest } from '../server/owner.ts';

/** What one role is to be given: paths of its files, by their names there. */
export type Part = ReadonlyMap<string, string>;

export interface UploadOptions {
  readonly chunkBytes?: number;
  /** Attempts without a byte of progress. */
  readonly attempts?: number;
  /** Bytes at the role, of how many. */
  readonly onProgress?: (bytes: number, of: number) => void;
}

const Answer = z.object({ error: z.object({ code: z.string(), message: z.string() }) });
const Here = z.object({ there: z.boolean(), files: z.record(z.string(), z.number()) });
const Listed = z.object({
  models: z.array(
    z.object({ hash: z.string(), name: z.string(), weights: z.string(), disk: z.number(), memory: z.number(), held: z.number() }),
  ),
  uploads: z.array(z.object({ hash: z.string(), bytes: z.number(), of: z.number() })),
});
export type Listed = z.infer<typeof Listed>;

/** Milliseconds without a byte from the role; a commit reads whole files before it answers. */
const silence = 30_000;
const commitSilence = 900_000;

export class RoleClient {
  private readonly agent: Agent | PlainAgent;

  constructor(
    readonly role: Role,
    private readonly url: URL,
    private readonly key: KeyObject,
    ca?: string,
  ) {
    this.agent =
      url.protocol === 'https:' ? new Agent({ keepAlive: true, ca, minVersion: 'TLSv1.2' }) : new PlainAgent({ keepAlive: true });
  }

  close(): void {
    this.agent.destroy();
  }

  async list(): Promise<Listed> {
    return Listed.parse(await this.ask('GET', '/v1/admin/models'));
  }

  /** False: there was nothing to remove. */
  async remove(hash: string): Promise<boolean> {
    try {
      await this.ask('DELETE', `/v1/admin/models/${hash}`);
      return true;
    } catch (e) {
      if (e instanceof SubrosaError && e.code === 'unknown-model') return false;
      throw e;
    }
  }

  /** Sends what is not there yet and has it served. 'there': it was already. Throws SubrosaError, `from` the role. */
  async upload(hash: string, weights: 'public' | 'private', part: Part, options: UploadOptions = {}): Promise<'uploaded' | 'there'> {
    const { attempts = 6 } = options;
    const files = Object.fromEntries(await Promise.all([...part].map(async ([name, path]) => [name, await described(path)] as const)));
    const declaration = Buffer.from(JSON.stringify({ weights, files }));
    const at = `/v1/admin/uploads/${hash}`;
    let [most, failed, reached] = [-1, 0, false];
    for (;;) {
      let sent = 0;
      try {
        const answer = Here.parse(await this.ask('POST', at, declaration));
        if (answer.there) return reached ? 'uploaded' : 'there';
        reached = true;
        sent = await this.send(at, part, answer.files, files, options);
        await this.ask('POST', `${at}/commit`, undefined, commitSilence);
        return 'uploaded';
      } catch (e) {
        if (e instanceof Cut) sent = e.sent;
        const cause = e instanceof Cut ? e.cause : e;
        if (!(cause instanceof SubrosaError) || !(cause.retryable || cause.code === 'mismatch')) throw cause;
        failed = sent > most ? 1 : failed + 1;
        most = Math.max(most, sent);
        // Where nobody has answered yet, an address may be wrong.
        if (failed >= (reached ? attempts : 2)) throw cause;
        await sleep(1000 * Math.max(cause.retryAfter ?? 0, 0.25 * 2 ** failed));
      }
    }
  }

  /** Chunk by chunk, from where each file ends at the role. Returns the bytes that are there then. */
  private async send(
    at: string,
    part: Part,
    here: Readonly<Record<string, number>>,
    files: Readonly<Record<string, { bytes: number }>>,
    options: UploadOptions,
  ): Promise<number> {
    const { chunkBytes = 2 ** 23, onProgress } = options;
    const of = Object.values(files).reduce((sum, f) => sum + f.bytes, 0);
    let sent = Object.values(here).reduce((a, b) => a + b, 0);
    try {
      for (const [name, path] of part)
        for (let offset = here[name] ?? 0; offset < files[name].bytes; ) {
          onProgress?.(sent, of);
          const chunk = pieceOf(path, offset, Math.min(chunkBytes, files[name].bytes - offset));
          await this.ask('PUT', `${at}/${name}?offset=${offset}`, chunk);
          offset += chunk.length;
          sent += chunk.length;
        }
    } catch (e) {
      throw new Cut(sent, e);
    }
    onProgress?.(of, of);
    return sent;
  }

  private ask(method: string, path: string, body?: Uint8Array, patience = silence): Promise<unknown> {
    // A proxy that gives a role a path of its own takes it away again before the role sees the request.
    const target = `${this.url.pathname.replace(/\/$/, '')}${path}`;
    const authorization = signRequest(this.key, { method, role: this.role, path, body });
    const headers = { authorization, 'content-length': body?.length ?? 0, ...(body ? { 'content-type': 'application/octet-stream' } : {}) };
    const options: RequestOptions = {
      method,
      path: target,
      host: this.url.hostname.replace(/^\[|\]$/g, ''),
      port: this.url.port || undefined,
      agent: this.agent,
      headers,
      timeout: patience,
    };
    return new Promise((resolve, reject) => {
      const fail = (e: NodeJS.ErrnoException): void => reject(unreachable(this.role, this.url, e));
      const call = (this.url.protocol === 'https:' ? request : plainRequest)(options, (answer) => {
        const pieces: Buffer[] = [];
        answer.on('data', (d: Buffer) => pieces.push(d));
        answer.on('error', fail);
        answer.on('end', () => {
          const text = Buffer.concat(pieces).toString();
          const status = answer.statusCode ?? 0;
          if (status >= 200 && status < 300) return resolve(text === '' ? undefined : JSON.parse(text));
          reject(refusal(this.role, status, text, Number(answer.headers['retry-after']) || undefined));
        });
      });
      call.on('timeout', () => call.destroy(Object.assign(new Error(`silent for ${patience / 1000} s`), { code: 'ETIMEDOUT' })));
      call.on('error', fail);
      call.end(body);
    });
  }
}

/** An upload that stopped after so many bytes. */
class Cut extends Error {
  constructor(
    readonly sent: number,
    cause: unknown,
  ) {
    super('cut', { cause });
  }
}

async function described(path: string): Promise<{ bytes: number; sha256: string }> {
  const hash = createHash('sha256');
  for await (const piece of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(piece as Uint8Array);
  return { bytes: statSync(path).size, sha256: hash.digest('hex') };
}

function pieceOf(path: string, offset: number, bytes: number): Uint8Array {
  const fd = openSync(path, 'r');
  try {
    const piece = new Uint8Array(bytes);
    let at = 0;
    for (let n = -1; n !== 0 && at < bytes; at += n) n = readSync(fd, piece, at, bytes - at, offset + at);
    if (at < bytes) throw new SubrosaError('bad-input', `${path} became shorter while it was sent`);
    return piece;
  } finally {
    closeSync(fd);
  }
}

function refusal(role: Role, status: number, text: string, retryAfter?: number): SubrosaError {
  try {
    const { code, message } = Answer.parse(JSON.parse(text)).error;
    if (Object.hasOwn(codes, code)) return new SubrosaError(code as ErrorCode, message, { from: role, retryAfter });
  } catch {
    // Not from a role: a proxy, or something else that listens there.
  }
  const known = status === 502 || status === 503 || status === 504;
  return new SubrosaError(known ? 'not-ready' : 'bad-message', `answered ${status}, not as a role does: is this its address?`, {
    from: role,
    retryAfter,
  });
}

/** Why a connection failed, in words; trying again helps unless it is about certificates or names. */
function unreachable(role: Role, url: URL, e: NodeJS.ErrnoException): SubrosaError {
  const why = tls[e.code ?? ''] ?? (e.code === 'EPROTO' ? 'no TLS is spoken there: is it http, or another port?' : undefined);
  if (why) return new SubrosaError('unauthorized', `${url.origin}: ${why} (${e.code})`, { from: role, cause: e });
  const text = e.code === 'ECONNREFUSED' ? 'nothing listens there' : e.code === 'ENOTFOUND' ? 'no such host' : e.message;
  return new SubrosaError('unreachable', `${url.origin}: ${text}`, { from: role, cause: e });
}

const authority =
  "an authority that is not known here signed its certificate: name that authority's certificate as 'ca' in the cluster file";
const tls: Readonly<Record<string, string>> = {
  SELF_SIGNED_CERT_IN_CHAIN: authority,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: authority,
  UNABLE_TO_GET_ISSUER_CERT: authority,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: authority,
  DEPTH_ZERO_SELF_SIGNED_CERT: "its certificate is self-signed: name it as 'ca' in the cluster file if it is the right one",
  CERT_SIGNATURE_FAILURE: "its certificate was signed by another authority than 'ca' in the cluster file",
  CERT_HAS_EXPIRED: 'its certificate has expired: renew it, or set the clock here',
  CERT_NOT_YET_VALID: 'its certificate is not valid yet: a clock is wrong, here or where it was made',
  ERR_TLS_CERT_ALTNAME_INVALID: 'its certificate is for other names than this address: use one of those, or make it anew for this one',
};
