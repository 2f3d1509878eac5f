/**
 * How long a step takes over a network, by playing its schedule: rounds one after the other, the dealer's stream beside them.
 *
 *   In round r each party computes, sends its opening and waits for the other's. P1 also waits for the corrections it reads in r.
 *   A message is underway for half a round trip, and as long as its bytes take on a line.
 *   P1's line brings P0's openings and the dealer's blocks, first come, first served: while the dealer sends as fast as the line is, whatever
 *   P0 adds stays in the queue before it, up to `longestQueue`, where TCP holds the dealer back.
 *   The dealer makes blocks in order, each once P1 has let go those that lie in its place (`RingPlan.after`).
 *   TCP starts slowly: a connection sends `initialWindow` bytes unanswered, and twice as many after each answer, up to what the line holds
 *   (the dealer's spread over the round trip).
 *
 * Every role has one line of the network's bandwidth, each way, `payload` of it for what frames carry. No other traffic is on it.
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
  readonly blocks: readonly {
    readonly seconds: number;
    readonly bytes: number;
    readonly needed: number;
    readonly done: number;
    readonly after: number;
  }[];
  /** Bytes from the client to P1, and from each party to the client. */
  readonly input: number;
  readonly output: number;
}

/** Ten segments (RFC 6928). */
export const initialWindow = 14_480;
/** Of 1518 bytes on an Ethernet 1448 are TCP's payload. */
export const payload = 1448 / 1518;
/** Seconds: routers keep some 50 ms, and one drop makes a sender shrink by a third. */
export const longestQueue = 0.03;

/** Seconds from the client's shares to its answer. */
export function simulate(work: Work, line: Line): number {
  const way = line.rtt / 2;
  const seconds = (bytes: number): number => (8 * bytes) / (payload * line.bandwidth);
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
  /** Bytes a second. */
  private readonly rate: number;
  /** Until here the dealer's sending is settled, and so long is the queue before P1 then. */
  private now = 0;
  private queue = 0;
  /** The block being sent, and what is left of it. */
  private at = 0;
  private left: number;
  private readonly arrived: number[] = [];
  private read = 0;
  /** When each block can begin to reach P1, as far as that is known; when the dealer has made it. */
  private readonly ready: number[] = [];
  private made: number;
  /** When P1 has let go this many blocks. */
  private readonly released: number[];

  constructor(
    private readonly work: Work,
    private readonly line: Line,
    private readonly from: number,
  ) {
    this.rate = (payload * line.bandwidth) / 8;
    this.left = work.blocks[0]?.bytes ?? 0;
    this.made = from;
    this.released = [from - line.rtt / 2];
  }

  /** When an opening has come in whole that reaches P1's line at `t`. */
  opening(t: number, bytes: number): number {
    this.play(t);
    const takes = bytes / this.rate;
    const whole = this.now + this.queue + takes + (this.begins() <= t ? takes : 0);
    this.queue += takes;
    // What the queue has no room for, the dealer sends later.
    const excess = Math.max(0, this.queue - longestQueue);
    this.queue -= excess;
    this.now += excess;
    return whole;
  }

  /** When all blocks are there that round r reads. */
  needed(r: number): number {
    const { blocks } = this.work;
    for (; this.read < blocks.length && blocks[this.read].needed <= r; this.read++) this.play(Number.POSITIVE_INFINITY, this.read);
    return this.read === 0 ? 0 : this.arrived[this.read - 1];
  }

  /** P1 has computed round r at `t`: blocks go in order, none before the one ahead of it. */
  letGo(r: number, t: number): void {
    const { blocks } = this.work;
    for (let i = this.released.length - 1; i < blocks.length && blocks[i].done <= r; i++) this.released.push(t);
  }

  /** The dealer sends on, until `t` or the end of block `stop`. */
  private play(t: number, stop = -1): void {
    while (this.arrived[stop] === undefined) {
      const begins = Math.max(this.now, this.begins());
      if (begins >= t) {
        this.rest(t);
        return;
      }
      this.rest(begins);
      const [rate, until] = this.pace();
      const end = Math.min(t, until, this.now + this.left / rate);
      this.left -= (end - this.now) * rate;
      this.queue = Math.max(0, this.queue - (1 - rate / this.rate) * (end - this.now));
      this.now = end;
      if (this.left > 1e-3) continue;
      this.arrived.push(end + this.queue);
      this.left = this.work.blocks[++this.at]?.bytes ?? 0;
    }
  }

  /** Nothing of the dealer's until `t`. */
  private rest(t: number): void {
    if (t <= this.now || t === Number.POSITIVE_INFINITY) return;
    this.queue = Math.max(0, this.queue - (t - this.now));
    this.now = t;
  }

  /** When the next block begins to reach P1: Infinity while it has no place there, or there is none. */
  private begins(): number {
    const { blocks } = this.work;
    if (this.at === blocks.length) return Number.POSITIVE_INFINITY;
    while (this.ready.length <= this.at) {
      const { after, seconds } = blocks[this.ready.length];
      const free = this.released[after];
      if (free === undefined) return Number.POSITIVE_INFINITY;
      this.made = Math.max(this.made, free + this.line.rtt / 2) + seconds;
      this.ready.push(this.made + this.line.rtt / 2);
    }
    return this.ready[this.at];
  }

  /** Bytes a second of the dealer's connection, and until when. */
  private pace(): [number, number] {
    const { rtt } = this.line;
    const turns = Math.max(0, Math.floor((this.now - this.from) / rtt + 1e-9));
    const allowed = turns > 40 ? this.rate : (initialWindow * 2 ** turns) / rtt;
    return allowed >= this.rate ? [this.rate, Number.POSITIVE_INFINITY] : [allowed, this.from + (turns + 1) * rtt];
  }
}
