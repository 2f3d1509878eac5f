/**
 * A client of two parties over HTTP: checks that both serve the same program before anything is shared.
 *
 * One program for browsers, Node 20+, Deno and Bun: it uses fetch, crypto.getRandomValues and AbortController, and nothing else.
 */
import { both } from './both.ts';
import { answerSeconds, Client } from './client.ts';
import { SubrosaError } from './errors.ts';
import type { Manifest } from './manifest.ts';
import { type Fetch, Party } from './party.ts';

export interface ConnectOptions {
  /** Base URLs of the two parties, in either order: each says which it is. They must be servers of their own, run by people who do not work together. */
  readonly parties: readonly [string | URL, string | URL];
  /** A model's name, when both parties have one of it, or its hash. */
  readonly model: string;
  /** Bearer token: one for both, or one each in the order of `parties`. */
  readonly token?: string | readonly [string, string];
  /** Stands in for the platform's: client certificates, proxies, tests. */
  readonly fetch?: Fetch;
  /** How often a run may be tried again, each time in a new session with new shares. Default 2. */
  readonly retries?: number;
  /** Seconds one party's answer may come after the other's: a connection that is dead says nothing. Default 30. */
  readonly silence?: number;
  /** Allows plain HTTP to servers that are not this machine: whoever is on the way sees both shares, and so the input. For tests. */
  readonly insecure?: boolean;
  readonly signal?: AbortSignal;
}

const longestManifest = 1 << 24;

/**
 * Throws SubrosaError: 'mismatch' when the two do not serve the same program, or are not P0 and P1; 'unknown-model'; 'bad-input' for URLs
 * that cannot be used; and what asking a server may end with.
 */
export async function connect(options: ConnectOptions): Promise<Client> {
  const { signal, model } = options;
  const urls = options.parties.map((url) => partyUrl(url, options.insecure === true));
  if (urls[0].origin === urls[1].origin)
    throw new SubrosaError('mismatch', `both parties are ${urls[0].origin}: one server that has both shares can read the input`);
  const tokens = typeof options.token === 'object' ? options.token : [options.token, options.token];
  const fetcher: Fetch = options.fetch ?? ((input, init) => fetch(input, init));
  const given = urls.map((url, i) => new Party(url, tokens[i], fetcher)) as [Party, Party];

  const lists = await both(given, signal, async (party, _, stop) => {
    const { party: index, models } = await party.json('v1/models', { signal: stop, seconds: answerSeconds });
    if ((index !== 0 && index !== 1) || !Array.isArray(models))
      throw new SubrosaError('bad-message', `${party.url.origin} does not answer as a party does`, { from: party.name });
    party.name = `p${index}`;
    return { index, hash: hashOf(models as Listed[], model, party.name) };
  });
  if (lists[0].index === lists[1].index)
    throw new SubrosaError('mismatch', `${urls[0].origin} and ${urls[1].origin} are both ${given[0].name}: a P0 and a P1 are needed`);
  const [{ hash }] = lists;
  if (hash !== lists[1].hash)
    throw new SubrosaError(
      'mismatch',
      `the parties have different programs for '${model}': ${hash.slice(0, 16)}… and ${lists[1].hash.slice(0, 16)}…`,
    );
  const parties: [Party, Party] = lists[0].index === 0 ? given : [given[1], given[0]];

  const [a, b] = await both(parties, signal, (party, _, stop) =>
    party.ask(`v1/models/${hash}`, { signal: stop, seconds: answerSeconds, most: longestManifest }),
  );
  if (a.length !== b.length || a.some((byte, i) => byte !== b[i]))
    throw new SubrosaError('mismatch', `the parties describe program ${hash.slice(0, 16)}… differently`);
  return new Client(parties, manifestIn(a, hash), options.retries ?? 2, options.silence ?? answerSeconds);
}

interface Listed {
  readonly name?: unknown;
  readonly hash?: unknown;
}

function hashOf(models: readonly Listed[], model: string, party: string): string {
  const found = models.filter((m) => m.hash === model || m.name === model);
  if (found.length === 1 && /^[0-9a-f]{64}$/.test(`${found[0].hash}`)) return found[0].hash as string;
  const names = models.map((m) => `${m.name}`).slice(0, 20);
  throw new SubrosaError(
    'unknown-model',
    found.length > 1
      ? `${party} has ${found.length} models called '${model}': give the hash`
      : `${party} has no model '${model}': it has ${names.join(', ') || 'none'}`,
    { from: party },
  );
}

function manifestIn(bytes: Uint8Array, hash: string): Manifest {
  let m: Partial<Manifest> | undefined;
  try {
    m = JSON.parse(new TextDecoder().decode(bytes)) as Partial<Manifest>;
  } catch {}
  if (
    m?.format !== 'subrosa-manifest/1' ||
    m.hash !== hash ||
    !m.params ||
    !Array.isArray(m.inputs) ||
    !Array.isArray(m.outputs) ||
    !m.files
  )
    throw new SubrosaError(
      'bad-message',
      `the parties' description of program ${hash.slice(0, 16)}… is not one this client reads: it may be newer`,
    );
  return m as Manifest;
}

/** Shares travel encrypted, or not beyond this machine. A path is kept: a party may be served below one. */
function partyUrl(given: string | URL, insecure: boolean): URL {
  let url: URL;
  try {
    url = new URL(given);
  } catch {
    throw new SubrosaError('bad-input', `'${given}' is no URL: one such as https://p0.example.org is expected`);
  }
  const here = /^(localhost|.*\.localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(url.hostname);
  if (url.protocol !== 'https:' && !(url.protocol === 'http:' && (here || insecure)))
    throw new SubrosaError('bad-input', `${url.origin}: https is expected, so that no one on the way sees both shares`);
  if (!url.pathname.endsWith('/')) url.pathname += '/';
  return url;
}
