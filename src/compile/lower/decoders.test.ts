/** The importers' tiny decoders, private: a prompt in one step, then token by token over the session's caches, against the interpreter. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { sizeOf, type Tensor, tensor } from '../../graph/graph.ts';
import { interpret } from '../../graph/interpret.ts';
import { rewrite } from '../../graph/rewrite/index.ts';
import { importPretrained } from '../../import/families/index.ts';
import { toTensorData } from '../../import/safetensors.ts';
import { saveSafetensors } from '../../import/safetensors-file.ts';
import { cost } from '../../program/cost.ts';
import { sequenceParams } from '../../program/program.ts';
import { random } from '../../runtime/local.ts';
import { prefixCaches } from '../../tasks/generate/decoder.ts';
import { calibrate } from '../calibrate.ts';
import { compile } from '../compile.ts';
import { clusterOf, noise } from './tiny.case.ts';

interface Case {
  label: string;
  config: Record<string, unknown>;
  tensors: Record<string, number[]>;
}
const cases = JSON.parse(readFileSync(new URL('../../import/families/fixtures/decoders.json', import.meta.url), 'utf8')) as Case[];
const named = (part: RegExp): Case => cases.find((c) => part.test(c.label)) as Case;

function load(c: Case) {
  const dir = mkdtempSync(join(tmpdir(), 'subrosa-decoder-'));
  const next = noise(31);
  const tensors = Object.entries(c.tensors).map(([name, shape]) => {
    const gain = /norm\w*\.weight$|ln_\w+\.weight$/i.test(name) ? 1 : 0;
    const values = Array.from({ length: sizeOf(shape) }, () => gain + 0.3 * next());
    return [name, toTensorData(tensor(values, shape))] as const;
  });
  saveSafetensors(join(dir, 'model.safetensors'), new Map(tensors));
  writeFileSync(join(dir, 'config.json'), JSON.stringify(c.config));
  const { graph, client } = importPretrained(dir, { maxTokens: 40 });
  rmSync(dir, { recursive: true });
  return { graph: rewrite(graph), client };
}

const prefix = [3];
const draw = noise(5);
const tokens = (n: number, vocab: number): number[] => Array.from({ length: n }, () => Math.abs(Math.floor(draw() * vocab * 7)) % vocab);
const fit = (label: string): RegExp => new RegExp(label.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));

describe.each(cases.map((c) => c.label))('%s', (label) => {
  const { graph, client } = load(named(fit(label)));
  const vocab = client.after.inputs[0].shape[1] as number;
  const first = prefixCaches({ graph, client }, prefix);
  const rowsOf = (ids: readonly number[], past: number): Record<string, Tensor> =>
    interpret(client.before, {
      input_ids: tensor(ids, [ids.length], 'i64'),
      position_ids: tensor(
        ids.map((_, i) => past + i),
        [ids.length],
        'i64',
      ),
    });
  const samples = Array.from({ length: 24 }, (_, i) => ({ ...rowsOf(tokens(4 + (i % 9), vocab), 1), ...first }));
  const calibration = calibrate(graph, samples);

  /** A sequence as the interpreter goes on with it. */
  class Plain {
    caches = first;
    past = prefix.length;
    step(rows: Record<string, Tensor>): Float32Array {
      const want = interpret(graph, { ...rows, ...this.caches });
      const grown = (graph.caches ?? []).map(({ input: name, output }): [string, Tensor] => {
        const [a, b] = [this.caches[name], want[output]];
        return [name, tensor([...(a.data as Float32Array), ...(b.data as Float32Array)], [a.shape[0] + b.shape[0], a.shape[1]])];
      });
      this.caches = Object.fromEntries(grown);
      this.past += Object.values(rows)[0].shape[0];
      return want.logits.data as Float32Array;
    }
  }

  test.each(['public', 'private'] as const)('%s weights: one sequence, then three that go on together and apart', (weights) => {
    const compiled = compile(graph, calibration, { weights, max: { n: 8, keys: 16 }, prefix: new Map(Object.entries(first)) });
    const cluster = clusterOf(compiled);
    const { program } = compiled;
    const [input] = program.inputs;
    const scale = program.tensors[program.outputs[0].tensor].scale as number;
    // Rows for each, and the slots of those that step.
    const one = [[5], [1], [1], [3]].map(([n]) => [n, [0]] as const);
    const several = [
      [5, [2]],
      [2, [0, 1]],
      [1, [1, 2, 0]],
      [1, [2]],
      [3, [0, 2]],
      [1, [0, 1, 2]],
    ] as const;
    for (const steps of [one, several]) {
      cluster.newSession();
      const keys = [random(32), random(32), random(32)] as const;
      const sequences = [new Plain(), new Plain(), new Plain()];
      for (const [step, [n, slots]] of steps.entries()) {
        const params = sequenceParams(slots.map((slot) => ({ slot, past: sequences[slot].past })));
        const rows = slots.map((slot) => rowsOf(tokens(n, vocab), sequences[slot].past));
        const words = rows.flatMap((r) => Array.from(r[input.name].data as Float32Array, (v) => Math.round(v * input.scale)));
        const got = cluster.run(
          { n: n * slots.length, keys: 16, sequences: slots.length },
          { [input.name]: words },
          { step, keys, params },
        );
        for (const [i, slot] of slots.entries()) {
          const logits = sequences[slot].step(rows[i]);
          const most = logits.reduce((m, v) => Math.max(m, Math.abs(v)), 1);
          logits.forEach((v, j) => {
            const off = Math.abs(v - got.logits.data[i * vocab + j] / scale);
            expect(off, `step ${step}, slot ${slot}, logit ${j}`).toBeLessThan(0.03 * most);
          });
        }
      }
    }
  });

  test('of the last layer, and of the vocabulary, a prompt takes the last row alone', () => {
    const { program } = compile(graph, calibration, { weights: 'public', max: { n: 8, keys: 16 }, prefix: new Map(Object.entries(first)) });
    const macs = (n: number, sequences: number, layer: RegExp): number =>
      cost(program, { n, keys: 16, sequences })
        .layers.filter((l) => layer.test(l.layer))
        .reduce((sum, l) => sum + l.partyMacs, 0);
    expect(macs(1, 1, /^output$/)).toBeGreaterThan(0);
    expect(macs(8, 1, /^output$/)).toBe(macs(1, 1, /^output$/));
    const last = (graph.caches ?? []).length / 2 - 1;
    const mlp = new RegExp(`^(layers|h)\\.${last}\\.mlp`);
    expect(macs(1, 1, mlp)).toBeGreaterThan(0);
    expect(macs(8, 1, mlp)).toBe(macs(1, 1, mlp));
    expect(macs(8, 4, mlp)).toBe(4 * macs(1, 1, mlp));
  });
});
