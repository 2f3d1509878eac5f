import { setFlagsFromString } from 'node:v8';
import { instantiateKernels } from './instance.ts';
import type { Kernels } from './kernels.ts';
import { firstFree, newMemory } from './memory.ts';
import { formats } from './panels.ts';
import { plainKernels } from './plain.ts';
import { kernelModule, recompiledModule } from './wasm.ts';

/**
 * The kernels as they should run: compiled at full strength and compared with the plain twin before use.
 *
 * V8's pass that pairs 128-bit operations into 256-bit ones doubles matrix products (Node 24, AVX2) but is experimental. So it is on
 * only while the check below runs every kernel once, with the baseline compiler off: whatever was compiled with it has been checked,
 * and what is compiled later, in this module or the host's, is not touched by it. If a result differs, the module is compiled again
 * without the pass. SUBROSA_SIMD=128 never turns it on.
 */
export interface CheckedModule {
  readonly module: WebAssembly.Module;
  /** Whether the engine was asked for 256-bit operations. */
  readonly wide: boolean;
}

const checked = new Map<boolean, CheckedModule>();

export function checkedModule(shared: boolean): CheckedModule {
  let result = checked.get(shared);
  if (!result) {
    result = check(shared);
    checked.set(shared, result);
  }
  return result;
}

export function checkedKernels(memory: WebAssembly.Memory): Kernels {
  return instantiateKernels(checkedModule(!(memory.buffer instanceof ArrayBuffer)).module, memory);
}

function check(shared: boolean): CheckedModule {
  const canPair = Number.parseInt(process.versions.node, 10) >= 24 && process.env.SUBROSA_SIMD !== '128';
  setFlagsFromString('--no-liftoff');
  try {
    if (canPair) {
      const module = kernelModule(shared);
      setFlagsFromString('--experimental-wasm-revectorize');
      const wrong = disagreement(module, shared);
      setFlagsFromString('--no-experimental-wasm-revectorize');
      if (wrong === null) return { module, wide: true };
    }
    const module = canPair ? recompiledModule(shared) : kernelModule(shared);
    const wrong = disagreement(module, shared);
    if (wrong !== null)
      throw new Error(
        `kernels: ${wrong} differs from its plain twin on this machine; please report it with your CPU and Node ${process.version}`,
      );
    return { module, wide: false };
  } finally {
    setFlagsFromString('--liftoff');
  }
}

const areaBytes = 1 << 14;
const areas = 24;
const scratch = firstFree + areas * areaBytes;

/** The name of the first kernel whose results differ from the plain twin's, if any. */
export function disagreement(module: WebAssembly.Module, shared: boolean): string | null {
  const bytes = scratch + (1 << 20);
  const plain = plainKernels(newMemory(bytes));
  const fast = instantiateKernels(module, newMemory(bytes, shared));
  prepare(plain);
  const start = plain.u8.slice(firstFree, scratch);
  for (const [name, call] of cases) {
    for (const k of [plain, fast]) {
      k.u8.set(start, firstFree);
      call(k);
    }
    const [wanted, found] = [plain, fast].map((k) => Buffer.from(k.memory.buffer, firstFree, scratch - firstFree));
    if (!wanted.equals(found)) return name;
  }
  return null;
}

const a = (i: number): number => firstFree + i * areaBytes;
/** Areas that hold moderate floats and doubles; the others hold any words. */
const floats = a(20);
const moreFloats = a(21);
const doubles = a(22);

function prepare({ u32, f32, f64 }: Kernels): void {
  let x = 0x2545f491;
  for (let i = firstFree >>> 2; i < scratch >>> 2; i++) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    u32[i] = x;
  }
  for (let i = 0; i < areaBytes / 2; i += 4) f32[(floats + i) >>> 2] = (u32[(floats + i) >>> 2] / 2 ** 31 - 1) * 1000;
  for (let i = 0; i < areaBytes; i += 4) f32[(moreFloats + i) >>> 2] = (u32[(moreFloats + i) >>> 2] / 2 ** 31 - 1) * 1000;
  for (let i = 0; i < areaBytes; i += 8) f64[(doubles + i) >>> 3] = (u32[(doubles + i) >>> 2] / 2 ** 31 - 1) * 2 ** 20;
}

const n = 1003;
const sets: [xBits: number, yBits: number][] = [
  [32, 32],
  [14, 32],
  [32, 14],
  [14, 16],
  [20, 18],
];

/** Each kernel once or more, at sizes that leave a tail and reach the paths that real models take. */
const cases: [name: string, call: (k: Kernels) => void][] = [
  ...[32, 24, 21, 20, 14].map((bits): [string, (k: Kernels) => void] => ['prg', (k) => k.prg(a(1), a(0), 1, 2, 3, bits, 4096, n, scratch)]),
  ...[32, 24, 20, 16, 14, 12].flatMap((bits): [string, (k: Kernels) => void][] => [
    ['pack', (k) => k.pack(a(1), a(0), bits, n)],
    ['unpack', (k) => k.unpack(a(1), a(0), bits, n)],
    ['openSum', (k) => k.openSum(a(2), a(0), a(1), bits, n)],
  ]),
  ['fill', (k) => k.fill(a(0), 7, n)],
  ['fill64', (k) => k.fill64(a(0), 7, 8, n)],
  ['copy', (k) => k.copy(a(1), a(0), n)],
  ['add', (k) => k.add(a(2), a(0), a(1), n)],
  ['sub', (k) => k.sub(a(2), a(0), a(1), n)],
  ['mul', (k) => k.mul(a(2), a(0), a(1), n)],
  ['xor', (k) => k.xor(a(2), a(0), a(1), n)],
  ['xorAnd', (k) => k.xorAnd(a(2), a(0), a(1), n)],
  ['dpfLevel', (k) => k.dpfLevel(a(1), a(2), a(0), a(3), a(4), 132)],
  ['oneHot', (k) => k.oneHot(a(1), a(0), 4, 4, n)],
  ['pickBits', (k) => k.pickBits(a(0), a(1), a(2), a(3), 4, 4, 0, n)],
  ['mulRow', (k) => k.mulRow(a(2), a(0), a(1), 7, 143)],
  ['bits', (k) => k.bits(a(1), a(0), 0xffff0, 4, n)],
  ['affine', (k) => k.affine(a(1), a(0), a(2), a(3), 59, 1, 17 * 59)],
  ['affine', (k) => k.affine(a(1), a(0), a(2), a(3), 3, 100, 900)],
  ['sumAxis', (k) => k.sumAxis(a(1), a(0), 7, 143, 1)],
  ['sumAxis', (k) => k.sumAxis(a(1), a(0), 3, 9, 33)],
  ['rowDot', (k) => k.rowDot(a(2), a(0), a(1), 7, 143)],
  ['centre', (k) => k.centre(a(1), a(0), 143, 7, 143)],
  ['copyBox', (k) => k.copyBox(a(1), a(0), 2, 3, 9, 17, 459, 153, 17, 1, 17, 34, 102, 1)],
  ['copyBox', (k) => k.copyBox(a(1), a(0), 1, 2, 21, 19, 0, 399, 1, 21, 0, 399, 19, 1)],
  ['im2col', (k) => k.im2col(a(1), a(0), 3, 9, 9, 3, 3, 1, 1, 1, 1, 1, 1, 9, 9)],
  ...[0, 1].flatMap((party): [string, (k: Kernels) => void][] => [
    ['truncate', (k) => k.truncate(a(1), a(0), 0, 0, 1, 1, a(2), 5, 32, 12, 20, party, n)],
    ['truncate', (k) => k.truncate(a(1), a(0), a(3), a(4), 59, 1, 0, 5, 32, 12, 20, party, 17 * 59)],
    ['truncate64', (k) => k.truncate64(a(1), a(0), 46, 14, 32, party, n)],
    ['extend', (k) => k.extend(a(0), a(1), a(2), a(3), a(4), a(5), 20, party, n)],
    ...sets.flatMap(([x, y]): [string, (k: Kernels) => void][] => [
      ['mulWires', (k) => k.mulWires(a(0), a(1), a(2), x, a(3), a(4), y, a(5), a(6), a(7), a(8), 7, 143, 0, party)],
      ['mulWires', (k) => k.mulWires(a(0), a(1), a(2), x, a(3), a(4), y, a(5), a(6), a(7), a(8), 7, 143, 1, party)],
      ['squareWire', (k) => k.squareWire(a(0), a(1), a(2), x, a(3), a(4), a(5), party, n)],
      ['rowSquares', (k) => k.rowSquares(a(0), a(1), a(2), x, a(3), a(4), a(5), party, 7, 143)],
    ]),
  ]),
  ['dealExtend', (k) => k.dealExtend(a(0), a(1), a(2), a(3), a(4), 20, n)],
  ...[0, 1].flatMap((transposed): [string, (k: Kernels) => void][] => [
    ['packB', (k) => k.packB(a(1), a(0), 61, 50, 61, transposed, 4)],
    ['packHalves', (k) => k.packHalves(a(1), a(0), 61, 50, 61, transposed)],
    ['packBF32', (k) => k.packBF32(a(1), floats, 31, 37, 37, transposed)],
  ]),
  ...[1, 3, 4, 9].flatMap((M): [string, (k: Kernels) => void][] => [
    ['gemm', (k) => k.gemm(a(0), 50, a(1), 61, a(2), M, 50, 61, 1, scratch)],
    ['gemmF32', (k) => k.gemmF32(a(0), 40, floats, 31, moreFloats, M, 40, 31, 0, scratch)],
    ['gemmSmall', (k) => k.gemmSmall(a(0), 50, a(1), 61, a(2), formats.halves, M, 50, 61, 1, scratch)],
    ['gemmSmall', (k) => k.gemmSmall(a(0), 50, a(1), 64, a(2), formats.blocks4, M, 50, 64, 0, scratch)],
    ['gemmSmall', (k) => k.gemmSmall(a(0), 50, a(1), 64, a(2), formats.blocks8, M, 50, 64, 1, scratch)],
    ['gemmSmall', (k) => k.gemmSmall(a(0), 50, a(1), 64, a(2), formats.pairs8, M, 50, 64, 0, scratch)],
  ]),
  ...[24, 32].flatMap((w): [string, (k: Kernels) => void][] => [
    ['dealHarmonic', (k) => k.dealHarmonic(a(4), a(1), 30, 5, 27, 6, 12, w, 14, a(0), 1, 2, 3, scratch)],
    ['harmonic', (k) => k.harmonic(a(1), a(2), 30, 5, 27, moreFloats, 0, 6, w, 14, a(4), a(0), 1, 2, 3, scratch)],
    ['harmonic', (k) => k.harmonic(a(1), a(2), 30, 5, 27, floats, 1, 6, w, 14, 0, a(0), 1, 2, 3, scratch)],
  ]),
  ...[30, 46].flatMap((w): [string, (k: Kernels) => void][] => [
    ['dealHarmonicRow', (k) => k.dealHarmonicRow(a(4), a(1), 19, 33, 14, w, 32, a(0), 1, 2, 3, scratch)],
    ['harmonicRow', (k) => k.harmonicRow(a(1), a(2), 19, doubles, 2, 3, 33, w, 32, a(4), a(0), 1, 2, 3, scratch)],
    ['harmonicRow', (k) => k.harmonicRow(a(1), a(2), 19, doubles, 2, 3, 33, w, 32, 0, a(0), 1, 2, 3, scratch)],
  ]),
];
