/** Every operator the interpreter knows, by ONNX name. To add one: put it in a family's file (or a new family's, plus a line here). */
import { binary } from './binary.ts';
import type { Family, OpFn } from './common.ts';
import { decoders } from './decoder.ts';
import { einsums } from './einsum.ts';
import { elementwise } from './elementwise.ts';
import { indexing } from './indexing.ts';
import { matmuls } from './matmul.ts';
import { norm } from './norm.ts';
import { reduce } from './reduce.ts';
import { resizes } from './resize.ts';
import { shapes } from './shape.ts';
import { sources } from './source.ts';
import { windows } from './window.ts';

const families: readonly Family[] = [
  elementwise,
  binary,
  matmuls,
  einsums,
  windows,
  norm,
  reduce,
  shapes,
  indexing,
  sources,
  resizes,
  decoders,
];

export const ops: ReadonlyMap<string, OpFn> = new Map(families.flatMap((f) => Object.entries(f)));

export { kinked, smooth } from './elementwise.ts';
