/** What a party keeps of its sessions: who has them, what they wait for, for how long they may. */
import { createDecipheriv, createHash } from 'node:crypto';
import { SubrosaError } from '../client/errors.ts';
import { rowsAfter, saltOf } from '../client/share.ts';
import type { Link } from '../net/link.ts';
import { shareBytes } from '../program/inputs.ts';
import { type Params, parametersOf, sequencesOf } from '../program/program.ts';
import { placeShares } from '../runtime/inputs.ts';
import type { PartyStep } from '../runtime/party.ts';
import type { Limits } from './events.ts';
import type { Setting } from './keys.ts';
import type { Caches, Lease } from './lanes.ts';
import type { Run } from './run.ts';
import type { Takes } from './store.ts';

export interface Session {
  readonly number: number;
  readonly tag: number;
  readonly setting: Setting;
  readonly client: Link;
  seed?: Uint8Array;
  zero?: Uint8Array;
  ready: boolean;
  lastStep: number;
  /** What it keeps from step to step, by slot: rows, and the memory they lie in from the slot's first step on. */
  readonly rows: Map<number, number>;
  readonly caches: Map<number, Caches>;
  /** P0: the input that P1 has said it has. */
  peerHas?: { readonly step: number; readonly digest: Uint8Array };
  input?: Input;
  work?: Work;
  /** When it began to wait for what it waits for: to be open, for an input, for the other half of one. Milliseconds. */
  since: number;
  /** When the client was last told how far its step is; undefined: it does not want to know. */
  told?: number;
}

/** An input that waits for a lane. */
export interface Input {
  readonly client: string;
  readonly session: Session;
  readonly step: number;
  readonly params: Params;
  readonly bytes: Uint8Array;
  readonly digest: Buffer;
  readonly at: number;
  /** P1: P0 has said go, and perhaps sent its first opening. */
  go: boolean;
  early?: Uint8Array;
}

/** A step at work. */
export interface Work {
  readonly input: Input;
  readonly run: Run;
  readonly step: PartyStep;
  readonly lease: Lease;
  readonly at: number;
  readonly profile?: Map<string, number>;
}

/** Sessions by number, counted by client. */
export class Sessions {
  private readonly byNumber = new Map<number, Session>();
  private readonly perClient = new Map<string, number>();
  /** Those that are not ready yet. */
  readonly opening = new Set<Session>();

  get size(): number {
    return this.byNumber.size;
  }
  get(number: number): Session | undefined {
    return this.byNumber.get(number);
  }
  /** As they are now: they may be removed meanwhile. */
  all(): Session[] {
    return [...this.byNumber.values()];
  }

  /** Throws SubrosaError 'busy' when this client, or all together, have as many as they may. */
  room(client: string, { sessions, sessionsPerClient }: Limits): void {
    const own = this.perClient.get(client) ?? 0;
    if (own >= sessionsPerClient) throw new SubrosaError('busy', `${client} has ${own} sessions open: end some`);
    if (this.size >= sessions) throw new SubrosaError('busy', `${sessions} sessions are open here: try again later`);
  }
  add(s: Session): void {
    this.byNumber.set(s.number, s);
    this.opening.add(s);
    this.perClient.set(s.client.peer, (this.perClient.get(s.client.peer) ?? 0) + 1);
  }
  /** Answers whether it was there. */
  remove(s: Session): boolean {
    if (this.byNumber.get(s.number) !== s) return false;
    this.byNumber.delete(s.number);
    this.opening.delete(s);
    const left = (this.perClient.get(s.client.peer) ?? 0) - 1;
    if (left > 0) this.perClient.set(s.client.peer, left);
    else this.perClient.delete(s.client.peer);
    return true;
  }
}

/** Why a session has waited for too long, if it has. `leads`: this is P0, which knows what P1 has. */
export function overdue(s: Session, leads: boolean, now: number, limits: Limits): SubrosaError | undefined {
  const { waitSeconds, stepSeconds, idleSeconds } = limits;
  const over = (since: number, seconds: number): boolean => seconds > 0 && now - since > 1000 * seconds;
  const half = leads && (s.input ? s.peerHas?.step !== s.input.step : (s.peerHas?.step ?? -1) > s.lastStep);
  const late = (what: string, seconds: number): SubrosaError => new SubrosaError('timeout', `${what} within ${seconds} s`);
  if (!s.ready)
    return over(s.since, waitSeconds) ? late('the session was not open at both parties and the dealer', waitSeconds) : undefined;
  if (s.work) return over(s.work.at, stepSeconds) ? late('the step was not done', stepSeconds) : undefined;
  if (half) return over(s.since, waitSeconds) ? late('only one party was given its share of the input', waitSeconds) : undefined;
  if (s.input || !over(s.since, idleSeconds)) return undefined;
  return new SubrosaError('ended', `no input for ${idleSeconds} s: open a new session`);
}

/** Milliseconds between two looks at what is overdue. */
export function lookEvery({ waitSeconds, stepSeconds, idleSeconds }: Limits): number {
  const limits = [waitSeconds, stepSeconds, idleSeconds].filter((s) => s > 0);
  return Math.max(10, Math.min(1000, ...limits.map((s) => 250 * s)));
}

/** Bytes of each party's share of the inputs at these parameters. Throws SubrosaError when the program does not take them. */
export function inputBytes(program: Takes, params: Params): readonly [p0: number, p1: number] {
  const all = parametersOf(program.params, params);
  const names = all.map(([name]) => name);
  if (Object.keys(params).some((name) => !names.includes(name)))
    throw new SubrosaError('bad-message', `the program's parameters are ${names.join(', ') || 'none'}`);
  for (const [name, { min, max }] of all)
    if (!(params[name] >= min && params[name] <= max))
      throw new SubrosaError('bad-message', `${name} = ${params[name]}: the program takes ${min} to ${max}`);
  return shareBytes(program.inputs, params);
}

/**
 * Notes the rows, by slot, that a session has after this step. Going back is allowed: rows are made anew, under masks of their own.
 * Throws SubrosaError for a step that leans on rows the session has not made.
 */
export function keepRows(program: Takes, params: Params, rows: Map<number, number>): void {
  if (!program.params.past) return;
  for (const { slot, past } of sequencesOf(params)) {
    const most = rows.get(slot) ?? program.params.past.min;
    if (past > most) throw new SubrosaError('bad-message', `past = ${past}: the session has ${most} rows${slot ? ` in slot ${slot}` : ''}`);
  }
  for (const kept of rowsAfter(program, params, 'bad-message')) rows.set(kept.slot, kept.rows);
}

/** What both parties must have been given alike. */
export const digestOf = (step: number, params: Params): Buffer =>
  createHash('sha256')
    .update(JSON.stringify([step, Object.entries(params).sort()]))
    .digest();

/** Puts a party's share of the inputs, as a client of session `id` sent it, where its step has them. */
export function placeInputs(step: PartyStep, bytes: Uint8Array, id: string): void {
  const size = step.inputWords;
  const head = step.index === 0 ? 32 : 4 * size;
  const given = bytes.subarray(0, head);
  // P0's share is the ChaCha20 stream of the client's seed, in its standard order.
  const words = step.index === 0 ? createDecipheriv('chacha20', given, new Uint8Array(16)).update(new Uint8Array(4 * size)) : given;
  placeShares(step, words, bytes.subarray(head), saltOf(id));
}
