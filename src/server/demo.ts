/**
 * A demonstration's view of a server: what this party received in a session, and when.
 *
 *   GET /v1/demo/sessions/{id}  →  Seen
 *
 * What one party receives is noise, but what both receive adds up to the masked values, and the shares to the input itself: a page that may
 * ask both parties can read everything. That is the point of a demonstration on one machine, where all roles are one person's anyway, and must
 * never be had by a line too many in a production's config. So no key of the config asks for it: only `subrosa up` hands this to the roles it
 * starts, and it is refused unless every listener of the role is on a loopback address. Nobody else can reach such a role, nor could the
 * roles of a real cluster.
 */
import { Hono } from 'hono';
import { cors } from 'hono/cors';
import { SubrosaError } from '../client/errors.ts';
import type { HostEvents } from '../session/events.ts';
import { type Config, hostPort, isLoopback } from './config.ts';

/** Who sent it: the other party, the dealer, the client. */
export const sources = ['client', 'peer', 'dealer'] as const;
export type Source = (typeof sources)[number];

/** Of a session's latest step. Times are milliseconds since its input came. */
export interface Seen {
  readonly party: 0 | 1;
  /** Inputs the session has had. */
  readonly steps: number;
  /** Bytes in all and, in base64, the first of them. */
  readonly received: Readonly<Record<Source, { readonly bytes: number; readonly first: string }>>;
  /** [when, how many bytes came], by source, in the order of time; steps of many small blocks are put together. */
  readonly arrivals: Readonly<Record<Source, readonly (readonly [number, number])[]>>;
  /** [when a round was complete, its bytes]. */
  readonly rounds: readonly (readonly [number, number])[];
}

interface Latest {
  readonly from: number;
  readonly steps: number;
  readonly received: Record<Source, { bytes: number; kept: number; first: Uint8Array[]; arrivals: [number, number][] }>;
  readonly rounds: [number, number][];
}

const mostKept = 65_536;
/** Sessions looked back upon; an older one is forgotten. */
const mostSessions = 64;
const mostArrivals = 4096;

/** Throws SubrosaError 'forbidden' when a listener of the role is not on a loopback address. */
function loopbackOnly({ links, api, metrics }: Listeners): void {
  const listening = [links.listen, api?.listen, metrics.listen].filter((a) => a !== undefined);
  const open = listening.find((a) => !isLoopback(hostPort(a).host));
  if (open !== undefined)
    throw new SubrosaError(
      'forbidden',
      `a demonstration shows what a party receives, so all its listeners must be on 127.0.0.1, and one is on ${open}`,
    );
}

/** The part of a role's config that counts here. */
export interface Listeners {
  readonly links: Pick<Config['links'], 'listen'>;
  readonly api?: Pick<NonNullable<Config['api']>, 'listen' | 'origins'>;
  readonly metrics: Pick<Config['metrics'], 'listen'>;
}

export interface Demonstration {
  /** For the host. */
  readonly events: Required<Pick<HostEvents, 'received' | 'round'>>;
  /** For the HTTP interface. */
  readonly routes: Hono;
}

/** Throws SubrosaError 'forbidden' when anyone else could reach the role. */
export function demonstration(party: 0 | 1, config: Listeners, now: () => number = () => performance.now()): Demonstration {
  loopbackOnly(config);
  const sessions = new Map<string, Latest>();
  const start = (session: string, steps: number): Latest => {
    const empty = () => ({ bytes: 0, kept: 0, first: [], arrivals: [] });
    const record: Latest = { from: now(), steps, received: { client: empty(), peer: empty(), dealer: empty() }, rounds: [] };
    sessions.delete(session);
    sessions.set(session, record);
    if (sessions.size > mostSessions) sessions.delete(sessions.keys().next().value as string);
    return record;
  };
  // An input begins a step: nothing of it comes earlier from the others, since P0 says go when both parties hold it.
  const recordOf = (session: string, from?: Source): Latest => {
    const known = sessions.get(session);
    return from === 'client' ? start(session, (known?.steps ?? 0) + 1) : (known ?? start(session, 0));
  };
  const events: Demonstration['events'] = {
    received(session, from, bytes) {
      const record = recordOf(session, from);
      const r = record.received[from];
      if (r.kept < mostKept) r.first.push(bytes.slice(0, mostKept - r.kept));
      r.kept = Math.min(mostKept, r.kept + bytes.length);
      r.bytes += bytes.length;
      if (r.arrivals.length < mostArrivals) r.arrivals.push([now() - record.from, bytes.length]);
      else r.arrivals[mostArrivals - 1][1] += bytes.length;
    },
    round(session, _round, bytes) {
      const record = recordOf(session);
      if (record.rounds.length < mostArrivals) record.rounds.push([now() - record.from, bytes]);
    },
  };
  const routes = new Hono().use('/v1/demo/*', cors({ origin: [...(config.api?.origins ?? [])] })).get('/v1/demo/sessions/:id', (c) => {
    const record = sessions.get(c.req.param('id'));
    if (!record) {
      const error = new SubrosaError('ended', `no session of this id has received anything lately; the last ${mostSessions} are kept`);
      return c.json({ error: { code: error.code, message: error.message } }, 410);
    }
    return c.json(seen(party, record), 200, { 'cache-control': 'no-store' });
  });
  return { events, routes };
}

function seen(party: 0 | 1, { steps, received, rounds }: Latest): Seen {
  const each = <T>(of: (r: Latest['received'][Source]) => T): Record<Source, T> => ({
    client: of(received.client),
    peer: of(received.peer),
    dealer: of(received.dealer),
  });
  return {
    party,
    steps,
    received: each((r) => ({ bytes: r.bytes, first: Buffer.concat(r.first).toString('base64') })),
    arrivals: each((r) => r.arrivals),
    rounds,
  };
}
