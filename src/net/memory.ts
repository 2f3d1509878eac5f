/** Two links joined within one process, for runs and tests without a network. Payloads are copied, and order is kept, as on a wire. */
import { headerSize } from './framing.ts';
import {
  defaults,
  type Frame,
  type FrameSink,
  firstOwnType,
  type Link,
  type LinkCounters,
  LinkError,
  type LinkOptions,
  lastType,
} from './link.ts';

/** `a` is the link that `nameA` holds, its peer is `nameB`; `b` the other way round. */
export function linkPair(nameA: string, nameB: string, options: LinkOptions = {}): [a: Link, b: Link] {
  const a = new MemoryLink(nameB, options);
  const b = new MemoryLink(nameA, options);
  a.other = b;
  b.other = a;
  return [a, b];
}

const ignore = (): void => {};

class MemoryLink implements Link {
  readonly peer: string;
  readonly counters: LinkCounters = { sentBytes: 0, receivedBytes: 0, sentFrames: 0, receivedFrames: 0 };
  onDrain: () => void = ignore;
  onClose: (error?: LinkError) => void = ignore;
  frameSink?: FrameSink;
  other: MemoryLink = this;

  readonly #limits: Required<LinkOptions>;
  #onFrame: ((frame: Frame) => void) | null = null;
  #inbox: Frame[] = [];
  #inboxBytes = 0;
  #scheduled = false;
  #paused = false;
  #full = false;
  #closed = false;
  #peerLeft = false;
  #delivering = false;
  #timer: NodeJS.Timeout | undefined;
  #awaitingSince = 0;

  constructor(peer: string, options: LinkOptions) {
    this.peer = peer;
    this.#limits = { ...defaults, ...options };
  }

  get onFrame(): (frame: Frame) => void {
    return this.#onFrame ?? ignore;
  }

  set onFrame(callback: (frame: Frame) => void) {
    this.#onFrame = callback;
    this.#schedule();
  }

  send(type: number, session: number, seq: number, payload: Uint8Array | readonly Uint8Array[], released?: () => void): boolean {
    if (!(type >= firstOwnType && type <= lastType)) throw new RangeError(`type: expected ${firstOwnType} to ${lastType}, got ${type}`);
    if (this.#closed) {
      released?.();
      return true;
    }
    const copy = joined(payload);
    if (released) queueMicrotask(released);
    this.counters.sentFrames++;
    this.counters.sentBytes += copy.length + headerSize;
    this.other.#take({ type, session: session >>> 0, seq: seq >>> 0, payload: copy });
    if (this.other.#inboxBytes > this.#limits.highWater) this.#full = true;
    return !this.#full;
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    this.#schedule();
  }

  /** Within a process there are no pings: only `stallTimeout` counts. */
  awaiting(on: boolean): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    const limit = this.#limits.stallTimeout;
    if (!on || limit === 0 || this.#closed) return;
    this.#awaitingSince = performance.now();
    this.#timer = setInterval(
      () => {
        if (performance.now() - this.#awaitingSince < limit) return;
        this.#end(new LinkError('timeout', this.peer, `${this.peer} sent nothing for ${limit} ms: see what it waits for`));
        this.other.#end(
          new LinkError('closed', this.other.peer, `${this.other.peer} closed the connection without a goodbye: see its log`),
        );
      },
      Math.max(1, limit / 8),
    );
  }

  close(): void {
    if (this.#closed) return;
    this.#end();
    // After the frames that are on their way.
    this.other.#leave();
  }

  #leave(): void {
    this.#peerLeft = true;
    if (this.#inbox.length === 0 && !this.#delivering) this.#end();
  }

  #end(error?: LinkError): void {
    if (this.#closed) return;
    this.#closed = true;
    clearInterval(this.#timer);
    this.#inbox = [];
    queueMicrotask(() => this.onClose(error));
  }

  #take(frame: Frame): void {
    if (this.#closed) return;
    if (frame.payload.length > this.#limits.maxPayload) {
      const message = `${this.peer} announced a frame of ${frame.payload.length} bytes, expected at most ${this.#limits.maxPayload}`;
      this.#end(new LinkError('bad-frame', this.peer, message));
      this.other.#end(new LinkError('closed', this.other.peer, `${this.other.peer} closed the connection without a goodbye: see its log`));
      return;
    }
    this.#inbox.push(frame);
    this.#inboxBytes += frame.payload.length + headerSize;
    this.#schedule();
  }

  #schedule(): void {
    if (this.#scheduled || this.#paused || this.#onFrame === null || this.#inbox.length === 0) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      this.#deliver();
    });
  }

  #deliver(): void {
    const { highWater } = this.#limits;
    let next = 0;
    this.#delivering = true;
    const frames = this.#inbox;
    this.#inbox = [];
    while (next < frames.length && !this.#paused && !this.#closed) {
      const frame = frames[next++];
      const size = frame.payload.length + headerSize;
      this.#inboxBytes -= size;
      this.counters.receivedFrames++;
      this.counters.receivedBytes += size;
      this.#awaitingSince = performance.now();
      const sink = frame.payload.length > 0 ? this.frameSink?.(frame.type, frame.session, frame.seq, frame.payload.length) : null;
      if (sink) {
        sink.set(frame.payload);
        frame.payload = sink;
      }
      this.onFrame(frame);
    }
    this.#delivering = false;
    if (next < frames.length && !this.#closed) this.#inbox = [...frames.slice(next), ...this.#inbox];
    if (this.other.#full && this.#inboxBytes <= highWater / 2) {
      this.other.#full = false;
      if (!this.other.#closed) this.other.onDrain();
    }
    if (this.#peerLeft && this.#inbox.length === 0) this.#end();
    this.#schedule();
  }
}

function joined(payload: Uint8Array | readonly Uint8Array[]): Uint8Array {
  const parts = payload instanceof Uint8Array ? [payload] : payload;
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
