/**
 * Rotary positions: the angle of pair j at position p is p·f_j. The scalings that checkpoints are trained with change the frequencies f (and
 * multiply cos and sin by a factor), so that all of them end as two tables. Names and formulas are those of config.json's rope_parameters.
 */
import { z } from 'zod';
import { ModelError, type Tensor } from '../../graph/graph.ts';

const positive = z.number().positive();
const factors = z.array(positive).max(1 << 12);
export const Rope = z.object({
  rope_theta: positive.nullish(),
  rope_type: z.string().nullish(),
  /** What old files call rope_type. */
  type: z.string().nullish(),
  factor: positive.nullish(),
  partial_rotary_factor: positive.max(1).nullish(),
  original_max_position_embeddings: positive.nullish(),
  attention_factor: positive.nullish(),
  // yarn
  beta_fast: positive.nullish(),
  beta_slow: positive.nullish(),
  mscale: z.number().nullish(),
  mscale_all_dim: z.number().nullish(),
  truncate: z.boolean().nullish(),
  // llama3
  low_freq_factor: positive.nullish(),
  high_freq_factor: positive.nullish(),
  // longrope
  short_factor: factors.nullish(),
  long_factor: factors.nullish(),
  /** GGUF: what the frequencies are divided by, one by one. */
  factors: factors.nullish(),
});
export type Rope = z.infer<typeof Rope>;

/**
 * f_j for j < r/2 and the factor of cos and sin. `length`: the longest sequence there will be; `trained`: the model's
 * max_position_embeddings. The scalings that look at a sequence's length ('dynamic', 'longrope') take `length`, a public number, so that
 * one table serves the whole of a conversation and keys in the cache keep the angle they were given.
 */
export function frequencies(rope: Rope, r: number, trained: number, length: number): { f: Float64Array; gain: number } {
  const theta = rope.rope_theta ?? 10000;
  const base = (by = theta): Float64Array => Float64Array.from({ length: r / 2 }, (_, j) => by ** ((-2 * j) / r));
  const need = <K extends keyof Rope>(key: K): NonNullable<Rope[K]> => rope[key] ?? fail(`rope_parameters: ${type} needs ${key}`);
  const type = rope.rope_type ?? rope.type ?? 'default';
  switch (type) {
    case 'default':
      return { f: base(), gain: 1 };
    case 'linear':
      return { f: base().map((f) => f / need('factor')), gain: 1 };
    case 'dynamic': {
      const factor = need('factor');
      const stretch = length > trained ? ((factor * length) / trained - (factor - 1)) ** (r / (r - 2)) : 1;
      return { f: base(theta * stretch), gain: 1 };
    }
    case 'llama3': {
      const [factor, low, high] = [need('factor'), need('low_freq_factor'), need('high_freq_factor')];
      const original = need('original_max_position_embeddings');
      // Short waves stay, long ones stretch, and between the two a straight line.
      const keep = (f: number): number => Math.min(1, Math.max(0, ((original * f) / (2 * Math.PI) - low) / (high - low)));
      return { f: base().map((f) => keep(f) * f + ((1 - keep(f)) * f) / factor), gain: 1 };
    }
    case 'yarn': {
      const original = rope.original_max_position_embeddings ?? trained;
      const factor = need('factor');
      const round = (rope.truncate ?? true) ? [Math.floor, Math.ceil] : [(v: number) => v, (v: number) => v];
      // The pair that turns `turns` times over the trained length.
      const pair = (turns: number): number => (r * Math.log(original / (turns * 2 * Math.PI))) / (2 * Math.log(theta));
      const from = Math.max(round[0](pair(rope.beta_fast ?? 32)), 0);
      let to = Math.min(round[1](pair(rope.beta_slow ?? 1)), r - 1);
      if (from === to) to += 0.001;
      const ramp = (j: number): number => Math.min(1, Math.max(0, (j - from) / (to - from)));
      const scale = (m: number): number => (factor <= 1 ? 1 : 0.1 * m * Math.log(factor) + 1);
      const gain =
        rope.attention_factor ?? (rope.mscale && rope.mscale_all_dim ? scale(rope.mscale) / scale(rope.mscale_all_dim) : scale(1));
      return { f: base().map((f, j) => (f / factor) * ramp(j) + f * (1 - ramp(j))), gain };
    }
    case 'longrope': {
      const original = rope.original_max_position_embeddings ?? trained;
      const by = length > original ? need('long_factor') : need('short_factor');
      if (by.length !== r / 2) fail(`rope_parameters: ${by.length} factors for ${r / 2} frequencies`);
      const factor = rope.original_max_position_embeddings ? trained / original : (rope.factor ?? 1);
      const gain = rope.attention_factor ?? (factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(original)));
      return { f: base().map((f, j) => f / by[j]), gain };
    }
    case 'factors': {
      const by = need('factors');
      if (by.length !== r / 2) fail(`${by.length} rope factors for ${r / 2} frequencies`);
      return { f: base().map((f, j) => f / by[j]), gain: 1 };
    }
    default:
      return fail(`rope_parameters: type '${type}' is not supported; default, linear, dynamic, yarn, longrope and llama3 are`);
  }
}

function fail(reason: string): never {
  throw new ModelError(reason);
}

/** cos and sin [length, r/2]. */
export function ropeTables(rope: Rope, r: number, trained: number, length: number): { cos: Tensor; sin: Tensor } {
  const { f, gain } = frequencies(rope, r, trained, length);
  const table = (fn: (x: number) => number): Tensor => {
    const data = new Float32Array(length * f.length);
    for (let p = 0, i = 0; p < length; p++) for (let j = 0; j < f.length; j++) data[i++] = gain * fn(p * f[j]);
    return { dtype: 'f32', shape: [length, f.length], data };
  };
  return { cos: table(Math.cos), sin: table(Math.sin) };
}
