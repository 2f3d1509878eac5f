/** The largest value along an axis, and where it is: by comparisons, exact at the scale of what is compared. */
import { type GraphNode, ModelError } from '../../graph/graph.ts';
import { type Dim, dimAttr } from '../../program/program.ts';
import type { T } from '../builder.ts';
import { type Lowering, room, type Val } from './lowering.ts';

interface Candidates {
  t: T;
  /** In how many bits differences have their sign. */
  bits: number;
  count: number;
  /** Shape of the result, without the axis and as the node wants it. */
  short: readonly Dim[];
  shape: readonly Dim[];
}

/** The input with the node's axis last. */
function candidates(low: Lowering, node: GraphNode, axis: number, keep: boolean): Candidates {
  const x = low.value(node.inputs[0]);
  const rank = x.shape.length;
  const at = axis < 0 ? axis + rank : axis;
  const count = x.shape[at];
  if (typeof count !== 'number' || count < 2) throw new ModelError(`${node.name}: the axis of ${count} values cannot be compared`);
  const plain = low.plain(x, Math.min(low.bits(x), Math.floor(room - 2 - Math.log2(low.bound(x)))));
  const perm = [...x.shape.map((_, i) => i).filter((i) => i !== at), at];
  const t =
    at === rank - 1
      ? plain
      : low.b.gate('permute', [plain], { perm }, { ...plain, shape: perm.map((i) => x.shape[i]), label: undefined })[0];
  const bits = Math.min(32, Math.ceil(Math.log2(low.bound(x) * (t.scale as number))) + 3);
  return { t, bits, count, short: t.shape.slice(0, -1), shape: x.shape.flatMap((d, i): Dim[] => (i === at ? (keep ? [1] : []) : [d])) };
}

const shaped = (low: Lowering, t: T, shape: readonly Dim[], label: string): T =>
  low.b.gate('reshape', [t], { shape: shape.map(dimAttr) }, { ...t, shape, label })[0];

/** The position of the first largest value: an integer, at scale 1. */
export function argMax(low: Lowering, node: GraphNode): void {
  if (node.attrs.select_last_index) throw new ModelError(`${node.name}: the last of equal values is not supported; the first is`);
  const { t, bits, count, short, shape } = candidates(low, node, (node.attrs.axis as number | undefined) ?? 0, node.attrs.keepdims !== 0);
  const at = low.b.gate('argmax', [t], { bits }, { kind: 'share', bits: 32, scale: 1, bound: count, shape: short })[0];
  const name = node.outputs[0];
  // Positions are integers, which calibration does not look at.
  const v: Val = {
    name,
    shape,
    range: { shape: [...shape], max: count - 1 },
    shares: new Map([[0, shaped(low, at, shape, name)]]),
    wires: new Map(),
  };
  low.inputBits.set(name, 0);
  low.values.set(name, v);
}

export function reduceMax(low: Lowering, node: GraphNode): void {
  const axes = node.inputs[1] ? low.constant(node.inputs[1]) : undefined;
  if (axes?.data.length !== 1)
    throw new ModelError(
      `${node.name}: a maximum over one constant axis is supported, not over ${axes ? `[${Array.from(axes.data)}]` : 'all'}`,
    );
  const out = low.define(node.outputs[0]);
  const { t, bits, short } = candidates(low, node, Number(axes.data[0]), node.attrs.keepdims !== 0);
  const most = low.b.gate('max', [t], { bits }, { ...t, shape: short, label: undefined })[0];
  const f = Math.round(Math.log2(t.scale as number));
  low.inputBits.set(out.name, f);
  out.shares.set(f, shaped(low, most, out.shape, out.name));
}
