/**
 * A secret token by keys of point functions against one by a one-hot row: bytes up, milliseconds at the client and at a party.
 *
 *     node --import tsx bench/embedding.ts [--json]        (Node 24: node bench/embedding.ts)
 *
 * One thread, the best of 31 runs each: others share the core. The choice in src/cli/embedding.ts rests on these figures.
 */
import { createDecipheriv } from 'node:crypto';
import { encodeInputs, splitInputs } from '../src/client/share.ts';
import { type Graph, tensor } from '../src/graph/graph.ts';
import { interpret } from '../src/graph/interpret.ts';
import { shareBytes } from '../src/program/inputs.ts';
import { dpfKeyBytes, dpfScratch, dpfWords, expandDpf } from '../src/ring/dpf.ts';
import { checkedKernels } from '../src/ring/kernels/check.ts';
import { firstFree, newMemory } from '../src/ring/kernels/memory.ts';

const rows = 16;
const id = '5a'.repeat(16);
const salt = new Uint8Array(16).fill(0x5a);
const k = checkedKernels(newMemory(1 << 24));

/** Milliseconds a row, of a call that handles `count`. */
function best(count: number, work: () => void): number {
  const times = Array.from({ length: 31 }, () => {
    const from = performance.now();
    work();
    return (performance.now() - from) / count;
  });
  return Math.min(...times);
}

function measured(vocabulary: number): Record<string, number> {
  const places = tensor(
    Array.from({ length: rows }, (_, i) => (i * 7919) % vocabulary),
    [rows, 1],
    'i64',
  );
  const before: Graph = {
    name: 'rows',
    inputs: [{ name: 'places', dtype: 'i64', shape: ['n', 1] }],
    outputs: ['rows'],
    nodes: [{ op: 'OneHotRows', name: 'rows', inputs: ['places'], outputs: ['rows'], attrs: { spans: [vocabulary] } }],
    constants: new Map(),
  };
  const common = { scale: 1, bound: 2 };
  const params = { n: { min: 1, max: rows } };
  const keys = { params, inputs: [{ name: 'places', shape: ['n', 1], ...common, encoding: { dpf: [vocabulary] } }] };
  const words = { params, inputs: [{ name: 'rows', shape: ['n', vocabulary], ...common }] };
  const bytes = dpfKeyBytes(vocabulary);
  const made = splitInputs(encodeInputs(keys, { places }), id);
  const row = splitInputs(encodeInputs(words, interpret(before, { places })), id);
  const scratch = firstFree + 64 * Math.ceil((4 * dpfWords(vocabulary)) / 64);
  if (scratch + dpfScratch(vocabulary) > k.u8.length) throw new Error('more memory is needed');
  const upload = (m: typeof keys | typeof words): number => shareBytes(m.inputs, { n: rows }).reduce((a, b) => a + b, -32) / rows;
  return {
    vocabulary,
    dpf_bytes: upload(keys),
    dpf_client_ms: best(rows, () => void splitInputs(encodeInputs(keys, { places }), id)),
    dpf_party_ms: best(rows, () => {
      for (let i = 0; i < rows; i++) {
        const from = 32 + i * bytes;
        expandDpf(k, made[0].subarray(from, from + bytes), salt, 0, vocabulary, firstFree, scratch);
      }
    }),
    one_hot_bytes: upload(words),
    one_hot_client_ms: best(rows, () => void splitInputs(encodeInputs(words, interpret(before, { places })), id)),
    // P0's stream and P1's copy into the run.
    one_hot_party_ms: best(rows, () => {
      const stream = createDecipheriv('chacha20', row[0].subarray(0, 32), new Uint8Array(16)).update(new Uint8Array(row[1].length));
      for (let i = 0; i < rows; i++) k.u8.set(stream.subarray(4 * i * vocabulary, 4 * (i + 1) * vocabulary), firstFree);
    }),
  };
}

// What the engine has yet to compile is not the first row's.
for (let i = 0; i < 3; i++) measured(512);
const table = [512, 4096, 30_522, 49_152, 128_256].map(measured);
if (process.argv.includes('--json')) console.log(JSON.stringify(table));
else console.table(table.map((row) => Object.fromEntries(Object.entries(row).map(([name, v]) => [name, Number(v.toPrecision(3))]))));
