/** The models of a role: what is served, what is refused, and what stays in memory. */
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import type { SubrosaError } from '../../src/client/errors.ts';
import { hashOf, readRole } from '../../src/folder/index.ts';
import type { Role } from '../../src/runtime/model.ts';
import { type ModelEvent, RoleModels, type RoleModelsOptions } from '../../src/server/models.ts';
import { filesBelow, fresh, home, modelsDir, roles, split } from './parts.ts';

afterAll(() => rmSync(home, { recursive: true }));
const [hidden, other, open] = [split('private'), split('private'), split('public')];

const started: RoleModels[] = [];
afterAll(() => {
  for (const m of started) m.close();
});
function serve(role: Role, dir: string, options: Partial<RoleModelsOptions> = {}): { models: RoleModels; events: ModelEvent[] } {
  const events: ModelEvent[] = [];
  const models = new RoleModels({ dir, role, memory: 2 ** 31, threads: 1, onEvent: (e) => events.push(e), ...options });
  started.push(models);
  return { models, events };
}
const codeOf = (call: () => unknown): string => {
  try {
    call();
  } catch (e) {
    return (e as SubrosaError).code;
  }
  return 'nothing thrown';
};
const memoryOf = (role: Role, hash = hidden.hash): number => {
  const { models } = serve(role, modelsDir(role, hidden, open));
  models.acquire(hash);
  return models.used;
};

describe('what is served', () => {
  test('both parties tell a client the same bytes, and the hash of every file in them is right', () => {
    const [p0, p1] = (['p0', 'p1'] as const).map((role) => serve(role, modelsDir(role, hidden, open)).models);
    for (const { hash, dir } of [hidden, open]) {
      const { text, manifest } = p0.manifest(hash) as NonNullable<ReturnType<RoleModels['manifest']>>;
      expect(p1.manifest(hash)?.text).toBe(text);
      expect(text).toBe(readFileSync(join(dir, 'client', 'manifest.json'), 'utf8'));
      expect(Object.keys(manifest.files).sort()).toEqual(['after.json', 'before.json', 'client.json', 'client.safetensors']);
      for (const [name, { bytes, sha256 }] of Object.entries(manifest.files)) {
        const path = p0.clientFile(hash, name) as string;
        expect([readFileSync(path).length, hashOf(path)]).toEqual([bytes, sha256]);
      }
      expect(manifest).toMatchObject({ hash, task: 'tensors', inputs: [{ name: 'x' }], outputs: [{ name: 'y' }] });
    }
    expect(
      p0
        .list()
        .map((m) => m.weights)
        .sort(),
    ).toEqual(['private', 'public']);
  });
  test('files that the manifest does not name have no path', () => {
    const { models } = serve('p0', modelsDir('p0', hidden));
    for (const name of ['../seed', '../masked.safetensors', 'nothing', '', 'toString', '__proto__'])
      expect(models.clientFile(hidden.hash, name)).toBeUndefined();
    expect(models.clientFile('0'.repeat(64), 'client.json')).toBeUndefined();
  });
  test('an unknown hash is unknown-model, and what is released must have been acquired', () => {
    const { models } = serve('p0', modelsDir('p0', hidden));
    expect(models.takes('0'.repeat(64))).toBeUndefined();
    expect(codeOf(() => models.acquire('0'.repeat(64)))).toBe('unknown-model');
    expect(() => models.release(hidden.hash)).toThrow('more often than acquired');
  });
  test.each([1, 2])('a model is loaded once, with %i threads, and answers with its own program', (threads) => {
    const { models, events } = serve('p1', modelsDir('p1', hidden, open), { threads });
    expect(models.acquire(hidden.hash)).toBe(models.acquire(hidden.hash));
    expect(models.acquire(open.hash).program.weights).toBe('public');
    expect(events.filter((e) => e.kind === 'loaded')).toHaveLength(2);
    expect(models.used).toBe(models.states().reduce((sum, s) => sum + s.memory, 0));
  });
});

describe('folders that break a rule are refused, named, and keep nobody else from being served', () => {
  const cases: [string, Role, (dir: string) => void, RegExp][] = [
    ['a file that belongs to nothing', 'p0', (d) => writeFileSync(join(d, 'notes.txt'), ''), /notes\.txt: p0 must not hold this file/],
    ["the other weights' file", 'p0', (d) => writeFileSync(join(d, 'weights.safetensors'), ''), /weights\.safetensors: p0 must not hold/],
    ['the plain model', 'p0', (d) => mkdirSync(join(d, 'plain')), /plain: no plain file/],
    ["the dealer's seeds at a party", 'p0', (d) => writeFileSync(join(d, 'seeds'), '', { mode: 0o600 }), /seeds: p0 must not hold/],
    [
      'masked weights at the dealer',
      'dealer',
      (d) => writeFileSync(join(d, 'masked.safetensors'), ''),
      /masked\.safetensors: dealer must not hold/,
    ],
    [
      'client/ at the dealer',
      'dealer',
      (d) => {
        mkdirSync(join(d, 'client'));
        writeFileSync(join(d, 'client', 'client.json'), '');
      },
      /client\.json: dealer must not hold/,
    ],
    [
      'a file in client/ that clients have no use for',
      'p1',
      (d) => writeFileSync(join(d, 'client', 'x.bin'), ''),
      /x\.bin: p1 must not hold/,
    ],
    [
      'a link in place of a file',
      'p0',
      (d) => {
        renameSync(join(d, 'seed'), join(d, '..', 'elsewhere'));
        symlinkSync('../elsewhere', join(d, 'seed'));
      },
      /seed: a symbolic link/,
    ],
    [
      'a link to a folder',
      'p0',
      (d) => {
        rmSync(join(d, 'client'), { recursive: true });
        symlinkSync('/etc', join(d, 'client'));
      },
      /client: a symbolic link/,
    ],
    ['a seed that others can read', 'p0', (d) => chmodSync(join(d, 'seed'), 0o640), /seed: others may read it \(mode 640\)/],
    ['seeds that others can read', 'dealer', (d) => chmodSync(join(d, 'seeds'), 0o604), /seeds: others may read it/],
    ['a missing seed', 'p1', (d) => rmSync(join(d, 'seed')), /seed: missing/],
    [
      'another program',
      'p1',
      (d) => writeFileSync(join(d, 'program.json'), readFileSync(join(other.roles.p1.dir, 'program.json'))),
      /program\.json: its SHA-256 is not/,
    ],
    ['a program cut short', 'dealer', (d) => writeFileSync(join(d, 'program.json'), '{'), /program\.json: its SHA-256 is not/],
    [
      "another model's client.json",
      'p0',
      (d) => writeFileSync(join(d, 'client', 'client.json'), readFileSync(join(other.roles.p0.dir, 'client', 'client.json'))),
      /client\.json belongs to program/,
    ],
  ];
  test.each(cases)('%s, at %s', (_, role, spoil, reason) => {
    const dir = modelsDir(role, hidden, open);
    spoil(join(dir, hidden.hash));
    const { models, events } = serve(role, dir);
    const refused = events.filter((e) => e.kind === 'refused');
    expect(refused.find((e) => e.path === join(dir, hidden.hash))?.reason).toMatch(reason);
    expect(models.takes(hidden.hash)).toBeUndefined();
    expect(models.takes(open.hash)).toBeDefined();
  });
  test('a folder under another name, and what is no folder', () => {
    const dir = modelsDir('p0', hidden);
    renameSync(join(dir, hidden.hash), join(dir, open.hash));
    writeFileSync(join(dir, '- a file'), '');
    writeFileSync(join(dir, 'f'.repeat(64)), '');
    const { models, events } = serve('p0', dir);
    expect(models.list()).toEqual([]);
    expect(events.map((e) => e.kind === 'refused' && e.reason)).toEqual([
      expect.stringMatching(/not a model that was deployed/),
      expect.stringMatching(/SHA-256 is not|not a folder/),
      expect.stringMatching(/SHA-256 is not|not a folder/),
    ]);
  });
  test('weights that were changed are found when they are loaded, and nothing stays in memory', () => {
    for (const [role, name] of [
      ['p0', 'masked.safetensors'],
      ['p1', 'seed'],
      ['dealer', 'seeds'],
    ] as const) {
      const dir = modelsDir(role, hidden);
      const { models, events } = serve(role, dir);
      const path = join(dir, hidden.hash, name);
      const bytes = readFileSync(path);
      bytes[name === 'masked.safetensors' ? bytes.length - 1 : 20] ^= 1;
      writeFileSync(path, bytes);
      expect(codeOf(() => models.acquire(hidden.hash))).toBe('internal');
      expect(events.at(-1)).toMatchObject({ kind: 'refused', path: join(dir, hidden.hash), reason: expect.stringContaining(name) });
      expect(models.used).toBe(0);
    }
  });
});

describe('memory', () => {
  test('the least recently used model goes, never one that is held', () => {
    const third = split('private');
    const need = memoryOf('p0');
    const { models, events } = serve('p0', modelsDir('p0', hidden, other, third), { memory: 2 * need + 1 });
    const evicted = (): string[] => events.filter((e) => e.kind === 'evicted').map((e) => (e as { hash: string }).hash);
    const use = (hash: string): void => {
      models.acquire(hash);
      models.release(hash);
    };
    use(hidden.hash);
    use(other.hash);
    use(hidden.hash);
    use(third.hash);
    expect(evicted()).toEqual([other.hash]);
    models.acquire(hidden.hash);
    use(other.hash);
    expect(evicted()).toEqual([other.hash, third.hash]);
    models.acquire(other.hash);
    expect(codeOf(() => models.acquire(third.hash))).toBe('out-of-memory');
    expect(evicted()).toHaveLength(2);
    models.release(other.hash);
    models.acquire(third.hash);
    expect(evicted()).toEqual([other.hash, third.hash, other.hash]);
    expect(models.used).toBeLessThanOrEqual(2 * need + 1);
  });
  test('a model larger than the cap is refused before anything is loaded or evicted', () => {
    const need = memoryOf('p1');
    const { models, events } = serve('p1', modelsDir('p1', hidden), { memory: need - 1 });
    expect(() => models.acquire(hidden.hash)).toThrow(/raise the cap/);
    expect(codeOf(() => models.acquire(hidden.hash))).toBe('too-large');
    expect([models.used, events]).toEqual([0, []]);
    serve('p1', modelsDir('p1', hidden), { memory: need }).models.acquire(hidden.hash);
  });
  test('a removed model is gone from disk at once, and from memory when the last session lets go', () => {
    const dir = modelsDir('p0', hidden);
    const { models } = serve('p0', dir);
    const held = models.acquire(hidden.hash);
    models.remove(hidden.hash);
    expect([readdirSync(dir), models.takes(hidden.hash), codeOf(() => models.acquire(hidden.hash))]).toEqual([
      [],
      undefined,
      'unknown-model',
    ]);
    expect(
      held.source.words([...held.program.gates.flatMap((g) => (g.attrs as { weight?: string })?.weight ?? [])][0]).data.length,
    ).toBeGreaterThan(0);
    models.release(hidden.hash);
    expect(models.used).toBe(0);
  });
  /** What is written to becomes resident: a part will do. */
  const written = 2 ** 25;
  const growth = (peaks: readonly number[]): number => Math.max(...peaks.slice(5)) - Math.max(...peaks.slice(0, 5));
  /** In a function of its own: what an async one had in hand stays alive with it. */
  function used(models: RoleModels): WeakRef<object> {
    const memory = new WeakRef(models.acquire(hidden.hash).k.u8.fill(1, 65536, written).buffer);
    models.release(hidden.hash);
    return memory;
  }
  const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
  const descriptors = (): number => (existsSync('/proc/self/fd') ? readdirSync('/proc/self/fd').length : 0);

  test.each([
    [50, 1],
    [8, 2],
  ])('%i evictions, threads: %i: resident memory and descriptors stay where they were', (evictions, threads) => {
    const need = memoryOf('p1');
    const { models, events } = serve('p1', modelsDir('p1', hidden, other), { memory: need + 1, threads });
    const [peaks, open] = [[] as number[], [] as number[]];
    for (let i = 0; i <= evictions; i++) {
      const { hash } = i % 2 === 0 ? hidden : other;
      const { k, end } = models.acquire(hash);
      expect(k.u8.subarray(end, written).indexOf(1)).toBe(-1);
      k.u8.fill(1, end, written);
      models.release(hash);
      peaks.push(process.memoryUsage.rss());
      open.push(descriptors());
    }
    expect(events.filter((e) => e.kind === 'evicted')).toHaveLength(evictions);
    expect(growth(peaks)).toBeLessThan(2 * written);
    expect(growth(open)).toBeLessThanOrEqual(3);
  });
  test.each([1, 2])('what removed models took goes back to the system, threads: %i', async (threads) => {
    const { models } = serve('p1', modelsDir('p1', hidden), { threads });
    const before = [process.memoryUsage.rss(), descriptors()];
    for (let i = 0; i < 12; i++) {
      const memory = used(models);
      await nextTurn();
      models.remove(hidden.hash);
      await nextTurn();
      expect(memory.deref() === undefined).toBe(true);
      const again = fresh('again');
      cpSync(hidden.roles.p1.dir, again, { recursive: true });
      models.adopt(again, hidden.hash);
    }
    // Workers end in their own time.
    await expect.poll(() => process.memoryUsage.rss() - before[0], { timeout: 20_000 }).toBeLessThan(3 * written);
    await expect.poll(() => descriptors() - before[1], { timeout: 20_000 }).toBeLessThanOrEqual(3);
  });
});

test('a role reads its part from where protect put it, and its size is that of its files', () => {
  for (const part of [hidden, open])
    for (const role of roles) {
      const folder = readRole(part.roles[role].dir, role, part.hash);
      expect(Object.fromEntries(folder.files)).toEqual(
        Object.fromEntries([...filesBelow(folder.dir)].map(([name, b]) => [name, b.length])),
      );
    }
  expect(fresh('x')).not.toBe(fresh('x'));
});
