/** The demo page: one script, one style sheet, nothing from anywhere else. `subrosa up` serves dist/web. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { defineConfig, type Plugin } from 'vite';

const path = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url));

/** `virtual:samples`: the first picture of each class of the shipped test images, in the order of the classes; 28×28 bytes each, base64. */
function samples(): Plugin {
  const name = 'virtual:samples';
  return {
    name: 'samples',
    resolveId: (id) => (id === name ? `\0${name}` : undefined),
    load(id) {
      if (id !== `\0${name}`) return undefined;
      const bytes = readFileSync(path('../models/fashion-test-200.bin'));
      const { labels } = JSON.parse(readFileSync(path('../models/fashion-vit.json'), 'utf8')) as { labels: string[] };
      const count = bytes.length / 785;
      const all = labels.map((label, i) => {
        const at = count + 784 * bytes.subarray(0, count).indexOf(i);
        return { label, pixels: bytes.toString('base64', at, at + 784) };
      });
      return `export default ${JSON.stringify(all)}`;
    },
  };
}

export default defineConfig({
  root: path('.'),
  base: './',
  plugins: [samples()],
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
  // Data URLs would need a wider content security policy.
  build: {
    outDir: path('../dist/web'),
    emptyOutDir: true,
    target: 'es2022',
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: true,
  },
});
