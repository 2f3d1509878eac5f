/**
 * What decoders share. One graph serves prefill and decoding: public parameters n (new rows) and past (rows in the cache).
 *
 *   inputs    embeddings [n, hidden]; past_k.i, past_v.i [past, kvHeads·headDim] for each layer i
 *   outputs   logits [1, vocab] of the last row; k.i, v.i [n, kvHeads·headDim], the new rows only (k after its positions)
 *   on demand all_logits [n, vocab], last_hidden_state [n, hidden]
 *
 * `Graph.caches` pairs past_k.i with k.i. Positions, causality and windows are attributes of Rotary and Attention, never masks. The client
 * looks up embedding rows (`before`), and gets logits (`after` only caps them, where a model does).
 */
import type { Graph } from '../../graph/graph.ts';
import { ModelError } from '../../graph/graph.ts';
import { type Builder, builder, finish, row, type Weights } from './build.ts';
import type { ClientGraph, ImportOptions, ModelFolder } from './family.ts';

/** Sequences longer than this are served when asked for; tables and memory would be for nothing otherwise. */
const usualTokens = 8192;

/** The longest sequence, of what positions there are and what was asked for. */
export const lengthOf = (trained: number, options: ImportOptions): number => Math.min(trained, options.maxTokens ?? usualTokens);

/** 'smollm2' of '…/smollm2/' or '…/smollm2.gguf'. */
export const nameOf = (folder: ModelFolder): string => (folder.dir.split(/[\\/]/).filter(Boolean).at(-1) ?? 'model').replace(/\.gguf$/, '');

export class DecoderBuilder {
  readonly b: Builder;
  readonly w: Weights;
  private readonly caches: { input: string; output: string }[] = [];

  constructor(name: string, w: Weights) {
    this.b = builder(name);
    this.w = w;
  }

  /** A dense layer stored [out, in]; its bias is taken when there is one. `output` names the value. */
  linear(node: string, stored: string, x: string, [from, to]: readonly [number, number], output?: string): string {
    const inputs = [x, this.b.constant(`${stored}.weight`, this.w.takeTransposed(`${stored}.weight`, [to, from]))];
    if (this.w.has(`${stored}.bias`)) inputs.push(this.b.constant(`${stored}.bias`, this.w.take(`${stored}.bias`, [to])));
    return this.b.node('Linear', node, inputs, {}, output);
  }

  /** Attention of layer i over its cache and the new rows; k and v are already called k.i and v.i. */
  attention(i: number, q: string, width: number, attrs: Record<string, number>): string {
    const [pastK, pastV] = [`past_k.${i}`, `past_v.${i}`];
    for (const [input, output] of [
      [pastK, `k.${i}`],
      [pastV, `v.${i}`],
    ]) {
      // Rotary may have asked for past_k before.
      this.past(input, width);
      this.caches.push({ input, output });
    }
    return this.b.node('Attention', `/layers.${i}/attention/Attention`, [q, `k.${i}`, `v.${i}`, '', pastK, pastV], { ...attrs, causal: 1 });
  }

  past(name: string, width: number): string {
    return this.b.graph.inputs.some((input) => input.name === name) ? name : this.b.input(name, 'f32', ['past', width]);
  }

  /** From the last layer's rows to the outputs. `norm` appends a normalisation; `vocabulary` is the constant [hidden, vocab]. */
  finish(x: string, norm: (node: string, x: string, output?: string) => string, vocabulary: string, options: ImportOptions): Graph {
    this.b.node('Linear', '/lm_head', [norm('/last/norm', row(this.b, '/last', x, -1)), vocabulary], {}, 'logits');
    const all = norm('/norm', x, 'last_hidden_state');
    this.b.node('Linear', '/lm_head/all', [all, vocabulary], {}, 'all_logits');
    const caches = this.caches;
    this.b.graph.outputs.push('logits', 'all_logits', all, ...caches.map((c) => c.output));
    return { ...finish(this.b, [...(options.outputs ?? ['logits']), ...caches.map((c) => c.output)]), caches };
  }
}

/** Ids to rows, and logits as they come or capped: cap·tanh(x/cap). */
export function clientGraphs(
  name: string,
  embed: (b: Builder) => void,
  { vocab, cap }: { vocab: number; cap?: number | null },
): ClientGraph {
  const before = builder(`${name} (client, before)`);
  embed(before);
  const after = builder(`${name} (client, after)`);
  const raw = after.input('logits', 'f32', ['rows', vocab]);
  if (!cap) return { before: finish(before, ['embeddings']), after: finish(after, [raw]) };
  const by = (v: number): string => after.constant(`/cap/${v}`, { dtype: 'f32', shape: [1], data: Float32Array.of(v) });
  const small = after.node('Mul', '/cap/in', [raw, by(1 / cap)]);
  after.node('Mul', '/cap/out', [after.node('Tanh', '/cap/Tanh', [small]), by(cap)], {}, 'capped_logits');
  return { before: finish(before, ['embeddings']), after: finish(after, ['capped_logits']) };
}

/** A whole number of heads. */
export function headWidth(folder: ModelFolder, hidden: number, heads: number, given?: number | null): number {
  const d = given ?? hidden / heads;
  if (!Number.isInteger(d)) throw new ModelError(`${folder.dir}: a width of ${hidden} is not a multiple of ${heads} heads`);
  return d;
}
