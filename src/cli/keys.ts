/** subrosa keys: everything a test cluster needs to start and trust itself. A real one's roles make their own keys, each at home. */
import { createHash, generateKeyPairSync, randomBytes } from 'node:crypto';
import { isIP } from 'node:net';
import { join } from 'node:path';
import { stringify } from 'smol-toml';
import { writeTree } from '../folder/index.ts';
import { certify, makeAuthority } from '../net/authority.ts';
import { makeIdentity } from '../net/keys.ts';
import type { Role } from '../runtime/model.ts';
import { publicOf } from '../server/owner.ts';
import { homeFolder } from './locate.ts';
import { out, print, say, UsageError } from './terminal.ts';

interface Options {
  readonly host?: readonly string[];
  readonly port?: number;
  readonly json?: boolean;
}

const here = ['localhost', '127.0.0.1', '::1'];
/** Ports from the first one on: the three HTTP interfaces, then the links P0 and the dealer listen on. */
export const firstPort = 8440;
const order = { p0: 0, p1: 1, dealer: 2, 'p0 links': 3, 'dealer links': 4 } as const;

export function keysCommand(given: string | undefined, options: Options): void {
  const dir = given ?? join(homeFolder, 'keys');
  for (const name of options.host ?? [])
    if (isIP(name) === 0 && !/^(\*\.)?[a-z0-9-]+(\.[a-z0-9-]+)*$/i.test(name))
      throw new UsageError(`--host ${name}: a host's name or address is expected`);
  const { files, pins, owner } = clusterKeys([...new Set([...here, ...(options.host ?? [])])], options.port ?? firstPort);
  writeTree(dir, files);
  if (options.json) {
    print(JSON.stringify({ dir, cluster: join(dir, 'cluster.toml'), owner, pins, files: [...files.keys()] }));
    return;
  }
  print(`${out.bold('a test cluster')} in ${dir}`);
  print('  p0/ p1/ dealer/   configuration and keys of a role: each belongs on one machine');
  print('  cluster.toml      addresses, for subrosa deploy');
  print('  owner.key         may put models there     client.token   may use them');
  print('  ca.pem            to be trusted by owners and clients; ca.key signed the HTTPS certificates');
  for (const [role, pin] of Object.entries(pins)) print(`  ${`pin of ${role}`.padEnd(18)}${pin}`);
  say('start each role, then deploy:');
  for (const role of ['p0', 'p1', 'dealer'] as const)
    say(`  subrosa ${role === 'dealer' ? 'dealer' : 'party'} --config ${join(dir, role, `${role}.toml`)}`);
  say(`  subrosa deploy PARTS --to ${join(dir, 'cluster.toml')} --key ${join(dir, 'owner.key')}`);
}

interface ClusterKeys {
  /** Contents by path. */
  readonly files: ReadonlyMap<string, string>;
  readonly pins: Readonly<Record<Role, string>>;
  /** The owner's public key, base64. */
  readonly owner: string;
}

function clusterKeys(hosts: readonly string[], port: number): ClusterKeys {
  const authority = makeAuthority('subrosa test cluster');
  const owner = generateKeyPairSync('ed25519').privateKey;
  const token = randomBytes(32).toString('base64url');
  const links = { p0: makeIdentity('p0'), p1: makeIdentity('p1'), dealer: makeIdentity('dealer') };
  const at = (what: keyof typeof order): string => `127.0.0.1:${port + order[what]}`;
  const pins = (role: Role): { pins: string[] } => ({ pins: [links[role].spki] });
  const own: Record<Role, object> = {
    p0: { listen: at('p0 links'), p1: pins('p1'), dealer: { ...pins('dealer'), address: at('dealer links') } },
    p1: { p0: { ...pins('p0'), address: at('p0 links') }, dealer: { ...pins('dealer'), address: at('dealer links') } },
    dealer: { listen: at('dealer links'), p0: pins('p0'), p1: pins('p1') },
  };
  const files = new Map<string, string>();
  for (const role of ['p0', 'p1', 'dealer'] as const) {
    const https = certify(authority, hosts);
    const tokens = role === 'dealer' ? {} : { tokens: [{ name: 'client', sha256: createHash('sha256').update(token).digest('hex') }] };
    const config = {
      role,
      owners: [{ name: 'owner', key: publicOf(owner) }],
      links: { key: 'link.key', cert: 'link.pem', ...own[role] },
      api: { listen: at(role), key: 'api.key', cert: 'api.pem', ...tokens },
      models: { dir: 'models' },
    };
    files.set(
      `${role}/${role}.toml`,
      `# ${role} of a test cluster, made by subrosa keys. subrosa party --print-config says what else there is.\n${stringify(config)}\n`,
    );
    files.set(`${role}/link.key`, links[role].keyPem).set(`${role}/link.pem`, links[role].certPem);
    files.set(`${role}/api.key`, https.keyPem).set(`${role}/api.pem`, https.certPem);
  }
  const url = (role: Role): string => `https://localhost:${port + order[role]}`;
  files.set('cluster.toml', `${stringify({ p0: url('p0'), p1: url('p1'), dealer: url('dealer'), ca: 'ca.pem' })}\n`);
  files.set('ca.key', authority.keyPem).set('ca.pem', authority.certPem);
  files.set('owner.key', owner.export({ type: 'pkcs8', format: 'pem' }).toString()).set('owner.pub', `${publicOf(owner)}\n`);
  files.set('client.token', `${token}\n`);
  return { files, pins: { p0: links.p0.spki, p1: links.p1.spki, dealer: links.dealer.spki }, owner: publicOf(owner) };
}
