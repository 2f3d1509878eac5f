import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { newMemory } from '../ring/kernels/memory.ts';
import { plainKernels } from '../ring/kernels/plain.ts';
import { Case, integers, scripted } from './gate.case.ts';

/** Ends of the range that `extend` takes in b bits, and what lies around zero. */
const edges = (b: number): number[] => [0, 1, -1, 2 ** (b - 2) - 1, -(2 ** (b - 2) - 1), 2 ** (b - 2) - 2];

describe('truncate', () => {
  test('every value and every share of a 6-bit ring: less than one unit off, multiples exact, no bias at all', () => {
    const k = plainKernels(newMemory(1 << 20));
    const [a, b] = [70000 & ~15, 140000 & ~15];
    for (let s = 0; s <= 5; s++)
      for (let x = -32; x < 32; x++) {
        const ring = 2 ** (6 - s);
        for (let i = 0; i < 64; i++) {
          k.u32[a / 4 + i] = i;
          k.u32[b / 4 + i] = x - i;
        }
        k.truncate(a, a, 0, 0, 1, 1, 0, 0, 6, s, 6 - s, 0, 64);
        k.truncate(b, b, 0, 0, 1, 1, 0, 0, 6, s, 6 - s, 1, 64);
        let bias = 0;
        for (let i = 0; i < 64; i++) {
          const d = k.u32[a / 4 + i] + k.u32[b / 4 + i] - x / 2 ** s;
          const off = d - Math.round(d / ring) * ring;
          // In a ring of one or two units every difference is small; the smaller of the two representatives is what was meant.
          if (Math.abs(off) >= 1 || (x % 2 ** s === 0 && off !== 0)) throw new Error(`${x} / 2^${s} with share ${i} is off by ${off}`);
          bias += off;
        }
        if (ring > 2) expect(bias).toBeCloseTo(0, 9);
      }
  });

  test('cuts any ring to a smaller one, with factors and offsets per channel', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 6, max: 32 }),
        fc.integer({ min: 0, max: 30 }),
        fc.nat(),
        fc.integer({ min: 0, max: 2 }),
        (inBits, drop, less, axis) => {
          const s = Math.min(drop, inBits - 1);
          const bits = 1 + (less % (inBits - s));
          const shape = [3, 4, 5];
          const c = new Case();
          const x = c.input(shape, { bits: inBits });
          const [mul, add] = [integers(shape[axis], 9), integers(shape[axis], 1000)];
          c.output(c.gate('truncate', [x], { s, bits, mul, add, axis }, { bits }));
          c.run([integers(60, 2 ** (inBits - 1))]);
        },
      ),
      { numRuns: 40 },
    );
  });

  test.each([33, 40, 45, 48])('of a %i-bit share of a row gate lands in 32 bits or less', (w) => {
    const c = new Case();
    const s = w - 32 + 3;
    const wide = c.gate(
      'harmonic',
      [c.input([1, 200])],
      {
        f: 'constant',
        axis: 0,
        lanes: false,
        row: true,
        m: 12,
        t: 12,
        u: 12,
        w,
        strips: [{ to: 1, K: 1 }],
        series: [{ a: [0], b: [0] }],
        which: [0],
        multiplier: [1],
        constant: [-(2 ** (w - 2)) + 12345],
      },
      { bits: w },
    );
    c.output(c.gate('truncate', [wide], { s, bits: 29 }, { bits: 29 }));
    const [y] = c.run([integers(200, 2 ** 31)]);
    for (const v of y.data) expect(Math.abs(v - (-(2 ** (w - 2)) + 12345) / 2 ** s)).toBeLessThan(1);
  });

  test('what cannot be kept is refused', () => {
    const refuse = (inBits: number, attrs: object): void => {
      const c = new Case();
      c.output(c.gate('truncate', [c.input([4], { bits: inBits })], attrs));
      expect(() => c.run([[1, 2, 3, 4]])).toThrow(/truncate 0:/);
    };
    refuse(32, { s: 10, bits: 23 });
    refuse(20, { s: 0, bits: 21 });
    refuse(32, { s: -1, bits: 20 });
    refuse(40, { s: 0, bits: 33 });
    refuse(40, { s: 10, bits: 30, mul: [3] });
  });
});

describe('extend', () => {
  test('in a 4-bit ring: right for every mask if and only if |x| ≤ 4; one beyond, wrong for two masks of sixteen', () => {
    const keys = [1, 2, 3].map((b) => new Uint8Array(32).fill(b)) as [Uint8Array, Uint8Array, Uint8Array];
    const values = Array.from({ length: 12 }, (_, i) => i - 6);
    const x = values.flatMap((v) => Array<number>(256).fill(v));
    const c = new Case();
    c.checkPlain = false;
    // Element i of a value has the halves i mod 16 and i div 16 of its mask, on every role.
    c.wrapKernels = scripted(keys, (party, _, stream, i) => (stream === 0 ? (party === 0 ? i & 15 : (i >> 4) & 15) : undefined));
    const share = c.gate('extend', [c.input([x.length])], { s: 0, bits: 4 }, {}, { kind: 'wire', bits: 4 });
    c.output(share).output(share + 1);
    const out = c.run([x], { keys });
    for (const y of out)
      for (const v of values) {
        const wrong = x.filter((t, i) => t === v && y.data[i] !== v).length;
        const beyond = Math.max(0, Math.abs(v) - 4);
        expect([v, wrong]).toEqual([v, 2 * beyond * 16]);
      }
  });

  test('is exact at both ends of its range and everywhere between, as share and as wire, whatever the ring', () => {
    fc.assert(
      fc.property(fc.integer({ min: 3, max: 30 }), fc.integer({ min: 0, max: 32 }), fc.integer({ min: 1, max: 300 }), (b, more, n) => {
        const c = new Case();
        const x = c.input([n], { bits: Math.min(32, b + more) });
        const y = c.gate('extend', [x], { s: 0, bits: b }, {}, { kind: 'wire', bits: b });
        c.output(y).output(y + 1);
        c.error = 0;
        const v = [...edges(b), ...integers(n, 2 ** (b - 2))].slice(0, n).map((t) => t || 0);
        for (const z of c.run([v])) expect([...z.data]).toEqual(v);
      }),
      { numRuns: 40 },
    );
  });

  test('after a truncation errs by less than one unit and is unbiased', () => {
    const n = 60000;
    const s = 7;
    const v = Array.from({ length: n }, (_, i) => [1, 127, 64, -1, -65, 1000 * 128 + 37, -5000 * 128 + 99][i % 7]);
    const c = new Case();
    c.output(c.gate('extend', [c.input([n])], { s, bits: 15 }));
    const [y] = c.run([v]);
    const sums = new Array<number>(7).fill(0);
    y.data.forEach((t, i) => {
      sums[i % 7] += t - v[i] / 2 ** s;
    });
    // The deviation of one rounding is at most 1/2, of the mean of n/7 at most 0.0054; six of them.
    for (const t of sums) expect(Math.abs(t / (n / 7))).toBeLessThan(0.033);
  });

  test('takes factors and offsets before, offsets after, per channel of any axis or per value', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 3 }),
        fc.integer({ min: 2, max: 12 }),
        fc.constantFrom(32, 27),
        fc.boolean(),
        (axis, s, inBits, onlyWire) => {
          const shape = [2, 5, 7];
          const length = axis === 3 ? 70 : shape[axis];
          const c = new Case();
          const x = c.input(shape, { bits: inBits });
          const attrs = {
            s,
            bits: inBits - s,
            axis: axis === 3 ? undefined : axis,
            mul: integers(length, 30),
            add: integers(length, 2 ** 16),
            after: integers(length, 2 ** 31),
          };
          const y = onlyWire
            ? c.gate('extend', [x], attrs, { kind: 'wire', bits: inBits - s })
            : c.gate('extend', [x], attrs, {}, { kind: 'wire', bits: inBits - s });
          c.output(y);
          c.run([integers(70, 2 ** 19)]);
        },
      ),
      { numRuns: 25 },
    );
  });

  test('rings it cannot extend from are refused', () => {
    for (const bits of [2, 31]) {
      const c = new Case();
      c.output(c.gate('extend', [c.input([1])], { s: 0, bits }));
      expect(() => c.run([[0]])).toThrow(/3 to 30/);
    }
  });
});

describe('open', () => {
  test.each([1, 127, 128, 129, 5000])('of %i words keeps every word', (n) => {
    const c = new Case();
    c.output(c.gate('open', [c.input([n])], null, { kind: 'wire' }));
    const v = [0, -1, 2 ** 31 - 1, -(2 ** 31), ...integers(n, 2 ** 31)].slice(0, n).map((t) => t || 0);
    expect([...c.run([v])[0].data]).toEqual(v);
  });

  test('refuses a smaller ring', () => {
    const c = new Case();
    c.output(c.gate('open', [c.input([3], { bits: 20 })], null, { kind: 'wire' }));
    expect(() => c.run([[1, 2, 3]])).toThrow(/extend it first/);
  });
});

test('an output that nobody uses does not disturb its neighbour, on any role', () => {
  // The share is used and the wire is not, then the other way round; other gates run in between on the same memory.
  const n = 300;
  for (const used of [0, 1]) {
    const c = new Case();
    const x = c.input([n]);
    const y = c.gate('extend', [x], { s: 0, bits: 20 }, {}, { kind: 'wire', bits: 20 });
    for (let i = 0; i < 3; i++) c.gate('extend', [x], { s: 2, bits: 20 }, {}, { kind: 'wire', bits: 20 });
    c.output(used === 0 ? c.gate('affine', [y], { mul: [3], axis: 1 }) : c.gate('mul', [y + 1, y + 1], null));
    const v = integers(n, 2 ** 15);
    expect([...c.run([v])[0].data]).toEqual(v.map((t) => (used === 0 ? 3 * t : t * t)));
  }
});
