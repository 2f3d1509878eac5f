/** Models that compile in no time: a small one, one of many rounds, and what they answer in plaintext. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fashionImages } from '../../src/cli/samples.ts';
import { calibrate } from '../../src/compile/calibrate.ts';
import { compile } from '../../src/compile/compile.ts';
import { type Protected, protect, readCompiled, writeCompiled } from '../../src/folder/index.ts';
import { type Graph, type Tensor, tensor } from '../../src/graph/graph.ts';
import { interpret } from '../../src/graph/interpret.ts';
import { Random } from './random.ts';

export type Inputs = Record<string, { shape: number[]; data: Float32Array }>;

export interface Subject {
  readonly name: string;
  readonly parts: Protected;
  /** Inputs drawn at random, and whether an answer to them is right. */
  draw(random: Random): { inputs: Inputs; right: (answer: Record<string, { data: ArrayLike<number> }>) => boolean };
}

const width = 4;
/** What values of the blocks are around. */
const middle = 2;
/** Rows of an input that is drawn, at most. */
const drawn = 8;
/** Furthest a private answer of these models may be from the plaintext one; a wrong share is off by half the ring. */
const tolerance = 0.05;

/**
 * Blocks of y = Gelu(x·W + b): each costs some rounds. W swaps columns and signs, b holds values where Gelu bends little, so that answers to
 * different inputs stay as far apart as the inputs are, and one in another's place is noticed.
 */
function blocks(name: string, count: number, seed: number): Graph {
  const random = new Random(seed);
  const constants = new Map<string, Tensor>();
  const nodes: Graph['nodes'][number][] = [];
  let x = 'x';
  for (let i = 0; i < count; i++) {
    const order = random.shuffle(Array.from({ length: width }, (_, k) => k));
    const weights = Array.from({ length: width * width }, (_, k) =>
      order[Math.floor(k / width)] === k % width ? random.pick([1, -1]) : 0,
    );
    const signs = Array.from({ length: width }, (_, k) => weights.reduce((sum, w, at) => sum + (at % width === k ? w : 0), 0));
    constants.set(`W${i}`, tensor(weights, [width, width])).set(
      `b${i}`,
      tensor(
        signs.map((s) => middle * (i > 0 ? 1 - s : 1)),
        [width],
      ),
    );
    nodes.push(
      { op: 'Linear', name: `/${i}/Linear`, inputs: [x, `W${i}`, `b${i}`], outputs: [`h${i}`], attrs: {} },
      { op: 'Gelu', name: `/${i}/Gelu`, inputs: [`h${i}`], outputs: [`x${i}`], attrs: { approximate: 'none' } },
    );
    x = `x${i}`;
  }
  return { name, inputs: [{ name: 'x', dtype: 'f32', shape: ['n', width] }], outputs: [x], nodes, constants };
}

/** A folder of models, until the process ends. */
export class Models {
  readonly dir = mkdtempSync(join(tmpdir(), 'subrosa-faults-'));

  constructor() {
    process.once('exit', () => rmSync(this.dir, { recursive: true, force: true }));
  }

  /** `count` blocks; inputs have up to `most` rows; clients are given a file of `padding` numbers that nothing needs. */
  make(name: string, count: number, weights: 'public' | 'private', seed: number, { most = 8, padding = 0 } = {}): Subject {
    const graph = blocks(name, count, seed);
    const random = new Random(seed + 1);
    const values = (rows: number): Float32Array => Float32Array.from({ length: rows * width }, () => 2 * (random.next() - 0.5));
    const samples = Array.from({ length: 16 }, () => ({ x: tensor(values(drawn), [drawn, width]) }));
    const compiled = join(this.dir, `${name}-compiled`);
    const same: Graph = { ...graph, nodes: [], constants: new Map(), outputs: ['x'] };
    writeCompiled(compiled, {
      ...compile(graph, calibrate(graph, samples), { weights, max: { n: most } }),
      client: { name, task: 'tensors', family: 'test', labels: [], maxTokens: most, firstPosition: 0, calibration: 'random values' },
      graphs: {
        before: { ...same, constants: new Map(padding > 0 ? [['pad', tensor(new Float32Array(padding), [padding])]] : []) },
        after: same,
      },
      plain: graph,
      record: { key: 'k', tightest: [] },
    });
    const parts = protect(readCompiled(compiled), join(this.dir, name));
    return {
      name,
      parts,
      draw(r) {
        const rows = r.int(1, drawn);
        const data = Float32Array.from({ length: rows * width }, () => 1.6 * (r.next() - 0.5));
        const [output] = graph.outputs;
        const plain = interpret(graph, { x: tensor(data, [rows, width]) })[output].data;
        return {
          inputs: { x: { shape: [rows, width], data } },
          right: ({ [output]: y }) => close(y?.data ?? [], plain),
        };
      },
    };
  }

  /** The shipped vision transformer from its compiled folder, asked about shipped pictures. */
  vit(compiled: string): Subject {
    const folder = readCompiled(compiled);
    const { image } = folder.client;
    if (!image) throw new Error(`${compiled} is of no vision model`);
    const plain = folder.plain();
    const [{ name: input }] = plain.inputs;
    const [output] = plain.outputs;
    const images = fashionImages('fashion-test-200.bin', image)
      .slice(0, 24)
      .map((i) => ({ tensor: i.image, logits: interpret(plain, { [input]: i.image })[output].data }));
    return {
      name: folder.program.name,
      parts: protect(folder, join(this.dir, 'vit')),
      draw(r) {
        const { tensor: t, logits } = r.pick(images);
        return {
          inputs: { [input]: { shape: [...t.shape], data: Float32Array.from(t.data) } },
          right: ({ [output]: y }) => close(y?.data ?? [], logits),
        };
      },
    };
  }
}

const close = (a: ArrayLike<number>, b: ArrayLike<number>): boolean =>
  a.length === b.length && Array.from(a).every((v, i) => Math.abs(v - b[i]) <= tolerance);
