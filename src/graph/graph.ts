/**
 * The float meaning of a model: a directed acyclic graph of operators over named values.
 *
 * Operators carry ONNX's names and semantics (MatMul, Gemm, Conv, Reshape, Softmax, …; attributes as in the newest opset, with
 * inputs that older opsets kept as attributes normalised to the new form by the importer). Rewrites add the fused operators that
 * a private run has gates for:
 *   Linear(x; weight, bias)      y = x·W + b over the last axis; W is [in, out], a constant; b optional
 *   LayerNormalization(x; scale, bias)   over the last axis, attr epsilon (ONNX's own operator; RMSNormalization likewise)
 *   Gelu(x)                      attr approximate: 'none' | 'tanh'
 *   Silu(x)
 *   Attention(q, k, v, mask, pastK, pastV)   q, k, v [tokens, heads·d] or [batch, tokens, heads·d]; attrs heads, scale; softmax over keys.
 *                                Decoders: pastK, pastV are rows before k, v; attrs kvHeads (heads share keys), causal, window, softcap
 *   OneHotRows(places)           rows of places, one for each of attr spans, as rows of zeros with a one in each span
 *   Rotary(x, cos, sin, past)    rotary positions: x [n, heads·d] turned by rows past … past + n − 1 of the tables (ops/decoder.ts)
 * Sequence length and the like are public parameters: an input's dimension may be a name ('n'); everything after it is found by
 * running. Reshape targets use 0 (copy) and −1 (infer) so that one graph serves every length.
 */
export type DType = 'f32' | 'i64' | 'bool';

/** Row-major. i64 values are kept as doubles: indices and shapes, never beyond 2^53. */
export interface Tensor {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly data: Float32Array | Float64Array | Uint8Array;
  /** Where a constant's values come from, when its file holds them in few bits. */
  readonly lowBit?: LowBit;
}

/**
 * A matrix [out, in] as its file has it, in blocks of integers that share a scale (src/import/gguf/quants.ts unpacks them). The constant of
 * a Linear is the transpose, [in, out]; its `data` is made from this when it is asked for.
 */
export interface LowBit {
  /** 'Q8_0', 'Q4_K', 'BF16' … */
  readonly type: string;
  readonly shape: readonly [number, number];
  /** Row after row. */
  readonly bytes: Uint8Array;
  /** As floats, made anew. */
  floats(): Float32Array;
}

export type AttrValue = number | string | number[] | string[] | Tensor;

export interface GraphNode {
  readonly op: string;
  /** Unique; what messages name ('/encoder/layer.3/attention/MatMul'). */
  readonly name: string;
  /** '' for an absent optional input. */
  readonly inputs: string[];
  readonly outputs: string[];
  readonly attrs: Record<string, AttrValue>;
}

export interface GraphInput {
  readonly name: string;
  readonly dtype: DType;
  /** A number, or the name of a public parameter. */
  readonly shape: readonly (number | string)[];
}

export interface Graph {
  readonly name: string;
  readonly inputs: GraphInput[];
  readonly outputs: string[];
  /** In running order. */
  readonly nodes: GraphNode[];
  readonly constants: Map<string, Tensor>;
  /** A decoder's state: what a pass gives in `output` [n, width] belongs below `input` [past, width] in the next. */
  readonly caches?: readonly Cache[];
}

export interface Cache {
  readonly input: string;
  readonly output: string;
}

export const sizeOf = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

export function tensor(data: ArrayLike<number>, shape: readonly number[], dtype: DType = 'f32'): Tensor {
  const n = sizeOf(shape);
  if (data.length !== n) throw new RangeError(`tensor of shape [${shape}] needs ${n} values, got ${data.length}`);
  return {
    dtype,
    shape,
    data: dtype === 'f32' ? Float32Array.from(data) : dtype === 'i64' ? Float64Array.from(data) : Uint8Array.from(data),
  };
}

/** A file or model that cannot be used: what was wrong, where, and what to do. Exit code 2. */
export class ModelError extends Error {
  override name = 'ModelError';
}

/** Called for every value a graph computes; calibration and `inspect` listen. */
export type Listener = (name: string, value: Tensor, node: GraphNode) => void;
