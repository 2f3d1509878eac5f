/**
 * Rotary positions on shares: a value at an exact scale for each channel turns by public integers (gates/rotary.ts), and one extension drops
 * the bits they added. The graph has tables of cosines and sines; the gate wants frequencies, since both parties must make the same integers
 * at any position. They are read off the tables, and must give them back.
 */
import { type GraphNode, ModelError, type Tensor } from '../../graph/graph.ts';
import { lastDim, type T } from '../builder.ts';
import { projected } from './attention.ts';
import { type Lowering, room } from './lowering.ts';

/** Bits of cosines and sines, at most. */
const tableBits = 13;

export function rotary(low: Lowering, node: GraphNode): void {
  const [x, cos, sin] = [low.value(node.inputs[0]), low.constant(node.inputs[1]), low.constant(node.inputs[2])];
  if (!cos || !sin) throw new ModelError(`${node.name}: the tables must be constants`);
  const { frequencies, magnitude } = turnsOf(node.name, cos, sin);
  const heads = node.attrs.heads as number;
  const width = lastDim(x);
  low.define(node.outputs[0], {
    project(scale: readonly number[]): T {
      const { b } = low;
      const t = projected(low, x, scale);
      // Turned pairs are up to √2 larger than either of them.
      const bound = Math.SQRT2 * low.bound(x) * magnitude;
      const bits = Math.min(tableBits, Math.floor(room - Math.log2(Math.max(...scale) * bound)));
      if (bits < 6) throw new ModelError(`${node.name}: values up to ${bound.toPrecision(3)} leave ${bits} bits for their positions' cosines; 6 are needed`);
      const turned = b.map('rotary', [t], { d: width / heads, frequencies, bits, magnitude: magnitude === 1 ? undefined : magnitude }, { scale: scale.map((s) => s * 2 ** bits), bound });
      const uniform = scale.every((s) => s === scale[0]) ? scale[0] : scale;
      return b.extend(turned, { s: bits, scale: uniform, bound: low.bound(low.value(node.outputs[0])) }).share!;
    },
  });
}

/** Radians a position, and the magnitude. Position 1 says them to seven digits; each doubling of the position gives one bit more. */
function turnsOf(name: string, cos: Tensor, sin: Tensor): { frequencies: number[]; magnitude: number } {
  const [positions, pairs] = cos.shape;
  const [c, s] = [cos.data as Float32Array, sin.data as Float32Array];
  const magnitude = Math.round(c[0] * 2 ** 20) / 2 ** 20;
  const frequencies = Array.from({ length: pairs }, (_, j) => {
    let f = 0;
    for (let p = 1; p < positions; p = Math.min(2 * p, Math.max(p + 1, positions - 1))) {
      const angle = Math.atan2(s[p * pairs + j], c[p * pairs + j]);
      f = (angle + 2 * Math.PI * Math.round((p * f - angle) / (2 * Math.PI))) / p;
      if (p === positions - 1) break;
    }
    return f;
  });
  for (const p of [0, 1, positions >> 1, positions - 1])
    frequencies.forEach((f, j) => {
      const off = Math.hypot(c[p * pairs + j] - magnitude * Math.cos(p * f), s[p * pairs + j] - magnitude * Math.sin(p * f));
      if (!(off < 1e-4 * magnitude)) throw new ModelError(`${name}: its tables are not those of turns at an even pace: pair ${j} is off by ${off.toPrecision(2)} at position ${p}`);
    });
  return { frequencies, magnitude };
}
