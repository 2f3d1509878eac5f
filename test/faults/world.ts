/** What a fault finds: the cluster, clients that run all the time, one client for it to hit, and what must hold after it. */
import type { Client } from '../../src/client/client.ts';
import { SubrosaError } from '../../src/client/errors.ts';
import type { Fetch } from '../../src/client/party.ts';
import { Broken, Bystander, checkedRun, type Outcome } from './clients.ts';
import type { FaultCluster } from './cluster.ts';
import type { Middle } from './middle.ts';
import type { Subject } from './models.ts';
import type { Owner } from './operators.ts';
import type { Random } from './random.ts';
import type { Witness } from './witness.ts';

export interface Subjects {
  /** Few rounds; the bystanders' own. */
  readonly small: Subject;
  /** Many rounds: the one that is hit. */
  readonly deep: Subject;
  /** Does not fit beside the other two under the memory cap. */
  readonly third: Subject;
  /** Fits under no circumstances. */
  readonly huge: Subject;
}

export const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export class World {
  readonly bystanders: Bystander[] = [];
  /** A wrong answer, an error without a type: the first one. */
  broken?: unknown;
  /** For requests that no client would make. */
  readonly ask: Fetch;
  /** What stands in a wire, while it does. */
  middle?: Middle;
  /** Whose models the roles take, and one that they do not have. */
  owner?: Owner;
  extra?: Subject;
  /** Ends the victim's run by its signal. */
  leave: () => undefined = () => undefined;
  private client?: Client;
  private readonly fetch: Fetch;

  constructor(
    readonly cluster: FaultCluster,
    readonly subjects: Subjects,
    readonly witness: Witness,
    readonly random: Random,
  ) {
    this.ask = cluster.fetch();
    this.fetch = witness.fetch(cluster.fetch());
    for (let i = 0; i < 2; i++)
      this.bystanders.push(new Bystander(cluster, subjects.small, random.int(0, 2 ** 31), 40, this.onBroken, witness));
  }

  readonly onBroken = (e: unknown): void => {
    this.broken ??= e;
  };
  check(): void {
    if (this.broken) throw this.broken;
  }

  /** The client that is hit; another one each time it is asked for `fresh`. */
  async victim(fresh = false): Promise<Client> {
    if (fresh) await this.client?.close();
    if (fresh || !this.client) this.client = await this.cluster.connect('victim', this.subjects.deep, this.fetch);
    return this.client;
  }

  /** A right answer for the victim: a session that was lost may cost it one attempt, a role that is coming back some more. */
  async recovered(seconds: number): Promise<void> {
    const until = performance.now() + 1000 * seconds;
    for (;;) {
      let last: Outcome | undefined;
      try {
        last = await checkedRun(await this.victim(), this.subjects.deep, this.random);
      } catch (e) {
        if (!(e instanceof SubrosaError)) throw e;
        last = { result: e.code, message: e.message, from: 0, to: 0 };
      }
      if (last.result === 'right') return;
      if (performance.now() > until)
        throw new Broken(`no right answer within ${seconds} s after the fault: ${last.result}: ${last.message}`);
      await sleep(30);
    }
  }

  /** Every bystander has had a right answer from now on: what they meet next is the next fault's doing. */
  async settled(seconds: number): Promise<void> {
    const before = this.bystanders.map((b) => b.right);
    const until = performance.now() + 1000 * seconds;
    while (this.bystanders.some((b, i) => b.right <= before[i])) {
      this.check();
      if (performance.now() > until) throw new Broken(`a bystander had no right answer within ${seconds} s`);
      await sleep(10);
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.bystanders.map((b) => b.stop()));
    await this.client?.close();
  }
}
