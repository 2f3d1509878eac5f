/**
 * Memory that belongs to a session: the rows its gates keep from step to step (gates/cache.ts), for as many rows as the program serves. Each
 * of a session's sequences has a region of its own, laid out alike. Parties keep X and ρ, the dealer the mask.
 */
import { bind } from '../program/bind.ts';
import { mostParams, type Params, type Program } from '../program/program.ts';
import type { Ptr } from '../ring/kernels/kernels.ts';
import type { Prepared, Role } from './model.ts';

/** What of a step its plan does not say: all public parameters, and where the caches of its sequences lie, in their order. */
export interface Moment {
  readonly params: Params;
  readonly caches: readonly Ptr[];
}

interface Layout {
  /** By tensor: words of the region, and where its first vector lies. */
  readonly places: ReadonlyMap<number, { readonly at: number; readonly words: number }>;
  readonly words: number;
}

const layouts = new WeakMap<Program, Layout>();

/** Regions of one vector a cache; a party has two vectors of each (X, ρ), so its regions are twice as long. */
function layoutOf(program: Program): Layout {
  let layout = layouts.get(program);
  if (!layout) {
    const places = new Map<number, { at: number; words: number }>();
    let words = 0;
    for (const g of bind(program, mostParams(program, program.params.sequences && 1)).gates)
      if (g.def.stays)
        for (const { id, size } of g.node.outs) {
          const room = 16 * Math.ceil(size / 16);
          places.set(id, { at: words, words: room });
          words += room;
        }
    layout = { places, words };
    layouts.set(program, layout);
  }
  return layout;
}

const vectors = (role: Role): number => (role === 'dealer' ? 1 : 2);

/** Bytes a sequence of this program needs at a role. They must be zero before its first step. */
export const cacheBytes = (program: Program, role: Role): number => 4 * vectors(role) * layoutOf(program).words;

/** Puts the outputs of the gates that keep rows where the first sequence's region lies; answers how far from it the others' are. */
export function placeCaches({ binding: { program, tensors }, model }: Prepared, caches: readonly Ptr[]): number[] {
  const [from] = caches;
  const n = vectors(model.role);
  for (const [id, { at, words }] of layoutOf(program).places) {
    const t = tensors[id];
    t.at = t.mask = from + 4 * n * at;
    t.rho = t.at + 4 * words;
  }
  return caches.map((at) => at - from);
}
