/**
 * Sums, differences, factors: linear with constants, so that little or nothing is opened for them.
 *
 * A factor per channel of the last axis stays beside the value (Val.affine) until somebody needs it: linear layers fold it into their
 * weights. A public factor that is one number only changes the scale. Private factors are weights like others, masked, and multiply
 * an opened wire.
 */
import { type GraphNode, ModelError, type Tensor, tensor } from '../../graph/graph.ts';
import { type Dim, dimAttr } from '../../program/program.ts';
import type { T } from '../builder.ts';
import type { ValueRange } from '../calibrate.ts';
import { type Broadcast, broadcast, expanded } from './broadcast.ts';
import { activationBits, type Lowering, room, type Val } from './lowering.ts';
import { elementWise, reciprocal, squareGate, squareOf } from './products.ts';
import { reluPart } from './relu.ts';
import { smooth } from './smooth.ts';

/** The constant among two operands, and where it stands. */
function operands(low: Lowering, node: GraphNode): { c?: Tensor; at: number; x: string } {
  const at = node.inputs.findIndex((i) => low.constant(i) !== undefined);
  return { c: at < 0 ? undefined : low.constant(node.inputs[at]), at, x: node.inputs[at < 0 ? 0 : 1 - at] };
}

const mapped = (c: Tensor, f: (v: number) => number): Tensor => tensor(Array.from(c.data, f), c.shape);

/** x + y: both in one stream; a constant is added by party 0, or from its masked form when weights are private. */
export function add(low: Lowering, node: GraphNode): void {
  const { c, x } = operands(low, node);
  if (c) addConstant(low, node, low.value(x), c);
  else sum(low, node, low.value(node.inputs[0]), low.value(node.inputs[1]));
}

export function sub(low: Lowering, node: GraphNode): void {
  const { c, at, x } = operands(low, node);
  if (c && at === 1)
    addConstant(
      low,
      node,
      low.value(x),
      mapped(c, (v) => -v),
    );
  else if (c) addConstant(low, node, negative(low, low.value(x), `${node.outputs[0]}.negative`), c);
  else sum(low, node, low.value(node.inputs[0]), negative(low, low.value(node.inputs[1]), `${node.outputs[0]}.negative`));
}

export function neg(low: Lowering, node: GraphNode): void {
  const x = low.value(node.inputs[0]);
  low.define(node.outputs[0], { lazy: (f) => negated(low, x, f) });
}

const negated = (low: Lowering, x: Val, f: number): T => low.b.map('affine', [low.plainExact(x, f)], { mul: [-1] }, { label: undefined });

function negative(low: Lowering, x: Val, name: string): Val {
  return {
    name,
    shape: x.shape,
    range: { shape: [...x.shape], max: x.range.max },
    lazy: (f) => negated(low, x, f),
    shares: new Map(),
    wires: new Map(),
  };
}

function sum(low: Lowering, node: GraphNode, a: Val, b: Val): void {
  const out = node.outputs[0];
  if (!a.order && !b.order && JSON.stringify(a.shape) === JSON.stringify(b.shape)) {
    low.define(out, { sum: [a, b] });
    return;
  }
  const v = low.define(out, {
    lazy(f) {
      const [x, y] = [a, b].map((t) => expanded(low, node, low.plainExact(t, f), v.shape));
      return low.b.gate('add', [x, y], null, { ...x, shape: v.shape, bound: low.bound(v), label: out })[0];
    },
  });
}

function addConstant(low: Lowering, node: GraphNode, x: Val, c: Tensor): void {
  const { b } = low;
  const given = broadcast(node, c, x.shape);
  const out = low.define(node.outputs[0]);
  const f = Math.min(low.bits(x), Math.floor(room - 1 - Math.log2(low.bound(out))));
  const t = low.plainExact(x, f);
  const values = Array.from(given.values, (v) => Math.round(v * 2 ** f));
  const decl = { ...t, bound: Math.max(low.bound(out), t.bound), label: node.outputs[0] };
  if (!b.private) {
    out.shares.set(f, b.gate('affine', [t], { add: values, axis: given.along === 'axis' ? given.axis : undefined }, decl)[0]);
    return;
  }
  const inner = given.along === 'axis' ? t.shape.slice(given.axis + 1) : [];
  if (inner.some((d) => typeof d === 'string'))
    throw new ModelError(`${node.name}: a private constant along axis ${given.axis} of [${t.shape}] is not supported`);
  const repeat = (inner as number[]).reduce((p, d) => p * d, 1);
  const long = Int32Array.from({ length: values.length * repeat }, (_, i) => values[Math.floor(i / repeat)]);
  out.shares.set(
    f,
    b.gate('addPrivate', [t], { weight: b.weight(`${node.name}.constant`, [long.length], long), length: long.length }, decl)[0],
  );
}

/** x·c with a constant, or x·y of two shared values. */
export function mul(low: Lowering, node: GraphNode): void {
  const { c, x } = operands(low, node);
  if (c) factor(low, node, low.value(x), broadcast(node, c, low.value(x).shape));
  else if (node.inputs[0] === node.inputs[1]) squareOf(low, node, low.value(x));
  else elementWise(low, node, low.value(node.inputs[0]), low.value(node.inputs[1]));
}

export function div(low: Lowering, node: GraphNode): void {
  const { c, at, x } = operands(low, node);
  const value = low.value(x);
  if (!c) elementWise(low, node, value, reciprocal(low, node, low.value(node.inputs[1])));
  else if (at === 1)
    factor(
      low,
      node,
      value,
      broadcast(
        node,
        mapped(c, (v) => 1 / v),
        value.shape,
      ),
    );
  else factor(low, node, reciprocal(low, node, value), broadcast(node, c, value.shape));
}

const feedsOnlyLinear = (low: Lowering, name: string): boolean =>
  !low.graph.outputs.includes(name) && (low.consumers.get(name) ?? []).every((n) => n.op === 'Linear');

function factor(low: Lowering, node: GraphNode, x: Val, given: Broadcast): void {
  const out = node.outputs[0];
  const last = x.shape.length - 1;
  const channels = x.shape[last];
  if (given.along === 'all') {
    const c = given.values[0];
    if (!low.b.private && !feedsOnlyLinear(low, out) && c !== 0)
      low.define(out, { raw: undefined }).raw = rescaledBy(low, x, c, out, low.bound(low.value(out)));
    else if (typeof channels === 'number') affine(low, out, node.name, x, last, new Float64Array(channels).fill(c));
    else affine(low, out, node.name, x, 'whole', given.values);
  } else affine(low, out, node.name, x, given.along === 'each' ? 'whole' : given.axis, given.values);
}

/** x·c as the same integers at another scale: a product with ±1. */
function rescaledBy(low: Lowering, x: Val, c: number, label: string, bound: number): T {
  const { b } = low;
  const t = x.raw && !x.order && typeof x.raw.scale === 'number' ? x.raw : low.plain(x);
  const column: Dim[] = [...t.shape, 1];
  const flat = b.gate('reshape', [t], { shape: column.map(dimAttr) }, { ...t, shape: column, label: undefined })[0];
  const weight = b.weight(`${label}.sign`, [1, 1], Int32Array.of(Math.sign(c)));
  const scale = (t.scale as number) / Math.abs(c);
  const y = b.gate('matmulPublic', [flat], { weight, K: 1, N: 1 }, { ...flat, scale, bound, label: undefined })[0];
  return b.gate('reshape', [y], { shape: t.shape.map(dimAttr) }, { ...y, shape: t.shape, label })[0];
}

/**
 * out = x·mul + add with vectors along one axis, or with one value for each of x ('whole'). Away from the last axis x is turned there and back.
 */
export function affine(
  low: Lowering,
  out: string,
  name: string,
  x: Val,
  axis: number | 'whole',
  mul: Float64Array,
  add = new Float64Array(mul.length),
  range?: ValueRange,
): Val {
  const define = (rest: Partial<Val>): Val =>
    range ? { name: out, shape: x.shape, range, shares: new Map(), wires: new Map(), ...rest } : low.define(out, rest);
  const names = [`${name}.factor`, `${name}.zero`] as const;
  const rank = x.shape.length;
  if (axis === rank - 1) return define({ affine: { base: x, mul, add, names } });
  const { b } = low;
  const perm = axis === 'whole' ? [] : [...x.shape.map((_, i) => i).filter((i) => i !== axis), axis];
  const shape: Dim[] = axis === 'whole' ? (mul.length === 1 ? [...x.shape, 1] : [1, mul.length]) : perm.map((i) => x.shape[i]);
  const turn = (t: T, to: readonly Dim[], by: readonly number[], label?: string): T =>
    axis === 'whole'
      ? b.gate('reshape', [t], { shape: to.map(dimAttr) }, { ...t, shape: to, label })[0]
      : b.gate('permute', [t], { perm: by }, { ...t, shape: to, label })[0];
  const back = x.shape.map((_, i) => perm.indexOf(i));
  const v: Val = define({
    lazy(f) {
      const bits = Math.min(activationBits, low.bits(x));
      const t = turn(low.plain(x, bits), shape, perm);
      const base: Val = { name: `${out}.base`, shape, range: { shape, max: x.range.max }, shares: new Map([[bits, t]]), wires: new Map() };
      low.inputBits.set(base.name, bits);
      const turned: Val = {
        name: `${out}.turned`,
        shape,
        range: { shape, max: v.range.max },
        affine: { base, mul, add, names },
        shares: new Map(),
        wires: new Map(),
      };
      return turn(low.share(turned, f), x.shape, back, out);
    },
  });
  return v;
}

/** Normalisation with constants, of channels on axis 1; usually folded into the layer before. */
export function batchNorm(low: Lowering, node: GraphNode): void {
  const [scale, bias, mean, variance] = [1, 2, 3, 4].map((i) => {
    const c = low.constant(node.inputs[i]);
    if (!c) throw new ModelError(`${node.name}: input ${i} must be a constant`);
    return c.data;
  });
  const epsilon = (node.attrs.epsilon as number | undefined) ?? 1e-5;
  const mul = Float64Array.from(scale, (s, i) => s / Math.sqrt(variance[i] + epsilon));
  affine(
    low,
    node.outputs[0],
    node.name,
    low.value(node.inputs[0]),
    1,
    mul,
    Float64Array.from(bias, (v, i) => v - mean[i] * mul[i]),
  );
}

export function pow(low: Lowering, node: GraphNode): void {
  const c = low.constant(node.inputs[1]);
  if (c?.data.length !== 1) throw new ModelError(`${node.name}: the exponent must be one constant number`);
  const x = low.value(node.inputs[0]);
  const p = Number(c.data[0]);
  if (p === 1) low.define(node.outputs[0], { lazy: (f) => low.plainExact(x, f) });
  else if (p === 2) squareOf(low, node, x);
  else if (p === 3) {
    const square: Val = {
      name: `${node.outputs[0]}.square`,
      shape: x.shape,
      range: { shape: [...x.shape], max: x.range.max ** 2 },
      shares: new Map(),
      wires: new Map(),
    };
    square.raw = squareGate(low, x, low.bound(square));
    elementWise(low, node, x, square);
  } else if (Number.isInteger(p) && p > 0) smooth(low, node, { name: `x^${p}`, f: (v) => v ** p, slope: 0 });
  else
    smooth(
      low,
      node,
      p === -1
        ? { name: 'reciprocal', f: (v) => 1 / v, slope: 0, domain: [0, Infinity] }
        : { name: `x^${p}`, f: (v) => v ** p, slope: 0, domain: [0, Infinity] },
    );
}

/** max(x, 0) + slope·min(x, 0), with slopes that are weights. */
export function prelu(low: Lowering, node: GraphNode): void {
  const x = low.value(node.inputs[0]);
  const slope = low.constant(node.inputs[1]);
  if (!slope) throw new ModelError(`${node.name}: the slope must be a constant`);
  const { along, axis, values } = broadcast(node, slope, x.shape);
  const out = node.outputs[0];
  const last = x.shape.at(-1)!;
  const range = { shape: [...x.shape], max: x.range.max };
  const forms = { shape: x.shape, range, shares: new Map<number, T>(), wires: new Map<number, T>() };
  const positive: Val = { ...forms, name: `${out}.positive`, lazy: (f) => reluPart(low, x, f) };
  const negative: Val = {
    ...forms,
    shares: new Map(),
    wires: new Map(),
    name: `${out}.negative`,
    lazy: (f) => low.b.map('sub', [low.plainExact(x, f), low.exact(positive, f)], null, { bound: low.bound(x), label: undefined }),
  };
  const steepest = values.reduce((m, v) => Math.max(m, Math.abs(v)), 0);
  const whole = along === 'each' || (along === 'all' && typeof last !== 'number');
  const mul = along === 'all' && typeof last === 'number' ? new Float64Array(last).fill(values[0]) : values;
  const scaled = affine(low, `${out}.scaled`, node.name, negative, whole ? 'whole' : axis, mul, undefined, {
    shape: [...x.shape],
    max: x.range.max * steepest,
  });
  low.define(out, { sum: [positive, scaled] });
}
