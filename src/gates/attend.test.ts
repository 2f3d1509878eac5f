import { describe, expect, test } from 'vitest';
import { blocksOf, cellsOf } from './causal.ts';
import { Case, integers } from './gate.case.ts';

describe('attendScores and attendValues', () => {
  test.each([
    { groups: 2, n: 3, keys: 8, d: 4 },
    { groups: 4, n: 1, keys: 12, d: 20 },
    { groups: 6, n: 19, keys: 31, d: 8 },
    { groups: 2, n: 16, keys: 16, d: 40 },
  ])('are the products of the cells that rows may see: %o', ({ groups, n, keys, d }) => {
    // Two heads read one key.
    const [width, kvWidth] = [groups * d, (groups / 2) * d];
    const kv = { offset: 0, batch: d, row: kvWidth, repeat: 2 };
    const rows = { groups, n, keys };
    const cells = cellsOf(rows);
    const c = new Case();
    const [q, k, p] = [
      [n, width],
      [keys, kvWidth],
      [1, groups * cells],
    ].map((shape) => c.gate('open', [c.input(shape)], null, { kind: 'wire' }));
    c.output(c.gate('attendScores', [q, k], { ...rows, d, q: { offset: 0, batch: d, row: width }, kv }));
    c.output(c.gate('attendValues', [p, k], { ...rows, d, kv }));
    const [x, y, w] = [integers(n * width, 2 ** 12), integers(keys * kvWidth, 2 ** 12), integers(groups * cells, 2 ** 10)];
    const [scores, context] = c.run([x, y, w]);
    const of = (row: number, group: number, j: number): number => y[row * kvWidth + Math.floor(group / 2) * d + j];
    const js = Array.from({ length: d }, (_, j) => j);
    const means = new Array<number>(n * width).fill(0);
    for (const b of blocksOf(rows))
      for (let i = 0; i < b.rows; i++)
        for (let g = 0; g < groups; g++)
          for (let col = 0; col < b.cols; col++) {
            const row = b.first + i;
            const dot = js.reduce((sum, j) => sum + x[row * width + g * d + j] * of(col, g, j), 0);
            expect(scores.data[g * cells + b.at + i * b.cols + col]).toBe(dot);
            for (const j of js) means[row * width + g * d + j] += w[groups * b.at + (i * groups + g) * b.cols + col] * of(col, g, j);
          }
    expect([...context.data]).toEqual(means);
  });
  test('wires of extensions, and other numbers of cells, are refused', () => {
    const c = new Case();
    const wire = c.gate('extend', [c.input([1, 8])], { s: 0, bits: 20 }, { kind: 'wire', bits: 20 });
    c.output(c.gate('attendValues', [wire, wire], { groups: 1, n: 1, keys: 8, d: 1, kv: { offset: 0, batch: 1, row: 1 } }));
    expect(() => c.run([integers(8, 9)])).toThrow(/opened in 32 bits/);
    const other = new Case();
    const open = other.gate('open', [other.input([1, 7])], null, { kind: 'wire' });
    other.output(other.gate('attendValues', [open, open], { groups: 1, n: 1, keys: 8, d: 1, kv: { offset: 0, batch: 1, row: 1 } }));
    expect(() => other.run([integers(7, 9)])).toThrow(/\[1,7\] is not 1 groups of 8 cells/);
  });
});
