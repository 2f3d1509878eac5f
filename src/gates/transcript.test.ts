/**
 * What a role receives says nothing: not how much it is, not in which order, not its words.
 *
 * The uniformity test runs a program many times on inputs that could not be less uniform (all zero, all equal to the largest), under
 * fresh keys. It counts the low and high byte of every opened value, gate by gate, and every byte that a party receives from the other
 * or from the dealer. With N = 2^15 values of a gate Pearson's statistic over 256 cells passes its limit, which is met by chance once
 * in 10^9 times, when one bit of the byte leaves 1/2 by 0.035 (4·ε²·N = 160), or when one value of the byte is twice too frequent. The
 * planted gates below leave it by more and must be caught.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Kernels } from '../ring/kernels/kernels.ts';
import { Ledger, MaskReuse } from '../runtime/ledger.ts';
import { random, type Transcript } from '../runtime/local.ts';
import { Case, chiSquare, integers } from './gate.case.ts';
import { free, type Gate, hidesOpenings, stream } from './gate.ts';
import { gates } from './index.ts';

/** One opened tensor: the gate-independent facts and the values both parties saw. */
interface Seen {
  readonly bits: number;
  readonly values: Uint32Array;
}

/** Kernels that keep every completed opening: what adds words that lie where the peer's message was put. */
const listening =
  (seen: Seen[], prepared: () => { incoming: number; outgoing: number }) =>
  (k: Kernels): Kernels =>
    Object.assign(Object.create(k) as Kernels, {
      openSum(dst, mine, theirs, bits, n) {
        k.openSum(dst, mine, theirs, bits, n);
        seen.push({ bits, values: k.u32.slice(dst / 4, dst / 4 + n) });
      },
      xor(dst, a, b, n) {
        k.xor(dst, a, b, n);
        const { incoming, outgoing } = prepared();
        // The place for outgoing messages lies before that for incoming ones and is as large.
        if (b >= incoming && b < 2 * incoming - outgoing) seen.push({ bits: 32, values: k.u32.slice(dst / 4, dst / 4 + n) });
      },
    } satisfies Partial<Kernels>);

const cos = {
  f: 'cos',
  axis: 1,
  m: 12,
  t: 10,
  u: 10,
  w: 24,
  strips: [{ to: 8, K: 1 }],
  series: [{ a: [1], b: [0] }],
  which: new Array(8).fill(0),
  multiplier: new Array(8).fill(1 << 10),
  constant: new Array(8).fill(0),
  lanes: true,
};

/** A program with every gate that opens something, on [n, 8] values below 2^17. */
function everyOpening(n: number): Case {
  const c = new Case(
    { w: { shape: [8, 8], data: Int32Array.from(integers(64, 100)) }, v: { shape: [8], data: Int32Array.from(integers(8, 100)) } },
    true,
  );
  c.checkPlain = false;
  const x = c.input([n, 8]);
  const open = c.gate('open', [x], null, { kind: 'wire' });
  const share = c.gate('extend', [x], { s: 0, bits: 20 }, {}, { kind: 'wire', bits: 20 });
  const wire = share + 1;
  const rows = c.gate('rowSquares', [open], null);
  const row = {
    ...cos,
    axis: 0,
    lanes: false,
    row: true,
    strips: [{ to: 1, K: 3 }],
    series: [{ a: [1, 1, 1], b: [0, 0, 0] }],
    which: [0],
    multiplier: [3],
    constant: [5],
  };
  const flat = c.gate('reshape', [rows], { shape: [1, n] });
  for (const t of [
    share,
    c.gate('mul', [open, wire], null),
    c.gate('square', [wire], null),
    c.gate('mulPrivate', [open], { weight: 'v' }),
    c.gate('matmulPrivate', [open], { weight: 'w', K: 8, N: 8 }),
    c.gate('matmulShared', [open, open], {
      batch: 1,
      M: n,
      N: n,
      K: 8,
      a: { offset: 0, batch: 0, row: 8 },
      b: { offset: 0, batch: 0, row: 8, transposed: true },
      c: { offset: 0, batch: 0, row: n },
      shape: [n, n],
    }),
    c.gate('harmonic', [x], cos, { bits: 24 }),
    c.gate('harmonic', [flat], row),
    c.gate('truncate', [c.gate('harmonic', [flat], { ...row, w: 40 }, { bits: 40 })], { s: 8, bits: 30 }, { bits: 30 }),
    c.gate('compare', [open], { bits: 25 }),
    c.gate('compare', [x], { bits: 22 }, { bits: 1 }),
    c.gate('relu', [wire], null),
    c.gate('relu', [open], { bits: 20 }),
    c.gate('select', [c.gate('compare', [wire], null, { bits: 1 }), x, share], null),
    c.gate('max', [x], { bits: 20 }),
    c.gate('argmax', [x], { bits: 20 }, { bits: 8 }),
    c.gate('maxPool', [c.gate('reshape', [x], { shape: [1, n, 2, 4] })], {
      kernel: [2, 2],
      strides: [2, 2],
      pads: [0, 0, 0, 0],
      dilations: [1, 1],
      bits: 20,
    }),
    c.gate('reveal', [x], { s: 0, bits: 20 }, { bits: 20 }),
  ])
    c.output(t);
  return c;
}

const largest = 2 ** 17 - 1;

test('two inputs of the same shape: messages and blocks of the same sizes in the same order', () => {
  const sizes = [0, largest].map((v) => {
    const transcript: Transcript = { p0: [], p1: [], dealer: [] };
    everyOpening(13).run([new Array(13 * 8).fill(v)], { transcript });
    return Object.values(transcript).map((messages: Uint8Array[]) => messages.map((m) => m.length));
  });
  expect(sizes[0]).toEqual(sizes[1]);
});

test('the dealer’s blocks are a function of the keys: they are the same for any input', () => {
  const keys = [random(32), random(32), random(32)] as const;
  const cluster = everyOpening(5).cluster();
  const blocks = [0, largest].map((v) => {
    const transcript: Transcript = { p0: [], p1: [], dealer: [] };
    cluster.run({}, { x0: new Array(40).fill(v) }, { transcript, keys });
    return transcript.dealer;
  });
  expect(blocks[0]).toEqual(blocks[1]);
});

const bytes = (values: Iterable<number>, counts: Float64Array): void => {
  for (const v of values) counts[v & (counts.length - 1)]++;
};

/** What is not uniform, over runs under fresh keys: bytes of opened values by opening, of messages by round, of blocks by number. */
function biased(make: () => Case, value: number, runs: number): string[] {
  const counts = new Map<string, Float64Array>();
  const of = (name: string, cells = 256): Float64Array => {
    if (!counts.has(name)) counts.set(name, new Float64Array(cells));
    return counts.get(name)!;
  };
  for (let i = 0; i < runs; i++) {
    const seen: Seen[] = [];
    const c = make();
    let role = 0;
    c.wrapKernels = (k) => (role++ === 0 ? listening(seen, () => p0)(k) : k);
    const cluster = c.cluster();
    const { p0 } = cluster.prepare({});
    const n = c.inputs[0].shape.reduce<number>((a, d) => a * (d as number), 1);
    const transcript: Transcript = { p0: [], p1: [], dealer: [] };
    cluster.run({}, { x0: new Array(n).fill(value) }, { transcript });
    for (const [j, { bits, values }] of seen.entries()) {
      const low = Math.min(8, bits);
      bytes(values, of(`low byte of opening ${j} (${bits} bits)`, 2 ** low));
      bytes(
        values.map((v) => v >>> (bits - low)),
        of(`high byte of opening ${j} (${bits} bits)`, 2 ** low),
      );
    }
    for (const [role, messages] of Object.entries(transcript))
      for (const [j, m] of (messages as Uint8Array[]).entries()) bytes(m, of(`message ${j} of ${role}`));
  }
  return [...counts].filter(([, c]) => chiSquare(c) > chiSquare.limit(c.length)).map(([name]) => name);
}

test.each([0, largest])('every word that a party receives, and every opened value, is uniform when all inputs are %i', (value) => {
  // 128 · 8 · 32 = 2^15 values of each elementwise gate; a multiple of 128, so that nothing is padded.
  expect(biased(() => everyOpening(128), value, 32)).toEqual([]);
});

describe('planted faults', () => {
  const plant = gates as Map<string, Gate>;
  const opens = (name: string, hide: (p: Parameters<Gate['party']>[0], r: number, n: number) => void): Gate => ({
    name,
    shapes: (_, [x]) => [x],
    cost: (g) => ({ ...free, rounds: 1, openedBytes: 4 * Math.ceil(g.ins[0].size / 128) * 128 }),
    *party(p, g) {
      const [x, y] = [g.ins[0], g.outs[0]];
      const r = p.temp(y.size);
      hide(p, r, y.size);
      p.k.add(y.at, x.at, r, y.size);
      yield [{ at: y.at, bits: 32, n: y.size }];
    },
    plain: (_, [x]) => [x.data],
  });
  const planted = [
    opens('bare', (p, r, n) => p.k.fill(r, 0, n)),
    // Bit 3 of the mask is the same for all values.
    opens('thin', (p, r, n) => {
      p.mask(r, stream.maskX, 32, n);
      p.k.bits(r, r, 0xfffffff7, 0, n);
    }),
    opens('other', (p, r, n) => p.k.prg(r, p.key, p.step, 0, stream.maskX, 32, 0, n, p.temp(8192))),
    opens('twice', (p, r, n) => {
      p.mask(r, stream.maskX, 32, n);
      p.mask(r, stream.maskX, 32, Math.ceil(n / 2));
    }),
    opens('half', (p, r, n) => {
      p.mask(r, stream.maskX, 32, n / 2);
      p.k.copy(r + 2 * n, r, n / 2);
    }),
  ];
  beforeAll(() => {
    for (const g of planted) plant.set(g.name, g);
  });
  afterAll(() => {
    for (const g of planted) plant.delete(g.name);
  });
  const program = (name: string): Case => {
    const c = new Case();
    c.checkPlain = false;
    const x = c.input([512]);
    c.output(c.gate('open', [x], null, { kind: 'wire' })).output(c.gate(name, [x], null));
    return c;
  };

  test('a gate that opens without a mask is caught, by its draws and by its words', () => {
    expect(() => program('bare').run([new Array(512).fill(5)])).toThrow(/p0 opens 16384 bits at bare 1, having drawn masks for 0/);
    expect(biased(() => program('bare'), 5, 64)).toEqual(['low byte of opening 1 (32 bits)', 'high byte of opening 1 (32 bits)']);
  });

  test('a gate that hides two values by one word is caught', () => {
    expect(() => program('half').run([new Array(512).fill(5)])).toThrow(/p0 opens 16384 bits at half 1, having drawn masks for 8192/);
  });

  test('a mask with one constant bit is caught', () => {
    expect(biased(() => program('thin'), 5, 64)).toEqual(['low byte of opening 1 (32 bits)']);
  });

  test.each([
    ['other', /gate 0, stream 0 a second time/],
    ['twice', /bits 0 to 8192 of step 0, gate 1, stream 0 a second time/],
  ])('a gate that uses a mask again is caught: %s', (name, message) => {
    expect(() => program(name).run([new Array(512).fill(5)])).toThrow(MaskReuse);
    expect(() => program(name).run([new Array(512).fill(5)])).toThrow(message);
  });

  test('a step run a second time under the same keys is caught, the next step is not', () => {
    const c = everyOpening(3);
    const cluster = c.cluster(
      c.program(),
      ['p0', 'p1', 'dealer'].map((role) => new Ledger(role, hidesOpenings)),
    );
    const keys = [random(32), random(32), random(32)] as const;
    const go = (step: number) => cluster.run({}, { x0: new Array(24).fill(1) }, { keys, step });
    go(0);
    go(1);
    expect(() => go(0)).toThrow(MaskReuse);
  });
});
