import { ModelError, type Tensor } from '../../graph/graph.ts';
import { blockOf, dequantise } from './quants.ts';

/**
 * A dense layer's weight [in, out] over a file's blocks [out, in]: kept in few bits, floats when they are asked for. The interpreter's
 * products take `lowBit.floats()`, pack them for their kernel and drop them; `data` is for all others, and is held weakly. Throws ModelError when the bytes
 * are not as many as that takes.
 */
export function lowBitTensor(type: string, [rows, cols]: readonly [number, number], bytes: Uint8Array): Tensor {
  const block = blockOf(type);
  if (bytes.length * block.size !== rows * cols * block.bytes)
    throw new ModelError(`[${rows}, ${cols}] weights of ${type} do not fit ${bytes.length} bytes`);
  let made: WeakRef<Float32Array> | undefined;
  const floats = (): Float32Array => dequantise(type, bytes, rows * cols);
  return {
    dtype: 'f32',
    shape: [cols, rows],
    lowBit: { type, shape: [rows, cols], bytes, floats },
    get data() {
      const there = made?.deref();
      if (there) return there;
      const turned = transpose(floats(), rows, cols);
      made = new WeakRef(turned);
      return turned;
    },
  };
}

/** [rows, cols] → [cols, rows], in square blocks: a plain double loop misses the cache on every read of a wide matrix. */
export function transpose(x: Float32Array, rows: number, cols: number): Float32Array {
  const out = new Float32Array(rows * cols);
  for (let r0 = 0; r0 < rows; r0 += 32)
    for (let c0 = 0; c0 < cols; c0 += 32)
      for (let r = r0; r < Math.min(r0 + 32, rows); r++)
        for (let c = c0; c < Math.min(c0 + 32, cols); c++) out[c * rows + r] = x[r * cols + c];
  return out;
}
