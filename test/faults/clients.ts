/** Clients that run all the time, whatever happens, and check every answer: right, or a typed error. Anything else ends the run. */

import type { Client } from '../../src/client/client.ts';
import { SubrosaError } from '../../src/client/errors.ts';
import type { FaultCluster } from './cluster.ts';
import type { Subject } from './models.ts';
import { Random } from './random.ts';
import type { Witness } from './witness.ts';

export interface Outcome {
  /** 'right', or the error's code. */
  readonly result: string;
  /** By `performance.now()`. */
  readonly from: number;
  readonly to: number;
  readonly message?: string;
}

/** An answer that is not the plaintext model's, or an error that is none of ours. */
export class Broken extends Error {
  override name = 'Broken';
}

/** One run, checked. Throws Broken. */
export async function checkedRun(
  client: Client,
  subject: Subject,
  random: Random,
  options: Parameters<Client['run']>[1] = {},
): Promise<Outcome> {
  const { inputs, right } = subject.draw(random);
  const from = performance.now();
  try {
    const answer = await client.run(inputs, options);
    if (!right(answer)) throw new Broken(`a wrong answer of ${subject.name}`);
    return { result: 'right', from, to: performance.now() };
  } catch (e) {
    if (e instanceof SubrosaError) {
      if (e.code === 'internal') throw new Broken(`an internal error: ${e.message}`, { cause: e });
      return { result: e.code, from, to: performance.now(), message: e.message };
    }
    throw e instanceof Broken ? e : new Broken(`an error without a type: ${(e as Error).stack}`, { cause: e });
  }
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Runs one input after the other, with pauses, until it is stopped. */
export class Bystander {
  right = 0;
  readonly codes: Record<string, number> = {};
  readonly milliseconds: number[] = [];
  broken?: unknown;
  /** Those that failed, since `take`. */
  private failed: Outcome[] = [];
  private stopped = false;
  private readonly done: Promise<void>;

  constructor(
    private readonly cluster: FaultCluster,
    private readonly subject: Subject,
    seed: number,
    private readonly pause: number,
    private readonly onBroken: (e: unknown) => void = () => {},
    private readonly witness?: Witness,
  ) {
    this.done = this.go(new Random(seed)).catch((e) => {
      this.broken = e;
      this.onBroken(e);
    });
  }

  /** Failures since the last time. */
  take(): Outcome[] {
    const { failed } = this;
    this.failed = [];
    return failed;
  }
  stop(): Promise<void> {
    this.stopped = true;
    return this.done;
  }

  private async go(random: Random): Promise<void> {
    let client: Client | undefined;
    const fetch = this.witness?.fetch(this.cluster.fetch()) ?? this.cluster.fetch();
    while (!this.stopped) {
      const from = performance.now();
      let outcome: Outcome;
      try {
        client ??= await this.cluster.connect('bystander', this.subject, fetch);
        outcome = await checkedRun(client, this.subject, random);
      } catch (e) {
        if (!(e instanceof SubrosaError) || e.code === 'internal') throw e;
        outcome = { result: e.code, from, to: performance.now(), message: e.message };
      }
      if (outcome.result === 'right') {
        this.right++;
        this.milliseconds.push(outcome.to - outcome.from);
      } else {
        this.codes[outcome.result] = (this.codes[outcome.result] ?? 0) + 1;
        this.failed.push(outcome);
      }
      await sleep(this.pause * (0.5 + random.next()));
    }
    await client?.close();
  }
}
