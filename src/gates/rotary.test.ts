import { describe, expect, test } from 'vitest';
import { sequenceParams } from './gate.ts';
import { Case, integers } from './gate.case.ts';
import { turn } from './rotary.ts';

describe('rotary', () => {
  test('cos and sin of a turn', () => {
    for (let i = 0; i < 20000; i++) {
      // Quarters and their parts, then turns that fill the circle evenly, near zero and far from it.
      const t = i < 64 ? i / 16 : ((i * 0.6180339887498949) % 1) * (i % 2 ? 1 : 700);
      const [c, s] = turn(t);
      expect(Math.abs(c - Math.cos(2 * Math.PI * t))).toBeLessThan(1e-12);
      expect(Math.abs(s - Math.sin(2 * Math.PI * t))).toBeLessThan(1e-12);
    }
    // To the last bit, on every machine.
    expect(turn(0.1)).toEqual([0.8090169943749475, 0.5877852522924731]);
  });
  test.each([false, true])('pairs of a head turn by their position (interleaved %s)', (interleaved) => {
    const [heads, d, past] = [2, 8, 5];
    const frequencies = [1, 0.3, 0.01];
    const c = new Case();
    c.output(c.gate('rotary', [c.input([3, heads * d])], { d, frequencies, interleaved, bits: 12 }));
    const x = integers(3 * heads * d, 2 ** 16);
    const [{ data }] = c.run([x], { params: { past } });
    for (let row = 0; row < 3; row++)
      for (let h = 0; h < heads; h++) {
        const at = (j: number): number => (row * heads + h) * d + j;
        frequencies.forEach((f, j) => {
          const [l, r] = interleaved ? [2 * j, 2 * j + 1] : [j, j + 3];
          const [cos, sin] = [Math.cos((past + row) * f), Math.sin((past + row) * f)].map((v) => Math.round(4096 * v));
          expect(data[at(l)]).toBe(x[at(l)] * cos - x[at(r)] * sin);
          expect(data[at(r)]).toBe(x[at(r)] * cos + x[at(l)] * sin);
        });
        for (const j of [6, 7]) expect(data[at(j)]).toBe(x[at(j)] * 4096);
      }
  });
  test('rows of several sequences stand where each has its own; the last ones of a longer step at its end', () => {
    const x = integers(4 * 2, 2 ** 16);
    const turned = (params: Record<string, number>): Float64Array => {
      const c = new Case();
      c.output(c.gate('rotary', [c.input([4, 2])], { d: 2, frequencies: [0.3], bits: 12 }));
      return c.run([x], { params })[0].data;
    };
    const at = (positions: number[]): number[] =>
      positions.flatMap((p, row) => {
        const [cos, sin] = [Math.cos(0.3 * p), Math.sin(0.3 * p)].map((v) => Math.round(4096 * v));
        const [a, b] = x.slice(2 * row, 2 * row + 2);
        return [a * cos - b * sin, b * cos + a * sin];
      });
    const two = sequenceParams([
      { slot: 0, past: 5 },
      { slot: 1, past: 20 },
    ]);
    expect([...turned(two)]).toEqual(at([5, 6, 20, 21]));
    expect([...turned({ ...two, n: 10 })]).toEqual(at([8, 9, 23, 24]));
    expect([...turned({ past: 7, n: 6 })]).toEqual(at([9, 10, 11, 12]));
  });
});
