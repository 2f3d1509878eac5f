/** Tensors out of the files a person may give. */
import { readFileSync } from 'node:fs';
import { type Graph, type GraphInput, sizeOf, type Tensor } from '../graph/graph.ts';
import { readNpy } from '../import/npy.ts';
import { UsageError } from './terminal.ts';

export function readFileOf(path: string): Uint8Array {
  try {
    // A plain array of its own: a Buffer is a view of a pool, and its slice() is no copy.
    return new Uint8Array(readFileSync(path));
  } catch (e) {
    const code = (e as NodeJS.ErrnoException).code;
    throw new UsageError(
      `${path}: ${code === 'ENOENT' ? 'no such file' : code === 'EISDIR' ? 'is a folder; a file is expected' : `cannot be read (${code})`}`,
    );
  }
}

export const isImageFile = (path: string): boolean => /\.(png|jpe?g|webp|gif|tiff?|avif|heic|bmp|svg)$/i.test(path);

/** A tensor as an input wants it: its type, and leading ones more or less. */
export function shaped(t: Tensor, input: GraphInput, label: string): Tensor {
  const numbers =
    input.dtype === 'f32' ? Float32Array.from(t.data) : input.dtype === 'i64' ? Float64Array.from(t.data) : Uint8Array.from(t.data);
  if (input.dtype === 'i64' && !numbers.every((v) => Number.isInteger(v)))
    throw new UsageError(`${label}: whole numbers are expected for '${input.name}'`);
  const fits = (shape: readonly number[]): boolean =>
    shape.length === input.shape.length && input.shape.every((d, i) => typeof d === 'string' || d === shape[i]);
  const bare = t.shape.slice(t.shape.findIndex((d) => d !== 1) < 0 ? t.shape.length : t.shape.findIndex((d) => d !== 1));
  const shape = [t.shape, [...new Array<number>(Math.max(0, input.shape.length - bare.length)).fill(1), ...bare]].find(fits);
  if (!shape) throw new UsageError(`${label}: '${input.name}' takes [${input.shape}], the file has [${t.shape}]`);
  return { dtype: input.dtype, shape, data: numbers };
}

/** .npy or .json → one set of inputs, or several when an .npy file holds a batch of what the graph takes one of. */
export function tensorsFrom(path: string, graph: Graph): Record<string, Tensor>[] {
  if (path.endsWith('.json')) return [jsonTensors(new TextDecoder().decode(readFileOf(path)), graph, path)];
  const t = readNpy(readFileOf(path), path);
  if (graph.inputs.length !== 1)
    throw new UsageError(
      `${path}: the model has the inputs ${graph.inputs.map((i) => i.name).join(', ')}`,
      `say which: ${graph.inputs.map((i) => `--input ${i.name}=FILE.npy`).join(' ')}`,
    );
  const [input] = graph.inputs;
  const one = input.shape[0] === 1 && t.shape.length === input.shape.length && t.shape[0] > 1;
  if (!one) return [{ [input.name]: shaped(t, input, path) }];
  const size = sizeOf(t.shape.slice(1));
  return Array.from({ length: t.shape[0] }, (_, i) => ({
    [input.name]: shaped({ dtype: t.dtype, shape: [1, ...t.shape.slice(1)], data: t.data.slice(i * size, (i + 1) * size) }, input, path),
  }));
}

/** {"name": TENSOR, …}, or one TENSOR for a model with one input; a TENSOR is nested lists, or {"shape": […], "data": […]}. */
export function jsonTensors(text: string, graph: Graph, label: string): Record<string, Tensor> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (e) {
    throw new UsageError(`${label}: not JSON: ${(e as Error).message}`);
  }
  const named = typeof value === 'object' && value !== null && !Array.isArray(value) && !('data' in value);
  if (!named && graph.inputs.length !== 1)
    throw new UsageError(
      `${label}: the model has the inputs ${graph.inputs.map((i) => i.name).join(', ')}; {"${graph.inputs[0]?.name}": …} is expected`,
    );
  const entries = named ? Object.entries(value as object) : [[graph.inputs[0].name, value] as const];
  return Object.fromEntries(
    entries.map(([name, v]) => {
      const input = graph.inputs.find((i) => i.name === name);
      if (!input)
        throw new UsageError(`${label}: no input is called '${name}'; the model has ${graph.inputs.map((i) => i.name).join(', ')}`);
      return [name, shaped(jsonTensor(v, `${label}: '${name}'`), input, label)];
    }),
  );
}

function jsonTensor(value: unknown, label: string): Tensor {
  const numbers: number[] = [];
  if (typeof value === 'object' && value !== null && 'data' in value && 'shape' in value) {
    const { shape, data } = value;
    const isShape = Array.isArray(shape) && shape.every((d) => Number.isInteger(d) && d >= 0);
    if (!isShape || !Array.isArray(data) || !data.every((v) => typeof v === 'number') || data.length !== sizeOf(shape as number[]))
      throw new UsageError(`${label}: {"shape": [2, 3], "data": [six numbers]} is expected`);
    return { dtype: 'f32', shape: shape as number[], data: Float64Array.from(data) };
  }
  const shapeOf = (v: unknown): number[] => (Array.isArray(v) ? [v.length, ...(v.length > 0 ? shapeOf(v[0]) : [])] : []);
  const shape = shapeOf(value);
  const walk = (v: unknown, depth: number): void => {
    if (depth === shape.length) {
      if (typeof v !== 'number') throw new UsageError(`${label}: holds ${JSON.stringify(v)?.slice(0, 40)} where a number is expected`);
      numbers.push(v);
    } else if (!Array.isArray(v) || v.length !== shape[depth]) throw new UsageError(`${label}: its lists are not all of one length`);
    else for (const x of v) walk(x, depth + 1);
  };
  walk(value, 0);
  return { dtype: 'f32', shape, data: Float64Array.from(numbers) };
}
