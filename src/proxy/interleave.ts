/**
 * What several generators yield, as it comes, each with its number; what they returned, in their order, at the end. `most` of them run at
 * once, the others as these end. Whoever stops listening ends them all.
 */
export async function* interleave<T, R>(
  all: readonly AsyncGenerator<T, R>[],
  most: number,
): AsyncGenerator<readonly [index: number, value: T], R[]> {
  const results: R[] = [];
  const running = new Map<number, Promise<{ index: number; step: IteratorResult<T, R> }>>();
  const advance = (index: number): void =>
    void running.set(
      index,
      all[index].next().then((step) => ({ index, step })),
    );
  let begun = 0;
  try {
    while (begun < Math.min(most, all.length)) advance(begun++);
    while (running.size > 0) {
      const { index, step } = await Promise.race(running.values());
      if (!step.done) {
        advance(index);
        yield [index, step.value];
        continue;
      }
      results[index] = step.value;
      running.delete(index);
      if (begun < all.length) advance(begun++);
    }
    return results;
  } finally {
    // A generator that is computing ends when it has its step; nobody hears of it.
    for (const index of running.keys()) void all[index].return(undefined as R).catch(() => {});
    for (const pending of running.values()) void pending.catch(() => {});
  }
}
