import { describe, expect, test } from 'vitest';
import { randomOf } from './random.ts';
import { adjust, argmax, candidates, checkSampling, draw, likeliest, logProbabilities } from './sample.ts';

const logits = Float32Array.of(1, 3, 2, 0, -1);
const weights = Array.from(logits, Math.exp);
const total = weights.reduce((a, b) => a + b, 0);

describe('candidates', () => {
  const ids = (s: Parameters<typeof candidates>[1], l = logits): number[] => [...candidates(l, s).ids];
  test('are all tokens by their probability', () => {
    const { ids: order, probabilities } = candidates(logits, {});
    expect([...order]).toEqual([1, 2, 0, 3, 4]);
    for (const [i, id] of order.entries()) expect(probabilities[i]).toBeCloseTo(weights[id] / total, 12);
  });
  test('at temperature t are of softmax(logits/t)', () => {
    const { probabilities } = candidates(logits, { temperature: 0.5 });
    expect(probabilities[0] / probabilities[1]).toBeCloseTo(Math.exp(2), 10);
  });
  test('at temperature 0 are one', () => expect(ids({ temperature: 0 })).toEqual([1]));
  test('are k with topK', () => expect(ids({ topK: 2 })).toEqual([1, 2]));
  test('with topP are as few as reach it, the one that reaches it among them', () => {
    const p = (n: number): number => [1, 2, 0, 3, 4].slice(0, n).reduce((s, i) => s + weights[i] / total, 0);
    expect(ids({ topP: p(2) - 1e-6 })).toEqual([1, 2]);
    expect(ids({ topP: p(2) + 1e-6 })).toEqual([1, 2, 0]);
    expect(ids({ topP: 0 })).toEqual([1]);
  });
  test('with minP are those so much of the likeliest', () => {
    expect(ids({ minP: Math.exp(-2) - 1e-9 })).toEqual([1, 2, 0]);
    expect(ids({ minP: Math.exp(-2) + 1e-9 })).toEqual([1, 2]);
    expect(ids({ minP: 1 })).toEqual([1]);
  });
  test('sum to 1 after every cut, ties in the order of their numbers', () => {
    expect(candidates(logits, { topK: 3, topP: 0.9 }).probabilities.reduce((a, b) => a + b, 0)).toBeCloseTo(1, 12);
    expect(ids({}, Float32Array.of(0, 1, 1, 0))).toEqual([1, 2, 0, 3]);
  });
  test('never are masked tokens, and there must be one', () => {
    expect(ids({}, Float32Array.of(-Infinity, 1, -Infinity))).toEqual([1]);
    expect(() => ids({}, new Float32Array(3).fill(-Infinity))).toThrow('no token can come next');
    expect(() => argmax(new Float32Array(3).fill(-Infinity))).toThrow('no token can come next');
  });
});

describe('adjust', () => {
  test('a penalty makes what was there less likely, whatever its sign, once', () => {
    expect([...adjust(logits, { repetitionPenalty: 2 }, [1, 4], [1])]).toEqual([1, 1.5, 2, 0, -2]);
  });
  test('frequency counts, presence does not, and the prompt is spared', () => {
    expect([...adjust(logits, { frequencyPenalty: 0.5, presencePenalty: 0.25 }, [0], [1, 1, 2])]).toEqual([1, 1.75, 1.25, 0, -1]);
  });
  test('biases are added, a mask allows by bits', () => {
    expect([
      ...adjust(
        logits,
        {
          logitBias: new Map([
            [3, 5],
            [99, 1],
          ]),
        },
        [],
        [],
      ),
    ]).toEqual([1, 3, 2, 5, -1]);
    expect([...adjust(logits, {}, [], [], Int32Array.of(0b10001))]).toEqual([1, -Infinity, -Infinity, -Infinity, -1]);
    const wide = adjust(new Float32Array(70), {}, [], [], Int32Array.of(0, 1 << 31, 2));
    expect([...wide.keys()].filter((i) => wide[i] === 0)).toEqual([63, 65]);
  });
  test('leaves the logits alone', () => {
    adjust(logits, { repetitionPenalty: 2, logitBias: new Map([[0, 9]]) }, [0, 1], [2], Int32Array.of(1));
    expect([...logits]).toEqual([1, 3, 2, 0, -1]);
  });
});

describe('draw', () => {
  test('draws each token as often as it is likely', () => {
    const random = randomOf(7);
    const counts = new Array<number>(5).fill(0);
    const n = 20_000;
    for (let i = 0; i < n; i++) counts[draw(logits, {}, random)]++;
    // Four standard deviations.
    for (const [i, c] of counts.entries()) {
      const p = weights[i] / total;
      expect(Math.abs(c / n - p)).toBeLessThan(4 * Math.sqrt((p * (1 - p)) / n));
    }
  });
  test('the same seed draws the same', () => {
    const run = (seed: number): number[] => {
      const random = randomOf(seed);
      return Array.from({ length: 50 }, () => draw(logits, {}, random));
    };
    expect(run(1)).toEqual(run(1));
    expect(run(1)).not.toEqual(run(2));
    expect(run(-1)).not.toEqual(run(1));
  });
});

test('random numbers fill [0, 1) evenly, and differ without a seed', () => {
  const random = randomOf(3);
  const buckets = new Array<number>(16).fill(0);
  for (let i = 0; i < 16_000; i++) buckets[Math.floor(random() * 16)]++;
  for (const b of buckets) expect(Math.abs(b - 1000)).toBeLessThan(130);
  expect(randomOf()()).not.toBe(randomOf()());
  expect(() => randomOf(1.5)).toThrow('a whole number');
});

test('log-probabilities are ln softmax; the likeliest come first', () => {
  const lp = logProbabilities(Float32Array.of(1000, 1001, 999));
  expect(lp[1]).toBeCloseTo(-Math.log(1 + Math.exp(-1) + Math.exp(-2)), 5);
  expect(likeliest(logProbabilities(logits), 3).map((t) => t.id)).toEqual([1, 2, 0]);
  expect(likeliest(logProbabilities(logits), 9).length).toBe(5);
});

test.each([
  [{ temperature: -1 }, 'temperature -1'],
  [{ topP: 1.1 }, 'topP 1.1'],
  [{ minP: Number.NaN }, 'minP NaN'],
  [{ repetitionPenalty: 0 }, 'repetitionPenalty 0'],
  [{ logitBias: new Map([[-1, 2]]) }, 'logitBias -1'],
])('a setting out of range is refused: %j', (s, reason) => {
  expect(() => checkSampling(s)).toThrow(RangeError);
  expect(() => checkSampling(s)).toThrow(reason);
});
