/** Reading a role's configuration, a small TOML or JSON file. Unknown keys are refused; no secret stands in it: keys are named by path, tokens by hash. */
import { readFileSync } from 'node:fs';
import { dirname, extname, resolve } from 'node:path';
import { parse as parseToml } from 'smol-toml';
import { z } from 'zod';
import { nearest } from './nearest.ts';
import { bare, type Config, ConfigSchema, hostPort, metaOf } from './schema.ts';

export { type ApiConfig, bytesOf, type Config, hostPort } from './schema.ts';

/** A configuration that cannot be: file, key, what was expected; a line for each problem. */
export class ConfigError extends Error {
  override name = 'ConfigError';
}

/** Reads a .json file as JSON, any other as TOML. Throws ConfigError. */
export function readConfig(file: string): Config {
  let value: unknown;
  try {
    const source = readFileSync(file, 'utf8');
    value = extname(file) === '.json' ? JSON.parse(source) : parseToml(source);
  } catch (e) {
    const { code, message } = e as NodeJS.ErrnoException;
    throw new ConfigError(`${file}: ${code === 'ENOENT' ? 'there is no such file' : message.split('\n')[0]}`);
  }
  return parseConfig(value, { dir: dirname(resolve(file)), name: file });
}

/** `dir`: what paths are relative to. `name`: of the file, for messages. Throws ConfigError. */
export function parseConfig(value: unknown, { dir = process.cwd(), name = 'configuration' } = {}): Config {
  const complain = (problems: readonly string[]): never => {
    throw new ConfigError(problems.map((p) => `${name}: ${p}`).join('\n'));
  };
  const parsed = ConfigSchema.safeParse(value);
  if (!parsed.success) return complain(parsed.error.issues.flatMap(problemsOf));
  const config = absolute(ConfigSchema, parsed.data, dir) as Config;
  const wrong = rules(config);
  return wrong.length > 0 ? complain(wrong) : config;
}

export const isLoopback = (host: string): boolean => host === 'localhost' || host === '::1' || /^127\.\d+\.\d+\.\d+$/.test(host);

export interface Changes {
  /** The old configuration with what counts without a restart taken from the new one. */
  readonly config: Config;
  /** Keys that differ: those that count now, and those that need a restart. */
  readonly live: readonly string[];
  readonly restart: readonly string[];
}

export function changes(before: Config, after: Config): Changes {
  const [live, restart]: string[][] = [[], []];
  const walk = (schema: z.ZodType, a: unknown, b: unknown, at: string): unknown => {
    const s = bare(schema);
    if (s instanceof z.ZodObject && !metaOf(schema).live && a !== undefined && b !== undefined) {
      const [x, y] = [a, b] as Record<string, unknown>[];
      return Object.fromEntries(Object.keys(s.shape).map((k) => [k, walk(s.shape[k], x[k], y[k], at ? `${at}.${k}` : k)]));
    }
    if (JSON.stringify(a) === JSON.stringify(b)) return a;
    (metaOf(schema).live ? live : restart).push(at);
    return metaOf(schema).live ? b : a;
  };
  return { config: walk(ConfigSchema, before, after, '') as Config, live, restart };
}

function problemsOf(issue: z.core.$ZodIssue): string[] {
  const at = issue.path.join('.');
  if (issue.code === 'unrecognized_keys') {
    const s = schemaAt(ConfigSchema, issue.path);
    const known = s instanceof z.ZodObject ? Object.keys(s.shape) : [];
    const name = (key: string): string => (at ? `${at}.${key}` : key);
    return issue.keys.map((key) => {
      const meant = nearest(key, known);
      return `there is no key '${name(key)}': ${meant ? `is '${name(meant)}' meant?` : `here go ${known.join(', ')}`}`;
    });
  }
  if (issue.code === 'invalid_type' && issue.input === undefined) {
    const { description } = metaOf(schemaAt(ConfigSchema, issue.path, false) ?? ConfigSchema);
    return [`'${at}' is missing${description ? `: ${description}` : ''}`];
  }
  return [`'${at}': ${issue.message.replace(/^Invalid (input|option): /, '').replace(/^Too (big|small): /, '')}`];
}

/** The schema of a key; `unwrapped`: without what makes it optional. */
function schemaAt(schema: z.ZodType, at: readonly PropertyKey[], unwrapped = true): z.ZodType | undefined {
  const s = bare(schema);
  if (at.length === 0) return unwrapped ? s : schema;
  if (s instanceof z.ZodObject) return s.shape[at[0] as string] && schemaAt(s.shape[at[0] as string], at.slice(1), unwrapped);
  return s instanceof z.ZodArray ? schemaAt(s.element as z.ZodType, at.slice(1), unwrapped) : undefined;
}

function absolute(schema: z.ZodType, value: unknown, dir: string): unknown {
  if (typeof value === 'string') return metaOf(schema).path ? resolve(dir, value) : value;
  const s = bare(schema);
  if (!(s instanceof z.ZodObject) || typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, absolute(s.shape[k], v, dir)]));
}

const roles = ['p0', 'p1', 'dealer'] as const;
type Role = (typeof roles)[number];
/** Whom a role dials, and who dials it: the receiver of the bulk dials (net/tls.ts). */
export const dials: Readonly<Record<Role, readonly Role[]>> = { p0: ['dealer'], p1: ['p0', 'dealer'], dealer: [] };
export const callers: Readonly<Record<Role, readonly Role[]>> = { p0: ['p1'], p1: [], dealer: ['p0', 'p1'] };

/** What a role needs beyond the shape of each key. */
const rules = (config: Config): string[] => [...linkRules(config), ...apiRules(config)];

function linkRules({ role, links }: Config): string[] {
  const wrong: string[] = [];
  const listens = callers[role].length > 0;
  if (listens && !links.listen) wrong.push(`'links.listen' is missing: ${callers[role].map((c) => `${c} dials ${role}`).join(', ')}`);
  if (!listens && links.listen) wrong.push(`'links.listen' is not for ${role}: nobody dials it`);
  for (const peer of roles) {
    const known = dials[role].includes(peer) || callers[role].includes(peer);
    const dialled = dials[role].includes(peer);
    const entry = links[peer];
    if (known && !entry) wrong.push(`'links.${peer}' is missing: its pins${dialled ? ' and address' : ''}`);
    else if (!known && entry) wrong.push(`'links.${peer}' is not for ${role}`);
    else if (entry && dialled && !entry.address) wrong.push(`'links.${peer}.address' is missing: ${role} dials ${peer}`);
    else if (entry?.address && !dialled) wrong.push(`'links.${peer}.address' is not for ${role}: ${peer} dials it`);
  }
  // The dealer knows every mask: under the other party's key it could read the link between the parties.
  const whose = new Map<string, Role>();
  for (const peer of roles)
    for (const pin of links[peer]?.pins ?? []) {
      const other = whose.get(pin);
      if (other && other !== peer) wrong.push(`'links.${peer}.pins' and 'links.${other}.pins' hold the same key: each role has its own`);
      whose.set(pin, peer);
    }
  return wrong;
}

function apiRules({ role, api }: Config): string[] {
  if (!api) return role === 'dealer' ? [] : ["'api' is missing: clients come over the HTTP interface"];
  const wrong: string[] = [];
  if (!api.cert !== !api.key) wrong.push("'api.cert' and 'api.key' go together");
  if (!api.cert && !isLoopback(hostPort(api.listen).host) && !api.behindProxy)
    wrong.push(
      `'api.listen' is ${api.listen}, and plain HTTP: give 'api.cert' and 'api.key', listen on 127.0.0.1, or set 'api.behindProxy' where a proxy does TLS`,
    );
  if (api.clientCa && !api.cert) wrong.push("'api.clientCa' needs TLS: give 'api.cert' and 'api.key'");
  const lets = api.open || api.tokens.length > 0 || api.clientCa !== undefined;
  if (role === 'dealer' && (lets || api.origins.length > 0))
    wrong.push("'api' of the dealer is for owners: 'tokens', 'open', 'clientCa' and 'origins' are the parties'");
  if (role !== 'dealer' && !lets) wrong.push("'api' lets nobody in: give 'api.tokens' or 'api.clientCa', or set 'api.open'");
  const names = api.tokens.map((t) => t.name);
  const twice = names.find((n, i) => names.indexOf(n) !== i);
  if (twice) wrong.push(`'api.tokens' names '${twice}' twice: quotas go by name`);
  return wrong;
}
