/** The official Python client, pulled from its registry, against the proxy. */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, expect, test } from 'vitest';
import { serve } from '../proxy-served.ts';

const run = promisify(execFile);
const dir = mkdtempSync(join(tmpdir(), 'subrosa-openai-'));
afterAll(() => rmSync(dir, { recursive: true }));
const pip = await run('python3', ['-m', 'pip', '--version']).then(
  () => true,
  () => false,
);

test.skipIf(!pip)('chats, streams, completes, embeds and hears of errors', async () => {
  await run('python3', ['-m', 'venv', dir]);
  const python = join(dir, 'bin', 'python');
  await run(python, ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', 'openai==3.54.0']);
  const served = await serve();
  try {
    const script = fileURLToPath(new URL('proxy-python.py', import.meta.url));
    const { stdout } = await run(python, [script, served.url, JSON.stringify(served.tiny.tokenizer.ids('}').map(String))]);
    const got = JSON.parse(stdout) as Record<string, unknown> & { embeddings: number[][] };
    expect(got).toMatchObject({
      models: ['tiny', 'bare', 'talker', 'owner/encoder'],
      stream: got.chat,
      tokens: 8,
      completion: 16,
      wrong: [
        [404, 'model'],
        [400, 'temperature'],
      ],
    });
    expect([{ n: 1 }, { n: 2 }]).toContainEqual(got.json);
    expect(got.embeddings.map((e) => Math.hypot(...e))).toEqual([expect.closeTo(1, 5), expect.closeTo(1, 5)]);
  } finally {
    await served.close();
  }
});
