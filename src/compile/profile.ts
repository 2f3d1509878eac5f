/**
 * What a program is compiled for: links of a LAN, where computing is most of the time, or of a WAN, where rounds and bytes are.
 *
 *   wan      the first stage of a softmax takes one round less, for as many bytes (2 % fewer at 128 tokens); a head is cooled a fourth
 *            or fifth time, three rounds for all heads, only when it is fainter still
 *   narrow   `wan`, and smooth functions fitted to 2e-3 in words two bits shorter: what MiniLM's cosines lack of 1 grows by half
 *            (worst held-out text 0.99993 for 0.99994), for 4 % fewer bytes
 *
 * Only for the usual precision: what `fine` is for has no bits to give away.
 */
import { type Precision, precisions } from './precision.ts';

export type Profile = 'lan' | 'wan' | 'narrow';

export function profiled(name: keyof typeof precisions, profile: Profile = 'lan'): Precision {
  const precision: Precision = precisions[name];
  if (profile === 'lan' || name !== 'usual') return precision;
  const wan = { ...precision, together: true, faintestLate: 0.012 };
  return profile === 'wan' ? wan : { ...wan, smooth: { epsilon: 2e-3, bits: precision.smooth.bits - 1 } };
}
