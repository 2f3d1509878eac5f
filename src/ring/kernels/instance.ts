import type { Kernels, Ptr } from './kernels.ts';
import { viewsOf } from './memory.ts';

type Views = 'memory' | 'u8' | 'u32' | 'i32' | 'f32' | 'f64';
type Streamed = 'prg' | 'dealHarmonic' | 'harmonic' | 'dealHarmonicRow' | 'harmonicRow';
type WithTail<F, Tail extends number[]> = F extends (...args: infer A extends number[]) => void
  ? (...args: [...A, ...Tail]) => void
  : never;
type Range = [swizzle: number, first: number, last: number];

/** What the module exports: kernels.ts, where kernels that draw from the PRG also take the build to use and a range of blocks. */
export interface KernelExports extends Omit<Kernels, Views | Streamed> {
  prg(
    dst: Ptr,
    key: Ptr,
    step: number,
    gate: number,
    stream: number,
    bits: number,
    group: number,
    n: number,
    scratch: Ptr,
    swizzle: number,
  ): void;
  dealHarmonic: WithTail<Kernels['dealHarmonic'], Range>;
  harmonic: WithTail<Kernels['harmonic'], Range>;
  dealHarmonicRow: WithTail<Kernels['dealHarmonicRow'], Range>;
  harmonicRow: WithTail<Kernels['harmonicRow'], Range>;
}

/** The kernels of a compiled module over a memory of its kind. Nothing here needs Node. */
export function instantiateKernels(module: WebAssembly.Module, memory: WebAssembly.Memory): Kernels {
  const instance = new WebAssembly.Instance(module, { env: { memory } });
  return kernelsFrom(instance.exports as unknown as KernelExports, memory);
}

export function kernelsFrom(wasm: KernelExports, memory: WebAssembly.Memory): Kernels {
  const swizzle = swizzleIsFaster() ? 1 : 0;
  return {
    ...wasm,
    ...viewsOf(memory),
    prg: (dst, key, step, gate, stream, bits, first, n, scratch) =>
      wasm.prg(dst, key, step, gate, stream, bits, (first / 4096) * bits, n, scratch, swizzle),
    dealHarmonic: (packed, r, stride, rows, width, K, t, w, m, key, step, gate, stream_, scratch) =>
      wasm.dealHarmonic(
        packed,
        r,
        stride,
        rows,
        width,
        K,
        t,
        w,
        m,
        key,
        step,
        gate,
        stream_,
        scratch,
        swizzle,
        0,
        rows * Math.ceil(width / 4),
      ),
    harmonic: (out, c, stride, rows, width, coef, splat, K, w, m, packed, key, step, gate, stream, scratch) =>
      wasm.harmonic(
        out,
        c,
        stride,
        rows,
        width,
        coef,
        splat,
        K,
        w,
        m,
        packed,
        key,
        step,
        gate,
        stream,
        scratch,
        swizzle,
        0,
        rows * Math.ceil(width / 4),
      ),
    dealHarmonicRow: (packed, r, n, K, t, w, m, key, step, gate, stream, scratch) =>
      wasm.dealHarmonicRow(packed, r, n, K, t, w, m, key, step, gate, stream, scratch, swizzle, 0, n),
    harmonicRow: (out, c, n, coef, channels, inner, K, w, m, packed, key, step, gate, stream, scratch) =>
      wasm.harmonicRow(out, c, n, coef, channels, inner, K, w, m, packed, key, step, gate, stream, scratch, swizzle, 0, n),
  };
}

/**
 * Rotations by 16 and 8 bits: V8 up to Node 20 runs a constant swizzle as one shuffle; later versions rebuild its mask at every use
 * and lose 40 %, while shifts pair into 256-bit operations.
 */
export function swizzleIsFaster(): boolean {
  const versions = (globalThis as { process?: { versions?: { node?: string } } }).process?.versions?.node;
  return versions !== undefined && Number.parseInt(versions, 10) < 22;
}
