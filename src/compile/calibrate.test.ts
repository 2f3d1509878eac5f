import { expect, test } from 'vitest';
import { sizeOf, tensor } from '../graph/graph.ts';
import { calibrate, temperatures } from './calibrate.ts';
import { noise, Tiny } from './lower/tiny.case.ts';

test.each([0, 1.5])('scores of a head, capped at %d: their range before it, their means and squares after it', (softcap) => {
  const [n, d] = [5, 4];
  const t = new Tiny(3);
  const graph = t.graph(
    t.op('Attention', [t.input([n, d], 'q'), t.input([n, d], 'k'), t.input([n, d], 'v')], { heads: 1, scale: 2, softcap }),
  );
  const draw = noise(11);
  const values = (): number[] => Array.from({ length: sizeOf([n, d]) }, draw);
  const [q, k] = [values(), values()].map((v) => Array.from(Float32Array.from(v)));
  const { heads } = calibrate(graph, [{ q: tensor(q, [n, d]), k: tensor(k, [n, d]), v: tensor(values(), [n, d]) }]);
  const [head] = heads.get('/net/attention0') as NonNullable<ReturnType<typeof heads.get>>;
  const row = (x: readonly number[], i: number): number[] => x.slice(i * d, (i + 1) * d);
  const rows = q.slice(0, n).map((_, i) => k.slice(0, n).map((__, j) => 2 * row(q, i).reduce((sum, v, c) => sum + v * row(k, j)[c], 0)));
  const most = Math.max(...rows.flat());
  expect(most).toBeGreaterThan(2);
  expect(head.hi).toBeCloseTo(most, 9);
  expect(head.lo).toBeCloseTo(Math.min(...rows.flat()), 9);
  expect(head.cap ?? 0).toBe(softcap);
  for (let j = 0; j < temperatures; j++) {
    const powers = rows.map((r) => r.map((s) => Math.exp((softcap ? softcap * Math.tanh(s / softcap) : s) / 2 ** j)));
    const sums = powers.map((r) => r.reduce((a, b) => a + b));
    const logs = sums.map((s) => Math.log(s / n));
    expect(head.logMean[j]).toBeCloseTo(Math.min(...logs), 9);
    expect(head.logMeanHi[j]).toBeCloseTo(Math.max(...logs), 9);
    const squares = powers.map((r, i) => r.reduce((a, b) => a + (b / sums[i]) ** 2, 0));
    if (j > 0) expect(head.squares[j]).toBeCloseTo(Math.min(...squares), 9);
  }
});
