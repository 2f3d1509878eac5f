/** A program's public parameters, at their largest and in words. */
import { mostParams, type Program } from '../program/program.ts';

/** Of a decoder: its longest step into caches that are full after it. */
export function largest({ params }: Pick<Program, 'params'>): Record<string, number> {
  const most = mostParams({ params }, params.sequences && 1);
  return params.past ? { ...most, past: most.past - most.n, slot: 0 } : { ...most };
}

export const atText = (params: Readonly<Record<string, number>>): string =>
  Object.entries(params)
    .map(([name, v]) => `${name} = ${v}`)
    .join(', ');
