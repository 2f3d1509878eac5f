/**
 * A step at work at a party: it moves messages and corrections between the links and its room, and knows nothing of other steps.
 *
 * What comes for it is in order, or it throws SubrosaError 'bad-message'. Party 1 may stand still for want of corrections; one opening that
 * comes meanwhile is kept, and there cannot be two, since P0 waits for ours.
 */
import { SubrosaError } from '../client/errors.ts';
import type { Link } from '../net/link.ts';
import type { Prepared } from '../runtime/model.ts';
import type { PartyStep } from '../runtime/party.ts';
import { frames } from './messages.ts';

export class Run {
  /** Stands still for want of corrections. */
  starved = false;
  sentBytes = 0;
  receivedBytes = 0;
  /** The round whose message has been sent, or −1. */
  private sent = -1;
  private credited = 0;
  /** The first block that a credit may still hold back. */
  private nextCredit = 0;
  /** Blocks that have come. */
  private blocks = 0;
  private readonly prepared: Prepared;

  /** `early`: the other party's opening of round 0, when it came before. */
  constructor(
    private readonly index: 0 | 1,
    private readonly session: number,
    private readonly step: PartyStep,
    private readonly peer: Link,
    private readonly dealer: Link,
    private early?: Uint8Array,
    private readonly onRound: (round: number, bytes: number) => void = () => {},
  ) {
    this.prepared = step.prepared;
  }

  get rounds(): number {
    return this.prepared.binding.rounds;
  }

  get openings(): number {
    return this.sent + 1;
  }

  /** Where the other party's message of this round goes, if it is due. */
  openingPlace(round: number, length: number): Uint8Array | null {
    return this.due(round) && length === this.step.outgoing().length ? this.step.incoming(length) : null;
  }

  /** Where the dealer's block of this number goes, if it is the next one and what lay there before has been let go. */
  blockPlace(number: number): Uint8Array | null {
    const { binding, ring, model } = this.prepared;
    if (this.index === 0 || number !== this.blocks || number >= binding.blocks.length || ring.after[number] > this.step.released)
      return null;
    const { at, bytes } = this.step.blockAt(number);
    return model.k.u8.subarray(at, at + bytes);
  }

  /** The other party's message; it may lie in its place already. */
  opening(round: number, payload: Uint8Array): void {
    if (this.due(round)) return this.receive(payload);
    if (this.index === 0 || !this.starved || round !== this.step.round || this.early)
      throw new SubrosaError('bad-message', `the other party sent the opening of round ${round} out of turn`);
    this.early = payload.slice();
  }

  block(number: number, payload: Uint8Array): void {
    const place = this.blockPlace(number);
    if (place?.length !== payload.length)
      throw new SubrosaError('bad-message', `the dealer sent block ${number} of ${payload.length} bytes out of turn`);
    put(payload, place);
    this.blocks++;
    this.receivedBytes += payload.length;
    this.step.blockArrived();
  }

  /** Runs as far as it can. Answers whether the step is done. */
  advance(): boolean {
    for (;;) {
      const waiting = this.step.advance();
      this.starved = waiting === 'corrections';
      if (waiting === 'done') return true;
      if (this.index === 1) this.giveCredit();
      if (this.starved || this.sent === this.step.round) return false;
      this.sent = this.step.round;
      const message = this.step.outgoing();
      this.sentBytes += message.length;
      this.peer.send(frames.opening, this.session, this.sent, message);
      if (!this.early) return false;
      const { early } = this;
      this.early = undefined;
      this.receive(early);
    }
  }

  /** Gives the step up. */
  forget(): void {
    this.step.forget();
  }

  private due(round: number): boolean {
    return this.step.round === round && this.sent === round;
  }

  private receive(payload: Uint8Array): void {
    const due = this.step.outgoing().length;
    if (payload.length !== due)
      throw new SubrosaError(
        'bad-message',
        `the other party sent ${payload.length} bytes in round ${this.step.round}; ${due} are expected`,
      );
    put(payload, this.step.incoming(payload.length));
    this.step.receive(payload.length);
    this.receivedBytes += payload.length;
    this.onRound(this.step.round, payload.length);
  }

  /** Tells the dealer what has been let go when a block waits for it: small messages cost as much as small rounds. */
  private giveCredit(): void {
    const { after } = this.prepared.ring;
    while (this.nextCredit < after.length && after[this.nextCredit] <= this.credited) this.nextCredit++;
    if (this.nextCredit === after.length || after[this.nextCredit] > this.step.released) return;
    this.credited = this.step.released;
    this.dealer.send(frames.credit, this.session, this.credited, new Uint8Array(0));
  }
}

function put(payload: Uint8Array, place: Uint8Array): void {
  if (payload.buffer !== place.buffer || payload.byteOffset !== place.byteOffset) place.set(payload);
}
