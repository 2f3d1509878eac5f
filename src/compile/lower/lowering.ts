/**
 * What lowering knows of a graph value, and the forms it can be had in.
 *
 * A value is lowered when somebody needs it, in the form needed: a share at a power-of-two scale, a wire opened once, an accumulator
 * with a scale per channel. Forms are made once and remembered. Operators are in the files beside this one.
 */
import type { Graph, GraphNode, Tensor } from '../../graph/graph.ts';
import { byParam, type Dim, dim, ProgramError } from '../../program/program.ts';
import { type Builder, lastDim, type T } from '../builder.ts';
import type { Calibration, ValueRange } from '../calibrate.ts';
import type { Precision } from '../precision.ts';
import type { SmoothFunction } from './smooth.ts';

export interface RawOptions {
  /** Wanted scale per channel; the accumulator may have more whole bits, which its next rescale drops, unless `exact`. */
  readonly scale?: readonly number[];
  readonly exact?: boolean;
  /** No channel needs more fraction bits than this. */
  readonly most?: number;
  /** Channels whose weights are zero here, and whose bias must be too. */
  readonly silent?: ReadonlySet<number>;
  /** Order of the channels. */
  readonly order?: readonly number[];
}

/** A value of the graph on shares. */
export interface Val {
  readonly name: string;
  readonly shape: readonly Dim[];
  readonly range: ValueRange;
  /** Makes the value as an accumulator: a 32-bit share with a scale per channel, before any rescale. */
  readonly accumulate?: (o: RawOptions) => T;
  /** The accumulator has one scale of its own choice, and no channels to reorder. */
  readonly whole?: boolean;
  /** Makes the value as a share at 2^f in a better way than rescaling the accumulator, where there is one. */
  readonly rescale?: (f: number) => T | undefined;
  /** Makes the value as a share at exactly this scale for each channel, where that is better than rescaling a share. */
  readonly project?: (scale: readonly number[]) => T;
  /** value = base·mul + add, per channel of the last axis: a normalisation's γ and β, folded by linear layers. */
  readonly affine?: {
    readonly base: Val;
    readonly mul: Float64Array;
    readonly add: Float64Array;
    readonly names: readonly [string, string];
  };
  readonly sum?: readonly [Val, Val];
  /** Makes the value as a share at about 2^f when it is first asked for; other scales are had from that one. */
  readonly lazy?: (f: number) => T;
  /** What this value is a smooth function of, where only a product reads it: see gated.ts. */
  readonly gate?: { readonly x: Val; readonly fn: SmoothFunction };
  /** What this value is the ReLU of, while nobody has asked for it. */
  readonly reluOf?: Val;
  /** The value's channels in memory, when they are not in the graph's order. */
  order?: readonly number[];
  raw?: T;
  readonly shares: Map<number, T>;
  readonly wires: Map<number, T>;
}

/** Fraction bits of activations; fewer only where a bound demands it. */
export const activationBits = 12;
/** Fraction bits of a value that only a normalisation reads. */
export const normedBits = 18;
/** Bits of a weight's fraction, at most. */
export const weightBits = 14;
/** Rings keep |value|·scale below 2^30: what an extension needs. */
export const room = 30;

const normalisation = /^(LayerNormalization|RMSNormalization)$/;
/** Operators that keep values as they are. */
const moves = /^(Reshape|Transpose|Flatten|Squeeze|Unsqueeze|Identity)$/;

export class Lowering {
  readonly values = new Map<string, Val>();
  /** Fraction bits of values that have a scale of their own: inputs as the client sends them, probabilities, positions. */
  readonly inputBits = new Map<string, number>();
  readonly consumers = new Map<string, GraphNode[]>();
  private readonly streams = new Map<string, number>();

  constructor(
    readonly graph: Graph,
    readonly calibration: Calibration,
    readonly b: Builder,
    readonly buckets: readonly number[],
    readonly precision: Precision,
    /** Decoders: first rows of caches, by the graph's input. */
    readonly prefix: ReadonlyMap<string, Tensor> = new Map(),
  ) {
    for (const node of graph.nodes) for (const name of node.inputs) this.consumers.set(name, [...(this.consumers.get(name) ?? []), node]);
    this.findStreams();
  }

  value(name: string): Val {
    const v = this.values.get(name);
    if (!v) throw new ProgramError(`'${name}' is used before it is made`);
    return v;
  }

  constant(name: string): Tensor | undefined {
    return this.graph.constants.get(name);
  }

  range(name: string): ValueRange {
    const r = this.calibration.values.get(name);
    if (!r) throw new ProgramError(`'${name}' was not seen when calibrating`);
    return r;
  }

  define(name: string, rest: Partial<Val> = {}): Val {
    const range = this.range(name);
    const v: Val = { name, shape: range.shape, range, shares: new Map(), wires: new Map(), ...rest };
    this.values.set(name, v);
    return v;
  }

  /** A value that exists as a share at scale 2^f. */
  defineShare(name: string, t: T, f: number): Val {
    const v = this.define(name);
    v.shares.set(f, t);
    return v;
  }

  /** Bound with one bit of margin. */
  bound(v: Val): number {
    return 2 * Math.max(v.range.max, 2 ** -6);
  }

  /** Fraction bits this value is usually kept at: those of its residual stream, or the most its bound allows. */
  bits(v: Val): number {
    return (
      this.inputBits.get(v.name) ?? this.streams.get(v.name) ?? Math.min(activationBits, Math.floor(room - 1 - Math.log2(this.bound(v))))
    );
  }

  /** Ring of a revealed value: what holds its bound at its scale, with a sign and a bit to spare. The scale may depend on parameters. */
  revealBits(t: T): number {
    const scale = t.scale as number | { dim: string };
    return typeof scale === 'number' ? Math.min(32, Math.ceil(Math.log2(t.bound * scale)) + 2) : 32;
  }

  /** The accumulator of a value that has one and that nobody has asked for yet. */
  accumulator(v: Val, o: RawOptions = {}): T {
    if (v.raw) return v.raw;
    if (!v.accumulate) throw new ProgramError(`'${v.name}' has no accumulator`);
    v.raw = v.accumulate(o);
    v.order = o.order;
    return v.raw;
  }

  /** The value as a 32-bit share at scale 2^f (values with a scale of their own: within a bit below it, as its scale says). */
  share(v: Val, f = this.bits(v)): T {
    const known = v.shares.get(f);
    if (known) return known;
    const t = this.makeShare(v, f);
    v.shares.set(f, t);
    return t;
  }

  /** `share`, at exactly 2^f. */
  exact(v: Val, f: number): T {
    const t = this.share(v, f);
    if (t.scale === 2 ** f) return t;
    const extra = Math.max(0, Math.min(activationBits, Math.floor(room - 1 - Math.log2(this.bound(v)) - f)));
    const scales = typeof t.scale === 'number' ? [t.scale] : t.scale;
    return this.b.extend(t, { s: extra, mul: scales.map((s) => Math.round(2 ** (f + extra) / s)), scale: 2 ** f, bound: this.bound(v) })
      .share!;
  }

  private makeShare(v: Val, f: number): T {
    if (v.sum)
      return this.b.gate(
        'add',
        v.sum.map((x) => this.exact(x, f)),
        null,
        { ...this.exact(v.sum[0], f), bound: this.bound(v), label: v.name },
      )[0];
    if (v.affine) return this.affineShare(v, f);
    if (v.lazy && v.shares.size === 0) return v.lazy(f);
    const better = v.raw ? undefined : v.rescale?.(f);
    if (better) return better;
    if (v.accumulate || v.raw) return this.rescaled(v, this.accumulator(v, { most: f + weightBits }), f);
    const [[have, t]] = [...v.shares].sort((a, b) => b[0] - a[0]);
    if (have > f) return this.b.extend(t, { s: have - f, bound: this.bound(v), label: v.name }).share!;
    const factor = 2 ** (f - have);
    return this.b.map('affine', [t], { mul: [factor] }, { scale: (t.scale as number) * factor, label: v.name });
  }

  /** An accumulator with a scale per channel, to one scale 2^f: all channels lose their own number of bits in one gate. */
  private rescaled(v: Val, raw: T, f: number): T {
    const drop = dropTo(raw, f);
    if (!drop) return this.consumers.has(v.name) ? this.divided(v, raw, f) : raw;
    if (drop.none) return raw;
    const { s, mul, scale } = drop;
    return this.b.extend(raw, { s, mul, scale, bound: this.bound(v), label: v.order ? undefined : v.name }).share!;
  }

  /** A mean whose divisor is a parameter, at 2^f: each length has its factor, as precise as the ring has room for. */
  private divided(v: Val, raw: T, f: number): T {
    const expression = (raw.scale as unknown as { dim: string }).dim;
    const [name, other] = new Set(expression.match(/[A-Za-z_]\w*/g));
    if (!name || other) throw new ProgramError(`'${v.name}': a mean over ${expression} values is not supported`);
    const lengths = Array.from({ length: this.buckets.at(-1)! }, (_, i) => i + 1);
    const bound = this.bound(v);
    const factors = lengths.map((n) => {
      const divisor = dim(expression, { [name]: n }) / 2 ** f;
      const s = Math.min(24, Math.floor(room - 1 - f - Math.log2(bound)));
      return { s, mul: [Math.round(2 ** s / divisor)] };
    });
    const mul = byParam(
      name,
      lengths,
      factors.map((x) => x.mul),
    );
    const s = byParam(
      name,
      lengths,
      factors.map((x) => x.s),
    );
    return this.b.extend(raw, { s, mul, scale: 2 ** f, bound, label: v.name }).share!;
  }

  /**
   * x − knot as a wire at about 2^f for elementwise gates, by the extension that rescales x where it is an accumulator still: in one round.
   * `bits`: in how many its sign is found; beyond the bound there is a bit of margin more.
   */
  elementWire(v: Val, f: number, knot = 0): { wire: T; bits: number } {
    const { b } = this;
    const bound = this.bound(v) + Math.abs(knot);
    const bits = (scale: number, most: number): number => Math.min(most, Math.max(4, Math.ceil(Math.log2(bound * scale)) + 3));
    if (!v.shares.has(f) && !v.sum && !v.affine && !v.lazy && (v.raw || v.accumulate)) {
      const better = v.raw ? undefined : v.rescale?.(f);
      if (better) v.shares.set(f, better);
      else {
        const raw = this.accumulator(v, { most: f + weightBits });
        const drop = v.order ? undefined : dropTo(raw, f);
        if (drop && !drop.none && (knot === 0 || !drop.mul)) {
          const ring = bits(drop.scale, Math.min(30, 32 - drop.s));
          const add = knot === 0 ? undefined : [-Math.round(knot * drop.scale * 2 ** drop.s)];
          const others = knot === 0 && (this.consumers.get(v.name)?.length ?? 0) > 1;
          const made = b.extend(raw, { s: drop.s, mul: drop.mul, add, scale: drop.scale, bound, bits: ring, share: others, wire: true });
          if (made.share) v.shares.set(f, made.share);
          return { wire: made.wire!, bits: ring - 1 };
        }
      }
    }
    const share = knot === 0 && !v.order ? this.share(v, f) : this.exact(v, f);
    const plain = v.order ? this.plain(v, f) : share;
    const scale = plain.scale as number;
    if (knot === 0) return { wire: v.order ? b.open(plain) : this.wire(v, f), bits: bits(scale, 32) };
    const moved = b.map('affine', [plain], { add: [-Math.round(knot * scale)] }, { bound });
    return { wire: b.open(moved), bits: bits(scale, 32) };
  }

  private affineShare(v: Val, f: number): T {
    const { base, mul, add, names } = v.affine!;
    const bits = Math.min(activationBits, this.bits(base));
    const x = this.plain(base, bits);
    const extra = Math.max(0, Math.min(activationBits, Math.floor(room - 1 - Math.log2(this.bound(v)) - f)));
    const scale = 2 ** (f + extra);
    const factors = Array.from(mul, (m) => Math.round((m * scale) / (x.scale as number)));
    const offsets = Array.from(add, (a) => Math.round(a * scale));
    if (!this.b.private)
      return this.b.extend(x, { s: extra, mul: factors, add: offsets, scale: 2 ** f, bound: this.bound(v), label: v.name }).share!;
    // Each scale has weights (and masks) of its own.
    const [weight, bias] = [factors, offsets].map((v, i) => this.b.weight(`${names[i]}.${f}`, [v.length], Int32Array.from(v)));
    const z = this.b.gate(
      'mulPrivate',
      [base.order ? this.b.open(x) : this.wire(base, bits)],
      { weight, bias },
      { ...x, scale, bound: this.bound(v), label: undefined },
    )[0];
    return this.b.extend(z, { s: extra, scale: 2 ** f, label: v.name }).share!;
  }

  /** `share`, with the channels in the graph's order. */
  plain(v: Val, f = this.bits(v)): T {
    const t = this.share(v, f);
    if (!v.order) return t;
    return this.b.gate('spread', [t], { places: v.order, width: v.order.length }, { ...t, label: undefined })[0];
  }

  /** `exact`, with the channels in the graph's order. */
  plainExact(v: Val, f: number): T {
    const t = this.exact(v, f);
    return v.order ? this.b.gate('spread', [t], { places: v.order, width: v.order.length }, { ...t, label: undefined })[0] : t;
  }

  /** The value opened under a full mask, once for all who use it. */
  wire(v: Val, f = this.bits(v)): T {
    let t = v.wires.get(f);
    if (!t) {
      t = this.b.open(this.share(v, f));
      v.wires.set(f, t);
    }
    return t;
  }

  /**
   * Values joined by additions are one stream and share one scale: the most bits that its bounds, and the centring of the normalisations
   * that read it, leave room for.
   */
  private findStreams(): void {
    const parent = new Map<string, string>();
    const find = (x: string): string => (parent.get(x) === undefined || parent.get(x) === x ? x : find(parent.get(x)!));
    const join = (a: string, b: string): void => void parent.set(find(a), find(b));
    const members = new Set<string>();
    for (const node of this.graph.nodes) {
      if (!/^(Add|Sub)$/.test(node.op) || node.inputs.some((i) => this.graph.constants.has(i))) continue;
      for (const name of [...node.inputs, node.outputs[0]]) {
        members.add(name);
        join(name, node.outputs[0]);
      }
    }
    const added = new Set(members);
    for (const node of this.graph.nodes) if (normalisation.test(node.op)) members.add(node.inputs[0]);
    // What is only moved on its way into a stream, or has a constant added, has the stream's scale.
    for (const node of [...this.graph.nodes].reverse()) {
      const [out] = node.outputs;
      if (!members.has(out) || !(moves.test(node.op) || node.op === 'Add')) continue;
      for (const name of node.inputs) {
        if (this.graph.constants.has(name) || members.has(name)) continue;
        members.add(name);
        if (added.has(out)) added.add(name);
        join(name, out);
      }
    }
    const limit = new Map<string, number>();
    for (const name of members) {
      const r = this.range(name);
      const root = find(name);
      // A value that only a normalisation reads may be small all over: it keeps what an input keeps.
      const most = !added.has(name) ? normedBits : this.multiplied(name) ? activationBits : this.precision.stream;
      let bits = Math.min(most, Math.floor(room - 1 - Math.log2(2 * Math.max(r.max, 2 ** -6))));
      // Centring multiplies by the row's length.
      const centred = this.consumers.get(name)?.some((n) => n.op === 'LayerNormalization');
      if (r.rows && centred) bits = Math.min(bits, Math.floor(room - 0.5 - Math.log2(2 * r.rows.centred * lastDim(r))));
      limit.set(root, Math.min(limit.get(root) ?? Infinity, bits));
    }
    for (const name of members) this.streams.set(name, limit.get(find(name))!);
  }

  /** Whether a product reads the value itself: more bits here would be fewer in its other factor. Linear layers after a normalisation read its x̂. */
  private multiplied(name: string): boolean {
    const normed = this.graph.nodes.some((n) => n.outputs.includes(name) && normalisation.test(n.op));
    const others = (this.consumers.get(name) ?? []).filter((n) => !(normed && n.op === 'Linear'));
    return others.some((n) => !(moves.test(n.op) || normalisation.test(n.op) || /^(Add|Sub)$/.test(n.op)));
  }
}

interface Drop {
  readonly s: number;
  readonly mul?: readonly number[];
  readonly scale: number;
  /** Nothing is to be done. */
  readonly none: boolean;
}

/** How an accumulator comes to about 2^f. Undefined for a scale that depends on parameters (a mean over tokens): the client can divide, gates cannot. */
function dropTo(raw: T, f: number): Drop | undefined {
  if (typeof raw.scale !== 'number' && !Array.isArray(raw.scale)) return undefined;
  const scales = typeof raw.scale === 'number' ? [raw.scale] : raw.scale;
  const drops = scales.map((s) => Math.round(Math.log2(s) - f));
  const s = Math.max(0, ...drops);
  const exact = scales.every((x, i) => x === 2 ** (f + drops[i]));
  const mul = drops.every((d) => d === s) ? undefined : drops.map((d) => 2 ** (s - d));
  return { s, mul, scale: exact ? 2 ** f : scales[0] / 2 ** drops[0], none: s === 0 && !mul };
}
