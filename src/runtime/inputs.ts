/** A party's share of a step's inputs, from what a client sent to where the step has them. */
import { dpfKeyBytes, expandDpf } from '../ring/dpf.ts';
import type { PartyStep } from './party.ts';

/** `words`: the share of all inputs that come as words; `keys`: those of all others. Both in the program's order, and of the right length. */
export function placeShares(step: PartyStep, words: Uint8Array, keys: Uint8Array, salt: Uint8Array): void {
  let [word, key] = [0, 0];
  for (const { name, encoding } of step.prepared.binding.program.inputs) {
    const { at, size } = step.input(name);
    if (encoding) key += expandKeys(step, name, encoding.dpf, keys.subarray(key), salt);
    else {
      step.prepared.model.k.u8.set(words.subarray(word, word + 4 * size), at);
      word += 4 * size;
    }
  }
}

/** Rows of one-hot spans, from a key for each span of each row. Returns the bytes of the keys. */
export function expandKeys(step: PartyStep, name: string, spans: readonly number[], keys: Uint8Array, salt: Uint8Array): number {
  const { model, expansion } = step.prepared;
  const { k } = model;
  const { at, size } = step.input(name);
  let key = 0;
  for (let to = at / 4; to < at / 4 + size; )
    for (const span of spans) {
      const end = key + dpfKeyBytes(span);
      // Expanded beside and copied: a span may begin at any word, and has no room for what rounds it up.
      expandDpf(k, keys.subarray(key, end), salt, step.index, span, expansion.words, expansion.scratch);
      k.u32.copyWithin(to, expansion.words / 4, expansion.words / 4 + span);
      to += span;
      key = end;
    }
  return key;
}
