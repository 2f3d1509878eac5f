import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { subrosa } from './subrosa.ts';

const cwd = mkdtempSync(join(tmpdir(), 'subrosa-cli-'));
afterAll(() => rmSync(cwd, { recursive: true }));
const names = ['pull', 'compile', 'run', 'cost', 'inspect', 'demo', 'keys', 'protect', 'deploy', 'up'];

describe('help', () => {
  test('lists every command and ends with examples', async () => {
    const { code, stdout, stderr } = await subrosa(['--help']);
    expect([code, stderr]).toEqual([0, '']);
    for (const name of names) expect(stdout).toMatch(new RegExp(`^ {2}${name}\\b`, 'm'));
    expect(stdout).toContain('$ subrosa demo');
  });
  test('of each command has an example of it, and no line wider than a screen', async () => {
    const all = await Promise.all(names.map((name) => subrosa([name, '--help'])));
    for (const [i, { code, stdout }] of all.entries()) {
      expect(code).toBe(0);
      expect(stdout).toContain(`$ subrosa ${names[i]}`);
      expect(Math.max(...stdout.split('\n').map((l) => l.length))).toBeLessThanOrEqual(90);
    }
  });
  test('without a command goes to stderr, with exit code 2', async () => {
    const { code, stdout, stderr } = await subrosa([]);
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr).toContain('Usage: subrosa');
  });
});

test('--version prints the version of package.json and nothing else', async () => {
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string };
  expect(await subrosa(['--version'])).toEqual({ code: 0, stdout: `${version}\n`, stderr: '' });
});

describe('what is wrong with a command line or a file is one line on stderr, a hint, and exit code 2', () => {
  const wrong: [string, string[], RegExp][] = [
    ['an unknown command', ['comple', 'x'], /unknown command 'comple'\n.*compile/],
    ['an unknown option', ['run', 'm', 'x', '--jsn'], /unknown option '--jsn'\n.*--json/],
    ['a missing argument', ['compile'], /missing required argument 'model'/],
    ['one argument too many', ['cost', 'a', 'b'], /too many arguments/],
    ['weights of a third kind', ['compile', 'm', '--weights', 'secret'], /'secret' is invalid.*public, private/],
    ['a number that is none', ['run', 'm', 'x', '--threads', 'many'], /'many' is invalid: a whole number/],
    ['a timeout of nothing', ['run', 'm', 'x', '--timeout', '0'], /'0' is invalid: a number of seconds/],
    ['a model nobody knows', ['run', 'nomodel', 'x'], /no model 'nomodel'.*\n.*known names: fashion-vit/],
    ['a known model that was not pulled', ['run', 'bge-small', 'x'], /bge-small is not here yet\n.*subrosa pull bge-small/],
    ['a picture as a model', ['compile', 'picture.png'], /picture\.png is not a model/],
    ['an empty folder as a model', ['cost', 'empty'], /empty holds no model\n.*config\.json/],
    ['weights without their config', ['compile', 'model.safetensors'], /give the folder/],
    ['an ONNX file that is none', ['compile', 'broken.onnx'], /^subrosa: broken\.onnx: /],
    ['an empty ONNX file', ['compile', 'empty.onnx'], /empty\.onnx: the ONNX file is empty/],
    ['a config that is no JSON', ['compile', 'badconfig'], /config\.json: not JSON/],
    ['a program that is none', ['cost', 'badprogram'], /program\.json: /],
    ['a pull of a path', ['pull', '../..'], /no model's name/],
  ];
  mkdirSync(join(cwd, 'empty'));
  mkdirSync(join(cwd, 'badconfig'));
  mkdirSync(join(cwd, 'badprogram'));
  writeFileSync(join(cwd, 'picture.png'), 'no picture');
  writeFileSync(join(cwd, 'model.safetensors'), 'x');
  writeFileSync(join(cwd, 'broken.onnx'), 'not protobuf at all');
  writeFileSync(join(cwd, 'empty.onnx'), '');
  writeFileSync(join(cwd, 'badconfig', 'config.json'), '{');
  writeFileSync(join(cwd, 'badconfig', 'model.safetensors'), 'x');
  writeFileSync(join(cwd, 'badprogram', 'program.json'), '{"format":"other"}');
  test.each(wrong)('%s', async (_, args, message) => {
    const { code, stdout, stderr } = await subrosa(args, { cwd });
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr).toMatch(/^subrosa: /);
    expect(stderr).toMatch(message);
    expect(stderr).not.toMatch(/^\s+at /m);
  });
  test('SUBROSA_DEBUG=1 shows where it happened', async () => {
    const { code, stderr } = await subrosa(['compile', 'broken.onnx'], { cwd, env: { SUBROSA_DEBUG: '1' } });
    expect(code).toBe(2);
    expect(stderr).toMatch(/^\s+at /m);
  });
});
