/**
 * A link over any two-way stream of bytes: framing, back-pressure, signs of life, orderly end. It knows no sockets; tls.ts gives it one,
 * the tests give it pipes that fragment, stall and lie.
 */
import { codeBytes, FrameReader, FrameWriter, headerSize } from './framing.ts';
import {
  defaults,
  type Frame,
  type FrameSink,
  firstOwnType,
  goodbye,
  hello,
  type Link,
  type LinkCounters,
  LinkError,
  type LinkErrorCode,
  type LinkOptions,
  lastType,
  ping,
  pong,
} from './link.ts';

/** What a link needs of its stream. */
export interface Pipe {
  /** Writes one piece; `done` says that its bytes may be reused. */
  write(bytes: Uint8Array, done: () => void): void;
  /** Goes on reading after `received` answered false. */
  resume(): void;
  /** Closes after what is written. */
  end(): void;
  /** Closes at once. */
  destroy(): void;
}

const nothing = new Uint8Array(0);
const ignore = (): void => {};
/** Bytes kept while paused before the peer is slowed down. */
const holdLimit = 1 << 16;

export class StreamLink implements Link {
  readonly peer: string;
  readonly counters: LinkCounters = { sentBytes: 0, receivedBytes: 0, sentFrames: 0, receivedFrames: 0 };
  onDrain: () => void = ignore;
  /** Set by whoever makes the connection: the peer's hello has come. */
  onHello: () => void = ignore;

  readonly #pipe: Pipe;
  readonly #limits: Required<LinkOptions>;
  readonly #reader: FrameReader;
  readonly #writer: FrameWriter;
  readonly #timer: NodeJS.Timeout;
  readonly #period: number;
  #onFrame: ((frame: Frame) => void) | null = null;
  #onClose: ((error?: LinkError) => void) | null = null;
  #end: { error: LinkError | undefined } | null = null;
  #greeted = false;
  #paused = false;
  #pipePaused = false;
  #held: Uint8Array = nothing;
  #lateEnd: { error: LinkError | undefined } | null = null;
  #resuming = false;
  #full = false;
  #awaiting = false;
  #lastSign = performance.now();
  #lastFrame = this.#lastSign;
  #lastWatch = this.#lastSign;
  #pinged = false;
  #open = true;
  #leaving = false;
  #verdict: LinkErrorCode | undefined;

  constructor(peer: string, pipe: Pipe, options: LinkOptions = {}) {
    this.peer = peer;
    this.#pipe = pipe;
    this.#limits = { ...defaults, ...options };
    this.#reader = new FrameReader(peer, this.#limits.maxPayload, (frame) => this.#received(frame));
    this.#writer = new FrameWriter(
      (bytes, done) => pipe.write(bytes, done),
      () => this.#written(),
    );
    const { silenceTimeout, stallTimeout } = this.#limits;
    this.#period = Math.max(1, Math.min(silenceTimeout, stallTimeout || silenceTimeout) / 8);
    this.#timer = setInterval(() => this.#watch(), this.#period);
    this.#timer.unref();
  }

  get onFrame(): (frame: Frame) => void {
    return this.#onFrame ?? ignore;
  }

  set onFrame(callback: (frame: Frame) => void) {
    this.#onFrame = callback;
    if (!this.#paused) this.#goOn();
  }

  get onClose(): (error?: LinkError) => void {
    return this.#onClose ?? ignore;
  }

  /** May be set late: an owner that comes after the end still hears of it. */
  set onClose(callback: (error?: LinkError) => void) {
    this.#onClose = callback;
    if (this.#end !== null) queueMicrotask(() => this.#tellEnd());
  }

  get frameSink(): FrameSink | undefined {
    return this.#reader.frameSink;
  }

  set frameSink(sink: FrameSink | undefined) {
    this.#reader.frameSink = sink;
  }

  send(type: number, session: number, seq: number, payload: Uint8Array | readonly Uint8Array[], released?: () => void): boolean {
    if (!(type >= firstOwnType && type <= lastType)) throw new RangeError(`type: expected ${firstOwnType} to ${lastType}, got ${type}`);
    if (!this.#open) {
      released?.();
      return true;
    }
    const length = this.#writer.frame(type, session, seq, payload, released);
    this.counters.sentFrames++;
    this.counters.sentBytes += length + headerSize;
    if (this.#writer.pending > this.#limits.highWater) this.#full = true;
    return !this.#full;
  }

  /** Hands the link over: what was set to make the connection is forgotten, and its end waits for the owner's `onClose`. */
  handOver(): this {
    this.onHello = ignore;
    this.#onClose = null;
    return this;
  }

  /** Sends one of the link's own frames. */
  control(type: number, payload: Uint8Array = nothing): void {
    if (this.#open) this.#writer.frame(type, 0, 0, payload);
  }

  pause(): void {
    this.#paused = true;
    this.#reader.stopped = true;
  }

  resume(): void {
    this.#paused = false;
    if (this.#onFrame !== null) this.#goOn();
  }

  awaiting(on: boolean): void {
    if (on && !this.#awaiting) {
      this.#lastSign = this.#lastFrame = performance.now();
      this.#pinged = false;
    }
    this.#awaiting = on;
  }

  close(): void {
    this.dismiss();
  }

  /** Closes, telling the peer why if there is a reason. */
  dismiss(code?: LinkErrorCode): void {
    if (!this.#open) return;
    this.control(goodbye, code === undefined ? nothing : codeBytes(code));
    this.#leaving = true;
    // A peer that no longer reads must not keep the connection for ever.
    setTimeout(() => this.#pipe.destroy(), 2000).unref();
    this.#closed();
  }

  /** The stream brought bytes, valid during this call only. Answers false when it should stop reading for now. */
  received(chunk: Uint8Array, end: number): boolean {
    if (!this.#open) return true;
    this.#lastSign = performance.now();
    this.#pinged = false;
    if (this.#held.length > 0 || this.#reader.stopped) this.#hold(chunk, 0, end);
    else {
      const used = this.#read(chunk, end);
      if (used < end) this.#hold(chunk, used, end);
    }
    // Reading on for a while lets a link that is paused, or has no owner yet, see its end.
    if (this.#held.length < holdLimit) return true;
    this.#pipePaused = true;
    return false;
  }

  /** The stream ended, or failed for the reason given. What came before is delivered first. */
  ended(error?: LinkError): void {
    if (this.#held.length > 0) {
      this.#lateEnd ??= { error };
      return;
    }
    const verdict = this.#verdict;
    if (verdict === 'auth') {
      this.#closed(new LinkError('auth', this.peer, `${this.peer} does not know this side's key: pin it there`));
    } else if (verdict !== undefined) this.#closed();
    else this.#closed(error ?? new LinkError('closed', this.peer, `${this.peer} closed the connection without a goodbye: see its log`));
  }

  #read(chunk: Uint8Array, end: number): number {
    try {
      return this.#reader.push(chunk, end);
    } catch (error) {
      if (!(error instanceof LinkError)) throw error;
      this.#closed(error);
      return end;
    }
  }

  #received(frame: Frame): void {
    if (!this.#greeted && frame.type !== hello && frame.type !== goodbye) {
      this.#fail('bad-frame', `${this.peer} sent a frame of type ${frame.type} before its hello`);
      return;
    }
    if (frame.type >= firstOwnType) {
      this.counters.receivedFrames++;
      this.counters.receivedBytes += frame.payload.length + headerSize;
      this.#lastFrame = this.#lastSign;
      this.onFrame(frame);
      return;
    }
    if (frame.type === ping) this.control(pong);
    else if (frame.type === hello && !this.#greeted) {
      this.#greeted = true;
      // The owner may need a few turns before it listens.
      if (this.#onFrame === null) this.#reader.stopped = true;
      this.onHello();
    } else if (frame.type === goodbye) {
      this.#verdict = String.fromCharCode(...frame.payload) === 'auth' ? 'auth' : 'closed';
      this.ended();
    } else if (frame.type !== pong) {
      this.#fail('bad-frame', `${this.peer} sent a frame of type ${frame.type}, which means nothing here`);
    }
  }

  #hold(chunk: Uint8Array, from: number, end: number): void {
    const held = new Uint8Array(this.#held.length + end - from);
    held.set(this.#held);
    held.set(chunk.subarray(from, end), this.#held.length);
    this.#held = held;
  }

  /** Delivers what was held back, in a turn of its own, then lets the stream go on. */
  #goOn(): void {
    this.#reader.stopped = this.#held.length > 0;
    if (this.#held.length === 0) {
      if (this.#pipePaused) {
        this.#pipePaused = false;
        this.#pipe.resume();
      }
      if (this.#lateEnd !== null) this.ended(this.#lateEnd.error);
      return;
    }
    if (this.#resuming) return;
    this.#resuming = true;
    queueMicrotask(() => {
      this.#resuming = false;
      if (this.#paused || !this.#open) return;
      const held = this.#held;
      this.#held = nothing;
      this.#reader.stopped = false;
      const used = this.#read(held, held.length);
      // What came meanwhile lies behind what is left.
      const left = held.subarray(used);
      if (left.length > 0) {
        const later = this.#held;
        this.#held = left;
        this.#hold(later, 0, later.length);
      }
      if (!this.#paused) this.#goOn();
    });
  }

  #written(): void {
    if (this.#leaving && this.#writer.pending === 0) this.#pipe.end();
    if (this.#full && this.#writer.pending <= this.#limits.highWater / 2 && this.#open) {
      this.#full = false;
      this.onDrain();
    }
  }

  #watch(): void {
    const now = performance.now();
    const gap = now - this.#lastWatch;
    this.#lastWatch = now;
    if (!this.#awaiting || this.#paused) return;
    // While this process itself did not run (a long computation, a suspended machine), the peer's answers may lie unread.
    if (gap > 2 * this.#period) {
      this.#lastSign += gap;
      this.#lastFrame += gap;
    }
    const { silenceTimeout, stallTimeout } = this.#limits;
    const silent = now - this.#lastSign;
    if (silent >= silenceTimeout)
      this.#fail('timeout', `${this.peer} was silent for ${seconds(silent)}: see whether it runs and can be reached`);
    else if (stallTimeout > 0 && now - this.#lastFrame >= stallTimeout) {
      this.#fail('timeout', `${this.peer} is alive but sent nothing for ${seconds(now - this.#lastFrame)}: see what it waits for`);
    } else if (silent >= silenceTimeout / 2 && !this.#pinged) {
      this.#pinged = true;
      this.control(ping);
    }
  }

  #fail(code: LinkErrorCode, message: string): void {
    this.#closed(new LinkError(code, this.peer, message));
  }

  #closed(error?: LinkError): void {
    if (!this.#open) return;
    this.#open = false;
    clearInterval(this.#timer);
    this.#reader.stopped = true;
    this.#held = nothing;
    if (this.#leaving) {
      // What comes now is thrown away, but read: the peer may be writing, and its end must be seen.
      if (this.#pipePaused) this.#pipe.resume();
    } else {
      this.#writer.end();
      this.#pipe.destroy();
    }
    this.#end = { error };
    queueMicrotask(() => this.#tellEnd());
  }

  #tellEnd(): void {
    if (this.#end === null || this.#onClose === null) return;
    const { error } = this.#end;
    this.#end = null;
    this.#onClose(error);
  }
}

function seconds(milliseconds: number): string {
  return `${(milliseconds / 1000).toPrecision(2)} s`;
}
