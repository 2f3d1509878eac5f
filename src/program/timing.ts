/**
 * How long a step takes over a network, by playing its schedule: rounds one after the other, the dealer's stream beside them.
 *
 *   In round r each party computes, sends its opening and waits for the other's. P1 also waits for the corrections it reads in r.
 *   A message is underway for half a round trip, and as long as its bytes take on a line.
 *   P1's line brings P0's openings and the dealer's blocks: while both come, each gets half of it.
 *   The dealer makes blocks in order, each once P1 has let go those that lie in its place (`RingPlan.after`).
 *   TCP starts slowly: a connection sends `initialWindow` bytes unanswered, and twice as many after each answer, up to what the line holds.
 *
 * Every role has one line of the network's bandwidth, each way. Nothing is lost, and no other traffic stands in a queue.
 */

/** A network between any two roles: seconds there and back, bits a second each way. */
export interface Line {
  readonly rtt: number;
  readonly bandwidth: number;
}

export interface Work {
  /** By round: seconds either party computes before its message goes out, bytes each sends. The last one sends nothing. */
  readonly rounds: readonly { readonly seconds: number; readonly opened: number }[];
  /** The dealer's, in order: seconds to make it, the round that reads it, the round after which it is let go, blocks let go before. */
  readonly blocks: readonly { readonly seconds: number; readonly bytes: number; readonly needed: number; readonly done: number; readonly after: number }[];
  /** Bytes from the client to P1, and from each party to the client. */
  readonly input: number;
  readonly output: number;
}

/** Ten segments (RFC 6928). */
export const initialWindow = 14_480;

/** Seconds from the client's shares to its answer. */
export function simulate(work: Work, line: Line): number {
  const way = line.rtt / 2;
  const seconds = (bytes: number): number => (8 * bytes) / line.bandwidth;
  // P1 has the input and says so; P0 says go and begins; P1 begins, and asks the dealer.
  let p0 = way + seconds(work.input) + way;
  let p1 = p0 + way;
  const stream = new Stream(work, line, p1 + way);
  const [toP1, toP0] = [new Window(line), new Window(line)];
  const last = work.rounds.length - 1;
  for (const [r, { seconds: computed, opened }] of work.rounds.entries()) {
    const sent0 = p0 + computed;
    // What P0 sends comes whether P1 stands still or not.
    const came = r === last ? 0 : stream.opening(sent0 + way + toP1.wait(opened), opened);
    const sent1 = Math.max(p1, stream.needed(r)) + computed;
    stream.letGo(r, sent1);
    p0 = Math.max(sent0, r === last ? 0 : sent1 + way + toP0.wait(opened) + seconds(opened));
    p1 = Math.max(sent1, came);
  }
  return Math.max(p0, p1) + way + seconds(work.output);
}

/** What TCP lets a connection send at once. */
class Window {
  private bytes = initialWindow;
  constructor(private readonly line: Line) {}

  /** Round trips a message waits for answers to its own first part. */
  wait(message: number): number {
    let left = message;
    let waits = 0;
    const most = Math.max(initialWindow, (this.line.rtt * this.line.bandwidth) / 8);
    for (; left > this.bytes && this.bytes < most; waits++) {
      left -= this.bytes;
      this.bytes *= 2;
    }
    return waits * this.line.rtt;
  }
}

/** P1's line: blocks in order, and openings between them. */
class Stream {
  private readonly rate: number;
  /** Until here the line's use is settled. */
  private now = 0;
  /** The block on the line, and what is left of it. */
  private at = 0;
  private left: number;
  private readonly arrived: number[] = [];
  private readonly ready: number[] = [];
  private dealer: number;
  private readonly released: number[] = [];

  constructor(
    private readonly work: Work,
    private readonly line: Line,
    private readonly from: number,
  ) {
    this.rate = line.bandwidth / 8;
    this.left = work.blocks[0]?.bytes ?? 0;
    this.dealer = from;
    this.released.push(from - line.rtt / 2);
  }

  /** When an opening is whole whose first byte comes at `t`. */
  opening(t: number, bytes: number): number {
    this.play(t);
    let left = bytes;
    let now = Math.max(t, this.now);
    while (left > 0) {
      const begins = this.begins();
      if (begins > now) {
        const until = Math.min(begins, now + left / this.rate);
        left -= (until - now) * this.rate;
        now = until;
        if (left < 1e-6) break;
      } else {
        const [dealt, until] = this.pace(now, this.rate / 2);
        const end = Math.min(until, now + left / (this.rate - dealt), now + this.left / dealt);
        left -= (end - now) * (this.rate - dealt);
        this.take((end - now) * dealt, end);
        now = end;
        if (left < 1e-6) break;
      }
    }
    this.now = Math.max(this.now, now);
    return now;
  }

  /** When all blocks are there that round r reads. */
  needed(r: number): number {
    const { blocks } = this.work;
    let when = 0;
    for (let i = this.read; i < blocks.length && blocks[i].needed <= r; i++) {
      if (this.arrived[i] === undefined) this.play(Number.POSITIVE_INFINITY, i);
      when = Math.max(when, this.arrived[i]);
      this.read = i + 1;
    }
    return when;
  }
  private read = 0;

  /** P1 has computed round r at `t`: blocks in order, none before the one ahead of it. */
  letGo(r: number, t: number): void {
    const { blocks } = this.work;
    for (let i = this.released.length - 1; i < blocks.length && blocks[i].done <= r; i++) this.released.push(t);
  }

  /** Blocks alone on the line, until `t` or the end of block `stop`. */
  private play(t: number, stop = -1): void {
    while (this.at < this.work.blocks.length && this.arrived[stop] === undefined) {
      const now = Math.max(this.now, this.begins());
      if (now >= t) break;
      const [rate, until] = this.pace(now, this.rate);
      const end = Math.min(t, until, now + this.left / rate);
      this.take((end - now) * rate, end);
      this.now = end;
    }
    if (t !== Number.POSITIVE_INFINITY) this.now = Math.max(this.now, t);
  }

  /** When the block on the line could begin to come in: Infinity while it has no place. */
  private begins(): number {
    const { blocks } = this.work;
    if (this.at === blocks.length) return Number.POSITIVE_INFINITY;
    while (this.ready.length <= this.at) {
      const { after, seconds } = blocks[this.ready.length];
      const free = this.released[after];
      if (free === undefined) return Number.POSITIVE_INFINITY;
      this.dealer = Math.max(this.dealer, free + this.line.rtt / 2) + seconds;
      this.ready.push(this.dealer + this.line.rtt / 2);
    }
    return this.ready[this.at];
  }

  /** Bytes a second of the dealer's stream, at most `most`, and until when TCP lets it have no more. */
  private pace(now: number, most: number): [number, number] {
    const { rtt } = this.line;
    const turns = Math.max(0, Math.floor((now - this.from) / rtt + 1e-9));
    const allowed = turns > 40 ? most : (initialWindow * 2 ** turns) / rtt;
    return allowed >= most ? [most, Number.POSITIVE_INFINITY] : [allowed, this.from + (turns + 1) * rtt];
  }

  private take(bytes: number, now: number): void {
    this.left -= bytes;
    if (this.left > 1e-6) return;
    this.arrived[this.at++] = now;
    this.left = this.work.blocks[this.at]?.bytes ?? 0;
  }
}
