import type { Kernels } from './kernels.ts';
import { viewsOf } from './memory.ts';
import { plainBits } from './plain/bits.ts';
import { plainDpf } from './plain/dpf.ts';
import { plainHarmonic } from './plain/harmonic.ts';
import { plainMatrices } from './plain/matrices.ts';
import { plainProducts } from './plain/products.ts';
import { plainShares } from './plain/shares.ts';
import { plainStreams } from './plain/streams.ts';
import { plainWords } from './plain/words.ts';

/** The kernels in scalar TypeScript: what each means, read against kernels.ts. Slow; the oracle of the fast ones. */
export function plainKernels(memory: WebAssembly.Memory): Kernels {
  const views = viewsOf(memory);
  return {
    ...views,
    ...plainStreams(views),
    ...plainWords(views),
    ...plainShares(views),
    ...plainBits(views),
    ...plainDpf(views),
    ...plainProducts(views),
    ...plainMatrices(views),
    ...plainHarmonic(views),
  };
}
