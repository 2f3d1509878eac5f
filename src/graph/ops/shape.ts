/** Operators that move values without computing on them: reshapes, transposes, slices, joins. Local on shares. */
import type { GraphNode, Tensor } from '../graph.ts';
import { sizeOf } from '../graph.ts';
import {
  alloc,
  around,
  axisOf,
  broadcastShape,
  broadcastTo,
  copyStrided,
  type Family,
  fail,
  type Inputs,
  intAttr,
  intsAttr,
  intsOf,
  need,
  permute,
  strAttr,
  stridesOf,
  withShape,
} from './common.ts';

/** A Reshape target made concrete: 0 copies (unless allowzero), −1 is what remains. */
export function reshapeTarget(from: readonly number[], target: readonly number[], allowZero = false): number[] {
  const shape = target.map((d, i) => (d === 0 && !allowZero ? (from[i] ?? fail(`nothing to copy at axis ${i} of [${from}]`)) : d));
  const open = shape.indexOf(-1);
  if (open < 0) return shape;
  const rest = shape.reduce((n, d, i) => (i === open ? n : n * d), 1);
  const inferred = sizeOf(from) / rest;
  if (shape.indexOf(-1, open + 1) >= 0 || rest <= 0 || !Number.isInteger(inferred)) return fail(`[${from}] does not fit [${target}]`);
  return shape.map((d, i) => (i === open ? inferred : d));
}

function reshape(x: Inputs, node: GraphNode): Tensor[] {
  const t = need(x, 0);
  const shape = reshapeTarget(t.shape, intsOf(need(x, 1)), intAttr(node, 'allowzero', 0) !== 0);
  return [withShape(t, shape)];
}

function flatten(x: Inputs, node: GraphNode): Tensor[] {
  const t = need(x, 0);
  const rank = t.shape.length;
  const given = intAttr(node, 'axis', 1);
  const axis = given < 0 ? given + rank : given;
  if (axis < 0 || axis > rank) return fail(`axis ${given} of a tensor of rank ${rank}`);
  return [withShape(t, [sizeOf(t.shape.slice(0, axis)), sizeOf(t.shape.slice(axis))])];
}

function transpose(x: Inputs, node: GraphNode): Tensor[] {
  const t = need(x, 0);
  const rank = t.shape.length;
  const perm = intsAttr(node, 'perm') ?? Array.from({ length: rank }, (_, i) => rank - 1 - i);
  if (perm.length !== rank || new Set(perm).size !== rank || perm.some((p) => p < 0 || p >= rank))
    return fail(`perm [${perm}] on rank ${rank}`);
  return [permute(t, perm)];
}

function squeeze(x: Inputs): Tensor[] {
  const t = need(x, 0);
  const axes = x[1] === undefined ? undefined : intsOf(x[1]).map((a) => axisOf(a, t.shape.length));
  for (const a of axes ?? []) if (t.shape[a] !== 1) fail(`axis ${a} of [${t.shape}] is not 1`);
  return [
    withShape(
      t,
      t.shape.filter((d, i) => (axes ? !axes.includes(i) : d !== 1)),
    ),
  ];
}

function unsqueeze(x: Inputs): Tensor[] {
  const t = need(x, 0);
  const given = intsOf(need(x, 1));
  const rank = t.shape.length + given.length;
  const axes = given.map((a) => axisOf(a, rank));
  if (new Set(axes).size !== axes.length) return fail(`repeated axes [${given}]`);
  let next = 0;
  return [
    withShape(
      t,
      Array.from({ length: rank }, (_, i) => (axes.includes(i) ? 1 : t.shape[next++])),
    ),
  ];
}

/** Joins along one axis. */
export function concat(parts: readonly Tensor[], given: number): Tensor {
  const first = parts[0] ?? fail('nothing to join');
  const axis = axisOf(given, first.shape.length);
  for (const p of parts) {
    if (p.dtype !== first.dtype || p.shape.length !== first.shape.length || p.shape.some((d, i) => i !== axis && d !== first.shape[i]))
      fail(`[${first.shape}] ${first.dtype} and [${p.shape}] ${p.dtype} do not join along axis ${axis}`);
  }
  const total = parts.reduce((n, p) => n + p.shape[axis], 0);
  const y = alloc(
    first.dtype,
    first.shape.map((d, i) => (i === axis ? total : d)),
  );
  const [outer, , inner] = around(y.shape, axis);
  for (let at = 0, k = 0; k < parts.length; at += parts[k].shape[axis] * inner, k++) {
    const step = parts[k].shape[axis] * inner;
    for (let o = 0; o < outer; o++) y.data.set(parts[k].data.subarray(o * step, (o + 1) * step), o * total * inner + at);
  }
  return y;
}

function split(x: Inputs, node: GraphNode): Tensor[] {
  const t = need(x, 0);
  const axis = axisOf(intAttr(node, 'axis', 0), t.shape.length);
  const count = node.outputs.length;
  const size = t.shape[axis];
  const chunk = Math.ceil(size / count);
  const sizes = x[1] === undefined ? node.outputs.map((_, i) => Math.max(0, Math.min(chunk, size - i * chunk))) : intsOf(x[1]);
  if (sizes.length !== count || sizes.some((s) => s < 0) || sizes.reduce((a, b) => a + b, 0) !== size)
    return fail(`${size} split as [${sizes}] into ${count}`);
  const strides = stridesOf(t.shape);
  let from = 0;
  return sizes.map((s) => {
    const y = alloc(
      t.dtype,
      t.shape.map((d, i) => (i === axis ? s : d)),
    );
    copyStrided(y.data, t.data, y.shape, strides, from * strides[axis]);
    from += s;
    return y;
  });
}

/** Inputs: data, starts, ends, axes, steps; negative positions count from the end, all are clamped. */
function slice(x: Inputs): Tensor[] {
  const t = need(x, 0);
  const [starts, ends] = [intsOf(need(x, 1)), intsOf(need(x, 2))];
  const axes = (x[3] === undefined ? starts.map((_, i) => i) : intsOf(x[3])).map((a) => axisOf(a, t.shape.length));
  const steps = x[4] === undefined ? starts.map(() => 1) : intsOf(x[4]);
  if (
    ends.length !== starts.length ||
    axes.length !== starts.length ||
    steps.length !== starts.length ||
    new Set(axes).size !== axes.length
  )
    return fail(`starts [${starts}], ends [${ends}], axes [${axes}], steps [${steps}]`);
  const shape = [...t.shape];
  const strides = stridesOf(t.shape);
  let offset = 0;
  axes.forEach((a, i) => {
    const [d, step] = [t.shape[a], steps[i]];
    if (step === 0) fail('a step of 0');
    const place = (v: number, lo: number, hi: number): number => Math.min(hi, Math.max(lo, v < 0 ? v + d : v));
    const from = step > 0 ? place(starts[i], 0, d) : place(starts[i], 0, d - 1);
    const to = step > 0 ? place(ends[i], 0, d) : place(ends[i], -1, d - 1);
    shape[a] = Math.max(0, Math.ceil((to - from) / step));
    if (shape[a] > 0) offset += from * strides[a];
    strides[a] *= step;
  });
  const y = alloc(t.dtype, shape);
  copyStrided(y.data, t.data, shape, strides, offset);
  return [y];
}

function tile(x: Inputs): Tensor[] {
  let t = need(x, 0);
  const repeats = intsOf(need(x, 1));
  if (repeats.length !== t.shape.length) return fail(`repeats [${repeats}] for [${t.shape}]`);
  alloc(
    'bool',
    t.shape.map((d, i) => d * repeats[i]),
  );
  repeats.forEach((r, axis) => {
    if (r === 0)
      t = alloc(
        t.dtype,
        t.shape.map((d, i) => (i === axis ? 0 : d)),
      );
    else if (r > 1) t = concat(new Array<Tensor>(r).fill(t), axis);
  });
  return [t];
}

/** Inputs: data, pads, value, axes. Negative pads cut. */
function pad(x: Inputs, node: GraphNode): Tensor[] {
  const t = need(x, 0);
  const mode = strAttr(node, 'mode', 'constant');
  const pads = intsOf(need(x, 1));
  const axes = x[3] === undefined ? t.shape.map((_, i) => i) : intsOf(x[3]).map((a) => axisOf(a, t.shape.length));
  if (pads.length !== 2 * axes.length) return fail(`pads [${pads}] for axes [${axes}]`);
  const before = t.shape.map(() => 0);
  const shape = [...t.shape];
  axes.forEach((a, i) => {
    before[a] = pads[i];
    shape[a] += pads[i] + pads[i + axes.length];
  });
  const y = alloc(t.dtype, shape);
  const source = shape.map((d, a) => Int32Array.from({ length: d }, (_, i) => sourceIndex(i - before[a], t.shape[a], mode)));
  const value = x[2] === undefined ? 0 : (x[2].data[0] ?? 0);
  const strides = stridesOf(t.shape);
  const index = shape.map(() => 0);
  for (let o = 0; o < y.data.length; o++) {
    let at = 0;
    for (let a = 0; a < index.length && at >= 0; a++) at = source[a][index[a]] < 0 ? -1 : at + source[a][index[a]] * strides[a];
    y.data[o] = at < 0 ? value : t.data[at];
    for (let a = index.length - 1; a >= 0 && ++index[a] === shape[a]; a--) index[a] = 0;
  }
  return [y];
}

/** Where a padded position reads from; −1 for the constant. */
function sourceIndex(i: number, size: number, mode: string): number {
  if (i >= 0 && i < size) return i;
  if (mode === 'constant') return -1;
  if (size === 0) return fail('padding an empty axis');
  if (mode === 'edge') return i < 0 ? 0 : size - 1;
  if (mode === 'wrap') return ((i % size) + size) % size;
  if (mode !== 'reflect') return fail(`mode ${mode}`);
  const period = Math.max(1, 2 * (size - 1));
  const p = ((i % period) + period) % period;
  return p < size ? p : period - p;
}

function depthToSpace(x: Inputs, node: GraphNode): Tensor[] {
  const t = need(x, 0);
  const s = intAttr(node, 'blocksize', 1);
  if (t.shape.length !== 4 || s < 1 || t.shape[1] % (s * s) !== 0) return fail(`blocks of ${s} from [${t.shape}]`);
  const [n, c, h, w] = t.shape;
  const [six, perm] =
    strAttr(node, 'mode', 'DCR') === 'DCR'
      ? [
          [n, s, s, c / (s * s), h, w],
          [0, 3, 4, 1, 5, 2],
        ]
      : [
          [n, c / (s * s), s, s, h, w],
          [0, 1, 4, 2, 5, 3],
        ];
  return [withShape(permute(withShape(t, six), perm), [n, c / (s * s), h * s, w * s])];
}

function spaceToDepth(x: Inputs, node: GraphNode): Tensor[] {
  const t = need(x, 0);
  const s = intAttr(node, 'blocksize', 1);
  if (t.shape.length !== 4 || s < 1 || t.shape[2] % s !== 0 || t.shape[3] % s !== 0) return fail(`blocks of ${s} from [${t.shape}]`);
  const [n, c, h, w] = t.shape;
  return [withShape(permute(withShape(t, [n, c, h / s, s, w / s, s]), [0, 3, 5, 1, 2, 4]), [n, c * s * s, h / s, w / s])];
}

export const shapes: Family = {
  Reshape: reshape,
  Flatten: flatten,
  Transpose: transpose,
  Squeeze: squeeze,
  Unsqueeze: unsqueeze,
  Concat: (x, node) => [
    concat(
      x.map((_, i) => need(x, i)),
      intAttr(node, 'axis', 0),
    ),
  ],
  Split: split,
  Slice: slice,
  Expand: (x) => [broadcastTo(need(x, 0), broadcastShape(need(x, 0).shape, intsOf(need(x, 1))))],
  Tile: tile,
  Pad: pad,
  DepthToSpace: depthToSpace,
  SpaceToDepth: spaceToDepth,
};
