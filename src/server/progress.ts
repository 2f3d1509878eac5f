/** How far the steps at this party are, for the callers that asked to be told. */
import type { Params } from '../program/program.ts';

/** What a caller is told: how many steps came before its own and have not begun, or the rounds done. */
export type ProgressReport = { readonly queued: number } | { readonly round: number; readonly rounds: number };

export class Progress {
  /** Rounds done by session, in the order in which steps came. */
  private readonly steps = new Map<string, number>();
  private readonly totals = new Map<string, number>();

  /** `rounds`: how many a step of this program has. Asked once for each length. */
  constructor(private readonly rounds: (hash: string, params: Params) => number) {}

  /** What HostEvents.round says: the session's step has done `round`, counted from 0. */
  round(session: string, round: number): void {
    if (this.steps.has(session)) this.steps.set(session, round + 1);
  }

  /** A step has come. Returns how to ask how far it is. `end` must follow. */
  begin(session: string, hash: string, params: Params): () => ProgressReport {
    this.steps.set(session, 0);
    const key = `${hash} ${JSON.stringify(params)}`;
    let rounds = this.totals.get(key);
    if (rounds === undefined) {
      rounds = this.rounds(hash, params);
      if (this.totals.size >= mostTotals) this.totals.clear();
      this.totals.set(key, rounds);
    }
    const total = rounds;
    return () => {
      const round = this.steps.get(session) ?? 0;
      return round > 0 ? { round, rounds: total } : { queued: this.before(session) };
    };
  }

  end(session: string): void {
    this.steps.delete(session);
  }

  private before(session: string): number {
    let queued = 0;
    for (const [other, round] of this.steps) {
      if (other === session) break;
      if (round === 0) queued++;
    }
    return queued;
  }
}

const mostTotals = 1024;
