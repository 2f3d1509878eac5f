/**
 * What every operator leans on: reading attributes, shapes, broadcasting, allocation.
 *
 * An operator is a plain function from tensors to tensors. It throws a ModelError (or a RangeError from a typed array); the
 * interpreter puts the node's name in front of it.
 */
import { type DType, type GraphNode, ModelError, sizeOf, type Tensor } from '../graph.ts';

/** Absent optional inputs are undefined. */
export type Inputs = readonly (Tensor | undefined)[];
export type OpFn = (x: Inputs, node: GraphNode) => Tensor[];
export type Family = Readonly<Record<string, OpFn>>;

/** A value larger than this is a broken model, not a model: 2^28 elements. */
export const maxElements = 2 ** 28;

export function fail(message: string): never {
  throw new ModelError(message);
}

export function need(x: Inputs, i: number): Tensor {
  return x[i] ?? fail(`input ${i} is missing`);
}

export function intAttr(node: GraphNode, name: string, otherwise: number): number {
  const v = node.attrs[name];
  if (v === undefined) return otherwise;
  if (typeof v !== 'number' || !Number.isInteger(v)) return fail(`attribute ${name} is not an integer`);
  return v;
}

export function floatAttr(node: GraphNode, name: string, otherwise: number): number {
  const v = node.attrs[name];
  if (v === undefined) return otherwise;
  return typeof v === 'number' ? v : fail(`attribute ${name} is not a number`);
}

export function strAttr(node: GraphNode, name: string, otherwise: string): string {
  const v = node.attrs[name];
  if (v === undefined) return otherwise;
  return typeof v === 'string' ? v : fail(`attribute ${name} is not a string`);
}

export function intsAttr(node: GraphNode, name: string): number[] | undefined {
  const v = node.attrs[name];
  if (v === undefined) return undefined;
  if (!Array.isArray(v)) return fail(`attribute ${name} is not a list of integers`);
  return v.map((e: number | string) =>
    typeof e === 'number' && Number.isInteger(e) ? e : fail(`attribute ${name} is not a list of integers`),
  );
}

/** The values of an integer tensor (a shape, axes, …). */
export function intsOf(t: Tensor): number[] {
  if (t.data.length > 1024) return fail(`a list of ${t.data.length} axes or sizes`);
  return Array.from(t.data, (v) => (Number.isInteger(v) ? v : fail(`${v} where an integer was expected`)));
}

/** A zero-filled tensor; refuses negative and absurd sizes. */
export function alloc(dtype: DType, shape: readonly number[]): Tensor {
  for (const d of shape) if (!Number.isInteger(d) || d < 0) fail(`no tensor has shape [${shape}]`);
  const n = sizeOf(shape);
  if (n > maxElements) fail(`a tensor of shape [${shape}] is too large (${n} values)`);
  return {
    dtype,
    shape: [...shape],
    data: dtype === 'f32' ? new Float32Array(n) : dtype === 'i64' ? new Float64Array(n) : new Uint8Array(n),
  };
}

/** The same values under another shape. */
export function withShape(t: Tensor, shape: readonly number[]): Tensor {
  if (sizeOf(shape) !== t.data.length) fail(`shape [${t.shape}] does not fit [${shape}]`);
  return { dtype: t.dtype, shape: [...shape], data: t.data };
}

export function axisOf(axis: number, rank: number): number {
  const a = axis < 0 ? axis + rank : axis;
  return a >= 0 && a < rank ? a : fail(`axis ${axis} of a tensor of rank ${rank}`);
}

export function stridesOf(shape: readonly number[]): number[] {
  const s = new Array<number>(shape.length);
  for (let i = shape.length - 1, step = 1; i >= 0; i--) {
    s[i] = step;
    step *= shape[i];
  }
  return s;
}

/** The shape that all of these broadcast to. */
export function broadcastShape(...shapes: (readonly number[])[]): number[] {
  const rank = Math.max(0, ...shapes.map((s) => s.length));
  const out = new Array<number>(rank).fill(1);
  for (const s of shapes) {
    for (let i = 0; i < s.length; i++) {
      const o = i + rank - s.length;
      if (s[i] === 1) continue;
      if (out[o] !== 1 && out[o] !== s[i]) fail(`shapes ${shapes.map((e) => `[${e}]`).join(' and ')} do not broadcast`);
      out[o] = s[i];
    }
  }
  return out;
}

/** Strides that read a tensor of `shape` as one of the larger shape `to` (0 along repeated axes). */
export function broadcastStrides(shape: readonly number[], to: readonly number[]): number[] {
  const own = stridesOf(shape);
  const lead = to.length - shape.length;
  return to.map((d, i) => (i < lead || (shape[i - lead] === 1 && d !== 1) ? 0 : own[i - lead]));
}

/** dst (row-major, shape) = src read from `offset` with these strides. Transposes, slices, broadcasts. */
export function copyStrided(
  dst: Tensor['data'],
  src: Tensor['data'],
  shape: readonly number[],
  strides: readonly number[],
  offset = 0,
): void {
  const n = sizeOf(shape);
  if (n === 0) return;
  const rank = shape.length;
  if (rank === 0) {
    dst[0] = src[offset];
    return;
  }
  const inner = shape[rank - 1];
  const step = strides[rank - 1];
  const index = new Array<number>(rank - 1).fill(0);
  let at = offset;
  for (let d = 0; d < n; d += inner) {
    if (step === 1) dst.set(src.subarray(at, at + inner), d);
    else for (let i = 0, s = at; i < inner; i++, s += step) dst[d + i] = src[s];
    for (let a = rank - 2; a >= 0; a--) {
      at += strides[a];
      if (++index[a] < shape[a]) break;
      at -= strides[a] * shape[a];
      index[a] = 0;
    }
  }
}

export function broadcastTo(t: Tensor, shape: readonly number[]): Tensor {
  if (t.shape.length === shape.length && t.shape.every((d, i) => d === shape[i])) return t;
  const out = alloc(t.dtype, shape);
  copyStrided(out.data, t.data, shape, broadcastStrides(t.shape, shape));
  return out;
}

export function permute(t: Tensor, perm: readonly number[]): Tensor {
  const own = stridesOf(t.shape);
  const out = alloc(
    t.dtype,
    perm.map((p) => t.shape[p]),
  );
  copyStrided(
    out.data,
    t.data,
    out.shape,
    perm.map((p) => own[p]),
  );
  return out;
}

/** Float32 view of a float tensor; other types are refused. */
export function floats(t: Tensor): Float32Array {
  return t.dtype === 'f32' ? (t.data as Float32Array) : fail(`expected floats, got ${t.dtype}`);
}

/** [outer, axis, inner] sizes around one axis. */
export function around(shape: readonly number[], axis: number): [number, number, number] {
  return [sizeOf(shape.slice(0, axis)), shape[axis], sizeOf(shape.slice(axis + 1))];
}
