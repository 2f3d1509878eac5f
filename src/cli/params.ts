/** A program's public parameters, at their largest and in words. */
import type { Program } from '../program/program.ts';

export const largest = (program: Program): Record<string, number> =>
  Object.fromEntries(Object.entries(program.params).map(([name, { max }]) => [name, max]));

export const atText = (params: Readonly<Record<string, number>>): string =>
  Object.entries(params)
    .map(([name, v]) => `${name} = ${v}`)
    .join(', ');
