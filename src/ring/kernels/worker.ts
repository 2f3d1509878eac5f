import { workerData } from 'node:worker_threads';
import { Board } from './board.ts';

/** One more thread of parallel.ts: runs the parts that the leader leaves on the board. */
const { module, memory, board, worker, ops } = workerData as {
  module: WebAssembly.Module;
  memory: WebAssembly.Memory;
  board: SharedArrayBuffer;
  worker: number;
  ops: string[];
};
const kernels = new WebAssembly.Instance(module, { env: { memory } }).exports as Record<string, (...args: number[]) => void>;
new Board(board).serve(worker, (op, args) => kernels[ops[op]](...args));
