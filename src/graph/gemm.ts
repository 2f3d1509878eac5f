/**
 * Float matrix products for the interpreter: the WebAssembly kernel when one was lent with `useKernels`, a scalar twin otherwise.
 * Both give the product to float accuracy; their last bits may differ.
 */
import { gemmScratch, type Kernels, type Ptr, panelWords } from '../ring/kernels/kernels.ts';
import { firstFree } from '../ring/kernels/memory.ts';
import type { Tensor } from './graph.ts';

interface Lent {
  readonly kernels: Kernels;
  readonly base: Ptr;
  readonly bytes: number;
  /** Packed constants fill the arena from its start; when it is full, all are forgotten. */
  top: number;
  packed: WeakMap<Tensor, Map<string, Ptr>>;
}

let lent: Lent | undefined;
const constants = new WeakSet<Tensor>();

/** Lends `bytes` of the kernels' memory from `base` (a multiple of 16) for products and packed weights. */
export function useKernels(
  kernels: Kernels | undefined,
  base: Ptr = firstFree,
  bytes: number = kernels ? kernels.u8.length - base : 0,
): void {
  lent = kernels ? { kernels, base, bytes, top: base, packed: new WeakMap() } : undefined;
}

/** Marks a tensor whose values never change, so that its packed form is kept between products. */
export function markConstant(t: Tensor): void {
  constants.add(t);
}

export interface Product {
  readonly M: number;
  readonly N: number;
  readonly K: number;
  readonly a: Float32Array;
  readonly aAt: number;
  readonly b: Float32Array;
  readonly bAt: number;
  /** b is [N, K] instead of [K, N]. */
  readonly transposed: boolean;
  readonly c: Float32Array;
  readonly cAt: number;
  /** The tensor b belongs to, when its packed form may be kept. */
  readonly owner?: Tensor;
}

const align = (n: number): number => (n + 15) & ~15;

/** c[M,N] = a[M,K]·b, all row-major from their offsets. */
export function gemm(p: Product): void {
  const { M, N, K, c, cAt } = p;
  if (M === 0 || N === 0) return;
  if (K === 0) {
    c.fill(0, cAt, cAt + M * N);
    return;
  }
  if (lent === undefined || M * N * K < 4096 || !wasm(lent, p)) scalar(p);
}

/** False when the lent memory is too small for this product. */
function wasm(l: Lent, p: Product): boolean {
  const { M, N, K } = p;
  const packBytes = align(4 * panelWords(K, N));
  const end = l.base + l.bytes;
  const keep = p.owner !== undefined && constants.has(p.owner);
  const rawBytes = align(4 * K * N);
  // Beside the packed matrix: its raw form while packing, scratch, and at least some rows of a and c.
  const rowBytes = 4 * (K + N);
  const least = gemmScratch + Math.max(rawBytes, Math.min(M, 16) * rowBytes + 64);
  let at = keep ? l.packed.get(p.owner as Tensor)?.get(`${p.bAt} ${p.transposed}`) : undefined;
  let free = l.top;
  if (at === undefined) {
    if (l.top + packBytes + least > end) {
      l.top = l.base;
      l.packed = new WeakMap();
    }
    at = l.top;
    free = at + packBytes;
    if (free + least > end) return false;
    l.kernels.f32.set(p.b.subarray(p.bAt, p.bAt + K * N), free >> 2);
    l.kernels.packBF32(at, free, K, N, p.transposed ? K : N, p.transposed ? 1 : 0);
    if (keep) {
      l.top = free;
      const kept = l.packed.get(p.owner as Tensor) ?? new Map<string, Ptr>();
      l.packed.set(p.owner as Tensor, kept.set(`${p.bAt} ${p.transposed}`, at));
    }
  } else if (free + least > end) {
    l.top = l.base;
    l.packed = new WeakMap();
    return wasm(l, p);
  }
  const scratch = free;
  const room = end - scratch - gemmScratch - 32;
  const rows = Math.min(M, Math.floor(room / rowBytes));
  const aPtr = scratch + gemmScratch;
  const cPtr = align(aPtr + 4 * rows * K);
  const f32 = l.kernels.f32;
  for (let r = 0; r < M; r += rows) {
    const m = Math.min(rows, M - r);
    f32.set(p.a.subarray(p.aAt + r * K, p.aAt + (r + m) * K), aPtr >> 2);
    l.kernels.gemmF32(cPtr, N, aPtr, K, at, m, N, K, 0, scratch);
    p.c.set(f32.subarray(cPtr >> 2, (cPtr >> 2) + m * N), p.cAt + r * N);
  }
  return true;
}

/** Panels of four columns, four rows at a time: sixteen sums in registers, in double precision. */
function scalar(p: Product): void {
  const { M, N, K, a, b, c, aAt, bAt, cAt } = p;
  const [sk, sn] = p.transposed ? [1, K] : [N, 1];
  const panel = new Float64Array(4 * K);
  for (let j = 0; j < N; j += 4) {
    const w = Math.min(4, N - j);
    for (let k = 0; k < K; k++) for (let x = 0; x < 4; x++) panel[4 * k + x] = x < w ? b[bAt + k * sk + (j + x) * sn] : 0;
    let i = 0;
    for (; i + 2 <= M; i += 2) {
      let s0 = 0,
        s1 = 0,
        s2 = 0,
        s3 = 0,
        t0 = 0,
        t1 = 0,
        t2 = 0,
        t3 = 0;
      for (let k = 0, q = 0, x = aAt + i * K, y = x + K; k < K; k++, q += 4) {
        const u = a[x + k],
          v = a[y + k];
        const b0 = panel[q],
          b1 = panel[q + 1],
          b2 = panel[q + 2],
          b3 = panel[q + 3];
        s0 += u * b0;
        s1 += u * b1;
        s2 += u * b2;
        s3 += u * b3;
        t0 += v * b0;
        t1 += v * b1;
        t2 += v * b2;
        t3 += v * b3;
      }
      store(c, cAt + i * N + j, w, s0, s1, s2, s3);
      store(c, cAt + (i + 1) * N + j, w, t0, t1, t2, t3);
    }
    for (; i < M; i++) {
      let s0 = 0,
        s1 = 0,
        s2 = 0,
        s3 = 0;
      for (let k = 0, q = 0, x = aAt + i * K; k < K; k++, q += 4) {
        const u = a[x + k];
        s0 += u * panel[q];
        s1 += u * panel[q + 1];
        s2 += u * panel[q + 2];
        s3 += u * panel[q + 3];
      }
      store(c, cAt + i * N + j, w, s0, s1, s2, s3);
    }
  }
}

function store(c: Float32Array, at: number, w: number, s0: number, s1: number, s2: number, s3: number): void {
  c[at] = s0;
  if (w > 1) c[at + 1] = s1;
  if (w > 2) c[at + 2] = s2;
  if (w > 3) c[at + 3] = s3;
}
