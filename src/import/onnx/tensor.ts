/** ONNX tensors to graph tensors: every element type a model uses, kept as f32, i64 or bool. */
import { ModelError, type Tensor } from '../../graph/graph.ts';
import { TensorProto_DataType as T, type TensorProto, TensorProto_DataLocation } from './onnx_pb.ts';

/** Fetches `length` bytes at `offset` of a side file (length undefined: to its end). */
export type External = (location: string, offset: number, length: number | undefined, where: string) => Uint8Array;

const maxRank = 16;
/** The file must hold them all, so this only guards the arithmetic. */
const maxValues = 2 ** 32;

/** A name from the file, safe to print on one line. */
export function printable(name: string): string {
  const clean = name.replace(/[\p{Cc}\p{Zl}\p{Zp}]/gu, '?');
  return clean.length > 100 ? `${clean.slice(0, 97)}...` : clean;
}

export function integer(v: bigint): number {
  const limit = BigInt(Number.MAX_SAFE_INTEGER);
  return Number(v > limit ? limit : v < -limit ? -limit : v);
}

/** float16 bits to a number. */
export function fromHalf(h: number): number {
  const [sign, e, m] = [h & 0x8000 ? -1 : 1, (h >> 10) & 31, h & 1023];
  if (e === 0) return sign * m * 2 ** -24;
  return e === 31 ? (m ? Number.NaN : sign * Number.POSITIVE_INFINITY) : sign * (1 + m / 1024) * 2 ** (e - 15);
}

const word = new Uint32Array(1);
const asFloat = new Float32Array(word.buffer);
/** bfloat16 bits to a number. */
export function fromBrain(h: number): number {
  word[0] = h << 16;
  return asFloat[0];
}

interface Kind {
  readonly dtype: Tensor['dtype'];
  readonly bytes: number;
  readonly read: (view: DataView, at: number) => number;
  /** Where the values are when they are not raw, and what each means. */
  readonly list: (t: TensorProto) => readonly (number | bigint)[];
  readonly decode?: (v: number) => number;
}

const int32 = (t: TensorProto): number[] => t.int32Data;

const kinds: Record<number, Kind> = {
  [T.FLOAT]: { dtype: 'f32', bytes: 4, read: (v, at) => v.getFloat32(at, true), list: (t) => t.floatData },
  [T.DOUBLE]: { dtype: 'f32', bytes: 8, read: (v, at) => v.getFloat64(at, true), list: (t) => t.doubleData },
  [T.FLOAT16]: {
    dtype: 'f32',
    bytes: 2,
    read: (v, at) => fromHalf(v.getUint16(at, true)),
    list: int32,
    decode: (v) => fromHalf(v & 0xffff),
  },
  [T.BFLOAT16]: {
    dtype: 'f32',
    bytes: 2,
    read: (v, at) => fromBrain(v.getUint16(at, true)),
    list: int32,
    decode: (v) => fromBrain(v & 0xffff),
  },
  [T.INT8]: { dtype: 'i64', bytes: 1, read: (v, at) => v.getInt8(at), list: int32 },
  [T.UINT8]: { dtype: 'i64', bytes: 1, read: (v, at) => v.getUint8(at), list: int32 },
  [T.INT16]: { dtype: 'i64', bytes: 2, read: (v, at) => v.getInt16(at, true), list: int32 },
  [T.UINT16]: { dtype: 'i64', bytes: 2, read: (v, at) => v.getUint16(at, true), list: int32 },
  [T.INT32]: { dtype: 'i64', bytes: 4, read: (v, at) => v.getInt32(at, true), list: int32 },
  [T.UINT32]: { dtype: 'i64', bytes: 4, read: (v, at) => v.getUint32(at, true), list: (t) => t.uint64Data },
  [T.INT64]: { dtype: 'i64', bytes: 8, read: (v, at) => integer(v.getBigInt64(at, true)), list: (t) => t.int64Data },
  [T.UINT64]: { dtype: 'i64', bytes: 8, read: (v, at) => integer(v.getBigUint64(at, true)), list: (t) => t.uint64Data },
  [T.BOOL]: { dtype: 'bool', bytes: 1, read: (v, at) => (v.getUint8(at) ? 1 : 0), list: int32, decode: (v) => (v ? 1 : 0) },
};

/** The graph's type for an ONNX element type; undefined for those no graph holds (strings, complex, 8- and 4-bit floats). */
export const dtypeOf = (elemType: number): Tensor['dtype'] | undefined => kinds[elemType]?.dtype;

/** Reads one tensor; `where` begins each message. The values must be present before anything of their size is allocated. */
export function readTensor(t: TensorProto, where: string, external: External): Tensor {
  const bad = (why: string): never => {
    throw new ModelError(`${where}: ${why}`);
  };
  const kind = kinds[t.dataType];
  if (kind === undefined) return bad(`element type ${t.dataType} is not supported`);
  if (t.dims.length > maxRank) return bad(`${t.dims.length} axes`);
  let n = 1;
  const shape = t.dims.map((d) => {
    if (d < 0n) bad(`a dimension of ${d}`);
    if (d > BigInt(maxValues)) bad(`a dimension of ${d} is too large`);
    n *= Number(d);
    return Number(d);
  });
  if (n > maxValues) return bad(`${n} values are too many`);
  if (t.segment !== undefined) return bad('segments are not supported');
  const fill = (): Tensor['data'] =>
    kind.dtype === 'f32' ? new Float32Array(n) : kind.dtype === 'i64' ? new Float64Array(n) : new Uint8Array(n);

  const outside = t.dataLocation === TensorProto_DataLocation.EXTERNAL;
  if (outside || t.rawData.length > 0) {
    const raw = outside ? fetch(t, n * kind.bytes, where, external) : t.rawData;
    if (raw.length !== n * kind.bytes) return bad(`shape [${shape}] needs ${n * kind.bytes} bytes, the file has ${raw.length}`);
    if (t.dataType === T.FLOAT) return { dtype: 'f32', shape, data: new Float32Array(new Uint8Array(raw).buffer) };
    const data = fill();
    const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
    for (let i = 0; i < n; i++) data[i] = kind.read(view, i * kind.bytes);
    return { dtype: kind.dtype, shape, data };
  }
  const list = kind.list(t);
  if (list.length !== n) return bad(`shape [${shape}] needs ${n} values, the file has ${list.length}`);
  const data = fill();
  for (let i = 0; i < n; i++) {
    const v = list[i];
    const number = typeof v === 'bigint' ? integer(v) : v;
    data[i] = kind.decode ? kind.decode(number) : number;
  }
  return { dtype: kind.dtype, shape, data };
}

function fetch(t: TensorProto, bytes: number, where: string, external: External): Uint8Array {
  const entry = new Map(t.externalData.map((e) => [e.key, e.value]));
  const location = entry.get('location');
  if (!location) throw new ModelError(`${where}: external data without a location`);
  const number = (key: string): number | undefined => {
    const v = entry.get(key);
    if (v === undefined) return undefined;
    if (!/^\d{1,15}$/.test(v)) throw new ModelError(`${where}: external data ${key} is '${printable(v)}'`);
    return Number(v);
  };
  const length = number('length') ?? bytes;
  if (length !== bytes) throw new ModelError(`${where}: needs ${bytes} bytes, its external data has ${length}`);
  return external(location, number('offset') ?? 0, length, where);
}
