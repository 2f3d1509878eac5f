/** The shipped vision transformer, compiled on a few images: enough to run, quick enough for every test file. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { locate, type Uncompiled } from '../src/cli/locate.ts';
import { fashionImages, type LabelledImage, samplesFor } from '../src/cli/samples.ts';
import { readSource } from '../src/cli/source.ts';
import { type Calibration, calibrate } from '../src/compile/calibrate.ts';
import { type Compiled, compile } from '../src/compile/compile.ts';
import { writeCompiled } from '../src/folder/index.ts';
import { fastProducts } from '../src/graph/fast.ts';
import { interpret } from '../src/graph/interpret.ts';
import type { ImageSpec } from '../src/tasks/pixels.ts';

fastProducts();
export const source = readSource(locate('fashion-vit') as Uncompiled);
export const images: readonly LabelledImage[] = fashionImages('fashion-test-200.bin', source.info.image as ImageSpec);

/** Calibrated on the first `count` of the shipped calibration images. */
export async function calibrated(count: number): Promise<Calibration> {
  const { inputs } = await samplesFor(source, 0, undefined);
  return calibrate(source.graph, inputs.slice(0, count));
}

export const compiled = (c: Calibration, weights: 'public' | 'private'): Compiled => compile(source.graph, c, { weights });

/** The compiled model as a folder, until `remove`. */
export function asFolder({ program, weights }: Compiled): { dir: string; remove: () => void } {
  const home = mkdtempSync(join(tmpdir(), 'subrosa-vit-'));
  const dir = join(home, program.weights);
  const { graph, before, after, info } = source;
  const plainAfter = { ...after, inputs: after.inputs.map((i) => ({ ...i, shape: [1, info.labels.length] })) };
  writeCompiled(dir, {
    program,
    weights,
    client: { ...info, calibration: 'a few images' },
    graphs: { before, after: plainAfter },
    plain: graph,
    record: { key: 'test', tightest: [] },
  });
  return { dir, remove: () => rmSync(home, { recursive: true }) };
}

export const plainLogits = (image: LabelledImage): Float64Array => {
  const out = interpret(source.graph, { [source.graph.inputs[0].name]: image.image });
  return Float64Array.from(out[source.graph.outputs[0]].data);
};
export const argmax = (v: ArrayLike<number>): number => Array.from(v).reduce((best, x, i, all) => (x > all[best] ? i : best), 0);
export const furthest = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
  Array.from(a, (v, i) => Math.abs(v - b[i])).reduce((m, d) => Math.max(m, d), 0);
