/**
 * LayerNormalization: centre, square, 1/√, multiply.
 *
 *   c = d·x − Σx                                 local, at d times the scale
 *   c at fc bits and at fs bits                  one round, two extensions, both also opened as wires
 *   q = Σ c²                                     local, from the second wire
 *   g = 1/√(q/d + ε)                             one harmonic gate a row, one extension
 *   x̂ = c·g                                      local, from the wires
 * RMSNormalization is the same without centring. γ and β are left to whoever uses the value: linear layers fold them, others multiply (Lowering.share).
 * A wrapped variance would spoil its row, so its range has the widest margin: [min/1.5, max·2.5].
 */
import { type GraphNode, ModelError } from '../../graph/graph.ts';
import { lastDim, type T } from '../builder.ts';
import { activationBits, type Lowering, type Val } from './lowering.ts';
import { nearest, rowGate } from './row.ts';

export function layerNorm(low: Lowering, node: GraphNode): void {
  const x = low.value(node.inputs[0]);
  const gamma = low.constant(node.inputs[1]);
  const beta = node.inputs[2] ? low.constant(node.inputs[2]) : undefined;
  if (!gamma) throw new ModelError(`${node.name}: the scale must be a constant`);
  const d = lastDim(x);
  const epsilon = (node.attrs.epsilon as number | undefined) ?? 1e-5;
  if ((node.attrs.axis ?? -1) !== -1 && node.attrs.axis !== x.shape.length - 1)
    throw new ModelError(
      `${node.name}: a normalisation over axis ${node.attrs.axis} of [${x.shape}] is not supported; over the last axis it is`,
    );
  const hat = normalised(low, node.name, x, d, epsilon, node.op === 'RMSNormalization');
  const base: Val = {
    // Not the output's name, which may be the node's: x̂ has bits of its own.
    name: `${node.outputs[0]}.normalised`,
    shape: x.shape,
    range: { shape: [...x.shape], max: Math.sqrt(d) },
    shares: new Map([[activationBits, hat]]),
    wires: new Map(),
  };
  low.define(node.outputs[0], {
    affine: {
      base,
      mul: perChannel(gamma.data, d),
      add: beta ? perChannel(beta.data, d) : new Float64Array(d),
      names: [`${node.name}.gamma`, `${node.name}.beta`],
    },
  });
}

const perChannel = (v: ArrayLike<number>, d: number): Float64Array =>
  v.length === 1 ? new Float64Array(d).fill(v[0]) : Float64Array.from(v);

/** Relative error of 1/√x that is worth a word. */
const imprecise = 0.02;
const text = (v: number): string => `${Number(v.toPrecision(2))}`;

/** x̂ as a share at about 2^12. */
function normalised(low: Lowering, name: string, x: Val, d: number, epsilon: number, uncentred: boolean): T {
  const { b } = low;
  const rows = x.range.rows!;
  const input = low.plain(x);
  const lo = (uncentred ? rows.squareLo : rows.varianceLo) / 1.5;
  const hi = (uncentred ? rows.squareHi : rows.varianceHi) * 2.5;
  const scale = (input.scale as number) * (uncentred ? 1 : d);
  const bound = uncentred ? low.bound(x) : 2 * rows.centred;
  const c = uncentred ? input : b.map('centre', [input], null, { scale, bound });
  // Σc² < 2^32/1.2 over the widened range decides the squared copy's bits; the product's bits are shared between c and g.
  const square = Math.ceil(Math.log2(scale / Math.sqrt(2 ** 32 / (1.2 * d * hi))) - 1e-9);
  const bits = 29.9 - 0.5 * Math.log2(d);
  const fine = Math.max(0, Math.round(Math.log2(scale) - (bits - (0.5 * Math.log2(lo * hi)) / 2) / 2));
  const s = Math.max(0, square);
  const { wire } = b.extend(c, { s: fine, share: false, wire: true, bound });
  const squared = s === fine ? wire! : b.extend(c, { s, share: false, wire: true, bound }).wire!;
  const unit = (squared.scale as number) ** 2 * d;
  const shape = x.shape.slice(0, -1);
  const q = b.gate('rowSquares', [squared], null, { kind: 'share', bits: 32, scale: unit / d, bound: hi * d, shape })[0];
  const fit = nearest((v) => 1 / Math.sqrt(v + epsilon), { key: `rsqrt+${epsilon}`, lo, hi, unitsPerOne: unit }, low.precision.rsqrt);
  if (fit.relError > imprecise) b.warnings.push(`${name}: the mean squares of its rows go from ${text(lo)} to ${text(hi)}, margins included: 1/√x is off by up to ${Math.round(100 * fit.relError)} % there`);
  const g = rowGate(low, q, fit, `1/sqrt(x + ${epsilon})`, 1 / Math.sqrt(lo));
  // g goes down to the bits the product leaves it.
  const left = bits - Math.log2(wire!.scale as number);
  const opened = b.extend(g, { s: Math.max(0, Math.ceil(fit.t + fit.u - left)), share: false, wire: true }).wire!;
  const z = b.gate('mul', [wire!, opened], null, {
    kind: 'share',
    bits: 32,
    scale: (wire!.scale as number) * (opened.scale as number),
    bound: Math.sqrt(d),
    shape: x.shape,
  })[0];
  return b.extend(z, { s: Math.max(0, Math.floor(Math.log2(z.scale as number)) - activationBits) }).share!;
}
