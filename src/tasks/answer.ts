/** From reconstructed outputs to the answer a person wants: the client's last graph, then words. The same on the command line and in a page. */
import type { Graph, Tensor } from '../graph/graph.ts';
import { interpret } from '../graph/interpret.ts';
import type { Encoded } from './encoded.ts';

export interface Ranked {
  readonly label: string;
  readonly probability: number;
}

export interface Answer {
  /** The program's outputs and what the client made of them, by name. */
  readonly outputs: Record<string, Tensor>;
  /** Most likely first. */
  readonly classes?: readonly Ranked[];
  /** A word an entry: tokens with their labels, or an answer's span. */
  readonly tokens?: readonly { readonly token: string; readonly label: string; readonly probability: number }[];
  readonly span?: { readonly text: string; readonly probability: number };
}

/** What the answer needs of a model's client/. */
export interface Answering {
  readonly task: string;
  readonly labels: readonly string[];
  readonly after: Graph;
}

export const asTensor = (x: { readonly shape: readonly number[]; readonly data: ArrayLike<number> }): Tensor => ({
  dtype: 'f32',
  shape: x.shape,
  data: Float32Array.from(x.data),
});

export function answerOf(client: Answering, results: Readonly<Record<string, Tensor>>, given?: { readonly encoded?: Encoded }): Answer {
  const wanted = Object.fromEntries(client.after.inputs.map((i) => [i.name, results[i.name]]));
  const made = client.after.nodes.length > 0 ? interpret(client.after, wanted) : {};
  const { normalized_embedding: normalized, ...rest } = made;
  // What the world calls a sentence embedding has length 1 where the model says so.
  const outputs: Record<string, Tensor> = { ...results, ...rest, ...(normalized ? { sentence_embedding: normalized } : {}) };
  const p = outputs.probabilities;
  if (p && /classification$/.test(client.task) && client.task !== 'token-classification')
    return { outputs, classes: top(p.data, client.labels, p.data.length) };
  if (p && client.task === 'token-classification' && given?.encoded) return { outputs, tokens: labelled(p, client, given.encoded.tokens) };
  if (p && client.task === 'question-answering' && given?.encoded)
    return { outputs, span: spanOf(p, given.encoded.tokens, given.encoded.types) };
  return { outputs };
}

/** The k likeliest classes of one row of probabilities. */
export function top(probabilities: ArrayLike<number>, labels: readonly string[], k = 5): Ranked[] {
  const all = Array.from(probabilities, (probability, i) => ({ label: labels[i] ?? `${i}`, probability }));
  return all.sort((a, b) => b.probability - a.probability).slice(0, k);
}

function labelled(p: Tensor, client: Answering, tokens: readonly string[]): Answer['tokens'] {
  const k = client.labels.length;
  return tokens.map((token, i) => {
    const [{ label, probability }] = top(p.data.subarray(i * k, (i + 1) * k), client.labels, 1);
    return { token, label, probability };
  });
}

/** The likeliest span of the context: start and end chosen together, at most 30 tokens apart. */
function spanOf(p: Tensor, tokens: readonly string[], types: readonly number[]): Answer['span'] {
  let best = { from: 0, to: 0, probability: -1 };
  const context = types.some((t) => t === 1) ? (i: number): boolean => types[i] === 1 : (): boolean => true;
  for (let i = 0; i < tokens.length; i++)
    for (let j = i; j < Math.min(tokens.length, i + 30); j++) {
      const probability = p.data[2 * i] * p.data[2 * j + 1];
      if (context(i) && context(j) && probability > best.probability) best = { from: i, to: j, probability };
    }
  const text = tokens
    .slice(best.from, best.to + 1)
    .join(' ')
    .replace(/ ##/g, '')
    .replace(/[ĠĊ▁]/g, ' ')
    .replace(/\s+/g, ' ')
    .trim();
  return { text, probability: best.probability };
}
