import { createCipheriv } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { afterAll, describe, expect, test } from 'vitest';
import { checkedKernels, checkedModule, disagreement } from './check.ts';
import {
  gemmScratch,
  harmonicScratch,
  type Kernels,
  packedBytes,
  packedWords,
  panelWords,
  prgScratch,
  stripBytes,
  stripValues,
} from './kernels.ts';
import { firstFree, newMemory } from './memory.ts';
import { formats, packBlocks, smallBytes, unpackPanels } from './panels.ts';
import { parallelKernels } from './parallel.ts';
import { chachaBlock } from './plain/chacha.ts';
import { cosSin32, cosSin64 } from './plain/turns.ts';
import { plainKernels } from './plain.ts';

/** One place in memory that a case may touch, with what it holds at the start. */
interface Area {
  at: number;
  bytes: number;
}

const bytes = 1 << 26;
const plain = plainKernels(newMemory(bytes));
const fast = checkedKernels(newMemory(bytes));

let seed = 1;
const word = (): number => {
  seed = (Math.imul(seed, 1664525) + 1013904223) | 0;
  return (seed ^ (seed >>> 13) ^ (seed << 9)) >>> 0;
};
const edges = [0, 1, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1];
const someWord = (): number => (word() % 8 === 0 ? edges[word() % edges.length] : word());
const sizes = [0, 1, 3, 4, 5, 127, 128, 129, 150, 1000, 4096, 4100];

/**
 * Runs a kernel on the same memory image in both implementations and compares everything outside scratch: an output must agree and
 * whatever was not to be written, guard words around every area included, must be as before.
 */
class Case {
  private next = firstFree;
  private readonly scratches: Area[] = [];

  words(n: number, value: (i: number) => number = someWord): number {
    const at = this.take(n * 4);
    for (let i = 0; i < n; i++) plain.u32[at / 4 + i] = value(i);
    return at;
  }
  floats(n: number, value: (i: number) => number): number {
    const at = this.take(n * 4);
    for (let i = 0; i < n; i++) plain.f32[at / 4 + i] = value(i);
    return at;
  }
  doubles(n: number, value: (i: number) => number): number {
    const at = this.take(n * 8);
    for (let i = 0; i < n; i++) plain.f64[at / 8 + i] = value(i);
    return at;
  }
  scratch(n: number): number {
    const at = this.take(n);
    this.scratches.push({ at, bytes: n });
    return at;
  }
  private take(n: number): number {
    const at = this.next;
    this.next = (at + n + 63 + 16) & ~15;
    if (this.next > bytes) throw new Error('case too large');
    for (let i = at / 4; i < this.next / 4; i++) plain.u32[i] = 0xdeadbeef;
    return at;
  }
  run(what: string, call: (k: Kernels) => void, other = fast): void {
    other.u32.set(plain.u32.subarray(firstFree / 4, this.next / 4), firstFree / 4);
    call(plain);
    call(other);
    for (const k of [plain, other]) for (const { at, bytes } of this.scratches) k.u8.fill(0, at, at + bytes);
    const difference = firstDifference(plain.u32, other.u32, firstFree / 4, this.next / 4);
    if (difference >= 0)
      expect.fail(`${what}: word at ${difference * 4} is ${other.u32[difference]}, the plain twin has ${plain.u32[difference]}`);
  }
}

function firstDifference(a: Uint32Array, b: Uint32Array, from: number, to: number): number {
  if (Buffer.compare(Buffer.from(a.buffer, from * 4, (to - from) * 4), Buffer.from(b.buffer, from * 4, (to - from) * 4)) === 0) return -1;
  for (let i = from; i < to; i++) if (a[i] !== b[i]) return i;
  return -1;
}

describe('chacha', () => {
  test('20 rounds are the block of RFC 8439, section 2.3.2', () => {
    const key = new Uint32Array(Uint8Array.from({ length: 32 }, (_, i) => i).buffer);
    const out = new Uint32Array(16);
    chachaBlock(out, 0, 1, key, 1, 0x09000000, 0x4a000000, 0, 20);
    expect(Buffer.from(out.buffer).toString('hex')).toBe(
      '10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4ed2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e',
    );
  });
  test('20 rounds are the chacha20 of node:crypto', () => {
    const key = Uint32Array.from({ length: 8 }, word);
    const iv = Uint32Array.from({ length: 4 }, word);
    const out = new Uint32Array(16);
    chachaBlock(out, 0, 1, key, iv[0], iv[1], iv[2], iv[3], 20);
    const cipher = createCipheriv('chacha20', Buffer.from(key.buffer), Buffer.from(iv.buffer));
    expect(Buffer.from(out.buffer)).toEqual(cipher.update(Buffer.alloc(64)));
  });
  test('the stream at 32 bits is 12-round blocks, eight by eight', () => {
    const c = new Case();
    const key = c.words(8);
    const dst = c.words(2 * 4096);
    plain.prg(dst, key, 7, 8, 9, 32, 4096, 4096 + 5, c.scratch(prgScratch));
    const block = new Uint32Array(16);
    for (let p = 0; p < 4096 + 5; p++) {
      const [group, q] = [32 + (p >>> 7), p & 127];
      chachaBlock(block, 0, 1, plain.u32.slice(key / 4, key / 4 + 8), 8 * group + (q & 7), 7, 8, 9, 12);
      expect(plain.u32[dst / 4 + p]).toBe(block[q >>> 3]);
      if (p > 200 && p < 4000) p += 97;
    }
  });
});

describe('plain against independent arithmetic', () => {
  const mod32 = (x: bigint): number => Number(BigInt.asUintN(32, x));
  const at = (p: number, i: number): bigint => BigInt(plain.u32[p / 4 + i]);

  test('packing keeps values, and lays four lanes side by side', () => {
    for (const b of [1, 5, 16, 21, 31, 32]) {
      const c = new Case();
      const src = c.words(300);
      const packed = c.words(packedWords(b, 300));
      const back = c.words(300);
      plain.pack(packed, src, b, 300);
      plain.unpack(back, packed, b, 300);
      for (let i = 0; i < 300; i++) expect(at(back, i)).toBe(BigInt.asUintN(b, at(src, i)));
      for (let lane = 0; lane < 4; lane++) {
        let bits = 0n;
        for (let j = 0; j < b; j++) bits |= at(packed, 4 * j + lane) << BigInt(32 * j);
        for (let i = 0; i < 32; i++) expect(BigInt.asUintN(b, bits >> BigInt(b * i))).toBe(BigInt.asUintN(b, at(src, 4 * i + lane)));
      }
    }
  });
  test('a product is the product modulo 2^32', () => {
    const c = new Case();
    const [M, N, K] = [5, 19, 23];
    const A = c.words(M * K);
    const src = c.words(K * N);
    const B = c.words(panelWords(K, N));
    const C = c.words(M * N);
    plain.packB(B, src, K, N, N, 0, 4);
    plain.gemm(C, N, A, K, B, M, N, K, 0, 0);
    for (let m = 0; m < M; m++)
      for (let n = 0; n < N; n++) {
        let sum = 0n;
        for (let k = 0; k < K; k++) sum += at(A, m * K + k) * at(src, k * N + n);
        expect(plain.u32[C / 4 + m * N + n]).toBe(mod32(sum));
      }
  });
  test('truncation of a shared value is off by less than one unit, also from 64-bit words', () => {
    for (const inBits of [32, 24, 52]) {
      const [n, s] = [500, 9];
      const out = Math.min(32, inBits - s);
      const c = new Case();
      const x = Array.from({ length: n }, () => BigInt.asUintN(inBits, (BigInt(word()) << 32n) | BigInt(word())));
      const x0 = x.map(() => BigInt.asUintN(inBits, (BigInt(word()) << 32n) | BigInt(word())));
      const x1 = x.map((v, i) => BigInt.asUintN(inBits, v - x0[i]));
      const results = [x0, x1].map((share, party) => {
        const dst = c.words(n);
        if (inBits > 32) {
          const src = c.words(2 * n, (i) => Number(BigInt.asUintN(32, share[i >> 1] >> BigInt(32 * (i & 1)))));
          plain.truncate64(dst, src, inBits, s, out, party, n);
        } else
          plain.truncate(
            dst,
            c.words(n, (i) => Number(share[i])),
            0,
            0,
            1,
            1,
            0,
            0,
            inBits,
            s,
            out,
            party,
            n,
          );
        return dst;
      });
      for (let i = 0; i < n; i++) {
        const y = BigInt.asUintN(out, at(results[0], i) + at(results[1], i));
        const low = BigInt.asUintN(out, x[i] >> BigInt(s));
        expect([low, BigInt.asUintN(out, low + 1n)]).toContain(y);
        if (x[i] % 2n ** BigInt(s) === 0n) expect(y).toBe(low);
      }
    }
  });
  test('an extended wire, its products and squares are those of the value', () => {
    const n = 400;
    const split = (c: Case, value: number[]): number[] => {
      const first = value.map(word);
      return [c.words(n, (i) => first[i]), c.words(n, (i) => value[i] - first[i])];
    };
    for (const [bx, by] of [
      [12, 14],
      [20, 18],
      [32, 20],
      [20, 32],
      [32, 32],
    ]) {
      const c = new Case();
      const wire = (b: number) => {
        const half = 2 ** (Math.min(b, 31) - 2) - 1;
        const value = Array.from({ length: n }, () => (word() % (2 * half + 1)) - half);
        if (b === 32) {
          const mask = value.map(word);
          return {
            value,
            X: [0, 1].map(() => c.words(n, (i) => value[i] - mask[i])),
            rho: split(c, mask),
            r: mask,
            mu: value.map(() => 0),
          };
        }
        const [r0, r1] = [0, 1].map(() => c.words(n, () => word() % 2 ** b));
        const [r, w, mu] = [c.words(n), c.words(n), c.words(n)];
        plain.dealExtend(r, w, mu, r0, r1, b, n);
        const masks = Array.from(plain.u32.subarray(r / 4, r / 4 + n));
        const carries = Array.from(plain.u32.subarray(mu / 4, mu / 4 + n));
        const ws = split(c, Array.from(plain.u32.subarray(w / 4, w / 4 + n)));
        const mus = split(c, carries);
        const X = [0, 1].map(() => c.words(n, (i) => (value[i] + 2 ** (b - 2) + masks[i]) % 2 ** b));
        const rho = [0, 1].map((party) => {
          const [share, own] = [c.words(n), c.words(n)];
          plain.extend(share, own, X[party], party === 0 ? r0 : r1, ws[party], mus[party], b, party, n);
          return [share, own];
        });
        for (let i = 0; i < n; i++) expect((plain.i32[rho[0][0] / 4 + i] + plain.i32[rho[1][0] / 4 + i]) | 0).toBe(value[i]);
        return { value, X, rho: rho.map((x) => x[1]), r: masks, mu: carries };
      };
      const x = wire(bx);
      const y = wire(by);
      // For a plain wire the mask is added, for an extended one taken away.
      const rs = split(
        c,
        x.r.map((r, i) => Math.imul(r, y.r[i])),
      );
      const muS = split(
        c,
        x.mu.map((mu, i) => Math.imul(mu, y.r[i])),
      );
      const nuR = split(
        c,
        y.mu.map((nu, i) => Math.imul(nu, x.r[i])),
      );
      const muNu = split(
        c,
        x.mu.map((mu, i) => mu & y.mu[i]),
      );
      const z = [0, 1].map((party) => {
        const out = c.words(n);
        plain.mulWires(
          out,
          x.X[party],
          x.rho[party],
          bx,
          y.X[party],
          y.rho[party],
          by,
          rs[party],
          muS[party],
          nuR[party],
          muNu[party],
          1,
          n,
          0,
          party,
        );
        return out;
      });
      for (let i = 0; i < n; i++) expect((plain.i32[z[0] / 4 + i] + plain.i32[z[1] / 4 + i]) | 0).toBe(Math.imul(x.value[i], y.value[i]));

      const r2 = split(
        c,
        x.r.map((r) => Math.imul(r, r)),
      );
      const muR = split(
        c,
        x.mu.map((mu, i) => Math.imul(mu, x.r[i])),
      );
      const mu = split(c, x.mu);
      const squares = [0, 1].map((party) => {
        const out = c.words(n);
        plain.squareWire(out, x.X[party], x.rho[party], bx, r2[party], bx === 32 ? 0 : muR[party], 2 * bx < 32 ? mu[party] : 0, party, n);
        return out;
      });
      for (let i = 0; i < n; i++)
        expect((plain.i32[squares[0] / 4 + i] + plain.i32[squares[1] / 4 + i]) | 0).toBe(Math.imul(x.value[i], x.value[i]));
    }
  });
  test('sine and cosine are within one unit of the last place or so', () => {
    for (let i = 0; i < 20000; i++) {
      const [c, m] = [word(), 3 + (word() % 14)];
      const angle = (2 * Math.PI * (c % 2 ** m)) / 2 ** m;
      const [cos, sin] = cosSin32(c, m);
      expect(Math.abs(cos - Math.cos(angle))).toBeLessThan(1.3e-7);
      expect(Math.abs(sin - Math.sin(angle))).toBeLessThan(1.3e-7);
      const turn = (2 * Math.PI * c) / 2 ** 32;
      const [cos64, sin64] = cosSin64(c, 32);
      expect(Math.abs(cos64 - Math.cos(turn))).toBeLessThan(1e-15);
      expect(Math.abs(sin64 - Math.sin(turn))).toBeLessThan(1e-15);
    }
  });
  test('the harmonic gates open to the Fourier series', () => {
    const gates = [
      { w: 28, m: 12, t: 12, u: 10 },
      { w: 32, m: 16, t: 14, u: 12 },
    ];
    for (const { w, m, t, u } of gates) {
      const [K, rows, width] = [6, 3, 21];
      const c = new Case();
      const key = c.words(8);
      const a = Array.from({ length: K }, (_, k) => Math.sin(k + 1));
      const b = Array.from({ length: K }, (_, k) => Math.cos(3 * k));
      const y = Array.from({ length: rows * width }, () => word() % 2 ** m);
      const r = c.words(rows * width, () => word() % 2 ** m);
      const opened = c.words(rows * width, (i) => (y[i] + plain.u32[r / 4 + i]) % 2 ** m);
      const coef = c.floats(8 * K, (i) => ((i >> 2) & 1 ? b : a)[i >> 3] * 2 ** u);
      const packed = c.words(packedWords(w, stripValues(rows, width, K)));
      const out = [0, 1].map(() => c.words(rows * width, () => 0));
      plain.dealHarmonic(packed, r, width, rows, width, K, t, w, m, key, 1, 2, 3, 0);
      plain.harmonic(out[0], opened, width, rows, width, coef, 1, K, w, m, 0, key, 1, 2, 3, 0);
      plain.harmonic(out[1], opened, width, rows, width, coef, 1, K, w, m, packed, 0, 0, 0, 0, 0);
      for (let i = 0; i < rows * width; i++) {
        const opens = ((plain.u32[out[0] / 4 + i] + plain.u32[out[1] / 4 + i]) << (32 - w)) >> (32 - w);
        const wanted = a.reduce((sum, _, k) => {
          const angle = (2 * Math.PI * (k + 1) * y[i]) / 2 ** m;
          return sum + a[k] * Math.cos(angle) + b[k] * Math.sin(angle);
        }, 0);
        expect(Math.abs(opens / 2 ** (t + u) - wanted)).toBeLessThan(4 * K * (2 ** -t + 2 ** -u));
      }
    }
  });
  test('a row gate opens to the Fourier series, from words of 32 and of 46 bits', () => {
    for (const { w, t, u } of [
      { w: 32, t: 12, u: 14 },
      { w: 46, t: 20, u: 20 },
    ]) {
      const [K, n, channels] = [40, 30, 3];
      const c = new Case();
      const key = c.words(8);
      const a = Array.from({ length: K * channels }, (_, k) => Math.sin(k + 1) / K);
      const b = Array.from({ length: K * channels }, (_, k) => Math.cos(3 * k) / K);
      const y = Array.from({ length: n }, word);
      const r = c.words(n);
      const opened = c.words(n, (i) => y[i] + plain.u32[r / 4 + i]);
      const coef = c.doubles(2 * K * channels, (i) => (i & 1 ? b : a)[i >> 1] * 2 ** u);
      const packed = c.words(stripBytes(2 * K * n, w) / 4);
      const out = [0, 1].map(() => c.words(2 * n, () => 0));
      plain.dealHarmonicRow(packed, r, n, K, t, w, 32, key, 1, 2, 3, 0);
      plain.harmonicRow(out[0], opened, n, coef, channels, 2, K, w, 32, 0, key, 1, 2, 3, 0);
      plain.harmonicRow(out[1], opened, n, coef, channels, 2, K, w, 32, packed, 0, 0, 0, 0, 0);
      const big = new BigUint64Array(plain.memory.buffer);
      for (let i = 0; i < n; i++) {
        const opens =
          w === 32
            ? (plain.i32[out[0] / 4 + i] + plain.i32[out[1] / 4 + i]) | 0
            : Number(BigInt.asIntN(w, big[out[0] / 8 + i] + big[out[1] / 8 + i]));
        const first = (Math.floor(i / 2) % channels) * K;
        let wanted = 0;
        for (let k = 0; k < K; k++) {
          const angle = (2 * Math.PI * (((k + 1) * y[i]) % 2 ** 32)) / 2 ** 32;
          wanted += a[first + k] * Math.cos(angle) + b[first + k] * Math.sin(angle);
        }
        expect(Math.abs(opens / 2 ** (t + u) - wanted)).toBeLessThan(2 * K * (2 ** -t + 2 ** -u));
      }
    }
  });
});

describe('wasm is plain, bit for bit', () => {
  test('prg', () => {
    for (let bits = 1; bits <= 32; bits++)
      for (const n of bits % 5 === 1 ? sizes : [129, 150, 4100]) {
        const c = new Case();
        const [key, dst, scratch] = [c.words(8), c.words(n), c.scratch(prgScratch)];
        for (const first of [0, 4096 * 1000])
          c.run(`prg ${bits} ${n} ${first}`, (k) => k.prg(dst, key, 3, 2 ** 32 - 1, 5, bits, first, n, scratch));
      }
  });
  test('pack, unpack, openSum', () => {
    for (let bits = 1; bits <= 32; bits++)
      for (const n of sizes) {
        const c = new Case();
        const [src, packed, back, sum] = [c.words(n), c.words(packedWords(bits, n)), c.words(n), c.words(n)];
        c.run(`pack ${bits} ${n}`, (k) => {
          k.pack(packed, src, bits, n);
          k.unpack(back, packed, bits, n);
          k.openSum(sum, src, packed, bits, n);
          k.openSum(src, src, packed, bits, n);
        });
      }
  });
  test('elementwise', () => {
    for (const n of sizes) {
      const c = new Case();
      const [a, b, dst] = [c.words(n), c.words(n), c.words(n)];
      c.run(`fill ${n}`, (k) => k.fill(dst, 2 ** 32 - 5, n));
      const pairs = c.words(2 * n);
      c.run(`fill64 ${n}`, (k) => k.fill64(pairs, 2 ** 32 - 7, 12345, n));
      for (const op of ['add', 'sub', 'mul'] as const) {
        c.run(`${op} ${n}`, (k) => k[op](dst, a, b, n));
        c.run(`${op} in place ${n}`, (k) => k[op](a, a, b, n));
      }
      c.run(`copy ${n}`, (k) => k.copy(dst, a, n));
      c.run(`bits ${n}`, (k) => k.bits(dst, a, 0xfff0fff0, 3, n));
    }
  });
  test('rows and axes', () => {
    for (const [rows, cols] of [
      [1, 1],
      [3, 5],
      [7, 8],
      [2, 127],
      [5, 129],
      [0, 4],
      [4, 16],
      [1, 33],
    ]) {
      const c = new Case();
      const n = rows * cols;
      const [a, b, dst] = [c.words(n), c.words(Math.max(n, rows)), c.words(Math.max(n, rows))];
      c.run('mulRow', (k) => k.mulRow(dst, a, b, rows, cols));
      c.run('rowDot', (k) => k.rowDot(dst, a, b, rows, cols));
      c.run('centre', (k) => k.centre(dst, a, cols, rows, cols));
      c.run('centre in place', (k) => k.centre(a, a, 3, rows, cols));
      for (const inner of [1, 2, 9]) {
        const [x, out] = [c.words(n * inner), c.words(rows * inner)];
        c.run(`sumAxis ${inner}`, (k) => k.sumAxis(out, x, rows, cols, inner));
      }
    }
  });
  test('affine and truncate, with and without factors, terms and masks', () => {
    for (const [repeat, channels, inner] of [
      [1, 1, 7],
      [3, 1, 1],
      [5, 8, 1],
      [3, 13, 1],
      [2, 3, 17],
      [2, 4, 4],
      [1, 127, 1],
      [4, 129, 1],
      [0, 4, 1],
    ]) {
      const c = new Case();
      const n = repeat * channels * inner;
      const [x, m, p, r, dst] = [c.words(n), c.words(channels), c.words(channels), c.words(n), c.words(n)];
      for (const mul of [0, m])
        for (const add of [0, p]) {
          c.run('affine', (k) => k.affine(dst, x, mul, add, channels, inner, n));
          for (const mask of [0, r])
            for (const party of [0, 1])
              for (const [inBits, s, outBits] of [
                [32, 12, 20],
                [32, 0, 32],
                [24, 9, 12],
                [30, 13, 17],
                [32, 31, 1],
              ])
                c.run(`truncate ${channels} ${inner}`, (k) =>
                  k.truncate(dst, x, mul, add, channels, inner, mask, 77777, inBits, s, outBits, party, n),
                );
        }
      c.run('affine in place', (k) => k.affine(x, x, m, p, channels, inner, n));
    }
  });
  test('truncate64', () => {
    for (const n of sizes) {
      const c = new Case();
      const [x, dst] = [c.words(2 * n), c.words(n)];
      for (const party of [0, 1])
        for (const [inBits, s, outBits] of [
          [48, 16, 32],
          [52, 20, 32],
          [45, 13, 20],
          [33, 1, 32],
        ])
          c.run(`truncate64 ${n}`, (k) => k.truncate64(dst, x, inBits, s, outBits, party, n));
    }
  });
  test('extend, dealExtend', () => {
    for (const n of sizes)
      for (const bits of [3, 12, 20, 30]) {
        const c = new Case();
        const [share, rho, opened, r, w, mu] = Array.from({ length: 6 }, () => c.words(n));
        const [r0, r1] = [c.words(n, () => someWord() % 2 ** bits), c.words(n, () => someWord() % 2 ** bits)];
        for (const party of [0, 1])
          for (const [s, o] of [
            [share, rho],
            [share, 0],
            [0, rho],
            [opened + 0, 0],
          ].slice(0, 3))
            c.run(`extend ${n}`, (k) => k.extend(s, o, opened, r, w, mu, bits, party, n));
        c.run(`dealExtend ${n}`, (k) => k.dealExtend(r, w, mu, r0, r1, bits, n));
      }
  });
  test('products of wires', () => {
    for (const [rows, cols] of [
      [1, 1],
      [1, 127],
      [3, 5],
      [4, 8],
      [2, 130],
      [0, 3],
    ])
      for (const xBits of [12, 20, 32])
        for (const yBits of [14, 18, 32])
          for (const party of [0, 1]) {
            const c = new Case();
            const n = rows * cols;
            const signed = (bits: number) => () => (bits === 32 ? someWord() : (someWord() % 2 ** bits) - 2 ** (bits - 2));
            const [X, Y] = [c.words(n, signed(xBits)), c.words(n, signed(yBits))];
            const [z, rho, sigma, rs, muS, nuR, muNu] = Array.from({ length: 7 }, () => c.words(n));
            const row = c.words(rows);
            for (const rowY of [0, 1])
              c.run(`mulWires ${xBits} ${yBits} ${rowY}`, (k) =>
                k.mulWires(
                  z,
                  X,
                  rho,
                  xBits,
                  Y,
                  sigma,
                  yBits,
                  rs,
                  xBits < 32 ? muS : 0,
                  yBits < 32 ? nuR : 0,
                  xBits + yBits < 32 ? muNu : 0,
                  rows,
                  cols,
                  rowY,
                  party,
                ),
              );
            const mu = 2 * xBits < 32 ? muNu : 0;
            c.run(`squareWire ${xBits}`, (k) => k.squareWire(z, X, rho, xBits, rs, xBits < 32 ? muS : 0, mu, party, n));
            c.run(`rowSquares ${xBits}`, (k) => k.rowSquares(row, X, rho, xBits, rs, xBits < 32 ? muS : 0, mu, party, rows, cols));
          }
  });
  test('copyBox: rows, transposes, slices', () => {
    for (const [d0, d1, d2, d3] of [
      [2, 3, 5, 7],
      [1, 1, 9, 16],
      [2, 1, 4, 4],
      [1, 2, 33, 6],
      [1, 1, 0, 5],
    ]) {
      const c = new Case();
      const n = d0 * d1 * d2 * d3;
      const [src, dst] = [c.words(n + 1), c.words(n + 1)];
      const strides: number[][] = [
        [d1 * d2 * d3, d2 * d3, d3, 1],
        [d1 * d2 * d3, d2 * d3, 1, d2],
        [1, d0, d0 * d1, d0 * d1 * d2],
        [d1, 1, d0 * d1, d0 * d1 * d2],
      ];
      for (const [s0, s1, s2, s3] of strides)
        for (const [t0, t1, t2, t3] of strides)
          c.run('copyBox', (k) => k.copyBox(dst + 4, src + 4, d0, d1, d2, d3, s0, s1, s2, s3, t0, t1, t2, t3));
    }
  });
  test('im2col: padding, strides, dilation', () => {
    for (const [C, H, W, KH, KW, sy, sx, pt, pl, dy, dx] of [
      [1, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1],
      [3, 9, 11, 3, 3, 1, 1, 1, 1, 1, 1],
      [2, 12, 8, 4, 4, 4, 4, 0, 0, 1, 1],
      [2, 9, 9, 3, 2, 2, 3, 2, 1, 2, 3],
    ]) {
      const OH = Math.floor((H + 2 * pt - dy * (KH - 1) - 1) / sy) + 1;
      const OW = Math.floor((W + 2 * pl - dx * (KW - 1) - 1) / sx) + 1;
      const c = new Case();
      const [x, dst] = [c.words(C * H * W), c.words(OH * OW * C * KH * KW)];
      c.run('im2col', (k) => k.im2col(dst, x, C, H, W, KH, KW, sy, sx, pt, pl, dy, dx, OH, OW));
    }
  });
  test('matrix products', () => {
    const shapes = [
      [1, 1, 1],
      [1, 40, 300],
      [2, 16, 5],
      [3, 17, 7],
      [4, 33, 12],
      [5, 15, 9],
      [6, 16, 3],
      [7, 31, 258],
      [8, 48, 64],
      [13, 20, 513],
      [200, 18, 21],
      [170, 18, 801],
      [0, 16, 4],
      [3, 16, 0],
      [32, 32, 32],
    ];
    for (const [M, N, K] of shapes)
      for (const transposed of [0, 1]) {
        const c = new Case();
        const [ldb, lda, ldc] = [(transposed ? K : N) + 3, K + 1, N + 2];
        const A = c.words(M * lda + 1) + 4;
        const src = c.words((transposed ? N : K) * ldb);
        const [B, C] = [c.words(panelWords(K, N)), c.words(M * ldc)];
        const scratch = c.scratch(gemmScratch);
        for (const size of [1, 2, 4]) c.run(`packB ${size}`, (k) => k.packB(B, src, K, N, ldb, transposed, size));
        for (const accumulate of [0, 1]) c.run(`gemm ${M} ${N} ${K}`, (k) => k.gemm(C, ldc, A, lda, B, M, N, K, accumulate, scratch));
        const S = c.words(smallBytes(K, N, formats.halves) / 4);
        c.run('packHalves', (k) => k.packHalves(S, src, K, N, ldb, transposed));
        for (const accumulate of [0, 1])
          c.run(`halves ${M} ${N} ${K}`, (k) => k.gemmSmall(C, ldc, A, lda, S, formats.halves, M, N, K, accumulate, scratch));
      }
  });
  test('matrix products with blocks', () => {
    for (const format of [formats.blocks4, formats.blocks8, formats.pairs8])
      for (const [M, N, K] of [
        [1, 1, 32],
        [1, 40, 320],
        [2, 16, 64],
        [5, 31, 416],
        [200, 18, 32],
        [200, 18, 800],
        [7, 16, 800],
      ]) {
        const c = new Case();
        const [lda, ldc] = [K + 1, N + 2];
        const [A, C, S, scratch] = [c.words(M * lda), c.words(M * ldc), c.words(smallBytes(K, N, format) / 4), c.scratch(gemmScratch)];
        for (const accumulate of [0, 1])
          c.run(`blocks ${format} ${M} ${N} ${K}`, (k) => k.gemmSmall(C, ldc, A, lda, S, format, M, N, K, accumulate, scratch));
      }
    // The one product of a byte and a scale that is beyond a half.
    for (const M of [1, 5]) {
      const c = new Case();
      const [A, C, scratch] = [c.words(M * 64), c.words(M * 16), c.scratch(gemmScratch)];
      const S = c.words(smallBytes(64, 16, formats.blocks8) / 4, (i) => (i % 144 < 16 ? 0x80008000 : 0x80808080));
      for (const [format, entry] of [
        [formats.blocks8, 32767 - 32768],
        [formats.pairs8, 32767],
      ]) {
        c.run(`least bytes ${M}`, (k) => k.gemmSmall(C, 16, A, 64, S, format, M, 16, 64, 0, scratch));
        expect(plain.i32[C / 4]).toBe(plain.i32.subarray(A / 4, A / 4 + 64).reduce((sum, v) => (sum + Math.imul(entry, v)) | 0, 0));
      }
    }
  });
  test('blocks are packed as they are read', () => {
    for (const format of [formats.blocks4, formats.blocks8, formats.pairs8]) {
      const [K, N] = [96, 21];
      const [low, high] = format === formats.blocks4 ? [0, 15] : [-128, 127];
      const at = (j: number, b: number) => ({
        scale: ((j * 977 + b * 31) % 65536) - 32768,
        second: ((j * 1013 + b * 77) % 65536) - 32768,
        q: Array.from({ length: 32 }, (_, i) => low + ((j * 7 + b * 5 + i * 3) % (high - low + 1))),
      });
      const entries = unpackPanels(packBlocks(format, K, N, at), format, K, N);
      for (let k = 0; k < K; k++)
        for (let j = 0; j < N; j++) {
          const { scale, second, q } = at(j, k >> 5);
          const product = (format === formats.pairs8 && k % 32 >= 16 ? second : scale) * q[k & 31];
          const entry = format === formats.blocks4 ? product : Math.min(32767, Math.floor(product / 128 + 0.5));
          expect(entries[k * N + j]).toBe(entry + (format === formats.pairs8 ? 0 : second));
        }
      const q = new Array(32).fill(0);
      expect(() => packBlocks(format, 32, 1, () => ({ scale: 32768, second: 0, q }))).toThrow(RangeError);
      expect(() => packBlocks(format, 32, 1, () => ({ scale: 0, second: -32769, q }))).toThrow(RangeError);
    }
    expect(() => smallBytes(33, 16, formats.blocks4)).toThrow(RangeError);
  });
  test('float matrix products, summed in the same order', () => {
    for (const [M, N, K] of [
      [1, 40, 300],
      [7, 31, 258],
      [12, 48, 64],
    ]) {
      const c = new Case();
      const f = () => word() / 2 ** 31 - 1;
      const [A, src, C, B, scratch] = [
        c.floats(M * K, f),
        c.floats(K * N, f),
        c.floats(M * N, f),
        c.words(panelWords(K, N)),
        c.scratch(gemmScratch),
      ];
      c.run('packBF32', (k) => k.packBF32(B, src, K, N, N, 0));
      for (const accumulate of [0, 1]) c.run('gemmF32', (k) => k.gemmF32(C, N, A, K, B, M, N, K, accumulate, scratch));
    }
  });
  test('harmonic gates', () => {
    for (const [rows, width, K, w, m] of [
      [1, 1, 1, 9, 3],
      [1, 15, 5, 21, 12],
      [2, 7, 5, 24, 12],
      [1, 128, 8, 32, 16],
      [3, 129, 7, 20, 14],
      [9, 65, 13, 31, 16],
      [2, 40, 64, 32, 15],
      [1, 6, 600, 22, 10],
      [0, 4, 3, 20, 12],
    ]) {
      const c = new Case();
      const stride = width + 4;
      const key = c.words(8);
      const [r, opened, out] = [c.words(rows * stride), c.words(rows * stride), c.words(rows * stride)];
      const values = stripValues(rows, width, K);
      const packed = c.words(packedBytes(w, values) / 4);
      const coef = c.floats(8 * K * Math.ceil(width / 4), () => (word() / 2 ** 31 - 1) * 2 ** 12);
      const scratch = c.scratch(harmonicScratch);
      c.run(`dealHarmonic K ${K}`, (k) => k.dealHarmonic(packed, r, stride, rows, width, K, 13, w, m, key, 5, 6, 7, scratch));
      for (const splat of [0, 1])
        for (const corrections of [packed, 0])
          c.run(`harmonic K ${K}`, (k) =>
            k.harmonic(out, opened, stride, rows, width, coef, splat, K, w, m, corrections, key, 5, 6, 7, scratch),
          );
    }
  });
  test('row gates', () => {
    for (const [n, K, w, m] of [
      [1, 1, 20, 12],
      [7, 40, 32, 32],
      [33, 127, 31, 32],
      [5, 512, 32, 30],
      [1, 1, 33, 32],
      [9, 300, 48, 32],
      [40, 77, 45, 31],
      [0, 4, 45, 31],
    ]) {
      const c = new Case();
      const [key, r, opened] = [c.words(8), c.words(n), c.words(n)];
      const out = c.words(2 * n);
      const packed = c.words(stripBytes(2 * K * n, w) / 4);
      const coef = c.doubles(2 * K * 3, () => (word() / 2 ** 31 - 1) * 2 ** 24);
      const scratch = c.scratch(harmonicScratch);
      c.run(`dealHarmonicRow K ${K}`, (k) => k.dealHarmonicRow(packed, r, n, K, 20, w, m, key, 5, 6, 7, scratch));
      for (const corrections of [packed, 0])
        c.run(`harmonicRow K ${K}`, (k) => k.harmonicRow(out, opened, n, coef, 3, 4, K, w, m, corrections, key, 5, 6, 7, scratch));
    }
  });
});

describe('parallel kernels are plain, bit for bit', () => {
  const shared = parallelKernels(newMemory(bytes, true), 3, { grain: 1000 });
  afterAll(() => shared.close());

  /** A call that must be split. */
  const compare = (c: Case, what: string, call: (k: Kernels) => void): void => {
    const before = shared.handedOver();
    c.run(what, call, shared);
    expect(shared.handedOver(), `${what} was not split`).toBeGreaterThan(before);
  };

  test('streams and words', () => {
    const n = 90_000;
    const c = new Case();
    const [key, a, b, d] = [c.words(8), c.words(n), c.words(n), c.words(n)];
    const packed = c.words(packedWords(21, n));
    const scratch = c.scratch(prgScratch);
    compare(c, 'prg', (k) => k.prg(d, key, 1, 2, 3, 21, 4096 * 5, n, scratch));
    compare(c, 'prg 32', (k) => k.prg(d, key, 1, 2, 3, 32, 4096 * 5, n - 1, scratch));
    compare(c, 'pack', (k) => k.pack(packed, a, 21, n - 5));
    compare(c, 'unpack', (k) => k.unpack(b, packed, 21, n - 5));
    compare(c, 'openSum', (k) => k.openSum(b, a, packed, 21, n - 5));
    for (const op of ['add', 'sub', 'mul'] as const) compare(c, op, (k) => k[op](d, a, b, n - 3));
    compare(c, 'truncate', (k) => k.truncate(d, a, 0, 0, 1, 1, b, 9, 32, 11, 21, 0, n - 3));
    compare(c, 'truncate by channels', (k) => k.truncate(d, a, b, b + 64, 7, 3, 0, 9, 32, 11, 21, 0, 21 * 4000));
    compare(c, 'affine', (k) => k.affine(d, a, b, 0, 900, 1, 90_000));
  });
  test('extensions and products of wires', () => {
    const n = 40_003;
    const c = new Case();
    const x = Array.from({ length: 11 }, () => c.words(n));
    compare(c, 'extend', (k) => k.extend(x[0], x[1], x[2], x[3], x[4], x[5], 20, 0, n));
    compare(c, 'dealExtend', (k) => k.dealExtend(x[0], x[1], x[2], x[3], x[4], 20, n));
    compare(c, 'squareWire', (k) => k.squareWire(x[0], x[1], x[2], 14, x[3], x[4], x[5], 0, n));
    compare(c, 'mulWires', (k) => k.mulWires(x[0], x[1], x[2], 12, x[3], x[4], 14, x[5], x[6], x[7], x[8], 1, n, 0, 0));
    compare(c, 'mulWires by row', (k) => k.mulWires(x[0], x[1], x[2], 32, x[3], x[4], 14, x[5], 0, x[7], 0, 100, 399, 1, 1));
    compare(c, 'rowSquares', (k) => k.rowSquares(x[0], x[1], x[2], 14, x[3], x[4], x[5], 1, 100, 399));
    for (const op of ['rowDot', 'mulRow'] as const) compare(c, op, (k) => k[op](x[0], x[1], x[2], 200, 199));
    compare(c, 'centre', (k) => k.centre(x[0], x[1], 199, 200, 199));
  });
  test('matrix products by rows and by panels', () => {
    for (const [M, N, K] of [
      [67, 130, 500],
      [1, 500, 701],
      [5, 300, 301],
    ]) {
      const c = new Case();
      const [A, src, B, C] = [c.words(M * K), c.words(K * N), c.words(panelWords(K, N)), c.words(M * N)];
      const [S, scratch] = [c.words(smallBytes(K, N, formats.halves) / 4), c.scratch(gemmScratch)];
      c.run('packB', (k) => k.packB(B, src, K, N, K, 1, 4), shared);
      compare(c, `gemm ${M}`, (k) => k.gemm(C, N, A, K, B, M, N, K, 1, scratch));
      c.run('packHalves', (k) => k.packHalves(S, src, K, N, N, 0), shared);
      compare(c, `gemmSmall ${M}`, (k) => k.gemmSmall(C, N, A, K, S, formats.halves, M, N, K, 0, scratch));
      const inBlocks = K - (K % 32);
      for (const format of [formats.blocks4, formats.blocks8, formats.pairs8])
        compare(c, `blocks ${format} ${M}`, (k) => k.gemmSmall(C, N, A, K, src, format, M, N, inBlocks, 0, scratch));
    }
    const c = new Case();
    const [src, B] = [c.words(310 * 300), c.words(panelWords(300, 310))];
    for (const transposed of [0, 1]) compare(c, 'packB', (k) => k.packB(B, src, 300, 310, transposed ? 300 : 310, transposed, 4));
  });
  test('harmonic and row gates', () => {
    const [rows, width, K, w] = [7, 1003, 6, 23];
    const c = new Case();
    const [key, r, out] = [c.words(8), c.words(rows * width), c.words(rows * width)];
    const packed = c.words(packedWords(w, stripValues(rows, width, K)));
    const coef = c.floats(8 * K * Math.ceil(width / 4), () => (word() / 2 ** 31 - 1) * 2 ** 12);
    const scratch = c.scratch(harmonicScratch);
    compare(c, 'dealHarmonic', (k) => k.dealHarmonic(packed, r, width, rows, width, K, 13, w, 14, key, 5, 6, 7, scratch));
    for (const corrections of [packed, 0])
      compare(c, 'harmonic', (k) => k.harmonic(out, r, width, rows, width, coef, 0, K, w, 14, corrections, key, 5, 6, 7, scratch));
    for (const wide of [31, 46]) {
      const [n, deep] = [200, 96];
      const c = new Case();
      const [key, r, out] = [c.words(8), c.words(n), c.words(2 * n)];
      const packed = c.words(stripBytes(2 * deep * n, wide) / 4);
      const coef = c.doubles(2 * deep * 3, () => (word() / 2 ** 31 - 1) * 2 ** 24);
      const scratch = c.scratch(harmonicScratch);
      compare(c, 'dealHarmonicRow', (k) => k.dealHarmonicRow(packed, r, n, deep, 20, wide, 32, key, 5, 6, 7, scratch));
      for (const corrections of [packed, 0])
        compare(c, 'harmonicRow', (k) => k.harmonicRow(out, r, n, coef, 3, 7, deep, wide, 32, corrections, key, 5, 6, 7, scratch));
    }
  });
});

describe('the check at start', () => {
  test('asks for 256-bit operations where the engine can pair them', () => {
    const wide = Number.parseInt(process.versions.node, 10) >= 24 && process.env.SUBROSA_SIMD !== '128';
    expect(checkedModule(false).wide).toBe(wide);
  });
  test('names a kernel that was made wrong', () => {
    const bytes = readFileSync(new URL('../../../dist/ring/kernels/kernels.wasm', import.meta.url));
    // The first word of ChaCha's constant, 0x61707865, as the module writes it.
    const at = bytes.indexOf(Buffer.from([0x41, 0xe5, 0xf0, 0xc1, 0x8b, 0x06]));
    expect(at).toBeGreaterThan(0);
    bytes[at + 1] ^= 1;
    expect(disagreement(new WebAssembly.Module(new Uint8Array(bytes)), false)).toBe('prg');
  });
});
