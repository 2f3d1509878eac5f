/** Images: convolution (patches as rows, times the kernel as a matrix), pooling. Moving values is local; only what follows is opened. */
import { type GraphNode, ModelError } from '../../graph/graph.ts';
import { type Window, windowOf } from '../../graph/ops/window.ts';
import { type Dim, dimAttr } from '../../program/program.ts';
import type { T } from '../builder.ts';
import { channelScales, matrix } from './linear.ts';
import { type Lowering, room, type Val, weightBits } from './lowering.ts';
import { raised, reluOf } from './relu.ts';

/** Blocks of groups a grouped convolution is cut in at most: each is one dense product with zeros off its diagonal. */
const mostBlocks = 16;

const reshaped = (low: Lowering, t: T, shape: readonly Dim[], label?: string): T =>
  low.b.gate('reshape', [t], { shape: shape.map(dimAttr) }, { ...t, shape, label })[0];

/** The image as [N, C, H, W], and the node's window on it. */
function image(low: Lowering, node: GraphNode, x: Val, t: T, kernel: readonly number[]): { t: T; win: Window } {
  const shape = x.shape;
  if (shape.length < 3 || shape.length > 4 || shape.some((d) => typeof d !== 'number'))
    throw new ModelError(`${node.name}: windows of [${shape}] are not supported; [N, C, H, W] of fixed sizes is`);
  const win = windowOf(node, shape.slice(2) as number[], kernel);
  return { t: shape.length === 4 ? t : reshaped(low, t, [shape[0], shape[1], 1, shape[2]]), win };
}

/** A window as the gates take it; the end's padding so that it gives as many outputs as the node. */
function windowAttrs({
  kernel,
  stride,
  dilation,
  before,
  after,
  size,
  out,
}: Window): Record<'kernel' | 'strides' | 'pads' | 'dilations', number[]> {
  const end = ([0, 1] as const).map((d) =>
    Math.max(after[d], (out[d] - 1) * stride[d] + dilation[d] * (kernel[d] - 1) + 1 - size[d] - before[d]),
  );
  return { kernel: [...kernel], strides: [...stride], pads: [...before, ...end], dilations: [...dilation] };
}

/** Patches of every image, one after the other: [N·OH·OW, C·KH·KW]. */
function patches(low: Lowering, t: T, win: Window, from: number, to: number): T {
  const { b } = low;
  const [N, C] = t.shape as number[];
  const rows = win.out[0] * win.out[1];
  const K = (to - from) * win.kernel[0] * win.kernel[1];
  const parts = Array.from({ length: N }, (_, n) => {
    const one =
      N === 1 ? t : b.gate('slice', [t], { axis: 0, from: n, to: n + 1 }, { ...t, shape: [1, ...t.shape.slice(1)], label: undefined })[0];
    const few =
      to - from === C
        ? one
        : b.gate('slice', [one], { axis: 1, from, to }, { ...one, shape: [1, to - from, ...t.shape.slice(2)], label: undefined })[0];
    return b.gate('im2col', [few], windowAttrs(win), { ...few, shape: [rows, K], label: undefined })[0];
  });
  return N === 1 ? parts[0] : b.gate('concat', parts, { axis: 0 }, { ...parts[0], shape: [N * rows, K] })[0];
}

export function conv(low: Lowering, node: GraphNode): void {
  const x = low.value(node.inputs[0]);
  const W = low.constant(node.inputs[1]);
  const bias = node.inputs[2] ? low.constant(node.inputs[2]) : undefined;
  if (!W || W.shape.length < 3 || W.shape.length > 4 || (node.inputs[2] && !bias))
    throw new ModelError(`${node.name}: only convolutions over one or two axes with constant kernels are supported`);
  const name = node.outputs[0];
  const out = low.range(name);
  const bits = low.bits(x);
  const { t, win } = image(low, node, x, low.plain(x, bits), W.shape.slice(2));
  const groups = (node.attrs.group as number | undefined) ?? 1;
  const [M, per] = W.shape;
  const N = t.shape[0] as number;
  const taps = win.kernel[0] * win.kernel[1];
  const own = M / groups;
  const step = Math.ceil(groups / mostBlocks);
  const blocks = Array.from({ length: Math.ceil(groups / step) }, (_, i) => [i * step, Math.min(groups, (i + 1) * step)] as const).map(
    ([g0, g1]) => {
      const [from, to] = [g0 * per, g1 * per];
      const K = (to - from) * taps;
      const width = (g1 - g0) * own;
      const data = new Float32Array(K * width);
      for (let m = 0; m < width; m++) {
        const inGroup = Math.floor(m / own) * per * taps;
        for (let k = 0; k < per * taps; k++) data[(inGroup + k) * width + m] = W.data[(g0 * own + m) * per * taps + k];
      }
      const cut = (v: Float64Array): Float64Array => v.slice(g0 * own, g1 * own);
      const channels = out.channels && { axis: 1, lo: cut(out.channels.lo), hi: cut(out.channels.hi) };
      const range = { shape: [], max: channels ? Math.max(...channels.hi, ...channels.lo.map((v) => -v)) : out.max, channels };
      const label = groups === 1 ? name : `${name}.${g0}`;
      const input: Val = {
        name: `${label}.patches`,
        shape: [],
        range: x.range,
        shares: new Map([[bits, patches(low, t, win, from, to)]]),
        wires: new Map(),
      };
      low.inputBits.set(input.name, bits);
      return matrix(
        low,
        groups === 1 ? node.name : `${node.name}.${g0}`,
        input,
        { K, N: width, W: data, bias: bias?.data.slice(g0 * own, g1 * own) },
        range,
      );
    },
  );
  /** [N·OH·OW, M] → the output's shape. */
  const placed = (parts: readonly T[], label?: string): T => {
    const { b } = low;
    const [OH, OW] = win.out;
    const bound = 2 * Math.max(out.max, 2 ** -6);
    const rows =
      parts.length === 1
        ? parts[0]
        : b.gate('concat', parts, { axis: 1 }, { ...parts[0], shape: [N * OH * OW, M], bound, label: undefined })[0];
    const split = N === 1 ? rows : reshaped(low, rows, [N, OH * OW, M]);
    const perm = N === 1 ? [1, 0] : [0, 2, 1];
    const first = b.gate('permute', [split], { perm }, { ...split, shape: perm.map((i) => split.shape[i]), label: undefined })[0];
    return reshaped(low, { ...first, bound }, out.shape, label);
  };
  low.define(name, {
    whole: true,
    // Loud channels are taken apart where there is one block; where there are more, the loudest channel's scale serves all.
    rescale(f) {
      const t = blocks.length === 1 ? blocks[0].rescale!(f) : undefined;
      return t && placed([t], name);
    },
    accumulate() {
      const most = Math.floor(Math.log2(t.scale as number)) + weightBits;
      const scale = new Array<number>(M).fill(
        Math.min(...channelScales({ ...out, channels: out.channels?.lo.length === M ? out.channels : undefined }, M, most)),
      );
      return placed(
        blocks.map((p) => p.accumulate!({ scale, exact: true })),
        name,
      );
    },
  });
}

/** Largest value of each window. After a ReLU nobody else reads, the windows come first: the ReLU then has fewer values. */
export function maxPool(low: Lowering, node: GraphNode): void {
  const { b } = low;
  const out = node.outputs[0];
  const given = low.value(node.inputs[0]);
  const before =
    given.reluOf &&
    given.shares.size === 0 &&
    given.wires.size === 0 &&
    low.consumers.get(given.name)?.length === 1 &&
    !low.graph.outputs.includes(given.name)
      ? given.reluOf
      : undefined;
  const x = before ?? given;
  const kernel = node.op === 'GlobalMaxPool' ? (x.shape.slice(2) as number[]) : (node.attrs.kernel_shape as number[]);
  const v = low.define(out, {
    lazy(f) {
      const g = Math.min(f, Math.floor(room - 1.5 - Math.log2(low.bound(x))));
      const { t, win } = image(low, node, x, low.plain(x, g), kernel);
      const bound = low.bound(x);
      const bits = Math.min(32, Math.ceil(Math.log2(bound * (t.scale as number))) + 3);
      const [N, C] = t.shape;
      const pooled = b.gate('maxPool', [t], { ...windowAttrs(win), bits }, { ...t, shape: [N, C, ...win.out], bound, label: undefined })[0];
      const most = before ? reluOf(low, b.open(pooled), bits, low.bound(v)) : pooled;
      return raised(low, reshaped(low, most, v.shape, f === g ? out : undefined), f - g);
    },
  });
}

/** Mean of each window: sums, with the count in the scale where all windows have the same. */
export function averagePool(low: Lowering, node: GraphNode): void {
  const { b } = low;
  const x = low.value(node.inputs[0]);
  const out = low.define(node.outputs[0]);
  const kernel = node.op === 'GlobalAveragePool' ? (x.shape.slice(2) as number[]) : (node.attrs.kernel_shape as number[]);
  const count = kernel.reduce((a, d) => a * d, 1);
  const f = Math.min(low.bits(x), Math.floor(room - 1 - Math.log2(count * low.bound(x))));
  const { t, win } = image(low, node, x, low.plain(x, f), kernel);
  const bound = low.bound(out);
  const label = node.outputs[0];
  const [N, C] = t.shape as number[];
  const scale = (t.scale as number) * count;
  if (node.op === 'GlobalAveragePool') {
    const rows = reshaped(low, t, [N, C, count]);
    out.raw = reshaped(
      low,
      b.gate('sumAxis', [rows], { axis: 2 }, { ...rows, shape: [N, C], scale, bound, label: undefined })[0],
      out.shape,
      label,
    );
    return;
  }
  const [OH, OW] = win.out;
  const taps = reshaped(low, patches(low, t, win, 0, C), [N, OH * OW, C, count]);
  const counts = countsOf(win, ((node.attrs.count_include_pad as number | undefined) ?? 0) !== 0);
  const even = counts.every((c) => c === count);
  const sums = b.gate(
    'sumAxis',
    [taps],
    { axis: 3 },
    { ...taps, shape: [N, OH * OW, C], ...(even ? { scale, bound } : { bound: bound * count }), label: undefined },
  )[0];
  const turned = b.gate('permute', [sums], { perm: [0, 2, 1] }, { ...sums, shape: [N, C, OH * OW] })[0];
  if (even) {
    out.raw = reshaped(low, turned, out.shape, label);
    return;
  }
  // Windows over the padding average over fewer values: a factor per position.
  const s = Math.min(10, Math.floor(room - 1 - Math.log2(bound * count * (t.scale as number))));
  const means = b.extend(turned, { s, mul: counts.map((c) => Math.round(2 ** s / c)), axis: 2, scale: t.scale, bound }).share!;
  out.shares.set(f, reshaped(low, means, out.shape, label));
}

function countsOf(win: Window, padded: boolean): number[] {
  const inside = (axis: 0 | 1, o: number): number => {
    let n = 0;
    for (let k = 0; k < win.kernel[axis]; k++) {
      const at = o * win.stride[axis] + k * win.dilation[axis] - win.before[axis];
      if (padded ? at < win.size[axis] + win.after[axis] : at >= 0 && at < win.size[axis]) n++;
    }
    return n;
  };
  return Array.from({ length: win.out[0] * win.out[1] }, (_, i) => inside(0, Math.floor(i / win.out[1])) * inside(1, i % win.out[1]));
}
