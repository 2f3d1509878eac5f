/**
 * Models of a usual shape with made weights, in plaintext against transformers (made.py), and compiled as a person compiles them, over real
 * processes, against their plaintext: BERT's line with a head that classifies, and GPT-2's architecture, from two shards.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { crc32 } from 'node:zlib';
import { afterAll, describe, expect, test } from 'vitest';
import { compiledOf } from '../../src/cli/compiled.ts';
import { readInputs } from '../../src/cli/inputs.ts';
import { acceptable, runOne } from '../../src/cli/run.ts';
import { readTexts } from '../../src/cli/samples.ts';
import { generator } from '../../src/cli/synthetic.ts';
import { fastProducts } from '../../src/graph/fast.ts';
import { sizeOf, tensor } from '../../src/graph/graph.ts';
import { interpret } from '../../src/graph/interpret.ts';
import { importPretrained } from '../../src/import/families/index.ts';
import { type TensorData, toTensorData } from '../../src/import/safetensors.ts';
import { saveSafetensors } from '../../src/import/safetensors-file.ts';
import { startCluster } from '../../src/session/cluster.ts';
import { plainDecoder } from '../../src/tasks/generate/index.ts';
import { cosine, textInputs, top } from '../../src/tasks/text.ts';
import { loadTokenizer } from '../../src/tasks/text-file.ts';
import { mean, teach } from './teacher.ts';

interface Case {
  readonly name: string;
  readonly config: Record<string, unknown>;
  /** Shape, mean and deviation. */
  readonly tensors: Record<string, readonly [number[], number, number]>;
  readonly tokenizer: object;
  /** At most 96 tokens of each held-out text, and the first 48 logits (of the last token) after them. */
  readonly texts: readonly { readonly ids: number[]; readonly logits: number[] }[];
}
const cases = JSON.parse(readFileSync(new URL('made.json', import.meta.url), 'utf8')) as Case[];
const heldout = readTexts(fileURLToPath(new URL('../../models/calibration/heldout.jsonl', import.meta.url)));

const root = mkdtempSync(join(tmpdir(), 'subrosa-made-'));
afterAll(() => rmSync(root, { recursive: true }));

/** made.py's weight(), to the last bit. */
function weight(name: string, [shape, middle, deviation]: Case['tensors'][string]): TensorData {
  const draw = generator(crc32(name));
  const width = deviation * Math.sqrt(12);
  return toTensorData(
    tensor(
      Float32Array.from({ length: sizeOf(shape) }, () => middle + (draw() - 0.5) * width),
      shape,
    ),
  );
}

/** A model folder as the hub lays it out, its weights in as many files. */
function folderOf({ name, config, tensors, tokenizer }: Case, files: number): string {
  const dir = join(root, name);
  mkdirSync(dir);
  const all = Object.entries(tensors).map(([n, t]) => [n, weight(n, t)] as const);
  const file = (i: number): string => (files === 1 ? 'model.safetensors' : `model-0000${i + 1}-of-0000${files}.safetensors`);
  for (let i = 0; i < files; i++) saveSafetensors(join(dir, file(i)), new Map(all.filter((_, j) => j % files === i)));
  const json = (path: string, content: object): void => writeFileSync(join(dir, path), JSON.stringify(content));
  if (files > 1) json('model.safetensors.index.json', { weight_map: Object.fromEntries(all.map(([n], j) => [n, file(j % files)])) });
  json('config.json', config);
  json('tokenizer.json', tokenizer);
  return dir;
}

const furthest = (a: ArrayLike<number>, b: readonly number[]): number => b.reduce((most, v, i) => Math.max(most, Math.abs(v - a[i])), 0);

describe.each(cases.filter((c) => c.name !== 'GPT2LMHeadModel').map((c) => [c.name, c] as const))('%s', (_, c) => {
  const dir = folderOf(c, 1);

  test('plaintext has the tokens and the logits of transformers', () => {
    const { graph, client, meta } = importPretrained(dir);
    expect(meta.task).toBe('text-classification');
    expect(meta.labels).toEqual(['complaint', 'question', 'praise', 'other']);
    const tokenizer = loadTokenizer(dir);
    for (const [i, { ids, logits }] of c.texts.entries()) {
      const { ids: ours } = tokenizer.encode(heldout[i]);
      expect(ours.slice(0, 96)).toEqual(ids);
      const inputs = interpret(client.before, textInputs({ ids, types: ids.map(() => 0) }, meta.firstPosition));
      expect(furthest(interpret(graph, inputs).logits.data, logits)).toBeLessThan(2e-5);
    }
  });

  // Roundings are drawn anew in each run, and four logits average little of them out: once more where they fell badly.
  test.each(['public', 'private'] as const)('%s weights: the plaintext’s label, and its logits', { retry: 1 }, async (weights) => {
    fastProducts();
    const folder = await compiledOf(dir, { weights });
    const plain = folder.plain();
    const cluster = await startCluster(folder.dir, { timeoutSeconds: 120 });
    const found: { cosine: number; off: number; margin: number; same: boolean }[] = [];
    try {
      for (const g of await readInputs(folder.client, folder.program, heldout)) {
        const { answer } = await runOne(folder, cluster, g, acceptable(folder, g), { warm: false });
        const want = interpret(plain, g.inputs).logits.data;
        const [best, second] = top(want, folder.client.labels);
        found.push({
          cosine: cosine(want, answer.outputs.logits.data),
          off: furthest(answer.outputs.logits.data, [...want]),
          margin: best.probability - second.probability,
          same: answer.classes?.[0].label === best.label,
        });
      }
    } finally {
      await cluster.close();
    }
    const [worst, off] = [Math.min(...found.map((f) => f.cosine)), Math.max(...found.map((f) => f.off))];
    console.log(`${c.name}, ${weights}: worst cosine ${worst.toFixed(6)}, logits off by ${off.toFixed(4)} at most`);
    for (const f of found) expect(f.same || f.margin < 0.2, `margin ${f.margin}`).toBe(true);
    // Vectors of four logits, the shortest of length 2: 0.99992 and 0.045 were the worst of 480 runs.
    expect(worst).toBeGreaterThanOrEqual(0.9999);
    expect(off).toBeLessThan(0.1);
  });
});

describe('GPT2LMHeadModel', () => {
  const c = cases.find((k) => k.name === 'GPT2LMHeadModel') as Case;
  const dir = folderOf(c, 2);

  test('plaintext has the tokens and the logits of transformers, from two shards', async () => {
    const model = importPretrained(dir);
    const tokenizer = loadTokenizer(dir);
    for (const [i, { ids, logits }] of c.texts.entries()) {
      expect(tokenizer.ids(heldout[i]).slice(0, 96)).toEqual(ids);
      expect(furthest(await plainDecoder(model).step(ids), logits)).toBeLessThan(1e-4);
    }
  });

  test.each(['public', 'private'] as const)('%s weights say what the plaintext says', async (weights) => {
    const folder = await compiledOf(dir, { weights });
    const taught = await teach(folder, loadTokenizer(folder.client.dir), heldout.slice(0, 8), 16);
    console.log(
      `GPT-2, ${weights}: ${taught.tokens} tokens, mean KL ${mean(taught.kl).toExponential(2)}, largest ${Math.max(...taught.kl).toExponential(2)}; other words at ${JSON.stringify(taught.differences.map((d) => d.margin))}`,
    );
    expect(taught.tokens).toBe(128);
    for (const { margin } of taught.differences) expect(margin).toBeLessThan(0.05);
    expect(mean(taught.kl)).toBeLessThan(1e-3);
  });
});
