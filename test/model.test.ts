/**
 * The invariants of docs/security.md on a whole model: the shipped vision transformer, all roles in this process.
 *
 * Uniformity. The bytes each party receives are counted by value and held against even counts by Pearson's statistic, whose limit over
 * 256 cells is met by chance once in 10^9 times. A bit of all bytes that is 1 with probability 1/2 + ε adds 4·ε²·N to it, so with the
 * 3 million bytes or more that two images bring ε = 0.004 is seen; a value of the byte that is more frequent by a share d adds d²·N/256:
 * d = 0.12. The low and high byte of what is opened are held to the same by width, with less data each.
 */
import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { Compiled } from '../src/compile/compile.ts';
import { chiSquare, threeKernels } from '../src/gates/gate.case.ts';
import { type BoundGate, type Gate, hidesOpenings, type PartyContext, stream } from '../src/gates/gate.ts';
import { gates } from '../src/gates/index.ts';
import { bind } from '../src/program/bind.ts';
import { check } from '../src/program/check.ts';
import { cost, frameHeader } from '../src/program/cost.ts';
import { type Kernels, stripValues } from '../src/ring/kernels/kernels.ts';
import { Ledger, ledgered, MaskReuse } from '../src/runtime/ledger.ts';
import { LocalCluster, type LocalOptions, random, type Transcript } from '../src/runtime/local.ts';
import { loadModel, type WeightSource } from '../src/runtime/model.ts';
import { encodeWords } from '../src/client/share.ts';
import { argmax, calibrated, compiled, furthest, images, plainLogits, source } from './vit.ts';

const kinds = ['public', 'private'] as const;
const models = new Map<string, Compiled>();
beforeAll(async () => {
  const c = await calibrated(48);
  for (const kind of kinds) models.set(kind, compiled(c, kind));
}, 60_000);

function cluster(kind: (typeof kinds)[number], wrap: (k: Kernels, i: number) => Kernels = (k) => k): LocalCluster {
  const { program, weights } = models.get(kind)!;
  const masks = new Map<string, Int32Array>();
  const mask = (party: 0 | 1, name: string): Int32Array => {
    const key = `${party}${name}`;
    if (!masks.has(key)) masks.set(key, new Int32Array(random(4 * weights.get(name)!.data.length).buffer));
    return masks.get(key)!;
  };
  const from: WeightSource = {
    words(name) {
      const { shape, data } = weights.get(name)!;
      return { shape: [...shape], data: kind === 'public' ? data : data.map((v, i) => v - mask(0, name)[i] - mask(1, name)[i]) };
    },
    weightMask: (party, name) => ({ shape: [...weights.get(name)!.shape], data: mask(party, name) }),
  };
  const [p0, p1, dealer] = (['p0', 'p1', 'dealer'] as const).map((role, i) => loadModel(program, role, wrap(threeKernels()[i], i), from));
  return new LocalCluster({ p0, p1, dealer });
}

const empty = (): Transcript => ({ p0: [], p1: [], dealer: [] });
function run(c: LocalCluster, image: number, options: LocalOptions = {}): Float64Array {
  const { program } = c;
  const input = program.inputs[0];
  const { shape, data } = images[image].image;
  const words = Int32Array.from(encodeWords(program, { [input.name]: { shape, data } }));
  const [output] = program.outputs;
  const { scale } = program.tensors[output.tensor];
  return c.run({}, { [input.name]: words }, options)[output.name].data.map((v) => v / (scale as number));
}

describe.each(kinds)('with %s weights', (kind) => {
  test('the program keeps the checker’s rules', () => {
    expect(() => check(models.get(kind)!.program)).not.toThrow();
  });

  test('ten images: the plaintext’s class, logits within 0.02', () => {
    const c = cluster(kind);
    for (const image of images.slice(0, 10)) {
      const [got, plain] = [run(c, images.indexOf(image)), plainLogits(image)];
      expect(argmax(got)).toBe(argmax(plain));
      expect(furthest(got, plain)).toBeLessThanOrEqual(0.02);
    }
  });

  test('rounds and bytes are those of cost, and for two images the same, message by message', () => {
    const c = cluster(kind);
    const [a, b] = [0, 1].map((image) => {
      const transcript = empty();
      run(c, image, { transcript });
      return transcript;
    });
    const { rounds, bytes } = cost(c.program, {});
    const sizes = (t: Transcript): number[][] => [t.p0, t.p1, t.dealer].map((list) => list.map((m) => m.length));
    expect(sizes(a)).toEqual(sizes(b));
    const sum = (list: readonly Uint8Array[]): number => list.reduce((s, m) => s + m.length + frameHeader, 0);
    // Between the parties also: P1 has the input, P0 says go.
    expect(sum(a.p0) + sum(a.p1) + 2 * frameHeader + 32).toBe(bytes.p0p1);
    expect(sum(a.dealer)).toBe(bytes.dealer);
    expect([a.p0.length, a.p1.length]).toEqual([rounds, rounds]);
  });

  test('every byte a role receives is uniform, whatever the image: a bit off by 0.5 % would be seen', () => {
    expect(biased(kind)).toEqual([]);
  });

  test('no mask word is used twice, in a step, in the next step, or in the next session', () => {
    const ledgers = ['p0', 'p1', 'dealer'].map((role) => new Ledger(role, hidesOpenings));
    const c = cluster(kind, (k, i) => ledgered(k, ledgers[i]));
    const keys = [random(32), random(32), random(32)] as const;
    run(c, 0, { keys, step: 0 });
    run(c, 1, { keys, step: 1 });
    run(c, 0);
    for (const step of [0, 1])
      for (const g of bind(c.program, {}).gates)
        for (const ledger of ledgers.slice(0, 2)) expect(ledger.maskBits(step, g.node.id)).toBeGreaterThanOrEqual(8 * g.cost.openedBytes);
    expect(() => run(c, 2, { keys, step: 1 })).toThrow(MaskReuse);
  }, 60_000);

  test('steps of a session have different masks: no two openings share a word beyond chance', () => {
    const c = cluster(kind);
    const keys = [random(32), random(32), random(32)] as const;
    const [a, b] = [0, 1].map((step) => {
      const transcript = empty();
      run(c, 0, { keys, step, transcript });
      return transcript;
    });
    for (const role of ['p0', 'p1', 'dealer'] as const) {
      const [x, y] = [a, b].map((t) => Buffer.concat(t[role].filter((m) => m.length >= 4096)));
      let same = 0;
      for (let i = 0; i + 4 <= x.length; i += 4) if (x.readUInt32LE(i) === y.readUInt32LE(i) && x.readUInt32LE(i) !== 0) same++;
      expect(same).toBeLessThan(x.length / 4000);
    }
  });
});

/**
 * What is not uniform: the bytes each party received from the other and from the dealer, over several images; and the low and high bytes
 * of opened values, by width. Blocks of 128 values that are not filled hold zeros behind the values, which say nothing: only full ones
 * are counted.
 */
function biased(kind: (typeof kinds)[number], runs = 2): string[] {
  const counts = new Map<string, Float64Array>();
  const of = (name: string): Float64Array => counts.get(name) ?? counts.set(name, new Float64Array(256)).get(name)!;
  const count = (name: string, k: Kernels, at: number, bytes: number): void => {
    const list = of(name);
    for (let i = at; i < at + bytes; i++) list[k.u8[i]]++;
  };
  const full = (bits: number, n: number): number => Math.floor(n / 128) * 16 * bits;
  const dealt = 'p1 received from the dealer';
  const listening = (k: Kernels, party: number): Kernels =>
    Object.assign(Object.create(k) as Kernels, {
      openSum(dst, mine, theirs, bits, n) {
        count(`p${party} received from p${1 - party}`, k, theirs, full(bits, n));
        k.openSum(dst, mine, theirs, bits, n);
        // Both see the same opened values.
        if (party === 1 || bits < 8) return;
        const [low, high] = [of(`low byte, ${bits} bits`), of(`high byte, ${bits} bits`)];
        for (const v of k.u32.subarray(dst / 4, dst / 4 + n)) {
          low[v & 255]++;
          high[v >>> (bits - 8)]++;
        }
      },
      unpack(dst, src, bits, n) {
        if (party === 1) count(dealt, k, src, full(bits, n));
        k.unpack(dst, src, bits, n);
      },
      harmonic(out, c, stride, rows, width, coef, splat, K, w, m, packed, key, step, gate, s, scratch) {
        if (packed) count(dealt, k, packed, full(w, stripValues(rows, width, K)));
        k.harmonic(out, c, stride, rows, width, coef, splat, K, w, m, packed, key, step, gate, s, scratch);
      },
      harmonicRow(out, c, n, coef, channels, inner, K, w, m, packed, key, step, gate, s, scratch) {
        if (packed) count(dealt, k, packed, w <= 32 ? full(w, 2 * K * n) : 6 * 64 * Math.floor((2 * K * n) / 64));
        k.harmonicRow(out, c, n, coef, channels, inner, K, w, m, packed, key, step, gate, s, scratch);
      },
    } satisfies Partial<Kernels>);
  const c = cluster(kind, (k, i) => (i < 2 ? listening(k, i) : k));
  for (let i = 0; i < runs; i++) run(c, i);
  for (const name of ['p0 received from p1', 'p1 received from p0', dealt]) {
    // Smallest bias seen: 4·ε²·N = limit − 255.
    const N = of(name).reduce((a, b) => a + b, 0);
    expect(Math.sqrt((chiSquare.limit(256) - 255) / (4 * N))).toBeLessThan(0.005);
  }
  return [...counts].filter(([, list]) => list.some((n) => n > 0) && chiSquare(list) > chiSquare.limit(256)).map(([name]) => name);
}

describe('sabotage is seen', () => {
  const plant = gates as Map<string, Gate>;
  const open = gates.get('open') as Gate;
  const extend = gates.get('extend') as Gate;
  afterEach(() => {
    plant.set('open', open);
    plant.set('extend', extend);
  });
  /** `open` for one gate of the model only, hidden by what `hide` puts in place of a mask. */
  const spoil = (hide: (p: PartyContext, at: number, n: number) => void): number => {
    const { program } = models.get('private')!;
    const victim = program.gates.filter((g) => g.gate === 'open')[3].id;
    plant.set('open', {
      ...open,
      *party(p: PartyContext, g: BoundGate) {
        if (g.id !== victim) return yield* open.party(p, g);
        const [x, wire] = [g.ins[0], g.outs[0]];
        hide(p, wire.rho, x.size);
        p.k.sub(wire.at, x.at, wire.rho, x.size);
        yield [{ at: wire.at, bits: 32, n: x.size }];
      },
    });
    return victim;
  };
  const underLedgers = (): Ledger[] => {
    const ledgers = ['p0', 'p1', 'dealer'].map((role) => new Ledger(role, hidesOpenings));
    run(
      cluster('private', (k, i) => ledgered(k, ledgers[i])),
      0,
    );
    return ledgers;
  };

  test('a gate that opens without a mask: by its draws, and by its words', () => {
    const victim = spoil((p, at, n) => p.k.fill(at, 0, n));
    expect(underLedgers()[0].maskBits(0, victim)).toBe(0);
    expect(biased('private')).toContain('high byte, 32 bits');
  });

  test('a gate whose mask is short of its top bits: by its words', () => {
    spoil((p, at, n) => {
      p.mask(at, stream.maskX, 32, n);
      p.k.bits(at, at, 0x0fffffff, 0, n);
    });
    expect(biased('private', 6)).toContain('high byte, 32 bits');
  });

  test('a gate that hides by another’s mask: by the ledger', () => {
    const { program } = models.get('private')!;
    const other = program.gates.find((g) => g.gate === 'open')!.id;
    spoil((p, at, n) => p.k.prg(at, p.key, p.step, other, stream.maskX, 32, 0, n, p.temp(8192)));
    expect(underLedgers).toThrow(MaskReuse);
    expect(underLedgers).toThrow(new RegExp(`gate ${other}, stream 0 a second time`));
  });
});

test('the images are those that come with the model', () => {
  expect([images.length, source.info.labels.length]).toEqual([200, 10]);
});
