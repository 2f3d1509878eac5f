/** Operators of decoders: rotary positions. (Attention with its cache is in matmul.ts.) */
import type { GraphNode, Tensor } from '../graph.ts';
import { alloc, type Family, fail, floats, type Inputs, intAttr, need } from './common.ts';

/**
 * x [n, heads·d], cos and sin [positions, r/2] with r ≤ d, past [p, …] or absent: row i of x stands at position p + i, p being the rows of
 * `past` (its values do not matter). Of each head the first r values turn, value j together with value j + r/2:
 *   y_j = x_j·cos − x_{j+r/2}·sin        y_{j+r/2} = x_{j+r/2}·cos + x_j·sin
 */
function rotary(x: Inputs, node: GraphNode): Tensor[] {
  const [t, cos, sin] = [need(x, 0), need(x, 1), need(x, 2)];
  const past = x[3]?.shape[0] ?? 0;
  const heads = intAttr(node, 'heads', 1);
  if (t.shape.length !== 2 || heads < 1 || t.shape[1] % heads !== 0) return fail(`[${t.shape}] in ${heads} heads`);
  const [n, width] = t.shape;
  const d = width / heads;
  const [positions, half] = cos.shape;
  if (cos.shape.length !== 2 || sin.shape.join() !== cos.shape.join() || 2 * half > d)
    return fail(`tables [${cos.shape}] and [${sin.shape}] for heads of ${d}`);
  if (past + n > positions) return fail(`position ${past + n - 1}; there are tables for ${positions}`);
  const y = alloc('f32', t.shape);
  const [from, to, c, s] = [floats(t), floats(y), floats(cos), floats(sin)];
  to.set(from);
  for (let i = 0; i < n; i++) {
    const row = (past + i) * half;
    for (let h = 0; h < heads; h++) {
      const at = i * width + h * d;
      for (let j = 0; j < half; j++) {
        const [a, b] = [from[at + j], from[at + j + half]];
        to[at + j] = a * c[row + j] - b * s[row + j];
        to[at + j + half] = b * c[row + j] + a * s[row + j];
      }
    }
  }
  return [y];
}

export const decoders: Family = { Rotary: rotary };
