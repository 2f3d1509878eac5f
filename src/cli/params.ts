/** A program's public parameters, at their largest and in words. */
import type { Program } from '../program/program.ts';

/** Of a decoder: its longest step into caches that are full after it. */
export function largest({ params }: Pick<Program, 'params'>): Record<string, number> {
  const most = Object.fromEntries(Object.entries(params).map(([name, { max }]) => [name, max]));
  return params.past ? { ...most, past: most.past - most.n } : most;
}

export const atText = (params: Readonly<Record<string, number>>): string =>
  Object.entries(params)
    .map(([name, v]) => `${name} = ${v}`)
    .join(', ');
