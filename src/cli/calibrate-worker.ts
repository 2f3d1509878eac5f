/** A part of a calibration on a thread of its own; started by parallel.ts. */
import { parentPort, workerData } from 'node:worker_threads';
import { calibrate } from '../compile/calibrate.ts';
import { fastProducts } from '../graph/fast.ts';
import { type FromWorker, type Part, revived } from './parallel.ts';

const tell = (m: FromWorker): void => parentPort?.postMessage(m);
const { graph, samples, bytes } = workerData as Part;
try {
  fastProducts(bytes);
  tell({ kind: 'done', calibration: calibrate(revived(graph), samples, (done) => tell({ kind: 'progress', done })) });
} catch (e) {
  tell({ kind: 'failed', message: (e as Error).message });
}
