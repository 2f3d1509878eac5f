/**
 * A graph as files: NAME.json says nodes, inputs and outputs; constants, and tensors inside attributes, lie in a safetensors file that
 * several graphs may share, each under its own prefix. What came in few bits is written as it came.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import type { AttrValue, Graph, Tensor } from '../graph/graph.ts';
import { type AttrJson, type GraphJson, graphOf, type NonFinite } from '../import/graph-json.ts';
import { lowBitTensor } from '../import/gguf/low-bit.ts';
import { formats } from '../import/gguf/quants.ts';
import { type SafeTensors, type TensorData, toTensorData } from '../import/safetensors.ts';
import { openSafetensors } from '../import/safetensors-file.ts';
import { canonical, parseJson, readText, writeTensors } from './files.ts';

const dimension = z.union([z.int().min(0), z.string().min(1)]);
/** Numbers JSON lacks are written as text. */
const nonFinite = z.enum(['Infinity', '-Infinity', 'NaN']);
const attr = z.union([
  z.number(),
  z.string(),
  z.array(z.number()),
  z.array(z.string()),
  z.strictObject({ tensor: z.string() }),
  z.strictObject({ number: nonFinite }),
  z.strictObject({ numbers: z.array(z.union([z.number(), nonFinite])) }),
]);
const GraphFile = z.strictObject({
  format: z.literal('subrosa-graph/1'),
  name: z.string(),
  inputs: z.array(z.strictObject({ name: z.string(), dtype: z.enum(['f32', 'i64', 'bool']), shape: z.array(dimension).max(16) })),
  outputs: z.array(z.string()),
  constants: z.array(z.string()),
  nodes: z.array(
    z.strictObject({
      op: z.string(),
      name: z.string(),
      inputs: z.array(z.string()),
      outputs: z.array(z.string()),
      attrs: z.record(z.string(), attr),
    }),
  ),
  caches: z.array(z.strictObject({ input: z.string(), output: z.string() })).optional(),
  lowBit: z
    .record(z.string(), z.strictObject({ type: z.enum([...formats.keys(), 'F16', 'BF16', 'F32']), shape: z.tuple([z.int().min(1), z.int().min(1)]) }))
    .optional(),
});

/** The graph's JSON; its tensors are added to `tensors`. */
export function graphToJson(graph: Graph, prefix: string, tensors: Map<string, TensorData>): string {
  const lowBit: NonNullable<GraphJson['lowBit']> = {};
  const keep = (name: string, t: Tensor): string => {
    if (t.lowBit) {
      const { type, shape, bytes } = t.lowBit;
      lowBit[name] = { type, shape };
      tensors.set(`${prefix}${name}`, { dtype: 'U8', shape: [bytes.length], data: bytes });
    } else tensors.set(`${prefix}${name}`, toTensorData(t));
    return name;
  };
  const attrOf = (node: string, key: string, value: AttrValue): AttrJson => {
    if (typeof value === 'string') return value;
    if (typeof value === 'number') return Number.isFinite(value) ? value : { number: text(value) };
    if (!Array.isArray(value)) return { tensor: keep(`attribute:${node}:${key}`, value) };
    if (value.every((v) => typeof v === 'string')) return value as string[];
    const numbers = value as number[];
    return numbers.every((v) => Number.isFinite(v)) ? numbers : { numbers: numbers.map((v) => (Number.isFinite(v) ? v : text(v))) };
  };
  return canonical({
    format: 'subrosa-graph/1',
    name: graph.name,
    inputs: graph.inputs.map(({ name, dtype, shape }) => ({ name, dtype, shape })),
    outputs: graph.outputs,
    constants: [...graph.constants].map(([name, t]) => keep(name, t)),
    ...(Object.keys(lowBit).length > 0 ? { lowBit } : {}),
    nodes: graph.nodes.map(({ op, name, inputs, outputs, attrs }) => ({
      op,
      name,
      inputs,
      outputs,
      attrs: Object.fromEntries(Object.entries(attrs).map(([k, v]) => [k, attrOf(name, k, v)])),
    })),
    ...(graph.caches ? { caches: graph.caches } : {}),
  });
}

const text = (v: number): NonFinite => String(v) as NonFinite;

/** What `graphToJson` wrote. Throws ModelError, and nothing else, for anything else. */
export const graphFromJson = (json: string, prefix: string, file: SafeTensors, path: string): Graph =>
  graphOf(parseJson<GraphJson>(json, GraphFile, path), prefix, file, path, lowBitTensor);

/** Several graphs in one folder: NAME.json each, and one `tensors` file for all. */
export function writeGraphs(dir: string, graphs: Readonly<Record<string, Graph>>, tensors: string): void {
  const all = new Map<string, TensorData>();
  for (const [name, graph] of Object.entries(graphs))
    writeFileSync(join(dir, `${name}.json`), graphToJson(graph, `${name}/`, all), { flag: 'wx' });
  writeTensors(join(dir, tensors), all);
}

export function readGraphs<N extends string>(dir: string, names: readonly N[], tensors: string): Record<N, Graph> {
  const file = openSafetensors(join(dir, tensors));
  try {
    return Object.fromEntries(
      names.map((name) => {
        const path = join(dir, `${name}.json`);
        return [name, graphFromJson(readText(path), `${name}/`, file, path)];
      }),
    ) as Record<N, Graph>;
  } finally {
    file.close();
  }
}

/** One graph: `dir`/graph.json and `dir`/graph.safetensors. */
export const writeGraph = (dir: string, graph: Graph): void => writeGraphs(dir, { graph }, 'graph.safetensors');
export const readGraph = (dir: string): Graph => readGraphs(dir, ['graph'], 'graph.safetensors').graph;
