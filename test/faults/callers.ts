/** Callers of the HTTP interface that do what they should not. Each is answered a code, and nobody else notices. */
import { randomBytes } from 'node:crypto';
import { type TLSSocket, connect as tlsConnect } from 'node:tls';
import { Broken } from './clients.ts';
import { limits, tokens } from './cluster.ts';
import type { Misuse } from './fault.ts';
import type { Random } from './random.ts';
import { sleep, type World } from './world.ts';

type Index = 0 | 1;
interface Asked {
  readonly method?: string;
  readonly token?: string;
  readonly body?: Uint8Array | string;
  readonly signal?: AbortSignal;
}

/** 'right' for an answer, else the code of the error. Throws Broken for what is neither. */
async function ask(
  w: World,
  party: Index,
  path: string,
  { method = 'POST', token = tokens.victim, body, signal }: Asked = {},
): Promise<string> {
  const response = await w.ask(`${w.cluster.urls('bystander')[party]}${path}`, {
    method,
    body: typeof body === 'string' ? new TextEncoder().encode(body) : (body as Uint8Array<ArrayBuffer> | undefined),
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/octet-stream' },
    signal,
  });
  const text = await response.text();
  if (response.ok) return 'right';
  let code: unknown;
  try {
    code = (JSON.parse(text) as { error?: { code?: unknown } }).error?.code;
  } catch {}
  if (typeof code !== 'string')
    throw new Broken(`${method} ${path} was answered ${response.status}, without a code: ${text.slice(0, 200)}`);
  return code;
}

const newId = (): string => randomBytes(16).toString('hex');
const open = (w: World, id: string, hashes: readonly [string, string]): Promise<string[]> =>
  Promise.all(hashes.map((hash, i) => ask(w, i as Index, '/v1/sessions', { body: JSON.stringify({ id, hash }) })));
const end = (w: World, id: string): Promise<string[]> =>
  Promise.all([0, 1].map((i) => ask(w, i as Index, `/v1/sessions/${id}`, { method: 'DELETE' })));
/** A session that is open at both parties. */
async function opened(w: World): Promise<string> {
  const id = newId();
  const { hash } = w.subjects.small.parts;
  const codes = await open(w, id, [hash, hash]);
  if (codes.some((c) => c !== 'right')) throw new Broken(`a session could not be opened: ${codes}`);
  return id;
}
const rowBytes = 16;
const bodyOf = (party: Index, n: number): Buffer => randomBytes(party === 0 ? 32 : rowBytes * n);
const step = (
  w: World,
  party: Index,
  id: string,
  n: number,
  body: Uint8Array = bodyOf(party, n),
  number = 0,
  more: Asked = {},
): Promise<string> => ask(w, party, `/v1/sessions/${id}/steps/${number}?n=${n}`, { body, ...more });
/** The code that says most: what the others say follows from it. */
const cause = (codes: readonly string[]): string =>
  codes.find((c) => !['right', 'ended', 'peer-failed'].includes(c)) ?? codes.find((c) => c !== 'right') ?? 'right';

/** Bytes of a long answer that can be had by who begins to read it `wait` seconds late; it is longer than what two machines' sockets hold. */
function readLate(w: World, party: Index, wait: number): Promise<number> {
  const [host, port] = w.cluster.services.at('api', party === 0 ? 'p0' : 'p1').split(':');
  const get = `GET /v1/models/${w.subjects.huge.parts.hash}/client/client.safetensors HTTP/1.1\r\nHost: a\r\nConnection: close\r\n`;
  return new Promise((resolve) => {
    let bytes = 0;
    const socket = tlsConnect({ host, port: Number(port), ca: w.cluster.authority.certPem }, () => {
      socket.write(`${get}Authorization: Bearer ${tokens.victim}\r\n\r\n`);
      setTimeout(() => {
        socket.on('data', (d: Buffer) => {
          bytes += d.length;
        });
      }, 1000 * wait);
    });
    socket.on('error', () => {});
    socket.on('end', () => socket.end());
    socket.on('close', () => resolve(bytes));
  });
}

/** A connection to a party's interface, below HTTP. Resolves with what it was told when the party has closed it; throws Broken when it does not. */
function raw(w: World, party: Index, speak: (s: TLSSocket) => void, seconds: number): Promise<string> {
  const [host, port] = w.cluster.services.at('api', party === 0 ? 'p0' : 'p1').split(':');
  return new Promise((resolve, reject) => {
    let heard = '';
    const socket = tlsConnect({ host, port: Number(port), ca: w.cluster.authority.certPem }, () => speak(socket));
    const late = setTimeout(() => {
      socket.destroy();
      reject(new Broken(`the party kept a connection of this kind for more than ${seconds} s`));
    }, 1000 * seconds);
    socket.on('data', (d: Buffer) => {
      heard += d.toString('latin1').slice(0, 1000);
    });
    socket.on('error', () => {});
    socket.on('end', () => socket.end());
    socket.on('close', () => {
      clearTimeout(late);
      resolve(heard);
    });
  });
}
const statusOf = (heard: string): string => /^HTTP\/1\.1 (\d+)/.exec(heard)?.[1] ?? 'closed';
const head = (path: string, more: string): string =>
  `POST ${path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${tokens.victim}\r\n${more}\r\n`;

const misuse = (
  name: string,
  weight: number,
  variants: readonly string[],
  codes: readonly string[],
  act: Misuse['act'],
  more: Partial<Pick<Misuse, 'detect' | 'hits'>> = {},
): Misuse => ({ name, weight, variants, codes, act, during: false, hits: 'nobody', detect: 0, ...more });
const party = (variant: string): Index => (variant.startsWith('p1') ? 1 : 0);
const either = ['p0', 'p1'] as const;

export const callers: readonly Misuse[] = [
  misuse('wrong token', 8, either, ['unauthorized'], (w, v, r) =>
    ask(w, party(v), '/v1/models', { method: 'GET', token: `wrong-${r.int(0, 1e9)}` }),
  ),
  misuse('unknown program', 6, either, ['unknown-model'], (w, v, r) =>
    ask(w, party(v), '/v1/sessions', { body: JSON.stringify({ id: newId(), hash: r.bytes(32).toString('hex') }) }),
  ),
  misuse('different programs at the two parties', 8, ['small, deep', 'deep, small'], ['mismatch'], async (w, v) => {
    const [a, b] = v.split(', ').map((n) => w.subjects[n as 'small' | 'deep'].parts.hash);
    return cause(await open(w, newId(), [a, b]));
  }),
  misuse(
    'a session at one party only',
    2,
    either,
    ['timeout'],
    (w, v) => ask(w, party(v), '/v1/sessions', { body: JSON.stringify({ id: newId(), hash: w.subjects.small.parts.hash }) }),
    {
      detect: limits.wait + 0.5,
    },
  ),
  misuse('one share only', 3, either, ['timeout'], async (w, v) => step(w, party(v), await opened(w), 1), { detect: limits.wait + 0.5 }),
  misuse('different parameters at the two parties', 10, ['1, 2', '3, 2', '8, 1'], ['bad-message'], async (w, v) => {
    const id = await opened(w);
    const [a, b] = v.split(', ').map(Number);
    return cause(await Promise.all([step(w, 0, id, a), step(w, 1, id, b)]));
  }),
  misuse(
    'a body of another length',
    8,
    ['p0 shorter', 'p0 longer', 'p1 shorter', 'p1 longer', 'p0 none', 'p1 none'],
    ['bad-message', 'too-large'],
    async (w, v) => {
      const id = await opened(w);
      const p = party(v);
      const body = {
        shorter: bodyOf(p, 2).subarray(1),
        longer: Buffer.concat([bodyOf(p, 2), Buffer.alloc(1 << 16)]),
        none: Buffer.alloc(0),
      }[v.split(' ')[1]]!;
      return cause(await Promise.all([step(w, p, id, 2, body), step(w, (1 - p) as Index, id, 2)]));
    },
  ),
  misuse(
    'parameters that the program does not take',
    5,
    ['n=0', 'n=9', 'n=-1', 'n=1e3', 'm=1', '', 'n=1&n=2'],
    ['bad-message', 'bad-input'],
    async (w, v) => {
      const id = await opened(w);
      return cause(
        await Promise.all([0, 1].map((i) => ask(w, i as Index, `/v1/sessions/${id}/steps/0?${v}`, { body: bodyOf(i as Index, 1) }))),
      );
    },
  ),
  misuse('no JSON', 5, either, ['bad-message'], (w, v, r) => ask(w, party(v), '/v1/sessions', { body: r.bytes(r.int(1, 900)) })),
  misuse('an endless session request', 4, either, ['too-large'], (w, v) =>
    ask(w, party(v), '/v1/sessions', { body: Buffer.alloc(1 << 20, 0x20) }),
  ),
  misuse('a step that was run before', 8, ['step 0 twice'], ['step-order', 'ended'], async (w) => {
    const id = await opened(w);
    const first = await Promise.all([step(w, 0, id, 1), step(w, 1, id, 1)]);
    if (first.some((c) => c !== 'right')) throw new Broken(`a step failed: ${first}`);
    return cause(await Promise.all([step(w, 0, id, 1), step(w, 1, id, 1)]));
  }),
  misuse("another caller's session", 6, ['its step', 'its end'], ['ended'], async (w, v) => {
    const id = await opened(w);
    const other = { token: tokens.bystander };
    const code =
      v === 'its step'
        ? await step(w, 0, id, 1, undefined, 0, other)
        : await ask(w, 0, `/v1/sessions/${id}`, { method: 'DELETE', ...other });
    const after = await Promise.all([step(w, 0, id, 1), step(w, 1, id, 1)]);
    if (after.some((c) => c !== 'right')) throw new Broken(`a stranger disturbed a session: ${after}`);
    await end(w, id);
    return code;
  }),
  misuse('one id for two sessions', 5, either, ['busy'], async (w, v) => {
    const id = await opened(w);
    const code = await ask(w, party(v), '/v1/sessions', { body: JSON.stringify({ id, hash: w.subjects.small.parts.hash }) });
    await end(w, id);
    return code;
  }),
  misuse('two steps at once', 5, ['at both'], ['step-order', 'ended', 'bad-message'], async (w) => {
    const id = await opened(w);
    return cause(
      await Promise.all([step(w, 0, id, 8), step(w, 1, id, 8), step(w, 0, id, 8, undefined, 1), step(w, 1, id, 8, undefined, 1)]),
    );
  }),
  misuse('noise in place of HTTP', 6, either, ['400', 'closed'], async (w, v, r) =>
    statusOf(await raw(w, party(v), (s) => s.end(Buffer.concat([r.bytes(200), Buffer.from('\r\n\r\n')])), 6)),
  ),
  misuse('headers without end', 3, either, ['431', 'closed', '400'], async (w, v) =>
    statusOf(await raw(w, party(v), (s) => void s.write(`GET / HTTP/1.1\r\n${`X-${'a'.repeat(100)}: b\r\n`.repeat(400)}`), 8)),
  ),
  misuse(
    'headers that do not come',
    1,
    either,
    ['408', 'closed'],
    async (w, v) => statusOf(await raw(w, party(v), (s) => void s.write('GET / HT'), 8)),
    { detect: 4 },
  ),
  misuse(
    'a body that does not come',
    1,
    either,
    ['504', '408', 'closed'],
    async (w, v) => {
      const id = await opened(w);
      const p = party(v);
      const other = step(w, (1 - p) as Index, id, 1);
      const heard = raw(
        w,
        p,
        (s) =>
          void s.write(
            Buffer.concat([
              Buffer.from(head(`/v1/sessions/${id}/steps/0?n=1`, `Content-Length: ${p === 0 ? 32 : 16}\r\nConnection: close\r\n`)),
              randomBytes(7),
            ]),
          ),
        8,
      );
      const code = await other;
      if (!['timeout', 'ended', 'peer-failed'].includes(code)) throw new Broken(`the other party answered ${code}`);
      return statusOf(await heard);
    },
    { detect: limits.wait + 0.5 },
  ),
  misuse(
    'a reader that does not read',
    1,
    either,
    ['closed'],
    async (w, v) => {
      const { bytes } = w.subjects.huge.parts.roles.p0.client()!.files['client.safetensors'];
      if ((await readLate(w, party(v), 0)) < bytes) throw new Broken('a file was not sent');
      return (await readLate(w, party(v), 2 * limits.answer + 1)) < bytes ? 'closed' : 'right';
    },
    { detect: 2 * limits.answer + 2 },
  ),
  misuse('a caller that vanishes', 14, ['before its share', 'in the middle of it', 'while it waits'], ['gone'], async (w, v, r) => {
    const id = await opened(w);
    if (v !== 'before its share') {
      const stop = new AbortController();
      const both = [
        step(w, 0, id, 8, undefined, 0, { signal: stop.signal }),
        v === 'while it waits' ? step(w, 1, id, 8, undefined, 0, { signal: stop.signal }) : undefined,
      ];
      setTimeout(() => stop.abort(), r.int(1, 15));
      await Promise.allSettled(both);
    }
    if (v === 'before its share') await end(w, id);
    return 'gone';
  }),
  misuse('noise on the port of the roles', 6, ['p0', 'dealer'], ['closed'], async (w, v, r) => {
    const { connect } = await import('node:net');
    const [host, port] = w.cluster.services.at('links', v as 'p0' | 'dealer').split(':');
    const socket = connect(Number(port), host);
    socket.on('error', () => {});
    socket.end(r.bytes(r.int(1, 3000)));
    await Promise.race([new Promise((resolve) => socket.once('close', resolve)), sleep(1000)]);
    socket.destroy();
    return 'closed';
  }),
];

/** One session that fails, in one of many ways; answers what it was told. */
export async function failedSession(w: World, random: Random): Promise<string> {
  const { hash } = w.subjects.small.parts;
  switch (random.int(0, 5)) {
    case 0:
      return cause(await open(w, newId(), [hash, w.subjects.deep.parts.hash]));
    case 1: {
      const id = await opened(w);
      return cause(await Promise.all([step(w, 0, id, 2), step(w, 1, id, 1)]));
    }
    case 2: {
      const id = await opened(w);
      const stop = new AbortController();
      const running = [0, 1].map((i) => step(w, i as Index, id, 8, undefined, 0, { signal: stop.signal }));
      setTimeout(() => stop.abort(), random.int(0, 10));
      return (await Promise.allSettled(running)).every((r) => r.status === 'fulfilled') ? 'right' : 'aborted';
    }
    case 3: {
      const id = await opened(w);
      return cause(await Promise.all([step(w, 0, id, 2, randomBytes(31)), step(w, 1, id, 2)]));
    }
    case 4: {
      const id = await opened(w);
      const [code] = await Promise.all([step(w, 1, id, 2), sleep(random.int(1, 20)).then(() => end(w, id))]);
      return code;
    }
    default: {
      const id = await opened(w);
      return cause(
        await Promise.all([0, 1].map((i) => ask(w, i as Index, `/v1/sessions/${id}/steps/0?n=99`, { body: bodyOf(i as Index, 1) }))),
      );
    }
  }
}
