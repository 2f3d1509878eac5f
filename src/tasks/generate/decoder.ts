/** A model that goes on from tokens: what generation drives, whether it runs in plaintext here or on shares elsewhere. */
import { type Graph, type Tensor, tensor } from '../../graph/graph.ts';
import { interpret } from '../../graph/interpret.ts';

/** One sequence and its cache. */
export interface Decoder {
  /** Rows in the cache, a public prefix counted. */
  readonly length: number;
  /** The longest sequence it takes. */
  readonly limit: number;
  /** Appends one or more tokens; the logits [vocab] after the last. Throws RangeError beyond `limit`. */
  step(ids: readonly number[], signal?: AbortSignal): Promise<Float32Array>;
}

/** What plain decoding needs of an imported model. */
export interface PlainModel {
  readonly graph: Graph;
  readonly client: { readonly before: Graph; readonly after: Graph };
  readonly meta: { readonly maxTokens: number };
}

/** Rows of K and V by the names of the graph's inputs. */
export type Caches = Readonly<Record<string, Tensor>>;

/** Longer prompts go in pieces: scores take rows times keys. */
const mostRows = 512;

export function emptyCaches(graph: Graph): Caches {
  return Object.fromEntries(
    (graph.caches ?? []).map(({ input }) => [input, tensor([], [0, graph.inputs.find((i) => i.name === input)?.shape[1] as number])]),
  );
}

/** One pass: the graph's outputs for these tokens after `caches`. `listener` as in interpret. */
export function pass(
  { graph, client }: Pick<PlainModel, 'graph' | 'client'>,
  ids: readonly number[],
  caches: Caches,
  listener?: Parameters<typeof interpret>[2],
): Record<string, Tensor> {
  const first = graph.caches?.[0];
  const past = first ? caches[first.input].shape[0] : 0;
  return interpret(graph, { ...inputRows(client.before, ids, past), ...caches }, listener);
}

/** The client's part before a step: tokens, the first of them at position `past`, to the private graph's input. */
export const inputRows = (before: Graph, ids: readonly number[], past: number): Record<string, Tensor> =>
  interpret(before, {
    input_ids: tensor(ids, [ids.length], 'i64'),
    position_ids: tensor(
      ids.map((_, i) => past + i),
      [ids.length],
      'i64',
    ),
  });

/**
 * K and V of a public prefix: what every sequence begins with. With public weights they are constants of the program, with private ones
 * their owner shares them out. [prefix, kvHeads·headDim] each; empty for an empty prefix.
 */
export function prefixCaches(model: Pick<PlainModel, 'graph' | 'client'>, prefix: readonly number[]): Caches {
  const none = emptyCaches(model.graph);
  if (prefix.length === 0) return none;
  const outputs = pass(model, prefix, none);
  return Object.fromEntries((model.graph.caches ?? []).map(({ input, output }) => [input, outputs[output]]));
}

/** Rows that grow at the end; memory doubles when it is full. */
class Rows {
  private data: Float32Array;
  private rows: number;

  constructor(first: Tensor) {
    this.data = first.data as Float32Array;
    [this.rows, this.width] = first.shape;
  }
  private readonly width: number;

  get tensor(): Tensor {
    return { dtype: 'f32', shape: [this.rows, this.width], data: this.data.subarray(0, this.rows * this.width) };
  }

  append(t: Tensor): void {
    const end = this.rows + t.shape[0];
    if (end * this.width > this.data.length) {
      const larger = new Float32Array(Math.max(end, 2 * this.rows, 64) * this.width);
      larger.set(this.data.subarray(0, this.rows * this.width));
      this.data = larger;
    }
    this.data.set(t.data as Float32Array, this.rows * this.width);
    this.rows = end;
  }
}

/** The plain interpreter as a Decoder. `caches`: what a sequence begins with (prefixCaches). */
export function plainDecoder(model: PlainModel, caches: Caches = emptyCaches(model.graph)): Decoder {
  const pairs = (model.graph.caches ?? []).map(({ input, output }) => ({ input, output, rows: new Rows(caches[input]) }));
  const limit = model.meta.maxTokens;
  let length = pairs.length > 0 ? pairs[0].rows.tensor.shape[0] : 0;
  return {
    limit,
    get length() {
      return length;
    },
    async step(ids, signal) {
      if (ids.length === 0) throw new RangeError('no token to go on with');
      if (length + ids.length > limit) throw new RangeError(`${length + ids.length} tokens; the model takes ${limit}`);
      let logits: Tensor | undefined;
      for (let at = 0; at < ids.length; at += mostRows) {
        signal?.throwIfAborted();
        const piece = ids.slice(at, at + mostRows);
        const outputs = pass(model, piece, Object.fromEntries(pairs.map((p) => [p.input, p.rows.tensor])));
        for (const p of pairs) p.rows.append(outputs[p.output]);
        length += piece.length;
        logits = outputs.logits;
        // Others get a turn: whoever waits to abort, a page that draws.
        await new Promise((resolve) => setTimeout(resolve));
      }
      const after = interpret(model.client.after, { logits: logits as Tensor });
      return Object.values(after)[0].data as Float32Array;
    },
  };
}
