/** A TCP connection that can be made to fail: what passes is delayed, held, slowed, changed; or it is cut. Bytes only, it knows no protocol. */
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';

const host = '127.0.0.1';
const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export class Relay {
  /** Milliseconds that each piece is kept back. */
  delay = 0;
  /** Bytes a second; 0: as many as come. */
  rate = 0;
  /** Connections end here instead, while it is set. */
  detour?: number;
  /** Bytes that were passed on. */
  passed = 0;
  private readonly pairs = new Set<readonly [Socket, Socket]>();
  private held?: { readonly until: Promise<void>; readonly letGo: () => void };
  private flips = 0;

  private constructor(
    private readonly server: Server,
    private readonly target: () => number,
  ) {}

  /** `target`: the port behind it, asked at each connection. */
  static async open(target: () => number): Promise<Relay> {
    const server = createServer({ allowHalfOpen: true, noDelay: true });
    const proxy = new Relay(server, target);
    server.on('connection', (socket) => proxy.take(socket));
    await new Promise<void>((resolve) => server.listen(0, host, resolve));
    return proxy;
  }

  get port(): number {
    return (this.server.address() as { port: number }).port;
  }
  get connections(): number {
    return this.pairs.size;
  }

  /** Ends all connections with a reset. */
  cut(): void {
    for (const pair of this.pairs) for (const s of pair) s.resetAndDestroy();
  }
  /** Ends all connections as a process does that exits. */
  shut(): void {
    for (const pair of this.pairs) for (const s of pair) s.end();
  }
  /** From now on nothing passes, in either direction, until `release`. */
  stall(): void {
    let letGo = (): void => {};
    const until = new Promise<void>((resolve) => {
      letGo = resolve;
    });
    this.held ??= { until, letGo };
  }
  release(): void {
    this.held?.letGo();
    this.held = undefined;
  }
  /** Changes one bit of what comes next. */
  flip(): void {
    this.flips++;
  }
  /** All as it was. */
  heal(): void {
    this.release();
    this.delay = 0;
    this.rate = 0;
    this.flips = 0;
    if (this.detour !== undefined) {
      this.detour = undefined;
      this.cut();
    }
  }
  async close(): Promise<void> {
    this.release();
    const closed = new Promise((resolve) => this.server.close(resolve));
    this.cut();
    await closed;
  }

  private take(near: Socket): void {
    const far = connect({ host, port: this.detour ?? this.target(), noDelay: true, allowHalfOpen: true });
    const pair = [near, far] as const;
    this.pairs.add(pair);
    const broken = (): void => {
      this.pairs.delete(pair);
      for (const s of pair) if (!s.destroyed) s.resetAndDestroy();
    };
    for (const s of pair) s.on('error', broken).on('close', (failed) => (failed ? broken() : this.pairs.delete(pair)));
    void this.pump(near, far).catch(broken);
    void this.pump(far, near).catch(broken);
  }

  private async pump(from: Socket, to: Socket): Promise<void> {
    for await (const piece of from as AsyncIterable<Buffer>) {
      if (this.held) await this.held.until;
      if (this.delay > 0) await sleep(this.delay);
      if (this.rate > 0) await sleep((1000 * piece.length) / this.rate);
      if (this.flips > 0) {
        this.flips--;
        piece[piece.length >> 1] ^= 1 << (piece.length & 7);
      }
      this.passed += piece.length;
      if (!to.writable) return;
      if (!to.write(piece)) await Promise.race([once(to, 'drain'), once(to, 'close')]);
    }
    if (this.held) await this.held.until;
    to.end();
  }
}
