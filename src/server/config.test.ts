import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parse } from 'smol-toml';
import { afterAll, describe, expect, test } from 'vitest';
import { type Config, ConfigError, changes, parseConfig, readConfig } from './config.ts';
import { configKeys, configTables, configText } from './print.ts';
import { bytesOf, hostPort } from './schema.ts';

const dir = mkdtempSync(join(tmpdir(), 'subrosa-config-'));
afterAll(() => rmSync(dir, { recursive: true }));
const pin = (digit: string): string => digit.repeat(64);

/** A party in as few lines as it takes. */
const minimal = `role = "p0"
[links]
key = "p0.key"
cert = "p0.crt"
listen = "0.0.0.0:7440"
p1 = { pins = ["${pin('1')}"] }
dealer = { pins = ["${pin('d')}"], address = "dealer.example.com:7440" }
[api]
listen = "127.0.0.1:8080"
tokens = [{ name = "web", sha256 = "${pin('7')}" }]
`;
type Plain = Record<string, Record<string, unknown>>;
/** The minimal configuration, changed. */
const plain = (change: (c: Plain) => void = () => {}, role = 'p0'): unknown => {
  const c = parse(minimal) as unknown as Plain;
  (c as Record<string, unknown>).role = role;
  if (role !== 'p0') c.links.p0 = { pins: [pin('0')] };
  if (role === 'p1') {
    delete c.links.p1;
    delete c.links.listen;
    (c.links.p0 as Record<string, unknown>).address = 'p0.example.org:7440';
  }
  if (role === 'dealer') {
    delete c.links.dealer;
    delete (c as Partial<Plain>).api;
  }
  change(c);
  return c;
};
const complaint = (value: unknown): string => {
  try {
    parseConfig(value, { name: 'p0.toml' });
  } catch (e) {
    expect(e).toBeInstanceOf(ConfigError);
    return (e as Error).message;
  }
  return 'accepted';
};

test('a party needs fifteen lines at most, and the rest has defaults', () => {
  expect(minimal.trim().split('\n').length).toBeLessThanOrEqual(15);
  const file = join(dir, 'p0.toml');
  writeFileSync(file, minimal);
  const config = readConfig(file);
  expect(config.links.key).toBe(join(dir, 'p0.key'));
  expect(config.models).toEqual({ dir: join(dir, 'models'), memory: '8 GiB' });
  expect(config.limits.lanes).toBe(3);
  const json = join(dir, 'p0.json');
  writeFileSync(json, JSON.stringify(parse(minimal)));
  expect(readConfig(json)).toEqual(config);
});

test('each role takes its own keys, and no other', () => {
  for (const role of ['p0', 'p1', 'dealer']) expect(parseConfig(plain(() => {}, role)).role).toBe(role);
});

describe('what cannot be is named by file and key, in one line', () => {
  const cases: [string, unknown, RegExp][] = [
    ['a key misspelt', plain((c) => (c.limits = { lane: 3 })), /^p0\.toml: there is no key 'limits\.lane': is 'limits\.lanes' meant\?$/],
    ['a key in another spelling', plain((c) => (c.api.behind_proxy = true)), /'api\.behind_proxy': is 'api\.behindProxy' meant\?/],
    ['a key that is like none', plain((c) => (c.log = { colour: 1 })), /there is no key 'log\.colour': here go level/],
    [
      'a key of a token',
      plain((c) => (c.api.tokens = [{ name: 'a', sha256: pin('7'), quota: 1 }])),
      /'api\.tokens\.0\.quota': here go name, sha256, stepsPerMinute/,
    ],
    ['a key missing', plain((c) => delete c.links.cert), /^p0\.toml: 'links\.cert' is missing: the certificate that carries/],
    [
      'a token in the clear',
      plain((c) => (c.api.tokens = [{ name: 'a', sha256: 'secret' }])),
      /'api\.tokens\.0\.sha256': the SHA-256 of a token/,
    ],
    ['a pin cut short', plain((c) => (c.links.p1 = { pins: ['abc'] })), /'links\.p1\.pins\.0': a pin, .*64 hex digits/],
    ['no pin', plain((c) => (c.links.p1 = { pins: [] })), /'links\.p1\.pins': at least one pin/],
    ['a port that is none', plain((c) => (c.links.listen = '0.0.0.0:70000')), /'links\.listen': a port is at most 65535/],
    ['no port', plain((c) => (c.links.listen = '0.0.0.0')), /^p0\.toml: 'links\.listen': an address and a port/],
    ['a size without unit', plain((c) => (c.models = { memory: '8' })), /'models\.memory': a size such as '4 GiB'/],
    ['a limit of nothing', plain((c) => (c.limits = { lanes: 0 })), /'limits\.lanes': .*>=1/],
    [
      "the dealer's key as P1's",
      plain((c) => (c.links.p1 = { pins: [pin('d')] })),
      /'links\.dealer\.pins' and 'links\.p1\.pins' hold the same key/,
    ],
    ['P0 without a listener', plain((c) => delete c.links.listen), /'links\.listen' is missing: p1 dials p0/],
    ['P1 with one', plain((c) => (c.links.listen = '0.0.0.0:1'), 'p1'), /'links\.listen' is not for p1/],
    [
      'P1 that cannot find P0',
      plain((c) => delete (c.links.p0 as Record<string, unknown>).address, 'p1'),
      /'links\.p0\.address' is missing: p1 dials p0/,
    ],
    [
      'P0 told to dial P1',
      plain((c) => (c.links.p1 = { pins: [pin('1')], address: 'p1:1' })),
      /'links\.p1\.address' is not for p0: p1 dials it/,
    ],
    ['plain HTTP for all the world', plain((c) => (c.api.listen = '0.0.0.0:80')), /plain HTTP: give 'api\.cert' and 'api\.key'/],
    ['a party for nobody', plain((c) => (c.api.tokens = [])), /'api' lets nobody in/],
    ['a party without clients', plain((c) => delete (c as Partial<Plain>).api), /'api' is missing: clients come/],
    ['client certificates without TLS', plain((c) => (c.api.clientCa = 'ca.pem')), /'api\.clientCa' needs TLS/],
    ['two tokens of one name', plain((c) => (c.api.tokens = ['1', '2'].map((d) => ({ name: 'a', sha256: pin(d) })))), /names 'a' twice/],
    ['clients of the dealer', plain((c) => (c.api = { listen: '127.0.0.1:1', open: true }), 'dealer'), /'api' of the dealer is for owners/],
  ];
  test.each(cases)('%s', (_, value, expected) => expect(complaint(value)).toMatch(expected));

  test('all faults at once, a line each', () => {
    const lines = complaint(plain((c) => Object.assign(c, { treads: 4, limits: { lanes: 'two' } }))).split('\n');
    expect(lines).toHaveLength(2);
    for (const line of lines) expect(line).toMatch(/^p0\.toml: /);
  });
  test('a file that is not there, or no TOML', () => {
    expect(() => readConfig(join(dir, 'nowhere.toml'))).toThrow(/nowhere\.toml: there is no such file/);
    const file = join(dir, 'bad.toml');
    writeFileSync(file, 'role = \n[links');
    expect(() => readConfig(file)).toThrow(ConfigError);
  });
});

test('plain HTTP is allowed on loopback, with TLS, and behind a proxy', () => {
  expect(complaint(plain((c) => (c.api.listen = '[::1]:80')))).toBe('accepted');
  expect(complaint(plain((c) => Object.assign(c.api, { listen: '0.0.0.0:80', behindProxy: true })))).toBe('accepted');
  expect(complaint(plain((c) => Object.assign(c.api, { listen: '0.0.0.0:443', cert: 'a', key: 'b' })))).toBe('accepted');
});

test('addresses and sizes are read', () => {
  expect(hostPort('[2001:db8::1]:443')).toEqual({ host: '2001:db8::1', port: 443 });
  expect(hostPort('p0.example.org:7440')).toEqual({ host: 'p0.example.org', port: 7440 });
  expect([bytesOf('4 GiB'), bytesOf('512KiB'), bytesOf('1.5 MiB')]).toEqual([2 ** 32, 2 ** 19, 1.5 * 2 ** 20]);
});

describe('--print-config', () => {
  const config = parseConfig(plain(), { dir });
  const printed = configText(config);
  test('prints every key with what it means', () => {
    for (const { rows } of configKeys())
      for (const { key, doc } of rows) {
        expect(doc, key).not.toBe('');
        expect(printed).toContain(`# ${doc}`);
        expect(printed).toMatch(new RegExp(`^(# )?${key.split('.').at(-1)} =`, 'm'));
      }
  });
  test('is a configuration again, but for the secrets', () => {
    expect(printed).not.toContain(pin('7'));
    expect(parseConfig(parse(printed.replace('(not shown)', pin('7'))))).toEqual(config);
  });
  test('docs/operate.md has the same keys, defaults and words', () => {
    // To write them anew: node --import tsx -e "import('./src/server/print.ts').then((m) => console.log(m.configTables()))"
    expect(readFileSync(new URL('../../docs/operate.md', import.meta.url), 'utf8')).toContain(configTables());
  });
});

test('changes tell what counts now from what needs a restart', () => {
  const before = parseConfig(plain(), { dir });
  const after = parseConfig(
    plain((c) => {
      c.links.p1 = { pins: [pin('1'), pin('2')] };
      c.api.tokens = [];
      c.api.open = true;
      c.log = { level: 'debug' };
      c.limits = { lanes: 5 };
      c.api.listen = '127.0.0.1:8081';
    }),
    { dir },
  );
  const { config, live, restart } = changes(before, after);
  expect([...live].sort()).toEqual(['api.open', 'api.tokens', 'links.p1', 'log.level']);
  expect([...restart].sort()).toEqual(['api.listen', 'limits.lanes']);
  expect(config).toEqual({ ...after, limits: before.limits, api: { ...after.api, listen: before.api!.listen } } as Config);
  expect(changes(before, before)).toEqual({ config: before, live: [], restart: [] });
});
