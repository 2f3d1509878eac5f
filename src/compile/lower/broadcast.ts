/** Broadcasting: constants against a shape, and shares repeated along axes of size one. */
import { type GraphNode, ModelError, type Tensor } from '../../graph/graph.ts';
import type { Dim } from '../../program/program.ts';
import type { T } from '../builder.ts';
import type { Lowering } from './lowering.ts';

export interface Broadcast {
  /** One number; one per position of an axis; or one per value of the whole tensor. */
  readonly along: 'all' | 'axis' | 'each';
  readonly axis: number;
  readonly values: Float64Array;
}

/** How a constant meets a value of this shape (which keeps its shape). */
export function broadcast(node: GraphNode, c: Tensor, shape: readonly Dim[]): Broadcast {
  const fail = (): never => {
    throw new ModelError(`${node.name}: a constant of shape [${c.shape}] does not fit [${shape}]`);
  };
  const dims = [...new Array<number>(Math.max(0, shape.length - c.shape.length)).fill(1), ...c.shape];
  if (dims.length !== shape.length || dims.some((d, i) => d !== 1 && d !== shape[i])) fail();
  const values = Float64Array.from(c.data);
  const wide = dims.flatMap((d, i) => (d === 1 ? [] : [i]));
  if (wide.length === 0 || values.every((v) => v === values[0]))
    return { along: 'all', axis: shape.length - 1, values: values.slice(0, 1) };
  if (wide.length === 1) return { along: 'axis', axis: wide[0], values };
  if (shape.some((d) => typeof d === 'string')) fail();
  const whole = shape as readonly number[];
  const size = whole.reduce((a, b) => a * b, 1);
  const each = Float64Array.from({ length: size }, (_, i) => {
    let at = 0;
    let rest = i;
    let step = 1;
    for (let a = whole.length - 1; a >= 0; a--) {
      const p = rest % whole[a];
      rest = Math.floor(rest / whole[a]);
      if (dims[a] !== 1) at += p * step;
      step *= dims[a];
    }
    return values[at];
  });
  return { along: 'each', axis: 0, values: each };
}

/** t repeated along its axes of size one to `shape`; local. */
export function expanded(low: Lowering, node: GraphNode, t: T, shape: readonly Dim[]): T {
  const { b } = low;
  let x = t;
  if (x.shape.length < shape.length) {
    const padded = [...new Array<Dim>(shape.length - x.shape.length).fill(1), ...x.shape];
    x = b.gate(
      'reshape',
      [x],
      { shape: padded.map((d) => (typeof d === 'string' ? { dim: d } : d)) },
      { ...x, shape: padded, label: undefined },
    )[0];
  }
  for (const [axis, want] of shape.entries()) {
    const have = x.shape[axis];
    if (have === want) continue;
    if (have !== 1 || typeof want !== 'number')
      throw new ModelError(`${node.name}: [${t.shape}] cannot be repeated to [${shape}] on shares`);
    const sized = (n: number): Dim[] => x.shape.map((d, i) => (i === axis ? n : d));
    let n = 1;
    while (n < want) {
      n *= 2;
      x = b.gate('concat', [x, x], { axis }, { ...x, shape: sized(n), label: undefined })[0];
    }
    if (n > want) x = b.gate('slice', [x], { axis, from: 0, to: want }, { ...x, shape: sized(want), label: undefined })[0];
  }
  return x;
}
