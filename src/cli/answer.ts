/** From reconstructed outputs to the answer a person wants: the client's last graph, then words. */
import type { Client } from '../folder/index.ts';
import { sizeOf, type Tensor } from '../graph/graph.ts';
import { interpret } from '../graph/interpret.ts';
import { bar } from '../tasks/show.ts';
import { cosine, type Ranked, top } from '../tasks/text.ts';
import type { Given } from './inputs.ts';
import { oneLine, out, percent, plural } from './terminal.ts';

export interface Answer {
  /** The program's outputs and what the client made of them, by name. */
  readonly outputs: Record<string, Tensor>;
  /** Most likely first. */
  readonly classes?: readonly Ranked[];
  /** A word an entry: tokens with their labels, or an answer's span. */
  readonly tokens?: readonly { readonly token: string; readonly label: string; readonly probability: number }[];
  readonly span?: { readonly text: string; readonly probability: number };
}

export const asTensor = (x: { readonly shape: readonly number[]; readonly data: ArrayLike<number> }): Tensor => ({
  dtype: 'f32',
  shape: x.shape,
  data: Float32Array.from(x.data),
});

export function answerOf(client: Client, results: Readonly<Record<string, Tensor>>, given?: Given): Answer {
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

function labelled(p: Tensor, client: Client, tokens: readonly string[]): Answer['tokens'] {
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

/** Values a person's JSON has: those of small outputs, 8 digits each. */
export const outputsJson = (
  outputs: Readonly<Record<string, Tensor>>,
  most = 4096,
): Record<string, { shape: readonly number[]; data?: number[] }> =>
  Object.fromEntries(
    Object.entries(outputs).map(([name, t]) => [
      name,
      { shape: t.shape, ...(sizeOf(t.shape) <= most ? { data: Array.from(t.data, (v) => Number(v.toPrecision(8))) } : {}) },
    ]),
  );

/** The answer in lines for stdout. */
export function answerLines(client: Client, answer: Answer): string[] {
  if (answer.classes) {
    const shown = answer.classes.slice(0, Math.min(5, answer.classes.length));
    const width = Math.max(...shown.map((c) => c.label.length));
    return shown.map(
      (c, i) =>
        `  ${(i === 0 ? out.bold : out.dim)(oneLine(c.label).padEnd(Math.min(60, width)))}  ${bar(c.probability)} ${percent(c.probability)}`,
    );
  }
  if (answer.span) return [`  ${out.bold(answer.span.text)}  ${percent(answer.span.probability)}`];
  if (answer.tokens) return answer.tokens.map((t) => `  ${t.token.padEnd(20)} ${t.label.padEnd(12)} ${percent(t.probability)}`);
  const names =
    client.task === 'sentence-embedding' && answer.outputs.sentence_embedding ? ['sentence_embedding'] : Object.keys(answer.outputs);
  return names.map((name) => {
    const { shape, data } = answer.outputs[name];
    const first = Array.from(data.subarray(0, 6), (v) => v.toFixed(4));
    return `  ${name} [${shape.join(', ')}]  ${first.join(' ')}${data.length > 6 ? ` … ${plural(data.length, 'value')}` : ''}`;
  });
}

/** Cosines between the embeddings of all inputs; undefined for fewer than two, or when the task makes none. */
export function similarities(answers: readonly Answer[]): number[][] | undefined {
  const vectors = answers.map((a) => a.outputs.sentence_embedding?.data);
  if (vectors.length < 2 || vectors.some((v) => v === undefined)) return undefined;
  return vectors.map((a) => vectors.map((b) => cosine(a as Float32Array, b as Float32Array)));
}

export interface Check {
  readonly cosine: number;
  readonly max_abs: number;
  /** Does the plaintext model name the same class first? */
  readonly same_label?: boolean;
  readonly plain_label?: string;
  readonly outputs: Record<string, { cosine: number; max_abs: number }>;
}

/** The private answer against the plaintext model's. */
export function compare(answer: Answer, plain: Answer): Check {
  const outputs = Object.fromEntries(
    Object.entries(plain.outputs).map(([name, p]) => {
      const data = answer.outputs[name].data;
      let most = 0;
      for (let i = 0; i < p.data.length; i++) most = Math.max(most, Math.abs(p.data[i] - data[i]));
      return [name, { cosine: cosine(p.data, data), max_abs: most }];
    }),
  );
  const all = Object.values(outputs);
  const label = plain.classes?.[0].label;
  return {
    cosine: Math.min(...all.map((o) => o.cosine)),
    max_abs: Math.max(...all.map((o) => o.max_abs)),
    ...(label === undefined ? {} : { same_label: answer.classes?.[0].label === label, plain_label: label }),
    outputs,
  };
}
