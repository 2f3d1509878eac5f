/** A part of a calibration on a thread of its own; started by parallel.ts. */
import { parentPort, workerData } from 'node:worker_threads';
import { calibrate } from '../compile/calibrate.ts';
import { fastProducts } from '../graph/fast.ts';
import type { FromWorker, Part } from './parallel.ts';

const tell = (m: FromWorker): void => parentPort?.postMessage(m);
const { graph, samples } = workerData as Part;
try {
  fastProducts();
  tell({ kind: 'done', calibration: calibrate(graph, samples, (done) => tell({ kind: 'progress', done })) });
} catch (e) {
  tell({ kind: 'failed', message: (e as Error).message });
}
