import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { tinyLanguage } from '../tiny-language.ts';
import { models, subrosa } from './subrosa.ts';

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

const ran = async (args: readonly string[], stdin?: string): Promise<string> => {
  const { code, stdout, stderr } = await subrosa(args, { cwd, stdin });
  expect([code, code === 0 ? '' : stderr]).toEqual([0, '']);
  return stdout;
};
const template = '{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:';
writeFileSync(join(cwd, 'talks.gguf'), tinyLanguage([['tokenizer.chat_template', template]]));
writeFileSync(join(cwd, 'texts.txt'), readFileSync(join(models, 'calibration/heldout.jsonl'), 'utf8'));
const compile = (model: string, to: string, ...args: string[]): Promise<string> =>
  ran(['compile', model, '-o', to, '--max-tokens', '128', '--prefix', '<|end|>', '--calibrate', 'texts.txt', ...args]);
beforeAll(async () => {
  await Promise.all([
    compile('talks.gguf', 'public'),
    compile('tiny.gguf', 'private', '--weights', 'private', '--embedding', 'one-hot'),
    compile('tiny.gguf', 'keyed', '--weights', 'private', '--embedding', 'dpf'),
  ]);
}, 120_000);

describe('in real processes', () => {
  // Words that differ from each other: the tiny model says one again and again.
  const asked = ['--greedy', '--repetition-penalty', '2', '--max-tokens', '10', '--json'];
  test.each(['public', 'private', 'keyed'])('%s weights: the words of the plaintext', async (dir) => {
    // Longer than a step: it goes in pieces.
    const prompt = 'The river runs on and on. '.repeat(5);
    const there = JSON.parse(await ran(['generate', dir, prompt, ...asked]));
    const { tokens, text, prompt_tokens, prefix_tokens } = JSON.parse(await ran(['generate', dir, prompt, ...asked, '--plain']));
    expect(prompt_tokens.length).toBeGreaterThan(64);
    expect(new Set(tokens).size).toBeGreaterThan(5);
    const role = expect.any(Number);
    expect(there).toEqual({
      text,
      tokens,
      prompt_tokens,
      prefix_tokens,
      finish: 'length',
      prefill_seconds: role,
      seconds_per_token: role,
      rounds_per_token: role,
      bytes_per_token: role,
      setup_seconds: role,
      peak_rss: { p0: role, p1: role, dealer: role },
    });
    const { decode } = JSON.parse(await ran(['cost', dir, '--tokens', `${prompt_tokens.length + 9}`, '--json']));
    expect(there.rounds_per_token).toBe(decode.rounds);
    expect(there.bytes_per_token / (decode.bytes.p0p1 + decode.bytes.dealer + decode.bytes.client)).toBeCloseTo(1, 1);
  });
  test('inspect holds every layer against the plaintext, and of the last one its last row', async () => {
    const report = JSON.parse(await ran(['inspect', 'public', 'The river runs', '--json'])) as {
      layers: { layer: string }[];
      gates: { layer: string; outputs: { shape: number[]; relative?: number }[] }[];
    };
    const layers = report.layers.map((l) => l.layer).filter((l) => /^layers\.\d+\.mlp$/.test(l));
    expect(layers.length).toBeGreaterThan(1);
    for (const layer of layers) {
      const compared = report.gates.filter((g) => g.layer === layer).flatMap((g) => g.outputs.filter((o) => o.relative !== undefined));
      expect(Math.max(...compared.map((o) => o.relative as number)), layer).toBeLessThan(0.1);
      expect(compared.every((o) => (o.shape[0] === 1) === (layer === layers.at(-1)))).toBe(true);
    }
  });
  test('a conversation from a pipe: each answer goes on from all that was said', async () => {
    const talk = await ran(
      ['chat', 'public', '--greedy', '--max-tokens', '4', '--repetition-penalty', '2'],
      'Hello\n\nAnd you?\n/quit\nnever\n',
    );
    const [first, second, ...none] = talk.split('\n');
    expect(none).toEqual(['']);
    const goesOn = async (prompt: string): Promise<string> =>
      JSON.parse(await ran(['generate', 'public', prompt, ...asked.with(4, '4'), '--plain'])).text;
    expect(first).toBe(await goesOn('user: Hello\nassistant:'));
    expect(second).toBe(await goesOn(`user: Hello\nassistant: ${first}\nuser: And you?\nassistant:`));
  });
});

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
    ['a program that is compiled, with another prefix', ['generate', 'public', 'x', '--prefix', 'a'], /public is compiled already/],
    ['a prompt longer than the program takes', ['generate', 'public', 'x '.repeat(100)], /after 1; the model takes 128 with its answer/],
    ['one answer of a language model', ['run', 'public', 'x'], /is a language model.*\n.*subrosa generate/],
    ['talking without a template', ['chat', 'private'], /has no chat template/],
    ['another kind of weights', ['generate', 'public', 'x', '--weights', 'private'], /compiled with public weights/],
    [
      'samples that are no texts',
      ['compile', 'tiny.gguf', '-o', 'out', '--calibrate', 'schema.json'],
      /schema\.json: a language model is calibrated on texts/,
    ],
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
