/** A row gate (1/x, 1/√x) from its fit: one channel, the whole ring its period, 32-bit words. */

import type { T } from '../builder.ts';
import { chooseRow, type RowGate, type RowOptions } from '../fit/index.ts';
import type { Lowering } from './lowering.ts';

/** The first of these (relative error, most harmonics) that can be met; at the end, as near as the last one's harmonics come. */
export function nearest(f: string | ((x: number) => number), options: RowOptions, wishes: readonly (readonly [number, number])[]): RowGate {
  const [most, K] = wishes.at(-1)!;
  for (const [epsilon, maxK] of wishes) {
    try {
      return chooseRow(f, { ...options, epsilon, maxK });
    } catch (e) {
      if (!(e instanceof RangeError)) throw e;
    }
    // Errors fall with K but for ripples: where the most harmonics stay twice too far off, fewer need not be tried.
    if (chooseRow(f, { ...options, K }).relError > 2 * most) break;
  }
  return chooseRow(f, { ...options, K });
}

/** `times`: a factor on the result, part of its scale. */
export const rowAttrs = (fit: RowGate, f: string, channels: number, axis: number, times = 1): Record<string, unknown> => ({
  f,
  axis,
  lanes: false,
  row: true,
  m: fit.m,
  t: fit.t,
  u: fit.u,
  w: 32,
  strips: [{ to: channels, K: fit.fit.a.length }],
  series: [{ a: fit.fit.a.map((v) => v * times), b: fit.fit.b.map((v) => v * times) }],
  which: new Array(channels).fill(0),
  multiplier: new Array(channels).fill(fit.al),
  constant: new Array(channels).fill(Math.round(fit.fit.c0 * times * 2 ** (fit.t + fit.u))),
});

/** f of every value of x, at scale 2^(t+u), as a 32-bit share. */
export function rowGate(low: Lowering, x: T, fit: RowGate, f: string, bound: number): T {
  // One channel: an axis of the value's own shape would need a size; the whole tensor counts as inner.
  const flat = low.b.gate('reshape', [x], { shape: [1, -1] }, { ...x, shape: [1, ...x.shape] })[0];
  const y = low.b.gate('harmonic', [flat], rowAttrs(fit, f, 1, 0), { ...flat, scale: 2 ** (fit.t + fit.u), bound })[0];
  return low.b.gate('reshape', [y], { shape: x.shape.map((d) => (typeof d === 'string' ? { dim: d } : d)) }, { ...y, shape: x.shape })[0];
}
