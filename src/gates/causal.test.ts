import { describe, expect, test } from 'vitest';
import { blocksOf, type CausalRows, cellsOf } from './causal.ts';
import { Case, integers } from './gate.case.ts';

/** Row, group and column of every cell, in the cells' order. */
const places = (a: CausalRows): [row: number, group: number, col: number][] =>
  blocksOf(a).flatMap((b) =>
    Array.from({ length: b.rows * a.groups * b.cols }, (_, i): [number, number, number] => [
      b.first + Math.floor(i / (a.groups * b.cols)),
      Math.floor(i / b.cols) % a.groups,
      i % b.cols,
    ]),
  );

const sizes = [
  { groups: 2, n: 3, keys: 8 },
  { groups: 1, n: 1, keys: 64 },
  { groups: 3, n: 19, keys: 31 },
  { groups: 2, n: 16, keys: 16 },
];

describe('causal blocks', () => {
  test.each(sizes)('hold what a row may see, and little more: %o', (a) => {
    const list = places(a);
    expect(list.length).toBe(a.groups * cellsOf(a));
    for (let i = 0; i < a.n; i++) {
      const cols = list.filter(([row, group]) => row === i && group === 0).length;
      expect(cols).toBeGreaterThanOrEqual(a.keys - a.n + i + 1);
      expect(cols).toBeLessThanOrEqual(Math.min(a.keys, a.keys - a.n + i + 11));
    }
  });
  test.each(sizes.flatMap((a) => [undefined, 3].map((window) => ({ ...a, window }))))(
    'a row sees those before it: %o',
    ({ window, ...a }) => {
      for (const past of new Set([0, Math.max(0, a.keys - a.n - 2), a.keys - a.n])) {
        const c = new Case();
        c.output(c.gate('causal', [c.input([a.groups, cellsOf(a)])], { ...a, window }));
        const x = integers(a.groups * cellsOf(a), 2 ** 30);
        const [{ data }] = c.run([x], { params: { past } });
        const at = new Map<string, number>();
        for (const b of blocksOf(a))
          for (let i = 0; i < b.rows; i++)
            for (let g = 0; g < a.groups; g++)
              for (let col = 0; col < b.cols; col++) at.set(`${b.first + i} ${g} ${col}`, g * cellsOf(a) + b.at + i * b.cols + col);
        places(a).forEach(([row, group, col], i) => {
          const sees = col <= past + row && (!window || col > past + row - window);
          expect(data[i]).toBe(sees ? x[at.get(`${row} ${group} ${col}`)!] : 0);
        });
      }
    },
  );
  test('sums become means of what is seen', () => {
    const c = new Case();
    const rows = { groups: 2, n: 4, keys: 8 };
    c.output(c.gate('perSeen', [c.input([1, 8])], { ...rows, numerator: 60 }));
    const [{ data }] = c.run([[1, -5, 1, -5, 1, -5, 1, -5]], { params: { past: 2 } });
    expect([...data]).toEqual([20, -100, 15, -75, 12, -60, 10, -50]);
    const wide = new Case();
    const cells = { groups: 1, n: 2, keys: 3 };
    wide.output(wide.gate('perSeen', [wide.input([1, 6])], { ...cells, numerator: 7, window: 2 }));
    expect([...wide.run([[1, 2, 3, 4, 5, 6]], { params: { past: 0 } })[0].data]).toEqual([7, 14, 21, 12, 15, 18]);
  });
  test.each(sizes)('rows of cells: sums, sums of squares, products with one value a row: %o', (causal) => {
    const cells = causal.groups * cellsOf(causal);
    const rows = causal.n * causal.groups;
    const [x, y] = [integers(cells, 2 ** 12), integers(rows, 2 ** 12)];
    const row = places(causal).map(([i, group]) => i * causal.groups + group);
    const c = new Case();
    const [xs, ys] = [c.input([1, cells]), c.input([1, rows])];
    const full = c.gate('open', [xs], null, { kind: 'wire' });
    const [extended] = [c.gate('extend', [xs], { s: 0, bits: 16 }, { kind: 'wire', bits: 16 })];
    const factor = c.gate('extend', [ys], { s: 0, bits: 15 }, { kind: 'wire', bits: 15 });
    c.output(c.gate('sumAxis', [xs], { axis: 2, causal }));
    c.output(c.gate('rowSquares', [full], { causal }));
    c.output(c.gate('rowSquares', [extended], { causal }));
    c.output(c.gate('mul', [full, factor], { causal }));
    c.output(c.gate('mul', [extended, factor], { causal }));
    const [sum, squares, others, product, same] = c.run([x, y]);
    const wanted = (f: (v: number) => number): number[] => {
      const z = new Array<number>(rows).fill(0);
      x.forEach((v, i) => {
        z[row[i]] += f(v);
      });
      return z;
    };
    expect([...sum.data]).toEqual(wanted((v) => v));
    for (const got of [squares, others]) got.data.forEach((v, i) => void expect((v - wanted((w) => w * w)[i]) % 2 ** 32).toBe(0));
    for (const got of [product, same]) expect([...got.data]).toEqual(x.map((v, i) => v * y[row[i]] + 0));
  });
});
