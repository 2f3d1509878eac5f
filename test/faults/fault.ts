/** What a fault is, and what is to be seen of it. */

import type { Random } from './random.ts';
import type { World } from './world.ts';

/** Where in a run of many rounds a fault comes. */
export const moments = ['opening', 'early', 'round 10', 'round 20', 'round 30', 'last round', 'any round'] as const;
export type Moment = (typeof moments)[number];

interface Common {
  readonly name: string;
  /** How often it comes, beside others. */
  readonly weight: number;
  /** Where it can strike. */
  readonly variants: readonly string[];
  /** Whose runs may fail: clients of the roles all use, the one client it is aimed at, or nobody's. */
  readonly hits: 'all' | 'victim' | 'nobody';
  /** What may be answered to whoever it is aimed at: 'right', or codes. */
  readonly codes: readonly string[];
  /** Seconds until it is noticed: 0 where a connection breaks, the limit where something is silent. */
  readonly detect: number;
}

/** Strikes while a client's run of many rounds is under way. */
export interface Strike extends Common {
  readonly during: true;
  /** Roles end by it: these come in the first half, so that memory can be compared over the second. */
  readonly ends?: boolean;
  /** Done before the run begins. What it returns undoes it. */
  prepare?(w: World, variant: string, random: Random): Promise<() => unknown>;
  /** What it returns undoes it, once the client has its answer. */
  act(w: World, variant: string, random: Random): Promise<(() => unknown) | undefined> | (() => unknown) | undefined;
}

/** A caller, a server or a file that is not as it should be. Returns the code that was answered. */
export interface Misuse extends Common {
  readonly during: false;
  act(w: World, variant: string, random: Random): Promise<string>;
}

export type Fault = Strike | Misuse;
