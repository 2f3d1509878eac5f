/** A private decoder against the plaintext one, both fed what the plaintext says: every token of both is compared, after a difference too. */
import type { CompiledFolder } from '../../src/folder/index.ts';
import { fastProducts } from '../../src/graph/fast.ts';
import { startCluster } from '../../src/session/cluster.ts';
import { likeliest, limitsOf, logProbabilities, plainDecoder, prefixCaches, privateDecoder } from '../../src/tasks/generate/index.ts';
import type { TextTokenizer } from '../../src/tasks/text.ts';

export interface Difference {
  readonly prompt: string;
  readonly at: number;
  /** Nats between the plaintext's two likeliest tokens. */
  readonly margin: number;
}
export interface Taught {
  readonly tokens: number;
  /** Where the likeliest tokens are not the same. */
  readonly differences: readonly Difference[];
  /** Σ p·log(p/q) of each token, p the plaintext's. */
  readonly kl: readonly number[];
  readonly prefillSeconds: readonly number[];
  readonly tokenSeconds: readonly number[];
}

export async function teach(folder: CompiledFolder, tokenizer: TextTokenizer, prompts: readonly string[], tokens: number): Promise<Taught> {
  fastProducts();
  const { client, program } = folder;
  const model = { graph: folder.plain(), client, meta: { maxTokens: client.maxTokens } };
  const caches = prefixCaches(model, client.generation?.prefix ?? []);
  const [differences, kl, prefillSeconds, tokenSeconds]: [Difference[], number[], number[], number[]] = [[], [], [], []];
  const cluster = await startCluster(folder.dir, { timeoutSeconds: 120 });
  try {
    const decoder = privateDecoder(async (inputs, params) => (await cluster.run(inputs, params)).outputs, client, limitsOf(program.params));
    const start = decoder.length;
    for (const prompt of prompts) {
      decoder.rewind(start);
      const plain = plainDecoder(model, caches);
      let next: readonly number[] = tokenizer.ids(prompt);
      for (let at = 0; at < tokens; at++) {
        const p = logProbabilities(await plain.step(next));
        const from = performance.now();
        const logits = await decoder.step(next);
        (at === 0 ? prefillSeconds : tokenSeconds).push((performance.now() - from) / 1000);
        const q = logProbabilities(logits);
        kl.push(p.reduce((sum, lp, i) => sum + Math.exp(lp) * (lp - q[i]), 0));
        const [best, second] = likeliest(p, 2);
        if (likeliest(q, 1)[0].id !== best.id) differences.push({ prompt, at, margin: best.logprob - second.logprob });
        next = [best.id];
      }
    }
  } finally {
    await cluster.close();
  }
  return { tokens: kl.length, differences, kl, prefillSeconds, tokenSeconds };
}

export const mean = (v: readonly number[]): number => v.reduce((a, b) => a + b, 0) / v.length;
