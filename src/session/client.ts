/** A client on links of its own: shares its inputs, sends each party its share, adds up what comes back. */
import { randomBytes } from 'node:crypto';
import { errorFrom, SubrosaError } from '../client/errors.ts';
import { type Manifest, manifestOf } from '../client/manifest.ts';
import { type ClientInputs, type ClientOutput, encodeInputs, outputsAt, paramsOf, reconstruct, splitInputs } from '../client/share.ts';
import type { Link } from '../net/link.ts';
import type { Params, Program } from '../program/program.ts';
import { decode, encode, encodeInput, Failed, frames, Open } from './messages.ts';

let sessions = 0;

/** One session with two parties. One input a step; `run` may be called again and again, one at a time. */
export class ClientSession {
  private readonly number: number;
  private readonly id = randomBytes(16).toString('hex');
  private step = 0;
  private waiting?: { frame: (party: 0 | 1, type: number, seq: number, payload: Uint8Array) => void; fail: (e: Error) => void };
  private over?: Error;

  private constructor(
    private readonly links: readonly [Link, Link],
    private readonly manifest: Manifest,
  ) {
    this.number = (randomBytes(4).readUInt32LE() ^ ++sessions) >>> 0;
    links.forEach((link, i) => {
      link.onFrame = (f) => {
        if (f.session !== this.number) return;
        if (f.type !== frames.failed) return this.waiting?.frame(i as 0 | 1, f.type, f.seq, f.payload);
        this.fail(errorFrom(decode(Failed, f.payload, link.peer)));
      };
      link.onClose = (error) => this.fail(error ?? new SubrosaError('peer-failed', `${link.peer} closed the connection`));
    });
  }

  /** Both parties must answer with the same program and session before anything is sent. */
  static async open(links: readonly [Link, Link], program: Program, hash: string): Promise<ClientSession> {
    const s = new ClientSession(links, manifestOf(program, hash));
    await s.exchange(
      (done) => {
        const answered = [false, false];
        return (party, type, _seq, payload) => {
          if (type !== frames.ready) return;
          const { id, hash: theirs } = decode(Open, payload, `p${party}`);
          if (id !== s.id || theirs !== hash) throw new SubrosaError('mismatch', `p${party} answered for another session or program`);
          answered[party] = true;
          if (answered[0] && answered[1]) done(undefined);
        };
      },
      () => {
        for (const l of links) l.send(frames.open, s.number, 0, encode({ id: s.id, hash }));
      },
    );
    return s;
  }

  /**
   * `given`: parameters that no shape tells (`keys`, `past`). Throws SubrosaError 'bad-input' before anything is sent, SubrosaError or
   * LinkError when the run failed.
   */
  async run(inputs: ClientInputs, given?: Params): Promise<Record<string, ClientOutput>> {
    const { manifest } = this;
    const params = paramsOf(manifest, inputs, given);
    const uploads = splitInputs(encodeInputs(manifest, inputs), this.id);
    const { sizes } = outputsAt(manifest, params);
    const step = this.step++;
    const shares: [Uint32Array, Uint32Array][] = sizes.map(() => [] as never);
    await this.exchange(
      (done) => {
        let left = 2 * sizes.length;
        return (party, type, seq, payload) => {
          if (type !== frames.output) return;
          const size = sizes[seq];
          if (size === undefined || shares[seq][party] || payload.length !== 4 * size)
            throw new SubrosaError('bad-message', `p${party} sent an output of ${payload.length} bytes that is not due`);
          shares[seq][party] = new Uint32Array(payload.slice().buffer);
          if (--left === 0) done(undefined);
        };
      },
      () => {
        for (const i of [0, 1] as const) this.links[i].send(frames.input, this.number, step, encodeInput(step, params, uploads[i]));
      },
    );
    return reconstruct(manifest, params, shares);
  }

  close(): void {
    if (this.over) return;
    for (const l of this.links) l.send(frames.end, this.number, 0, new Uint8Array(0));
    this.over ??= new SubrosaError('ended', 'the session was closed');
  }

  private exchange<T>(
    handler: (done: (v: T) => void) => (party: 0 | 1, type: number, seq: number, payload: Uint8Array) => void,
    send: () => void,
  ): Promise<T> {
    if (this.over) return Promise.reject(this.over);
    if (this.waiting) return Promise.reject(new SubrosaError('bad-message', 'a session runs one input at a time'));
    return new Promise<T>((resolve, reject) => {
      const finish = (): void => {
        this.waiting = undefined;
        for (const l of this.links) l.awaiting(false);
      };
      const frame = handler((v) => {
        finish();
        resolve(v);
      });
      const fail = (e: Error): void => {
        finish();
        reject(e);
      };
      this.waiting = {
        fail,
        frame: (...a) => {
          try {
            frame(...a);
          } catch (e) {
            this.fail(e as Error);
          }
        },
      };
      for (const l of this.links) l.awaiting(true);
      send();
    });
  }

  private fail(e: Error): void {
    // Each party drops what it may still hold of the session.
    if (!this.over) for (const l of this.links) l.send(frames.end, this.number, 0, new Uint8Array(0));
    this.over ??= e;
    this.waiting?.fail(e);
  }
}
