/** Answers in a terminal: lines, JSON, and how near the plaintext model they come. */
import type { Client } from '../folder/index.ts';
import { sizeOf, type Tensor } from '../graph/graph.ts';
import type { Answer } from '../tasks/answer.ts';
import { cosine } from '../tasks/encoded.ts';
import { bar } from '../tasks/show.ts';
import { oneLine, out, percent, plural } from './terminal.ts';

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
