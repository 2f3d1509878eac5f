/** Files that are broken on purpose. Whatever they hold, the answer is a graph or a ModelError of one line, in little memory. */
import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { randomizer, randomTensor } from '../../../test/fixtures/onnx/build.ts';
import { Script } from '../../../test/fixtures/onnx/decomposed.ts';
import { ModelError } from '../../graph/graph.ts';
import { interpret } from '../../graph/interpret.ts';
import { readOnnx } from './read.ts';

function block(): Uint8Array {
  const s = new Script(17);
  const a = s.op('Add', ['x', s.attention(s.layerNorm('x', 8), 8, 2, 'hf')]);
  return s.model([1, 'n', 8], s.op('Add', [a, s.linear(s.gelu(s.linear(s.layerNorm(a, 8), 8, 16), 'erf'), 16, 8)]));
}

/** True when a graph came out; fails the test for any exception but a ModelError of one line. */
function survives(bytes: Uint8Array, run = false): boolean {
  try {
    const graph = readOnnx(bytes);
    if (run) interpret(graph, { x: randomTensor([1, 3, 8], randomizer(1)) });
    return true;
  } catch (e) {
    if (!(e instanceof ModelError)) throw e;
    expect(e.message).not.toMatch(/[\n\r]/);
    expect(e.message.length).toBeLessThan(4000);
    return false;
  }
}

const vit = new URL('../../../models/fashion-vit.onnx', import.meta.url);
const files: [string, Uint8Array][] = [
  ['a transformer block', block()],
  ...(existsSync(vit) ? [['the shipped model', readFileSync(vit)] as [string, Uint8Array]] : []),
];

/** Peak growth of memory over a call, in MB (what is allocated and dropped inside one call is seen through its high-water mark). */
function growth(f: () => void): number {
  const before = process.resourceUsage().maxRSS;
  f();
  return (process.resourceUsage().maxRSS - before) / 1024;
}

describe.each(files)('%s', (_, bytes) => {
  test('cut anywhere, is refused', () => {
    for (let i = 0; i < 64; i++) expect(survives(bytes.subarray(0, Math.floor((bytes.length * i) / 64)))).toBe(false);
  });

  test('with bytes flipped, is refused or still a graph', () => {
    const random = randomizer(99);
    const small = bytes.length < 50_000;
    for (let i = 0; i < (small ? 1500 : 100); i++) {
      const copy = Uint8Array.from(bytes);
      // Most of a large file is weights: the ends hold the structure.
      const structure = small ? copy.length : 20_000;
      for (let k = 0; k < 1 + (i % 4); k++) copy[Math.floor(random() * structure)] = Math.floor(random() * 256);
      survives(copy, small);
    }
  }, 120_000);

  test('with pieces moved or repeated, is refused or still a graph', () => {
    const random = randomizer(7);
    const small = bytes.length < 50_000;
    for (let i = 0; i < (small ? 600 : 40); i++) {
      const [a, b] = [random(), random()].map((r) => Math.floor(r * Math.min(bytes.length, 20_000))).sort((p, q) => p - q);
      const piece = bytes.subarray(a, Math.min(b, a + 300));
      const at = Math.floor(random() * Math.min(bytes.length, 20_000));
      survives(concat(bytes.subarray(0, at), piece, bytes.subarray(at + (i % 2 ? piece.length : 0))), small);
    }
  }, 120_000);
});

test('noise is refused', () => {
  const random = randomizer(3);
  for (let i = 0; i < 500; i++)
    expect(survives(Uint8Array.from({ length: 1 + Math.floor(random() * 200) }, () => Math.floor(random() * 256)))).toBe(false);
});

/** tag, length, payload */
const field = (n: number, payload: Uint8Array): Uint8Array => {
  const length: number[] = [];
  for (let v = payload.length; ; v = Math.floor(v / 128)) {
    length.push(v >= 128 ? (v & 127) | 128 : v);
    if (v < 128) break;
  }
  return concat(Uint8Array.of(n * 8 + 2, ...length), payload);
};
function concat(...parts: Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const p of parts) {
    out.set(p, at);
    at += p.length;
  }
  return out;
}

describe('small files that ask for much memory', () => {
  test('millions of empty nodes', () => {
    const nodes = new Uint8Array(8_000_000);
    for (let i = 0; i < nodes.length; i += 2) nodes[i] = 10;
    const mb = growth(() => expect(() => readOnnx(field(7, nodes))).toThrow(/more than \d+ objects/));
    expect(mb).toBeLessThan(200);
  });
  test('nodes just below that count', () => {
    const nodes = new Uint8Array(2 * 250_000);
    for (let i = 0; i < nodes.length; i += 2) nodes[i] = 10;
    const mb = growth(() =>
      expect(survives(concat(field(7, concat(nodes, field(12, Uint8Array.of(10, 1, 121)))), field(8, Uint8Array.of(16, 17))))).toBe(false),
    );
    expect(mb).toBeLessThan(200);
  });
  test('millions of packed integers', () => {
    const mb = growth(() =>
      expect(() => readOnnx(field(7, field(5, field(7, new Uint8Array(40_000_000)))))).toThrow(/more integers than any model/),
    );
    expect(mb).toBeLessThan(200);
  });
  test('messages nested a thousand deep', () => {
    let inner: Uint8Array = new Uint8Array();
    for (let i = 0; i < 1000; i++) inner = field(1, field(5, field(6, inner)));
    expect(() => readOnnx(field(7, inner))).toThrow(/nested deeper/);
  });
  test('groups nested in an unknown field', () => {
    expect(survives(new Uint8Array(100_000).fill(0xa3))).toBe(false);
  });
});
