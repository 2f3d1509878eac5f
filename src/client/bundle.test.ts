import { expect, test } from 'vitest';
import { bundle } from './bundle.case.ts';

test('subrosa/client in a page: small, and nothing of Node, of zod or of the servers in it', async () => {
  const { entry, gzip, later, modules } = await bundle('./index.ts');
  console.log(`subrosa/client: ${gzip} bytes gzip, of ${modules.join(', ')}`);
  expect(gzip).toBeLessThan(8 * 1024);
  expect(later).toEqual([]);
  expect(entry).not.toMatch(/node:|__vite|process\.|Buffer\b|SharedArrayBuffer|WebAssembly|Math\.random/);
  for (const id of modules) expect(id).toMatch(/^src\/(client|program|gates\/gate)/);
});
