/** Hashes that say whether what an earlier run made still holds. */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { hashOf } from '../folder/index.ts';
import type { BuildOptions } from './compiled.ts';
import { typedEmbedding } from './embedding.ts';
import type { Uncompiled } from './locate.ts';

/** What a folder depends on, as one hash: model files, own calibration files, options, and the code that makes it. */
export function keyOf(at: Uncompiled, options: BuildOptions, code: readonly string[], ...more: unknown[]): string {
  const hash = createHash('sha256');
  const root = fileURLToPath(new URL('..', import.meta.url));
  for (const file of code.flatMap((c) => modules(join(root, c)))) hash.update(readFileSync(file));
  hash.update(JSON.stringify([options.maxTokens ?? 0, ...more]));
  for (const file of sourceFiles(at)) hash.update(`${hashOf(file)}\n`);
  for (const path of options.calibrate ?? []) hash.update(`${path} ${statSync(path, { throwIfNoEntry: false })?.mtimeMs}\n`);
  return hash.digest('hex');
}
export const compileKey = (at: Uncompiled, options: BuildOptions): string =>
  keyOf(
    at,
    options,
    ['compile', 'gates', 'graph', 'import', 'program', 'folder', 'tasks', 'cli'],
    options.weights,
    typedEmbedding(options),
    options.network ?? 'lan',
    options.prefix,
  );

/** Modules in or at a path: .ts from source, .js when built. */
function modules(path: string): string[] {
  if (!existsSync(path)) return ['.ts', '.js'].map((e) => path + e).filter((f) => existsSync(f));
  const files = readdirSync(path, { recursive: true }).map(String);
  return files
    .filter((f) => /\.(js|ts)$/.test(f) && !f.endsWith('.d.ts'))
    .sort()
    .map((f) => join(path, f));
}

/** Every file the import may read: what a cached compile depends on. */
function sourceFiles(at: Uncompiled): string[] {
  const described = /\.(json|jinja|onnx_data)$|^\d+_/;
  const list = (dir: string): string[] =>
    readdirSync(dir, { withFileTypes: true }).flatMap((e) => {
      const path = join(dir, e.name);
      if (e.isDirectory()) return /^\d+_/.test(e.name) ? list(path) : [];
      return described.test(e.name) || e.name.endsWith('.safetensors') || dir.match(/[\\/]\d+_\w+$/) ? [path] : [];
    });
  if (at.kind === 'folder') return list(at.dir).sort();
  if (at.kind === 'gguf') return [at.file];
  const near = at.dirs.flatMap((dir) =>
    ['config.json', 'preprocessor_config.json', 'tokenizer.json', 'tokenizer_config.json', 'model.onnx_data'].map((f) => join(dir, f)),
  );
  return [at.file, at.file.replace(/\.onnx$/, '.json'), `${at.file}_data`, ...near].filter(
    (f, i, all) => existsSync(f) && all.indexOf(f) === i,
  );
}
