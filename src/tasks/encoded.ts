/** Texts as a model takes them, without the tokenizer itself (text.ts): small enough for a page that may never need one. */
import { type Graph, type Tensor, tensor } from '../graph/graph.ts';
import { interpret } from '../graph/interpret.ts';

export interface Encoded {
  readonly ids: readonly number[];
  /** 0 for the first text, 1 for its pair. */
  readonly types: readonly number[];
  readonly tokens: readonly string[];
  /** How many tokens did not fit and were left out at the end. */
  readonly cut: number;
}

/** What `client.before` of a text encoder takes. */
export function textInputs(encoded: Pick<Encoded, 'ids' | 'types'>, firstPosition = 0): Record<string, Tensor> {
  const n = encoded.ids.length;
  const positions = Array.from({ length: n }, (_, i) => firstPosition + i);
  return {
    input_ids: tensor(encoded.ids, [n], 'i64'),
    position_ids: tensor(positions, [n], 'i64'),
    token_type_ids: tensor(encoded.types, [n], 'i64'),
  };
}

/** Only what the graph has inputs for. */
export const pick = (given: Record<string, Tensor>, graph: Graph): Record<string, Tensor> =>
  Object.fromEntries(graph.inputs.flatMap((i) => (given[i.name] ? [[i.name, given[i.name]]] : [])));

/** The program's inputs for an encoded text. */
export const programInputs = (
  client: { readonly before: Graph; readonly firstPosition: number },
  encoded: Encoded,
): Record<string, Tensor> => interpret(client.before, pick(textInputs(encoded, client.firstPosition), client.before));

/** Of two vectors of length 1 as of any others. */
export function cosine(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) throw new RangeError(`vectors of ${a.length} and ${b.length} values`);
  let [ab, aa, bb] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    ab += a[i] * b[i];
    aa += a[i] * a[i];
    bb += b[i] * b[i];
  }
  return aa === 0 || bb === 0 ? 0 : ab / Math.sqrt(aa * bb);
}
