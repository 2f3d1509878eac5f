/**
 * How well functions are fitted and how wide their words are: part of the program, never a knob at run time.
 *
 * `usual` keeps sentence encoders at a cosine of 0.9999 and is what bytes are counted for. `fine` halves the errors of small models whose
 * logits are read one by one, for about 15 % more bytes: the shipped vision transformer stays within 0.02 with it.
 */
type Wishes = readonly (readonly [number, number])[];

export interface Precision {
  /** Largest error of a smooth function, and bits of its cosines and of its coefficients. */
  readonly smooth: { readonly epsilon: number; readonly bits: number };
  /**
   * The cooled exponential. Its errors grow 2^J times on the way to the softmax, relative to a value of about 0.1: t = u = 13 leaves
   * 3e-3 r.m.s. per probability there, 12 twice that. `step` is the score's own rounding.
   */
  readonly exponential: { readonly epsilon: number; readonly t: number; readonly u: number; readonly slope: 0; readonly step: number };
  /** (relative error, most harmonics), tried in order: the softmax's last 1/x, and 1/√x. */
  readonly reciprocal: Wishes;
  readonly rsqrt: Wishes;
  /** See profile.ts. The first stage squares a while its sum is inverted, and multiplies once. */
  readonly together?: boolean;
  /** Row means of the exponential below which a head is cooled more than thrice; default: those below which it is at all. */
  readonly faintestLate?: number;
}

export const precisions = {
  usual: {
    smooth: { epsilon: 1e-3, bits: 11 },
    exponential: { epsilon: 3e-4, t: 13, u: 13, slope: 0, step: 1e-3 },
    reciprocal: [[2e-3, 128]],
    rsqrt: [[5e-4, 192], [1e-3, 256], [2e-3, 384]],
  },
  fine: {
    smooth: { epsilon: 5e-4, bits: 12 },
    exponential: { epsilon: 1.5e-4, t: 14, u: 14, slope: 0, step: 1e-3 },
    reciprocal: [[5e-4, 256]],
    rsqrt: [[1e-4, 256], [1e-3, 256], [2e-3, 384]],
  },
} as const satisfies Record<string, Precision>;
