/** A whole service within this process: dealer, two parties, their HTTP interfaces, and a `fetch` that reaches them by name. For tests. */
import { createHash } from 'node:crypto';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Hono } from 'hono';
import { SubrosaError } from '../client/errors.ts';
import { type Manifest, manifestOf } from '../client/manifest.ts';
import type { Fetch } from '../client/party.ts';
import { threeKernels } from '../gates/gate.case.ts';
import type { Link } from '../net/link.ts';
import { linkPair } from '../net/memory.ts';
import type { Program, TensorDecl } from '../program/program.ts';
import { loadModel, type WeightSource } from '../runtime/model.ts';
import { DealerHost } from '../session/dealer.ts';
import type { Limits } from '../session/events.ts';
import { PartyHost } from '../session/party.ts';
import { oneModel } from '../session/store.ts';
import { type ClientApi, clientApi } from './api.ts';
import type { Caller, Catalogue } from './types.ts';

const share = (change: Partial<TensorDecl>): TensorDecl => ({ kind: 'share', bits: 32, scale: 2 ** 10, bound: 8, ...change });

/** y = x² + x for x [n, 4]. */
export const squares: Program = {
  format: 'subrosa-program/2',
  name: 'squares',
  weights: 'public',
  weightsHash: '0'.repeat(64),
  params: { n: { min: 1, max: 8 } },
  tensors: [
    share({}),
    share({ kind: 'wire' }),
    share({ scale: 2 ** 20, bound: 64 }),
    share({ bound: 64 }),
    share({ bound: 72 }),
    share({ bound: 72, bits: 20 }),
  ],
  inputs: [{ name: 'x', tensor: 0, shape: ['n', 4], scale: 2 ** 10, bound: 8 }],
  outputs: [{ name: 'y', tensor: 5 }],
  gates: [
    { id: 0, gate: 'open', layer: 'a', in: [0], out: [1], attrs: null },
    { id: 1, gate: 'square', layer: 'a', in: [1], out: [2], attrs: null },
    { id: 2, gate: 'extend', layer: 'a', in: [2], out: [3], attrs: { s: 10, bits: 22 } },
    { id: 3, gate: 'add', layer: 'b', in: [3, 0], out: [4], attrs: null },
    { id: 4, gate: 'reveal', layer: 'b', in: [4], out: [5], attrs: { s: 0, bits: 20, shape: [{ dim: 'n' }, 4] } },
  ],
};
export const none: WeightSource = {
  words: (name) => {
    throw new Error(name);
  },
  weightMask: (_, name) => {
    throw new Error(name);
  },
};

export interface Served {
  readonly program: Program;
  readonly weights: WeightSource;
  readonly hash: string;
  readonly task: string;
  /** Of client/. */
  readonly files: Readonly<Record<string, Uint8Array>>;
}

const text = (s: string): Uint8Array => new TextEncoder().encode(s);
export const plainSquares: Served = {
  program: squares,
  weights: none,
  hash: 'ab'.repeat(32),
  task: 'tensors',
  files: { 'client.json': text('{"a":1}'), 'sub/words.bin': Uint8Array.of(1, 2, 3) },
};

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

export function manifestFor(s: Served): Manifest {
  return manifestOf(
    s.program,
    s.hash,
    s.task,
    Object.fromEntries(Object.entries(s.files).map(([name, bytes]) => [name, { bytes: bytes.length, sha256: sha256(bytes) }])),
  );
}

/** Tokens of the callers these tests have, and what they may. */
export const callers: Record<string, Caller> = {
  'token-a': { name: 'ann' },
  'token-b': { name: 'bob' },
  'token-q': { name: 'quentin', stepsPerMinute: 2 },
};

export class Net {
  readonly dealer: DealerHost;
  readonly parties: readonly PartyHost[];
  /** As p0 and p1 hold them, and as both parties hold those to the dealer. */
  readonly between: readonly [Link, Link];
  readonly toDealer: readonly Link[];
  readonly apps: readonly Hono[];
  readonly catalogue: Catalogue;
  /** Requests as they came, in order, bodies copied. */
  readonly asked: {
    readonly party: number;
    readonly method: string;
    readonly path: string;
    readonly body?: Uint8Array;
    readonly signal?: AbortSignal | null;
  }[] = [];
  /** Frames between the parties that do not arrive. */
  lost: (type: number, to: string) => boolean = () => false;
  /** Answers instead of a party, where it returns something. */
  instead: (party: number, path: string, init: RequestInit) => Response | Promise<Response> | undefined = () => undefined;
  notReady?: SubrosaError;
  readonly errors: unknown[] = [];

  constructor({ served = plainSquares, limits, api = {} }: { served?: Served; limits?: Partial<Limits>; api?: Partial<ClientApi> } = {}) {
    const { hash } = served;
    const models = (['p0', 'p1', 'dealer'] as const).map((role, i) =>
      oneModel(hash, loadModel(served.program, role, threeKernels()[i], served.weights)),
    );
    const spki = ['s0', 's1'] as const;
    this.dealer = new DealerHost({ models: models[2], spki });
    this.parties = ([0, 1] as const).map((index) => new PartyHost({ index, models: models[index], spki, limits }));
    this.between = linkPair('p0', 'p1');
    const pairs = ['p0', 'p1'].map((p) => linkPair(p, 'dealer'));
    this.toDealer = pairs.map((p) => p[0]);
    this.parties.forEach((party, i) => {
      party.connectPeer(this.between[i]);
      const { onFrame } = this.between[i];
      this.between[i].onFrame = (f) => {
        if (!this.lost(f.type, `p${i}`)) onFrame(f);
      };
      party.connectDealer(pairs[i][0]);
      this.dealer.connect(i as 0 | 1, pairs[i][1]);
    });
    const manifest = manifestFor(served);
    const dir = mkdtempSync(join(tmpdir(), 'subrosa-net-'));
    const paths = Object.fromEntries(
      Object.entries(served.files).map(([name, bytes]) => {
        const path = join(dir, name.replaceAll('/', '_'));
        writeFileSync(path, bytes);
        return [name, path];
      }),
    );
    this.catalogue = {
      list: () => [{ name: manifest.name, hash, weights: manifest.weights, task: manifest.task }],
      manifest: (asked) => (asked === hash ? { text: JSON.stringify(manifest), manifest } : undefined),
      clientFile: (asked, name) => (asked === hash ? paths[name] : undefined),
    };
    this.apps = ([0, 1] as const).map(
      (index) =>
        clientApi({
          index,
          host: this.parties[index],
          catalogue: this.catalogue,
          authenticate: (c) => {
            const caller = callers[c.req.header('Authorization')?.replace('Bearer ', '') ?? ''];
            if (!caller) throw new SubrosaError('unauthorized', 'a token that is known here is expected');
            return caller;
          },
          ready: () => this.notReady,
          origins: ['https://page.test'],
          onError: (e) => this.errors.push(e),
          ...api,
        }) as unknown as Hono,
    );
  }

  /** A request to one party, by ann unless said. */
  request(party: 0 | 1, path: string, init: RequestInit = {}, token = 'token-a'): Promise<Response> {
    return Promise.resolve(
      this.apps[party].request(`https://p${party}.test${path}`, {
        ...init,
        headers: { Authorization: `Bearer ${token}`, ...init.headers },
      }),
    );
  }

  /** https://p0.test and https://p1.test, as the platform's fetch would: an abort ends the wait, and what the request reads. */
  readonly fetch: Fetch = async (input, init) => {
    const url = new URL(input);
    const party = ['p0.test', 'p1.test'].indexOf(url.host);
    if (party < 0) throw new TypeError('fetch failed', { cause: new Error(`getaddrinfo ENOTFOUND ${url.host}`) });
    const path = `${url.pathname}${url.search}`;
    const body = init.body ? (init.body as Uint8Array).slice() : undefined;
    this.asked.push({ party, method: init.method ?? 'GET', path, body, signal: init.signal });
    const gone = new Promise<never>((_, reject) => {
      const abort = (): void => reject(new DOMException('This operation was aborted', 'AbortError'));
      if (init.signal?.aborted) abort();
      init.signal?.addEventListener('abort', abort);
    });
    const answer = this.instead(party, path, init) ?? this.apps[party].request(input, { ...init, body } as RequestInit);
    return Promise.race([Promise.resolve(answer), gone]);
  };

  /** Open sessions at each party. */
  get sessions(): number[] {
    return this.parties.map((p) => p.load().sessions);
  }
}

export const settle = (ms = 20): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
