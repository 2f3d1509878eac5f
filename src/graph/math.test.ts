import { expect, test } from 'vitest';
import { erf, roundEven, sigmoid, softplus } from './math.ts';

/** Σ (−1)ⁿ x^(2n+1) / (n! (2n+1)) · 2/√π, good below 3. */
function series(x: number): number {
  let [sum, term] = [0, x];
  for (let n = 0; n < 200; n++) {
    sum += term / (2 * n + 1);
    term *= (-x * x) / (n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * sum;
}

test('erf is right to double precision', () => {
  for (let x = -2.5; x <= 2.5; x += 0.0131) expect(Math.abs(erf(x) - series(x))).toBeLessThan(1e-14);
  // Abramowitz and Stegun, table 7.1 and its continuation
  expect(1 - erf(3)).toBeCloseTo(2.209049699858544e-5, 15);
  expect(1 - erf(4)).toBeCloseTo(1.541725790028002e-8, 15);
  expect([erf(0), erf(7), erf(-7), erf(Number.POSITIVE_INFINITY), erf(Number.NaN)]).toEqual([0, 1, -1, 1, Number.NaN]);
});

test('sigmoid and softplus do not overflow', () => {
  expect([sigmoid(-1000), sigmoid(1000), softplus(-1000), softplus(1000)]).toEqual([0, 1, 0, 1000]);
});

test('ties round to even', () => {
  expect([0.5, 1.5, -0.5, -1.5, 2.4, -2.6].map(roundEven)).toEqual([0, 2, -0, -2, 2, -3].map((v) => v + 0));
});
