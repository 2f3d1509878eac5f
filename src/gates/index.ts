/** Every gate, in the order one would read them. A new gate is one file and one line here. */
import { argmax } from './argmax.ts';
import { attendScores, attendValues } from './attend.ts';
import { addPrivate, constant } from './constant.ts';
import { cache } from './cache.ts';
import { causal, lastRows, perSeen } from './causal.ts';
import { compare } from './compare.ts';
import { extend, truncate } from './extend.ts';
import type { Gate } from './gate.ts';
import { harmonic } from './harmonic.ts';
import { add, affine, centre, concat, im2col, permute, reshape, slice, spread, sub, sumAxis } from './local.ts';
import { matmulPrivate, matmulPublic, matmulShared } from './matmul.ts';
import { max, maxPool } from './maxPool.ts';
import { mul, mulPrivate, rowSquares, square } from './mul.ts';
import { open } from './open.ts';
import { relu } from './relu.ts';
import { reveal } from './reveal.ts';
import { rotary } from './rotary.ts';
import { select } from './select.ts';

const all: readonly Gate[] = [
  add, sub, affine, sumAxis, centre, reshape, permute, slice, concat, spread, im2col,
  constant, addPrivate,
  open, mul, square, rowSquares, mulPrivate, matmulPublic, matmulPrivate, matmulShared,
  truncate, extend, harmonic,
  cache, attendScores, causal, perSeen, attendValues, rotary, lastRows,
  compare, relu, select, max, maxPool, argmax,
  reveal,
];

export const gates: ReadonlyMap<string, Gate> = new Map(all.map((g) => [g.name, g]));
export type { BoundGate, BoundTensor, Cost, DealerContext, Gate, Opening, PartyContext } from './gate.ts';
