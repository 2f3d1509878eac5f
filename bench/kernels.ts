/**
 * Speed of the kernels on one thread, beside their scalar TypeScript twin and, for products, beside onnxruntime's float product in the
 * same process and the same minute. Prints the median and the best of the samples: on a quiet machine they agree, on a busy one only the best says
 * something about the kernel.
 *
 *   node --import tsx bench/kernels.ts [part of a name]
 */
import { create, toBinary } from '@bufbuild/protobuf';
import { ModelProtoSchema } from '../src/import/onnx/onnx_pb.ts';
import { checkedKernels } from '../src/ring/kernels/check.ts';
import {
  gemmScratch,
  harmonicScratch,
  type Kernels,
  panelWords,
  prgScratch,
  stripBytes,
  stripValues,
} from '../src/ring/kernels/kernels.ts';
import { firstFree, newMemory } from '../src/ring/kernels/memory.ts';
import { formats, type PanelFormat, smallBytes } from '../src/ring/kernels/panels.ts';
import { parallelKernels } from '../src/ring/kernels/parallel.ts';
import { plainKernels } from '../src/ring/kernels/plain.ts';

interface Timing {
  seconds: number;
  best: number;
}

const quartile = (times: number[], q: number): number => times[Math.min(times.length - 1, Math.floor(times.length * q))];

/** Median seconds of a call, from samples long enough for the clock. */
function time(call: () => void, budget = 0.3): Timing {
  call();
  let calls = 1;
  for (;;) {
    const from = performance.now();
    for (let i = 0; i < calls; i++) call();
    if (performance.now() - from > 4) break;
    calls *= 2;
  }
  const times: number[] = [];
  const end = performance.now() + 1000 * budget;
  while (times.length < 7 || performance.now() < end) {
    const from = performance.now();
    for (let i = 0; i < calls; i++) call();
    times.push((performance.now() - from) / 1000 / calls);
  }
  times.sort((a, b) => a - b);
  return { seconds: quartile(times, 0.5), best: times[0] };
}

interface Row {
  name: string;
  unit: string;
  /** Units per second, or seconds per unit in nanoseconds for 'ns/…'. */
  figure: (seconds: number) => number;
  run: (k: Kernels) => void;
  /** The same on less work for the plain twin, and how much less. */
  plain?: { run: (k: Kernels) => void; share: number };
  beside?: () => Promise<Timing>;
  /** Also time the call on two threads. */
  twice?: boolean;
}

const memory = newMemory(1 << 29);
const fast = checkedKernels(memory);
const plain = plainKernels(memory);
const pair = parallelKernels(newMemory(1 << 29, true), 2);

/** Places in memory for one row of the table; every row starts from the beginning. */
function arena(): (bytes: number) => number {
  let next = firstFree;
  return (bytes) => {
    const at = next;
    next = (next + bytes + 255) & ~255;
    if (next > memory.buffer.byteLength) throw new Error('arena full');
    for (let i = at >>> 2; i < next >>> 2; i++) fast.u32[i] = Math.imul(i, 0x9e3779b1) ^ (i << 7);
    // Pages never written all read from one page of zeros, which would flatter whoever reads them.
    pair.u32.set(fast.u32.subarray(at >>> 2, next >>> 2), at >>> 2);
    return at;
  };
}

function modelOf(M: number, K: number, N: number): Uint8Array {
  const tensorType = (dims: number[]) => ({
    value: {
      case: 'tensorType' as const,
      value: { elemType: 1, shape: { dim: dims.map((d) => ({ value: { case: 'dimValue' as const, value: BigInt(d) } })) } },
    },
  });
  const weights = Float32Array.from({ length: K * N }, (_, i) => Math.sin(i));
  return toBinary(
    ModelProtoSchema,
    create(ModelProtoSchema, {
      irVersion: 8n,
      opsetImport: [{ domain: '', version: 17n }],
      graph: {
        name: 'product',
        node: [{ input: ['a', 'b'], output: ['c'], opType: 'MatMul', name: 'product' }],
        initializer: [{ name: 'b', dims: [BigInt(K), BigInt(N)], dataType: 1, rawData: new Uint8Array(weights.buffer) }],
        input: [{ name: 'a', type: tensorType([M, K]) }],
        output: [{ name: 'c', type: tensorType([M, N]) }],
      },
    }),
  );
}

async function onnxruntime(M: number, N: number, K: number): Promise<Timing> {
  const ort = await import('onnxruntime-node');
  const session = await ort.InferenceSession.create(modelOf(M, K, N), { intraOpNumThreads: 1, interOpNumThreads: 1 });
  const feeds = {
    a: new ort.Tensor(
      'float32',
      Float32Array.from({ length: M * K }, (_, i) => Math.cos(i)),
      [M, K],
    ),
  };
  const times: number[] = [];
  for (let i = 0; i < 40; i++) {
    const from = performance.now();
    await session.run(feeds);
    if (i >= 10) times.push((performance.now() - from) / 1000);
  }
  await session.release();
  times.sort((a, b) => a - b);
  return { seconds: quartile(times, 0.5), best: times[0] };
}

function gemmRow(name: 'gemm' | 'gemmF32', M: number, N: number, K: number, beside = false): Row {
  const take = arena();
  const [A, B, C, scratch] = [take(4 * M * K), take(4 * panelWords(K, N)), take(4 * M * N), take(gemmScratch)];
  if (name === 'gemmF32') fast.f32.fill(0.5, A >>> 2, (C >>> 2) + M * N);
  const less = Math.max(1, Math.ceil((1 << 22) / (N * K)));
  return {
    name: `${name} ${M}×${K}×${N}`,
    unit: 'GMAC/s',
    figure: (s) => (M * N * K) / s / 1e9,
    run: (k) => k[name](C, N, A, K, B, M, N, K, 0, scratch),
    plain: { run: (k) => k[name](C, N, A, K, B, Math.min(M, less), N, K, 0, scratch), share: Math.min(M, less) / M },
    beside: beside ? () => onnxruntime(M, N, K) : undefined,
    twice: name === 'gemm',
  };
}

function smallRow(format: PanelFormat, M: number, N: number, K: number): Row {
  const take = arena();
  const [A, B, C, scratch] = [take(4 * M * K), take(smallBytes(K, N, formats[format])), take(4 * M * N), take(gemmScratch)];
  return {
    name: `gemmSmall ${format} ${M}×${K}×${N}`,
    unit: 'GMAC/s',
    figure: (s) => (M * N * K) / s / 1e9,
    run: (k) => k.gemmSmall(C, N, A, K, B, formats[format], M, N, K, 0, scratch),
  };
}

function prgRow(bits: number): Row {
  const take = arena();
  const n = 1 << 16;
  const [key, dst, scratch] = [take(32), take(4 * n), take(prgScratch)];
  return {
    name: `prg ${bits} bits`,
    unit: bits === 32 ? 'GB/s' : 'ns/value',
    figure: bits === 32 ? (s) => (4 * n) / s / 1e9 : (s) => (s / n) * 1e9,
    run: (k) => k.prg(dst, key, 1, 2, 3, bits, 0, n, scratch),
  };
}

function elementRow(name: string, n: number, run: (k: Kernels, at: number[]) => void): Row {
  const take = arena();
  const at = Array.from({ length: 9 }, () => take(4 * n + 4096));
  return { name, unit: 'ns/value', figure: (s) => (s / n) * 1e9, run: (k) => run(k, at) };
}

function harmonicRow(name: string, K: number, w: number, side: 'dealer' | 'party 0' | 'party 1', splat: number): Row {
  const take = arena();
  const [rows, width, m] = [32, 1536, 14];
  const n = rows * width;
  const [key, c, out, coef] = [take(32), take(4 * n), take(4 * n), take(32 * K * (width / 4))];
  const [packed, scratch] = [take(stripBytes(stripValues(rows, width, K), w)), take(harmonicScratch)];
  fast.f32.fill(1000, coef >>> 2, (coef >>> 2) + 2 * K * width);
  const run = (k: Kernels, height: number): void => {
    if (side === 'dealer') k.dealHarmonic(packed, c, width, height, width, K, 12, w, m, key, 1, 2, 3, scratch);
    else k.harmonic(out, c, width, height, width, coef, splat, K, w, m, side === 'party 1' ? packed : 0, key, 1, 2, 3, scratch);
  };
  return {
    name: `${name} K=${K} w=${w} ${side}`,
    unit: 'ns/element',
    figure: (s) => (s / n) * 1e9,
    run: (k) => run(k, rows),
    twice: true,
    plain: { run: (k) => run(k, 1), share: 1 / rows },
  };
}

function rowGate(K: number, w: number, side: 'dealer' | 'party 0' | 'party 1'): Row {
  const take = arena();
  const n = 512;
  const [key, c, out, coef] = [take(32), take(4 * n), take(8 * n), take(16 * K)];
  const [packed, scratch] = [take(stripBytes(2 * K * n, w)), take(harmonicScratch)];
  fast.f64.fill(1000, coef >>> 3, (coef >>> 3) + 2 * K);
  const run = (k: Kernels, count: number): void => {
    if (side === 'dealer') k.dealHarmonicRow(packed, c, count, K, 12, w, 32, key, 1, 2, 3, scratch);
    else k.harmonicRow(out, c, count, coef, 1, 1, K, w, 32, side === 'party 1' ? packed : 0, key, 1, 2, 3, scratch);
  };
  return {
    name: `row gate K=${K} w=${w} ${side}`,
    unit: 'ns/harmonic',
    figure: (s) => (s / n / K) * 1e9,
    run: (k) => run(k, n),
    plain: { run: (k) => run(k, 16), share: 16 / n },
  };
}

const n = 1 << 16;
const rows: (() => Row)[] = [
  () => gemmRow('gemm', 128, 768, 768, true),
  () => gemmRow('gemm', 32, 1536, 384, true),
  () => gemmRow('gemm', 32, 384, 384, true),
  () => gemmRow('gemm', 32, 384, 1536),
  () => gemmRow('gemm', 128, 3072, 768),
  () => gemmRow('gemm', 32, 32, 32),
  () => gemmRow('gemm', 128, 128, 32),
  () => gemmRow('gemm', 128, 32, 128),
  () => gemmRow('gemm', 128, 128, 64),
  () => gemmRow('gemm', 1, 768, 768, true),
  () => gemmRow('gemm', 1, 11008, 4096),
  () => gemmRow('gemm', 4, 768, 768),
  () => gemmRow('gemmF32', 128, 768, 768, true),
  () => smallRow('halves', 1, 768, 768),
  () => smallRow('halves', 1, 11008, 4096),
  () => smallRow('blocks8', 1, 11008, 4096),
  () => smallRow('blocks4', 1, 11008, 4096),
  () => smallRow('halves', 64, 1536, 576),
  () => smallRow('blocks4', 64, 1536, 576),
  () => prgRow(32),
  () => prgRow(24),
  () => prgRow(20),
  () => elementRow('pack 20 bits', n, (k, [a, b]) => k.pack(b, a, 20, n)),
  () => elementRow('unpack 20 bits', n, (k, [a, b]) => k.unpack(b, a, 20, n)),
  () => elementRow('openSum 20 bits', n, (k, [a, b, c]) => k.openSum(c, a, b, 20, n)),
  () => elementRow('add', n, (k, [a, b, c]) => k.add(c, a, b, n)),
  () => elementRow('truncate', n, (k, [a, b, c]) => k.truncate(b, a, 0, 0, 1, 1, c, 3, 32, 12, 20, 0, n)),
  () => elementRow('truncate, factors', n, (k, [a, b, c, d, e]) => k.truncate(b, a, d, e, 512, 1, c, 3, 32, 12, 20, 0, n)),
  () => elementRow('extend', n, (k, [a, b, c, d, e, f]) => k.extend(a, b, c, d, e, f, 20, 0, n)),
  () => elementRow('mulWires 32, 32', n, (k, [a, b, c, d, e, f]) => k.mulWires(a, b, c, 32, d, e, 32, f, 0, 0, 0, 1, n, 0, 0)),
  () => elementRow('mulWires 20, 18', n, (k, [a, b, c, d, e, f, g, h]) => k.mulWires(a, b, c, 20, d, e, 18, f, g, h, 0, 1, n, 0, 0)),
  () => elementRow('squareWire 14', n, (k, [a, b, c, d, e, f]) => k.squareWire(a, b, c, 14, d, e, f, 0, n)),
  () => elementRow('packB 256×256', n, (k, [a, b]) => k.packB(b, a, 256, 256, 256, 0, 4)),
  () => elementRow('packB 256×256 transposed', n, (k, [a, b]) => k.packB(b, a, 256, 256, 256, 1, 4)),
  () => elementRow('transpose 256×256', n, (k, [a, b]) => k.copyBox(b, a, 1, 1, 256, 256, 0, 0, 1, 256, 0, 0, 256, 1)),
  () => elementRow('im2col 3×3', 9 * n, (k, [a, b]) => k.im2col(b, a, 16, 64, 64, 3, 3, 1, 1, 1, 1, 1, 1, 64, 64)),
  ...[5, 8, 12].flatMap((K) => (['dealer', 'party 0', 'party 1'] as const).map((side) => () => harmonicRow('harmonic', K, 24, side, 0))),
  () => harmonicRow('harmonic', 8, 32, 'party 1', 1),
  ...[32, 46].flatMap((w) => (['dealer', 'party 0', 'party 1'] as const).map((side) => () => rowGate(128, w, side))),
];

const wanted = process.argv[2] ?? '';
console.log(`node ${process.version}, V8 ${process.versions.v8}`);
console.log(
  `${'kernel'.padEnd(34)}${'median'.padStart(9)}${'best'.padStart(9)} ${'unit'.padEnd(12)}${'2 threads'.padStart(11)}${'× plain'.padStart(9)}${'× onnxruntime'.padStart(15)}`,
);
for (const make of rows) {
  const row = make();
  if (!row.name.includes(wanted)) continue;
  const ours = time(() => row.run(fast));
  const scalar = wanted ? null : time(() => (row.plain?.run ?? row.run)(plain), 0.05).best / (row.plain?.share ?? 1);
  const beside = await row.beside?.();
  const cells = [
    row.name.padEnd(34),
    row.figure(ours.seconds).toPrecision(3).padStart(9),
    row.figure(ours.best).toPrecision(3).padStart(9),
    ` ${row.unit.padEnd(12)}`,
    (row.twice ? row.figure(time(() => row.run(pair)).best).toPrecision(3) : '').padStart(11),
    (scalar ? (scalar / ours.best).toFixed(0) : '').padStart(9),
    (beside ? (beside.best / ours.best).toFixed(2) : '').padStart(15),
  ];
  console.log(cells.join(''));
}
pair.close();
