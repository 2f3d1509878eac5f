/**
 * Calibration over all cores. Ranges of several parts are ranges of the whole: minima of minima, maxima of maxima. Samples are dealt out in
 * turn, so that every part sees inputs of many lengths and finds the same shapes.
 */
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { type Calibration, calibrate, merged } from '../compile/calibrate.ts';
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
  // Workers run built JavaScript, also when this module runs from source.
  const script = new URL('../../dist/cli/calibrate-worker.js', import.meta.url);
  const count = existsSync(script) ? Math.min(availableParallelism(), most, Math.floor(samples.length / fewest)) : 1;
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
            const worker = new Worker(script, { workerData });
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
    // Part p's sample i is number i·count + p of all.
    return parts.map((c, p) => ({ ...c, strange: c.strange.map((i) => i * count + p) })).reduce(merged);
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
