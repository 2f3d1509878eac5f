import { describe, expect, test } from 'vitest';
import { random } from '../runtime/local.ts';
import { Case, integers } from './gate.case.ts';
import { turn } from './rotary.ts';

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
    batch: 1, M: { dim: 'n' }, N: keys, K: width, a: view, b: { ...view, transposed: true }, c: { ...view, row: keys }, shape: [1, { dim: 'n' }, keys],
  });
  c.output(product);
  return c;
}
const params = { n: { min: 1, max: keys }, past: { min: 0, max: keys, shapes: false as const } };

describe('cache', () => {
  test.each([[undefined, false], [Int32Array.from(integers(2 * width, 1000)), false], [Int32Array.from(integers(2 * width, 1000)), true]] as const)(
    'rows of earlier steps serve products of later ones (prefix %#)',
    (prefix, hidden) => {
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
        for (const [step, [n, back]] of ([[2, 0], [1, 0], [2, 1], [1, 0]] as const).entries()) {
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
    },
  );

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

describe('rotary', () => {
  test('cos and sin of a turn', () => {
    for (let i = 0; i < 20000; i++) {
      const t = i < 64 ? i / 16 : Math.random() * (i % 2 ? 1 : 700);
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
});
