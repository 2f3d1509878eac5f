/**
 * What a round costs between real processes over mutual TLS, and what a stream of corrections costs.
 *
 *     node --import tsx bench/rounds.ts [--json] [--quick]        (Node 24: node bench/rounds.ts)
 *
 * A round: both parties send, both wait for both. Party 0 listens, party 1 dials, as in life; "busy" has a third process computing
 * meanwhile, as the dealer does. The arrangements:
 *
 *     main          protocol and socket on the main thread
 *     events        the same, the accepting side without the shortcut of src/net/accepted.ts
 *     worker-async  the protocol in a worker thread that waits in Atomics.wait, the socket on the main thread, woken by Atomics.waitAsync
 *     worker-post   the same, woken by postMessage
 */
import { type ChildProcess, fork } from 'node:child_process';
import { cpus } from 'node:os';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { type Identity, type KeyKind, makeIdentity } from '../src/net/keys.ts';
import type { Link } from '../src/net/link.ts';
import { dial, listen, type Peer } from '../src/net/tls.ts';

type Arrangement = 'main' | 'events' | 'worker-async' | 'worker-post';
type Job =
  | { kind: 'rounds'; size: number; count: number; arrangement: Arrangement }
  | { kind: 'stream'; from: 'p0' | 'p1'; size: number; count: number; inPlace: boolean; arrangement: Arrangement };
interface Setup {
  role: 'p0' | 'p1';
  identity: Identity;
  peer: Peer;
}
/** Microseconds per round for `rounds`; seconds for `stream`. */
interface Outcome {
  times: number[];
  cpu: number;
}

const here = fileURLToPath(import.meta.url);
const host = '127.0.0.1';

// ---------------------------------------------------------------------------------------------------------------- parties

async function party({ role, identity, peer }: Setup): Promise<void> {
  const links = role === 'p0' ? await accepted(identity, peer) : await dialed(identity, peer);
  for (;;) {
    const job = await ask<Job | null>('ready');
    if (job === null) break;
    const link = links[job.arrangement === 'events' ? 1 : 0];
    const running = job.kind === 'stream' ? stream(role, link, job) : rounds(link, job);
    link.resume();
    await ask(await running);
  }
  for (const link of links) link.close();
  process.disconnect();
}

async function accepted(identity: Identity, peer: Peer): Promise<Link[]> {
  const links: Promise<Link>[] = [];
  const ports: number[] = [];
  for (const plainReads of [false, true]) {
    const link = new Promise<Link>((resolve) => {
      void listen({ host, port: 0, identity, peers: [peer], plainReads }, resolve).then((listener) => {
        ports[Number(plainReads)] = listener.port;
        void link.then(() => listener.close());
        if (ports[0] && ports[1]) void ask({ ports });
      });
    });
    links.push(link);
  }
  return Promise.all(links);
}

async function dialed(identity: Identity, peer: Peer): Promise<Link[]> {
  const { ports } = await ask<{ ports: number[] }>('dialing');
  return Promise.all(ports.map((port) => dial({ host, port, identity, peer })));
}

/** Sends the parent a message and waits for its answer. */
function ask<T>(message: unknown): Promise<T> {
  return new Promise((resolve) => {
    process.once('message', (answer) => resolve((answer as { answer: T }).answer));
    process.send?.(message);
  });
}

function rounds(link: Link, job: Job & { kind: 'rounds' }): Promise<Outcome> {
  if (job.arrangement === 'worker-async' || job.arrangement === 'worker-post') return roundsInWorker(link, job);
  const message = new Uint8Array(job.size).fill(7);
  const received = new Uint8Array(job.size);
  const times = new Float64Array(job.count);
  const from = process.cpuUsage();
  return new Promise((resolve) => {
    let done = 0;
    let start = performance.now();
    link.frameSink = () => received;
    link.onFrame = () => {
      const now = performance.now();
      times[done++] = (now - start) * 1000;
      start = now;
      if (done < job.count) return void link.send(16, 1, done, message);
      link.pause(); // the peer may be in the next job already
      return resolve({ times: [...times], cpu: cpuSince(from) });
    };
    link.send(16, 1, 0, message);
  });
}

/** Words shared by the main thread and the worker: rounds asked for, rounds answered. */
const asked = 0;
const answered = 1;

function roundsInWorker(link: Link, { size, count, arrangement }: Job & { kind: 'rounds' }): Promise<Outcome> {
  const flags = new Int32Array(new SharedArrayBuffer(8));
  const message = new Uint8Array(new SharedArrayBuffer(size));
  const received = new Uint8Array(new SharedArrayBuffer(size));
  const byPost = arrangement === 'worker-post';
  const worker = new Worker(`(${workerBody})(require('node:worker_threads'))`, {
    eval: true,
    workerData: { flags, message, count, byPost },
    execArgv: [],
  });
  const from = process.cpuUsage();
  return new Promise((resolve) => {
    link.frameSink = () => received;
    let done = 0;
    link.onFrame = () => {
      if (++done === count) link.pause();
      Atomics.add(flags, answered, 1);
      Atomics.notify(flags, answered);
    };
    let sent = 0;
    const sendAsked = (): void => {
      for (; sent < Atomics.load(flags, asked); sent++) link.send(16, 1, sent, message);
    };
    worker.on('message', (times: Float64Array | null) => {
      sendAsked(); // also for the last round: its wake-up may be overtaken by the worker's end
      if (times === null) return undefined;
      resolve({ times: [...times], cpu: cpuSince(from) });
      return undefined;
    });
    const watch = async (): Promise<void> => {
      while (sent < count) {
        await waitAsync(flags, asked, sent);
        sendAsked();
      }
    };
    if (!byPost) void watch();
  });
}

/** Atomics.waitAsync is in every Node we support, and not yet in TypeScript's ES2023 library. */
function waitAsync(flags: Int32Array, at: number, value: number): Promise<unknown> | unknown {
  type Waiting = { async: boolean; value: Promise<string> | string };
  const { waitAsync: wait } = Atomics as unknown as { waitAsync(flags: Int32Array, at: number, value: number): Waiting };
  return wait(flags, at, value).value;
}

/** Runs from its own source text: Node 20 does not load TypeScript in workers. So it names nothing from outside, and 0 is `asked`, 1 `answered`. */
function workerBody({ parentPort, workerData }: typeof import('node:worker_threads')): void {
  const { flags, message, count, byPost } = workerData as { flags: Int32Array; message: Uint8Array; count: number; byPost: boolean };
  const times = new Float64Array(count);
  let start = performance.now();
  for (let i = 0; i < count; i++) {
    message[0] = i;
    Atomics.add(flags, 0, 1);
    if (byPost) parentPort?.postMessage(null);
    else Atomics.notify(flags, 0);
    // A late notification of the round before may wake it: look again.
    while (Atomics.load(flags, 1) <= i) Atomics.wait(flags, 1, i);
    const now = performance.now();
    times[i] = (now - start) * 1000;
    start = now;
  }
  parentPort?.postMessage(times);
}

function stream(role: 'p0' | 'p1', link: Link, job: Job & { kind: 'stream' }): Promise<Outcome> {
  const memory = new WebAssembly.Memory({ initial: 1024, maximum: 1024, shared: true });
  const slots = [0, 1].map((slot) => new Uint8Array(memory.buffer, slot * 2 ** 25, job.size).fill(slot + 1));
  const from = process.cpuUsage();
  const start = performance.now();
  return new Promise((resolve) => {
    const finish = (): void => {
      link.pause();
      resolve({ times: [(performance.now() - start) / 1000], cpu: cpuSince(from) });
    };
    if (role !== job.from) {
      link.frameSink = (_type, _session, seq) => slots[seq & 1];
      link.onFrame = ({ seq }) => {
        if (seq !== job.count - 1) return;
        link.frameSink = undefined;
        link.send(16, 1, 0, new Uint8Array(1));
        finish();
      };
      return;
    }
    link.frameSink = undefined;
    link.onFrame = finish;
    // Two slots, as the dealer has them: refilled when the link has let go of them.
    let seq = 0;
    let free = 2;
    const more = (): void => {
      while (seq < job.count && free > 0) {
        const slot = slots[seq & 1];
        if (job.inPlace) {
          free--;
          link.send(16, 1, seq++, slot, () => {
            free++;
            queueMicrotask(more);
          });
        } else if (!link.send(16, 1, seq++, slot)) break;
      }
    };
    link.onDrain = more;
    more();
  });
}

function cpuSince(from: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(from);
  return (user + system) / 1e6;
}

// ----------------------------------------------------------------------------------------------------------------- parent

class Child {
  readonly #process: ChildProcess;
  #inbox: unknown[] = [];
  #wake = (): void => {};

  constructor(...args: string[]) {
    this.#process = fork(here, args, { execArgv: process.execArgv });
    this.#process.on('message', (message) => {
      this.#inbox.push(message);
      this.#wake();
    });
  }

  async hear<T>(): Promise<T> {
    while (this.#inbox.length === 0) await new Promise<void>((resolve) => (this.#wake = resolve));
    return this.#inbox.shift() as T;
  }

  tell(answer: unknown): void {
    this.#process.send({ answer });
  }

  kill(): void {
    this.#process.kill();
  }
}

async function main(): Promise<void> {
  const quick = process.argv.includes('--quick');
  const json = process.argv.includes('--json');
  const results: Record<string, unknown>[] = [];
  const note = (row: Record<string, unknown>): void => {
    results.push(row);
    if (!json)
      console.log(
        Object.entries(row)
          .map(([key, value]) => `${key} ${value}`)
          .join('  '),
      );
  };
  if (!json) console.log(`node ${process.versions.node}, OpenSSL ${process.versions.openssl}, ${cpus().length} x ${cpus()[0]?.model}`);

  for (const kind of ['p256', 'ed25519', 'p256', 'ed25519'] as const)
    note({ handshake: kind, ...(await handshakes(kind, quick ? 20 : 200)) });

  const identities = [makeIdentity('p0'), makeIdentity('p1')];
  const parties = (['p0', 'p1'] as const).map((role, i) => {
    const child = new Child('party');
    const peer = identities[1 - i];
    return { role, child, setup: { role, identity: identities[i], peer: { name: peer.name, spki: peer.spki } } };
  });
  for (const { child, setup } of parties) {
    await child.hear();
    child.tell(setup);
  }
  const ports = await parties[0].child.hear();
  parties[0].child.tell(null);
  await parties[1].child.hear();
  parties[1].child.tell(ports);
  const run = async (job: Job): Promise<Outcome[]> => {
    await Promise.all(parties.map(({ child }) => child.hear()));
    for (const { child } of parties) child.tell(job);
    const outcomes = await Promise.all(parties.map(({ child }) => child.hear<Outcome>()));
    for (const { child } of parties) child.tell(null);
    return outcomes;
  };

  for (const third of ['idle', 'busy'] as const) {
    const spinner = third === 'busy' ? new Child('spin') : undefined;
    if (spinner) await spinner.hear();
    for (const [size, count] of [
      [64, 4000],
      [4096, 3000],
      [65536, 1500],
      [1 << 20, 200],
    ]) {
      for (const arrangement of ['main', 'events', 'worker-async', 'worker-post'] as const) {
        const some = quick ? count / 5 : count;
        await run({ kind: 'rounds', size, count: some >> 2, arrangement });
        const [p0, p1] = await run({ kind: 'rounds', size, count: some, arrangement });
        const times = inFours(p1.times).sort((a, b) => a - b);
        const perRound = (cpu: number): number => Math.round((cpu / some) * 1e6);
        note({
          third,
          bytes: size,
          arrangement,
          median: `${at(times, 0.5)} us`,
          p90: `${at(times, 0.9)} us`,
          cpu: `${perRound(p0.cpu)} + ${perRound(p1.cpu)} us`,
        });
      }
    }
    for (const [read, from, arrangement] of [
      ['dialed', 'p0', 'main'],
      ['accepted', 'p1', 'main'],
      ['accepted by events', 'p1', 'events'],
    ] as const) {
      for (const inPlace of [false, true]) {
        const count = quick ? 16 : 64;
        await run({ kind: 'stream', from, size: 1 << 24, count: 8, inPlace, arrangement });
        const outcomes = await run({ kind: 'stream', from, size: 1 << 24, count, inPlace, arrangement });
        const gigabytes = (count * 2 ** 24) / 1e9;
        const sender = outcomes[from === 'p0' ? 0 : 1];
        const reader = outcomes[from === 'p0' ? 1 : 0];
        const seconds = Math.max(...outcomes.map(({ times }) => times[0]));
        note({
          third,
          stream: '16 MiB',
          read,
          send: inPlace ? 'in place' : 'copied',
          'MB/s': Math.round((gigabytes * 1000) / seconds),
          'cpu s/GB': `${(sender.cpu / gigabytes).toFixed(2)} + ${(reader.cpu / gigabytes).toFixed(2)}`,
        });
      }
    }
    spinner?.kill();
  }
  await Promise.all(parties.map(({ child }) => child.hear()));
  for (const { child } of parties) child.tell(null);
  if (json) console.log(JSON.stringify({ node: process.versions.node, cpu: cpus()[0]?.model, cores: cpus().length, results }, null, 1));
}

/** Rounds may come in long and short ones, as one side or the other is ahead: only the sum of several is a round's time. */
function inFours(times: number[]): number[] {
  return Array.from(
    { length: times.length >> 2 },
    (_, i) => (times[4 * i] + times[4 * i + 1] + times[4 * i + 2] + times[4 * i + 3]) / 4,
  ).slice(1);
}

function at(sorted: number[], quantile: number): number {
  return Math.round(sorted[Math.floor(sorted.length * quantile)]);
}

/** Both ends in this process, one after the other: processor time of a whole connection. */
async function handshakes(kind: KeyKind, count: number): Promise<Record<string, string>> {
  const [one, two] = [makeIdentity('p0', kind), makeIdentity('p1', kind)];
  const listener = await listen({ host, port: 0, identity: one, peers: [two] }, (link) => {
    link.onFrame = () => {};
  });
  const times: number[] = [];
  let from = process.cpuUsage();
  for (let i = -5; i < count; i++) {
    if (i === 0) from = process.cpuUsage();
    const start = performance.now();
    const link = await dial({ host, port: listener.port, identity: two, peer: one });
    if (i >= 0) times.push(performance.now() - start);
    await new Promise<void>((resolve) => {
      link.onClose = () => resolve();
      link.close();
    });
  }
  const cpu = (cpuSince(from) / count) * 1000;
  await listener.close();
  times.sort((a, b) => a - b);
  return { median: `${times[count >> 1].toFixed(2)} ms`, cpu: `${cpu.toFixed(2)} ms for both ends` };
}

function spin(): void {
  process.send?.('spinning');
  const numbers = new Float64Array(4096);
  const turn = (): void => {
    const until = performance.now() + 50;
    while (performance.now() < until) for (let i = 0; i < numbers.length; i++) numbers[i] = numbers[i] * 0.99 + i;
    setImmediate(turn);
  };
  turn();
}

if (process.send) process.on('disconnect', () => process.exit());
if (process.argv[2] === 'party') await party(await ask<Setup>('up'));
else if (process.argv[2] === 'spin') spin();
else await main();
