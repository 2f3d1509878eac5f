/**
 * Compiles src/ring/kernels/assembly to dist/ring/kernels: one module for a plain memory, one for a shared memory (WebAssembly gives an
 * imported memory one kind or the other). Nothing is done when the modules are newer than their sources.
 */
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, renameSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import asc from 'assemblyscript/asc';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const sources = join(root, 'src/ring/kernels/assembly');
const out = join(root, 'dist/ring/kernels');
const modules = [
  { file: join(out, 'kernels.wasm'), flags: [] },
  { file: join(out, 'kernels.shared.wasm'), flags: ['--enable', 'threads', '--sharedMemory', '--maximumMemory', '65536'] },
];

const modified = (path) => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
const newest = Math.max(modified(fileURLToPath(import.meta.url)), ...readdirSync(sources).map((name) => modified(join(sources, name))));

mkdirSync(out, { recursive: true });
for (const { file, flags } of modules) {
  if (modified(file) < newest) {
    // Compiled beside and moved into place, so that nobody reads half a module.
    const fresh = file.replace(/\.wasm$/, `.${process.pid}.wasm`);
    const { error, stderr } = await asc.main([
      join(sources, 'index.ts'),
      '--outFile',
      fresh,
      '-O3',
      '--noAssert',
      '--runtime',
      'stub',
      '--use',
      'abort=',
      '--enable',
      'simd',
      '--importMemory',
      '--initialMemory',
      '1',
      '--noExportMemory',
      ...flags,
    ]);
    if (error) {
      process.stderr.write(`${stderr}\n`);
      process.exit(1);
    }
    renameSync(fresh, file);
  }
  const bytes = readFileSync(file);
  console.log(`${file.slice(root.length + 1)}: ${bytes.length} bytes, sha256 ${createHash('sha256').update(bytes).digest('hex')}`);
}
