/** Dimensions, choices by parameter, and the schedule they give. */
import { describe, expect, test } from 'vitest';
import { Case } from '../gates/gate.case.ts';
import { bind } from './bind.ts';
import { cost, frameHeader, inputHead } from './cost.ts';
import { byParam, dim, dimAttr, ProgramError, resolve } from './program.ts';

test.each([
  [7, 7],
  ['n', 5],
  ['12*n', 60],
  ['past+n', 8],
  ['2*n*n - past + 1', 48],
])('dimension %s is %i', (d, v) => expect(dim(d, { n: 5, past: 3 })).toBe(v));

test('a dimension of an unknown parameter says which', () => {
  expect(() => dim('2*m', { n: 1 })).toThrow("dimension '2*m' needs the parameter 'm', got n");
});

describe('choices', () => {
  const choice = byParam(
    'n',
    [8, 32],
    [
      { s: 1, at: [dimAttr('2*n')] },
      { s: 2, at: [7] },
    ],
  );
  test('are made by the first limit that holds', () => {
    expect(resolve(choice, { n: 8 })).toEqual({ s: 1, at: [16] });
    expect(resolve(choice, { n: 9 })).toEqual({ s: 2, at: [7] });
  });
  test('beyond the last limit are an error', () => {
    expect(() => resolve(choice, { n: 33 })).toThrow('no case for n = 33: the program was compiled for n ≤ 32');
  });
  test('of equal values are that value', () => {
    expect(byParam('n', [1, 2], [3, 3])).toBe(3);
  });
});

describe('schedule', () => {
  /** x opened twice side by side, their product, and its opening. */
  const program = () => {
    const c = new Case();
    const [x, y] = [c.input([4, 8]), c.input([4, 8])];
    const z = c.gate('mul', [c.gate('open', [x], null, { kind: 'wire' }), c.gate('open', [y], null, { kind: 'wire' })], null);
    c.output(c.gate('extend', [z], { s: 8, bits: 20 }));
    return c.program();
  };
  test('gates that do not need each other share a round', () => {
    const b = bind(program(), {});
    expect(b.gates.map((g) => [g.start, g.end])).toEqual([
      [0, 1],
      [0, 1],
      [1, 1],
      [1, 2],
    ]);
    expect(b.rounds).toBe(2);
  });
  test('a round is one message each way, a block one frame', () => {
    const b = bind(program(), {});
    const c = cost(program(), {});
    const opened = 2 * (2 * 512 + 320);
    expect(c.rounds).toBe(2);
    expect(c.bytes.p0p1).toBe(opened + 4 * frameHeader + 32 + 2 * frameHeader);
    expect(c.bytes.dealer).toBe(512 + 2 * 192 + b.blocks.length * frameHeader);
    expect(c.bytes.client).toBe(32 + 2 * 128 + 2 * 128 + 2 * inputHead({}) + 4 * frameHeader);
    expect(c.layers.reduce((s, l) => s + l.openedBytes, 0)).toBe(opened);
  });
  test('parameters out of range are refused', () => {
    const p = { ...program(), params: { n: { min: 2, max: 4 } } };
    for (const n of [1, 5, 2.5, Number.NaN]) expect(() => bind(p, { n })).toThrow(ProgramError);
    expect(() => bind(p, {})).toThrow('parameter n = undefined: the program takes integers from 2 to 4');
  });
});
