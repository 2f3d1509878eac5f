#!/usr/bin/env node
const [major] = process.versions.node.split('.');
if (Number(major) < 20) {
  process.stderr.write(`subrosa: Node.js 20 or newer is needed, this is ${process.versions.node}\n`);
  process.exit(1);
}
const entry = new URL('../dist/cli/index.js', import.meta.url);
const { existsSync } = await import('node:fs');
if (!existsSync(entry)) {
  process.stderr.write('subrosa: dist/ is not built: npm run build\n');
  process.exit(1);
}
const { main } = await import(entry);
// Not process.exit: what was printed must reach a slow reader.
process.exitCode = await main(process.argv.slice(2));
