/**
 * What a row may see of those before it. Row i of a step stands at position past+i, and sees the positions up to its own, the last
 * `window` of them where there is a window. Both gates are public linear maps on each party's own words: nothing is opened, nothing drawn.
 */
import { free, type Gate, type Params } from './gate.ts';

export interface SeenAttrs {
  /** Positions a row sees at most, its own included. */
  readonly window?: number;
}

/** [first, end) of the positions that row i sees. */
function seen(a: SeenAttrs, i: number, params: Params): [first: number, end: number] {
  const end = params.past + i + 1;
  return [a.window ? Math.max(0, end - a.window) : 0, end];
}

/** share [groups, n, keys]: zero where a row does not see. */
export const causal: Gate<SeenAttrs> = {
  name: 'causal',
  shapes: (_, [x]) => [x],
  cost: () => free,
  *party(p, g) {
    const [x, y] = [g.ins[0], g.outs[0]];
    const [groups, n, keys] = x.shape;
    p.k.copy(y.at, x.at, x.size);
    for (let group = 0; group < groups; group++)
      for (let i = 0; i < n; i++) {
        const [first, end] = seen(g.attrs, i, p.params);
        const row = y.at / 4 + (group * n + i) * keys;
        p.k.u32.fill(0, row, row + first);
        p.k.u32.fill(0, row + end, row + keys);
      }
  },
  plain(a, [x], _w, _outs, params) {
    const [, n, keys] = x.shape;
    return [
      x.data.map((v, at) => {
        const [first, end] = seen(a, Math.floor(at / keys) % n, params);
        return at % keys >= first && at % keys < end ? v : 0;
      }),
    ];
  },
};

export interface PerSeenAttrs extends SeenAttrs {
  /** Row i is multiplied by floor(numerator / how many positions it sees), or by 1 where that is less. */
  readonly numerator: number;
}

const factor = (a: PerSeenAttrs, i: number, params: Params): number => {
  const [first, end] = seen(a, i, params);
  return Math.max(1, Math.floor(a.numerator / (end - first)));
};
/** Values of one row: x is [groups, n] or [groups, n, keys]. */
const perRow = (shape: readonly number[]): number => (shape.length > 2 ? shape[2] : 1);

/** share [groups, n] or [groups, n, keys] → each row by its integer: sums over what a row sees become means, nearly. */
export const perSeen: Gate<PerSeenAttrs> = {
  name: 'perSeen',
  shapes: (_, [x]) => [x],
  cost: () => free,
  *party(p, g) {
    const [x, y] = [g.ins[0], g.outs[0]];
    const n = x.shape[1];
    const factors = p.temp(n);
    for (let i = 0; i < n; i++) p.k.u32[factors / 4 + i] = factor(g.attrs, i, p.params);
    p.k.affine(y.at, x.at, factors, 0, n, perRow(x.shape), x.size);
  },
  plain: (a, [x], _w, _outs, params) => [x.data.map((v, i) => v * factor(a, Math.floor(i / perRow(x.shape)) % x.shape[1], params))],
};
