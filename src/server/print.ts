/** A configuration as text: all that counts, each key under what it means. It is a TOML file again, once the secrets are put back in. */
import { stringify } from 'smol-toml';
import { z } from 'zod';
import { bare, type Config, ConfigSchema, metaOf } from './schema.ts';

export interface KeyRow {
  /** 'links.key'. */
  readonly key: string;
  /** As TOML; undefined where there is none. */
  readonly fallback?: string;
  readonly required: boolean;
  readonly live: boolean;
  readonly doc: string;
}

/** Sections in order, each with its keys: the tables of docs/operate.md. */
export function configKeys(): { readonly section: string; readonly doc: string; readonly rows: readonly KeyRow[] }[] {
  const entries = Object.entries(ConfigSchema.shape) as [string, z.ZodType][];
  const top = entries.filter(([, s]) => !(bare(s) instanceof z.ZodObject));
  const sections = entries.filter(([, s]) => bare(s) instanceof z.ZodObject);
  const row = (key: string, schema: z.ZodType): KeyRow => {
    const fallback = schema instanceof z.ZodDefault ? toml(schema.def.defaultValue) : undefined;
    const { live = false, description = '' } = metaOf(schema);
    return { key, fallback, required: fallback === undefined && !(schema instanceof z.ZodOptional), live, doc: description };
  };
  return [
    { section: '', doc: 'First lines', rows: top.map(([k, s]) => row(k, s)) },
    ...sections.map(([section, s]) => ({
      section,
      doc: metaOf(s).description ?? '',
      rows: Object.entries((bare(s) as z.ZodObject).shape).map(([k, inner]) => row(`${section}.${k}`, inner as z.ZodType)),
    })),
  ];
}

/** The tables of docs/operate.md. */
export function configTables(): string {
  const cell = (text: string): string => text.replaceAll('|', '\\|');
  const tables = configKeys().map(({ section, doc, rows }) => {
    const lines = rows.map(
      ({ key, fallback, required, live, doc: meaning }) =>
        `| \`${key}\` | ${required ? 'required' : fallback === undefined ? '' : `\`${fallback}\``} | ${live ? '✓' : ''} | ${cell(meaning)} |`,
    );
    return `**${doc}**${section ? ` \`[${section}]\`` : ''}\n\n| key | default | live | |\n|---|---|---|---|\n${lines.join('\n')}\n`;
  });
  return tables.join('\n');
}

export function configText(config: Config): string {
  const lines: string[] = [];
  for (const { section, doc, rows } of configKeys()) {
    const values = (section ? config[section as keyof Config] : config) as Record<string, unknown> | undefined;
    if (section) lines.push('', `# ${doc}`, values === undefined ? `# [${section}]` : `[${section}]`);
    for (const { key, live, doc: meaning } of rows) {
      const name = key.slice(key.lastIndexOf('.') + 1);
      const value = values?.[name];
      lines.push(
        `# ${meaning}${live ? ' (live)' : ''}`,
        value === undefined ? `# ${name} =` : `${name} = ${toml(shown(schemaOf(section, name), value))}`,
      );
    }
  }
  return `${lines.join('\n')}\n`;
}

function schemaOf(section: string, name: string): z.ZodType {
  const shape = ConfigSchema.shape as Record<string, z.ZodType>;
  return section ? (bare(shape[section]) as z.ZodObject).shape[name] : shape[name];
}

function shown(schema: z.ZodType, value: unknown): unknown {
  if (metaOf(schema).hidden) return '(not shown)';
  const s = bare(schema);
  if (s instanceof z.ZodArray && Array.isArray(value)) return value.map((v) => shown(s.element as z.ZodType, v));
  if (!(s instanceof z.ZodObject) || typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, shown(s.shape[k], v)]));
}

/** A value on one line. */
function toml(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(toml).join(', ')}]`;
  if (typeof value === 'object' && value !== null) {
    const entries = Object.entries(value).filter(([, v]) => v !== undefined);
    return `{ ${entries.map(([k, v]) => `${k} = ${toml(v)}`).join(', ')} }`;
  }
  return stringify({ v: value }).trim().slice('v = '.length);
}
