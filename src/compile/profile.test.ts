/** What compiling for a network changes: rounds and bytes, not answers. */
import { expect, test } from 'vitest';
import { tensor } from '../graph/graph.ts';
import { interpret } from '../graph/interpret.ts';
import { cost } from '../program/cost.ts';
import { calibrate } from './calibrate.ts';
import { compile } from './compile.ts';
import { clusterOf, noise, Tiny } from './lower/tiny.case.ts';
import { profiled } from './profile.ts';

test('a transformer’s block for a WAN: fewer rounds, or fewer bytes too, and the same answers', () => {
  const net = new Tiny(5);
  const x = net.input(['n', 16]);
  const [q, k, v] = [1, 2, 3].map(() => net.linear(x, 16, 16));
  const context = net.op('Attention', [q, k, v], { heads: 2, scale: 1 / Math.sqrt(8) });
  const graph = net.graph(net.op('Gelu', [net.linear(context, 16, 256)], { approximate: 'none' }));
  const next = noise(11);
  const input = (n: number) => ({
    x: tensor(
      Float32Array.from({ length: 16 * n }, () => 1.5 * next()),
      [n, 16],
    ),
  });
  const calibration = calibrate(
    graph,
    Array.from({ length: 24 }, () => input(32)),
  );
  const given = Array.from({ length: 3 }, () => input(32));
  const [lan, wan, narrow] = (['lan', 'wan', 'narrow'] as const).map((profile) => {
    const compiled = compile(graph, calibration, { weights: 'public', max: { n: 32 }, profile });
    const { program } = compiled;
    const cluster = clusterOf(compiled);
    let error = 0;
    for (const g of given) {
      const want = interpret(graph, g)[graph.outputs[0]].data;
      const got = cluster.run({ n: 32 }, { x: Array.from(g.x.data, (y) => Math.round(Number(y) * program.inputs[0].scale)) })[
        graph.outputs[0]
      ].data;
      const scale = program.tensors[program.outputs[0].tensor].scale as number;
      want.forEach((w, i) => {
        error = Math.max(error, Math.abs(Number(w) - got[i] / scale));
      });
    }
    const { rounds, bytes } = cost(program, { n: 32 });
    return { error, rounds, bytes: bytes.p0p1 + bytes.dealer };
  });
  expect(wan.rounds).toBe(lan.rounds - 1);
  expect(wan.bytes).toBeLessThan(1.02 * lan.bytes);
  expect(narrow.rounds).toBe(wan.rounds);
  expect(narrow.bytes).toBeLessThan(0.98 * wan.bytes);
  expect(lan.error).toBeLessThan(0.02);
  expect(wan.error).toBeLessThan(0.02);
  expect(narrow.error).toBeLessThan(0.02);
});

test('a fine precision gives nothing away', () => {
  expect(profiled('fine', 'narrow')).toEqual(profiled('fine'));
  expect(profiled('usual', 'narrow')).not.toEqual(profiled('usual', 'wan'));
});
