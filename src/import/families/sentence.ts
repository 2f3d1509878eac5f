import { z } from 'zod';
import { ModelError } from '../../graph/graph.ts';
import { activation, type Builder, ints, linear, row, weightsOf } from './build.ts';
import { configOf } from './config.ts';
import type { ModelFolder } from './family.ts';

/** What sentence-transformers adds to an encoder: modules.json lists a pooling, perhaps dense layers, perhaps a normalisation. */
export interface SentenceModules {
  readonly pooling: string;
  readonly dense: readonly string[];
  readonly normalize: boolean;
  readonly maxTokens?: number;
}

const Modules = z.array(z.object({ path: z.string(), type: z.string() }));
const Pooling = z.looseObject({ pooling_mode: z.union([z.string(), z.array(z.string())]).optional() });
const Dense = z.object({
  in_features: z.int().positive(),
  out_features: z.int().positive(),
  bias: z.boolean().default(true),
  activation_function: z.string().default('Identity'),
});
const Limits = z.object({ max_seq_length: z.int().positive().nullish() });

/** undefined for a folder that is no sentence-transformers model. */
export function sentenceModules(folder: ModelFolder): SentenceModules | undefined {
  const list = folder.json('modules.json');
  if (list === undefined) return undefined;
  const modules = configOf(Modules, list, `${folder.dir}: modules.json, not`);
  const of = (kind: string): string[] => modules.filter((m) => m.type.split('.').at(-1) === kind).map((m) => m.path);
  const unknown = modules.find((m) => !/\.(Transformer|Pooling|Dense|Normalize)$/.test(m.type));
  if (unknown)
    throw new ModelError(
      `${folder.dir}/modules.json: a module of type '${unknown.type}' is not supported; Transformer, Pooling, Dense and Normalize are`,
    );
  const pooling = of('Pooling');
  if (pooling.length > 1) throw new ModelError(`${folder.dir}/modules.json: ${pooling.length} poolings`);
  const limits = folder.json('sentence_bert_config.json');
  const maxTokens = limits === undefined ? undefined : (configOf(Limits, limits, folder.dir).max_seq_length ?? undefined);
  return {
    pooling: pooling.length === 1 ? poolingMode(folder, pooling[0]) : 'mean',
    dense: of('Dense'),
    normalize: of('Normalize').length > 0,
    maxTokens,
  };
}

/** 'mean', 'cls', … from either spelling: pooling_mode, or one flag a mode. */
function poolingMode(folder: ModelFolder, path: string): string {
  const config = configOf(Pooling, folder.json(`${path}/config.json`) ?? {}, `${folder.dir}/${path}`);
  const flags = Object.entries(config).filter(([k, v]) => k.startsWith('pooling_mode_') && v === true);
  const modes =
    config.pooling_mode !== undefined
      ? [config.pooling_mode].flat()
      : flags.map(([k]) => k.slice('pooling_mode_'.length).replace(/_(tokens?|token)$/, ''));
  if (modes.length > 1) throw new ModelError(`${folder.dir}/${path}: several poolings at once (${modes.join(', ')}) are not supported`);
  return modes[0] ?? 'mean';
}

/** Appends pooling and dense layers up to 'sentence_embedding' [1, width]; returns that width. */
export function sentencePooling(b: Builder, folder: ModelFolder, modules: SentenceModules | undefined, x: string, hidden: number): number {
  const mode = modules?.pooling ?? 'mean';
  const dense = modules?.dense ?? [];
  const output = dense.length === 0 ? 'sentence_embedding' : undefined;
  let value: string;
  if (mode === 'mean') value = b.node('ReduceMean', '/pooling/mean', [x, b.constant('/pooling/axes', ints(0))], { keepdims: 1 }, output);
  else if (mode === 'max') value = b.node('ReduceMax', '/pooling/max', [x, b.constant('/pooling/axes', ints(0))], { keepdims: 1 }, output);
  else if (mode === 'cls') value = row(b, '/pooling/cls', x, 0, output);
  else if (mode === 'lasttoken') value = row(b, '/pooling/last', x, -1, output);
  else throw new ModelError(`${folder.dir}: pooling '${mode}' is not supported; mean, max, cls and lasttoken are`);
  let width = hidden;
  dense.forEach((path, i) => {
    const config = configOf(Dense, folder.json(`${path}/config.json`), `${folder.dir}/${path}`);
    if (config.in_features !== width)
      throw new ModelError(`${folder.dir}/${path}/config.json: in_features is ${config.in_features}, the layer before gives ${width}`);
    const file = folder.moduleWeights(path);
    const weights = weightsOf(file, (name) => name.replace(/^linear\./, `${path}.`));
    const kind = config.activation_function.split('.').at(-1)?.toLowerCase() ?? 'identity';
    const last = i === dense.length - 1;
    const named = last && kind === 'identity' ? 'sentence_embedding' : undefined;
    value = linear(b, weights, `/${path}`, path, value, [width, config.out_features], config.bias, named);
    weights.check(/^$/);
    file.close();
    if (kind !== 'identity') value = activation(b, kind, `/${path}/activation`, value, last ? 'sentence_embedding' : undefined);
    width = config.out_features;
  });
  return width;
}
