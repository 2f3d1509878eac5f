/**
 * The public prefix. In most decoders the first position becomes an "attention sink": its residual grows to thousands where all others
 * stay in the hundreds, and fixed-point ranges made for both serve neither. A fixed public token in that place takes it out of the private
 * rows; its K and V are computed in the clear. Which token works differs from model to model, and is measured: under the right one no
 * private row is massive.
 */
import type { TextTokenizer } from '../text.ts';
import { emptyCaches, type PlainModel, pass } from './decoder.ts';

/** What the tokenizer puts before every text itself ('<s>' …). Empty where it puts nothing. */
export function leadingTokens(tokenizer: TextTokenizer): number[] {
  const [whole, bare] = [tokenizer.encode('a').ids, tokenizer.ids('a')];
  for (let at = 0; at + bare.length <= whole.length; at++) if (bare.every((id, i) => whole[at + i] === id)) return whole.slice(0, at);
  return [];
}

const usual = ['<|endoftext|>', '<|begin_of_text|>', '<bos>', '<s>', '</s>', '<eos>', '<|im_start|>', '<|im_end|>'];

/** Prefixes worth measuring: the tokenizer's own when it has one, else each special token of its vocabulary, `eos`, and none. */
export function prefixCandidates(tokenizer: TextTokenizer, eos: readonly number[] = []): number[][] {
  const own = leadingTokens(tokenizer);
  if (own.length > 0) return [own];
  const ids = usual.map((t) => tokenizer.tokenId(t)).filter((id) => id !== undefined);
  return [...[...new Set([...ids, ...eos])].map((id) => [id]), []];
}

/** The largest |residual| in the rows of `text` after `prefix`: of every Add whose rows are as wide as the embeddings. */
export function residualPeak(model: Pick<PlainModel, 'graph' | 'client'>, prefix: readonly number[], text: readonly number[]): number {
  const width = model.graph.inputs.find((i) => i.name === 'embeddings')?.shape[1];
  let peak = 0;
  pass(model, [...prefix, ...text], emptyCaches(model.graph), (_, value, node) => {
    if (node.op !== 'Add' || value.shape[1] !== width) return;
    for (const v of value.data.subarray(prefix.length * value.shape[1])) peak = Math.max(peak, Math.abs(v));
  });
  return peak;
}

export interface MeasuredPrefix {
  readonly prefix: readonly number[];
  readonly peak: number;
}

/** The candidate under which the rows of `texts` stay smallest, first; shorter ones win when they are within a tenth. */
export function measurePrefixes(
  model: Pick<PlainModel, 'graph' | 'client'>,
  candidates: readonly (readonly number[])[],
  texts: readonly (readonly number[])[],
): MeasuredPrefix[] {
  const all = candidates.map((prefix) => ({ prefix, peak: Math.max(...texts.map((t) => residualPeak(model, prefix, t))) }));
  const least = Math.min(...all.map((m) => m.peak));
  const rank = (m: MeasuredPrefix): number => (m.peak <= 1.1 * least ? m.prefix.length - 1e6 : m.peak);
  return all.sort((a, b) => rank(a) - rank(b));
}
