/**
 * Rewrites in running order. Each keeps every output's value (to rounding); together they turn an exporter's spelling of a network
 * into the operators a private run has gates for. To add one: a rule in a file of its kind, and its name in a pass below.
 */
import type { Graph } from '../graph.ts';
import { activations, hardSwish, mish, rowSoftmax, softmax } from './activation.ts';
import { attention } from './attention.ts';
import { einsumToMatMul } from './einsum.ts';
import { linearBeforeReshape, sliceOfTable, transposeOfOnes } from './layout.ts';
import { addToLinear, batchNorm, channelsAfterNorm, gemmToLinear, matmulToLinear, scaleConv, scaleLinear } from './linear.ts';
import { groupNorm, layerNorm, normScale, rmsNorm, sumToMean } from './norm.ts';
import { dropNoOps, foldConstants, foldShapes, foldSizes, mergeReshapes, mergeTransposes, shareCommon, staticReshape } from './tidy.ts';
import { dropUniform, uniformMean, uniformRow } from './uniform.ts';
import { type Pass, View } from './view.ts';

export const passes: readonly Pass[] = [
  { name: 'constants', rules: [foldShapes, foldSizes, foldConstants, staticReshape, dropNoOps, shareCommon()] },
  { name: 'uniform', rules: [dropUniform, uniformRow, uniformMean] },
  { name: 'norms', rules: [sumToMean, rmsNorm, layerNorm, normScale, groupNorm] },
  { name: 'activations', rules: [activations, mish, hardSwish, softmax, rowSoftmax] },
  { name: 'linear', rules: [einsumToMatMul, matmulToLinear, gemmToLinear, addToLinear] },
  { name: 'attention', rules: [attention] },
  { name: 'scales', rules: [channelsAfterNorm, batchNorm, scaleConv, scaleLinear, addToLinear] },
  {
    name: 'shapes',
    rules: [mergeTransposes, transposeOfOnes, linearBeforeReshape, sliceOfTable, mergeReshapes, dropNoOps, foldConstants, shareCommon()],
  },
];

/** The rewritten graph; `listener` hears each pass and how many rules matched. Throws ModelError when the graph cannot run at all. */
export function rewrite(graph: Graph, listener?: (pass: string, matches: number) => void): Graph {
  const view = new View(graph);
  view.sweepDead();
  for (const pass of passes) {
    const matches = view.apply(pass);
    listener?.(pass.name, matches);
  }
  return view.toGraph();
}

export { bindInputs } from './uniform.ts';
