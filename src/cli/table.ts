import Table from 'cli-table3';
import { out } from './terminal.ts';

/** Columns without lines. */
export function columns(colAligns: ('left' | 'right' | 'center')[], head?: readonly string[]): Table.Table {
  const corners = [
    'top',
    'top-mid',
    'top-left',
    'top-right',
    'bottom',
    'bottom-mid',
    'bottom-left',
    'bottom-right',
    'left-mid',
    'mid',
    'mid-mid',
    'right',
    'right-mid',
  ];
  const chars = { ...Object.fromEntries(corners.map((c) => [c, ''])), left: '  ', middle: '  ' };
  return new Table({
    chars,
    colAligns,
    head: head?.map((h) => out.dim(h)) ?? [],
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 0 },
  });
}

/** The table as text, without blanks at the ends of lines. */
export const drawn = (table: Table.Table): string =>
  table
    .toString()
    .split('\n')
    .map((l) => l.trimEnd())
    .join('\n');
