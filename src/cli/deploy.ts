/** subrosa deploy: each role's part of a model to that role, and to no other. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { SubrosaError } from '../client/errors.ts';
import { isCompiled, isProtected, readCompiled, readProtected, roleFiles, roles } from '../folder/index.ts';
import type { Role } from '../runtime/model.ts';
import { ownerKey } from '../server/owner.ts';
import { type ClusterFile, readCluster } from './cluster-file.ts';
import { readFileOf } from './files.ts';
import { columns, drawn } from './table.ts';
import { bytesText, err, out, percent, print, progress, say, UsageError } from './terminal.ts';
import { type Listed, type Part, RoleClient } from './upload.ts';

interface Options {
  readonly to: string;
  readonly key: string;
  readonly list?: boolean;
  readonly remove?: string;
  readonly json?: boolean;
}

export async function deployCommand(dir: string | undefined, options: Options): Promise<void> {
  if ([dir !== undefined, options.list === true, options.remove !== undefined].filter(Boolean).length !== 1)
    throw new UsageError('say what to do: a folder to deploy, --list, or --remove HASH', 'subrosa deploy --help');
  const cluster = readCluster(options.to);
  const parts = dir === undefined ? undefined : partsOf(dir);
  const clients = connected(cluster, options.key);
  try {
    if (parts) await deploy(parts, clients, options);
    else if (options.remove !== undefined) await remove(options.remove, clients, options);
    else await list(clients, options);
  } finally {
    for (const c of clients) c.close();
  }
}

function connected({ urls, ca }: ClusterFile, keyFile: string): RoleClient[] {
  const pem = new TextDecoder().decode(readFileOf(keyFile));
  try {
    const key = ownerKey(pem);
    return roles.map((role) => new RoleClient(role, urls[role], key, ca));
  } catch (e) {
    throw new UsageError(
      `${keyFile}: no owner's key: ${e instanceof TypeError ? e.message : 'a private key in PEM is expected'}`,
      'subrosa keys makes one, so does: openssl genpkey -algorithm ed25519',
    );
  }
}

interface Parts {
  readonly hash: string;
  readonly name: string;
  readonly weights: 'public' | 'private';
  readonly of: Readonly<Record<Role, Part>>;
}

function partsOf(dir: string): Parts {
  if (isProtected(dir)) {
    const { hash, roles: folders } = readProtected(dir);
    const { name, weights } = folders.p0.program;
    const part = (role: Role): Part => new Map([...folders[role].files.keys()].map((file) => [file, join(folders[role].dir, file)]));
    return { hash, name, weights, of: { p0: part('p0'), p1: part('p1'), dealer: part('dealer') } };
  }
  if (!isCompiled(dir)) throw new UsageError(`${dir} holds no model to deploy`, `subrosa protect MODEL -o ${dir} makes one`);
  const { program, hash } = readCompiled(dir);
  // Its seeds are those of every other cluster it would be deployed to: two roles of two clusters could put the weights together.
  if (program.weights === 'private')
    throw new UsageError(
      `${dir} is compiled, with private weights that are not split for a cluster yet`,
      `subrosa protect ${dir} -o DIR, then deploy DIR`,
    );
  const files = (role: Role): string[] => [
    ...roleFiles(role, 'public'),
    ...(role === 'dealer' ? [] : readdirSync(join(dir, 'client')).map((f) => `client/${f}`)),
  ];
  const part = (role: Role): Part => new Map(files(role).map((file) => [file, join(dir, file)]));
  return { hash, name: program.name, weights: 'public', of: { p0: part('p0'), p1: part('p1'), dealer: part('dealer') } };
}

/** What all three answered, or failed with: one that fails does not stop the others. */
async function each<T>(
  clients: readonly RoleClient[],
  work: (c: RoleClient) => Promise<T>,
): Promise<{ role: Role; value?: T; error?: Error }[]> {
  return Promise.all(
    clients.map(async (c) => {
      try {
        return { role: c.role, value: await work(c) };
      } catch (error) {
        return { role: c.role, error: error as Error };
      }
    }),
  );
}

/** Throws when a role failed, naming it; `then` says how to go on. */
function orThrow(results: readonly { role: Role; error?: Error }[], then: string): void {
  const failed = results.filter((r) => r.error);
  if (failed.length === 0) return;
  const known = failed.every((r) => r.error instanceof SubrosaError);
  const text = [...failed.map((r) => `${r.role}: ${r.error?.message}`), then].join('\n');
  throw known ? new SubrosaError((failed[0].error as SubrosaError).code, text) : new Error(text, { cause: failed[0].error });
}

async function deploy({ hash, name, weights, of }: Parts, clients: readonly RoleClient[], { json }: Options): Promise<void> {
  const line = progress(`deploying ${name}`);
  const at = new Map<Role, string>();
  const results = await each(clients, async (c) => {
    const done = await c.upload(hash, weights, of[c.role], {
      onProgress(bytes, total) {
        at.set(c.role, `${c.role} ${bytesText(total)} ${bytes === total ? 'checking' : percent(bytes / total, 0)}`);
        line.update(roles.flatMap((role) => at.get(role) ?? []).join('  '));
      },
    });
    at.set(c.role, `${c.role} done`);
    return done;
  });
  line.done();
  const states = Object.fromEntries(results.map((r) => [r.role, r.value ?? 'failed']));
  if (json) print(JSON.stringify({ hash, name, weights, roles: states }));
  else for (const r of results) if (r.value) say(`${r.role.padEnd(8)}${r.value === 'there' ? 'already there' : err.green('deployed')}`);
  orThrow(results, 'the same command goes on where it stopped');
  if (!json) print(`${out.bold(name)} ${hash}`);
}

async function remove(prefix: string, clients: readonly RoleClient[], { json }: Options): Promise<void> {
  if (!/^[0-9a-f]{8,64}$/.test(prefix))
    throw new UsageError(
      `--remove ${prefix}: the first 8 or more digits of a model's hash are expected`,
      'subrosa deploy --list shows them',
    );
  const listed = await each(clients, (c) => c.list());
  const all = new Set(
    listed
      .flatMap(({ value }) => (value ? [...value.models, ...value.uploads].map((m) => m.hash) : []))
      .filter((h) => h.startsWith(prefix)),
  );
  if (all.size > 1) throw new UsageError(`--remove ${prefix}: ${all.size} models begin so: give more digits`);
  const hash = [...all][0];
  if (hash === undefined) orThrow(listed, 'no other role has such a model');
  if (hash === undefined) throw new UsageError(`no role has a model ${prefix}`, 'subrosa deploy --list shows what they have');
  const results = await each(clients, (c) => c.remove(hash));
  if (json)
    print(
      JSON.stringify({
        hash,
        roles: Object.fromEntries(results.map((r) => [r.role, r.error ? 'failed' : r.value ? 'removed' : 'not there'])),
      }),
    );
  else for (const r of results) if (!r.error) say(`${r.role.padEnd(8)}${r.value ? 'removed' : 'not there'}`);
  orThrow(results, 'the same command removes it from the others');
  if (!json) print(hash);
}

async function list(clients: readonly RoleClient[], { json }: Options): Promise<void> {
  const results = await each(clients, (c) => c.list());
  if (json) print(JSON.stringify(Object.fromEntries(results.map((r) => [r.role, r.value ?? { error: r.error?.message }]))));
  else print(table(results) ?? 'no models');
  orThrow(results, 'the others are shown');
}

/** A row a model: what each role has of it. */
function table(results: readonly { role: Role; value?: Listed }[]): string | undefined {
  const hashes = [...new Set(results.flatMap(({ value }) => [...(value?.models ?? []), ...(value?.uploads ?? [])].map((m) => m.hash)))];
  if (hashes.length === 0) return undefined;
  const rows = columns(['left', 'left', 'left', 'left', 'left', 'left']);
  rows.push(['program', 'name', 'weights', ...results.map((r) => r.role)]);
  for (const hash of hashes) {
    const known = results.flatMap(({ value }) => value?.models.find((m) => m.hash === hash) ?? [])[0];
    const cells = results.map(({ value }) => {
      if (!value) return '?';
      const [model, upload] = [value.models.find((m) => m.hash === hash), value.uploads.find((u) => u.hash === hash)];
      if (model) return `${bytesText(model.disk)}${model.memory > 0 ? ', in memory' : ''}`;
      return upload ? `uploading, ${percent(upload.bytes / upload.of, 0)}` : '–';
    });
    rows.push([hash.slice(0, 16), known?.name ?? '', known?.weights ?? '', ...cells]);
  }
  return drawn(rows);
}
