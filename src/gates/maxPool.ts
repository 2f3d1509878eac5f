/**
 * max over the last axis, and over windows of images. See tournament.ts.
 *
 * Windows reach the tournament as one copy of the image for each place in the window, shifted and strided: local work. Padding is the
 * constant −2^(b−2), known to all: it never wins against a value above it, and differences stay below 2^(b−1) as long as |x| < 2^(b−2).
 */
import type { Ptr } from '../ring/kernels/kernels.ts';
import { argmax, candidates } from './argmax.ts';
import { type BoundGate, type Gate, type PartyContext, ProgramError } from './gate.ts';
import { convOut, type Im2colAttrs } from './local.ts';
import type { SignAttrs } from './sign.ts';
import { dealTournament, differencePlan, playTournament, type Tournament, tournamentCost } from './tournament.ts';

function overAxis(g: BoundGate<SignAttrs | null>): Tournament {
  const x = g.ins[0];
  const k = x.shape.at(-1)!;
  return { k, n: x.size / k, ring: x.bits, position: 0, value: true, plan: differencePlan('max', x, g.attrs) };
}

/** Largest value along the last axis, in its ring. Exact where differences fit the sign's bits. */
export const max: Gate<SignAttrs | null, null> = {
  name: 'max',
  correctionPhase: 1,
  shapes: (a, ins) => argmax.shapes(a, ins).slice(1),
  cost: (g) => tournamentCost(overAxis(g)),
  dealer: (d, g) => dealTournament(d, overAxis(g)),
  *party(p, g) {
    const best = yield* playTournament(p, overAxis(g), candidates(p, g.ins[0]));
    p.k.copy(g.outs[0].at, best.value, g.outs[0].size);
  },
  plain(_, [x]) {
    const k = x.shape.at(-1)!;
    return [Float64Array.from({ length: x.data.length / k }, (_, i) => Math.max(...x.data.subarray(i * k, (i + 1) * k)))];
  },
};

export type MaxPoolAttrs = Im2colAttrs & SignAttrs;

function overWindows(g: BoundGate<MaxPoolAttrs>): Tournament {
  const x = g.ins[0];
  return {
    k: g.attrs.kernel[0] * g.attrs.kernel[1],
    n: g.outs[0].size,
    ring: x.bits,
    position: 0,
    value: true,
    plan: differencePlan('maxPool', x, g.attrs),
  };
}

/** Output positions o with 0 ≤ o·stride + from < d, within 0 … count−1. */
function within(from: number, stride: number, d: number, count: number): [first: number, end: number] {
  const first = Math.max(0, Math.ceil(-from / stride));
  return [first, Math.max(first, Math.min(count, Math.floor((d - 1 - from) / stride) + 1))];
}

/** For each place in the window, the value each output sees there. */
function windows(p: PartyContext, g: BoundGate<MaxPoolAttrs>, bits: number): Ptr {
  const { kernel, strides, pads, dilations } = g.attrs;
  const [N, C, H, W] = g.ins[0].shape;
  const [OH, OW] = g.outs[0].shape.slice(2);
  const n = g.outs[0].size;
  const all = p.words(kernel[0] * kernel[1] * n);
  if (pads.some((v) => v > 0)) p.k.fill(all, p.index === 0 ? -(2 ** (bits - 2)) : 0, kernel[0] * kernel[1] * n);
  let at = all;
  for (let ky = 0; ky < kernel[0]; ky++)
    for (let kx = 0; kx < kernel[1]; kx++, at += 4 * n) {
      const [fromY, fromX] = [ky * dilations[0] - pads[0], kx * dilations[1] - pads[1]];
      const [y, endY] = within(fromY, strides[0], H, OH);
      const [x, endX] = within(fromX, strides[1], W, OW);
      if (y >= endY || x >= endX) continue;
      const from = g.ins[0].at + 4 * ((y * strides[0] + fromY) * W + x * strides[1] + fromX);
      p.k.copyBox(at + 4 * (y * OW + x), from, 1, N * C, endY - y, endX - x, 0, H * W, strides[0] * W, strides[1], 0, OH * OW, OW, 1);
    }
  return all;
}

/** Largest value of each window of [N, C, H, W]. Exact where differences fit the sign's bits; with padding, where |x| < 2^(bits−2). */
export const maxPool: Gate<MaxPoolAttrs, null> = {
  name: 'maxPool',
  correctionPhase: 1,
  shapes(a, [x]) {
    if (x.length !== 4) throw new ProgramError(`maxPool: needs [N, C, H, W], got [${x}]`);
    if (a.kernel[0] * a.kernel[1] < 2) throw new ProgramError('maxPool: a window of one value; slice instead');
    return [[x[0], x[1], ...convOut(a, x[2], x[3])]];
  },
  cost: (g) => tournamentCost(overWindows(g)),
  dealer: (d, g) => dealTournament(d, overWindows(g)),
  *party(p, g) {
    const t = overWindows(g);
    const best = yield* playTournament(p, t, windows(p, g, t.plan.bits));
    p.k.copy(g.outs[0].at, best.value, t.n);
  },
  plain(a, [x], _w, [out]) {
    const [, , H, W] = x.shape;
    const [OH, OW] = out.shape.slice(2);
    return [
      Float64Array.from({ length: out.shape.reduce((s, d) => s * d, 1) }, (_, i) => {
        let best = -Infinity;
        const image = Math.floor(i / (OH * OW)) * H * W;
        for (let ky = 0; ky < a.kernel[0]; ky++)
          for (let kx = 0; kx < a.kernel[1]; kx++) {
            const y = (Math.floor(i / OW) % OH) * a.strides[0] - a.pads[0] + ky * a.dilations[0];
            const z = (i % OW) * a.strides[1] - a.pads[1] + kx * a.dilations[1];
            if (y >= 0 && z >= 0 && y < H && z < W) best = Math.max(best, x.data[image + y * W + z]);
          }
        return best;
      }),
    ];
  },
};
