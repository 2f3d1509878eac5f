/** What a page gets that imports an entry of this folder. */
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'vite';

export interface Bundle {
  /** What loads at once, and what only when it is needed. */
  readonly entry: string;
  readonly later: readonly string[];
  /** Bytes, compressed: of the entry and what it imports statically. */
  readonly gzip: number;
  readonly laterGzip: number;
  readonly modules: readonly string[];
}

export async function bundle(entry: string): Promise<Bundle> {
  const made = await build({
    configFile: false,
    logLevel: 'error',
    build: {
      write: false,
      modulePreload: false,
      rolldownOptions: { input: fileURLToPath(new URL(entry, import.meta.url)), preserveEntrySignatures: 'strict' },
    },
  });
  const chunks = (Array.isArray(made) ? made : [made]).flatMap((m) => ('output' in m ? m.output : [])).filter((c) => c.type === 'chunk');
  const first = chunks.find((c) => c.isEntry) as (typeof chunks)[number];
  const now = new Set([first.fileName]);
  for (const name of now) for (const next of chunks.find((c) => c.fileName === name)?.imports ?? []) now.add(next);
  const code = chunks
    .filter((c) => now.has(c.fileName))
    .map((c) => c.code)
    .join('');
  const later = chunks.filter((c) => !now.has(c.fileName)).map((c) => c.code);
  const gzip = (text: string): number => gzipSync(text, { level: 9 }).length;
  return {
    entry: code,
    later,
    gzip: gzip(code),
    laterGzip: gzip(later.join('')),
    modules: chunks.flatMap((c) =>
      Object.entries(c.modules).flatMap(([id, m]) =>
        m.renderedLength > 0 && !id.startsWith('\0') ? [id.replace(/^.*\/(src|node_modules)\//, '$1/')] : [],
      ),
    ),
  };
}
