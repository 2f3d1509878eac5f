/** Resize by nearest neighbour or linearly, as ONNX defines it; inputs: data, roi (unused), scales, sizes. */
import { type GraphNode, sizeOf, type Tensor } from '../graph.ts';
import { roundEven } from '../math.ts';
import { alloc, axisOf, type Family, fail, floats, type Inputs, intsAttr, intsOf, need, strAttr, stridesOf } from './common.ts';

/** For each output position of one axis: the source positions and weights. */
type Taps = { at: number[]; weight: number[] }[];

function source(mode: string, scale: number, size: number, out: number): (i: number) => number {
  switch (mode) {
    case 'half_pixel':
      return (i) => (i + 0.5) / scale - 0.5;
    case 'pytorch_half_pixel':
      return (i) => (out > 1 ? (i + 0.5) / scale - 0.5 : 0);
    case 'asymmetric':
      return (i) => i / scale;
    case 'align_corners':
      return (i) => (out > 1 ? (i * (size - 1)) / (out - 1) : 0);
    default:
      return fail(`coordinate_transformation_mode ${mode}`);
  }
}

const nearest: Record<string, (x: number) => number> = {
  round_prefer_floor: (x) => Math.ceil(x - 0.5),
  round_prefer_ceil: (x) => Math.floor(x + 0.5),
  floor: Math.floor,
  ceil: Math.ceil,
};

function resize(x: Inputs, node: GraphNode): Tensor[] {
  const t = need(x, 0);
  const mode = strAttr(node, 'mode', 'nearest');
  const rank = t.shape.length;
  const axes = (intsAttr(node, 'axes') ?? t.shape.map((_, i) => i)).map((a) => axisOf(a, rank));
  const given = (i: number): Tensor | undefined => (x[i] !== undefined && x[i].data.length > 0 ? x[i] : undefined);
  const [scales, sizes] = [given(2), given(3)];
  if ((strAttr(node, 'keep_aspect_ratio_policy', 'stretch') !== 'stretch' && sizes) || node.attrs.antialias === 1)
    return fail('keep_aspect_ratio_policy and antialias are not supported');
  const list = sizes ? intsOf(sizes) : scales ? Array.from(scales.data) : fail('neither scales nor sizes');
  if (list.length !== axes.length || list.some((v) => !(v > 0))) return fail(`scales or sizes [${list}] for [${t.shape}]`);
  const shape = [...t.shape];
  const scale = t.shape.map(() => 1);
  axes.forEach((a, i) => {
    shape[a] = sizes ? list[i] : Math.floor(t.shape[a] * list[i]);
    scale[a] = sizes ? list[i] / t.shape[a] : list[i];
  });
  let y = t;
  for (const a of axes) if (shape[a] !== y.shape[a] || scale[a] !== 1) y = along(y, a, tapsOf(node, mode, scale[a], t.shape[a], shape[a]));
  return [y];
}

function tapsOf(node: GraphNode, mode: string, scale: number, size: number, out: number): Taps {
  const from = source(strAttr(node, 'coordinate_transformation_mode', 'half_pixel'), scale, size, out);
  const clamp = (i: number): number => Math.min(size - 1, Math.max(0, i));
  if (size === 0) return fail('resizing an empty axis');
  if (out > 2 ** 20) return fail(`an axis of ${out}`);
  if (mode === 'nearest') {
    const round = nearest[strAttr(node, 'nearest_mode', 'round_prefer_floor')] ?? fail('nearest_mode');
    return Array.from({ length: out }, (_, i) => ({ at: [clamp(round(from(i)))], weight: [1] }));
  }
  if (mode !== 'linear') return fail(`mode ${mode}`);
  return Array.from({ length: out }, (_, i) => {
    const p = from(i);
    const low = Math.floor(p);
    return { at: [clamp(low), clamp(low + 1)], weight: [low + 1 - p, p - low] };
  });
}

function along(t: Tensor, axis: number, taps: Taps): Tensor {
  const y = alloc(
    t.dtype,
    t.shape.map((d, i) => (i === axis ? taps.length : d)),
  );
  const inner = stridesOf(t.shape)[axis];
  const outer = sizeOf(t.shape.slice(0, axis));
  const src = t.dtype === 'f32' ? floats(t) : t.data;
  for (let o = 0; o < outer; o++) {
    taps.forEach(({ at, weight }, j) => {
      for (let i = 0; i < inner; i++) {
        let v = 0;
        for (let k = 0; k < at.length; k++) v += weight[k] * src[(o * t.shape[axis] + at[k]) * inner + i];
        y.data[(o * taps.length + j) * inner + i] = t.dtype === 'f32' ? v : roundEven(v);
      }
    });
  }
  return y;
}

export const resizes: Family = { Resize: resize };
