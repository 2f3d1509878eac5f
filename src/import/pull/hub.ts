import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileDownloadInfo, HubApiError, type ListFileEntry, listFiles, modelInfo } from '@huggingface/hub';
import { ModelError } from '../../graph/graph.ts';
import type { PullOptions } from './index.ts';
import { checkTarget, hashFile, readSource, type Source, type SourceFiles, settle, stage } from './staging.ts';
import { wanted } from './wanted.ts';

/**
 * The Hugging Face hub. A branch or tag is first turned into a commit, and everything after is asked for by that commit. Sizes and hashes
 * come with the listing (sha256 for large files, git's blob hash for small ones) and are checked on what arrived. A transfer that breaks
 * is taken up where it stopped, a few times at once and again by the next pull.
 */
export const HUB = 'https://huggingface.co';
const ATTEMPTS = 4;

/** Nobody answered: another source may be tried. */
export class Unreachable extends ModelError {}

export async function pullHub(repo: string, dir: string, options: PullOptions): Promise<Source> {
  const { endpoint = HUB, revision = 'main', sha256: pinned = {} } = options;
  const common = { hubUrl: endpoint, ...(options.accessToken === undefined ? {} : { accessToken: options.accessToken }) };
  const done = existsSync(dir) ? readSource(dir) : undefined;
  const mine = done?.from === 'hub' && done.name === repo ? done : undefined;
  if (mine?.revision === revision) return mine;
  let commit: unknown;
  try {
    commit = (
      await asked(repo, endpoint, options, () =>
        modelInfo({ ...common, fetch: timed(options), name: repo, revision, additionalFields: ['sha'] }),
      )
    ).sha;
  } catch (e) {
    // Without a hub, what is here already is the newest there is.
    if (e instanceof Unreachable && mine && options.revision === undefined) return mine;
    throw e;
  }
  if (typeof commit !== 'string' || !/^[0-9a-f]{40}$/.test(commit))
    throw new ModelError(`${endpoint} names no commit for ${repo}@${revision}`);
  if (mine?.revision === commit) return mine;
  checkTarget(dir);

  const listing = new Map<string, ListFileEntry>();
  await asked(repo, endpoint, options, async () => {
    for await (const entry of listFiles({
      ...common,
      fetch: timed(options),
      repo: { type: 'model', name: repo },
      revision: commit,
      recursive: true,
    }))
      if (entry.type === 'file') {
        if (!Number.isSafeInteger(entry.size) || entry.size < 0)
          throw new ModelError(`${repo}: ${entry.path} is listed with size ${entry.size}`);
        listing.set(entry.path, entry);
      }
  });
  const paths = wanted([...listing.keys()], `${repo}@${commit.slice(0, 12)}`);
  const staging = stage(dir, commit);
  const total = paths.reduce((n, p) => n + (listing.get(p) as ListFileEntry).size, 0);
  let before = 0;
  const files: SourceFiles = {};
  for (const path of paths) {
    const entry = listing.get(path) as ListFileEntry;
    const report = (bytes: number): void => options.onProgress?.({ file: path, done: before + bytes, total });
    const target = join(staging, path);
    const part = `${target}.part`;
    mkdirSync(dirname(target), { recursive: true });
    if (!existsSync(target)) {
      await transfer(part, entry.size, report, options, async (from, signal) => {
        const info = await fileDownloadInfo({
          ...common,
          fetch: timed(options, signal),
          repo: { type: 'model', name: repo },
          path,
          revision: commit,
        });
        if (!info) throw new ModelError(`${repo}: ${path} is listed and cannot be had`);
        if (info.size !== entry.size)
          throw new ModelError(`${repo}: ${path} is ${info.size} bytes at its address, ${entry.size} in the listing`);
        return body(info.url, from, entry.size, timed(options, signal), options.accessToken);
      });
    }
    const digest = await check(existsSync(target) ? target : part, entry, pinned[path], `${repo}: ${path}`);
    if (!existsSync(target)) renameSync(part, target);
    files[path] = { size: entry.size, sha256: digest };
    before += entry.size;
    report(0);
  }
  const source: Source = { from: 'hub', name: repo, revision: commit, at: endpoint, files };
  settle(staging, dir, source);
  return source;
}

/** A body and the byte of the file it begins at. */
interface Opened {
  readonly from: number;
  readonly body: AsyncIterable<Uint8Array>;
}

/** Appends to `part` until it has `size` bytes. */
async function transfer(
  part: string,
  size: number,
  report: (bytes: number) => void,
  { stallMs = 30_000, retryMs = 1000 }: PullOptions,
  begin: (from: number, signal: AbortSignal) => Promise<Opened>,
): Promise<void> {
  const file = await open(part, 'a');
  try {
    for (let failures = 0; ; ) {
      let have = (await file.stat()).size;
      if (have > size) {
        await file.truncate(0);
        have = 0;
      }
      report(have);
      if (have === size) return;
      const abort = new AbortController();
      const start = have;
      let timer = setTimeout(() => abort.abort(), stallMs);
      try {
        const { from, body } = await begin(have, abort.signal);
        if (from !== have) {
          await file.truncate(from);
          have = from;
        }
        for await (const chunk of body) {
          clearTimeout(timer);
          timer = setTimeout(() => abort.abort(new Error(`nothing came for ${stallMs} ms`)), stallMs);
          have += chunk.length;
          if (have > size) throw new ModelError(`${part}: the server sends more than the ${size} bytes it announced`);
          await file.appendFile(chunk).catch((e: Error) => Promise.reject(new ModelError(`${part}: ${e.message}`)));
          report(have);
        }
        if (have < size) throw new Error(`the connection closed ${size - have} bytes early`);
      } catch (e) {
        // Progress made is reason to go on: only attempts that brought nothing count.
        failures = have > start ? 1 : failures + 1;
        if (e instanceof ModelError) throw e;
        if (failures >= ATTEMPTS || (e instanceof HubApiError && e.statusCode < 500))
          throw new ModelError(`${part.replace(/\.part$/, '')}: ${reason(e)}; what has arrived is kept, pull again to go on`);
        await sleep(retryMs * 2 ** (failures - 1));
      } finally {
        clearTimeout(timer);
        abort.abort();
      }
    }
  } finally {
    await file.close();
  }
}

/** The file's bytes from `from` on. A server that does not know ranges sends it all: then it begins at 0. */
async function body(url: string, from: number, size: number, fetcher: typeof fetch, accessToken?: string): Promise<Opened> {
  const headers: Record<string, string> = { 'accept-encoding': 'identity' };
  if (from > 0) headers.range = `bytes=${from}-${size - 1}`;
  if (accessToken !== undefined) headers.authorization = `Bearer ${accessToken}`;
  const response = await fetcher(url, { headers });
  if (response.status !== 200 && response.status !== 206)
    throw new HubApiError(url, response.status, undefined, `the server answers ${response.status}`);
  if (!response.body) throw new Error('an empty answer');
  if (response.status === 206 && response.headers.get('content-range') !== `bytes ${from}-${size - 1}/${size}`)
    throw new ModelError(`${url}: bytes ${from}-${size - 1}/${size} were asked for, ${response.headers.get('content-range')} came`);
  return { from: response.status === 206 ? from : 0, body: response.body as unknown as AsyncIterable<Uint8Array> };
}

/** Size and hashes of what arrived; a wrong file is deleted, so that the next pull does not build on it. Returns its sha256. */
async function check(path: string, entry: ListFileEntry, pinned: string | undefined, label: string): Promise<string> {
  const sha256 = (await hashFile(path)).digest('hex');
  const git =
    entry.lfs === undefined && /^[0-9a-f]{40}$/.test(entry.oid ?? '')
      ? (await hashFile(path, createHash('sha1').update(`blob ${entry.size}\0`))).digest('hex')
      : undefined;
  const wrong = (kind: string, expected: string, got: string): never => {
    rmSync(path);
    throw new ModelError(`${label} is not what it should be: ${kind} ${got}, expected ${expected}`);
  };
  if (statSync(path).size !== entry.size) wrong('size', `${entry.size}`, `${statSync(path).size}`);
  if (entry.lfs && sha256 !== entry.lfs.oid.replace(/^sha256:/, '')) wrong('sha256', entry.lfs.oid, sha256);
  if (git !== undefined && git !== entry.oid) wrong('git hash', entry.oid ?? '', git);
  if (pinned !== undefined && sha256 !== pinned) wrong('sha256', `${pinned} (pinned)`, sha256);
  return sha256;
}

/** fetch that gives up on a server that does not begin to answer. */
const timed =
  ({ connectMs = 5000 }: PullOptions, signal: AbortSignal = AbortSignal.timeout(60_000)): typeof fetch =>
  async (input, init) => {
    const abort = new AbortController();
    const timer = setTimeout(() => abort.abort(new Error(`no answer within ${connectMs} ms`)), connectMs);
    try {
      return await fetch(input, { ...init, signal: AbortSignal.any([signal, abort.signal]) });
    } finally {
      clearTimeout(timer);
    }
  };

async function asked<T>(repo: string, endpoint: string, options: PullOptions, ask: () => Promise<T>): Promise<T> {
  try {
    return await ask();
  } catch (e) {
    if (e instanceof ModelError) throw e;
    if (!(e instanceof HubApiError)) throw new Unreachable(`${endpoint} cannot be reached: ${reason(e)}`);
    if (e.statusCode === 401 || e.statusCode === 403)
      throw new ModelError(`${repo}: not there, or not open to ${options.accessToken ? 'this token' : 'everyone (a token may help)'}`);
    if (e.statusCode === 404)
      throw new ModelError(`${repo}: no such model or revision${options.revision ? ` (${options.revision})` : ''} at ${endpoint}`);
    throw new Unreachable(`${endpoint} answers ${e.statusCode}: ${e.message}`);
  }
}

/** undici says 'fetch failed' and keeps the reason one level down. */
function reason(e: unknown): string {
  const error = e as Error & { cause?: Error & { code?: string } };
  return error.cause?.message || error.cause?.code || error.message || String(e);
}
