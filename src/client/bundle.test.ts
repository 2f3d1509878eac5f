import { expect, test } from 'vitest';
import { bundle } from './bundle.case.ts';

test('subrosa/client in a page: small, and nothing of Node, of zod or of the servers in it', async () => {
  const { entry, gzip, later, modules } = await bundle('./index.ts');
  console.log(`subrosa/client: ${gzip} bytes gzip, of ${modules.length} modules`);
  expect(gzip).toBeLessThan(8 * 1024);
  expect(later).toEqual([]);
  expect(entry).not.toMatch(/node:|__vite|process\.|\bBuffer\b|SharedArrayBuffer|WebAssembly|Math\.random/);
  for (const id of modules) expect(id).toMatch(/^src\/(client|program|gates\/gate|ring\/(dpf|kernels\/plain\/(chacha|dpf)))/);
});

test('subrosa/client/pipeline: the interpreter is in it, the tokenizer comes when it is needed', async () => {
  const { entry, gzip, later, laterGzip, modules } = await bundle('./pipeline.ts');
  console.log(`subrosa/client/pipeline: ${gzip} bytes gzip, and ${laterGzip} later, of ${modules.length} modules`);
  expect(gzip).toBeLessThan(32 * 1024);
  expect(later.length).toBeGreaterThan(0);
  expect(entry).not.toMatch(/node:|__vite-browser-external|process\.|\bBuffer\b|SharedArrayBuffer|Math\.random/);
  for (const id of modules)
    expect(id).toMatch(
      /^src\/(client|program|graph|tasks|gates\/gate|import\/(safetensors|graph-json)|ring\/(dpf|kernels\/(memory|kernels|plain\/(chacha|dpf))))|^node_modules\/@huggingface\/tokenizers/,
    );
});
