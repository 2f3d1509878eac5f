import type { KernelExports } from './instance.ts';
import { panelBytes } from './panels.ts';

/** A kernel's call cut for several threads: the arguments of each part. Null when it is too short to be worth handing over. */
export type Split = (args: number[], crew: Crew) => number[][] | null;

export interface Crew {
  threads: number;
  /** Work below this many nanoseconds stays whole. */
  grain: number;
}

/** [from, to) of each part of `count`, cut at multiples of `unit`. */
function ranges(count: number, unit: number, { threads, grain }: Crew, nsEach: number): [from: number, to: number][] | null {
  const units = Math.ceil(count / unit);
  const parts = Math.min(threads, units);
  if (parts < 2 || count * nsEach < grain) return null;
  return Array.from({ length: parts }, (_, i) => [
    Math.floor((units * i) / parts) * unit,
    Math.min(count, Math.floor((units * (i + 1)) / parts) * unit),
  ]);
}

const gcd = (a: number, b: number): number => (b === 0 ? a : gcd(b, a % b));

/**
 * Cuts `count` things along argument `countAt`. A pointer named in `steps` moves by that many bytes a thing, unless it is absent.
 */
function along(
  args: number[],
  crew: Crew,
  countAt: number,
  unit: number,
  nsEach: number,
  steps: [at: number, bytes: number][],
): number[][] | null {
  return (
    ranges(args[countAt], unit, crew, nsEach)?.map(([from, to]) => {
      const part = args.slice();
      part[countAt] = to - from;
      for (const [at, bytes] of steps) if (part[at] !== 0) part[at] += from * bytes;
      return part;
    }) ?? null
  );
}

/** Words at these arguments, values at the last one: cut at 4096 values, where packing and PRG groups begin anew. */
const elementwise =
  (nsEach: number, ...words: number[]): Split =>
  (args, crew) =>
    along(
      args,
      crew,
      args.length - 1,
      4096,
      nsEach,
      words.map((at) => [at, 4]),
    );

/** The last argument cut at whole sets of channels. */
const channelwise =
  (nsEach: number, channelsAt: number, ...words: number[]): Split =>
  (args, crew) => {
    const set = args[channelsAt] * args[channelsAt + 1];
    return along(
      args,
      crew,
      args.length - 1,
      set * Math.ceil(4096 / set),
      nsEach,
      words.map((at) => [at, 4]),
    );
  };

/** Gives every part its own piece of the scratch, an equal share of `bytes`. */
function withScratch(parts: number[][] | null, at: number, bytes: number): number[][] | null {
  parts?.forEach((part, i) => {
    part[at] += Math.floor(bytes / parts.length / 64) * 64 * i;
  });
  return parts;
}

/** A product: by rows when each part gets enough of them, else by panels of 16 columns. B's panel has `panelBytes`. */
function product(
  args: number[],
  crew: Crew,
  at: { B: number; M: number },
  panelBytes: number,
  scratch: number,
  macsPerNs: number,
): number[][] | null {
  const [M, N, K] = args.slice(at.M, at.M + 3);
  const rows = M >= 8 * crew.threads;
  const ns = (M * N * K) / macsPerNs;
  const parts = rows
    ? along(args, crew, at.M, 4, ns / M, [
        [0, 4 * args[1]],
        [2, 4 * args[3]],
      ])
    : along(args, crew, at.M + 1, 16, ns / N, [
        [0, 4],
        [at.B, panelBytes / 16],
      ]);
  return withScratch(parts, args.length - 1, scratch);
}

/** Blocks or elements of a gate: the exports take the range as their last arguments. `perChunk`: how many fill whole PRG groups. */
function gate(args: number[], crew: Crew, perChunk: number, nsEach: number, scratchAt: number, scratch: number): number[][] | null {
  const n = args.length;
  const parts = ranges(args[n - 1], perChunk, crew, nsEach)?.map(([from, to]) => [...args.slice(0, n - 2), from, to]) ?? null;
  return withScratch(parts, scratchAt, scratch);
}

export interface ScratchSizes {
  gemm: number;
  prg: number;
  harmonic: number;
}

/** How each kernel is cut. Costs are rough nanoseconds a value; kernels not listed are never worth it. */
export function splits(scratch: ScratchSizes): Partial<Record<keyof KernelExports, Split>> {
  const rowwise =
    (nsEach: number, rowsAt: number, colsAt: number, byRow: number[], byValue: number[]): Split =>
    (args, crew) =>
      along(args, crew, rowsAt, 1, nsEach * args[colsAt], [
        ...byRow.map((at): [number, number] => [at, 4]),
        ...byValue.map((at): [number, number] => [at, 4 * args[colsAt]]),
      ]);
  const packing =
    (packedAt: number, ...words: number[]): Split =>
    (args, crew) =>
      along(args, crew, args.length - 1, 4096, 0.2, [
        [packedAt, args[args.length - 2] / 8],
        ...words.map((at): [number, number] => [at, 4]),
      ]);

  return {
    prg: (args, crew) => {
      const parts = along(args, crew, 7, 4096, 1 + args[5] / 20, [[0, 4]]);
      parts?.forEach((part) => {
        part[6] += ((part[0] - args[0]) / 4 / 4096) * args[5];
      });
      return withScratch(parts, 8, scratch.prg);
    },
    pack: packing(0, 1),
    unpack: packing(1, 0),
    openSum: packing(2, 0, 1),
    add: elementwise(0.25, 0, 1, 2),
    sub: elementwise(0.25, 0, 1, 2),
    mul: elementwise(0.25, 0, 1, 2),
    extend: elementwise(0.7, 0, 1, 2, 3, 4, 5),
    dealExtend: elementwise(0.5, 0, 1, 2, 3, 4),
    squareWire: elementwise(0.5, 0, 1, 2, 4, 5, 6),
    affine: channelwise(0.3, 4, 0, 1),
    truncate: (args, crew) =>
      args[2] === 0 && args[3] === 0 ? elementwise(0.3, 0, 1, 6)(args, crew) : channelwise(0.4, 4, 0, 1, 6)(args, crew),
    mulRow: rowwise(0.3, 3, 4, [2], [0, 1]),
    rowDot: rowwise(0.3, 3, 4, [0], [1, 2]),
    centre: rowwise(0.4, 3, 4, [], [0, 1]),
    rowSquares: rowwise(0.6, 8, 9, [0, 4], [1, 2, 5, 6]),
    mulWires: (args, crew) => {
      const rowY = args[13] !== 0;
      if (rowY) return rowwise(0.8, 11, 12, [4, 5], [0, 1, 2, 7, 8, 9, 10])(args, crew);
      const flat = args.slice();
      flat[11] = 1;
      flat[12] = args[11] * args[12];
      return along(
        flat,
        crew,
        12,
        4096,
        0.8,
        [0, 1, 2, 4, 5, 7, 8, 9, 10].map((at) => [at, 4]),
      );
    },
    packB: (args, crew) => {
      const [, , K, , ld, transposed, bytes] = args;
      return along(args, crew, 3, 16, 0.3 * K, [
        [0, 4 * K],
        [1, bytes * (transposed ? ld : 1)],
      ]);
    },
    gemm: (args, crew) => product(args, crew, { B: 4, M: 5 }, 64 * args[7], scratch.gemm, 17),
    gemmF32: (args, crew) => product(args, crew, { B: 4, M: 5 }, 64 * args[7], scratch.gemm, 17),
    gemmSmall: (args, crew) => product(args, crew, { B: 4, M: 6 }, panelBytes(args[5], args[8]), scratch.gemm, 14),
    dealHarmonic: (args, crew) => gate(args, crew, 512 / gcd(args[5], 512), 16 * args[5], 13, scratch.harmonic),
    harmonic: (args, crew) => gate(args, crew, 512 / gcd(args[7], 512), (args[10] ? 6 : 14) * args[7], 15, scratch.harmonic),
    dealHarmonicRow: (args, crew) => gate(args, crew, 2048 / gcd(args[3], 2048), 7 * args[3], 11, scratch.harmonic),
    harmonicRow: (args, crew) => gate(args, crew, 2048 / gcd(args[6], 2048), 5 * args[6], 14, scratch.harmonic),
  };
}
