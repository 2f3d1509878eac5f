/** subrosa proxy as a person runs it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import OpenAI from 'openai';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import { subrosa } from './cli/subrosa.ts';
import { template } from './proxy-served.ts';
import { tinyLanguage } from './tiny-language.ts';

const cwd = mkdtempSync(join(tmpdir(), 'subrosa-proxy-'));
writeFileSync(join(cwd, 'tiny.gguf'), tinyLanguage([['tokenizer.chat_template', template]]));
const bin = fileURLToPath(new URL('../bin/subrosa.js', import.meta.url));
let child: ChildProcess | undefined;
afterEach(() => child?.kill('SIGKILL'));
afterAll(() => rmSync(cwd, { recursive: true }));

test('prints one line when it is ready, answers, and ends when told', async () => {
  child = spawn(process.execPath, [bin, 'proxy', 'tiny.gguf', '--plain', '--port', '0', '--json'], {
    cwd,
    env: { ...process.env, SUBROSA_API_KEY: 'secret' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stdout = '';
  const line = new Promise<string>((resolve, reject) => {
    child?.stdout?.on('data', (d) => {
      stdout += d;
      if (stdout.includes('\n')) resolve(stdout);
    });
    child?.once('exit', (code) => reject(new Error(`it ended (${code}) and printed '${stdout}'`)));
  });
  const { url, models } = JSON.parse(await line) as { url: string; models: string[] };
  expect(url).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/v1$/);
  expect(models).toEqual(['tiny']);
  const ask = (apiKey: string) =>
    new OpenAI({ baseURL: url, apiKey, maxRetries: 0 }).chat.completions.create({
      model: 'tiny',
      messages: [{ role: 'user', content: 'Hi' }],
      max_tokens: 3,
    });
  expect((await ask('secret')).usage?.completion_tokens).toBe(3);
  await expect(ask('other')).rejects.toBeInstanceOf(OpenAI.AuthenticationError);
  const ended = new Promise((resolve) => child?.once('exit', resolve));
  child.kill('SIGTERM');
  expect(await ended).toBe(0);
  expect(stdout.trim().split('\n')).toHaveLength(1);
});

describe('is refused with exit code 2', () => {
  test.each([
    ['without a model', [], /no model to serve/],
    ['one URL', ['--parties', 'https://p0.example.org', '--model', 'x'], /two URLs with a comma/],
    ['parties without a model', ['--parties', 'https://a.example,https://b.example'], /--parties without a --model/],
    ['an open port without a key', ['tiny.gguf', '--plain', '--host', '0.0.0.0'], /0\.0\.0\.0 can be reached by others: a key is needed/],
    ['a model of images', ['fashion-vit', '--plain'], /fashion-vit is for image-classification/],
    ['shares over plain HTTP', ['--parties', 'http://a.example,http://b.example', '--model', 'x'], /https is expected/],
  ])('%s', async (_, args, message) => {
    const { code, stdout, stderr } = await subrosa(['proxy', ...args, '--port', '0'], { cwd });
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr).toMatch(message);
  });
  test('a port that is taken', async () => {
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
    const { port } = taken.address() as { port: number };
    const { code, stderr } = await subrosa(['proxy', 'tiny.gguf', '--plain', '--port', `${port}`], { cwd });
    taken.close();
    expect([code, stderr]).toEqual([2, expect.stringContaining(`port ${port} is in use`)]);
  });
});
