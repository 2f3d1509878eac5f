/**
 * The keys of a role's configuration: shape, default, what each means, and whether a change of it counts while the role runs. This is the one
 * place: `--print-config` prints from here, and a test holds the tables of docs/operate.md against it.
 */
import { z } from 'zod';
import { defaultLimits } from '../session/events.ts';

/** What zod carries with a key. */
export interface Meta {
  readonly description?: string;
  /** Relative to the file. */
  readonly path?: boolean;
  /** Taken over without a restart. */
  readonly live?: boolean;
  /** Never printed. */
  readonly hidden?: boolean;
}

/** Of a key, also from inside what makes it optional or gives it a default. */
export function metaOf(schema: z.core.$ZodType): Meta {
  const s = schema as z.ZodType;
  return { ...(isWrapped(s) ? metaOf(s.unwrap()) : {}), ...((s.meta() ?? {}) as Meta) };
}

/** The schema of a key without what makes it optional or gives it a default. */
export function bare(schema: z.core.$ZodType): z.ZodType {
  const s = schema as z.ZodType;
  return isWrapped(s) ? bare(s.unwrap()) : s;
}

const isWrapped = (s: z.ZodType): s is z.ZodOptional | z.ZodDefault | z.ZodPrefault =>
  s instanceof z.ZodOptional || s instanceof z.ZodDefault || s instanceof z.ZodPrefault;

/** 'host:port' or '[::1]:port'. */
export function hostPort(address: string): { host: string; port: number } {
  const at = address.lastIndexOf(':');
  return { host: address.slice(0, at).replace(/^\[|\]$/g, ''), port: Number(address.slice(at + 1)) };
}

/** '4 GiB' in bytes. */
export function bytesOf(size: string): number {
  const [, digits, unit] = /^([\d.]+) ?([KMGT])iB$/.exec(size)!;
  return Math.floor(Number(digits) * 1024 ** (1 + 'KMGT'.indexOf(unit)));
}

const live = { live: true };
const path = (description: string, more: Meta = {}) =>
  z
    .string()
    .min(1)
    .meta({ description, path: true, ...more });
const text = (pattern: RegExp, expected: string) => z.string().regex(pattern, `${expected} is expected`);
const address = () =>
  text(/^(\[[0-9a-fA-F:.]+\]|[^:\s[\]]+):\d{1,5}$/, "an address and a port, 'host:port',").refine(
    (a) => !(hostPort(a).port > 65535),
    'a port is at most 65535',
  );
const seconds = (fallback: number, description: string, least = 0.1) =>
  z.number().min(least).max(86400).default(fallback).describe(description);
const count = (fallback: number, most: number, description: string) => z.int().min(1).max(most).default(fallback).describe(description);
const size = (fallback: string, description: string) =>
  text(/^\d+(\.\d+)? ?[KMGT]iB$/, "a size such as '4 GiB'")
    .default(fallback)
    .describe(description);
const name = () => text(/^[\w.@-]{1,64}$/, "a name of 1 to 64 letters, digits, '.', '_', '@' or '-'");
const rate = () => z.number().positive();

const peer = (description: string) =>
  z
    .strictObject({
      pins: z
        .array(text(/^[0-9a-f]{64}$/, "a pin, the SHA-256 of a public key in 64 hex digits as 'subrosa keys' prints it,"))
        .min(1, 'at least one pin is expected')
        .describe('SHA-256 of the public keys it may come with, in hex; two while one replaces the other'),
      address: address().optional().describe('where it listens, host:port'),
    })
    .optional()
    .meta({ description, ...live });

const Links = z.strictObject({
  key: path("this role's private key, PEM (Ed25519 or P-256). Another key needs a restart"),
  cert: path('the certificate that carries its public key. The key is what counts: no name, date or issuer is looked at', live),
  listen: address().optional().describe('host:port for roles that dial this one: P1 dials P0, both dial the dealer'),
  p0: peer('P0, as P1 knows it (pins, address) and the dealer (pins)'),
  p1: peer('P1, as P0 and the dealer know it (pins)'),
  dealer: peer('the dealer, as both parties know it (pins, address)'),
});

const Token = z.strictObject({
  name: name(),
  sha256: text(/^[0-9a-f]{64}$/, 'the SHA-256 of a token, 64 hex digits,').meta({ hidden: true }),
  stepsPerMinute: rate().optional(),
});

const Api = z.strictObject({
  listen: address().describe('host:port of the HTTP interface'),
  cert: path('PEM certificate chain of the interface; from a public authority, for browsers. Without it: plain HTTP', live).optional(),
  key: path('its private key, PEM', live).optional(),
  behindProxy: z
    .boolean()
    .default(false)
    .describe('allows plain HTTP on an address that is not loopback: a proxy in front does TLS, and says who called in X-Forwarded-For'),
  clientCa: path(
    'PEM certificates of an authority: whoever has a certificate of it needs no token, and is called by its common name',
  ).optional(),
  tokens: z
    .array(Token)
    .default([])
    .meta({ description: 'who may use the models: {name, sha256 (of the token), stepsPerMinute (if limited)}', ...live }),
  open: z
    .boolean()
    .default(false)
    .meta({ description: 'anyone may use the models, without token or certificate; quotas go by address', ...live }),
  stepsPerMinute: rate()
    .optional()
    .meta({ description: 'quota of callers that have none of their own. Without it: none', ...live }),
  origins: z
    .array(text(/^\*$|^https?:\/\/[^/\s]+$/, "an origin such as 'https://example.org', or '*',"))
    .default([])
    .describe("pages that may call from browsers (CORS): origins such as 'https://example.org', or '*'"),
});

const Owner = z.strictObject({
  name: name(),
  key: text(/^[A-Za-z0-9+/]{43}=$|^[0-9a-f]{64}$/, 'an Ed25519 public key, its 32 bytes in base64 or hex,'),
});

const Models = z.strictObject({
  dir: path('where models lie, one folder each, named by hash').default('models'),
  memory: size('8 GiB', 'what models in memory may take together; the one unused for longest leaves first'),
});

const Limits = z.strictObject({
  lanes: count(defaultLimits.lanes, 64, 'steps that run at once, each with memory of its own; the same at all roles'),
  queue: count(defaultLimits.queue, 1_000_000, "inputs that wait for a lane; beyond it clients are answered 'busy'"),
  queuePerClient: count(defaultLimits.queuePerClient, 1_000_000, 'of these, of one client'),
  sessions: count(defaultLimits.sessions, 1_000_000, 'open sessions'),
  sessionsPerClient: count(defaultLimits.sessionsPerClient, 1_000_000, 'of these, of one client'),
  idleSeconds: seconds(defaultLimits.idleSeconds, 'a session without an input for so long is ended; 0: never', 0),
  waitSeconds: seconds(defaultLimits.waitSeconds, 'a session may wait so long to be open at both parties, an input for its other half'),
  stepSeconds: seconds(defaultLimits.stepSeconds, 'a step may run so long'),
  connections: count(1024, 65536, 'HTTP connections; further ones are closed at once'),
  uploads: size('512 MiB', "bodies of requests being read at once; beyond it callers are answered 'busy'"),
  frame: size('256 MiB', 'longest message taken from another role'),
});

const Times = z.strictObject({
  silence: seconds(20, 'a role that owes an answer may be silent so long'),
  connect: seconds(10, 'one attempt to reach a role'),
  redial: seconds(15, 'longest pause between two attempts; the first ones are shorter'),
  drain: seconds(30, 'what runs may go on so long after SIGTERM', 0).meta(live),
  headers: seconds(10, 'a caller may take so long for the headers of a request'),
  request: seconds(300, 'and so long for the whole of it'),
  stall: seconds(20, 'a body being sent may pause so long'),
  answer: seconds(60, 'an answer may lie unread so long'),
  idle: seconds(60, 'an HTTP connection without requests is kept so long'),
});

const Metrics = z.strictObject({
  listen: address()
    .optional()
    .describe('host:port of /metrics (Prometheus), /healthz and /readyz, in plain HTTP, for your own network only. Without it: none'),
  profile: z.boolean().default(false).describe('count seconds by kind of gate, too'),
});

const Log = z.strictObject({
  level: z
    .enum(['debug', 'info', 'warn', 'error'])
    .default('info')
    .meta({ description: 'debug, info (a line a step and a session), warn or error', ...live }),
});

export const ConfigSchema = z.strictObject({
  role: z.enum(['p0', 'p1', 'dealer']).describe('p0, p1 or dealer'),
  threads: count(1, 8, 'threads that compute'),
  owners: z
    .array(Owner)
    .default([])
    .meta({ description: 'who may put models here: {name, key (Ed25519, public, base64 or hex)}', ...live }),
  links: Links.describe('Links between roles: mutual TLS 1.3, each key pinned'),
  api: Api.optional().describe('HTTP interface: clients and owners at parties, owners at the dealer (which needs none)'),
  models: Models.prefault({}).describe('Models'),
  limits: Limits.prefault({}).describe('What others can make this role keep'),
  times: Times.prefault({}).describe('Time limits, in seconds'),
  metrics: Metrics.prefault({}).describe('Metrics and health'),
  log: Log.prefault({}).describe('Log: one JSON object a line on stdout'),
});

/** Defaults filled in, paths absolute. */
export type Config = Readonly<z.output<typeof ConfigSchema>>;
export type ApiConfig = Readonly<z.output<typeof Api>>;
