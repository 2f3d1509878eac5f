/** The page's second task in a real browser: sentences searched by meaning, against the plaintext encoder. */
import { fileURLToPath } from 'node:url';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { compiledOf } from '../../src/cli/compiled.ts';
import { readInputs } from '../../src/cli/inputs.ts';
import { fastProducts } from '../../src/graph/fast.ts';
import { interpret } from '../../src/graph/interpret.ts';
import { pull } from '../../src/import/pull/index.ts';
import type { Seen } from '../../src/server/demo.ts';
import { answerOf } from '../../src/tasks/answer.ts';
import { cosine } from '../../src/tasks/text.ts';
import { browser, type Up, up } from '../up.ts';

let cluster: Up;
let chromium: Browser;
beforeAll(async () => {
  await pull('minilm', fileURLToPath(new URL('../../.subrosa/models/minilm', import.meta.url)));
  await compiledOf('minilm', { weights: 'public' });
  [cluster, chromium] = await Promise.all([up(['fashion-vit', 'minilm']), browser()]);
});
afterAll(async () => {
  await chromium?.close();
  await cluster?.end('SIGINT');
});

const sentences = [
  'The ferry was late again.',
  'He paid the rent in cash.',
  'The soup needs more salt.',
  'Our landlord raised the price of the flat.',
];
const query = 'housing costs';

test('sentences are ranked as the plaintext encoder ranks them, and no server received one', async () => {
  expect(cluster.models).toEqual(['fashion-vit', 'minilm']);
  const page = await chromium.newPage({ viewport: { width: 360, height: 740 } });
  const wrong: string[] = [];
  page.on('pageerror', (e) => wrong.push(e.message));
  page.on('console', (m) => m.type() === 'error' && wrong.push(m.text()));
  await page.goto(cluster.web);
  await page.getByRole('tab', { name: 'A picture' }).focus();
  await page.keyboard.press('ArrowRight');
  expect(await page.getByRole('tab', { name: 'Sentences' }).getAttribute('aria-selected')).toBe('true');
  await page.getByLabel('One a line').fill(sentences.join('\n'));
  await page.getByLabel('Search them for').fill(query);
  await page.keyboard.press('Enter');
  await page.locator('.ranking').waitFor({ timeout: 60_000 });

  const folder = await compiledOf('minilm', { weights: 'public' });
  fastProducts();
  const plain = folder.plain();
  const given = await readInputs(folder.client, folder.program, [...sentences, query]);
  const vectors = given.map((g) => answerOf(folder.client, interpret(plain, g.inputs), g).outputs.sentence_embedding.data);
  const expected = sentences
    .map((text, i) => ({ text, score: cosine(vectors[i], vectors[sentences.length]) }))
    .sort((a, b) => b.score - a.score);
  const rows = await page
    .locator('.ranking li')
    .evaluateAll((all) => all.map((li) => [li.firstElementChild?.textContent, li.lastElementChild?.textContent]));
  expect(rows.map(([text]) => text)).toEqual(expected.map((e) => e.text));
  for (const [i, [, score]] of rows.entries()) expect(Number(score)).toBeCloseTo(expected[i].score, 2);
  expect(await page.getByRole('status').last().innerText()).toContain('5 private runs');

  const session = await page.locator('[data-session]').getAttribute('data-session');
  for (const party of cluster.parties) {
    const { received } = (await (await fetch(`${party}/v1/demo/sessions/${session}`)).json()) as Seen;
    for (const { first } of Object.values(received))
      for (const word of query.split(' ')) expect(Buffer.from(first, 'base64').includes(word)).toBe(false);
  }

  // A second query over the same sentences is one run.
  await page.getByLabel('Search them for').fill('a meal');
  await page.keyboard.press('Enter');
  await expect.poll(() => page.locator('.ranking li').first().innerText(), { timeout: 30_000 }).toContain('soup');
  expect(await page.getByRole('status').last().innerText()).toContain('1 private run ');
  expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(360);
  expect(wrong).toEqual([]);
});
