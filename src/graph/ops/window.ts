/** Sliding windows over one or two spatial axes: convolution and pooling. One axis is handled as two, the first of size 1. */
import { gemm } from '../gemm.ts';
import { type GraphNode, sizeOf, type Tensor } from '../graph.ts';
import { alloc, type Family, fail, floats, type Inputs, intAttr, intsAttr, need, type OpFn, strAttr } from './common.ts';

export interface Window {
  /** Spatial sizes of the input, kernel and output, steps, and zeros put before the input; [y, x]. */
  readonly size: [number, number];
  readonly kernel: [number, number];
  readonly out: [number, number];
  readonly stride: [number, number];
  readonly dilation: [number, number];
  readonly before: [number, number];
  readonly after: [number, number];
}

/** The window of a Conv or pool node on an input [N, C, …spatial]; kernel from the weight or from kernel_shape. */
export function windowOf(node: GraphNode, spatial: readonly number[], kernel: readonly number[]): Window {
  const dims = spatial.length;
  if (dims < 1 || dims > 2) return fail(`${dims} spatial axes: one or two are supported`);
  if (kernel.length !== dims || kernel.some((k) => k < 1)) return fail(`a kernel [${kernel}] on ${dims} spatial axes`);
  const list = (name: string, length: number, otherwise: number, least: number): number[] => {
    const v = intsAttr(node, name) ?? new Array<number>(length).fill(otherwise);
    return v.length === length && v.every((e) => e >= least && e < 2 ** 24) ? v : fail(`${name} is [${v}]`);
  };
  const stride = list('strides', dims, 1, 1);
  const dilation = list('dilations', dims, 1, 1);
  const pads = list('pads', 2 * dims, 0, 0);
  const auto = strAttr(node, 'auto_pad', 'NOTSET');
  const ceil = intAttr(node, 'ceil_mode', 0) !== 0;
  const axis = (d: number): [number, number, number] => {
    const reach = dilation[d] * (kernel[d] - 1) + 1;
    if (auto === 'SAME_UPPER' || auto === 'SAME_LOWER') {
      const out = Math.ceil(spatial[d] / stride[d]);
      const total = Math.max(0, (out - 1) * stride[d] + reach - spatial[d]);
      const small = total >> 1;
      return auto === 'SAME_UPPER' ? [out, small, total - small] : [out, total - small, small];
    }
    if (auto !== 'NOTSET' && auto !== 'VALID') fail(`auto_pad ${auto}`);
    const [before, after] = auto === 'VALID' ? [0, 0] : [pads[d], pads[d + dims]];
    const steps = (spatial[d] + before + after - reach) / stride[d];
    if (steps < 0) fail(`the kernel is larger than the input ([${kernel}] on [${spatial}])`);
    let out = (ceil ? Math.ceil(steps) : Math.floor(steps)) + 1;
    // A last window that would start beyond the input and its front padding is not taken.
    if (ceil && (out - 1) * stride[d] >= spatial[d] + before) out--;
    return [out, before, after];
  };
  const at = spatial.map((_, d) => axis(d));
  const pair = (v: readonly number[], first: number): [number, number] => (dims === 2 ? [v[0], v[1]] : [first, v[0]]);
  return {
    size: pair(spatial, 1),
    kernel: pair(kernel, 1),
    out: pair(
      at.map((a) => a[0]),
      1,
    ),
    stride: pair(stride, 1),
    dilation: pair(dilation, 1),
    before: pair(
      at.map((a) => a[1]),
      0,
    ),
    after: pair(
      at.map((a) => a[2]),
      0,
    ),
  };
}

/** x[N, C, …], w[M, C/group, …], bias[M] → [N, M, …]. */
function conv(x: Inputs, node: GraphNode): Tensor[] {
  const [t, w] = [need(x, 0), need(x, 1)];
  const group = intAttr(node, 'group', 1);
  const [batch, channels] = t.shape;
  const [M, per] = w.shape;
  if (t.shape.length !== w.shape.length || t.shape.length < 3 || group < 1 || channels !== per * group || M % group !== 0)
    return fail(`a kernel [${w.shape}] on [${t.shape}] in ${group} groups`);
  const given = intsAttr(node, 'kernel_shape');
  if (given?.some((k, i) => k !== w.shape[2 + i])) fail(`kernel_shape [${given}] with weights [${w.shape}]`);
  const win = windowOf(node, t.shape.slice(2), w.shape.slice(2));
  const [OH, OW] = win.out;
  const y = alloc('f32', [batch, M, ...(t.shape.length === 3 ? [OW] : [OH, OW])]);
  const [src, weight, dst] = [floats(t), floats(w), floats(y)];
  const N = OH * OW;
  const K = per * win.kernel[0] * win.kernel[1];
  const image = channels * win.size[0] * win.size[1];
  const rows = M / group;
  const columns = per > 1 || rows > 1 ? floats(alloc('f32', [K, N])) : undefined;
  for (let b = 0; b < batch; b++) {
    for (let g = 0; g < group; g++) {
      const xAt = b * image + (g * image) / group;
      const cAt = (b * M + g * rows) * N;
      if (columns === undefined) depthwise(dst, cAt, src, xAt, weight, g * K, win);
      else {
        im2col(columns, src, xAt, per, win);
        gemm({ M: rows, N, K, a: weight, aAt: g * rows * K, b: columns, bAt: 0, transposed: false, c: dst, cAt });
      }
    }
  }
  if (x[2] !== undefined) {
    const bias = floats(x[2]);
    if (bias.length !== M) return fail(`bias has ${bias.length} values, expected ${M}`);
    for (let i = 0, c = 0; i < dst.length; i += N, c = (c + 1) % M) for (let j = 0; j < N; j++) dst[i + j] += bias[c];
  }
  return [y];
}

/** Calls visit(output position, input position) for each pair that kernel tap (ky, kx) joins on one plane. */
function tap(win: Window, ky: number, kx: number, visit: (out: number, at: number) => void): void {
  const [H, W] = win.size;
  const [OH, OW] = win.out;
  for (let oy = 0; oy < OH; oy++) {
    const iy = oy * win.stride[0] + ky * win.dilation[0] - win.before[0];
    if (iy < 0 || iy >= H) continue;
    for (let ox = 0; ox < OW; ox++) {
      const ix = ox * win.stride[1] + kx * win.dilation[1] - win.before[1];
      if (ix >= 0 && ix < W) visit(oy * OW + ox, iy * W + ix);
    }
  }
}

function depthwise(dst: Float32Array, cAt: number, src: Float32Array, xAt: number, weight: Float32Array, wAt: number, win: Window): void {
  const sums = new Float64Array(win.out[0] * win.out[1]);
  for (let ky = 0; ky < win.kernel[0]; ky++) {
    for (let kx = 0; kx < win.kernel[1]; kx++) {
      const v = weight[wAt + ky * win.kernel[1] + kx];
      tap(win, ky, kx, (o, i) => {
        sums[o] += v * src[xAt + i];
      });
    }
  }
  dst.set(sums, cAt);
}

/** columns[(c·KH + ky)·KW + kx, oy·OW + ox], zero outside the input. */
function im2col(columns: Float32Array, src: Float32Array, xAt: number, channels: number, win: Window): void {
  columns.fill(0);
  const N = win.out[0] * win.out[1];
  const plane = win.size[0] * win.size[1];
  for (let c = 0, row = 0; c < channels; c++) {
    for (let ky = 0; ky < win.kernel[0]; ky++) {
      for (let kx = 0; kx < win.kernel[1]; kx++, row++) {
        tap(win, ky, kx, (o, i) => {
          columns[row * N + o] = src[xAt + c * plane + i];
        });
      }
    }
  }
}

/** Folds each window of each plane; padded places are not visited. */
const pool =
  (kind: 'max' | 'average'): OpFn =>
  (x, node) => {
    const t = need(x, 0);
    const src = floats(t);
    const kernel = intsAttr(node, 'kernel_shape') ?? fail('kernel_shape is missing');
    if (t.shape.length < 3) return fail(`expected [N, C, …], got [${t.shape}]`);
    if (kind === 'max' && node.outputs.length > 1 && node.outputs[1] !== '') fail('the Indices output is not supported');
    const win = windowOf(node, t.shape.slice(2), kernel);
    const [OH, OW] = win.out;
    const y = alloc('f32', [...t.shape.slice(0, 2), ...(t.shape.length === 3 ? [OW] : [OH, OW])]);
    const acc = new Float64Array(OH * OW);
    const plane = win.size[0] * win.size[1];
    const taps: [number, number][] = [];
    if (win.kernel[0] * win.kernel[1] > 2 ** 20) fail(`a kernel of [${kernel}]`);
    for (let ky = 0; ky < win.kernel[0]; ky++) for (let kx = 0; kx < win.kernel[1]; kx++) taps.push([ky, kx]);
    const counts = kind === 'average' ? windowCounts(win, taps, intAttr(node, 'count_include_pad', 0) !== 0) : acc;
    for (let p = 0; p < t.shape[0] * t.shape[1]; p++) {
      acc.fill(kind === 'max' ? Number.NEGATIVE_INFINITY : 0);
      for (const [ky, kx] of taps) {
        tap(win, ky, kx, (o, i) => {
          const v = src[p * plane + i];
          if (kind === 'average') acc[o] += v;
          else if (v > acc[o]) acc[o] = v;
        });
      }
      for (let i = 0; i < acc.length; i++) y.data[p * acc.length + i] = kind === 'max' ? acc[i] : acc[i] / counts[i];
    }
    return [y];
  };

/** How many places each output averages over: the input's, and with `padded` the padding's too. */
function windowCounts(win: Window, taps: readonly [number, number][], padded: boolean): Float64Array {
  const counts = new Float64Array(win.out[0] * win.out[1]);
  const inside = (axis: 0 | 1, o: number, k: number): boolean => {
    const at = o * win.stride[axis] + k * win.dilation[axis] - win.before[axis];
    return padded ? at < win.size[axis] + win.after[axis] : at >= 0 && at < win.size[axis];
  };
  for (let oy = 0; oy < win.out[0]; oy++) {
    for (let ox = 0; ox < win.out[1]; ox++) {
      for (const [ky, kx] of taps) if (inside(0, oy, ky) && inside(1, ox, kx)) counts[oy * win.out[1] + ox]++;
    }
  }
  return counts;
}

const globalPool =
  (kind: 'max' | 'average'): OpFn =>
  (x) => {
    const t = need(x, 0);
    const src = floats(t);
    if (t.shape.length < 3) return fail(`expected [N, C, …], got [${t.shape}]`);
    const inner = sizeOf(t.shape.slice(2));
    const y = alloc(
      'f32',
      t.shape.map((d, i) => (i < 2 ? d : 1)),
    );
    for (let p = 0; p < y.data.length; p++) {
      let acc = kind === 'max' ? Number.NEGATIVE_INFINITY : 0;
      for (let i = p * inner; i < (p + 1) * inner; i++) acc = kind === 'max' ? Math.max(acc, src[i]) : acc + src[i];
      y.data[p] = kind === 'max' ? acc : acc / inner;
    }
    return [y];
  };

export const windows: Family = {
  Conv: conv,
  MaxPool: pool('max'),
  AveragePool: pool('average'),
  GlobalAveragePool: globalPool('average'),
  GlobalMaxPool: globalPool('max'),
};
