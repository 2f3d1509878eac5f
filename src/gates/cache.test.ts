import { describe, expect, test } from 'vitest';
import { random } from '../runtime/local.ts';
import { Case, integers } from './gate.case.ts';

const [width, keys] = [6, 8];
const fresh = () => [random(32), random(32), random(32)] as const;

/** Rows and queries come in; q·(all rows)ᵀ goes out. */
function products(prefix?: Int32Array, hidden = false): Case {
  const c = new Case(prefix ? { prefix: { shape: [prefix.length / width, width], data: prefix } } : {}, hidden);
  const [x, q] = [c.input(['n' as never, width]), c.input(['n' as never, width])];
  const attrs = { keys, ...(prefix ? { prefix: { weight: 'prefix', rows: prefix.length / width, private: hidden } } : {}) };
  const rows = c.gate('cache', [c.gate('open', [x], null, { kind: 'wire' })], attrs, { kind: 'wire' });
  const view = { offset: 0, batch: 0, row: width };
  const product = c.gate('matmulShared', [c.gate('open', [q], null, { kind: 'wire' }), rows], {
    batch: 1,
    M: { dim: 'n' },
    N: keys,
    K: width,
    a: view,
    b: { ...view, transposed: true },
    c: { ...view, row: keys },
    shape: [1, { dim: 'n' }, keys],
  });
  c.output(product);
  return c;
}
const params = { n: { min: 1, max: keys }, past: { min: 0, max: keys, shapes: false as const } };

describe('cache', () => {
  test.each([
    [undefined, false],
    [Int32Array.from(integers(2 * width, 1000)), false],
    [Int32Array.from(integers(2 * width, 1000)), true],
  ] as const)('rows of earlier steps serve products of later ones (prefix %#)', (prefix, hidden) => {
    const c = products(prefix, hidden);
    const cluster = c.cluster(c.program(params));
    const first = prefix ? 2 : 0;
    for (let session = 0; session < 2; session++) {
      cluster.newSession();
      const keysOf = fresh();
      const rows = new Float64Array(keys * width);
      if (prefix) rows.set(prefix);
      let past = first;
      // The third step goes back by one: a row is made anew.
      for (const [step, [n, back]] of (
        [
          [2, 0],
          [1, 0],
          [2, 1],
          [1, 0],
        ] as const
      ).entries()) {
        past -= back;
        const [x, q] = [integers(n * width, 2 ** 12), integers(n * width, 2 ** 12)];
        rows.set(x, past * width);
        const { y0 } = cluster.run({ n }, { x0: x, x1: q }, { step, keys: keysOf, params: { past } });
        for (let i = 0; i < n; i++)
          for (let j = 0; j < past + n; j++) {
            const sum = Array.from({ length: width }, (_, k) => q[i * width + k] * rows[j * width + k]).reduce((s, v) => s + v, 0);
            expect(y0.data[i * keys + j]).toBe(sum);
          }
        past += n;
      }
      // What nothing was ever written to counts as zero.
      expect(past).toBeLessThan(keys);
    }
  });

  test('a row that is made anew is masked anew', () => {
    const c = products();
    const cluster = c.cluster(c.program(params));
    cluster.newSession();
    const keysOf = fresh();
    const [x, q] = [integers(width, 2 ** 12), integers(width, 2 ** 12)];
    const sent = [0, 1].map((step) => {
      const transcript = { p0: [] as Uint8Array[], p1: [] as Uint8Array[], dealer: [] as Uint8Array[] };
      cluster.run({ n: 1 }, { x0: x, x1: q }, { step, keys: keysOf, params: { past: 0 }, transcript });
      return Buffer.concat(transcript.p0);
    });
    let equal = 0;
    for (let i = 0; i < 4 * width; i++) if (sent[0][i] === sent[1][i]) equal++;
    expect(equal).toBeLessThan(8);
  });
});
