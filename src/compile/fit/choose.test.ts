import { describe, expect, test } from 'vitest';
import { chooseSmooth, guardWidth, type SmoothGate } from './choose.ts';
import { evaluateFit } from './fourier.ts';
import { functionNamed, gelu } from './functions.ts';
import { chooseRow } from './row.ts';
import { largestAmplitude, word } from './word.ts';

/** Small reproducible generator of 32-bit words (xorshift), so that noise figures are the same on every run. */
function words(seed: number): () => number {
  let s = seed >>> 0 || 1;
  return () => {
    s ^= s << 13;
    s ^= s >>> 17;
    s ^= s << 5;
    return s >>> 0;
  };
}

/** v mod 2^bits, as a number from 0. */
const modulo = (v: bigint, bits: number): bigint => BigInt.asUintN(bits, v);

/**
 * The gate in integers, as two parties and a dealer run it: shares of the input, multiplied by al and truncated to m bits; one
 * opening under the mask r; C, S rounded to t bits and p, q to u bits; the sum and the linear part modulo 2^ring of the output.
 * @returns the output as a number, centre added back
 */
function simulate(
  g: Pick<SmoothGate, 'fit' | 'al' | 'm' | 't' | 'u'>,
  units: number,
  ringBits: number,
  out: { ring: number; centre: number; slopeBits: number },
  y: number,
  next: () => number,
): number {
  const { fit, al, m, t, u } = g;
  const x = modulo(BigInt(Math.round(y * units)), ringBits);
  const x0 = modulo((BigInt(next()) << 32n) | BigInt(next()), ringBits);
  const x1 = modulo(x - x0, ringBits);
  const truncated = (shares: bigint[], s: number): bigint => {
    const up = modulo(shares[0] + (1n << BigInt(s)) - 1n, ringBits) >> BigInt(s);
    return modulo(up + (shares[1] >> BigInt(s)), ringBits - s);
  };
  const position = truncated(
    [x0, x1].map((v) => modulo(v * BigInt(al), ringBits)),
    ringBits - m,
  );
  const r = modulo(BigInt(next()), m);
  const c = modulo(position - r, m);
  let sum = BigInt(Math.round((fit.c0 - out.centre) * 2 ** (t + u)));
  for (let k = 1; k <= fit.a.length; k++) {
    const theta = (2 * Math.PI * Number(modulo(BigInt(k) * c, m))) / 2 ** m;
    const phi = (2 * Math.PI * Number(modulo(BigInt(k) * r, m))) / 2 ** m;
    const [a, b] = [fit.a[k - 1], fit.b[k - 1]];
    const p = Math.round(2 ** u * (a * Math.cos(theta) + b * Math.sin(theta)));
    const q = Math.round(2 ** u * (b * Math.cos(theta) - a * Math.sin(theta)));
    expect(Math.max(Math.abs(p), Math.abs(q))).toBeLessThan(2 ** 23);
    sum += BigInt(p) * BigInt(Math.round(2 ** t * Math.cos(phi))) + BigInt(q) * BigInt(Math.round(2 ** t * Math.sin(phi)));
  }
  if (fit.slope !== 0) {
    const s = Math.log2(units) - (t + u - out.slopeBits);
    const factor = BigInt(fit.slope * 2 ** out.slopeBits);
    sum += factor * (s >= 0 ? truncated([x0, x1], s) : x << BigInt(-s));
  }
  return Number(BigInt.asIntN(out.ring, sum)) / 2 ** (t + u) + out.centre;
}

describe('chooseSmooth', () => {
  // [lo, hi], then K for GELU and for SiLU at 1e-3, 3e-3, 1e-2, with periods free: at most two more with the available ones.
  test.each([
    [-2, 2, [3, 3, 2], [3, 3, 2]],
    [-4, 4, [5, 5, 3], [4, 3, 3]],
    [-4, 2, [4, 4, 3], [4, 3, 2]],
    [-8, 8, [9, 8, 7], [7, 7, 5]],
    [-8, 4, [7, 7, 5], [6, 5, 4]],
    [-16, 16, [18, 16, 14], [14, 11, 9]],
    [-16, 8, [14, 12, 10], [11, 9, 7]],
    [-32, 16, [26, 24, 20], [22, 18, 16]],
  ])('K for GELU and SiLU on [%d, %d]', (lo, hi, ...tables) => {
    for (const [i, name] of (['gelu', 'silu'] as const).entries()) {
      for (const [j, epsilon] of [1e-3, 3e-3, 1e-2].entries()) {
        const g = chooseSmooth(functionNamed(name), { lo, hi, epsilon, fractionBits: 22 });
        expect(g.fit.maxError).toBeLessThan(epsilon);
        expect(g.fit.a.length, `${name} ${epsilon}`).toBeLessThanOrEqual(tables[i][j] + (tables[i][j] > 8 ? 2 : 1));
        expect(g.fit.period).toBeCloseTo(2 ** (32 - 22) / g.al, 12);
      }
    }
  });

  test('exp after cooling takes 4 to 8 harmonics', () => {
    for (const cool of [4, 8, 16]) {
      for (const epsilon of [1e-3, 3e-4]) {
        const f = (y: number) => Math.exp(y / cool);
        const g = chooseSmooth(f, { lo: -5 * cool, hi: 1, epsilon, fractionBits: 24, t: 11, u: 11, slope: 0 });
        expect(g.fit.a.length).toBeGreaterThanOrEqual(4);
        expect(g.fit.a.length).toBeLessThanOrEqual(8);
        expect(g.word.w).toBeLessThanOrEqual(24);
      }
    }
  });

  test.each([
    ['gelu', -4, 2, 24, 1.4],
    ['gelu', -16, 8, 24, 1.4],
    ['gelu', -48, 64, 23, 1.4],
    ['silu', -3, 12, 20, 2],
    ['tanh', -6, 6, 24, 1],
    ['sigmoid', -20, 2, 12, 1.2],
    ['exp', -6, 1, 26, 1],
  ] as const)('%s on [%d, %d], run in integers, errs by no more than fit and noise', (name, lo, hi, fractionBits, ratio) => {
    const f = functionNamed(name);
    const g = chooseSmooth(f, { lo, hi, guard: guardWidth(lo, hi, ratio), epsilon: 3e-3, fractionBits });
    expect(g.fit.guardError).toBeLessThan(0.1);
    expect(g.inputNoise).toBeLessThanOrEqual(3e-3 / 4);
    expect(largestAmplitude(g.fit) * 2 ** g.u).toBeLessThan(2 ** 23);
    expect(g.word.w).toBeLessThanOrEqual(32);
    const ring = g.fit.slope === 0 ? g.word.w : Math.min(g.word.w, 32 - fractionBits + g.t + g.u - g.word.slopeBits);
    expect(ring).toBeGreaterThanOrEqual(g.word.need);
    const out = { ring, centre: g.word.centre, slopeBits: g.word.slopeBits };
    const next = words(lo * 7919 + hi);
    const noise = Math.hypot(g.noise, g.inputNoise, 2 ** -(g.t + g.u - 3));
    let square = 0;
    const n = 3000;
    for (let i = 0; i < n; i++) {
      const core = i % 4 !== 3;
      const y = core ? lo + ((hi - lo) * next()) / 2 ** 32 : g.fit.guardLo + ((g.fit.guardHi - g.fit.guardLo) * next()) / 2 ** 32;
      const output = simulate(g, 2 ** fractionBits, 32, out, y, next);
      const error = Math.abs(output - f(y));
      // The opened value is off by less than one step, 2.5 times its r.m.s.; shares and coefficients by six deviations at most.
      expect(error, `${name}(${y})`).toBeLessThan((core ? g.fit.maxError : Math.max(g.fit.guardError, g.fit.maxError)) + 6.5 * noise);
      expect(Math.abs(output - g.word.centre) * 2 ** (g.t + g.u)).toBeLessThan(2 ** (g.word.need - 2));
      square += core ? (output - evaluateFit(g.fit, y)) ** 2 : 0;
    }
    const rms = Math.sqrt(square / (n * 0.75));
    expect(rms).toBeLessThan(1.1 * noise);
    expect(rms).toBeGreaterThan(0.5 * g.noise);
  });

  test('the same call gives the same plain data; a key gives the same object', () => {
    const options = { lo: -8, hi: 4, guard: 3.2, epsilon: 3e-3, fractionBits: 24 };
    const g = chooseSmooth(gelu, options);
    expect(JSON.parse(JSON.stringify(g))).toEqual(g);
    expect(chooseSmooth(gelu, options)).toEqual(g);
    expect(chooseSmooth(gelu, { ...options, key: 'gelu' })).toBe(chooseSmooth(gelu, { ...options, key: 'gelu' }));
    expect(chooseSmooth(gelu, { ...options, key: 'gelu', epsilon: 1e-2 })).not.toEqual(g);
  });

  test('a common range takes well under a tenth of a second', () => {
    chooseSmooth(gelu, { lo: -3, hi: 3, epsilon: 3e-3, fractionBits: 24 });
    for (const T of [2, 4, 8, 16]) {
      const start = performance.now();
      chooseSmooth(gelu, { lo: -T, hi: T / 2, guard: guardWidth(-T, T / 2), epsilon: 3e-3, fractionBits: 24 });
      expect(performance.now() - start).toBeLessThan(500);
    }
  });

  test('where only the longest period covers the range it is taken', () => {
    const g = chooseSmooth(gelu, { lo: -60, hi: 60, guard: 4, epsilon: 1e-2, fractionBits: 24 });
    expect(g.al).toBe(1);
    expect(g.fit.period).toBe(256);
  });

  test('what cannot be had is refused, with what to change', () => {
    expect(() => chooseSmooth(gelu, { lo: -300, hi: 300, epsilon: 1e-2, fractionBits: 24 })).toThrow(/lower them by 2/);
    expect(() => chooseSmooth((y) => Math.abs(y), { lo: -8, hi: 8, epsilon: 1e-3, fractionBits: 24, maxK: 24 })).toThrow(
      /no gate within 0.001/,
    );
  });

  test('wide outputs give up bits of u, then of t, to stay within a word', () => {
    const f = (y: number) => 5000 * Math.cos(y);
    const g = chooseSmooth(f, { lo: -2, hi: 2, epsilon: 20, guardEpsilon: 50, fractionBits: 24, t: 12, u: 12 });
    expect(g.word.w).toBe(32);
    expect(g.t + g.u).toBe(18);
    expect(word(g.fit, g.t, g.u + 1).w).toBeGreaterThan(32);
  });
});

describe('chooseRow', () => {
  // [function, lo, hi, error, K that reached it with free periods]
  test.each([
    ['reciprocal', 1, 32, 3e-4, 32],
    ['reciprocal', 0.5, 64, 3e-3, 64],
    ['rsqrt', 0.3, 32, 2e-4, 64],
    ['rsqrt', 1, 100, 2e-4, 64],
    ['rsqrt', 0.3, 160, 3e-3, 128],
    ['rsqrt', 0.3, 160, 4e-4, 256],
  ] as const)('%s on [%d, %d] to %d', (name, lo, hi, epsilon, K) => {
    const g = chooseRow(name, { lo, hi, epsilon, unitsPerOne: 2 ** 20 });
    const f = functionNamed(name);
    expect(g.fit.a.length).toBeLessThanOrEqual(1.5 * K);
    for (let i = 0; i <= 3000; i++) {
      const x = lo * (hi / lo) ** (i / 3000);
      expect(Math.abs(evaluateFit(g.fit, x) / f(x) - 1)).toBeLessThanOrEqual(epsilon);
    }
    expect(g.al).toBe(Math.floor(2 ** 32 / (1.15 * hi * 2 ** 20)));
    expect(g.fit.period).toBeCloseTo(2 ** 12 / g.al, 10);
    expect(Math.abs(g.t - g.u - Math.log2(g.fit.cnorm / Math.sqrt(g.fit.a.length)))).toBeLessThanOrEqual(1.5);
  });

  test.each([
    [16, 8],
    [32, 12],
    [64, 24],
    [128, 48],
  ])('a factor that cancels: 0.8 to 1.1 from 1/%d up to 1.5 takes K ≤ %d', (n, K) => {
    const g = chooseRow('reciprocal', { lo: 1 / n, hi: 1.5, within: [0.8, 1.1], unitsPerOne: 2 ** 22 });
    expect(g.fit.a.length).toBeLessThanOrEqual(K);
    expect(g.ratio[0]).toBeGreaterThanOrEqual(0.8);
    expect(g.ratio[1]).toBeLessThanOrEqual(1.1);
  });

  test.each([
    ['reciprocal', 1 / 32, 1.5, 2 ** 22 + 0.5, 'crude'],
    ['rsqrt', 0.3, 32, 2 ** 18, 'precise'],
  ] as const)('%s on [%d, %d], run in integers, errs by no more than fit and noise', (name, lo, hi, unitsPerOne, kind) => {
    const g = chooseRow(name, { lo, hi, unitsPerOne, ...(kind === 'crude' ? { within: [0.8, 1.1] } : { epsilon: 1e-3 }) });
    const f = functionNamed(name);
    const next = words(99);
    let square = 0;
    for (let i = 0; i < 1500; i++) {
      const x = lo * (hi / lo) ** (next() / 2 ** 32);
      const value = simulate(g, unitsPerOne, 32, { ring: 32, centre: 0, slopeBits: 0 }, x, next) / f(x);
      expect(Math.abs(value - 1), `${name}(${x})`).toBeLessThan(g.relError + 6.5 * Math.hypot(g.noise, g.inputNoise));
      square += (value - evaluateFit(g.fit, x) / f(x)) ** 2;
    }
    expect(Math.sqrt(square / 1500)).toBeLessThan(1.1 * Math.hypot(g.noise, g.inputNoise));
  });

  test('a forced K is given whatever its error; the same call gives the same object', () => {
    const options = { lo: 1 / 128, hi: 1.5, unitsPerOne: 2 ** 20, K: 128 };
    const g = chooseRow('reciprocal', options);
    expect(g.fit.a.length).toBe(128);
    expect(g.relError).toBeLessThan(1e-2);
    expect(chooseRow('reciprocal', { ...options })).toBe(g);
  });

  test('what cannot be had is refused, with what to change', () => {
    expect(() => chooseRow('rsqrt', { lo: 100, hi: 5000, epsilon: 1e-3, unitsPerOne: 2 ** 20 })).toThrow(
      /lower the input's scale by 1 bits/,
    );
    expect(() => chooseRow('rsqrt', { lo: 0.1, hi: 400, epsilon: 1e-4, unitsPerOne: 2 ** 20, maxK: 64 })).toThrow(
      /no K ≤ 64.*narrow hi\/lo/,
    );
  });
});
