/** What goes wrong on the operators' and owners' side: certificates, ports, memory, disks, clocks. */
import { execFileSync } from 'node:child_process';
import { createPrivateKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { closeSync, mkdirSync, openSync, rmSync, writeSync } from 'node:fs';
import { createServer } from 'node:https';
import { join } from 'node:path';
import { RoleClient } from '../../src/cli/upload.ts';
import { SubrosaError } from '../../src/client/errors.ts';
import { certify, makeAuthority } from '../../src/net/authority.ts';
import { publicOf, signRequest } from '../../src/server/owner.ts';
import { Broken, checkedRun } from './clients.ts';
import type { FaultCluster } from './cluster.ts';
import type { Misuse } from './fault.ts';
import type { Subject } from './models.ts';
import type { World } from './world.ts';

const misuse = (
  name: string,
  weight: number,
  variants: readonly string[],
  codes: readonly string[],
  act: Misuse['act'],
  { hits = 'nobody', detect = 0 }: Partial<Pick<Misuse, 'hits' | 'detect'>> = {},
): Misuse => ({
  name,
  weight,
  variants,
  codes,
  act,
  during: false,
  hits,
  detect,
});

const year = 365 * 86_400_000;
/** A server in a party's place whose certificate the client must not take. It must be sent nothing. */
async function wrongCertificate(w: World, variant: string): Promise<string> {
  const { authority } = w.cluster;
  const names = ['127.0.0.1', 'localhost'];
  const [kind, index] = variant.split(' at p');
  const certified = {
    expired: () => certify(authority, names, Date.now() - 3 * year),
    'of another name': () => certify(authority, ['example.org']),
    'of an unknown authority': () => certify(makeAuthority('faults'), names),
    'self-signed': () => {
      const own = makeAuthority('127.0.0.1');
      return own;
    },
  }[kind]!();
  let requests = 0;
  const server = createServer({ key: certified.keyPem, cert: certified.certPem }, (_, response) => {
    requests++;
    response.end();
  });
  server.on('tlsClientError', () => {});
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const proxy = w.cluster.proxies[index === '0' ? 'client-p0' : 'client-p1'];
  proxy.detour = (server.address() as { port: number }).port;
  proxy.cut();
  try {
    const { result } = await checkedRun(await w.victim(), w.subjects.deep, w.random);
    if (requests > 0) throw new Broken(`a server with a certificate that is ${kind} was sent ${requests} requests`);
    return result;
  } finally {
    proxy.heal();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
}

async function secondProcess({ cluster }: World, role: 'p0' | 'p1' | 'dealer'): Promise<string> {
  const first = cluster.services.running.get(role)!;
  const second = cluster.services.start(role);
  cluster.services.running.set(role, first);
  const { code } = await second.ended;
  if (!second.stderr.includes('is in use')) throw new Broken(`a second ${role} said: ${second.stderr}`);
  return `exit code ${code}`;
}

const runOf = async (w: World, subject: Subject): Promise<string> => {
  const client = await w.cluster.connect('victim', subject, w.ask);
  try {
    return (await checkedRun(client, subject, w.random)).result;
  } finally {
    await client.close();
  }
};

/** Models take turns in memory that does not hold them all; the one that is in use stays. */
async function turns(w: World): Promise<string> {
  const results: string[] = [];
  for (const subject of [w.subjects.deep, w.subjects.third, w.subjects.deep]) results.push(await runOf(w, subject));
  return results.find((r) => r !== 'right') ?? 'right';
}

/** A disk of its own for P0's models, where this process may mount one. */
export function smallDisk(dir: string, mebibytes: number): (() => void) | undefined {
  mkdirSync(dir, { recursive: true });
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${mebibytes}m`, 'none', dir], { stdio: 'ignore' });
  } catch {
    return undefined;
  }
  return () => execFileSync('umount', ['-l', dir], { stdio: 'ignore' });
}

export class Owner {
  readonly key: KeyObject = createPrivateKey(generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }));
  get listed(): object {
    return { name: 'owner', key: publicOf(this.key) };
  }
  client(cluster: FaultCluster, role: 'p0' | 'p1' | 'dealer'): RoleClient {
    return new RoleClient(role, new URL(`https://${cluster.services.at('api', role)}`), this.key, cluster.authority.certPem);
  }
}

/** Writes until there is no room for another byte. */
function fill(path: string): void {
  const fd = openSync(path, 'w');
  try {
    for (const size of [1 << 16, 1 << 12, 1])
      try {
        for (;;) writeSync(fd, Buffer.alloc(size));
      } catch (e) {
        if ((e as NodeJS.ErrnoException).code !== 'ENOSPC') throw e;
      }
  } finally {
    closeSync(fd);
  }
}

/** The disk fills up between the declaration of an upload and its last chunk; with room again the upload goes on. */
async function fullDisk(w: World): Promise<string> {
  const { owner, extra } = w;
  if (!owner || !extra) throw new Broken('this cluster has no owner');
  const at = w.cluster.models.p0;
  const { hash, roles } = extra.parts;
  const part = new Map([...roles.p0.files.keys()].map((name) => [name, join(roles.p0.dir, name)]));
  const client = owner.client(w.cluster, 'p0');
  const filler = join(at, '.uploads', 'filler');
  try {
    let code = 'right';
    try {
      await client.upload(hash, 'private', part, {
        chunkBytes: 4096,
        onProgress: (bytes) => {
          if (bytes > 0 && bytes < 9000) fill(filler);
        },
      });
    } catch (e) {
      if (!(e instanceof SubrosaError)) throw e;
      code = e.code;
    }
    rmSync(filler, { force: true });
    if ((await client.upload(hash, 'private', part)) !== 'uploaded') throw new Broken('the upload did not go on');
    if (!(await client.remove(hash))) throw new Broken('what was uploaded is not there');
    return code;
  } finally {
    rmSync(filler, { force: true });
    client.close();
  }
}

async function owners(w: World, variant: string): Promise<string> {
  const { owner } = w;
  if (!owner) throw new Broken('this cluster has no owner');
  const path = '/v1/admin/models';
  const now = Date.now() + ({ 'ten minutes fast': 600_000, 'ten minutes slow': -600_000 }[variant] ?? 0);
  const authorization =
    variant === 'a stranger'
      ? signRequest(new Owner().key, { method: 'GET', role: 'dealer', path })
      : signRequest(owner.key, { method: 'GET', role: variant === 'signed for another role' ? 'p0' : 'dealer', path }, now);
  const ask = async (): Promise<string> => {
    const response = await w.ask(`https://${w.cluster.services.at('api', 'dealer')}${path}`, { headers: { authorization } });
    const said = (await response.json()) as { error?: { code: string; message: string } };
    if (variant.startsWith('ten') && !said.error?.message.includes('clock'))
      throw new Broken(`of a clock that is off it was said: ${said.error?.message}`);
    return said.error?.code ?? 'right';
  };
  if (variant === 'replayed' && (await ask()) !== 'right') throw new Broken('a signed request was refused');
  return ask();
}

/** Seconds until a process has started, models are loaded, or an upload is sent: no client waits for an error so long. */
const starts = { detect: 15 };

export const operators: readonly Misuse[] = [
  misuse(
    'a certificate that is wrong',
    8,
    ['expired', 'of another name', 'of an unknown authority', 'self-signed'].flatMap((k) => [`${k} at p0`, `${k} at p1`]),
    ['unreachable'],
    wrongCertificate,
    { hits: 'victim' },
  ),
  misuse('a port in use', 2, ['p0', 'p1', 'dealer'], ['exit code 1'], (w, v) => secondProcess(w, v as 'p0'), starts),
  misuse('more models than memory', 3, ['in turn'], ['right'], turns, starts),
  misuse('a model larger than the memory cap', 4, ['any'], ['too-large'], (w) => runOf(w, w.subjects.huge)),
  misuse(
    "an owner's request",
    6,
    ['ten minutes fast', 'ten minutes slow', 'replayed', 'signed for another role', 'a stranger'],
    ['unauthorized'],
    owners,
  ),
];
export const fullDisks: Misuse = misuse('a full disk', 3, ['during an upload'], ['too-large'], fullDisk, starts);
