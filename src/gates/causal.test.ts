import { describe, expect, test } from 'vitest';
import { blocksOf, type CausalRows, cellsOf } from './causal.ts';
import { sequenceParams } from './gate.ts';
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
  { groups: 2, n: 20, keys: 14, sequences: 2 },
  { groups: 1, n: 3, keys: 9, sequences: 3 },
];
const each = ({ n, sequences = 1 }: CausalRows): number => n / sequences;

describe('causal blocks', () => {
  test.each(sizes)('hold what a row may see, and little more: %o', (a) => {
    const list = places(a);
    expect(list.length).toBe(a.groups * cellsOf(a));
    for (let row = 0; row < a.n; row++) {
      const cols = list.filter(([r, group]) => r === row && group === 0).length;
      const most = a.keys - each(a) + (row % each(a)) + 1;
      expect(cols).toBeGreaterThanOrEqual(most);
      expect(cols).toBeLessThanOrEqual(Math.min(a.keys, most + 10));
    }
  });
  test.each(sizes.flatMap((a) => [undefined, 3].map((window) => ({ ...a, window }))))(
    'a row sees those before it: %o',
    ({ window, ...a }) => {
      const room = a.keys - each(a);
      for (const first of new Set([0, Math.max(0, room - 2), room])) {
        // Each sequence has a past of its own, and n of a longer step has rows before these.
        const pasts = Array.from({ length: a.sequences ?? 1 }, (_, i) => Math.max(0, first - i));
        const before = first > 0 ? Math.min(...pasts) : 0;
        const params = {
          ...sequenceParams(pasts.map((past, slot) => ({ slot, past: past - before }))),
          n: a.n + before * pasts.length,
        };
        const c = new Case();
        c.output(c.gate('causal', [c.input([a.groups, cellsOf(a)])], { ...a, window }));
        const x = integers(a.groups * cellsOf(a), 2 ** 30);
        const [{ data }] = c.run([x], { params });
        const at = new Map<string, number>();
        for (const b of blocksOf(a))
          for (let i = 0; i < b.rows; i++)
            for (let g = 0; g < a.groups; g++)
              for (let col = 0; col < b.cols; col++) at.set(`${b.first + i} ${g} ${col}`, g * cellsOf(a) + b.at + i * b.cols + col);
        places(a).forEach(([row, group, col], i) => {
          const position = pasts[Math.floor(row / each(a))] + (row % each(a));
          const sees = col <= position && (!window || col > position - window);
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
  test('as many as each sequence sees; the last row of each', () => {
    const c = new Case();
    const x = c.input([1, 4]);
    c.output(c.gate('perSeen', [x], { groups: 1, n: 4, keys: 8, sequences: 2, numerator: 60 }));
    const pasts = sequenceParams([
      { slot: 1, past: 4 },
      { slot: 0, past: 0 },
    ]);
    expect([...c.run([[1, 1, 1, 1]], { params: pasts })[0].data]).toEqual([12, 10, 60, 30]);
    const last = new Case();
    last.output(last.gate('lastRows', [last.input([6, 2])], { sequences: 2 }));
    expect([...last.run([[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]])[0].data]).toEqual([5, 6, 11, 12]);
    const uneven = new Case();
    uneven.output(uneven.gate('lastRows', [uneven.input([5, 2])], { sequences: 2 }));
    expect(() => uneven.run([new Array(10).fill(0)])).toThrow('5 rows are not those of 2 sequences');
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
