/** A tiny decoder over real processes: a prompt in one step, then token by token over what the session keeps, against the interpreter. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { calibrate } from '../src/compile/calibrate.ts';
import { compile } from '../src/compile/compile.ts';
import { noise } from '../src/compile/lower/tiny.case.ts';
import { writeCompiled } from '../src/folder/index.ts';
import { sizeOf, type Tensor, tensor } from '../src/graph/graph.ts';
import { rewrite } from '../src/graph/rewrite/index.ts';
import { importPretrained, type Pretrained } from '../src/import/families/index.ts';
import { privateLookup, withRows } from '../src/import/families/one-hot.ts';
import { toTensorData } from '../src/import/safetensors.ts';
import { saveSafetensors } from '../src/import/safetensors-file.ts';
import { cost } from '../src/program/cost.ts';
import type { Program } from '../src/program/program.ts';
import { type Cluster, startCluster } from '../src/session/cluster.ts';
import { inputRows, plainDecoder, prefixCaches } from '../src/tasks/generate/decoder.ts';
import { argmax } from './vit.ts';

const home = mkdtempSync(join(tmpdir(), 'subrosa-decoder-'));
afterAll(() => rmSync(home, { recursive: true }));

/** LLaMA's architecture as the importer's fixtures have it, with weights drawn here. */
function tiny(): Pretrained {
  type Case = { label: string; config: object; tensors: Record<string, number[]> };
  const cases = JSON.parse(readFileSync(new URL('../src/import/families/fixtures/decoders.json', import.meta.url), 'utf8')) as Case[];
  const { config, tensors } = cases.find((c) => c.label === 'llama, grouped queries') as Case;
  const next = noise(31);
  const weight = (name: string, shape: number[]): Tensor =>
    tensor(
      Array.from({ length: sizeOf(shape) }, () => (/norm\.weight$/.test(name) ? 1 : 0) + 0.3 * next()),
      shape,
    );
  saveSafetensors(
    join(home, 'model.safetensors'),
    new Map(Object.entries(tensors).map(([name, shape]) => [name, toTensorData(weight(name, shape))])),
  );
  writeFileSync(join(home, 'config.json'), JSON.stringify(config));
  const { graph, ...more } = importPretrained(home, { maxTokens: 40 });
  return { ...more, graph: rewrite(graph) };
}

const model = tiny();
const vocab = model.client.after.inputs[0].shape[1] as number;
const prefix = prefixCaches(model, [3]);
const tokens = (n: number, seed: number): number[] => Array.from({ length: n }, (_, i) => (seed * 7919 + i * i * 31 + i * 17) % vocab);
/** Where embeddings are looked up: by the client, or inside, by keys of point functions. */
const kinds = [
  ['public', 'public', false],
  ['private', 'private', false],
  ['public, keyed', 'public', true],
  ['private, keyed', 'private', true],
] as const;
const lookup = privateLookup(model.graph, model.client.before, 'dpf');
const befores = Object.fromEntries(kinds.map(([kind, , inside]) => [kind, inside ? lookup.before : model.client.before]));
const programs = new Map<string, Program>();

beforeAll(() => {
  const samples = Array.from({ length: 16 }, (_, i) => ({ ...inputRows(model.client.before, tokens(4 + (i % 9), i), 1), ...prefix }));
  const calibration = calibrate(model.graph, samples);
  for (const [kind, weights, inside] of kinds) {
    const options = { weights, max: { n: 8, keys: 32 }, prefix: new Map(Object.entries(prefix)) };
    const compiled = inside ? compile(lookup.graph, withRows(calibration, lookup), options) : compile(model.graph, calibration, options);
    programs.set(kind, compiled.program);
    const { name } = model.graph;
    writeCompiled(join(home, kind), {
      ...compiled,
      client: { name, task: 'tensors', family: 'llama', labels: [], maxTokens: 32, firstPosition: 0, calibration: 'random tokens' },
      graphs: { ...model.client, before: befores[kind] },
      plain: inside ? lookup.graph : model.graph,
      record: { key: 'test', tightest: [] },
    });
  }
});

describe.each(kinds)('with %s weights', (kind, _weights, inside) => {
  const before = befores[kind];
  let cluster: Cluster;
  beforeAll(async () => {
    cluster = await startCluster(join(home, kind), { threads: 1 });
  }, 60_000);
  afterAll(() => cluster.close());

  test('greedy steps give the interpreter’s logits; so does another text in the same session; rounds and bytes are those of cost', async () => {
    for (const [seed, count] of [
      [1, 12],
      [2, 4],
    ]) {
      const plain = plainDecoder(model, prefix);
      let ids = tokens(5, seed);
      for (let i = 0; i < count; i++) {
        const past = plain.length;
        const params = { keys: past + ids.length > 16 ? 32 : 16, past };
        const { outputs, stats } = await cluster.run(inputRows(before, ids, past), params);
        const want = await plain.step(ids);
        const got = outputs.logits.data;
        const most = want.reduce((m, v) => Math.max(m, Math.abs(v)), 1);
        want.forEach((v, j) => {
          expect(Math.abs(v - got[j]), `text ${seed}, step ${i}, logit ${j}`).toBeLessThan(0.03 * most);
        });
        const { rounds, bytes } = cost(programs.get(kind) as Program, { n: ids.length, ...params });
        expect({ rounds: stats.rounds, bytes: stats.bytes }).toEqual({ rounds, bytes });
        // A token goes up in two keys; what comes down are logits.
        if (inside) expect(stats.bytes.client - 2 * 4 * vocab).toBeLessThan(1024 * ids.length);
        ids = [argmax(want)];
      }
    }
  });

  test('a past that is not there is refused before anything is sent, or by the parties', async () => {
    const rows = inputRows(before, [1], 30);
    await expect(cluster.run(rows, { keys: 32, past: 0 })).rejects.toMatchObject({ code: 'bad-input' });
    await expect(cluster.run(rows, { keys: 32 })).rejects.toMatchObject({ code: 'bad-input' });
    await expect(cluster.run(rows, { keys: 16, past: 16 })).rejects.toMatchObject({ code: 'bad-input' });
    await expect(cluster.run(rows, { keys: 32, past: 30 })).rejects.toMatchObject({ code: 'bad-message' });
  });
});
