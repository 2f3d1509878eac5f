import { ModelError, sizeOf, type Tensor } from '../graph/graph.ts';

/**
 * safetensors, read and written.
 *
 *   | u64 little-endian N | N bytes of JSON | data … |
 *     {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, …, "__metadata__": {"key": "text"}}
 *
 * Offsets count from the end of the header. A file is taken only when its tensors tile the data exactly: no hole, no overlap, nothing
 * after the last, each as long as its dtype and shape say, no name twice (JSON.parse would silently keep the later one). So a file has
 * one meaning and no place to hide bytes in. Bytes come through a `Source`, so one reader serves a buffer here, in a browser, and a file
 * read tensor by tensor (safetensors-file.ts).
 */
const BYTES = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  F8_E4M3: 1,
  F8_E5M2: 1,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U64: 8,
  U32: 4,
  U16: 2,
  U8: 1,
  BOOL: 1,
} as const;
export type SafeDType = keyof typeof BYTES;

/** Upstream's own cap: a longer header is an attack or a mistake. */
export const MAX_HEADER = 100_000_000;

export interface Source {
  /** What messages call it: a path, usually. */
  readonly label: string;
  readonly size: number;
  read(begin: number, end: number): Uint8Array;
}

export interface TensorInfo {
  readonly name: string;
  readonly dtype: SafeDType;
  readonly shape: readonly number[];
  /** Absolute, in the source. */
  readonly begin: number;
  readonly end: number;
}

export interface SafeTensors {
  readonly label: string;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly metadata: ReadonlyMap<string, string>;
  /** The tensor's own bytes; a view where the source is memory. */
  bytes(name: string): Uint8Array;
  /** As the graph wants it: floats widened to f32 (F64 rounded), integers as i64, BOOL as bool. A view where dtype and alignment allow. */
  tensor(name: string): Tensor;
  close(): void;
}

const fail = (label: string, reason: string): never => {
  throw new ModelError(`${label}: ${reason}`);
};
const short = (value: unknown): string => {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
};

/** From bytes in memory. Tensors are views into them. */
export const parseSafetensors = (bytes: Uint8Array, label = 'safetensors'): SafeTensors =>
  readSafetensors({ label, size: bytes.byteLength, read: (begin, end) => bytes.subarray(begin, end) });

export function readSafetensors(source: Source, close: () => void = () => {}): SafeTensors {
  const { label, size } = source;
  if (size < 8) fail(label, `not a safetensors file: ${size} bytes, and the length of its header alone takes 8`);
  const first = source.read(0, 8);
  const headerLength = Number(new DataView(first.buffer, first.byteOffset, 8).getBigUint64(0, true));
  if (headerLength > MAX_HEADER)
    fail(label, `not a safetensors file: it claims a header of ${headerLength} bytes, the limit is ${MAX_HEADER}`);
  const start = 8 + headerLength;
  if (start > size) fail(label, `cut short: the header ends at byte ${start}, the file at ${size}`);
  const tensors = new Map<string, TensorInfo>();
  const metadata = new Map<string, string>();
  for (const [name, value] of entriesOf(label, source.read(8, start))) {
    if (name === '__metadata__') {
      if (!isObject(value)) fail(label, '__metadata__ is not an object');
      for (const [k, v] of Object.entries(value as object))
        metadata.set(k, typeof v === 'string' ? v : fail(label, `__metadata__ ${short(k)} is not a string`));
    } else tensors.set(name, entry(label, name, value, start, size));
  }
  const order = [...tensors.values()].sort((a, b) => a.begin - b.begin || a.end - b.end);
  let at = start;
  for (const { name, begin, end } of order) {
    if (begin < at)
      fail(label, `tensor ${short(name)} overlaps the one before it: it begins at ${begin - start}, that ends at ${at - start}`);
    if (begin > at) fail(label, `hole of ${begin - at} bytes before tensor ${short(name)}`);
    at = end;
  }
  if (at !== size) fail(label, `${size - at} bytes after the last tensor belong to none`);
  const info = (name: string): TensorInfo => tensors.get(name) ?? fail(label, `no tensor ${short(name)}`);
  const bytes = (name: string): Uint8Array => {
    const { begin, end } = info(name);
    return source.read(begin, end);
  };
  return { label, tensors, metadata, bytes, tensor: (name) => decode(label, info(name), bytes(name)), close };
}

const isObject = (x: unknown): x is Record<string, unknown> => typeof x === 'object' && x !== null && !Array.isArray(x);
const isSize = (x: unknown): x is number => typeof x === 'number' && Number.isSafeInteger(x) && x >= 0;

function entriesOf(label: string, bytes: Uint8Array): [string, unknown][] {
  if (bytes[0] !== 0x7b) fail(label, 'the header does not begin with {');
  let text = '';
  let header: unknown;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    header = JSON.parse(text);
  } catch (e) {
    fail(label, `the header is not JSON: ${(e as Error).message}`);
  }
  const twice = duplicateKey(text);
  if (twice !== undefined) fail(label, `${short(twice)} stands twice in the header`);
  return Object.entries(header as object);
}

/** The first key an object of this (valid) JSON text holds twice. */
export function duplicateKey(text: string): string | undefined {
  const open: (Set<string> | null)[] = [];
  let key = false;
  // Strings whole, then the punctuation that decides whether the next string is a key; all else is skipped.
  for (const [token] of text.matchAll(/"(?:[^"\\]+|\\.)*"|[{}[\],:]/g)) {
    if (token === '{') open.push(new Set());
    else if (token === '[') open.push(null);
    else if (token === '}' || token === ']') open.pop();
    const keys = open.at(-1);
    if (token[0] === '"' && key && keys) {
      const name = JSON.parse(token) as string;
      if (keys.has(name)) return name;
      keys.add(name);
    }
    key = token === '{' || (token === ',' && !!keys);
  }
  return undefined;
}

function entry(label: string, name: string, value: unknown, start: number, size: number): TensorInfo {
  const bad = (reason: string): never => fail(label, `tensor ${short(name)} ${reason}`);
  if (!isObject(value)) return bad('has no description');
  for (const key of Object.keys(value))
    if (key !== 'dtype' && key !== 'shape' && key !== 'data_offsets') bad(`has an unknown field ${short(key)}`);
  const { dtype, shape, data_offsets: offsets } = value;
  if (typeof dtype !== 'string' || !Object.hasOwn(BYTES, dtype))
    return bad(`has dtype ${short(dtype)}; known are ${Object.keys(BYTES).join(', ')}`);
  if (!Array.isArray(shape) || shape.length > 32 || !shape.every(isSize))
    return bad(`has shape ${short(shape)}: up to 32 whole numbers ≥ 0 are expected`);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isSize))
    return bad(`has offsets ${short(offsets)}: two whole numbers ≥ 0 are expected`);
  const [begin, end] = offsets as [number, number];
  if (begin > end) bad(`ends (${end}) before it begins (${begin})`);
  if (end > size - start) bad(`ends at byte ${end} of the data, which has ${size - start}: the file is cut short or the header lies`);
  const bytes = sizeOf(shape) * BYTES[dtype as SafeDType];
  if (bytes !== end - begin) bad(`is ${dtype} [${shape}]: ${bytes} bytes, but its offsets span ${end - begin}`);
  return { name, dtype: dtype as SafeDType, shape, begin: start + begin, end: start + end };
}

const halfToFloat = (h: number): number => {
  const exponent = (h >> 10) & 31;
  const fraction = h & 1023;
  const magnitude =
    exponent === 0
      ? fraction * 2 ** -24
      : exponent === 31
        ? fraction
          ? Number.NaN
          : Number.POSITIVE_INFINITY
        : (1024 + fraction) * 2 ** (exponent - 25);
  return h & 0x8000 ? -magnitude : magnitude;
};
/** E4M3 (fn): no infinities, 0x7f is NaN. E5M2 is a half with its low byte cut off. */
const e4m3ToFloat = (b: number): number => {
  const exponent = (b >> 3) & 15;
  const magnitude = (b & 127) === 127 ? Number.NaN : exponent === 0 ? (b & 7) * 2 ** -9 : (8 + (b & 7)) * 2 ** (exponent - 10);
  return b & 128 ? -magnitude : magnitude;
};

function decode(label: string, { name, dtype, shape }: TensorInfo, bytes: Uint8Array): Tensor {
  const width = BYTES[dtype];
  const n = bytes.byteLength / width;
  const { buffer, byteOffset } = bytes.byteOffset % width === 0 ? bytes : bytes.slice();
  const float = (data: Float32Array): Tensor => ({ dtype: 'f32', shape, data });
  const integer = (data: ArrayLike<number>): Tensor => ({ dtype: 'i64', shape, data: Float64Array.from(data) });
  switch (dtype) {
    case 'F32':
      return float(new Float32Array(buffer, byteOffset, n));
    case 'F64':
      return float(Float32Array.from(new Float64Array(buffer, byteOffset, n)));
    case 'F16':
      return float(Float32Array.from(new Uint16Array(buffer, byteOffset, n), halfToFloat));
    case 'BF16':
      return float(new Float32Array(Uint32Array.from(new Uint16Array(buffer, byteOffset, n), (h) => h << 16).buffer));
    case 'F8_E4M3':
      return float(Float32Array.from(bytes, e4m3ToFloat));
    case 'F8_E5M2':
      return float(Float32Array.from(bytes, (b) => halfToFloat(b << 8)));
    case 'I64':
    case 'U64': {
      const words = dtype === 'I64' ? new BigInt64Array(buffer, byteOffset, n) : new BigUint64Array(buffer, byteOffset, n);
      const data = new Float64Array(n);
      for (let i = 0; i < n; i++) {
        data[i] = Number(words[i]);
        if (!Number.isSafeInteger(data[i])) fail(label, `tensor ${short(name)} holds ${words[i]}, beyond 2^53`);
      }
      return { dtype: 'i64', shape, data };
    }
    case 'I32':
      return integer(new Int32Array(buffer, byteOffset, n));
    case 'U32':
      return integer(new Uint32Array(buffer, byteOffset, n));
    case 'I16':
      return integer(new Int16Array(buffer, byteOffset, n));
    case 'U16':
      return integer(new Uint16Array(buffer, byteOffset, n));
    case 'I8':
      return integer(new Int8Array(buffer, byteOffset, n));
    case 'U8':
      return integer(bytes);
    case 'BOOL':
      if (bytes.some((b) => b > 1)) fail(label, `tensor ${short(name)} is BOOL and holds a byte other than 0 and 1`);
      return { dtype: 'bool', shape, data: bytes };
  }
}

export interface TensorData {
  readonly dtype: SafeDType;
  readonly shape: readonly number[];
  /** Little-endian words of that dtype, in any typed array. */
  readonly data: ArrayBufferView;
}

/** A graph's tensor as this format stores it. */
export const toTensorData = ({ dtype, shape, data }: Tensor): TensorData =>
  dtype === 'i64'
    ? { dtype: 'I64', shape, data: BigInt64Array.from(data as Float64Array, BigInt) }
    : { dtype: dtype === 'bool' ? 'BOOL' : 'F32', shape, data };

/** The file in pieces: header first, then each tensor's bytes, `data` looked at only then, so that a large one need not be in memory twice. Wide dtypes first, then
 *  by name: the same tensors give the same bytes, and each begins at a multiple of its own width. */
export function* safetensorsChunks(
  tensors: ReadonlyMap<string, TensorData>,
  metadata: ReadonlyMap<string, string> = new Map(),
): Generator<Uint8Array> {
  const order = [...tensors].sort(([a, x], [b, y]) => BYTES[y.dtype] - BYTES[x.dtype] || (a < b ? -1 : 1));
  const header: [string, unknown][] = metadata.size > 0 ? [['__metadata__', Object.fromEntries(metadata)]] : [];
  let at = 0;
  for (const [name, { dtype, shape }] of order) {
    if (name === '__metadata__') throw new RangeError('a tensor cannot be called __metadata__');
    const end = at + sizeOf(shape) * BYTES[dtype];
    header.push([name, { dtype, shape, data_offsets: [at, end] }]);
    at = end;
  }
  // Not JSON.stringify of an object: a tensor named "7" would be moved to the front, one named "__proto__" lost.
  const json = new TextEncoder().encode(`{${header.map(([k, v]) => `${JSON.stringify(k)}:${JSON.stringify(v)}`).join(',')}}`);
  const length = Math.ceil(json.length / 8) * 8;
  const first = new Uint8Array(8 + length).fill(0x20);
  new DataView(first.buffer).setBigUint64(0, BigInt(length), true);
  first.set(json, 8);
  yield first;
  for (const [name, tensor] of order) {
    const { data } = tensor;
    if (sizeOf(tensor.shape) * BYTES[tensor.dtype] !== data.byteLength)
      throw new RangeError(`tensor '${name}' is ${tensor.dtype} [${tensor.shape}] and has ${data.byteLength} bytes`);
    yield new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  }
}

export function writeSafetensors(tensors: ReadonlyMap<string, TensorData>, metadata?: ReadonlyMap<string, string>): Uint8Array {
  const chunks = [...safetensorsChunks(tensors, metadata)];
  const out = new Uint8Array(chunks.reduce((n, c) => n + c.length, 0));
  let at = 0;
  for (const chunk of chunks) {
    out.set(chunk, at);
    at += chunk.length;
  }
  return out;
}
