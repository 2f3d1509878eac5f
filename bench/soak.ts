/**
 * Hours of mixed load and faults against three services in processes of their own: every answer checked, memory of each role sampled.
 *
 *     npm run soak -- --minutes 60 --seed 1 [--out FILE] [--vit COMPILED FOLDER]
 *
 * Roles are killed in the first fifth of the time and in the last twentieth only. Between the two each is one process, so that its memory can be
 * compared with itself: the last quarter of that time is to take no more than 5 % more or less than the first.
 */
import { existsSync, writeFileSync } from 'node:fs';
import { connect as connectTo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { Client } from '../src/client/client.ts';
import { SubrosaError } from '../src/client/errors.ts';
import { Broken, Bystander, checkedRun } from '../test/faults/clients.ts';
import { between, FaultCluster, limits, type Sample, wires } from '../test/faults/cluster.ts';
import { Models } from '../test/faults/models.ts';
import { Random } from '../test/faults/random.ts';
import { roles } from '../test/services.ts';

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '60' },
    seed: { type: 'string', default: '1' },
    out: { type: 'string', default: 'soak.json' },
    vit: { type: 'string', default: fileURLToPath(new URL('../.subrosa/compiled/fashion-vit-public', import.meta.url)) },
  },
});
const minutes = Number(values.minutes);
const random = new Random(Number(values.seed));
const models = new Models();
const small = models.make('small', 1, 'private', 1);
const deep = models.make('deep', 12, 'private', 2);
const vit = existsSync(values.vit) ? models.vit(values.vit) : undefined;
const subjects = [small, deep, ...(vit ? [vit] : [])];
const cluster = await FaultCluster.start(models.dir, { subjects, level: 'warn' });
const { proxies, services } = cluster;

const from = performance.now();
/** How much of the time is over. */
const gone = (): number => (performance.now() - from) / (60_000 * minutes);
const [killUntil, killFrom] = [0.2, 0.95];
let broken: unknown;
const bystanders = [
  new Bystander(cluster, small, 11, 150, onBroken),
  new Bystander(cluster, small, 12, 250, onBroken),
  new Bystander(cluster, deep, 13, 250, onBroken),
  ...(vit ? [new Bystander(cluster, vit, 14, 2500, onBroken)] : []),
];
function onBroken(e: unknown): void {
  broken ??= e;
}

let victim: Client | undefined;
const fetch = cluster.fetch();
const outcomes: Record<string, Record<string, number>> = {};
let slowest = 0;

/** A run of the victim, while something happens to it. */
async function suffer(signal?: AbortSignal): Promise<string> {
  try {
    victim ??= await cluster.connect('victim', deep, fetch);
    return (await checkedRun(victim, deep, random, { signal })).result;
  } catch (e) {
    if (e instanceof SubrosaError && e.code !== 'internal') return e.code;
    throw e;
  }
}

const noise = (address: string): void => {
  const [host, port] = address.split(':');
  const socket = connectTo(Number(port), host);
  socket.on('error', () => {});
  socket.write(random.bytes(random.int(1, 4096)));
  setTimeout(() => socket.destroy(), random.int(0, 400));
};

const faults: readonly { name: string; weight: number; kills?: boolean; act: () => Promise<void> }[] = [
  { name: 'cut', weight: 3, act: async () => proxies[random.pick(wires)].cut() },
  { name: 'close', weight: 2, act: async () => proxies[random.pick(wires)].shut() },
  { name: 'flip', weight: 2, act: async () => proxies[random.pick(between)].flip() },
  { name: 'short stall', weight: 2, act: () => stalled(300) },
  { name: 'long stall', weight: 2, act: () => stalled(1000 * limits.silence + 700) },
  { name: 'short stop', weight: 2, act: () => stopped(300) },
  { name: 'long stop', weight: 1, act: () => stopped(1000 * limits.silence + 700) },
  {
    name: 'delay',
    weight: 2,
    act: async () => {
      const proxy = proxies[random.pick(between)];
      proxy.delay = random.int(2, 15);
      await sleep(1500);
      proxy.delay = 0;
    },
  },
  { name: 'noise on a port', weight: 2, act: async () => noise(services.at(random.pick(['links', 'api'] as const), 'p0')) },
  {
    name: 'wrong token',
    weight: 2,
    act: async () => {
      const response = await cluster.fetch()(`${cluster.urls('bystander')[0]}/v1/models`, { headers: { authorization: 'Bearer none' } });
      await response.body?.cancel();
      if (response.status !== 401) throw new Broken(`a wrong token was answered ${response.status}`);
    },
  },
  { name: 'vanishing client', weight: 3, act: async () => {} },
  { name: 'nothing', weight: 4, act: async () => {} },
  { name: 'kill', weight: 6, kills: true, act: () => cluster.restart(random.pick(roles), random.int(0, 500)) },
];
async function stalled(ms: number): Promise<void> {
  const proxy = proxies[random.pick(between)];
  proxy.stall();
  await sleep(ms);
  proxy.release();
}
async function stopped(ms: number): Promise<void> {
  const { child } = services.running.get(random.pick(roles))!;
  child.kill('SIGSTOP');
  await sleep(ms);
  child.kill('SIGCONT');
}

const samples: { minute: number; roles: Record<string, Sample> }[] = [];
let injected = 0;

const median = (of: readonly number[]): number => [...of].sort((a, b) => a - b)[of.length >> 1];
/** From the median of the first quarter of the samples to that of the last, as a share. The engine gives memory back and takes it again: single samples say little. */
const drift = (all: readonly number[]): number => {
  const quarter = Math.ceil(all.length / 4);
  return median(all.slice(-quarter)) / median(all.slice(0, quarter)) - 1;
};

interface Spread {
  readonly least?: number;
  readonly most?: number;
  readonly first?: number;
  readonly last?: number;
  readonly drift?: number;
}
interface Memory {
  readonly processes: number;
  readonly rss: Spread;
  readonly heap: Spread;
  readonly external: Spread;
  readonly descriptors: Spread;
}
/** How far memory may go from where it was, as a share, and descriptors: connections of callers come and go. */
const allowed = { memory: 0.05, descriptors: 4 };

function summary() {
  const flat = samples.filter((s) => s.minute > killUntil * minutes + 0.25 && s.minute < killFrom * minutes);
  const memory = Object.fromEntries(
    roles.map((role): [string, Memory] => {
      const own = flat.map((s) => s.roles[role]);
      const of = (what: 'rss' | 'heap' | 'external' | 'descriptors'): Spread => {
        const all = own.map((o) => o[what]);
        if (all.length < 8) return {};
        return { least: Math.min(...all), most: Math.max(...all), first: all[0], last: all.at(-1), drift: drift(all) };
      };
      return [
        role,
        {
          processes: new Set(own.map((o) => o.pid)).size,
          rss: of('rss'),
          heap: of('heap'),
          external: of('external'),
          descriptors: of('descriptors'),
        },
      ];
    }),
  );
  const codes: Record<string, number> = {};
  for (const b of bystanders) for (const [code, n] of Object.entries(b.codes)) codes[code] = (codes[code] ?? 0) + n;
  return {
    seed: Number(values.seed),
    minutes: (performance.now() - from) / 60_000,
    injected,
    right: bystanders.reduce((s, b) => s + b.right, 0),
    codes,
    outcomes,
    slowestRecovery: slowest / 1000,
    broken: broken === undefined ? null : `${(broken as Error).stack}`,
    memory,
    flat: Object.values(memory).every(
      ({ processes, rss, descriptors: d }) =>
        processes === 1 && Math.abs(rss.drift ?? 0) <= allowed.memory && Math.abs(d.drift ?? 0) * (d.first ?? 0) <= allowed.descriptors,
    ),
  };
}
const write = (): void => writeFileSync(values.out, `${JSON.stringify({ ...summary(), samples }, null, 1)}\n`);

async function watch(): Promise<void> {
  for (let next = 0; gone() < 1; next += 10_000) {
    await sleep(Math.max(0, next - (performance.now() - from)));
    const now = await Promise.all(roles.map((r) => cluster.sample(r).catch(() => undefined)));
    if (now.every((s) => s !== undefined))
      samples.push({ minute: (performance.now() - from) / 60_000, roles: Object.fromEntries(roles.map((r, i) => [r, now[i] as Sample])) });
    if (samples.length % 3 === 0) write();
  }
}

const watching = watch();
try {
  while (gone() < 1 && broken === undefined) {
    const kills = gone() < killUntil || gone() > killFrom;
    const fault = random.weighted(faults.filter((f) => kills || !f.kills));
    const { name } = fault;
    proxies['p1-p0'].delay = random.pick([0, 0, 2]);
    const gives = name === 'vanishing client' ? AbortSignal.timeout(random.int(1, 40)) : undefined;
    const run = suffer(gives);
    run.catch(() => {});
    await sleep(random.int(0, 60));
    await fault.act();
    injected++;
    const late = sleep(20_000).then(() => 'late');
    const result = await Promise.race([run, late]);
    if (result === 'late') throw new Broken(`${name}: no answer and no error within 20 s`);
    outcomes[name] ??= {};
    outcomes[name][result] = (outcomes[name][result] ?? 0) + 1;
    slowest = Math.max(slowest, await cluster.ready(30));
    await sleep(random.int(1000, 4000));
  }
} catch (e) {
  onBroken(e);
}
await Promise.all(bystanders.map((b) => b.stop()));
await Promise.race([watching, sleep(12_000)]);
write();
await victim?.close();
await cluster.close();
const said = summary();
console.log(JSON.stringify(said, null, 1));
process.exit(broken === undefined && said.flat ? 0 : 1);
