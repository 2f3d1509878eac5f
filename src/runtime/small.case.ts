/** Small programs without weights, for tests of what runs programs. */
import type { GateNode, Program, TensorDecl } from '../program/program.ts';
import type { WeightSource } from './model.ts';

const share = (change: Partial<TensorDecl>): TensorDecl => ({ kind: 'share', bits: 32, scale: 2 ** 10, bound: 8, ...change });
const base = { format: 'subrosa-program/2', weights: 'public', weightsHash: '0'.repeat(64) } as const;

/** y = x² + x, [n, 4]. */
export const squares: Program = {
  ...base,
  name: 'squares',
  params: { n: { min: 1, max: 8 } },
  tensors: [
    share({}),
    share({ kind: 'wire' }),
    share({ scale: 2 ** 20, bound: 64 }),
    share({ bound: 64 }),
    share({ bound: 72 }),
    share({ bound: 72, bits: 20 }),
  ],
  inputs: [{ name: 'x', tensor: 0, shape: ['n', 4], scale: 2 ** 10, bound: 8 }],
  outputs: [{ name: 'y', tensor: 5 }],
  gates: [
    { id: 0, gate: 'open', layer: 'a', in: [0], out: [1], attrs: null },
    { id: 1, gate: 'square', layer: 'a', in: [1], out: [2], attrs: null },
    { id: 2, gate: 'extend', layer: 'a', in: [2], out: [3], attrs: { s: 10, bits: 22 } },
    { id: 3, gate: 'add', layer: 'b', in: [3, 0], out: [4], attrs: null },
    { id: 4, gate: 'reveal', layer: 'b', in: [4], out: [5], attrs: { s: 0, bits: 20, shape: [{ dim: 'n' }, 4] } },
  ],
};

/** y = x squared `times` times, [n, width], within ±1. */
export function powers(times: number, width = 3): Program {
  const tensors = [share({ bound: 1 })];
  const gates: GateNode[] = [];
  const gate = (name: string, out: Partial<TensorDecl>, attrs: GateNode['attrs'] = null): void => {
    tensors.push(share(out));
    gates.push({ id: gates.length, gate: name, layer: 'a', in: [tensors.length - 2], out: [tensors.length - 1], attrs });
  };
  for (let i = 0; i < times; i++) {
    gate('open', { kind: 'wire', bound: 1.5 });
    gate('square', { scale: 2 ** 20, bound: 2.25 });
    gate('extend', { bound: 1.5 }, { s: 10, bits: 22 });
  }
  gate('reveal', { bound: 1.5, bits: 20 }, { s: 0, bits: 20, shape: [{ dim: 'n' }, width] });
  return {
    ...base,
    name: `powers-${times}`,
    params: { n: { min: 1, max: 16 } },
    tensors,
    inputs: [{ name: 'x', tensor: 0, shape: ['n', width], scale: 2 ** 10, bound: 1 }],
    outputs: [{ name: 'y', tensor: tensors.length - 1 }],
    gates,
  };
}

/**
 * x's rows join the `keys` of their sequences; y = q·(all of them)ᵀ, [n, keys], those that are not there counted as zeros. A step has so many
 * sequences at most.
 */
export function remembers(width = 32, keys = 16, sequences = 1): Program {
  const whole = { scale: 1, bound: 2 ** 31 };
  const rows = ['n', width];
  const view = { offset: 0, batch: 0, row: width };
  const product = { groups: 1, n: { dim: 'n' }, keys, sequences: { dim: 'sequences' }, d: width, q: view, kv: view };
  return {
    ...base,
    name: 'remembers',
    params: {
      n: { min: 1, max: 4 },
      sequences: { min: 1, max: sequences, usual: 1 },
      past: { min: 0, max: keys, shapes: false },
      slot: { min: 0, max: sequences - 1, shapes: false, usual: 0 },
    },
    tensors: [share(whole), share(whole), ...[0, 1, 2].map(() => share({ ...whole, kind: 'wire' })), share(whole), share(whole)],
    inputs: ['x', 'q'].map((name, tensor) => ({ name, tensor, shape: rows, ...whole })),
    outputs: [{ name: 'y', tensor: 6 }],
    gates: [
      { id: 0, gate: 'open', layer: 'a', in: [0], out: [2], attrs: null },
      { id: 1, gate: 'cache', layer: 'a', in: [2], out: [3], attrs: { keys } },
      { id: 2, gate: 'open', layer: 'a', in: [1], out: [4], attrs: null },
      { id: 3, gate: 'attendScores', layer: 'a', in: [4, 3], out: [5], attrs: product },
      { id: 4, gate: 'reveal', layer: 'a', in: [5], out: [6], attrs: { s: 0, bits: 32, shape: [{ dim: 'n' }, keys] } },
    ],
  };
}

/** y = the one-hot rows of places, which come as keys, each plus a value of x, which comes as words: [n, all spans]. */
export function places(spans: readonly number[]): Program {
  const width = spans.reduce((a, b) => a + b, 0);
  const whole = { scale: 1, bound: 2 };
  return {
    ...base,
    name: 'places',
    params: { n: { min: 1, max: 8 } },
    tensors: [share(whole), share(whole), share({ ...whole, bound: 4 }), share({ ...whole, bound: 4, bits: 8 })],
    inputs: [
      { name: 'x', tensor: 0, shape: ['n', width], ...whole },
      { name: 'places', tensor: 1, shape: ['n', spans.length], ...whole, encoding: { dpf: spans } },
    ],
    outputs: [{ name: 'y', tensor: 3 }],
    gates: [
      { id: 0, gate: 'add', layer: 'a', in: [0, 1], out: [2], attrs: null },
      { id: 1, gate: 'reveal', layer: 'a', in: [2], out: [3], attrs: { s: 0, bits: 8, shape: [{ dim: 'n' }, width] } },
    ],
  };
}

/** Programs without weights have none to ask for. */
export const none: WeightSource = {
  words: (name) => {
    throw new Error(name);
  },
  weightMask: (_, name) => {
    throw new Error(name);
  },
};
