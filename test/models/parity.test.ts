/**
 * Whole models, compiled as a person compiles them (calibrated on what is shipped, kept in .subrosa), against plaintext on inputs that
 * calibration never saw.
 */
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, test } from 'vitest';
import { compiledOf } from '../../src/cli/compiled.ts';
import { readInputs } from '../../src/cli/inputs.ts';
import { acceptable, runOne } from '../../src/cli/run.ts';
import { readTexts } from '../../src/cli/samples.ts';
import { type CompiledFolder, weightSource } from '../../src/folder/index.ts';
import { threeKernels } from '../../src/gates/gate.case.ts';
import { fastProducts } from '../../src/graph/fast.ts';
import { pull } from '../../src/import/pull/index.ts';
import { LocalCluster } from '../../src/runtime/local.ts';
import { loadModel } from '../../src/runtime/model.ts';
import { encodeWords } from '../../src/client/share.ts';
import { startCluster } from '../../src/session/cluster.ts';
import { argmax, furthest, images, plainLogits } from '../vit.ts';

const weights = ['public', 'private'] as const;

describe.each([
  ['public', 200],
  ['private', 40],
] as const)('the vision transformer with %s weights', (kind, count) => {
  // Rounding is random: median 0.0015, largest of thousands of runs 0.012.
  test(`${count} test images: the plaintext’s class; logits within 0.02`, async () => {
    const { dir, program } = await compiledOf('fashion-vit', { weights: kind });
    const [p0, p1, dealer] = (['p0', 'p1', 'dealer'] as const).map((role, i) =>
      loadModel(program, role, threeKernels()[i], weightSource(dir, role)),
    );
    const cluster = new LocalCluster({ p0, p1, dealer });
    const [input, output] = [program.inputs[0].name, program.outputs[0]];
    const { scale } = program.tensors[output.tensor];
    const off: number[] = [];
    let right = 0;
    for (const image of images.slice(0, count)) {
      const words = Int32Array.from(encodeWords(program, { [input]: { shape: image.image.shape, data: image.image.data } }));
      const got = cluster.run({}, { [input]: words })[output.name].data.map((v) => v / (scale as number));
      const plain = plainLogits(image);
      expect(argmax(got)).toBe(argmax(plain));
      off.push(furthest(got, plain));
      if (argmax(got) === image.label) right++;
    }
    expect(Math.max(...off)).toBeLessThanOrEqual(0.02);
    expect(right / count).toBeGreaterThan(0.85);
    console.log(`${kind}: ${right} of ${count} right, logits off by ${Math.max(...off).toFixed(4)} at most`);
  });
});

describe.each(weights)('MiniLM with %s weights', (kind) => {
  let folder: CompiledFolder;
  beforeAll(async () => {
    await pull('minilm', fileURLToPath(new URL('../../.subrosa/models/minilm', import.meta.url)));
    folder = await compiledOf('minilm', { weights: kind });
  });

  test('16 held-out sentences, over real processes: cosine with the plaintext’s embedding at least 0.9999', async () => {
    fastProducts();
    const texts = readTexts(fileURLToPath(new URL('../../models/calibration/heldout.jsonl', import.meta.url)));
    expect(texts).toHaveLength(16);
    const given = await readInputs(folder.client, folder.program, texts);
    const plain = folder.plain();
    const cluster = await startCluster(folder.dir, { timeoutSeconds: 120 });
    const found: { title: string; tokens: number; cosine: number; seconds: number }[] = [];
    try {
      for (const g of given) {
        const { check, stats } = await runOne(folder, cluster, g, acceptable(folder, g), { warm: false, plain });
        found.push({
          title: g.title.slice(0, 40),
          tokens: g.encoded!.ids.length,
          cosine: check!.outputs.sentence_embedding.cosine,
          seconds: stats.seconds,
        });
      }
    } finally {
      await cluster.close();
    }
    const worst = found.reduce((a, b) => (b.cosine < a.cosine ? b : a));
    const total = found.reduce((s, f) => s + f.seconds, 0);
    console.log(`${kind}: ${total.toFixed(1)} s for 16 texts; worst ${worst.cosine.toFixed(6)}: ${worst.title}, ${worst.tokens} tokens`);
    for (const f of found) expect(f.cosine, `${f.title} (${f.tokens} tokens)`).toBeGreaterThanOrEqual(0.9999);
  });
});
