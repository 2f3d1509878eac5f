/** Inputs of a step: the tensor that parties hold, and what a client sends for it. */
import { dpfKeyBytes } from '../ring/dpf.ts';
import { type Dim, dim, type Params, type ProgramInput } from './program.ts';

type Shaped = Pick<ProgramInput, 'shape' | 'encoding'>;

const sum = (list: readonly number[]): number => list.reduce((a, b) => a + b, 0);

/** Of the tensor: the shape of what the client gives, or rows of one-hot spans in place of rows of places. */
export const tensorShape = ({ shape, encoding }: Shaped): readonly Dim[] => (encoding ? [...shape.slice(0, -1), sum(encoding.dpf)] : shape);

/** Bytes that a client sends P0 and P1 for a step: a seed or words, then keys, a key for each place. */
export function shareBytes(inputs: readonly Shaped[], params: Params): readonly [p0: number, p1: number] {
  let [words, keys] = [0, 0];
  for (const { shape, encoding } of inputs) {
    const size = shape.reduce<number>((n, d) => n * dim(d, params), 1);
    if (encoding) keys += (size / encoding.dpf.length) * sum(encoding.dpf.map(dpfKeyBytes));
    else words += size;
  }
  return [32 + keys, 4 * words + keys];
}
