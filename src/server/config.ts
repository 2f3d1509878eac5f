/**
 * The configuration of one role: a small TOML or JSON file. What is said of each key stands here and nowhere else: `--print-config` prints it
 * from here, and a test holds the table of docs/operate.md against it.
 *
 * Unknown keys are refused, paths are relative to the file, and secrets are never in the file: keys are named by path, tokens by their SHA-256.
 */
import { readFileSync } from 'node:fs';
import { dirname, extname, resolve } from 'node:path';
import { parse as parseToml } from 'smol-toml';
import { z } from 'zod';
import { defaultLimits } from '../session/events.ts';
import { nearest } from './nearest.ts';

/** A configuration that cannot be: which file, which key, what was expected. One line for each problem. */
export class ConfigError extends Error {
  override name = 'ConfigError';
}

const path = (doc: string) => z.string().min(1).meta({ description: doc, path: true });
const text = (pattern: RegExp, expected: string) => z.string().regex(pattern, `expected ${expected}`);
const address = () => text(/^(\[[0-9a-fA-F:.]+\]|[^:\s[\]]+):\d{1,5}$/, "an address and a port, 'host:port'").refine((a) => hostPort(a).port < 65536, 'a port is at most 65535');
const seconds = (fallback: number, doc: string, least = 0.1) => z.number().min(least).max(86400).default(fallback).describe(doc);
const count = (fallback: number, most: number, doc: string, least = 1) => z.int().min(least).max(most).default(fallback).describe(doc);
const size = (fallback: string, doc: string) => text(/^\d+(\.\d+)? ?[KMGT]iB$/, "a size such as '4 GiB'").default(fallback).describe(doc);
const name = () => text(/^[\w.@-]{1,64}$/, "1 to 64 letters, digits, '.', '_', '@' or '-'");

const peer = (doc: string) =>
  z
    .strictObject({
      pins: z
        .array(text(/^[0-9a-f]{64}$/, "a pin: 64 hex digits, as 'subrosa keys' prints them"))
        .min(1, 'at least one pin is expected')
        .describe('SHA-256 of the public keys it may come with, in hex. Two while a key is being replaced'),
      address: address().optional().describe('where it listens, host:port'),
    })
    .optional()
    .describe(doc);

const Links = z.strictObject({
  key: path("this role's private key on the links between roles, PEM (Ed25519 or P-256)"),
  cert: path('the certificate that carries its public key. Pinned is the key: names, dates and issuer do not count'),
  listen: address().optional().describe('host:port for roles that dial this one. P0: for P1. Dealer: for both parties. P1 listens to nobody'),
  p0: peer('P0, for P1 (which dials it: {pins, address}) and the dealer ({pins})'),
  p1: peer('P1, for P0 and the dealer: {pins}'),
  dealer: peer('the dealer, for both parties, which dial it: {pins, address}'),
});

const Token = z.strictObject({
  name: name(),
  sha256: text(/^[0-9a-f]{64}$/, 'the SHA-256 of a token, 64 hex digits'),
  stepsPerMinute: z.number().positive().optional(),
});

const Api = z.strictObject({
  listen: address().describe('host:port of the HTTP interface: clients (parties only) and owners'),
  cert: path('PEM certificate chain of the interface, for browsers: from a public authority').optional(),
  key: path('its private key, PEM').optional(),
  behindProxy: z.boolean().default(false).describe('plain HTTP on an address that is not loopback, because a proxy in front does TLS'),
  clientCa: path('PEM certificates of an authority: a client with a certificate of it needs no token, its common name is its name').optional(),
  tokens: z.array(Token).default([]).describe("who may use the models: {name, sha256 of the token, stepsPerMinute (optional)}"),
  open: z.boolean().default(false).describe('serve callers without token or certificate, all under the name of their address'),
  stepsPerMinute: z.number().positive().optional().describe('quota of each caller without one of its own: steps a minute. Without it: none'),
  origins: z
    .array(text(/^\*$|^https?:\/\/[^/\s]+$/, "an origin such as 'https://example.org', or '*'"))
    .default([])
    .describe("web pages that may call (CORS): origins such as 'https://example.org', or '*'"),
});

const Owner = z.strictObject({ name: name(), key: text(/^[A-Za-z0-9+/]{43}=$|^[0-9a-f]{64}$/, 'an Ed25519 public key: its 32 bytes in base64 or hex') });

const Models = z.strictObject({
  dir: path('a folder with one folder for each model, named by its hash').default('models'),
  memory: size('8 GiB', 'models stay in memory up to this, least recently used ones leave first'),
});

const Limits = z.strictObject({
  lanes: count(defaultLimits.lanes, 64, 'steps that run at once, each with memory of its own'),
  queue: count(defaultLimits.queue, 1e6, "inputs that wait for a lane; beyond it a client is answered 'busy'"),
  queuePerClient: count(defaultLimits.queuePerClient, 1e6, 'the same, for one client'),
  sessions: count(defaultLimits.sessions, 1e6, 'open sessions'),
  sessionsPerClient: count(defaultLimits.sessionsPerClient, 1e6, 'the same, for one client'),
  idleSeconds: z.number().min(0).max(86400).default(defaultLimits.idleSeconds).describe('a session without an input for so long is ended; 0: never'),
  connections: count(1024, 65536, 'HTTP connections at once; further ones are closed'),
  body: size('256 MiB', 'longest body of a request, and longest frame between roles'),
});

const Times = z.strictObject({
  silence: seconds(20, 'seconds a role that owes an answer may be silent before its link is given up'),
  connect: seconds(10, 'seconds one attempt to reach a role may take'),
  redial: seconds(15, 'longest pause between two attempts, in seconds; the first ones are quicker'),
  drain: seconds(30, 'seconds running steps are given to finish after SIGTERM', 0),
  headers: seconds(10, 'seconds a client may take for the headers of a request'),
  body: seconds(120, 'seconds a client may take for a whole request'),
  idle: seconds(60, 'seconds an HTTP connection without requests is kept'),
  answer: seconds(60, 'seconds a client may leave an answer unread'),
});

const Metrics = z.strictObject({
  listen: address().optional().describe('host:port of /metrics (Prometheus), /healthz and /readyz, plain HTTP: for your own network. Without it: none'),
  profile: z.boolean().default(false).describe('count seconds by kind of gate, too (about 1 % of the time)'),
});

const Log = z.strictObject({
  level: z.enum(['debug', 'info', 'warn', 'error']).default('info').describe('least serious of what is logged, one JSON object a line on stdout'),
});

export const ConfigSchema = z.strictObject({
  role: z.enum(['p0', 'p1', 'dealer']).describe('which of the three this is'),
  threads: count(1, 8, 'threads the kernels compute with'),
  links: Links.describe('Links between the roles: mutual TLS 1.3, keys pinned'),
  api: Api.optional().describe("The HTTP interface. The dealer's serves owners only, and it needs none"),
  owners: z.array(Owner).default([]).describe('who may put models here: {name, key: their Ed25519 public key, base64 or hex}'),
  models: Models.prefault({}).describe('Models'),
  limits: Limits.prefault({}).describe('What others can make this role keep'),
  times: Times.prefault({}).describe('Time limits'),
  metrics: Metrics.prefault({}).describe('Metrics and health'),
  log: Log.prefault({}).describe('Log'),
});

/** As parsed, defaults filled in, paths absolute. */
export type Config = Readonly<z.output<typeof ConfigSchema>>;
export type ApiConfig = Readonly<z.output<typeof Api>>;
export type Peers = Partial<Record<'p0' | 'p1' | 'dealer', { readonly pins: readonly string[]; readonly address?: string }>>;

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

export const isLoopback = (host: string): boolean => host === 'localhost' || host === '::1' || /^127\.\d+\.\d+\.\d+$/.test(host);

/** Reads a .json file as JSON, any other as TOML. Throws ConfigError. */
export function readConfig(file: string): Config {
  let value: unknown;
  try {
    const source = readFileSync(file, 'utf8');
    value = extname(file) === '.json' ? JSON.parse(source) : parseToml(source);
  } catch (e) {
    const why = (e as NodeJS.ErrnoException).code === 'ENOENT' ? 'there is no such file' : (e as Error).message.split('\n')[0];
    throw new ConfigError(`${file}: ${why}`);
  }
  return parseConfig(value, { dir: dirname(resolve(file)), name: file });
}

/** `dir`: what paths are relative to. `name`: of the file, for messages. Throws ConfigError. */
export function parseConfig(value: unknown, { dir = process.cwd(), name = 'configuration' } = {}): Config {
  const parsed = ConfigSchema.safeParse(value);
  if (!parsed.success) throw new ConfigError(parsed.error.issues.flatMap(problems).map((p) => `${name}: ${p}`).join('\n'));
  const config = absolute(ConfigSchema, parsed.data, dir) as Config;
  const wrong = rules(config);
  if (wrong.length > 0) throw new ConfigError(wrong.map((p) => `${name}: ${p}`).join('\n'));
  return config;
}

function problems(issue: z.core.$ZodIssue): string[] {
  const at = issue.path.join('.');
  const key = (k: string): string => (at ? `${at}.${k}` : k);
  if (issue.code === 'unrecognized_keys') {
    const known = Object.keys((schemaAt(ConfigSchema, issue.path) as z.ZodObject | undefined)?.shape ?? {});
    return issue.keys.map((k) => `there is no key '${key(k)}': ${nearest(k, known) ? `'${key(nearest(k, known)!)}' is the nearest` : `known are ${known.join(', ')}`}`);
  }
  const missing = issue.code === 'invalid_type' && /received undefined/.test(issue.message);
  const doc = schemaAt(ConfigSchema, issue.path)?.description;
  return [missing ? `'${at}' is missing${doc ? `: ${doc}` : ''}` : `'${at}': ${issue.message.replace(/^Invalid (input|option): /, '')}`];
}

/** The schema of a key, out of what wraps it. */
export function bare(schema: z.core.$ZodType): z.ZodType {
  let s = schema as z.ZodType;
  while (s instanceof z.ZodOptional || s instanceof z.ZodDefault || s instanceof z.ZodPrefault) s = s.unwrap() as z.ZodType;
  return s;
}

function schemaAt(schema: z.ZodType, at: readonly PropertyKey[]): z.ZodType | undefined {
  if (at.length === 0) return bare(schema);
  const s = bare(schema);
  const [first, ...rest] = at;
  if (s instanceof z.ZodObject) return s.shape[first as string] && (rest.length === 0 ? s.shape[first as string] : schemaAt(s.shape[first as string], rest));
  if (s instanceof z.ZodArray) return schemaAt(s.element as z.ZodType, rest);
  return undefined;
}

function absolute(schema: z.ZodType, value: unknown, dir: string): unknown {
  const s = bare(schema);
  if (typeof value === 'string' && (s.meta() as { path?: boolean } | undefined)?.path) return resolve(dir, value);
  if (!(s instanceof z.ZodObject) || typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, absolute(s.shape[k], v, dir)]));
}

/** What a role needs beyond the shape of each key. */
function rules({ role, links, api }: Config): string[] {
  const wrong: string[] = [];
  const needs = { p0: ['listen', 'p1', 'dealer'], p1: ['p0', 'dealer'], dealer: ['listen', 'p0', 'p1'] }[role] as ('listen' | 'p0' | 'p1' | 'dealer')[];
  for (const key of ['listen', 'p0', 'p1', 'dealer'] as const) {
    if (needs.includes(key) && links[key] === undefined) wrong.push(`'links.${key}' is missing: ${Links.shape[key].description}`);
    if (!needs.includes(key) && links[key] !== undefined) wrong.push(`'links.${key}' is not for ${role}: ${Links.shape[key].description}`);
  }
  for (const key of ['p0', 'p1', 'dealer'] as const) {
    const dials = key === 'dealer' || (key === 'p0' && role === 'p1');
    if (links[key] && dials !== (links[key].address !== undefined)) wrong.push(`'links.${key}.address' is ${dials ? `missing: ${role} dials ${key}` : `not for ${role}: ${key} dials it`}`);
  }
  // The dealer knows every mask: with the other party's key it could read that link. Keys are told apart, so roles must be.
  const seen = new Map<string, string>();
  for (const key of ['p0', 'p1', 'dealer'] as const)
    for (const pin of links[key]?.pins ?? []) {
      if (seen.has(pin) && seen.get(pin) !== key) wrong.push(`'links.${key}.pins' and 'links.${seen.get(pin)}.pins' hold the same key: each role has its own`);
      seen.set(pin, key);
    }
  if (!api) return role === 'dealer' ? wrong : [...wrong, "'api' is missing: clients come over its HTTP interface"];
  if ((api.cert === undefined) !== (api.key === undefined)) wrong.push("'api.cert' and 'api.key' come together");
  if (!api.cert && !isLoopback(hostPort(api.listen).host) && !api.behindProxy)
    wrong.push(`'api.listen' is ${api.listen}, in plain HTTP: give 'api.cert' and 'api.key', listen on 127.0.0.1, or set 'api.behindProxy' if a proxy does TLS`);
  if (api.clientCa && !api.cert) wrong.push("'api.clientCa' needs TLS: give 'api.cert' and 'api.key'");
  if (role === 'dealer') {
    for (const key of ['clientCa', 'origins', 'tokens', 'open'] as const) if (api[key] !== undefined && api[key] !== false && (api[key] as unknown[]).length !== 0) wrong.push(`'api.${key}' is not for the dealer: clients do not talk to it`);
  } else if (!api.open && api.tokens.length === 0 && !api.clientCa) wrong.push("'api' lets nobody in: give 'api.tokens', 'api.clientCa', or 'api.open = true'");
  const names = api.tokens.map((t) => t.name);
  const twice = names.find((n, i) => names.indexOf(n) !== i);
  if (twice) wrong.push(`'api.tokens' has two tokens named '${twice}': quotas go by name`);
  return wrong;
}
