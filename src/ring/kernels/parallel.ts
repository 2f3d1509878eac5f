import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { Board, stop } from './board.ts';
import { checkedModule } from './check.ts';
import { type KernelExports, kernelsFrom } from './instance.ts';
import { gemmScratch, harmonicScratch, type Kernels, prgScratch } from './kernels.ts';
import { type Split, splits } from './split.ts';

export interface ParallelKernels extends Kernels {
  readonly threads: number;
  /** How many calls were split so far. */
  handedOver(): number;
  /** Ends the workers; the kernels go on alone. */
  close(): void;
}

export interface ParallelOptions {
  /** The module for shared memories; the checked one by default. */
  module?: WebAssembly.Module;
  /** Nanoseconds of work below which a call stays whole: waking a sleeping thread takes up to 50 µs. */
  grain?: number;
}

/** More threads would outgrow the scratch that kernels.ts allots. */
export const maxThreads = 8;

/**
 * The kernels over a shared memory, with long calls split between this thread and workers. The results are the same bits: parts
 * begin where the kernels' own blocks do.
 */
export function parallelKernels(
  memory: WebAssembly.Memory,
  threads: number,
  { module = checkedModule(true).module, grain = 200_000 }: ParallelOptions = {},
): ParallelKernels {
  if (!(memory.buffer instanceof SharedArrayBuffer)) throw new TypeError('parallelKernels: expected a shared memory');
  if (!(threads >= 1 && threads <= maxThreads))
    throw new RangeError(`parallelKernels: expected 1 to ${maxThreads} threads, got ${threads}`);
  // Workers run built JavaScript, also when this module runs from source.
  const script = new URL('../../../dist/ring/kernels/worker.js', import.meta.url);
  if (threads > 1 && !existsSync(script)) throw new Error(`kernels: no ${fileURLToPath(script)}; run npm run build`);

  const single = new WebAssembly.Instance(module, { env: { memory } }).exports as unknown as KernelExports;
  const cuts = Object.entries(splits({ gemm: gemmScratch, prg: prgScratch, harmonic: harmonicScratch })) as [keyof KernelExports, Split][];
  const ops = cuts.map(([name]) => name);
  const board = new Board(threads - 1);
  const workers = Array.from({ length: threads - 1 }, (_, worker) => {
    const thread = new Worker(script, { workerData: { module, memory, board: board.buffer, worker, ops } });
    thread.unref();
    return thread;
  });

  const shared: Record<string, unknown> = { ...single };
  let open = true;
  let handed = 0;
  cuts.forEach(([name, split], op) => {
    const alone = single[name] as (...args: number[]) => void;
    shared[name] = (...args: number[]): void => {
      const parts = open ? split(args, { threads, grain }) : null;
      if (!parts) {
        alone(...args);
        return;
      }
      handed++;
      for (let i = 1; i < parts.length; i++) board.post(i - 1, op, parts[i]);
      alone(...parts[0]);
      let whole = true;
      for (let i = 1; i < parts.length; i++) whole = board.finished(i - 1) && whole;
      if (!whole) throw new Error(`kernels: a worker failed in ${name}`);
    };
  });
  return {
    ...kernelsFrom(shared as unknown as KernelExports, memory),
    threads,
    handedOver: () => handed,
    close() {
      if (open) for (let i = 0; i < workers.length; i++) board.post(i, stop, []);
      open = false;
    },
  };
}
