/** One session of an HTTP caller at this party's host: the client's frames, on a link within this process. */
import { errorFrom, SubrosaError } from '../client/errors.ts';
import type { Frame, Link } from '../net/link.ts';
import { linkPair } from '../net/memory.ts';
import type { Params } from '../program/program.ts';
import { decode, encode, encodeInput, Failed, frames, Open, Progress } from '../session/messages.ts';

/** What serves a client's link: a PartyHost. */
export interface Host {
  connectClient(link: Link): void;
}

export class HostedSession {
  private readonly link: Link;
  private waiting?: { readonly frame: (f: Frame) => void; readonly fail: (e: SubrosaError) => void };
  private over?: SubrosaError;

  /** `caller` and `party` name the link's ends. `onEnd` is called once, whoever ends the session. */
  constructor(
    host: Host,
    caller: string,
    private readonly party: string,
    private readonly number: number,
    private readonly onEnd: () => void,
  ) {
    const [mine, theirs] = linkPair(caller, party);
    this.link = mine;
    mine.onFrame = (f) => this.heard(f);
    mine.onClose = () => this.end(new SubrosaError('ended', 'the session is over: open a new one'));
    host.connectClient(theirs);
  }

  /** Resolves when this party is ready for it. Throws SubrosaError; the session is over then. */
  open(id: string, hash: string, seconds: number, signal: AbortSignal): Promise<void> {
    const late = setTimeout(
      () => this.end(new SubrosaError('timeout', `the session was not ready at both parties within ${seconds} s: open it at both at once`)),
      1000 * seconds,
    );
    const opened = this.answer<void>(signal, (done) => (f) => {
      if (f.type !== frames.ready) return;
      const answer = decode(Open, f.payload, this.party);
      if (answer.id !== id || answer.hash !== hash)
        throw new SubrosaError('mismatch', `${this.party} answered for another session or program`);
      done();
    });
    this.link.send(frames.open, this.number, 0, encode({ id, hash, progress: true }));
    return opened.finally(() => clearTimeout(late));
  }

  /**
   * One step: this party's words of all outputs, one after the other; `sizes` says how many each has. `report` hears how far it is. The share is
   * overwritten: the host has its own copy, and an input that waits is not kept twice. Throws SubrosaError; the session is over then.
   */
  run(
    step: number,
    params: Params,
    share: Uint8Array,
    sizes: readonly number[],
    signal: AbortSignal,
    report: (progress: Progress) => void,
  ): Promise<Uint8Array<ArrayBuffer>> {
    const starts = sizes.map((_, i) => 4 * sizes.slice(0, i).reduce((a, b) => a + b, 0));
    const out = new Uint8Array(4 * sizes.reduce((a, b) => a + b, 0));
    const due = new Set(sizes.keys());
    const answer = this.answer<Uint8Array<ArrayBuffer>>(signal, (done) => (f) => {
      if (f.type === frames.progress) return report(decode(Progress, f.payload, this.party));
      if (f.type !== frames.output) return;
      if (!due.delete(f.seq) || f.payload.length !== 4 * sizes[f.seq])
        throw new SubrosaError('internal', `${this.party} made an output of ${f.payload.length} bytes that is not due`);
      out.set(f.payload, starts[f.seq]);
      if (due.size === 0) done(out);
    });
    // Not in a closure: none may hold the share as long as the step waits.
    this.link.send(frames.input, this.number, step, encodeInput(step, params, share));
    share.fill(0);
    return answer;
  }

  /** Ends the session at the host, too; what waits fails with `why`. */
  end(why: SubrosaError): void {
    if (this.over) return;
    this.over = why;
    this.waiting?.fail(why);
    this.link.close();
    this.onEnd();
  }

  private heard(f: Frame): void {
    try {
      if (f.type === frames.failed) this.end(errorFrom(decode(Failed, f.payload, this.party)));
      else if (f.type === frames.end) this.end(new SubrosaError('ended', `${this.party} ended the session`));
      else this.waiting?.frame(f);
    } catch (e) {
      this.end(e instanceof SubrosaError ? e : new SubrosaError('internal', (e as Error).message));
    }
  }

  /** What comes, until `done`. The caller going away ends the session. On a link that is closed nothing is sent. */
  private answer<T>(signal: AbortSignal, handler: (done: (value: T) => void) => (f: Frame) => void): Promise<T> {
    const gone = (): void => this.end(new SubrosaError('aborted', 'the caller went away'));
    if (signal.aborted) gone();
    if (this.over) return Promise.reject(this.over);
    signal.addEventListener('abort', gone);
    return new Promise<T>((resolve, reject) => {
      this.waiting = { frame: handler(resolve), fail: reject };
    }).finally(() => {
      this.waiting = undefined;
      signal.removeEventListener('abort', gone);
    });
  }
}
