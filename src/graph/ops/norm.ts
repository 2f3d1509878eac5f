/** Normalisations. Means and variances are summed in double precision. */
import type { Tensor } from '../graph.ts';
import { sizeOf } from '../graph.ts';
import { alloc, around, axisOf, type Family, fail, floatAttr, floats, type Inputs, intAttr, need, type OpFn } from './common.ts';

/** Rows of `width` values, each made mean 0 (unless rms) and variance 1. */
function normalise(x: Float32Array, y: Float32Array, width: number, epsilon: number, rms: boolean): void {
  for (let at = 0; at < x.length; at += width) {
    let sum = 0;
    if (!rms) for (let i = 0; i < width; i++) sum += x[at + i];
    const mean = sum / width;
    let square = 0;
    for (let i = 0; i < width; i++) {
      const d = x[at + i] - mean;
      square += d * d;
    }
    const inverse = 1 / Math.sqrt(square / width + epsilon);
    for (let i = 0; i < width; i++) y[at + i] = (x[at + i] - mean) * inverse;
  }
}

const layer =
  (rms: boolean): OpFn =>
  (x, node) => {
    const t = need(x, 0);
    const axis = axisOf(intAttr(node, 'axis', -1), t.shape.length);
    const width = sizeOf(t.shape.slice(axis));
    const scale = floats(need(x, 1));
    const bias = x[2] === undefined ? undefined : floats(x[2]);
    if (rms && bias) fail('a bias where none belongs');
    for (const p of [scale, bias])
      if (p && p.length !== width && p.length !== 1) fail(`scale or bias has ${p.length} values, expected ${width}`);
    const [s, b] = [scale.length === 1 ? 0 : 1, bias?.length === 1 ? 0 : 1];
    const y = alloc('f32', t.shape);
    const out = floats(y);
    if (width > 0) normalise(floats(t), out, width, floatAttr(node, 'epsilon', 1e-5), rms);
    for (let at = 0; at < out.length; at += width) {
      if (bias) for (let i = 0; i < width; i++) out[at + i] = out[at + i] * scale[i * s] + bias[i * b];
      else for (let i = 0; i < width; i++) out[at + i] *= scale[i * s];
    }
    return [y];
  };

/** [N, C, …] cut into `groups` of channels, each normalised over its channels and all positions. */
function grouped(x: Inputs, groups: number, epsilon: number): Tensor[] {
  const t = need(x, 0);
  if (t.shape.length < 3) fail(`expected [N, C, …], got [${t.shape}]`);
  const [n, channels] = t.shape;
  if (groups < 1 || channels % groups !== 0) fail(`${channels} channels in ${groups} groups`);
  const [scale, bias] = [floats(need(x, 1)), floats(need(x, 2))];
  const [, , inner] = around(t.shape, 1);
  const per = channels / groups;
  for (const p of [scale, bias])
    if (p.length !== channels && p.length !== groups) fail(`scale or bias has ${p.length} values for ${channels} channels`);
  const of = (p: Float32Array, c: number): number => p[p.length === channels ? c : Math.floor(c / per)];
  const y = alloc('f32', t.shape);
  const out = floats(y);
  if (n * per * inner > 0) normalise(floats(t), out, per * inner, epsilon, false);
  for (let plane = 0; plane < n * channels; plane++) {
    const [g, h] = [of(scale, plane % channels), of(bias, plane % channels)];
    for (let i = plane * inner; i < (plane + 1) * inner; i++) out[i] = out[i] * g + h;
  }
  return [y];
}

const batch: OpFn = (x, node) => {
  if (intAttr(node, 'training_mode', 0) !== 0) fail('training mode');
  const t = need(x, 0);
  const [outer, channels, inner] = around(t.shape, Math.min(1, t.shape.length - 1));
  const [scale, bias, mean, variance] = [1, 2, 3, 4].map((i) => floats(need(x, i)));
  for (const p of [scale, bias, mean, variance])
    if (p.length !== channels) fail(`a parameter has ${p.length} values for ${channels} channels`);
  const epsilon = floatAttr(node, 'epsilon', 1e-5);
  const [src, y] = [floats(t), alloc('f32', t.shape)];
  for (let o = 0, at = 0; o < outer; o++) {
    for (let c = 0; c < channels; c++) {
      const gain = scale[c] / Math.sqrt(variance[c] + epsilon);
      for (const end = at + inner; at < end; at++) y.data[at] = (src[at] - mean[c]) * gain + bias[c];
    }
  }
  return [y];
};

const lp: OpFn = (x, node) => {
  const t = need(x, 0);
  const src = floats(t);
  const p = intAttr(node, 'p', 2);
  if (p !== 1 && p !== 2) fail(`p = ${p}`);
  const [outer, count, inner] = around(t.shape, axisOf(intAttr(node, 'axis', -1), t.shape.length));
  const y = alloc('f32', t.shape);
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < inner; i++) {
      const at = o * count * inner + i;
      let sum = 0;
      for (let a = 0; a < count; a++) sum += p === 1 ? Math.abs(src[at + a * inner]) : src[at + a * inner] ** 2;
      const norm = p === 1 ? sum : Math.sqrt(sum);
      for (let a = 0; a < count; a++) y.data[at + a * inner] = norm === 0 ? 0 : src[at + a * inner] / norm;
    }
  }
  return [y];
};

export const norm: Family = {
  LayerNormalization: layer(false),
  RMSNormalization: layer(true),
  BatchNormalization: batch,
  GroupNormalization: (x, node) => grouped(x, intAttr(node, 'num_groups', 1), floatAttr(node, 'epsilon', 1e-5)),
  InstanceNormalization: (x, node) => grouped(x, need(x, 0).shape[1] ?? 1, floatAttr(node, 'epsilon', 1e-5)),
  LpNormalization: lp,
};
