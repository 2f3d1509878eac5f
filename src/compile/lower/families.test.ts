/** The importers' tiny models, private: a vision transformer with class token and positions, text encoders with a parameter n. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { sizeOf, tensor } from '../../graph/graph.ts';
import { rewrite } from '../../graph/rewrite/index.ts';
import { importPretrained } from '../../import/families/index.ts';
import { toTensorData } from '../../import/safetensors.ts';
import { saveSafetensors } from '../../import/safetensors-file.ts';
import { noise, run } from './tiny.case.ts';

interface Case {
  name: string;
  config: Record<string, unknown>;
  tensors: Record<string, number[]>;
}
const cases = JSON.parse(readFileSync(new URL('../../import/families/fixtures/tiny.json', import.meta.url), 'utf8')) as Case[];

test.each(cases.map((c) => [c.name, c] as const))('%s', (_, c) => {
  const dir = mkdtempSync(join(tmpdir(), 'subrosa-lower-'));
  const next = noise(31);
  const tensors = Object.entries(c.tensors).map(([name, shape]) => {
    const gain = /norm\w*\.weight$/i.test(name) ? 1 : 0;
    return [
      name,
      toTensorData(
        tensor(
          Array.from({ length: sizeOf(shape) }, () => gain + 0.3 * next()),
          shape,
        ),
      ),
    ] as const;
  });
  saveSafetensors(join(dir, 'model.safetensors'), new Map(tensors));
  writeFileSync(join(dir, 'config.json'), JSON.stringify(c.config));
  const graph = rewrite(importPretrained(dir).graph);
  rmSync(dir, { recursive: true });
  const params = { calibrate: [{ n: 5 }, { n: 9 }], run: [{ n: 7 }] };
  for (const weights of ['public', 'private'] as const) {
    const { error, size } = run(graph, { weights, runs: 1, samples: 12, params });
    for (const o of graph.outputs) expect(error[o] / Math.max(1, size[o]), `${o}, ${weights}`).toBeLessThan(0.03);
  }
});
