/**
 * ONNX files to graphs. The file is not trusted: sizes are checked against the bytes present before anything is allocated, names
 * must connect, and whatever is wrong is one ModelError of one line. What is read: a model of opset 7 to 25 whose operators the
 * interpreter knows; the graph that comes out speaks the newest opset.
 *
 * onnx_pb.ts is generated from onnx.proto (of the onnx 1.23 package) by protoc with @bufbuild/protoc-gen-es:
 *   protoc --es_out=. --es_opt=target=ts,import_extension=ts,erasable_syntax=true onnx.proto
 */
import { fromBinary } from '@bufbuild/protobuf';
import { type AttrValue, type Graph, type GraphInput, type GraphNode, ModelError, type Tensor, tensor } from '../../graph/graph.ts';
import { ops } from '../../graph/ops/index.ts';
import { folderReader } from './external.ts';
import { hasRule, normalise } from './normalise.ts';
import {
  AttributeProto_AttributeType as A,
  type AttributeProto,
  type GraphProto,
  type ModelProto,
  ModelProtoSchema,
  type NodeProto,
  type ValueInfoProto,
} from './onnx_pb.ts';
import { inOrder } from './order.ts';
import { scan } from './scan.ts';
import { dtypeOf, type External, integer, printable, readTensor } from './tensor.ts';

export interface OnnxOptions {
  /** Sizes for named dimensions. Those not given stay public parameters, but for batch dimensions, which become 1. */
  readonly dims?: Readonly<Record<string, number>>;
  /** The folder of the model file, for tensors kept in side files. */
  readonly externalDir?: string;
  /** What to call the graph. */
  readonly name?: string;
}

const [oldestOpset, newestOpset] = [7, 25];
const maxDim = 2 ** 31;

/** Reads an ONNX file. Throws ModelError, and nothing else, for a file that cannot be used. */
export function readOnnx(bytes: Uint8Array, options: OnnxOptions = {}): Graph {
  const model = decode(bytes);
  const opset = opsetOf(model);
  if (model.graph === undefined) throw new ModelError('the ONNX file holds no graph');
  if (model.graph.sparseInitializer.length > 0) throw new ModelError('sparse initializers are not supported');
  const external = folderReader(options.externalDir);
  const constants = readInitializers(model.graph, external);
  const inputs = readInputs(model.graph, constants, options.dims ?? {});
  const outputs = model.graph.output.map((o) => o.name);
  if (outputs.length === 0) throw new ModelError('the graph has no outputs');
  const nodes = readNodes(model.graph, opset, constants, inputs, outputs, external);
  const known = new Set([...inputs.map((i) => i.name), ...constants.keys()]);
  const sorted = inOrder(nodes, known);
  for (const n of sorted) for (const name of n.outputs) known.add(name);
  for (const name of outputs)
    if (name === '' || !known.has(name)) throw new ModelError(`graph output '${printable(name)}' is defined nowhere`);
  if (new Set(outputs).size !== outputs.length) throw new ModelError('an output is listed twice');
  return { name: options.name ?? (printable(model.graph.name) || 'model'), inputs, outputs, nodes: sorted, constants };
}

function decode(bytes: Uint8Array): ModelProto {
  if (bytes.length === 0) throw new ModelError('the ONNX file is empty');
  scan(bytes);
  try {
    return fromBinary(ModelProtoSchema, bytes, { readUnknownFields: false, recursionLimit: 40 });
  } catch (e) {
    throw new ModelError(`not a usable ONNX file: ${printable(e instanceof Error ? e.message : String(e))}`, { cause: e });
  }
}

function opsetOf(model: ModelProto): number {
  const own = model.opsetImport.filter((o) => o.domain === '' || o.domain === 'ai.onnx');
  if (own.length !== 1)
    throw new ModelError(own.length === 0 ? 'the ONNX file names no opset (cut short?)' : 'the ONNX file names its opset twice');
  const version = integer(own[0].version);
  if (version < oldestOpset || version > newestOpset)
    throw new ModelError(`opset ${version} is not supported: export with opset 17 (${oldestOpset} to ${newestOpset} are read)`);
  return version;
}

function readInitializers(graph: GraphProto, external: External): Map<string, Tensor> {
  const constants = new Map<string, Tensor>();
  for (const t of graph.initializer) {
    const where = `initializer '${printable(t.name)}'`;
    if (t.name === '') throw new ModelError('an initializer has no name');
    if (constants.has(t.name)) throw new ModelError(`${where} is defined twice`);
    constants.set(t.name, readTensor(t, where, external));
  }
  return constants;
}

/** A dimension that counts independent inputs: unnamed and first, or named like one. */
const isBatch = (name: string, axis: number): boolean => (name === '' ? axis === 0 : /batch/i.test(name) || /^(N|B|bs)$/.test(name));

function readInputs(graph: GraphProto, constants: ReadonlyMap<string, Tensor>, dims: Readonly<Record<string, number>>): GraphInput[] {
  for (const [name, d] of Object.entries(dims))
    if (!Number.isInteger(d) || d < 1) throw new ModelError(`dimension ${printable(name)} = ${d} is not a positive whole number`);
  const seen = new Set<string>();
  const names = new Set<string>();
  const read = (value: ValueInfoProto): GraphInput => {
    const where = `input '${printable(value.name)}'`;
    if (value.name === '') throw new ModelError('an input has no name');
    if (seen.has(value.name)) throw new ModelError(`${where} is defined twice`);
    seen.add(value.name);
    if (value.type?.value.case !== 'tensorType') throw new ModelError(`${where} is not a tensor`);
    const type = value.type.value.value;
    const dtype = dtypeOf(type.elemType);
    if (dtype === undefined) throw new ModelError(`${where}: element type ${type.elemType} is not supported`);
    if (type.shape === undefined) throw new ModelError(`${where} has no shape: export it with one`);
    if (type.shape.dim.length > 16) throw new ModelError(`${where} has ${type.shape.dim.length} axes`);
    const shape = type.shape.dim.map(({ value: d }, axis): number | string => {
      if (d.case === 'dimValue') {
        const size = integer(d.value);
        if (size < 1 || size >= maxDim) throw new ModelError(`${where}: a dimension of ${size}`);
        return size;
      }
      const name = d.case === 'dimParam' ? printable(d.value) : '';
      const label = name === '' ? `${printable(value.name)}_${axis}` : name;
      names.add(label);
      if (Object.hasOwn(dims, label)) return dims[label];
      return isBatch(name, axis) ? 1 : label;
    });
    return { name: value.name, dtype, shape };
  };
  const inputs = graph.input.filter((v) => !constants.has(v.name)).map(read);
  const unknown = Object.keys(dims).filter((d) => !names.has(d));
  if (unknown.length > 0)
    throw new ModelError(`no dimension is named ${unknown.map(printable).join(', ')}; the file has ${[...names].join(', ') || 'none'}`);
  return inputs;
}

/** Nodes in the file's order, brought to the newest opset; Constant nodes become constants. */
function readNodes(
  graph: GraphProto,
  opset: number,
  constants: Map<string, Tensor>,
  inputs: readonly GraphInput[],
  outputs: readonly string[],
  external: External,
): GraphNode[] {
  const named = uniqueNames(graph.node);
  refuseUnsupported(graph.node, named);
  const read = new Set([...outputs, ...graph.node.flatMap((n) => n.input)]);
  const taken = new Set([...constants.keys(), ...inputs.map((i) => i.name), ...graph.node.flatMap((n) => n.output)]);
  const fresh = (hint: string): string => {
    let name = hint;
    for (let i = 1; taken.has(name); i++) name = `${hint}.${i}`;
    taken.add(name);
    return name;
  };
  const constant = (hint: string, value: Tensor): string => {
    const name = fresh(hint);
    constants.set(name, value);
    return name;
  };
  const defined = new Set([...constants.keys(), ...inputs.map((i) => i.name)]);
  return graph.node.flatMap((n, i) => {
    const attrs = readAttributes(n, named[i], external);
    if (n.opType === 'Constant' && domainOf(n) === '') {
      if (n.output.length !== 1 || n.output[0] === '') throw new ModelError(`${named[i]} (Constant): expected one output`);
      if (defined.has(n.output[0])) throw new ModelError(`${named[i]} (Constant): value '${printable(n.output[0])}' is defined twice`);
      defined.add(n.output[0]);
      constants.set(n.output[0], constantValue(attrs, named[i]));
      return [];
    }
    if (n.output.length === 0) throw new ModelError(`${named[i]} (${n.opType}) has no outputs`);
    const node: GraphNode = { op: n.opType, name: named[i], inputs: trimEnd(n.input), outputs: [...n.output], attrs };
    return normalise(node, domainOf(n), { opset, constant, fresh, used: (name) => read.has(name) });
  });
}

const domainOf = (n: NodeProto): string => (n.domain === 'ai.onnx' ? '' : n.domain);

function trimEnd(names: readonly string[]): string[] {
  let end = names.length;
  while (end > 0 && names[end - 1] === '') end--;
  return names.slice(0, end);
}

function uniqueNames(nodes: readonly NodeProto[]): string[] {
  const seen = new Set<string>();
  return nodes.map((n, i) => {
    const base = printable(n.name) || `${printable(n.opType) || 'node'}_${i}`;
    let name = base;
    for (let k = 1; seen.has(name); k++) name = `${base}#${k === 1 ? i : `${i}.${k}`}`;
    seen.add(name);
    return name;
  });
}

/** One message for all of a file's unsupported operators, with the nodes that use each. */
function refuseUnsupported(nodes: readonly NodeProto[], named: readonly string[]): void {
  const missing = new Map<string, string[]>();
  nodes.forEach((n, i) => {
    const domain = domainOf(n);
    const known = hasRule(n.opType, domain) || (domain === '' && ops.has(n.opType) && !internal.has(n.opType));
    if (known) return;
    const op = printable(domain === '' ? n.opType || '(none)' : `${domain}.${n.opType}`);
    const where = missing.get(op);
    if (where) where.push(named[i]);
    else missing.set(op, [named[i]]);
  });
  if (missing.size === 0) return;
  const list = [...missing].map(
    ([op, where]) => `${op} (${where.slice(0, 8).join(', ')}${where.length > 8 ? `, and ${where.length - 8} more` : ''})`,
  );
  throw new ModelError(`operators that are not supported: ${list.join('; ')}`);
}

/** Operators of graphs that no ONNX file has under that name. */
const internal: ReadonlySet<string> = new Set(['Linear', 'Silu']);

function readAttributes(n: NodeProto, where: string, external: External): Record<string, AttrValue> {
  const attrs: Record<string, AttrValue> = {};
  for (const a of n.attribute) {
    const at = `${where} (${printable(n.opType)}): attribute '${printable(a.name)}'`;
    if (a.name === '' || a.name === '__proto__') throw new ModelError(`${at} has no usable name`);
    if (Object.hasOwn(attrs, a.name)) throw new ModelError(`${at} is given twice`);
    attrs[a.name] = readAttribute(a, at, external);
  }
  return attrs;
}

const utf8 = new TextDecoder();

function readAttribute(a: AttributeProto, at: string, external: External): AttrValue {
  switch (a.type) {
    case A.FLOAT:
      return a.f;
    case A.INT:
      return integer(a.i);
    case A.STRING:
      return utf8.decode(a.s);
    case A.TENSOR:
      if (a.t === undefined) throw new ModelError(`${at} is empty`);
      return readTensor(a.t, at, external);
    case A.FLOATS:
      return a.floats;
    case A.INTS:
      return a.ints.map(integer);
    case A.STRINGS:
      return a.strings.map((s) => utf8.decode(s));
    default:
      throw new ModelError(`${at} has type ${a.type}, which is not supported`);
  }
}

function constantValue(attrs: Record<string, AttrValue>, where: string): Tensor {
  const [[name, v] = ['', undefined]] = Object.entries(attrs);
  if (typeof v === 'object' && 'dtype' in v) return v;
  if (name === 'value_float' && typeof v === 'number') return tensor([v], [], 'f32');
  if (name === 'value_int' && typeof v === 'number') return tensor([v], [], 'i64');
  if (Array.isArray(v) && v.every((e) => typeof e === 'number')) return tensor(v, [v.length], name === 'value_floats' ? 'f32' : 'i64');
  throw new ModelError(`${where} (Constant): ${name ? `attribute ${printable(name)} is not supported` : 'it has no value'}`);
}
