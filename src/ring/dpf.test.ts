import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { dpfKeyBytes, dpfScratch, dpfWords, expandDpf, makeDpf } from './dpf.ts';
import { firstFree, newMemory } from './kernels/memory.ts';
import { plainKernels } from './kernels/plain.ts';
import { wasmKernels } from './kernels/wasm.ts';

const random = (b: Uint8Array): void => void b.set(randomBytes(b.length));
const salt: Uint8Array = randomBytes(16);
const make = (alpha: number, domain: number, value: number, by = salt): [Uint8Array, Uint8Array] =>
  makeDpf(alpha, domain, value, by, random);
const [fast, plain] = [wasmKernels(newMemory(1 << 21)), plainKernels(newMemory(1 << 21))];

/** The share, and a look at what lies behind it: nothing may be written past what was lent. */
function expand(key: Uint8Array, party: 0 | 1, domain: number, k = fast, by = salt): Uint32Array {
  const scratch = firstFree + 64 * Math.ceil((4 * dpfWords(domain)) / 64) + 64;
  const end = scratch + dpfScratch(domain);
  k.u32.fill(0xabcdef01, (scratch - 64) / 4, scratch / 4);
  k.u32.fill(0xabcdef01, end / 4, end / 4 + 16);
  expandDpf(k, key, by, party, domain, firstFree, scratch);
  for (let i = 0; i < 16; i++) expect([k.u32[(scratch - 64) / 4 + i], k.u32[end / 4 + i]]).toEqual([0xabcdef01, 0xabcdef01]);
  return k.u32.slice(firstFree / 4, firstFree / 4 + domain);
}
const sum = (keys: readonly Uint8Array[], domain: number, k = fast): Uint32Array => {
  const [a, b] = [expand(keys[0], 0, domain, k), expand(keys[1], 1, domain, k)];
  return a.map((v, i) => v + b[i]);
};
const point = (alpha: number, domain: number, value: number): Uint32Array => {
  const v = new Uint32Array(domain);
  v[alpha] = value;
  return v;
};

test('every place of every small domain', () => {
  for (let domain = 1; domain <= 40; domain++)
    for (let alpha = 0; alpha < domain; alpha++)
      for (const k of [plain, fast]) expect(sum(make(alpha, domain, 0x9e3779b9), domain, k)).toEqual(point(alpha, domain, 0x9e3779b9));
});

test('any place of any domain, any value', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 5000 }), fc.nat(), fc.integer({ min: 0, max: 2 ** 32 - 1 }), (domain, at, value) => {
      expect(sum(make(at % domain, domain, value), domain)).toEqual(point(at % domain, domain, value));
    }),
    { numRuns: 30 },
  );
});

test('a vocabulary of 49152 takes keys of under 300 bytes', () => {
  const keys = make(31_415, 49_152, 1);
  for (const k of keys) expect(k.length).toBe(dpfKeyBytes(49_152));
  expect(dpfKeyBytes(49_152)).toBeLessThan(300);
  expect(sum(keys, 49_152)).toEqual(point(31_415, 49_152, 1));
});

describe('one key alone', () => {
  test('expands to words that look uniform, the point among them', () => {
    const domain = 64;
    const ones = new Array<number>(domain).fill(0);
    const runs = 400;
    for (let r = 0; r < runs; r++) {
      const [k] = make(17, domain, 1);
      expand(k, 0, domain).forEach((w, i) => {
        for (let b = 0; b < 32; b++) ones[i] += (w >>> b) & 1;
      });
    }
    // Each count is binomial(12800, 1/2), of deviation 57: 5 of them are passed once in 30,000 runs of all 64.
    for (const n of ones) expect(Math.abs(n - 16 * runs)).toBeLessThan(5 * 57);
  });
  test('bits of the keys are even for any place: no correction word tells alpha', () => {
    for (const alpha of [0, 63]) {
      const bytes = dpfKeyBytes(64);
      const ones = new Array<number>(8 * bytes).fill(0);
      for (let r = 0; r < 400; r++)
        for (const k of make(alpha, 64, 1).slice(0, 1))
          for (let i = 0; i < 8 * bytes; i++) ones[i] += (k[i >> 3] >> (i & 7)) & 1;
      // Four levels have eight such bits: no bit of the key is padding.
      for (const n of ones) expect(Math.abs(n - 200)).toBeLessThan(60);
    }
  });
  test('two keys for one place share nothing', () => {
    const [a] = make(5, 1024, 1);
    const [b] = make(5, 1024, 1);
    expect(a.filter((v, i) => v === b[i]).length).toBeLessThan(12);
  });
});

test('under another salt a key is noise', () => {
  const [a, b] = make(5, 64, 1);
  const [x, y] = [expand(a, 0, 64), expand(b, 1, 64, fast, randomBytes(16))];
  expect(x.filter((v, i) => ((v + y[i]) >>> 0) === (i === 5 ? 1 : 0)).length).toBeLessThan(4);
});

test('what is no key or no place is refused', () => {
  expect(() => make(4, 4, 1)).toThrow('place 4 of a domain of 4');
  expect(() => make(-1, 4, 1)).toThrow('place -1');
  expect(() => make(0, 0, 1)).toThrow('domain');
  expect(() => make(0, 4, 1, new Uint8Array(8))).toThrow('a salt of 16 bytes is expected, got 8');
  expect(() => expand(new Uint8Array(31), 0, 4)).toThrow('a key of 32 bytes is expected for 4 places, got 31');
});
