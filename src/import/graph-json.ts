/**
 * A graph's JSON, as it is on disk and as parties serve it (src/folder/graph.ts checks files; a client has checked their hash). Tensors lie in a
 * safetensors file, each graph's under a prefix. No Node imports: a page reads graphs too.
 */
import { type AttrValue, type DType, type Graph, ModelError, type Tensor } from '../graph/graph.ts';
import type { SafeTensors } from './safetensors.ts';

/** Numbers JSON lacks are written as text. */
export type NonFinite = 'Infinity' | '-Infinity' | 'NaN';
export type AttrJson =
  | number
  | string
  | number[]
  | string[]
  | { readonly tensor: string }
  | { readonly number: NonFinite }
  | { readonly numbers: (number | NonFinite)[] };

export interface GraphJson {
  readonly format: 'subrosa-graph/1';
  readonly name: string;
  readonly inputs: { readonly name: string; readonly dtype: DType; readonly shape: (number | string)[] }[];
  readonly outputs: string[];
  readonly constants: string[];
  readonly nodes: {
    readonly op: string;
    readonly name: string;
    readonly inputs: string[];
    readonly outputs: string[];
    readonly attrs: Record<string, AttrJson>;
  }[];
  readonly caches?: { readonly input: string; readonly output: string }[];
  /** Constants that lie in the file as blocks of a type, [out, in]. */
  readonly lowBit?: Record<string, { readonly type: string; readonly shape: readonly [number, number] }>;
}

/** Makes a constant of its blocks; clients' graphs have none, and clients no code for them. */
export type FewBits = (type: string, shape: readonly [number, number], bytes: Uint8Array) => Tensor;

/** Throws ModelError when a tensor is missing. */
export function graphOf(g: GraphJson, prefix: string, file: SafeTensors, label: string, fewBits?: FewBits): Graph {
  const stored = (name: string): Tensor => {
    if (!file.tensors.has(`${prefix}${name}`)) throw new ModelError(`${label}: its tensor '${name}' is not in ${file.label}`);
    const blocks = g.lowBit && Object.hasOwn(g.lowBit, name) ? g.lowBit[name] : undefined;
    if (!blocks) return file.tensor(`${prefix}${name}`);
    if (!fewBits) throw new ModelError(`${label}: '${name}' is kept in blocks, which are not read here`);
    return fewBits(blocks.type, blocks.shape, file.bytes(`${prefix}${name}`));
  };
  const attrOf = (value: AttrJson): AttrValue => {
    if (typeof value !== 'object' || Array.isArray(value)) return value;
    if ('tensor' in value) return stored(value.tensor);
    return 'number' in value ? Number(value.number) : value.numbers.map(Number);
  };
  return {
    name: g.name,
    inputs: g.inputs,
    outputs: g.outputs,
    nodes: g.nodes.map((n) => ({ ...n, attrs: Object.fromEntries(Object.entries(n.attrs).map(([k, v]) => [k, attrOf(v)])) })),
    constants: new Map(g.constants.map((name) => [name, stored(name)])),
    ...(g.caches ? { caches: g.caches } : {}),
  };
}
