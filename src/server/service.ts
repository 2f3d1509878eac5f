/** A role as a service. */
import type { Hono } from 'hono';
import type { Logger } from 'pino';
import type { HostEvents } from '../session/events.ts';
import type { Config } from './config.ts';

export interface StartOptions {
  /** Default: JSON lines on stdout, at the configuration's level. */
  readonly log?: Logger;
  /** The file the configuration came from: it is watched, and read again on `reload`. */
  readonly file?: string;
  /** Hears what the host tells, beside metrics and log. */
  readonly events?: HostEvents;
  /** Adds routes to the HTTP interface, before all others. */
  readonly extend?: (app: Hono) => void;
}

export interface RunningRole {
  readonly role: Config['role'];
  /** Where it listens, with the ports it was given for port 0. */
  readonly addresses: { readonly links?: string; readonly api?: string; readonly metrics?: string };
  /** Resolves when every other role is connected for the first time. */
  readonly ready: Promise<void>;
  /** What keeps it from serving: 'p1 is not connected', 'draining'. Empty: ready. */
  missing(): readonly string[];
  /** No new sessions; running steps finish, within `times.drain`. Then closes. */
  drain(): Promise<void>;
  /** Reads the file again. Returns what changed and what needs a restart; throws ConfigError and changes nothing when the file is wrong. */
  reload(): Promise<{ readonly changed: readonly string[]; readonly restart: readonly string[] }>;
  /** Ends everything at once. */
  close(): Promise<void>;
}

/** Resolves when it listens. Throws ConfigError, LinkError ('port-in-use' …), or what reading keys throws; nothing is left behind then. */
export async function startRole(config: Config, options: StartOptions = {}): Promise<RunningRole> {
  throw new Error(`not here yet: ${config.role} ${Object.keys(options)}`);
}
