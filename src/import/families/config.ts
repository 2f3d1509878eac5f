import type { z } from 'zod';
import { ModelError } from '../../graph/graph.ts';
import type { ModelFolder } from './family.ts';

/** config.json against a family's schema; what is wrong with it in one message. */
export function configOf<T>(schema: z.ZodType<T>, config: unknown, dir: string): T {
  const result = schema.safeParse(config);
  if (result.success) return result.data;
  throw new ModelError(`${dir}/config.json: ${result.error.issues.map((i) => `${i.path.join('.') || 'file'}: ${i.message}`).join('; ')}`);
}

/** Class names in logit order: id2label, else LABEL_0, LABEL_1 … as many as the first of these biases that is there has. */
export function labelsOf(folder: ModelFolder, biases: readonly string[]): string[] {
  const names = folder.config.id2label;
  if (typeof names === 'object' && names !== null) {
    const list = Object.entries(names).map(([id, label]) => [Number(id), String(label)] as const);
    list.sort((a, b) => a[0] - b[0]);
    if (list.length === 0 || list.some(([id], i) => id !== i))
      throw new ModelError(`${folder.dir}/config.json: id2label does not number its labels 0, 1, 2 …`);
    return list.map(([, label]) => label);
  }
  const count = biases.map((b) => folder.weights.tensors.get(b)?.shape[0]).find((n) => n !== undefined) ?? folder.config.num_labels ?? 2;
  if (typeof count !== 'number' || !Number.isInteger(count) || count < 1)
    throw new ModelError(`${folder.dir}/config.json: num_labels is ${JSON.stringify(count)}`);
  return Array.from({ length: count }, (_, i) => `LABEL_${i}`);
}
