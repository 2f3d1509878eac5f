/**
 * How well functions are fitted and how wide their words are: part of the program, never a knob at run time.
 *
 * `usual` keeps sentence encoders at a cosine of 0.9999 and is what bytes are counted for. `fine` is for small models whose logits are
 * read one by one, for about a fifth more bytes: the shipped vision transformer stays within 0.02 with it, nearly always within 0.01.
 * `decoder` saves a twentieth of a language model's bytes where it hardly shows (SmolLM2: mean KL 3.1e-4 -> 3.7e-4): a reciprocal's error is a
 * factor of a head's whole row. Fewer bits, or cruder 1/√x, show at once (1e-3).
 */
type Wishes = readonly (readonly [number, number])[];

export interface Precision {
  /** Largest error of a smooth function, and bits of its cosines and of its coefficients. */
  readonly smooth: { readonly epsilon: number; readonly bits: number };
  /**
   * The cooled exponential. Its errors grow 2^J times on the way to the softmax, relative to a value of about 0.1: t + u = 26 leaves
   * 2e-3 r.m.s. per probability there. u > t: the K coefficients of a series are rounded each, its cosines count by |c|, about 1.
   * `step` is the score's own rounding.
   */
  readonly exponential: {
    readonly epsilon: number;
    readonly t: number;
    readonly u: number;
    readonly ridgeBits: number;
    readonly slope: 0;
    readonly step: number;
  };
  /** (relative error, most harmonics), tried in order: the softmax's last 1/x, and 1/√x. */
  readonly reciprocal: Wishes;
  readonly rsqrt: Wishes;
  /** Attention divides before the product with v, not after: rows of n even probabilities gain log2 n bits, for a product of n² more. */
  readonly divideFirst: boolean;
  /** Fraction bits of a residual stream that no product reads, at most. A normalisation then drops more of them, from a smaller ring. */
  readonly stream: number;
  /** See profile.ts. The first stage squares a while its sum is inverted, and multiplies once. */
  readonly together?: boolean;
  /** Row means of the exponential below which a head is cooled more than thrice; default: those below which it is at all. */
  readonly faintestLate?: number;
}

const usual = {
  smooth: { epsilon: 1e-3, bits: 11 },
  exponential: { epsilon: 3e-4, t: 12, u: 14, ridgeBits: 15, slope: 0, step: 1e-3 },
  reciprocal: [[2e-3, 128]],
  rsqrt: [[5e-4, 192], [1e-3, 256], [2e-3, 384]],
  divideFirst: false,
  stream: 12,
} as const satisfies Precision;

export const precisions = {
  usual,
  decoder: { ...usual, smooth: { epsilon: 4e-3, bits: 11 }, reciprocal: [[1.2e-2, 64]] },
  fine: {
    smooth: { epsilon: 2.5e-4, bits: 13 },
    exponential: { epsilon: 1.5e-4, t: 14, u: 16, ridgeBits: 17, slope: 0, step: 1e-3 },
    reciprocal: [[5e-4, 256]],
    rsqrt: [[1e-4, 256], [1e-3, 256], [2e-3, 384]],
    divideFirst: true,
    stream: 16,
  },
} as const satisfies Record<string, Precision>;
