/** Parties and dealer as an operator runs them: processes from configuration files, started in any order, killed, drained, reloaded. */
import { createHash } from 'node:crypto';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect as connectTo, createServer, type Server } from 'node:net';
import { parse } from 'smol-toml';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { connect } from '../src/client/connect.ts';
import type { SubrosaError } from '../src/client/errors.ts';
import type { Fetch } from '../src/client/party.ts';
import { makeIdentity } from '../src/net/keys.ts';
import type { Role } from '../src/runtime/model.ts';
import { filesBelow, home, modelsDir, split } from './server/parts.ts';
import { type RoleService, roles, Services } from './services.ts';

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');
const tokens = { web: 'a-token-of-web', later: 'a-token-of-later' };
const privately = split('private');
const models = Object.fromEntries(roles.map((r) => [r, modelsDir(r, privately)])) as Record<Role, string>;
let s: Services;
beforeAll(async () => {
  s = await Services.make({
    models,
    more: (role, made) => ({
      log: { level: 'debug' },
      ...(role === 'dealer' ? {} : { api: { listen: made.at('api', role), tokens: [{ name: 'web', sha256: sha256(tokens.web) }] } }),
    }),
  });
}, 60_000);
afterAll(async () => {
  await s?.close();
  rmSync(home, { recursive: true });
});

const x = { shape: [2, 3], data: [0.11237, 0.23519, 0.37123, 0.41931, 0.53777, -0.61313] };
/** Gelu(x·W + b) of the tiny model: the first and the fourth value. */
const right = (y: { data: ArrayLike<number> }): void => {
  expect(y.data[0]).toBeCloseTo(0.3655, 1);
  expect(y.data[3]).toBeCloseTo(49.9, 0);
};
/** Bodies that clients sent and got: seeds, shares of inputs and of outputs. */
const bodies: Buffer[] = [];
const noted: Fetch = async (input, init) => {
  if (init.body instanceof Uint8Array && init.body.length >= 32) bodies.push(Buffer.from(init.body));
  const response = await fetch(input, init);
  if (response.ok && input.includes('/steps/')) bodies.push(Buffer.from(await response.clone().arrayBuffer()));
  return response;
};
const client = (token = tokens.web) => connect({ parties: s.parties, model: privately.hash, token, retries: 0, fetch: noted });
const ready = async (role: Role): Promise<{ status: number; missing: string[] }> => {
  const { status, text } = await s.get(role, '/readyz');
  return { status, missing: (JSON.parse(text) as { missing: string[] }).missing };
};
const until = async (what: () => Promise<boolean>, seconds = 10): Promise<void> => {
  const end = Date.now() + 1000 * seconds;
  while (!(await what())) {
    if (Date.now() > end) throw new Error(`not so within ${seconds} s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
};

test('start in any order, and are ready when all are there', async () => {
  const p1 = s.start('p1');
  await p1.line('listening');
  expect(await ready('p1')).toEqual({ status: 503, missing: ['p0 is not connected', 'dealer is not connected'] });
  expect((await s.get('p1', '/healthz')).status).toBe(200);
  await s.start('p0').line((l) => l.msg === 'connected' && l.peer === 'p1');
  expect(await ready('p0')).toEqual({ status: 503, missing: ['dealer is not connected'] });
  await expect((await client()).run({ x })).rejects.toMatchObject({
    code: 'not-ready',
    message: expect.stringContaining('dealer is not connected'),
  });
  s.start('dealer');
  await Promise.all(roles.map((r) => s.running.get(r)!.line('ready')));
  for (const r of roles) expect(await ready(r)).toEqual({ status: 200, missing: [] });
  right((await (await client()).run({ x })).y);
}, 60_000);

test.each(roles)(
  '%s killed and started again: the others go on without a restart',
  async (role) => {
    const others = roles.filter((r) => r !== role);
    await s.running.get(role)!.kill('SIGKILL');
    await until(async () =>
      (await Promise.all(others.map(ready))).every((r) => r.status === 503 && r.missing.join() === `${role} is not connected`),
    );
    await s.start(role).line('ready');
    await until(async () => (await Promise.all(roles.map(ready))).every((r) => r.status === 200));
    right((await (await client()).run({ x })).y);
    for (const r of others) expect(s.running.get(r)!.child.exitCode).toBe(null);
  },
  30_000,
);

test('metrics say what was done, and no metric has a value of its own', async () => {
  await (await client()).run({ x });
  const { text } = await s.get('p1', '/metrics');
  const value = (name: string): number => Number(new RegExp(`^${name.replaceAll(/[{}]/g, '\\$&')} (.*)$`, 'm').exec(text)?.[1]);
  const model = `{model="${privately.hash.slice(0, 12)}"}`;
  expect(value('subrosa_ready')).toBe(1);
  expect(value(`subrosa_steps_total${model}`)).toBeGreaterThan(0);
  expect(value(`subrosa_rounds_total${model}`)).toBe(4 * value(`subrosa_steps_total${model}`));
  expect(value('subrosa_link_up{peer="dealer"}')).toBe(1);
  expect(value('subrosa_link_bytes_total{peer="dealer",direction="received"}')).toBeGreaterThan(1000);
  expect(value(`subrosa_bound_used_ratio${model}`)).toBeGreaterThan(0.01);
  expect(value(`subrosa_bound_used_ratio${model}`)).toBeLessThanOrEqual(0.5);
  expect(value('process_open_fds')).toBeGreaterThan(5);
  // Not on the interface that clients reach.
  expect((await fetch(`${s.parties[1]}/metrics`)).status).not.toBe(200);
  expect((await fetch(`${s.parties[1]}/readyz`)).status).toBe(200);
});

test('callers that fail, or go away in the middle, leave no descriptor behind', async () => {
  const counts = (): number[] => roles.map((r) => s.descriptors(r));
  const idle = async (): Promise<number[]> => {
    let before = counts();
    for (;;) {
      await new Promise((resolve) => setTimeout(resolve, 300));
      const now = counts();
      if (now.join() === before.join()) return now;
      before = now;
    }
  };
  const before = await idle();
  const [host, port] = s.at('api', 'p0').split(':');
  for (let i = 0; i < 100; i++) {
    const response = await fetch(`${s.parties[i % 2]}/v1/models`, { headers: { authorization: `Bearer wrong-${i}`, connection: 'close' } });
    expect(response.status).toBe(401);
    await response.body?.cancel();
    // A body that is announced and never comes; frames of nothing on the roles' port.
    const half = connectTo(Number(port), host);
    half.write(`POST /v1/sessions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${tokens.web}\r\nContent-Length: 99\r\n\r\n{`);
    const noise = connectTo(Number(s.at('links', 'p0').split(':')[1]), host);
    noise.on('error', () => {});
    noise.write(Buffer.alloc(64, i));
    await new Promise((resolve) => setTimeout(resolve, 2));
    half.destroy();
    noise.destroy();
  }
  const after = await idle();
  expect(after.every((n, i) => n <= before[i] + 2)).toBe(true);
  right((await (await client()).run({ x })).y);
}, 30_000);

describe('a changed file', () => {
  const change = (role: Role, edit: (c: Record<string, Record<string, unknown>>) => void): void => {
    const config = parse(readFileSync(s.file(role), 'utf8')) as Record<string, Record<string, unknown>>;
    edit(config);
    s.write(role, config);
  };
  const reread = async (service: RoleService, act: () => void, msg = 'configuration, keys and certificates read again') => {
    const after = service.lines.length;
    act();
    return service.line(msg, after);
  };
  const hangUp = (role: Role) => (): void => void s.running.get(role)!.child.kill('SIGHUP');

  test('brings new tokens and takes old ones, and sessions go on', async () => {
    const old = await client();
    right((await old.run({ x })).y);
    await expect(client(tokens.later)).rejects.toMatchObject({ code: 'unauthorized' });
    for (const role of ['p0', 'p1'] as const) {
      change(role, (c) => (c.api.tokens = Object.entries(tokens).map(([name, t]) => ({ name, sha256: sha256(t) }))));
      expect(await reread(s.running.get(role)!, hangUp(role))).toMatchObject({ changed: ['api.tokens'] });
    }
    const ended = (): number => s.running.get('p0')!.lines.filter((l) => l.msg === 'session ended').length;
    const before = ended();
    right((await old.run({ x })).y);
    right((await (await client(tokens.later)).run({ x })).y);
    expect(ended()).toBe(before);
    change('p0', (c) => (c.api.tokens = [{ name: 'later', sha256: sha256(tokens.later) }]));
    await reread(s.running.get('p0')!, hangUp('p0'));
    await expect(old.run({ x })).rejects.toMatchObject({ code: 'unauthorized', from: 'p0' });
    change('p0', (c) => (c.api.tokens = Object.entries(tokens).map(([name, t]) => ({ name, sha256: sha256(t) }))));
    await reread(s.running.get('p0')!, hangUp('p0'));
  });

  test('is noticed without a signal, what needs a restart is named, and a wrong one changes nothing', async () => {
    const dealer = s.running.get('dealer')!;
    const good = readFileSync(s.file('dealer'), 'utf8');
    const noticed = await reread(
      dealer,
      () => change('dealer', (c) => Object.assign(c, { limits: { lanes: 4 }, times: { ...c.times, drain: 9 } })),
      'changed in the file, but needs a restart',
    );
    expect(noticed).toMatchObject({ level: 'warn', keys: ['limits.lanes'] });
    const refused = await reread(
      dealer,
      () => writeFileSync(s.file('dealer'), good.replace('[times]', '[timers]')),
      'the configuration was not read again: all is as before',
    );
    expect((refused.err as { message: string }).message).toContain("there is no key 'timers': is 'times' meant?");
    writeFileSync(s.file('dealer'), good);
    right((await (await client()).run({ x })).y);
  }, 30_000);

  test('another certificate of the same key is taken, another key is not', async () => {
    const p1 = s.running.get('p1')!;
    const other = makeIdentity('p1');
    s.writeKey('p1', other);
    expect(await reread(p1, hangUp('p1'), 'changed in the file, but needs a restart')).toMatchObject({ keys: ['links.key'] });
    s.writeKey('p1', s.identities.p1);
    await reread(p1, hangUp('p1'));
    right((await (await client()).run({ x })).y);
  });

  test('a key is replaced while the others run: pin beside pin, restart, old pin out', async () => {
    const next = makeIdentity('p1');
    const pins = (...all: string[]) =>
      Promise.all(
        (['p0', 'dealer'] as const).map((role) => {
          change(role, (c) => (c.links.p1 = { pins: all }));
          return reread(s.running.get(role)!, hangUp(role));
        }),
      );
    await pins(s.identities.p1.spki, next.spki);
    await s.running.get('p1')!.kill('SIGTERM');
    s.writeKey('p1', next);
    await s.start('p1').line('ready');
    await pins(next.spki);
    right((await (await client()).run({ x })).y);
    s.identities.p1 = next;
  }, 30_000);
});

describe('SIGTERM', () => {
  test('lets what runs finish, refuses what is new, and ends with 0', async () => {
    const p0 = s.running.get('p0')!;
    const running = Array.from({ length: 12 }, async () => {
      const c = await client();
      const answers: string[] = [];
      // One after the other until the server says no.
      for (let i = 0; i < 500; i++) {
        try {
          right((await c.run({ x })).y);
          answers.push('right');
        } catch (e) {
          return [...answers, (e as SubrosaError).code];
        }
      }
      return answers;
    });
    await until(async () => p0.lines.filter((l) => l.msg === 'step').length > 30);
    const at = p0.lines.length;
    expect(await p0.kill('SIGTERM')).toEqual({ code: 0, signal: null });
    const codes = new Set((await Promise.all(running)).map((a) => a.at(-1)));
    for (const code of codes) expect(['draining', 'unreachable', 'ended', 'not-ready']).toContain(code);
    const after = p0.lines.slice(at);
    expect(after.some((l) => l.msg === 'draining') && after.at(-1)?.msg).toBe('closed');
    expect(after.filter((l) => l.code && l.code !== 'draining')).toEqual([]);
    await s.start('p0').line('ready');
    right((await (await client()).run({ x })).y);
  }, 40_000);

  test('a second one does not wait', async () => {
    const [p0, dealer] = [s.running.get('p0')!, s.running.get('dealer')!];
    const c = await client();
    await c.run({ x });
    // Without corrections the next step stands still.
    dealer.child.kill('SIGSTOP');
    const at = p0.lines.length;
    const hangs = c.run({ x }).catch((e: SubrosaError) => e.code);
    await until(async () => (await s.get('p0', '/metrics')).text.includes('subrosa_running_steps 1'));
    p0.child.kill('SIGTERM');
    await p0.line('draining', at);
    const from = Date.now();
    expect(await p0.kill('SIGTERM')).toEqual({ code: 143, signal: null });
    expect(Date.now() - from).toBeLessThan(1000);
    dealer.child.kill('SIGCONT');
    expect(typeof (await hangs)).toBe('string');
  }, 20_000);
});

describe('does not start', () => {
  const start = async (role: Role): Promise<{ code: number | null; stderr: string }> => {
    const service = s.start(role);
    const { code } = await service.ended;
    return { code, stderr: service.stderr };
  };
  test('on a port that is in use: exit code 1, and which', async () => {
    const [host, port] = s.at('api', 'p0').split(':');
    const squatter = await new Promise<Server>((resolve) => {
      const server = createServer().listen(Number(port), host, () => resolve(server));
    });
    const { code, stderr } = await start('p0');
    await new Promise((resolve) => squatter.close(resolve));
    expect([code, stderr.split('\n')[0]]).toEqual([
      1,
      `subrosa: 'api.listen': port ${port} on ${host} is in use: stop what listens there, or choose another port`,
    ]);
  });
  test('from a file that cannot be: exit code 2, one line a fault, nothing on stdout', async () => {
    const good = readFileSync(s.file('p0'), 'utf8');
    writeFileSync(s.file('p0'), `treads = 2\n${good}`);
    const { code, stderr } = await start('p0');
    writeFileSync(s.file('p0'), good);
    expect([code, stderr.split('\n')[0]]).toEqual([2, `subrosa: ${s.file('p0')}: there is no key 'treads': is 'threads' meant?`]);
    rmSync(s.file('p0', 'cert.pem'));
    expect(await start('p0')).toMatchObject({ code: 2, stderr: expect.stringContaining("'links.cert': ENOENT") });
  });
});

test('no log of all these processes holds a share, a seed, a token, a key or an input', () => {
  const logs = s.all.map((r) => r.stdout + r.stderr).join('');
  expect(s.all.flatMap((r) => r.lines).filter((l) => l.msg === 'step').length).toBeGreaterThan(30);
  const pins = [
    ...roles.map((r) => s.identities[r].spki),
    ...s.all.flatMap((r) => r.lines).flatMap((l) => (l.msg === 'listening' ? [l.pin as string] : [])),
  ];
  const secrets = [
    ...Object.values(tokens).flatMap((t) => [t, sha256(t)]),
    ...x.data.map(String),
    ...bodies.flatMap((b) => [
      b.subarray(0, 6).toString('hex'),
      b.subarray(0, 6).toString('base64'),
      b.subarray(-6).toString('hex'),
      [...b.subarray(0, 4)].join(),
    ]),
    ...roles.flatMap((r) => s.identities[r].keyPem.split('\n').filter((l) => l && !l.startsWith('-'))),
    ...roles.flatMap((r) =>
      [...filesBelow(models[r])]
        .filter(([name]) => /seeds?$/.test(name))
        .flatMap(([, text]) =>
          text
            .toString()
            .split(/\s+/)
            .filter((w) => w.length > 16 && w !== privately.hash),
        ),
    ),
  ];
  expect(bodies.length).toBeGreaterThan(50);
  expect(secrets.length).toBeGreaterThan(200);
  expect(secrets.filter((secret) => logs.includes(secret))).toEqual([]);
  // Nor anything else that is long and looks like one: pins, and what a step costs, is all there is.
  const long = new Set([...logs.matchAll(/[0-9a-f]{24,}|[A-Za-z0-9+/]{40,}={0,2}/g)].map(([word]) => word));
  for (const pin of pins) {
    long.delete(pin);
    long.delete(pin.slice(0, 16));
  }
  expect([...long].filter((word) => !word.startsWith('/'))).toEqual([]);
});
