/** What deploy/ gives to operators: configurations that parse and know each other, units and services that start what there is. */
import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { commands } from '../src/cli/index.ts';
import { type Config, hostPort, readConfig } from '../src/server/config.ts';

const deploy = join(import.meta.dirname, '..', 'deploy');
const text = (name: string): string => readFileSync(join(deploy, name), 'utf8');
const kinds = ['party', 'dealer'] as const;

/** Throws unless the command line is one of ours: command, options, and what an option requires. */
function checkCommand(args: readonly string[]): { name: string; config: string } {
  const program = commands();
  let seen: { name: string; config: string } | undefined;
  for (const c of program.commands)
    c.exitOverride()
      .configureOutput({ writeErr: () => {} })
      .action((options) => {
        seen = { name: c.name(), config: options.config };
      });
  program
    .exitOverride()
    .configureOutput({ writeErr: () => {} })
    .parse([...args], { from: 'user' });
  if (!seen) throw new Error(`no command in ${args.join(' ')}`);
  return seen;
}

describe.each(['.', 'compose'])('the configurations in %s', (folder) => {
  const of = (role: Config['role']): Config => readConfig(join(deploy, folder, ...(folder === '.' ? [] : [role]), `${role}.toml`));
  const [p0, p1, dealer] = (['p0', 'p1', 'dealer'] as const).map(of);

  test('are of the role their name says', () => expect([p0.role, p1.role, dealer.role]).toEqual(['p0', 'p1', 'dealer']));
  test('agree on each key, and dial what listens', () => {
    expect(p1.links.p0!.pins).toEqual(dealer.links.p0!.pins);
    expect(p0.links.p1!.pins).toEqual(dealer.links.p1!.pins);
    expect(p0.links.dealer).toEqual(p1.links.dealer);
    expect(hostPort(p1.links.p0!.address!).port).toBe(hostPort(p0.links.listen!).port);
    expect(hostPort(p0.links.dealer!.address!).port).toBe(hostPort(dealer.links.listen!).port);
  });
  test('keep models where units and image have room for them', () => {
    for (const c of [p0, p1, dealer]) expect(c.models.dir).toBe('/var/lib/subrosa/models');
  });
});

test('the two parties’ tokens differ: neither party can use a client’s token at the other', () => {
  const [a, b] = ['p0', 'p1'].map((r) => readConfig(join(deploy, `${r}.toml`)).api!.tokens.map((t) => t.sha256));
  expect(a.filter((t) => b.includes(t))).toEqual([]);
});

describe.each(kinds)('the unit of a %s', (kind) => {
  const unit = new Map<string, string[]>();
  for (const [, key, value] of text(`systemd/subrosa-${kind}.service`).matchAll(/^(\w+)=(.*)$/gm))
    unit.set(key, [...(unit.get(key) ?? []), value]);

  test('starts a command that exists, and stops it as it wants to be stopped', () => {
    const [node, script, ...args] = unit.get('ExecStart')![0].split(' ');
    expect([basename(node), script]).toEqual(['node', '/opt/subrosa/bin/subrosa.js']);
    expect(checkCommand(args)).toEqual({ name: kind, config: `/etc/subrosa/${kind}.toml` });
    const { drain } = readConfig(join(deploy, kind === 'party' ? 'p0.toml' : 'dealer.toml')).times;
    expect(Number(unit.get('TimeoutStopSec')![0])).toBeGreaterThan(drain + 5);
    expect(unit.get('ExecReload')![0]).toContain('-HUP');
  });
  test('keeps seeds off every disk, and the service in its place', () => {
    for (const [key, value] of Object.entries({
      DynamicUser: 'yes',
      NoNewPrivileges: 'yes',
      ProtectSystem: 'strict',
      ProtectHome: 'yes',
      PrivateTmp: 'yes',
      LimitCORE: '0',
      MemorySwapMax: '0',
      CapabilityBoundingSet: '',
      StateDirectory: 'subrosa',
      UMask: '0077',
    }))
      expect([key, unit.get(key)]).toEqual([key, [value]]);
    expect(unit.get('MemoryMax')![0]).toMatch(/^\d+G$/);
  });
});

describe('the compose file', () => {
  const compose = parse(text('compose/compose.yaml'), { merge: true }) as {
    services: Record<
      string,
      {
        command: string[];
        networks: string[];
        volumes: string[];
        ports: string[];
        read_only: boolean;
        mem_limit: string;
        memswap_limit: string;
        ulimits: { core: number };
        cap_drop: string[];
      }
    >;
    networks: Record<string, { internal?: boolean }>;
    volumes: Record<string, unknown>;
  };
  const { p0, p1, dealer } = compose.services;

  test('starts the three roles with their own files, on loopback only', () => {
    for (const [role, service] of Object.entries(compose.services)) {
      const { name, config } = checkCommand(service.command);
      expect(name).toBe(role === 'dealer' ? 'dealer' : 'party');
      expect(service.volumes).toContain(`./${role}:/etc/subrosa:ro`);
      expect(readConfig(join(deploy, 'compose', role, basename(config))).role).toBe(role);
      for (const port of service.ports) expect(port).toMatch(/^127\.0\.0\.1:/);
    }
  });
  test('has no swap, no core dumps, no capability, nothing to write but models', () => {
    for (const s of Object.values(compose.services))
      expect(s).toMatchObject({ read_only: true, mem_limit: s.memswap_limit, ulimits: { core: 0 }, cap_drop: ['ALL'] });
  });
  test('gives each pair of roles a network that no third is on', () => {
    const shared = (a: typeof p0, b: typeof p0): string[] => a.networks.filter((n) => b.networks.includes(n));
    expect([shared(p0, p1), shared(p0, dealer), shared(p1, dealer)]).toEqual([['parties'], ['dealer-p0'], ['dealer-p1']]);
    for (const n of ['parties', 'dealer-p0', 'dealer-p1']) expect(compose.networks[n].internal).toBe(true);
  });
});

test('the image holds what the commands need, and runs as nobody in particular', () => {
  const lines = text('Dockerfile').split('\n');
  expect(lines.filter((l) => /^FROM node:24-slim/.test(l))).toHaveLength(2);
  const last = lines.slice(lines.lastIndexOf('FROM node:24-slim'));
  expect(last).toContain('USER node');
  for (const part of ['bin', 'dist', 'node_modules']) expect(last.some((l) => l.startsWith(`COPY --from=build /app/${part} `))).toBe(true);
  expect(last).toContain('ENTRYPOINT ["node", "/app/bin/subrosa.js"]');
});
