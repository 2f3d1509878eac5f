/** The shipped model from file to answer, as a person would do it; calibrated on a dozen images, which is enough to run. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readCompiled } from '../../src/folder/index.ts';
import { readNpy, writeNpy } from '../../src/import/npy.ts';
import { cost } from '../../src/program/cost.ts';
import { models, subrosa } from './subrosa.ts';

const cwd = mkdtempSync(join(tmpdir(), 'subrosa-model-'));
afterAll(() => rmSync(cwd, { recursive: true }));

/** Images of one of the shipped sets as one [count, 1, 28, 28] array. */
function images(file: string, from: number, count: number): Uint8Array {
  const bytes = new Uint8Array(readFileSync(join(models, file)));
  const n = bytes.length / 785;
  const pixels = bytes.subarray(n + 784 * from, n + 784 * (from + count));
  return writeNpy({ dtype: 'f32', shape: [count, 1, 28, 28], data: Float32Array.from(pixels, (v) => v / 255) });
}

beforeAll(async () => {
  writeFileSync(join(cwd, 'some.npy'), images('fashion-calibration.bin', 0, 12));
  writeFileSync(join(cwd, 'two.npy'), images('fashion-test-200.bin', 0, 2));
  const kinds = await Promise.all(
    ['public', 'private'].map((kind) =>
      subrosa(['compile', 'fashion-vit', '-o', kind, '--weights', kind, '--calibrate', 'some.npy', '--json'], { cwd }),
    ),
  );
  for (const { code, stderr } of kinds)
    expect([code, stderr.replace(/^(calibrat|compil)ing.*\n/gm, '')]).toEqual([0, 'calibrated on 12 samples from some.npy\n']);
}, 60_000);

describe('compile', () => {
  test('writes what each role and the client need, and nothing beside it', () => {
    expect(readdirSync(join(cwd, 'public')).sort()).toEqual(['client', 'plain', 'program.json', 'weights.safetensors']);
    expect(readdirSync(join(cwd, 'private')).sort()).toEqual(['client', 'dealer', 'p0', 'p1', 'plain', 'program.json']);
    expect(readdirSync(cwd).filter((f) => f.startsWith('.') && f !== '.subrosa')).toEqual([]);
  });
  test('replaces nothing unasked', async () => {
    const before = readFileSync(join(cwd, 'public', 'program.json'));
    const { code, stderr } = await subrosa(['compile', 'fashion-vit', '-o', 'public'], { cwd });
    expect(code).toBe(2);
    expect(stderr).toContain('--force');
    expect((await subrosa(['compile', 'fashion-vit', '-o', '.'], { cwd })).stderr).toContain('no compiled model');
    expect(readFileSync(join(cwd, 'public', 'program.json')).equals(before)).toBe(true);
  });
});

describe('cost', () => {
  test('as JSON is the sum of the gates, with estimates', async () => {
    const { code, stdout, stderr } = await subrosa(['cost', 'public', '--json'], { cwd });
    expect([code, stderr]).toEqual([0, '']);
    const c = JSON.parse(stdout) as {
      rounds: number;
      bytes: object;
      partyMacs: number;
      seconds: { here: number; over: Record<string, number> };
      layers: { layer: string }[];
    };
    const expected = cost(readCompiled(join(cwd, 'public')).program, {});
    expect([c.rounds, c.bytes, c.partyMacs, c.layers.length]).toEqual([
      expected.rounds,
      expected.bytes,
      expected.partyMacs,
      expected.layers.length,
    ]);
    expect(c.seconds.here).toBeGreaterThan(0);
    expect(c.seconds.over.WAN).toBeGreaterThan(c.seconds.over.LAN);
  });
  test('in words names every layer and ends with times', async () => {
    const { stdout } = await subrosa(['cost', 'private'], { cwd });
    expect(stdout).toMatch(/blocks\.0\.attention +\d+ /);
    expect(stdout).toMatch(/on this machine alone/);
    expect(stdout).not.toContain('\x1b');
  });
});

interface Answer {
  outputs: Record<string, { shape: number[]; data: number[] }>;
  label: string;
  seconds: number;
  setup_seconds: number;
  rounds: number;
  bytes: { p0p1: number; dealer: number; client: number };
  peak_rss: Record<string, number>;
  check: { cosine: number; max_abs: number; same_label: boolean };
  runs: Answer[];
}

describe('run', () => {
  test.each(['public', 'private'])(
    'with %s weights: stdout is one JSON object, the answer is the plaintext one, the cost was right',
    async (kind) => {
      const { code, stdout, stderr } = await subrosa(['run', kind, 'two.npy', '--json', '--check', '--out', `answers-${kind}`], { cwd });
      expect([code, stderr.replace(/^(starting|connecting|reading|running).*\n/gm, '')]).toEqual([0, `outputs in answers-${kind}\n`]);
      const a = JSON.parse(stdout) as Answer;
      expect(a.runs).toHaveLength(2);
      for (const run of a.runs) {
        expect(run.check.same_label).toBe(true);
        expect(run.check.cosine).toBeGreaterThan(0.99);
        expect(run.outputs.logits.shape).toEqual([1, 10]);
        expect(run.outputs.probabilities.data.reduce((x, y) => x + y)).toBeCloseTo(1, 5);
      }
      const expected = cost(readCompiled(join(cwd, kind)).program, {});
      expect([a.rounds, a.bytes]).toEqual([expected.rounds, expected.bytes]);
      expect(a.seconds).toBeGreaterThan(0);
      expect(a.peak_rss.dealer).toBeGreaterThan(1e6);
      const saved = readNpy(new Uint8Array(readFileSync(join(cwd, `answers-${kind}`, '1', 'logits.npy'))));
      expect([...saved.data].map((v) => v.toFixed(4))).toEqual(a.runs[1].outputs.logits.data.map((v) => v.toFixed(4)));
    },
  );
  test('refuses what the program was not calibrated for before anything starts', async () => {
    const bad = (name: string, value: number): string => {
      writeFileSync(join(cwd, name), writeNpy({ dtype: 'f32', shape: [1, 1, 28, 28], data: new Float32Array(784).fill(value) }));
      return name;
    };
    for (const [file, says] of [
      [bad('nan.npy', Number.NaN), 'NaN'],
      [bad('far.npy', 1e6), '1000000'],
      [bad('infinite.npy', Number.POSITIVE_INFINITY), 'Infinity'],
    ]) {
      const { code, stdout, stderr } = await subrosa(['run', 'public', file, '--json'], { cwd });
      expect([code, stdout]).toEqual([2, '']);
      expect(stderr).toContain(`value 0 is ${says}`);
    }
  });
  test.each([
    ['of another shape', ['[[1, 2]]'], 'takes [1,1,28,28]'],
    ['that is no image', ['two.txt'], 'two.txt: no such file'],
    ['under a name the model does not have', ['--input', 'x=two.npy'], 'no input is called that'],
    ['at all', [], 'needs an input'],
  ])('says what is wrong with an input %s', async (_, args, says) => {
    const { code, stderr } = await subrosa(['run', 'public', ...args], { cwd });
    expect(code).toBe(2);
    expect(stderr).toContain(says);
  });
});

test('inspect as JSON has every gate, and names the worst layer', async () => {
  writeFileSync(join(cwd, 'one.npy'), images('fashion-test-200.bin', 0, 1));
  const { code, stdout, stderr } = await subrosa(['inspect', 'private', 'one.npy', '--json'], { cwd });
  expect([code, stderr.replace(/^inspecting.*\n/gm, '')]).toEqual([0, '']);
  const report = JSON.parse(stdout) as {
    worst: { layer: string; relative: number };
    layers: { layer: string; used: number }[];
    gates: { outputs: { used: number }[] }[];
  };
  expect(report.gates).toHaveLength(readCompiled(join(cwd, 'private')).program.gates.length);
  expect(report.layers.map((l) => l.layer)).toContain(report.worst.layer);
  expect(report.worst.relative).toBeLessThan(0.1);
  expect(Math.max(...report.gates.flatMap((g) => g.outputs.map((o) => o.used)))).toBeLessThan(1);
});

test('a compiled folder without plain/ runs, and says why it cannot check', async () => {
  rmSync(join(cwd, 'public', 'plain'), { recursive: true });
  const { code, stderr } = await subrosa(['run', 'public', 'one.npy', '--check'], { cwd });
  expect(code).toBe(2);
  expect(stderr).toContain('stays with its owner');
  expect(existsSync(join(cwd, 'public', 'plain'))).toBe(false);
});
