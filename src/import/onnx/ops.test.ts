/** Every operator, read from an ONNX file and interpreted, against onnxruntime. */
import { describe, expect, test } from 'vitest';
import { buildModel, difference, node, reference } from '../../../test/fixtures/onnx/build.ts';
import { cases } from '../../../test/fixtures/onnx/cases.ts';
import type { Tensor } from '../../graph/graph.ts';
import { interpret } from '../../graph/interpret.ts';
import { ops } from '../../graph/ops/index.ts';
import { rewrite } from '../../graph/rewrite/index.ts';
import { readOnnx } from './read.ts';

/** Result types that are not the first input's. */
function typeOf(op: string, output: number, inputs: readonly (Tensor | undefined)[], to: unknown): Tensor['dtype'] {
  if (['Less', 'LessOrEqual', 'Greater', 'GreaterOrEqual', 'Equal', 'And', 'Or', 'Xor', 'Not', 'IsNaN', 'IsInf'].includes(op))
    return 'bool';
  if (['ArgMax', 'ArgMin', 'Shape', 'Size'].includes(op) || (op === 'TopK' && output === 1)) return 'i64';
  if (op === 'Cast') return to === 7 ? 'i64' : to === 9 ? 'bool' : 'f32';
  if (op === 'Where') return 'f32';
  if (op === 'ConstantOfShape') return to === undefined ? 'f32' : 'i64';
  if (op === 'OneHot') return 'f32';
  return inputs[0]?.dtype ?? 'f32';
}

describe('each operator equals onnxruntime', () => {
  test.each(cases.map((c, i) => [`${c.op} ${c.about} (${i})`, c] as const))('%s', async (_, c) => {
    const fed: Record<string, Tensor> = {};
    const constants: Record<string, Tensor> = {};
    const given = c.inputs.map((t) => (t === undefined ? undefined : 'constant' in t ? t.constant : t));
    const names = c.inputs.map((t, i) => {
      if (t === undefined) return '';
      if ('constant' in t) constants[`c${i}`] = t.constant;
      else fed[`x${i}`] = t;
      return 'constant' in t ? `c${i}` : `x${i}`;
    });
    const outputs = Array.from({ length: c.outputs ?? 1 }, (__, i) => `y${i}`);
    const hint = c.op === 'Cast' ? c.attrs?.to : c.attrs?.value;
    const bytes = buildModel({
      nodes: [node(c.op, names, outputs, c.attrs, '', c.domain)],
      inputs: Object.fromEntries(Object.entries(fed).map(([name, t]) => [name, { dtype: t.dtype, shape: t.shape }])),
      constants,
      outputs,
      outputTypes: Object.fromEntries(outputs.map((o, i) => [o, typeOf(c.op, i, given, hint)])),
      opset: c.opset,
    });
    const want = await reference(bytes, fed);
    const graph = readOnnx(bytes);
    const got = interpret(graph, fed);
    for (const o of outputs) expect(difference(got[o], want[o])).toBeLessThan(c.tolerance ?? 2e-5);
    const short = interpret(rewrite(graph), fed);
    for (const o of outputs) expect(difference(short[o], got[o])).toBeLessThan(1e-5);
  });
});

test('every operator has a case, but those that only rewrites make', () => {
  const covered = new Set(cases.map((c) => c.op));
  const fused = ['Linear', 'Attention', 'Rotary', 'Silu', 'Swish', 'RMSNormalization', 'OneHotRows', 'Constant', 'CastLike'];
  expect([...ops.keys()].filter((op) => !covered.has(op) && !fused.includes(op))).toEqual([]);
});
