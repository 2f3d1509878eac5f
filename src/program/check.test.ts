/** Every rule of the checker, each broken by one program that is otherwise fine. */
import { describe, expect, test } from 'vitest';
import { check } from './check.ts';
import type { GateNode, Json, Program, TensorDecl } from './program.ts';

interface Draft extends Omit<Program, 'gates' | 'tensors' | 'inputs' | 'outputs' | 'params'> {
  params: Program['params'];
  tensors: TensorDecl[];
  gates: GateNode[];
  inputs: Program['inputs'][number][];
  outputs: Program['outputs'][number][];
}

const share = (change: Partial<TensorDecl> = {}): TensorDecl => ({ kind: 'share', bits: 32, scale: 2 ** 12, bound: 4, ...change });
const wire = (change: Partial<TensorDecl> = {}): TensorDecl => ({ ...share(), kind: 'wire', ...change });

/** x [n, 4] opened, squared, rescaled and revealed: it breaks no rule. */
function fine(): Draft {
  return {
    format: 'subrosa-program/2',
    name: 'fine',
    weights: 'public',
    weightsHash: '',
    params: { n: { min: 1, max: 64 } },
    tensors: [share(), wire(), share({ scale: 2 ** 24, bound: 16 }), share({ bound: 16 }), share({ bound: 16, bits: 18 })],
    inputs: [{ name: 'x', tensor: 0, shape: ['n', 4], scale: 2 ** 12, bound: 4 }],
    outputs: [{ name: 'y', tensor: 4 }],
    gates: [
      gate(0, 'open', [0], [1]),
      gate(1, 'square', [1], [2]),
      gate(2, 'extend', [2], [3], { s: 12, bits: 20 }),
      gate(3, 'reveal', [3], [4], { s: 0, bits: 18 }),
    ],
  };
}
const gate = (id: number, name: string, ins: number[], outs: number[], attrs: Json = null, layer = 'block.0'): GateNode => ({
  id,
  gate: name,
  layer,
  in: ins,
  out: outs,
  attrs,
});

/** Puts a gate before the last two, making a tensor of its own; what it makes is left unused. */
function plus(d: Draft, name: string, ins: number[], attrs: Json, ...outs: TensorDecl[]): void {
  const made = outs.map((t) => d.tensors.push(t) - 1);
  d.gates.push(gate(d.gates.length, name, ins, made, attrs));
}
const attrsOf = (d: Draft, id: number, attrs: Json): void => {
  d.gates[id] = { ...d.gates[id], attrs };
};
const decl = (d: Draft, id: number, change: Partial<TensorDecl>): void => {
  d.tensors[id] = { ...d.tensors[id], ...change };
};

test('a program that keeps all rules passes', () => {
  expect(() => check(fine())).not.toThrow();
});

const cases: readonly [string, (d: Draft) => void, RegExp][] = [
  [
    '1: ids that are not dense',
    (d) => (d.gates[2] = { ...d.gates[2], id: 7 }),
    /^gate 7 \(extend, block\.0\): is number 2 of the list.*\(rule 1\)$/,
  ],
  [
    '1: a gate that does not exist',
    (d) => (d.gates[1] = { ...d.gates[1], gate: 'cube' }),
    /^gate 1 \(cube, block\.0\): no gate has this name \(rule 1\)/,
  ],
  ['1: two outputs of one name', (d) => d.outputs.push({ name: 'y', tensor: 4 }), /the output 'y' occurs twice \(rule 1\)/],
  [
    '1: one label on tensors of two sizes',
    (d) => {
      decl(d, 3, { label: 'h' });
      plus(d, 'sumAxis', [3], { axis: 1 }, share({ label: 'h', bound: 64 }));
    },
    /gate 4 \(sumAxis, block\.0\): the label 'h' is on tensors of \d+ and of \d+ values \(rule 1\)/,
  ],
  [
    '2: a tensor used before it is made',
    (d) => (d.gates[0] = { ...d.gates[0], in: [3] }),
    /^gate 0 \(open, block\.0\): uses tensor 3 before anything makes it \(rule 2\)/,
  ],
  [
    '2: a tensor made twice',
    (d) => (d.gates[2] = { ...d.gates[2], out: [2] }),
    /^gate 2 \(extend, block\.0\): tensor 2 is made a second time \(rule 2\)/,
  ],
  ['2: a tensor that nothing makes', (d) => d.tensors.push(share()), /tensor 5 is declared and never made \(rule 2\)/],
  [
    '3: a share where a wire is wanted',
    (d) => (d.gates[1] = { ...d.gates[1], in: [0] }),
    /^gate 1 \(square, block\.0\): takes a share of 32 bits; a wire is wanted \(rule 3\)/,
  ],
  [
    '3: an extension’s wire where a full mask is wanted',
    (d) => {
      plus(d, 'extend', [2], { s: 12, bits: 20 }, wire({ bits: 20, bound: 16 }));
      plus(d, 'mulPrivate', [5], { weight: 'w' }, share());
    },
    /^mulPrivate 5: needs a wire opened in 32 bits/,
  ],
  [
    '3: too many inputs',
    (d) => plus(d, 'add', [0, 0, 0], null, share({ bound: 8 })),
    /^gate 4 \(add, block\.0\): takes .*; a share, a share is wanted \(rule 3\)/,
  ],
  ['3: no output at all', (d) => plus(d, 'extend', [2], { s: 12, bits: 20 }), /^gate 4 \(extend, block\.0\): makes nothing; .* \(rule 3\)/],
  ['3: an input that is no share', (d) => decl(d, 0, { kind: 'wire' }), /input 'x' is a wire of 32 bits/],
  [
    '4: a sum that changes the ring',
    (d) => plus(d, 'add', [0, 0], null, share({ bits: 20 })),
    /^gate 4 \(add, block\.0\): takes a ring of 32 bits and makes one of 20 \(rule 4\)/,
  ],
  [
    '4: more bits opened than are left',
    (d) => attrsOf(d, 2, { s: 12, bits: 21 }),
    /^extend 2: cannot keep 21 bits of a 32-bit ring after dropping 12/,
  ],
  [
    '4: an extension to a smaller ring',
    (d) => decl(d, 3, { bits: 24 }),
    /^gate 2 \(extend, block\.0\): makes a share of 24 bits; 32 is what comes out \(rule 4\)/,
  ],
  [
    '4: a product in a smaller ring',
    (d) => plus(d, 'square', [1], null, share({ scale: 2 ** 24, bits: 30 })),
    /^gate 4 \(square, block\.0\): makes a ring of 30 bits.* \(rule 4\)/,
  ],
  [
    '4: a result in another ring than it is cut to',
    (d) => attrsOf(d, 3, { s: 0, bits: 19 }),
    /^gate 3 \(reveal, block\.0\): makes a ring of 18 bits; 19 are kept.* \(rule 4\)/,
  ],
  [
    '5: a product of another scale',
    (d) => decl(d, 2, { scale: 2 ** 23 }),
    /^gate 1 \(square, block\.0\): makes a scale of 8388600; the square gives 16777000 \(rule 5\)/,
  ],
  [
    '5: a rescale by another factor',
    (d) => {
      attrsOf(d, 2, { s: 11, bits: 21 });
    },
    /^gate 2 \(extend, block\.0\): makes a scale of 4096; scale·mul\/2\^s gives 8192 \(rule 5\)/,
  ],
  ['5: a factor that is off by 2 %', (d) => attrsOf(d, 2, { s: 16, bits: 16, mul: [Math.round(16 * 1.07)] }), /^gate 2 .*\(rule 5\)/],
  [
    '5: a sum of two scales',
    (d) => plus(d, 'add', [0, 2], null, share({ bound: 20 })),
    /^gate 4 \(add, block\.0\): makes a scale of 4096; the input gives 16777000 \(rule 5\)/,
  ],
  [
    '5: channels in another order of scales',
    (d) => {
      plus(d, 'matmulPublic', [0], { weight: 'w', K: 4, N: 2 }, share({ scale: [2 ** 20, 2 ** 22], bound: 4 }));
      plus(d, 'extend', [5], { s: 10, bits: 22 }, share({ scale: [2 ** 12, 2 ** 10], bound: 4 }));
    },
    /^gate 5 \(extend, block\.0\): .* \(rule 5\)/,
  ],
  ['5: no scale', (d) => decl(d, 2, { scale: 0 }), /^gate 1 \(square, block\.0\): tensor 2 has scale 0 \(rule 5\)/],
  [
    '5: an input whose scale is not its tensor’s',
    (d) => (d.inputs[0] = { ...d.inputs[0], scale: 2 ** 13 }),
    /input 'x' has scale 8192 and bound 4, its tensor 4096 and 4 \(rule 5\)/,
  ],
  [
    '6: a product beyond its ring',
    (d) => decl(d, 2, { bound: 129 }),
    /^gate 1 \(square, block\.0\): tensor 2 .*reaches 2\^31\.01 units, more than 2\^31 \(rule 6\)/,
  ],
  [
    '6: an extension of more than its ring takes',
    (d) => {
      attrsOf(d, 2, { s: 12, bits: 16 });
    },
    /^gate 2 \(extend, block\.0\): half of tensor 2 .* over 2\^12, opened in 16 bits, reaches 2\^15\.00 units, more than 2\^14 \(rule 6\)/,
  ],
  [
    '6: a factor that leads out of the ring',
    (d) => {
      attrsOf(d, 2, { s: 17, bits: 15, mul: [32] });
      decl(d, 2, { bound: 16 });
    },
    /^gate 2 \(extend, block\.0\): half of tensor 2 .* times mul reaches 2\^32\.00 units, more than 2\^30 \(rule 6\)/,
  ],
  [
    '6: no bound',
    (d) => decl(d, 1, { bound: Number.POSITIVE_INFINITY }),
    /^gate 0 \(open, block\.0\): tensor 1 has bound Infinity \(rule 6\)/,
  ],
  [
    '7: an output that is no reveal’s',
    (d) => (d.outputs[0] = { name: 'y', tensor: 3 }),
    /output 'y' is not made by a reveal gate \(rule 7\)/,
  ],
  [
    '7: a reveal that is no output',
    (d) => plus(d, 'reveal', [3], { s: 0, bits: 18 }, share({ bits: 18, bound: 16 })),
    /^gate 4 \(reveal, block\.0\): reveals what is no output \(rule 7\)/,
  ],
  [
    '7: a result that is used again',
    (d) => plus(d, 'affine', [4], { mul: [1] }, share({ bits: 18, bound: 16 })),
    /^gate 4 \(affine, block\.0\): uses tensor 4, a result \(rule 7\)/,
  ],
  [
    '8: a parameter without a range',
    (d) => Object.assign(d, { params: { n: { min: 4, max: 2 } } }),
    /parameter n goes from 4 to 2 \(rule 8\)/,
  ],
  [
    '8: a choice that ends too early',
    // biome-ignore lint/suspicious/noThenProperty: the program's own word; these objects are never awaited
    (d) => attrsOf(d, 2, { s: { by: 'n', upTo: [8, 32], then: [12, 12] }, bits: 20 }),
    /no case for n = /,
  ],
];

test.each(cases)('rule %s', (_, break_, message) => {
  const d = fine();
  break_(d);
  expect(() => check(d)).toThrow(expect.objectContaining({ name: 'ProgramError', message: expect.stringMatching(message) as string }));
});

describe('choices by parameter', () => {
  test('are checked on either side of each limit', () => {
    const d = fine();
    // Right up to 8 and from 33 on; between, the scale says another thing than the gate does.
    const choice = (then: readonly number[]): number => ({ by: 'n', upTo: [8, 32, 64], then }) as unknown as number;
    attrsOf(d, 2, { s: choice([12, 11, 12]), bits: 20 });
    expect(() => check(d)).toThrow(/gate 2 .* scale of 4096; .* gives 8192/);
    decl(d, 3, { scale: choice([2 ** 12, 2 ** 13, 2 ** 12]) });
    decl(d, 4, { scale: choice([2 ** 12, 2 ** 13, 2 ** 12]) });
    attrsOf(d, 2, { s: choice([12, 11, 12]), bits: choice([20, 21, 20]) });
    attrsOf(d, 3, { s: 0, bits: 19 });
    decl(d, 4, { ...d.tensors[4], bits: 19 });
    expect(() => check(d)).not.toThrow();
  });
});

describe('what only harmonic gates read', () => {
  const cos: Json = {
    f: 'cos',
    axis: 0,
    lanes: false,
    m: 12,
    t: 10,
    u: 10,
    w: 24,
    strips: [{ to: 1, K: 1 }],
    series: [{ a: [1], b: [0] }],
    which: [0],
    multiplier: [1],
    constant: [0],
  };
  const rows = (bound: number): Draft => {
    const d = fine();
    d.params = {};
    d.inputs[0] = { ...d.inputs[0], shape: [1, 4] };
    plus(d, 'rowSquares', [1], null, share({ scale: 2 ** 24, bound }));
    plus(d, 'harmonic', [5], cos, share({ bits: 24, scale: 2 ** 20, bound: 1 }));
    return d;
  };
  test('may use its whole ring, which is the period', () => {
    expect(() => check(rows(250))).not.toThrow();
  });
  test('may use no more', () => {
    expect(() => check(rows(260))).toThrow(/gate 4 \(rowSquares, block\.0\): .* reaches 2\^32\.02 units, more than 2\^32 \(rule 6\)/);
  });
  test('a second reader takes the privilege away', () => {
    const d = rows(250);
    plus(d, 'open', [5], null, wire({ scale: 2 ** 24, bound: 250 }));
    expect(() => check(d)).toThrow(/gate 4 \(rowSquares, block\.0\): .* more than 2\^31 \(rule 6\)/);
  });
});
