/**
 * A list of faults, injected one after the other into three real services, while other clients run.
 *
 * After each fault all roles must be ready again, without a restart of any that was not ended, and both the client that was hit and all others must
 * have right answers. A wrong answer, or an error without a type, ends it at once; whatever else is not as expected is listed.
 */
import { createHash } from 'node:crypto';
import { cpSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ProgressReport } from '../../src/client/client.ts';
import { SubrosaError } from '../../src/client/errors.ts';
import type { Role } from '../../src/runtime/model.ts';
import { RoleModels } from '../../src/server/models.ts';
import { filesBelow } from '../server/parts.ts';
import { found } from '../server/search.ts';
import { roles } from '../services.ts';
import { failedSession } from './callers.ts';
import { Broken, checkedRun, type Outcome } from './clients.ts';
import { FaultCluster, type Sample, tokens } from './cluster.ts';
import type { Misuse, Moment, Strike } from './fault.ts';
import { Models, type Subject } from './models.ts';
import { Owner, smallDisk } from './operators.ts';
import type { Planned } from './plan.ts';
import { Random } from './random.ts';
import { Witness } from './witness.ts';
import { sleep, World } from './world.ts';

/** Seconds a client may wait for its error once the fault is noticed; and until all is well again. */
const promised = 2;
const recovery = 15;
/** Codes that others may meet while the roles they use are hit. */
const sharedFate = ['peer-failed', 'ended', 'not-ready', 'timeout', 'unreachable', 'draining'];
/** How many models of the small one's size fit in the memory for models: two do, a third one beside them does not. */
const fit = 2.5;

/** Bytes a model takes at a role. */
function sizeAt(role: Role, dir: string, { parts }: Subject): number {
  mkdirSync(dir);
  cpSync(parts.roles[role].dir, join(dir, parts.hash), { recursive: true });
  const models = new RoleModels({ dir, role, memory: 2 ** 33, threads: 1 });
  models.acquire(parts.hash);
  const [{ memory }] = models.states();
  models.close();
  return memory;
}

export interface Report {
  readonly planned: Planned;
  /** What the client that was hit, or the misuse, was answered. */
  readonly result: string;
  /** Milliseconds from the fault to that; from its end to right answers for everyone. */
  readonly answered: number;
  readonly recovered: number;
  /** Failures of bystanders, by code. */
  readonly others: Readonly<Record<string, number>>;
  readonly unexpected: readonly string[];
}

const digestOf = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

export class Campaign {
  readonly reports: Report[] = [];
  readonly samples: Record<string, Record<Role, Sample>> = {};
  /** Files that were there before the first fault. */
  private readonly before: ReadonlySet<string>;
  private lag = 0;
  private readonly clock: NodeJS.Timeout;
  private perRound = 5;

  private constructor(
    readonly world: World,
    /** Everything the roles could write to. */
    readonly home: string,
    /** Whether P0's models have a small disk of their own. */
    readonly disk: boolean,
    private readonly cleanUp: () => void,
  ) {
    this.before = new Set([...filesBelow(home).values()].map(digestOf));
    let last = performance.now();
    this.clock = setInterval(() => {
      const now = performance.now();
      this.lag = Math.max(this.lag, now - last - 20);
      last = now;
    }, 20);
  }

  static async start(seed: number): Promise<Campaign> {
    const [temporary, options] = [process.env.TMPDIR, process.env.NODE_OPTIONS];
    const home = mkdtempSync(join(tmpdir(), 'subrosa-campaign-'));
    process.env.TMPDIR = home;
    process.env.NODE_OPTIONS = `${options ?? ''} --import ${new URL('./collect.mjs', import.meta.url).href}`.trim();
    const models = new Models();
    const unmount = smallDisk(join(models.dir, 'models-p0'), 120);
    const cleanUp = (): void => {
      for (const [name, value] of [
        ['TMPDIR', temporary],
        ['NODE_OPTIONS', options],
      ] as const)
        if (value === undefined) delete process.env[name];
        else process.env[name] = value;
      unmount?.();
      rmSync(home, { recursive: true, force: true });
    };
    let cluster: FaultCluster | undefined;
    try {
      const [small, deep, third, extra] = [
        models.make('small', 1, 'private', 1),
        models.make('deep', 12, 'private', 2),
        models.make('third', 12, 'private', 3),
        models.make('extra', 2, 'private', 4),
      ];
      const huge = models.make('huge', 1, 'public', 5, { most: 100_000, padding: 6_000_000 });
      const owner = new Owner();
      const caps = roles.map((r) => [r, `${Math.round((fit * sizeAt(r, join(home, `size-${r}`), small)) / 2 ** 20)} MiB`]);
      const memory = Object.fromEntries(caps) as Record<Role, string>;
      cluster = await FaultCluster.start(models.dir, {
        subjects: [small, deep, third, huge],
        more: { owners: [owner.listed], memory },
      });
      const world = new World(cluster, { small, deep, third, huge }, new Witness(), new Random(seed));
      Object.assign(world, { owner, extra });
      await world.recovered(20);
      await world.settled(20);
      return new Campaign(world, home, unmount !== undefined, cleanUp);
    } catch (e) {
      await cluster?.close();
      cleanUp();
      throw e;
    }
  }

  /** Throws Broken. */
  async inject(planned: Planned): Promise<Report> {
    const { world } = this;
    const { cluster } = world;
    const { fault, variant, moment } = planned;
    const random = new Random(planned.seed);
    const before = new Map(roles.map((r) => [r, cluster.pid(r)]));
    this.lag = 0;
    for (const b of world.bystanders) b.take();
    const unexpected: string[] = [];
    const { outcome, from } = fault.during ? await this.strike(fault, variant, moment, random) : await this.misuse(fault, variant, random);
    const healed = performance.now();
    await cluster.ready(recovery);
    await world.recovered(recovery);
    await world.settled(recovery);
    world.check();
    const recovered = performance.now() - healed;
    const limit = 1000 * (fault.detect + promised) + this.lag;
    const answered = outcome.to - Math.max(from, outcome.from);
    if (!fault.codes.includes(outcome.result)) unexpected.push(`answered ${outcome.result} (${outcome.message ?? ''})`);
    if (answered > limit) unexpected.push(`answered after ${Math.round(answered)} ms`);
    const others: Record<string, number> = {};
    for (const f of world.bystanders.flatMap((b) => b.take())) {
      others[f.result] = (others[f.result] ?? 0) + 1;
      if (fault.hits !== 'all') unexpected.push(`a bystander was answered ${f.result}: ${f.message}`);
      else if (!sharedFate.includes(f.result)) unexpected.push(`a bystander was answered ${f.result}: ${f.message}`);
      else if (f.to - Math.max(from, f.from) > limit)
        unexpected.push(`a bystander was answered after ${Math.round(f.to - Math.max(from, f.from))} ms`);
    }
    for (const r of roles) {
      const ended = fault.during && fault.ends && variant === r;
      if (!ended && (cluster.pid(r) !== before.get(r) || cluster.services.running.get(r)?.child.exitCode !== null))
        unexpected.push(`${r} is another process`);
    }
    const report = { planned, result: outcome.result, answered, recovered, others, unexpected };
    this.reports.push(report);
    return report;
  }

  private async strike(fault: Strike, variant: string, moment: Moment, random: Random): Promise<{ outcome: Outcome; from: number }> {
    const { world } = this;
    const { cluster, subjects } = world;
    const leave = await fault.prepare?.(world, variant, random);
    let undo: (() => unknown) | undefined;
    try {
      if (leave) {
        await cluster.ready(recovery);
        await world.recovered(recovery);
        await world.settled(recovery);
        for (const b of world.bystanders) b.take();
      }
      cluster.proxies['p1-p0'].delay = 3;
      const client = await world.victim(moment === 'opening');
      const stop = new AbortController();
      world.leave = () => void stop.abort();
      let heard: (p: ProgressReport) => void = () => {};
      const first = new Promise<ProgressReport>((resolve) => {
        heard = resolve;
      });
      const running = checkedRun(client, subjects.deep, random, { signal: stop.signal, onProgress: (p) => heard(p) });
      running.catch(world.onBroken);
      await this.until(moment, first, running, random);
      const from = performance.now();
      undo = await fault.act(world, variant, random);
      const limit = 1000 * (fault.detect + promised) + 3000;
      const outcome = await Promise.race([running, sleep(limit).then(() => undefined)]);
      if (!outcome) throw new Broken(`neither an answer nor an error within ${limit} ms`);
      if (outcome.result === 'right' && outcome.to < from) this.perRound = 0.8 * this.perRound + (0.2 * (outcome.to - outcome.from)) / 37;
      return { outcome, from };
    } finally {
      await undo?.();
      cluster.proxies['p1-p0'].delay = 0;
      world.middle = undefined;
      await leave?.();
    }
  }

  /** Waits for a moment of a run: progress is told every tenth of a second, rounds between are counted by time. */
  private async until(moment: Moment, first: Promise<ProgressReport>, running: Promise<Outcome>, random: Random): Promise<void> {
    if (moment === 'opening') return sleep(random.int(0, 8));
    const target =
      moment === 'early' ? 0 : moment === 'last round' ? 36 : moment === 'any round' ? random.int(0, 37) : Number(moment.split(' ')[1]);
    const wait = async (): Promise<void> => {
      const p = await first;
      await sleep(Math.max(0, target - ('round' in p ? p.round : 0)) * this.perRound);
    };
    await Promise.race([wait(), running.catch(() => {})]);
  }

  private async misuse(fault: Misuse, variant: string, random: Random): Promise<{ outcome: Outcome; from: number }> {
    const from = performance.now();
    const result = await fault.act(this.world, variant, random).catch((e) => {
      if (e instanceof SubrosaError) return e.code;
      throw e;
    });
    return { outcome: { result, from, to: performance.now() }, from };
  }

  /** Sessions that fail, one after the other and some at once, at roles that live on. Answers by code. */
  async failSessions(count: number): Promise<Record<string, number>> {
    const codes: Record<string, number> = {};
    let left = count;
    const worker = async (): Promise<void> => {
      while (left-- > 0) {
        const code = await failedSession(this.world, this.world.random);
        codes[code] = (codes[code] ?? 0) + 1;
      }
    };
    await Promise.all(Array.from({ length: 6 }, worker));
    this.world.check();
    return codes;
  }

  /** Memory and descriptors of the roles, garbage collected. */
  async sample(name: string): Promise<void> {
    const { cluster } = this.world;
    await sleep(500);
    for (let i = 0; i < 2; i++) {
      for (const r of roles) process.kill(cluster.pid(r), 'SIGUSR2');
      await sleep(300);
    }
    this.samples[name] = Object.fromEntries(await Promise.all(roles.map(async (r) => [r, await cluster.sample(r)]))) as Record<
      Role,
      Sample
    >;
  }

  /** Where a share, a seed or a token was found that should be nowhere: files written since the start below the roles' folders and their temporary one, their logs. */
  leaks(): string[] {
    const { services } = this.world.cluster;
    const { secrets } = this.world.witness;
    const named = Object.fromEntries([
      ...secrets.flatMap((s, i) => [
        [`secret ${i}`, s],
        [`secret ${i} in hex`, Buffer.from(s.toString('hex'))],
        [`secret ${i} in base64`, Buffer.from(s.toString('base64'))],
      ]),
      ...Object.entries(tokens).map(([name, t]) => [`the token of ${name}`, Buffer.from(t)]),
    ]) as Record<string, Buffer>;
    const logs = Buffer.from(services.all.map((s) => s.stdout + s.stderr).join('\n'));
    const written = [...filesBelow(this.home).values()].filter((bytes) => !this.before.has(digestOf(bytes)));
    return [...found(written, named).map((n) => `${n} in a file`), ...found([logs], named).map((n) => `${n} in a log`)];
  }

  async close(): Promise<void> {
    clearInterval(this.clock);
    await this.world.close().catch(() => {});
    await this.world.cluster.close();
    this.cleanUp();
  }
}
