/** The kernels of kernels.ts. No module-level state: several threads run this over one memory. */
export { prg } from "./prg";
export { openSum, pack, unpack } from "./pack";
export { add, affine, bits, centre, copy, copyBox, fill, fill64, im2col, mul, mulRow, rowDot, sub, sumAxis } from "./words";
export { dpfLevel } from "./dpf";
export { oneHot, pickBits, xor, xorAnd } from "./bits";
export { dealExtend, extend, truncate, truncate64 } from "./shares";
export { mulWires, rowSquares, squareWire } from "./products";
export { gemm, gemmF32, gemmSmall, packB, packBF32 } from "./gemm";
export { packHalves } from "./small";
export { dealHarmonic, harmonic } from "./harmonic";
export { dealHarmonicRow, harmonicRow } from "./row";
export * from "./widths";
