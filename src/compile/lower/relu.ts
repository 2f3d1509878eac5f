/**
 * Piecewise linear functions: a·x + c + Σ w_i·max(x − k_i, 0), each term by a relu gate, exact.
 *
 * A relu takes its wire from the extension that rescales its input (Lowering.elementWire), so after a matrix it costs the rounds of the
 * sign's carry and one more. Knots and slopes are public: they are the model's architecture.
 */
import { type GraphNode, ModelError } from '../../graph/graph.ts';
import type { T } from '../builder.ts';
import { activationBits, type Lowering, room, type Val } from './lowering.ts';
import { elementWise } from './products.ts';

/** The bits at which x's own bound lets it be: a piece of x may be far smaller than x. */
const within = (low: Lowering, x: Val, f: number): number => Math.min(f, Math.floor(room - 1.5 - Math.log2(low.bound(x))));

/** max(x − knot, 0) at about 2^f, as a share. */
function part(low: Lowering, x: Val, f: number, knot: number, bound: number, label?: string): T {
  const { wire, bits } = low.elementWire(x, f, knot);
  return reluOf(low, wire, bits, bound, label);
}

/** max(x, 0) at 2^f. */
export function reluPart(low: Lowering, x: Val, f: number, label?: string): T {
  const g = within(low, x, f);
  return raised(low, part(low, x, g, 0, low.bound(x), label), f - g);
}

export const reluOf = (low: Lowering, wire: T, bits: number, bound: number, label?: string): T =>
  low.b.gate('relu', [wire], { bits }, { kind: 'share', bits: 32, scale: wire.scale, bound, shape: wire.shape, label })[0];

/** A share at 2^f brought up to 2^g, g ≥ f. */
export const raised = (low: Lowering, t: T, bits: number): T =>
  bits === 0 ? t : low.b.map('affine', [t], { mul: [2 ** bits] }, { scale: (t.scale as number) * 2 ** bits, label: undefined });

export function relu(low: Lowering, node: GraphNode): void {
  const x = low.value(node.inputs[0]);
  const out = node.outputs[0];
  low.define(out, { reluOf: x, lazy: (f) => reluPart(low, x, f, out) });
}

interface Pieces {
  /** a·x + c. */
  readonly slope: number;
  readonly constant: number;
  /** weight·max(x − knot, 0) */
  readonly bends: readonly { readonly weight: number; readonly knot: number }[];
}

/** Bits of slopes that are not integers. */
const slopeBits = 14;

/** The sum of the pieces at 2^f; undefined where there is none. */
export function pieces(low: Lowering, x: Val, p: Pieces, bound: number, f: number, label?: string): T {
  const { b } = low;
  const g = within(low, x, f);
  const factors = [p.slope, ...p.bends.map((e) => e.weight)];
  const e = factors.every(Number.isInteger) ? 0 : Math.min(slopeBits, Math.floor(room - 1 - g - Math.log2(bound)));
  const weigh = (t: T, w: number): T => {
    const mul = Math.round(w * 2 ** e);
    return mul === 1 ? t : b.map('affine', [t], { mul: [mul] }, { bound: t.bound * Math.abs(mul), label: undefined });
  };
  const terms = [
    ...(p.slope === 0 ? [] : [weigh(low.plainExact(x, g), p.slope)]),
    ...p.bends.map(({ weight, knot }) => weigh(part(low, x, g, knot, low.bound(x) + Math.abs(knot)), weight)),
  ];
  if (terms.length === 0) throw new ModelError(`internal: '${x.name}': a constant function`);
  let sum = terms.reduce((s, t) => b.map('add', [s, t], null, { bound: 2 ** e * bound, label: undefined }));
  if (p.constant !== 0)
    sum = b.map('affine', [sum], { add: [Math.round(p.constant * 2 ** (g + e))] }, { bound: 2 ** e * bound, label: undefined });
  // With slopes that are not integers the sum so far is 2^e times the value, at the input's scale: the last rescale drops e bits.
  const last =
    e === 0 ? sum : b.extend(sum, { s: e, ...asFactors(sum, 1), scale: 2 ** g, bound, label: f === g ? label : undefined }).share!;
  return raised(low, last, f - g);
}

/** A factor along an axis, as part of the value rather than of the scale. */
export function asFactors(t: T, factor: number): { mul: number[]; axis?: number } {
  const axis = t.shape.findLastIndex((d) => typeof d === 'number' && d > 1);
  return axis < 0 ? { mul: [factor] } : { mul: new Array<number>(t.shape[axis] as number).fill(factor), axis };
}

const lower =
  (f: (low: Lowering, node: GraphNode) => Pieces) =>
  (low: Lowering, node: GraphNode): void => {
    const x = low.value(node.inputs[0]);
    const out = node.outputs[0];
    const v = low.define(out, { lazy: (bits) => pieces(low, x, f(low, node), low.bound(v), bits, out) });
  };

const numberAttr = (node: GraphNode, name: string, otherwise: number): number => (node.attrs[name] as number | undefined) ?? otherwise;

/** x below 0 times alpha. */
export const leakyRelu = lower((_, node) => {
  const alpha = numberAttr(node, 'alpha', 0.01);
  return { slope: alpha, constant: 0, bends: [{ weight: 1 - alpha, knot: 0 }] };
});

export const thresholdedBelow = (lo: number, hi: number): Pieces => {
  const bends = [...(lo > -Infinity ? [{ weight: 1, knot: lo }] : []), ...(hi < Infinity ? [{ weight: -1, knot: hi }] : [])];
  return lo > -Infinity ? { slope: 0, constant: lo, bends } : { slope: 1, constant: 0, bends };
};

/** A constant bound of Clip, Max or Min: one number, part of the architecture. */
function limit(low: Lowering, node: GraphNode, name: string | undefined, otherwise: number): number {
  if (!name) return otherwise;
  const c = low.constant(name);
  if (c?.data.length !== 1) throw new ModelError(`${node.name}: a bound must be one constant number`);
  // Exporters write 'none' as the largest single.
  return Math.abs(c.data[0]) > 1e30 ? otherwise : c.data[0];
}

export const clip = lower((low, node) =>
  thresholdedBelow(limit(low, node, node.inputs[1], -Infinity), limit(low, node, node.inputs[2], Infinity)),
);

export const abs = lower(() => ({ slope: -1, constant: 0, bends: [{ weight: 2, knot: 0 }] }));

export const hardSigmoid = lower((_, node) => {
  const alpha = numberAttr(node, 'alpha', 0.2);
  const beta = numberAttr(node, 'beta', 0.5);
  return {
    slope: 0,
    constant: 0,
    bends: [
      { weight: alpha, knot: -beta / alpha },
      { weight: -alpha, knot: (1 - beta) / alpha },
    ],
  };
});

/** x·clip(x/6 + ½, 0, 1) */
export function hardSwish(low: Lowering, node: GraphNode): void {
  const x = low.value(node.inputs[0]);
  const out = node.outputs[0];
  const gate = pieces(
    low,
    x,
    {
      slope: 0,
      constant: 0,
      bends: [
        { weight: 1 / 6, knot: -3 },
        { weight: -1 / 6, knot: 3 },
      ],
    },
    1.01,
    activationBits,
  );
  const v: Val = {
    name: `${out}.gate`,
    shape: x.shape,
    range: { shape: [...x.shape], max: 0.5 },
    shares: new Map([[activationBits, gate]]),
    wires: new Map(),
  };
  elementWise(low, node, x, v);
}

/** max(x, y) = y + max(x − y, 0), min(x, y) = x − max(x − y, 0); of more than two in turn; against one constant number a Clip. */
export function extremum(low: Lowering, node: GraphNode): void {
  const largest = node.op === 'Max';
  const constants = node.inputs.filter((i) => low.constant(i));
  const out = node.outputs[0];
  if (constants.length === 1 && node.inputs.length === 2) {
    const k = limit(low, node, constants[0], 0);
    const x = low.value(node.inputs.find((i) => !low.constant(i))!);
    const v = low.define(out, {
      lazy: (f) => pieces(low, x, largest ? thresholdedBelow(k, Infinity) : thresholdedBelow(-Infinity, k), low.bound(v), f, out),
    });
    return;
  }
  if (constants.length > 0 || node.inputs.length !== 2)
    throw new ModelError(
      `${node.name}: ${node.op} of ${node.inputs.length} values, ${constants.length} of them constants, is not supported; of two values, or of one and a number, it is`,
    );
  const [x, y] = node.inputs.map((i) => low.value(i));
  if (JSON.stringify(x.shape) !== JSON.stringify(y.shape))
    throw new ModelError(`${node.name}: shapes [${x.shape}] and [${y.shape}] differ`);
  const v = low.define(out, {
    lazy: (f) => {
      const { b } = low;
      const bound = low.bound(x) + low.bound(y);
      const g = Math.min(f, Math.floor(room - 1.5 - Math.log2(bound)));
      const [s, t] = [low.plainExact(x, g), low.plainExact(y, g)];
      const difference = b.map('sub', [s, t], null, { bound, label: undefined });
      const most = reluOf(low, b.open(difference), Math.min(32, Math.ceil(Math.log2(bound * 2 ** g)) + 3), bound);
      return raised(
        low,
        b.gate(largest ? 'add' : 'sub', [largest ? t : s, most], null, { ...s, bound: low.bound(v), label: undefined })[0],
        f - g,
      );
    },
  });
}
