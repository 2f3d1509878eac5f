import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { tinyLanguage } from '../tiny-language.ts';
import { subrosa } from './subrosa.ts';

const cwd = mkdtempSync(join(tmpdir(), 'subrosa-generate-'));
afterAll(() => rmSync(cwd, { recursive: true }));

writeFileSync(join(cwd, 'tiny.gguf'), tinyLanguage());
writeFileSync(join(cwd, 'schema.json'), JSON.stringify({ type: 'object', properties: { n: { type: 'boolean' } }, required: ['n'] }));
writeFileSync(join(cwd, 'no.json'), '[1]');

const generate = async (...args: string[]) => {
  const { code, stdout, stderr } = await subrosa(['generate', 'tiny.gguf', 'The river', '--plain', ...args, '--json'], { cwd });
  expect(stderr).toBe('');
  expect(code).toBe(0);
  return JSON.parse(stdout) as Record<string, unknown> & { text: string; tokens: number[]; prompt_tokens: number[] };
};

describe('generate --plain', () => {
  test('gives one JSON object', async () => {
    const json = await generate('--greedy', '--max-tokens', '6', '--prefix', '<|end|>');
    expect(json).toEqual({
      text: expect.any(String),
      tokens: expect.any(Array),
      prompt_tokens: expect.any(Array),
      prefix_tokens: [0],
      finish: 'length',
      prefill_seconds: expect.any(Number),
      seconds_per_token: expect.any(Number),
      peak_rss: { plain: expect.any(Number) },
    });
    expect(json.tokens.length).toBe(6);
    expect((await generate('--greedy', '--max-tokens', '3', '--prefix', '<|end|>')).tokens).toEqual(json.tokens.slice(0, 3));
    expect((await generate('--greedy', '--max-tokens', '6', '--prefix', '')).prefix_tokens).toEqual([]);
  });
  test('measures a prefix when none is given', async () => {
    expect([[], [0]]).toContainEqual((await generate('--greedy', '--max-tokens', '1')).prefix_tokens);
  });
  test('draws the same for the same seed', async () => {
    const [a, b, c] = await Promise.all(['1', '1', '2'].map((seed) => generate('--seed', seed, '--max-tokens', '12', '--prefix', '')));
    expect(a.tokens).toEqual(b.tokens);
    expect(a.tokens).not.toEqual(c.tokens);
  });
  test('follows a JSON schema', async () => {
    const { text, finish } = await generate('--schema', 'schema.json', '--seed', '5', '--max-tokens', '200', '--prefix', '');
    expect(finish).toBe('stop');
    expect(JSON.parse(text)).toEqual({ n: expect.any(Boolean) });
  });
  test('prints the text alone on stdout, figures on stderr', async () => {
    const { text } = await generate('--greedy', '--max-tokens', '6', '--prefix', '');
    const { stdout, stderr } = await subrosa(
      ['generate', 'tiny.gguf', 'The river', '--plain', '--greedy', '--max-tokens', '6', '--prefix', ''],
      { cwd },
    );
    expect(stdout).toBe(`${text}\n`);
    expect(stderr).toMatch(/6 tokens after \d+; prompt in .* a token/);
  });
});

describe('is refused with exit code 2', () => {
  test.each([
    ['a private run', ['generate', 'tiny.gguf', 'x'], /do not run privately yet\n.*--plain/],
    ['compiling', ['compile', 'tiny.gguf', '-o', 'out'], /tiny\.gguf is a language model.*\n.*subrosa generate tiny\.gguf/],
    ['a model of images', ['generate', 'fashion-vit', 'x', '--plain'], /fashion-vit is no language model/],
    ['an empty prompt', ['generate', 'tiny.gguf', '', '--plain'], /the prompt is empty/],
    ['a prompt too long', ['generate', 'tiny.gguf', 'x '.repeat(300), '--plain', '--prefix', ''], /the model takes 256 with its answer/],
    ['a temperature below 0', ['generate', 'tiny.gguf', 'x', '--plain', '--temperature', '-1'], /a number from 0 to 100/],
    ['a schema that is none', ['generate', 'tiny.gguf', 'x', '--plain', '--schema', 'no.json'], /no\.json: a JSON schema is an object/],
  ])('%s', async (_, args, message) => {
    const { code, stdout, stderr } = await subrosa(args as string[], { cwd });
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr).toMatch(message as RegExp);
  });
});
