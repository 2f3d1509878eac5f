import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Case, integers, type Keys, scripted } from './gate.case.ts';
import { signPlan } from './sign.ts';

/** Words around every place where a sign in b bits could go wrong. */
const edges = (b: number): number[] =>
  [0, 1, -1, 2, -2, 2 ** (b - 2) - 1, 2 ** (b - 2), -(2 ** (b - 2)), 2 ** (b - 1) - 1, -(2 ** (b - 1)), -(2 ** (b - 1)) + 1].filter(
    (v) => v >= -(2 ** (b - 1)) && v < 2 ** (b - 1),
  );
const values = (b: number, n: number): number[] =>
  [...edges(b), ...integers(n, 2 ** (b - 1)), ...integers(n, 5)].slice(0, n).map((v) => v || 0);
const bit = (x: boolean): number => (x ? 1 : 0);

describe('in small rings, every value under every mask', () => {
  const keys = [1, 2, 3].map((b) => new Uint8Array(32).fill(b)) as unknown as Keys;
  /** x and the mask's halves by position: every x with every r_0, for a few r_1. */
  const grid = (b: number): { x: number[]; r0: number[]; r1: number[] } => {
    const [x, r0, r1]: number[][] = [[], [], []];
    for (let v = -(2 ** (b - 1)); v < 2 ** (b - 1); v++)
      for (let i = 0; i < 2 ** b; i++)
        for (const j of [0, 2 ** b - 3]) {
          x.push(v);
          r0.push(i);
          r1.push(j);
        }
    return { x, r0, r1 };
  };
  test.each([2, 3, 4, 5, 7])('%i bits: compare of a share, as a bit and as an integer', (b) => {
    const { x, r0, r1 } = grid(b);
    for (const [ring, below] of [
      [1, false],
      [32, true],
    ] as const) {
      const c = new Case();
      c.wrapKernels = scripted(keys, (party, gate, stream, i) => (gate === 0 && stream === 0 ? (party === 0 ? r0 : r1)[i] : undefined));
      c.output(c.gate('compare', [c.input([x.length], { bits: b })], { below }, { bits: ring }));
      const [y] = c.run([x], { keys });
      // A share of one bit shows 1 as −1.
      x.forEach((v, i) => {
        if (Math.abs(y.data[i]) !== bit(v >= 0 !== below)) throw new Error(`${v} under ${r0[i]} + ${r1[i]}: ${y.data[i]}`);
      });
    }
  });

  test.each([4, 5, 6])('%i bits: compare and relu of an extension’s wire; |x| up to 2^(b−2)', (b) => {
    const { x, r0, r1 } = grid(b);
    const kept = x.map((_, i) => i).filter((i) => Math.abs(x[i]) < 2 ** (b - 2) || x[i] === -(2 ** (b - 2)));
    const c = new Case();
    c.wrapKernels = scripted(keys, (party, gate, stream, i) => (gate === 0 && stream === 0 ? (party === 0 ? r0 : r1)[kept[i]] : undefined));
    const wire = c.gate('extend', [c.input([kept.length])], { s: 0, bits: b }, { kind: 'wire', bits: b });
    c.output(c.gate('compare', [wire], null))
      .output(c.gate('relu', [wire], null))
      .output(c.gate('relu', [wire], null, { bits: b - 1 }));
    const v = kept.map((i) => x[i]);
    const [y, z, w] = c.run([v], { keys });
    expect([...y.data]).toEqual(v.map((t) => bit(t >= 0)));
    expect([...z.data]).toEqual(v.map((t) => Math.max(t, 0)));
    expect([...w.data]).toEqual(v.map((t) => Math.max(t, 0)));
  });
});

test('compare of shares and wires, of any bits, into any ring, is exact over its whole range', () => {
  fc.assert(
    fc.property(
      fc.constantFrom('share', 'open', 'extend'),
      fc.integer({ min: 2, max: 32 }),
      fc.constantFrom(1, 2, 9, 32),
      fc.boolean(),
      fc.integer({ min: 1, max: 300 }),
      (source, b, ring, below, n) => {
        const c = new Case();
        const bits = source === 'extend' ? Math.min(29, b) : b;
        const input = c.input([n], { bits: source === 'share' ? bits : 32 });
        const wire =
          source === 'share'
            ? input
            : source === 'open'
              ? c.gate('open', [input], null, { kind: 'wire' })
              : c.gate('extend', [input], { s: 0, bits: bits + 1 }, { kind: 'wire', bits: bits + 1 });
        c.output(c.gate('compare', [wire], { below, ...(source === 'open' ? { bits } : {}) }, { bits: ring }));
        // An extension takes −2^(bits−1) too.
        const v = values(bits, n);
        const [y] = c.run([v]);
        const ones = ring === 1 ? -1 : 1;
        const expected = v.map((t) => bit(t >= 0 !== below) * ones || 0);
        expect(ring === 2 ? [...y.data].map((t) => ((t % 4) + 4) % 4) : [...y.data].map((t) => t || 0)).toEqual(expected);
      },
    ),
    { numRuns: 60 },
  );
});

test.each(['share', 'wire'])('a public threshold per channel is taken off a %s first', (kind) => {
  const c = new Case();
  const input = c.input([50, 3], { bits: kind === 'share' ? 20 : 32 });
  const x = kind === 'share' ? input : c.gate('open', [input], null, { kind: 'wire' });
  const add = [-7, 0, 1000];
  c.output(c.gate('compare', [x], { add, bits: 20 }));
  const v = [...add.map((t) => -t), ...add.map((t) => -t - 1), ...integers(144, 2 ** 19 - 1001)];
  expect([...c.run([v])[0].data]).toEqual(v.map((t, i) => bit(t + add[i % 3] >= 0)));
});

test('relu of wires of every kind is exact, the most negative word included', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 30 }),
      fc.integer({ min: 1, max: 300 }),
      fc.integer({ min: 3, max: 32 }),
      fc.boolean(),
      (b, n, less, whole) => {
        const c = new Case();
        const extended = b >= 3;
        const bits = extended ? b - 1 : less;
        const input = c.input([n]);
        const wire = extended
          ? c.gate('extend', [input], { s: 0, bits: b }, { kind: 'wire', bits: b })
          : c.gate('open', [input], null, { kind: 'wire' });
        const ring = whole ? 32 : bits;
        c.output(c.gate('relu', [wire], { bits }, { bits: ring }));
        const v = values(bits, n);
        expect([...c.run([v])[0].data]).toEqual(v.map((t) => Math.max(0, t)));
      },
    ),
    { numRuns: 60 },
  );
});

test('a rescale and its relu share one opening: 3 rounds for 21 bits', () => {
  const c = new Case();
  const wire = c.gate('extend', [c.input([500])], { s: 11, bits: 21 }, { kind: 'wire', bits: 21 });
  c.output(c.gate('relu', [wire], null));
  expect(c.cluster().prepare({}).p0.binding.rounds).toBe(3);
  const v = integers(500, 2 ** 30 - 2 ** 11);
  c.error = 1;
  const [y] = c.run([v]);
  v.forEach((t, i) => {
    expect(Math.abs(y.data[i] - Math.max(0, t / 2 ** 11))).toBeLessThan(1);
  });
});

test('without the low bits, only values below 2^drop may be taken for negative', () => {
  const drop = 6;
  const c = new Case();
  const wire = c.gate('open', [c.input([6000])], null, { kind: 'wire' });
  c.output(c.gate('compare', [wire], { bits: 20, drop })).output(c.gate('relu', [wire], { bits: 20, drop }));
  const v = [...integers(3000, 2 ** drop), ...integers(3000, 2 ** 19 - 2 ** drop)];
  const [p, z] = c.run([v]);
  let missed = 0;
  v.forEach((t, i) => {
    const small = t >= 0 && t < 2 ** drop;
    if (small && p.data[i] === 0) missed++;
    if (!small) expect([p.data[i], z.data[i]]).toEqual([bit(t >= 0), Math.max(0, t)]);
    else expect([0, t]).toContain(z.data[i]);
  });
  // On average half of them are.
  expect(missed).toBeGreaterThan(500);
});

test('select picks by a bit of any ring', () => {
  for (const [bits, ring] of [
    [1, 32],
    [1, 13],
    [32, 32],
    [7, 20],
  ]) {
    const c = new Case();
    const n = 333;
    const [b, x, y] = [c.input([n], { bits }), c.input([n], { bits: ring }), c.input([n], { bits: ring })];
    c.output(c.gate('select', [b, x, y], null, { bits: ring }));
    const choice = integers(n, 2).map((v) => Math.abs(v) % 2);
    const [u, v] = [values(ring, n), values(ring, n).reverse()];
    expect([...c.run([choice, u, v])[0].data]).toEqual(choice.map((t, i) => (t ? u[i] : v[i])));
  }
});

describe('plans', () => {
  test('cover every bit below the sign once, highest first, in chunks of at most 5', () => {
    for (let bits = 2; bits <= 32; bits++)
      for (let drop = 0; drop < Math.min(bits - 1, 12); drop++) {
        const { chunks, levels } = signPlan(bits, drop);
        let at = bits - 1;
        for (const c of chunks) {
          expect(c.at).toBe(at - c.width);
          expect(c.width).toBeLessThanOrEqual(5);
          at = c.at;
        }
        expect(at).toBe(drop);
        let units = chunks.length;
        for (const sizes of levels) {
          expect(sizes.reduce((a, b) => a + b, 0)).toBe(units);
          units = sizes.length;
        }
        expect(units).toBe(1);
      }
  });

  test('rounds: none up to 6 bits, one up to 21, two beyond', () => {
    const rounds = [6, 12, 17, 21, 24, 32].map((b) => signPlan(b).levels.length);
    expect(rounds).toEqual([0, 1, 1, 1, 2, 2]);
  });

  test('what cannot be compared is refused', () => {
    expect(() => signPlan(1)).toThrow(/nothing is left/);
    expect(() => signPlan(8, 7)).toThrow(/nothing is left/);
    const c = new Case();
    c.output(c.gate('compare', [c.input([2], { bits: 12 })], { bits: 13 }));
    expect(() => c.run([[1, 2]])).toThrow(/13 bits of a tensor of 12/);
    const r = new Case();
    r.output(r.gate('relu', [r.input([2])], null));
    expect(() => r.run([[1, 2]])).toThrow(/needs a wire/);
  });
});
