/** The word of a list that was probably meant. */

/** Undefined when none is near: more than a third of its letters would have to change. */
export function nearest(word: string, known: readonly string[]): string | undefined {
  const plain = (s: string): string => s.toLowerCase().replace(/[-_]/g, '');
  const near = known.map((k) => ({ k, d: distance(plain(word), plain(k)) })).sort((a, b) => a.d - b.d)[0];
  return near && near.d <= Math.max(1, near.k.length / 3) ? near.k : undefined;
}

/** Levenshtein's: letters to insert, take out or change. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) next.push(Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1)));
    row = next;
  }
  return row[b.length];
}
