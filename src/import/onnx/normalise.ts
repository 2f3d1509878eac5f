/**
 * Older operator versions brought to the newest form, so that the rest of the project knows one meaning per operator:
 * attributes that became inputs become constants, and what changed its meaning is spelled out.
 */
import { type AttrValue, type GraphNode, ModelError, type Tensor, tensor } from '../../graph/graph.ts';

/** Attributes that became inputs: operator, attribute, input position, the opset that changed it. */
const becameInput: readonly [op: string, attr: string, at: number, since: number][] = [
  ['Squeeze', 'axes', 1, 13],
  ['Unsqueeze', 'axes', 1, 13],
  ['ReduceSum', 'axes', 1, 13],
  ...[
    'ReduceMean',
    'ReduceMax',
    'ReduceMin',
    'ReduceProd',
    'ReduceSumSquare',
    'ReduceL1',
    'ReduceL2',
    'ReduceLogSum',
    'ReduceLogSumExp',
  ].map((op): [string, string, number, number] => [op, 'axes', 1, 18]),
  ['Split', 'split', 1, 13],
  ['Clip', 'min', 1, 11],
  ['Clip', 'max', 2, 11],
  ['Pad', 'pads', 1, 11],
  ['Pad', 'value', 2, 11],
  ['Slice', 'starts', 1, 10],
  ['Slice', 'ends', 2, 10],
  ['Slice', 'axes', 3, 10],
  ['TopK', 'k', 1, 10],
];
const floatAttrs = new Set(['min', 'max', 'value']);

/** Outputs that exist for training; they may be named but not used. */
const inferenceOutputs: Record<string, number> = {
  Dropout: 1,
  BatchNormalization: 1,
  LayerNormalization: 1,
  MaxPool: 1,
  SkipLayerNormalization: 1,
  GroupNormalization: 1,
};

export interface Import {
  readonly opset: number;
  /** Adds a constant, returns its name. */
  readonly constant: (hint: string, value: Tensor) => string;
  /** Whether any node or the graph reads this value. */
  readonly used: (name: string) => boolean;
  /** A name no value has yet. */
  readonly fresh: (hint: string) => string;
}

/** One node of the file as nodes of the graph. `domain` '' is ONNX's own. */
export function normalise(given: GraphNode, domain: string, to: Import): GraphNode[] {
  const node = moveAttributes(trimOutputs(given, to), to);
  const rule = rules[domain === '' ? node.op : `${domain}:${node.op}`];
  return rule ? rule(node, to) : [node];
}

/** Whether a rule (rather than the interpreter) gives this operator its meaning. */
export const hasRule = (op: string, domain: string): boolean => Object.hasOwn(rules, domain === '' ? op : `${domain}:${op}`);

function trimOutputs(node: GraphNode, to: Import): GraphNode {
  const keep = Object.hasOwn(inferenceOutputs, node.op) ? inferenceOutputs[node.op] : node.outputs.length;
  let outputs = node.outputs;
  while (outputs.length > keep && !to.used(outputs[outputs.length - 1])) outputs = outputs.slice(0, -1);
  return { ...node, outputs };
}

function moveAttributes(node: GraphNode, to: Import): GraphNode {
  const attrs = { ...node.attrs };
  const inputs = [...node.inputs];
  for (const [op, attr, at, since] of becameInput) {
    if (node.op !== op || to.opset >= since || attrs[attr] === undefined) continue;
    const v = attrs[attr];
    const list = typeof v === 'number' ? v : Array.isArray(v) && v.every((e) => typeof e === 'number') ? v : bad(node, `attribute ${attr}`);
    delete attrs[attr];
    while (inputs.length <= at) inputs.push('');
    const values = typeof list === 'number' ? [list] : list;
    const scalar = typeof list === 'number' && op !== 'TopK';
    inputs[at] = to.constant(`${node.name}.${attr}`, tensor(values, scalar ? [] : [values.length], floatAttrs.has(attr) ? 'f32' : 'i64'));
  }
  return { ...node, attrs, inputs };
}

function bad(node: GraphNode, why: string): never {
  throw new ModelError(`${node.name} (${node.op}): ${why}`);
}

type Rule = (node: GraphNode, to: Import) => GraphNode[];

const make = (
  node: GraphNode,
  op: string,
  inputs: string[],
  outputs: string[],
  attrs: Record<string, AttrValue> = {},
  suffix = '',
): GraphNode => ({
  op,
  name: suffix === '' ? node.name : `${node.name}.${suffix}`,
  inputs,
  outputs,
  attrs,
});

/**
 * Before opset 13 softmax flattened its input to [before axis, from axis on] and worked on whole rows; for the last axis that is the
 * same thing. The default axis was 1.
 */
const oldSoftmax: Rule = (node, to) => {
  if (to.opset >= 13) return [node];
  const axis = node.attrs.axis ?? 1;
  const [x, y] = [node.inputs[0], node.outputs[0]];
  if (axis === -1) return [make(node, node.op, [x], [y], { axis: -1 })];
  const [shape, flat, soft] = ['shape', 'flat', 'soft'].map((s) => to.fresh(`${y}.${s}`));
  return [
    make(node, 'Shape', [x], [shape], {}, 'shape'),
    make(node, 'Flatten', [x], [flat], { axis }, 'flat'),
    make(node, node.op, [flat], [soft], { axis: -1 }, 'rows'),
    make(node, 'Reshape', [soft, shape], [y]),
  ];
};

const dropout: Rule = (node, to) => {
  if (node.outputs.length > 1 && to.used(node.outputs[1])) return [make(node, 'Dropout', [node.inputs[0]], node.outputs)];
  return [make(node, 'Identity', [node.inputs[0]], [node.outputs[0]])];
};

const biasGelu =
  (approximate: 'none' | 'tanh'): Rule =>
  (node, to) => {
    const [x, bias] = node.inputs;
    if (!bias) return [make(node, 'Gelu', [x], node.outputs, { approximate })];
    const sum = to.fresh(`${node.outputs[0]}.sum`);
    return [make(node, 'Add', [x, bias], [sum], {}, 'bias'), make(node, 'Gelu', [sum], node.outputs, { approximate })];
  };

/** ONNX's Attention (opset 23) in its plain form: three inputs of rank 3, no mask, no cache, as many key heads as query heads. */
const attention: Rule = (node) => {
  const { q_num_heads: heads, kv_num_heads: kvHeads, is_causal: causal, softcap, scale, qk_matmul_output_mode: mode } = node.attrs;
  const plain = node.inputs.slice(3).every((i) => i === '') && node.outputs.length === 1 && !causal && !softcap && !mode;
  if (!plain || typeof heads !== 'number' || heads !== kvHeads)
    return bad(node, 'only plain attention on [batch, tokens, heads·d] is supported');
  return [make(node, 'Attention', node.inputs.slice(0, 3), node.outputs, { heads, ...(scale === undefined ? {} : { scale }) })];
};

/** x + skip (+ bias), then LayerNorm (or RMSNorm). */
const skipNorm =
  (op: string, params: number): Rule =>
  (node, to) => {
    const [x, skip, ...rest] = node.inputs;
    const bias = rest[params];
    if (node.outputs.length > 1 && node.outputs.some((o, i) => (i === 1 || i === 2) && o !== '' && to.used(o)))
      return bad(node, 'its mean and variance outputs are not supported');
    const sum = node.outputs[3] || to.fresh(`${node.outputs[0]}.sum`);
    const first = bias ? to.fresh(`${sum}.skip`) : sum;
    return [
      make(node, 'Add', [x, skip], [first], {}, 'skip'),
      ...(bias ? [make(node, 'Add', [first, bias], [sum], {}, 'bias')] : []),
      make(node, op, [sum, ...rest.slice(0, params).filter((p) => p !== '')], [node.outputs[0]], {
        axis: -1,
        epsilon: node.attrs.epsilon ?? 1e-12,
      }),
    ];
  };

const resize: Rule = (node, to) => {
  if (to.opset >= 11) return [node];
  const attrs = { ...node.attrs, coordinate_transformation_mode: 'asymmetric', nearest_mode: 'floor' };
  return [{ ...node, attrs, inputs: [node.inputs[0], '', node.inputs[1] ?? ''] }];
};

const swish: Rule = (node) => [
  node.attrs.alpha === undefined || node.attrs.alpha === 1 ? make(node, 'Silu', node.inputs, node.outputs) : node,
];

const rules: Record<string, Rule> = {
  Softmax: oldSoftmax,
  LogSoftmax: oldSoftmax,
  Dropout: dropout,
  Resize: resize,
  Attention: attention,
  Swish: swish,
  SimplifiedLayerNormalization: (node) => [{ ...node, op: 'RMSNormalization' }],
  'com.microsoft:Gelu': biasGelu('none'),
  'com.microsoft:BiasGelu': biasGelu('none'),
  'com.microsoft:FastGelu': biasGelu('tanh'),
  'com.microsoft:QuickGelu': (node) => [make(node, 'Swish', node.inputs, node.outputs, { alpha: node.attrs.alpha ?? 1.702 })],
  'com.microsoft:SkipLayerNormalization': skipNorm('LayerNormalization', 2),
  'com.microsoft:SkipSimplifiedLayerNormalization': skipNorm('RMSNormalization', 1),
};
