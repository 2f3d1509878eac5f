/**
 * Calibration over all cores. Ranges of several parts are ranges of the whole: minima of minima, maxima of maxima. Samples are dealt out in
 * turn, so that every part sees inputs of many lengths and finds the same shapes.
 */
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { type Calibration, calibrate, type HeadRange, type ValueRange } from '../compile/calibrate.ts';
import { fastProducts } from '../graph/fast.ts';
import { type Graph, type LowBit, ModelError, type Tensor } from '../graph/graph.ts';
import { lowBitTensor } from '../import/gguf/low-bit.ts';

export interface Part {
  readonly graph: Graph;
  readonly samples: readonly Record<string, Tensor>[];
  /** Memory of the kernels that multiply; see fastProducts. */
  readonly bytes?: number;
}
export type FromWorker =
  | { kind: 'progress'; done: number }
  | { kind: 'done'; calibration: Calibration }
  | { kind: 'failed'; message: string };

/** Samples a thread must have to be worth starting, and threads at most: each holds a copy of the model. */
const fewest = 32;
const most = 8;

export async function calibrateOnAllCores(
  graph: Graph,
  samples: readonly Record<string, Tensor>[],
  onProgress: (done: number, total: number) => void,
  bytes?: number,
): Promise<Calibration> {
  const built = import.meta.url.endsWith('.js');
  const count = built ? Math.min(availableParallelism(), most, Math.floor(samples.length / fewest)) : 1;
  if (count <= 1) {
    fastProducts(bytes);
    return calibrate(graph, samples, onProgress);
  }
  const done = new Array<number>(count).fill(0);
  const lent = shared(graph);
  const workers: Worker[] = [];
  try {
    const parts = await Promise.all(
      done.map(
        (_, part) =>
          new Promise<Calibration>((resolve, reject) => {
            const workerData: Part = { graph: lent, samples: samples.filter((_, i) => i % count === part), bytes };
            const worker = new Worker(new URL('./calibrate-worker.js', import.meta.url), { workerData });
            workers.push(worker);
            worker.on('message', (m: FromWorker) => {
              if (m.kind === 'failed') return reject(new ModelError(m.message));
              if (m.kind === 'done') return resolve(m.calibration);
              done[part] = m.done;
              onProgress(
                done.reduce((a, b) => a + b),
                samples.length,
              );
            });
            worker.on('error', reject);
            worker.on('exit', (code) => reject(new Error(`a calibration thread ended (exit code ${code})`)));
          }),
      ),
    );
    return parts.reduce(merged);
  } finally {
    await Promise.all(workers.map((w) => w.terminate()));
  }
}

/** Constants in memory that threads share; what a file holds in few bits goes as it lies there (`revived` makes a tensor of it again). */
function shared(graph: Graph): Graph {
  const lent = ({ dtype, shape, data }: Tensor): Tensor => ({ dtype, shape, data: moved(data) });
  // No functions: they cannot be sent.
  const blocks = ({ dtype, shape }: Tensor, { type, shape: rows, bytes }: LowBit): Tensor =>
    ({ dtype, shape, lowBit: { type, shape: rows, bytes: moved(bytes) } }) as Tensor;
  return { ...graph, constants: new Map([...graph.constants].map(([name, t]) => [name, t.lowBit ? blocks(t, t.lowBit) : lent(t)])) };
}

function moved<A extends Tensor['data']>(data: A): A {
  const to = new (data.constructor as new (buffer: SharedArrayBuffer) => A)(new SharedArrayBuffer(data.byteLength));
  to.set(data);
  return to;
}

/** A graph that came to a thread. */
export const revived = (graph: Graph): Graph => ({
  ...graph,
  constants: new Map(
    [...graph.constants].map(([name, t]) => [name, t.lowBit ? lowBitTensor(t.lowBit.type, t.lowBit.shape, t.lowBit.bytes) : t]),
  ),
});

/** Ranges over both sets of samples. */
export function merged(a: Calibration, b: Calibration): Calibration {
  const values = new Map(a.values);
  for (const [name, v] of b.values) {
    const known = values.get(name);
    values.set(name, known ? mergedValue(known, v) : v);
  }
  const heads = new Map(a.heads);
  for (const [name, list] of b.heads) {
    const known = heads.get(name);
    heads.set(name, known ? known.map((h, i) => mergedHead(h, list[i])) : list);
  }
  return { values, heads, samples: a.samples + b.samples, rows: a.rows + b.rows };
}

function mergedValue(a: ValueRange, b: ValueRange): ValueRange {
  const channels =
    a.channels && b.channels && a.channels.lo.length === b.channels.lo.length
      ? {
          axis: a.channels.axis,
          lo: a.channels.lo.map((v, i) => Math.min(v, b.channels?.lo[i] as number)),
          hi: a.channels.hi.map((v, i) => Math.max(v, b.channels?.hi[i] as number)),
        }
      : undefined;
  const rows =
    a.rows && b.rows
      ? {
          varianceLo: Math.min(a.rows.varianceLo, b.rows.varianceLo),
          varianceHi: Math.max(a.rows.varianceHi, b.rows.varianceHi),
          squareLo: Math.min(a.rows.squareLo, b.rows.squareLo),
          squareHi: Math.max(a.rows.squareHi, b.rows.squareHi),
          centred: Math.max(a.rows.centred, b.rows.centred),
        }
      : undefined;
  // A part whose samples were all of one length takes a length for a constant.
  const shape = a.shape.map((d, i) => (typeof d === 'string' ? d : b.shape[i]));
  return { shape, max: Math.max(a.max, b.max), ...(channels ? { channels } : {}), ...(rows ? { rows } : {}) };
}

const mergedHead = (a: HeadRange, b: HeadRange): HeadRange => ({
  lo: Math.min(a.lo, b.lo),
  hi: Math.max(a.hi, b.hi),
  logMean: a.logMean.map((v, i) => Math.min(v, b.logMean[i])),
  logMeanHi: a.logMeanHi.map((v, i) => Math.max(v, b.logMeanHi[i])),
  squares: a.squares.map((v, i) => Math.min(v, b.squares[i])),
});
