/** What hosts let others see of their work, and what bounds it. */
import type { ErrorCode } from '../client/errors.ts';
import type { Params } from '../program/program.ts';
import type { Profile } from '../runtime/party.ts';

/** The same at all roles, or nearly: a role with fewer lanes keeps the others' waiting. */
export interface Limits {
  /** Steps that run at once. Each has memory of its own; one more hides the other's waiting for the network. */
  readonly lanes: number;
  /** Inputs that wait for a lane, in all and for one client. Beyond it a client is answered 'busy'. */
  readonly queue: number;
  readonly queuePerClient: number;
  /** Open sessions, in all and for one client. Beyond it a client is answered 'busy'. */
  readonly sessions: number;
  readonly sessionsPerClient: number;
  /** Seconds without an input after which a session is ended. 0: never. */
  readonly idleSeconds: number;
  /** Seconds a session may wait to be open at both parties, and an input for its other half. */
  readonly waitSeconds: number;
  /** Seconds a step may run. */
  readonly stepSeconds: number;
}

export const defaultLimits: Limits = {
  lanes: 3,
  queue: 256,
  queuePerClient: 64,
  sessions: 4096,
  sessionsPerClient: 256,
  idleSeconds: 600,
  waitSeconds: 30,
  stepSeconds: 600,
};

export interface StepReport {
  /** The client's name on its link. */
  readonly client: string;
  readonly hash: string;
  readonly params: Params;
  /** In the queue; from the start to the last output sent. */
  readonly queuedSeconds: number;
  readonly seconds: number;
  readonly rounds: number;
  /** Sent to the other party, received from it and from the dealer: payloads. */
  readonly sentBytes: number;
  readonly receivedBytes: number;
  /** Seconds by kind of gate, when the host was asked for a profile: this step's alone. */
  readonly profile?: Profile;
}

/** No event carries a seed or a value, and only `received` carries bytes of shares: those this server has anyway. */
export interface HostEvents {
  sessionOpened?(client: string, hash: string): void;
  /** `code`: why, when it failed. */
  sessionEnded?(client: string, hash: string, code?: ErrorCode): void;
  stepDone?(report: StepReport): void;
  /** For a demonstration's view of a server: the masked bytes it receives in a session, valid during the call, and each round it completes. */
  received?(session: string, from: 'peer' | 'dealer' | 'client', bytes: Uint8Array): void;
  round?(session: string, round: number, bytes: number): void;
}

/** A step's corrections, made and sent. */
export interface DealReport {
  readonly hash: string;
  readonly params: Params;
  readonly seconds: number;
  readonly bytes: number;
  readonly profile?: Profile;
}

export interface DealerEvents {
  stepDealt?(report: DealReport): void;
}

/** The work at hand, for metrics. */
export interface HostLoad {
  readonly sessions: number;
  readonly queued: number;
  readonly running: number;
  /** Which other roles are connected. */
  readonly connected: readonly string[];
}
