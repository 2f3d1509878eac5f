/**
 * Frames as bytes: a header of 16 bytes, little-endian, then the payload.
 *
 *     0        4      6       8         12       16
 *     | length | type | magic | session | sequence | payload …
 *        u32     u16    u16     u32       u32
 *
 * The reader takes bytes in any fragmentation and never allocates a chunk: a payload that lies whole in the chunk is handed out
 * where it lies, any other is copied once, into the owner's sink or into one buffer that grows and is kept.
 *
 * The writer cuts the stream into pieces of 64 KiB and hands out one at a time, the next when the previous one is written. That lets
 * both ends of a TLS connection work at once, and small frames queued behind a busy socket travel together.
 */
import { type Frame, type FrameSink, firstOwnType, LinkError, type LinkErrorCode, lastType } from './link.ts';

export const headerSize = 16;
/** 'S' and the version of the framing. */
export const magic = 0x5301;
export const pieceSize = 1 << 16;

export function writeHeader(into: Uint8Array, at: number, length: number, type: number, session: number, seq: number): void {
  putU32(into, at, length);
  into[at + 4] = type;
  into[at + 5] = type >>> 8;
  into[at + 6] = magic & 255;
  into[at + 7] = magic >>> 8;
  putU32(into, at + 8, session);
  putU32(into, at + 12, seq);
}

function putU32(into: Uint8Array, at: number, value: number): void {
  into[at] = value;
  into[at + 1] = value >>> 8;
  into[at + 2] = value >>> 16;
  into[at + 3] = value >>> 24;
}

function getU32(from: Uint8Array, at: number): number {
  return (from[at] | (from[at + 1] << 8) | (from[at + 2] << 16) | (from[at + 3] << 24)) >>> 0;
}

const nothing = new Uint8Array(0);

export class FrameReader {
  frameSink: FrameSink | undefined;
  /** Set while a frame is delivered to make `push` stop after it. */
  stopped = false;

  readonly #peer: string;
  readonly #maxPayload: number;
  readonly #deliver: (frame: Frame) => void;
  readonly #header = new Uint8Array(headerSize);
  #headerFill = 0;
  #frame: Frame | null = null;
  #target: Uint8Array = nothing;
  #fill = 0;
  #length = 0;
  #kept: Uint8Array = nothing;

  constructor(peer: string, maxPayload: number, deliver: (frame: Frame) => void) {
    this.#peer = peer;
    this.#maxPayload = maxPayload;
    this.#deliver = deliver;
  }

  /** Reads the first `end` bytes of the chunk; returns how many were used (all, unless `stopped`). Throws a LinkError 'bad-frame'. */
  push(chunk: Uint8Array, end: number): number {
    let at = 0;
    while (at < end && !this.stopped) {
      if (this.#frame === null) {
        if (this.#headerFill === 0 && end - at >= headerSize) {
          this.#open(chunk, at);
          at += headerSize;
        } else {
          const take = Math.min(headerSize - this.#headerFill, end - at);
          this.#header.set(chunk.subarray(at, at + take), this.#headerFill);
          this.#headerFill += take;
          at += take;
          if (this.#headerFill < headerSize) break;
          this.#headerFill = 0;
          this.#open(this.#header, 0);
        }
        if (this.#length > 0 && at === end) break;
      }
      at += this.#body(chunk, at, end);
    }
    return at;
  }

  #open(bytes: Uint8Array, at: number): void {
    const length = getU32(bytes, at);
    const type = bytes[at + 4] | (bytes[at + 5] << 8);
    const mark = bytes[at + 6] | (bytes[at + 7] << 8);
    if (mark !== magic) {
      const what =
        mark >>> 8 === magic >>> 8 ? `framing version ${mark & 255}, expected ${magic & 255}: use the same release on both` : 'no frame';
      throw this.#bad(`sent ${what}`);
    }
    if (type > lastType) throw this.#bad(`sent a frame of type ${type}, expected at most ${lastType}`);
    if (length > this.#maxPayload) {
      throw this.#bad(`announced a frame of ${length} bytes, expected at most ${this.#maxPayload}: raise maxPayload if it is meant`);
    }
    if (type < firstOwnType && length > 64) throw this.#bad(`sent a control frame of ${length} bytes, expected at most 64`);
    this.#frame = { type, session: getU32(bytes, at + 8), seq: getU32(bytes, at + 12), payload: nothing };
    this.#length = length;
    this.#fill = 0;
    this.#target = nothing;
    if (length > 0 && type >= firstOwnType && this.frameSink) {
      const sink = this.frameSink(type, this.#frame.session, this.#frame.seq, length);
      if (sink !== null && sink.length !== length) throw this.#bad(`sent a frame of ${length} bytes, expected ${sink.length}`);
      if (sink !== null) this.#target = sink;
    }
  }

  #body(chunk: Uint8Array, at: number, end: number): number {
    const take = Math.min(this.#length - this.#fill, end - at);
    if (take === this.#length && this.#target.length === 0) {
      this.#finish(take === 0 ? nothing : chunk.subarray(at, at + take));
      return take;
    }
    if (this.#target.length === 0) {
      if (this.#kept.length < this.#length) this.#kept = new Uint8Array(this.#length);
      this.#target = this.#kept.subarray(0, this.#length);
    }
    this.#target.set(chunk.subarray(at, at + take), this.#fill);
    this.#fill += take;
    if (this.#fill === this.#length) this.#finish(this.#target);
    return take;
  }

  #finish(payload: Uint8Array): void {
    const frame = this.#frame as Frame;
    frame.payload = payload;
    this.#frame = null;
    this.#target = nothing;
    this.#deliver(frame);
  }

  #bad(what: string): LinkError {
    return new LinkError('bad-frame', this.#peer, `${this.#peer} ${what}`);
  }
}

interface Piece {
  bytes: Uint8Array;
  fill: number;
  /** Ours: goes back to the pool when written. */
  pooled: boolean;
  released: (() => void) | undefined;
}

/** Pieces kept for the next use, shared by all links: at most 16 MiB. */
const pool: Uint8Array[] = [];
const poolLimit = 256;

export class FrameWriter {
  /** Bytes queued or being written. */
  pending = 0;
  readonly #write: (bytes: Uint8Array, done: () => void) => void;
  readonly #idle: () => void;
  #queue: Piece[] = [];
  #head = 0;
  #busy: Piece | null = null;
  #ended = false;

  /** `write` takes one piece and calls `done` when it may be reused; `idle` is called after each piece written. */
  constructor(write: (bytes: Uint8Array, done: () => void) => void, idle: () => void) {
    this.#write = write;
    this.#idle = idle;
  }

  frame(type: number, session: number, seq: number, payload: Uint8Array | readonly Uint8Array[], released?: () => void): number {
    let length = 0;
    if (payload instanceof Uint8Array) length = payload.length;
    else for (const part of payload) length += part.length;
    const tail = this.#room(headerSize);
    writeHeader(tail.bytes, tail.fill, length, type, session, seq);
    tail.fill += headerSize;
    this.pending += headerSize + length;
    if (payload instanceof Uint8Array) this.#part(payload, released);
    else {
      for (const part of payload) this.#part(part, undefined);
      released?.();
    }
    this.#pump();
    return length;
  }

  /** Drops what is queued; nothing is written afterwards. */
  end(): void {
    this.#ended = true;
    for (let i = this.#head; i < this.#queue.length; i++) this.#free(this.#queue[i]);
    this.#queue = [];
    this.#head = 0;
    this.pending = 0;
    this.#busy?.released?.();
    this.#busy = null;
  }

  #part(part: Uint8Array, released: (() => void) | undefined): void {
    let at = 0;
    const inPlace = released !== undefined && part.length > pieceSize;
    while (at < part.length) {
      if (inPlace && at > 0) {
        const end = Math.min(at + pieceSize, part.length);
        this.#queue.push({
          bytes: part.subarray(at, end),
          fill: end - at,
          pooled: false,
          released: end === part.length ? released : undefined,
        });
        at = end;
        continue;
      }
      const tail = this.#room(1);
      const take = Math.min(tail.bytes.length - tail.fill, part.length - at);
      tail.bytes.set(part.subarray(at, at + take), tail.fill);
      tail.fill += take;
      at += take;
      if (tail.fill === pieceSize) this.#pump();
    }
    if (!inPlace) released?.();
  }

  /** The last queued piece, if it is ours and has room, or a new one. */
  #room(size: number): Piece {
    const last = this.#queue.length > this.#head ? this.#queue[this.#queue.length - 1] : undefined;
    if (last?.pooled && pieceSize - last.fill >= size) return last;
    const piece: Piece = { bytes: pool.pop() ?? new Uint8Array(pieceSize), fill: 0, pooled: true, released: undefined };
    this.#queue.push(piece);
    return piece;
  }

  #pump(): void {
    if (this.#busy !== null || this.#head === this.#queue.length || this.#ended) return;
    const piece = this.#queue[this.#head++];
    if (this.#head === this.#queue.length) {
      this.#queue.length = 0;
      this.#head = 0;
    } else if (this.#head >= 1024) {
      this.#queue.splice(0, this.#head);
      this.#head = 0;
    }
    this.#busy = piece;
    this.#write(piece.fill === piece.bytes.length ? piece.bytes : piece.bytes.subarray(0, piece.fill), this.#written);
  }

  readonly #written = (): void => {
    const piece = this.#busy;
    if (piece === null) return;
    this.#busy = null;
    this.pending -= piece.fill;
    this.#free(piece);
    this.#pump();
    this.#idle();
  };

  #free(piece: Piece): void {
    piece.released?.();
    if (piece.pooled && pool.length < poolLimit) pool.push(piece.bytes);
  }
}

/** The goodbye of a side that ends a connection for a reason carries the code. */
export function codeBytes(code: LinkErrorCode): Uint8Array {
  return new TextEncoder().encode(code);
}
