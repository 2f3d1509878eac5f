/**
 * Linear maps with public coefficients: each party applies them to its own words. Nothing is opened, nothing is drawn.
 */
import type { Kernels } from '../ring/kernels/kernels.ts';
import { type CausalRows, rowShape, runs } from './causal.ts';
import { ProgramError, free, size, type Gate, type Plain } from './gate.ts';

const same = (_: unknown, ins: readonly (readonly number[])[]) => [ins[0]];

function binary(name: 'add' | 'sub', f: (a: number, b: number) => number): Gate {
  return {
    name,
    shapes(_, [a, b]) {
      if (size(a) !== size(b)) throw new ProgramError(`${name}: shapes [${a}] and [${b}] differ`);
      return [a];
    },
    cost: () => free,
    *party(p, g) {
      p.k[name](g.outs[0].at, g.ins[0].at, g.ins[1].at, g.outs[0].size);
    },
    plain: (_, [a, b]) => [a.data.map((v, i) => f(v, b.data[i]))],
  };
}

/** z = x + y, same scale. */
export const add = binary('add', (a, b) => a + b);
/** z = x − y, same scale. */
export const sub = binary('sub', (a, b) => a - b);

export interface AffineAttrs {
  readonly mul?: readonly number[];
  readonly add?: readonly number[];
  /** Axis the vectors run along; default the last. Vectors may also have as many values as the whole tensor (axis 0 … last). */
  readonly axis?: number;
}

/** Channels and inner size of `axis` in `shape`; a vector of the whole tensor's size is one channel per value, a single number serves all. */
export function channelsOf(shape: readonly number[], axis: number | undefined, length: number): { channels: number; inner: number } {
  if (length === 1) return { channels: 1, inner: size(shape) };
  if (length === size(shape)) return { channels: length, inner: 1 };
  const a = axis ?? shape.length - 1;
  const inner = size(shape.slice(a + 1));
  if (length !== shape[a]) throw new ProgramError(`a vector of ${length} values does not fit axis ${a} of [${shape}]`);
  return { channels: length, inner };
}

const perChannel = (x: Plain, axis: number | undefined, v: readonly number[] | undefined, i: number, otherwise: number): number => {
  if (!v) return otherwise;
  const { channels, inner } = channelsOf(x.shape, axis, v.length);
  return v[Math.floor(i / inner) % channels];
};

/** (x·mul + add) in real arithmetic: the meaning shared by `affine` and `extend`. */
export const affinePlain = (a: AffineAttrs, x: Plain): Float64Array =>
  x.data.map((v, i) => v * perChannel(x, a.axis, a.mul, i, 1) + perChannel(x, a.axis, a.add, i, 0));

/** z = x·mul + add with public integers per channel; party 0 adds. */
export const affine: Gate<AffineAttrs, { mul: number; add: number }> = {
  name: 'affine',
  shapes: same,
  cost: () => free,
  load: (w, a) => ({ mul: a.mul ? w.keepWords(a.mul) : 0, add: a.add && w.role === 'p0' ? w.keepWords(a.add) : 0 }),
  *party(p, g) {
    const { channels, inner } = channelsOf(g.ins[0].shape, g.attrs.axis, (g.attrs.mul ?? g.attrs.add)!.length);
    p.k.affine(g.outs[0].at, g.ins[0].at, g.loaded.mul, g.loaded.add, channels, inner, g.outs[0].size);
  },
  plain: (a, [x]) => [affinePlain(a, x)],
};

/** The same words under another shape. */
export const reshape: Gate<{ shape: readonly number[] }> = {
  name: 'reshape',
  view: true,
  shapes(a, [x]) {
    const to = [...a.shape];
    const open = to.indexOf(-1);
    if (open >= 0) to[open] = size(x) / -size(to);
    if (!to.every(Number.isInteger) || size(to) !== size(x)) throw new ProgramError(`reshape: [${x}] does not fit [${to}]`);
    return [to];
  },
  cost: () => free,
  *party() {},
  plain: (_, [x]) => [x.data],
};

/** Copies between strided boxes of any rank; strides in words. The copying kernel takes the four last axes. */
function copyStrided(k: Kernels, dst: number, src: number, shape: readonly number[], from: readonly number[], to: readonly number[]): void {
  const pad = Math.max(0, 4 - shape.length);
  const d = [...Array(pad).fill(1), ...shape];
  const s = [...Array(pad).fill(0), ...from];
  const t = [...Array(pad).fill(0), ...to];
  if (d.length > 4) {
    for (let i = 0; i < d[0]; i++) copyStrided(k, dst + 4 * i * t[0], src + 4 * i * s[0], d.slice(1), s.slice(1), t.slice(1));
    return;
  }
  k.copyBox(dst, src, d[0], d[1], d[2], d[3], s[0], s[1], s[2], s[3], t[0], t[1], t[2], t[3]);
}

export const strides = (shape: readonly number[]): number[] => shape.map((_, i) => size(shape.slice(i + 1)));

/** Axes in another order. */
export const permute: Gate<{ perm: readonly number[] }> = {
  name: 'permute',
  shapes(a, [x]) {
    if (a.perm.length !== x.length) throw new ProgramError(`permute: [${a.perm}] does not fit [${x}]`);
    return [a.perm.map((i) => x[i])];
  },
  cost: () => free,
  *party(p, g) {
    const from = strides(g.ins[0].shape);
    copyStrided(p.k, g.outs[0].at, g.ins[0].at, g.outs[0].shape, g.attrs.perm.map((i) => from[i]), strides(g.outs[0].shape));
  },
  plain(a, [x]) {
    const from = strides(x.shape);
    const shape = a.perm.map((i) => x.shape[i]);
    const to = strides(shape);
    return [Float64Array.from(x.data, (_, i) => x.data[a.perm.reduce((o, axis, j) => o + (Math.floor(i / to[j]) % shape[j]) * from[axis], 0)])];
  },
};

/** Positions from … to−1 of an axis. */
export const slice: Gate<{ axis: number; from: number; to: number }> = {
  name: 'slice',
  shapes({ axis, from, to }, [x]) {
    if (from < 0 || to > x[axis] || from >= to) throw new ProgramError(`slice ${from}…${to} of axis ${axis} of [${x}]`);
    return [x.map((d, i) => (i === axis ? to - from : d))];
  },
  cost: () => free,
  *party(p, g) {
    const st = strides(g.ins[0].shape);
    copyStrided(p.k, g.outs[0].at, g.ins[0].at + 4 * g.attrs.from * st[g.attrs.axis], g.outs[0].shape, st, strides(g.outs[0].shape));
  },
  plain(a, [x], _w, [out]) {
    const st = strides(x.shape);
    const to = strides(out.shape);
    return [Float64Array.from({ length: size(out.shape) }, (_, i) => x.data[out.shape.reduce((o, d, j) => o + ((Math.floor(i / to[j]) % d) + (j === a.axis ? a.from : 0)) * st[j], 0)])];
  },
};

/** Inputs side by side along an axis. */
export const concat: Gate<{ axis: number }> = {
  name: 'concat',
  shapes(a, ins) {
    for (const x of ins) {
      if (x.length !== ins[0].length || x.some((d, i) => i !== a.axis && d !== ins[0][i])) throw new ProgramError(`concat along ${a.axis}: [${ins.join('], [')}]`);
    }
    return [ins[0].map((d, i) => (i === a.axis ? ins.reduce((s, x) => s + x[i], 0) : d))];
  },
  cost: () => free,
  *party(p, g) {
    const to = strides(g.outs[0].shape);
    let at = g.outs[0].at;
    for (const x of g.ins) {
      copyStrided(p.k, at, x.at, x.shape, strides(x.shape), to);
      at += 4 * x.shape[g.attrs.axis] * to[g.attrs.axis];
    }
  },
  plain(a, ins, _w, [out]) {
    const to = strides(out.shape);
    const z = new Float64Array(size(out.shape));
    let first = 0;
    for (const x of ins) {
      const st = strides(x.shape);
      x.data.forEach((v, i) => {
        z[x.shape.reduce((o, d, j) => o + ((Math.floor(i / st[j]) % d) + (j === a.axis ? first : 0)) * to[j], 0)] = v;
      });
      first += x.shape[a.axis];
    }
    return [z];
  },
};

/** Σ over one axis, or over each row of causal blocks. A mean is this with the divisor in the scale. */
export const sumAxis: Gate<{ axis: number; keep?: boolean; causal?: CausalRows }> = {
  name: 'sumAxis',
  shapes: (a, [x]) => [a.causal ? rowShape(a.causal, x) : x.flatMap((d, i) => (i === a.axis ? (a.keep ? [1] : []) : [d]))],
  cost: () => free,
  *party(p, g) {
    const x = g.ins[0].shape;
    const { axis, causal } = g.attrs;
    if (causal) {
      for (const r of runs(causal, 0, g.ins[0].size)) p.k.sumAxis(g.outs[0].at + 4 * r.row, g.ins[0].at + 4 * r.at, r.rows, r.cols, 1);
      return;
    }
    p.k.sumAxis(g.outs[0].at, g.ins[0].at, size(x.slice(0, axis)), x[axis], size(x.slice(axis + 1)));
  },
  plain(a, [x], _w, [out]) {
    if (a.causal) {
      const z = new Float64Array(size(out.shape));
      for (const r of runs(a.causal, 0, x.data.length)) for (let i = 0; i < r.rows * r.cols; i++) z[r.row + Math.floor(i / r.cols)] += x.data[r.at + i];
      return [z];
    }
    const inner = size(x.shape.slice(a.axis + 1));
    const d = x.shape[a.axis];
    const z = new Float64Array(x.data.length / d);
    x.data.forEach((v, i) => {
      z[Math.floor(i / (d * inner)) * inner + (i % inner)] += v;
    });
    return [z];
  },
};

/** z[r, c] = d·x[r, c] − Σ_c x[r, c], d = row length: centred rows, exactly, at d times the scale. */
export const centre: Gate = {
  name: 'centre',
  shapes: same,
  cost: () => free,
  *party(p, g) {
    const cols = g.ins[0].shape.at(-1)!;
    p.k.centre(g.outs[0].at, g.ins[0].at, cols, g.ins[0].size / cols, cols);
  },
  plain(_, [x]) {
    const d = x.shape.at(-1)!;
    const sums = new Float64Array(x.data.length / d);
    x.data.forEach((v, i) => {
      sums[Math.floor(i / d)] += v;
    });
    return [x.data.map((v, i) => d * v - sums[Math.floor(i / d)])];
  },
};

/** Channels of the last axis put at their places in a wider axis, zeros elsewhere. */
export const spread: Gate<{ places: readonly number[]; width: number }> = {
  name: 'spread',
  shapes(a, [x]) {
    if (x.at(-1) !== a.places.length || a.places.some((p) => p < 0 || p >= a.width)) throw new ProgramError(`spread: places [${a.places}] of ${a.width} for [${x}]`);
    return [[...x.slice(0, -1), a.width]];
  },
  cost: () => free,
  *party(p, g) {
    const { places, width } = g.attrs;
    const rows = g.ins[0].size / places.length;
    p.k.fill(g.outs[0].at, 0, g.outs[0].size);
    places.forEach((to, i) => p.k.copyBox(g.outs[0].at + 4 * to, g.ins[0].at + 4 * i, 1, 1, 1, rows, 0, 0, 0, places.length, 0, 0, 0, width));
  },
  plain(a, [x]) {
    const z = new Float64Array((x.data.length / a.places.length) * a.width);
    x.data.forEach((v, i) => {
      z[Math.floor(i / a.places.length) * a.width + a.places[i % a.places.length]] = v;
    });
    return [z];
  },
};

export interface Im2colAttrs {
  readonly kernel: readonly [number, number];
  readonly strides: readonly [number, number];
  /** top, left, bottom, right */
  readonly pads: readonly [number, number, number, number];
  readonly dilations: readonly [number, number];
}

/** Patches of an image [1, C, H, W] as rows [OH·OW, C·KH·KW]: a convolution is this and a matrix product. */
export const im2col: Gate<Im2colAttrs> = {
  name: 'im2col',
  shapes(a, [x]) {
    const [n, c, h, w] = x;
    if (x.length !== 4 || n !== 1) throw new ProgramError(`im2col: needs [1, C, H, W], got [${x}]`);
    const [oh, ow] = convOut(a, h, w);
    return [[oh * ow, c * a.kernel[0] * a.kernel[1]]];
  },
  cost: () => free,
  *party(p, g) {
    const { kernel, strides: st, pads, dilations } = g.attrs;
    const [, c, h, w] = g.ins[0].shape;
    const [oh, ow] = convOut(g.attrs, h, w);
    p.k.im2col(g.outs[0].at, g.ins[0].at, c, h, w, kernel[0], kernel[1], st[0], st[1], pads[0], pads[1], dilations[0], dilations[1], oh, ow);
  },
  plain(a, [x], _w, [out]) {
    const [, c, h, w] = x.shape;
    const [, ow] = convOut(a, h, w);
    const cols = c * a.kernel[0] * a.kernel[1];
    return [
      Float64Array.from({ length: size(out.shape) }, (_, i) => {
        const [o, r] = [Math.floor(i / cols), i % cols];
        const [ch, ky, kx] = [Math.floor(r / (a.kernel[0] * a.kernel[1])), Math.floor(r / a.kernel[1]) % a.kernel[0], r % a.kernel[1]];
        const y = Math.floor(o / ow) * a.strides[0] - a.pads[0] + ky * a.dilations[0];
        const z = (o % ow) * a.strides[1] - a.pads[1] + kx * a.dilations[1];
        return y < 0 || z < 0 || y >= h || z >= w ? 0 : x.data[(ch * h + y) * w + z];
      }),
    ];
  },
};

export const convOut = (a: Im2colAttrs, h: number, w: number): [number, number] => [
  Math.floor((h + a.pads[0] + a.pads[2] - a.dilations[0] * (a.kernel[0] - 1) - 1) / a.strides[0]) + 1,
  Math.floor((w + a.pads[1] + a.pads[3] - a.dilations[1] * (a.kernel[1] - 1) - 1) / a.strides[1]) + 1,
];
