/**
 * A link: an ordered, framed, two-way connection to one named peer. The run time speaks only to this interface, so the same
 * protocol code runs over mutual TLS (tls.ts) and within one process (memory.ts).
 *
 * A frame is a type, a session, a sequence number and some bytes. Types below `firstOwnType` belong to the link itself.
 */

export interface Frame {
  type: number;
  session: number;
  seq: number;
  /** Valid only during the callback, unless it came from the owner's sink. Its alignment is not promised. */
  payload: Uint8Array;
}

/**
 * Where the payload of the coming frame shall be written, or null to let the link keep it. A place of another length than the frame
 * means that the frame is not the expected one: the link ends with 'bad-frame'.
 */
export type FrameSink = (type: number, session: number, seq: number, length: number) => Uint8Array | null;

export interface Link {
  /** The peer's name, as the pinned key says it: 'p0', 'p1', 'dealer', 'client' … */
  readonly peer: string;

  /**
   * Queues a frame. Without `released` the payload is copied before the call returns. With it, long payloads are sent from where
   * they lie: leave them untouched until `released` is called (once, perhaps before `send` returns, also when the link closes first).
   * Returns false when more than the high-water mark is queued: wait for `onDrain` before sending bulk data.
   * On a closed link it does nothing: the owner has heard, or is about to hear, `onClose`.
   */
  send(type: number, session: number, seq: number, payload: Uint8Array | readonly Uint8Array[], released?: () => void): boolean;

  /** Frames are kept back until this is set: nothing is lost between the connection and its owner's first line. */
  onFrame: (frame: Frame) => void;
  onDrain: () => void;
  /** Called once. Without an error: this side or the other called `close`. */
  onClose: (error?: LinkError) => void;
  frameSink?: FrameSink;

  /** Stops delivering frames, and soon the peer's sending with it. */
  pause(): void;
  resume(): void;

  /** Says whether this side waits for the peer: only then does silence end the link. */
  awaiting(on: boolean): void;

  /** Sends what is queued, says goodbye, closes. */
  close(): void;

  /** Payloads and their 16-byte headers, the link's own frames left out; TLS and TCP not counted. */
  readonly counters: Readonly<LinkCounters>;
}

export interface LinkCounters {
  sentBytes: number;
  receivedBytes: number;
  sentFrames: number;
  receivedFrames: number;
}

export interface LinkOptions {
  /** Longest payload accepted from the peer, in bytes. Default 256 MiB. */
  maxPayload?: number;
  /** Bytes queued above which `send` answers false. Default 4 MiB. */
  highWater?: number;
  /** Milliseconds without a sign of life, while awaiting, after which the link closes; a ping goes out at half of it. Default 20 s. */
  silenceTimeout?: number;
  /** Milliseconds without a frame of the owner's, while awaiting, even if pings are answered. 0 (the default) means no limit. */
  stallTimeout?: number;
}

export const defaults: Required<LinkOptions> = { maxPayload: 2 ** 28, highWater: 2 ** 22, silenceTimeout: 20_000, stallTimeout: 0 };

/** The link's own frames; 16 to 255 are the owner's. */
export const hello = 0;
export const ping = 1;
export const pong = 2;
export const goodbye = 3;
export const firstOwnType = 16;
export const lastType = 255;

/** Codes are stable; texts may change. */
export type LinkErrorCode =
  | 'bad-frame' // what the peer sent is no frame
  | 'closed' // the connection ended without a goodbye
  | 'timeout' // the peer was silent for too long, or did not finish connecting
  | 'auth' // a key that is not pinned, here or there
  | 'refused' // nothing listens there
  | 'unreachable' // no such host, or no way to it
  | 'port-in-use' // another process listens on the port
  | 'listen-failed' // any other reason why listening failed
  | 'tls'; // the TLS handshake failed

export class LinkError extends Error {
  override readonly name = 'LinkError';
  readonly code: LinkErrorCode;
  readonly peer: string;

  constructor(code: LinkErrorCode, peer: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
    this.peer = peer;
  }
}
