/** Matrix products: MatMul, Gemm, Linear, and attention as one operator. */
import { gemm } from '../gemm.ts';
import type { GraphNode, Tensor } from '../graph.ts';
import { sizeOf } from '../graph.ts';
import {
  alloc,
  broadcastShape,
  broadcastStrides,
  type Family,
  fail,
  floatAttr,
  floats,
  type Inputs,
  intAttr,
  need,
  permute,
  stridesOf,
} from './common.ts';

/** a[.., M, K] · b[.., K, N], leading axes broadcast; vectors as in numpy. */
export function matmul(a: Tensor, b: Tensor): Tensor {
  if (a.shape.length === 0 || b.shape.length === 0) return fail('a scalar operand');
  if (a.dtype !== b.dtype || a.dtype === 'bool') return fail(`operands are ${a.dtype} and ${b.dtype}`);
  const sa = a.shape.length === 1 ? [1, a.shape[0]] : a.shape;
  const sb = b.shape.length === 1 ? [b.shape[0], 1] : b.shape;
  const [M, K] = sa.slice(-2);
  const [K2, N] = sb.slice(-2);
  if (K !== K2) return fail(`[${a.shape}] times [${b.shape}]`);
  const lead = broadcastShape(sa.slice(0, -2), sb.slice(0, -2));
  const shape = [...lead, ...(a.shape.length === 1 ? [] : [M]), ...(b.shape.length === 1 ? [] : [N])];
  const y = alloc(a.dtype, shape);
  const many = sizeOf(lead);
  const [ia, ib] = [offsets(sa.slice(0, -2), lead), offsets(sb.slice(0, -2), lead)];
  if (a.dtype === 'i64') {
    for (let m = 0; m < many; m++) integerProduct(y.data, m * M * N, a.data, ia[m] * M * K, b.data, ib[m] * K * N, M, N, K);
    return y;
  }
  const base = { N, K, a: floats(a), b: floats(b), c: floats(y), transposed: false, owner: b };
  // One matrix on the right: all rows of a in one product.
  if (sizeOf(sb.slice(0, -2)) === 1 && sizeOf(sa.slice(0, -2)) === many) gemm({ ...base, M: many * M, aAt: 0, bAt: 0, cAt: 0 });
  else for (let m = 0; m < many; m++) gemm({ ...base, M, aAt: ia[m] * M * K, bAt: ib[m] * K * N, cAt: m * M * N });
  return y;
}

/** For each matrix of the broadcast result, which matrix of the operand it reads. */
function offsets(own: readonly number[], lead: readonly number[]): number[] {
  const strides = broadcastStrides(own, lead);
  const steps = stridesOf(lead);
  return Array.from({ length: sizeOf(lead) }, (_, i) => strides.reduce((at, s, d) => at + s * (Math.floor(i / steps[d]) % lead[d]), 0));
}

function integerProduct(
  c: Tensor['data'],
  cAt: number,
  a: Tensor['data'],
  aAt: number,
  b: Tensor['data'],
  bAt: number,
  M: number,
  N: number,
  K: number,
): void {
  for (let i = 0; i < M; i++) {
    for (let j = 0; j < N; j++) {
      let s = 0;
      for (let k = 0; k < K; k++) s += a[aAt + i * K + k] * b[bAt + k * N + j];
      c[cAt + i * N + j] = s;
    }
  }
}

/** alpha·a'·b' + beta·c for matrices, a' and b' optionally transposed. */
function gemmOp(x: Inputs, node: GraphNode): Tensor[] {
  const b = need(x, 1);
  const a = intAttr(node, 'transA', 0) ? transposed(need(x, 0)) : need(x, 0);
  const transB = intAttr(node, 'transB', 0) !== 0;
  if (a.shape.length !== 2 || b.shape.length !== 2) return fail(`[${a.shape}] times [${b.shape}]`);
  const [M, K] = a.shape;
  const [N, K2] = transB ? b.shape : [b.shape[1], b.shape[0]];
  if (K !== K2) return fail(`inner sizes ${K} and ${K2}`);
  const y = alloc('f32', [M, N]);
  gemm({ M, N, K, a: floats(a), aAt: 0, b: floats(b), bAt: 0, transposed: transB, c: floats(y), cAt: 0, owner: b });
  const alpha = floatAttr(node, 'alpha', 1);
  const beta = floatAttr(node, 'beta', 1);
  const c = x[2];
  if (c !== undefined && c.shape.length > 2) fail(`c has shape [${c.shape}]`);
  const [ci, cj] =
    c === undefined ? [0, 0] : broadcastStrides(c.shape, broadcastShape(c.shape, [M, N]).length === 2 ? [M, N] : fail('c does not fit'));
  if (c !== undefined && broadcastShape(c.shape, [M, N]).some((d, i) => d !== [M, N][i]))
    fail(`c has shape [${c.shape}], the product [${M},${N}]`);
  for (let i = 0; i < M; i++) {
    for (let j = 0; j < N; j++) y.data[i * N + j] = alpha * y.data[i * N + j] + (c === undefined ? 0 : beta * c.data[i * ci + j * cj]);
  }
  return [y];
}

const transposed = (t: Tensor): Tensor => (t.shape.length === 2 ? permute(t, [1, 0]) : fail(`[${t.shape}] is not a matrix`));

/** x[.., in]·w[in, out] + bias[out]. */
function linear(x: Inputs): Tensor[] {
  const [t, w] = [need(x, 0), need(x, 1)];
  const K = t.shape.at(-1) ?? fail('a scalar operand');
  if (w.shape.length !== 2 || w.shape[0] !== K) return fail(`[${t.shape}] times [${w.shape}]`);
  const N = w.shape[1];
  const y = alloc('f32', [...t.shape.slice(0, -1), N]);
  gemm({
    M: sizeOf(t.shape.slice(0, -1)),
    N,
    K,
    a: floats(t),
    aAt: 0,
    // Asked for only while it is not packed: low-bit weights are made into floats for this.
    get b() {
      return w.lowBit?.floats() ?? floats(w);
    },
    bAt: 0,
    transposed: w.lowBit !== undefined,
    c: floats(y),
    cAt: 0,
    owner: w,
  });
  if (x[2] !== undefined) {
    const bias = floats(x[2]);
    if (bias.length !== N) return fail(`bias has ${bias.length} values, expected ${N}`);
    for (let at = 0; at < y.data.length; at += N) for (let j = 0; j < N; j++) y.data[at + j] += bias[j];
  }
  return [y];
}

/**
 * q[.., n, heads·d], k[.., m, kvHeads·d], v[.., m, kvHeads·e] → [.., n, heads·e]: for each head softmax(scale · q·kᵀ)·v. Leading axes must
 * agree. scale defaults to 1/√d, kvHeads to heads; with fewer, heads/kvHeads neighbours share keys and values.
 *
 * Inputs 4 and 5 (input 3, a mask, is not supported) are rows of k and v from before, [past, …]: they come first. Query i of n then stands
 * at position p = m − n + i of all m keys. Attrs: causal: it sees keys up to p; window w > 0: none before p − w + 1 (implies causal);
 * softcap c > 0: scores become c·tanh(score/c).
 */
function attention(x: Inputs, node: GraphNode): Tensor[] {
  const q = need(x, 0);
  if (x[3] !== undefined) return fail('a mask is not supported here');
  const k = appended(x[4], need(x, 1));
  const v = appended(x[5], need(x, 2));
  const heads = intAttr(node, 'heads', 1);
  const kvHeads = intAttr(node, 'kvHeads', heads);
  const rank = q.shape.length;
  if (rank < 2 || k.shape.length !== rank || v.shape.length !== rank) return fail(`q, k, v are [${q.shape}], [${k.shape}], [${v.shape}]`);
  const [n, D] = q.shape.slice(-2);
  const [m, Dk] = k.shape.slice(-2);
  const [mv, Ev] = v.shape.slice(-2);
  const lead = q.shape.slice(0, -2);
  const sameLead = [k, v].every((t) => lead.every((d, i) => t.shape[i] === d));
  const d = D / heads;
  const e = Ev / kvHeads;
  const whole = heads >= 1 && kvHeads >= 1 && [d, e, heads / kvHeads].every(Number.isInteger);
  if (!whole || d * kvHeads !== Dk || m !== mv || !sameLead)
    return fail(`q, k, v are [${q.shape}], [${k.shape}], [${v.shape}] with ${heads} heads${kvHeads === heads ? '' : ` over ${kvHeads}`}`);
  const window = intAttr(node, 'window', 0);
  const causal = intAttr(node, 'causal', 0) !== 0 || window > 0;
  if (causal && n > m) return fail(`${n} queries at the end of ${m} keys`);
  const soft = { scale: floatAttr(node, 'scale', 1 / Math.sqrt(d)), softcap: floatAttr(node, 'softcap', 0), causal, window, n };
  const y = alloc('f32', [...lead, n, heads * e]);
  // The heads of a group lie below each other: one product serves them.
  const group = heads / kvHeads;
  const rows = group * n;
  const [qh, kh, vh, s, o] = [rows * d, m * d, m * e, rows * m, rows * e].map((size) => new Float32Array(size));
  for (let b = 0; b < sizeOf(lead); b++) {
    for (let kv = 0; kv < kvHeads; kv++) {
      for (let g = 0; g < group; g++) takeHead(qh.subarray(g * n * d), floats(q), b * n, n, D, (kv * group + g) * d, d);
      takeHead(kh, floats(k), b * m, m, Dk, kv * d, d);
      takeHead(vh, floats(v), b * m, m, Ev, kv * e, e);
      gemm({ M: rows, N: m, K: d, a: qh, aAt: 0, b: kh, bAt: 0, transposed: true, c: s, cAt: 0 });
      softmaxRows(s, rows, m, soft);
      gemm({ M: rows, N: e, K: m, a: s, aAt: 0, b: vh, bAt: 0, transposed: false, c: o, cAt: 0 });
      for (let g = 0; g < group; g++)
        for (let i = 0; i < n; i++)
          floats(y).set(o.subarray((g * n + i) * e, (g * n + i + 1) * e), (b * n + i) * heads * e + (kv * group + g) * e);
    }
  }
  return [y];
}

/** Rows from before, then the new ones. */
function appended(past: Tensor | undefined, t: Tensor): Tensor {
  if (past === undefined || past.shape[0] === 0) return t;
  if (t.shape.length !== 2 || past.shape.length !== 2 || past.shape[1] !== t.shape[1]) return fail(`[${past.shape}] before [${t.shape}]`);
  const out = alloc('f32', [past.shape[0] + t.shape[0], t.shape[1]]);
  out.data.set(floats(past));
  out.data.set(floats(t), past.data.length);
  return out;
}

function takeHead(dst: Float32Array, src: Float32Array, row: number, rows: number, width: number, from: number, d: number): void {
  for (let i = 0; i < rows; i++) dst.set(src.subarray((row + i) * width + from, (row + i) * width + from + d), i * d);
}

interface Soft {
  readonly scale: number;
  readonly softcap: number;
  readonly causal: boolean;
  readonly window: number;
  /** Queries of one head; row r is query r mod n. */
  readonly n: number;
}

function softmaxRows(s: Float32Array, rows: number, cols: number, { scale, softcap, causal, window, n }: Soft): void {
  const e = new Float64Array(cols);
  const score = softcap > 0 ? (v: number) => softcap * Math.tanh((scale * v) / softcap) : (v: number) => scale * v;
  for (let r = 0; r < rows; r++) {
    const at = r * cols;
    const end = causal ? cols - n + (r % n) + 1 : cols;
    const begin = window > 0 ? Math.max(0, end - window) : 0;
    let top = Number.NEGATIVE_INFINITY;
    for (let j = begin; j < end; j++) {
      e[j] = score(s[at + j]);
      top = Math.max(top, e[j]);
    }
    let sum = 0;
    for (let j = begin; j < end; j++) sum += e[j] = Math.exp(e[j] - top);
    s.fill(0, at, at + begin);
    for (let j = begin; j < end; j++) s[at + j] = e[j] / sum;
    s.fill(0, at + end, at + cols);
  }
}

export const matmuls: Family = {
  MatMul: (x) => [matmul(need(x, 0), need(x, 1))],
  Gemm: gemmOp,
  Linear: linear,
  Attention: attention,
};
