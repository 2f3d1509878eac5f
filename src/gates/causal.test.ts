import { describe, expect, test } from 'vitest';
import { Case, integers } from './gate.case.ts';

const keys = 8;

describe('causal and perSeen', () => {
  test.each([undefined, 3])('a row sees those before it (window %s)', (window) => {
    const [groups, n, past] = [2, 3, 2];
    const c = new Case();
    c.output(c.gate('causal', [c.input([groups, n, keys])], { window }));
    const x = integers(groups * n * keys, 2 ** 30);
    const [{ data }] = c.run([x], { params: { past } });
    x.forEach((v, at) => {
      const [i, j] = [Math.floor(at / keys) % n, at % keys];
      const sees = j <= past + i && (!window || j > past + i - window);
      expect(data[at]).toBe(sees ? v : 0);
    });
  });
  test('sums become means of what is seen', () => {
    const c = new Case();
    c.output(c.gate('perSeen', [c.input([2, 4])], { numerator: 60 }));
    const [{ data }] = c.run([[1, 1, 1, 1, -5, -5, -5, -5]], { params: { past: 2 } });
    expect([...data]).toEqual([20, 15, 12, 10, -100, -75, -60, -50]);
    const wide = new Case();
    wide.output(wide.gate('perSeen', [wide.input([1, 2, 3])], { numerator: 7, window: 2 }));
    expect([...wide.run([[1, 2, 3, 4, 5, 6]], { params: { past: 0 } })[0].data]).toEqual([7, 14, 21, 12, 15, 18]);
  });
});
