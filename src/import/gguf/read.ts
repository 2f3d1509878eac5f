/**
 * GGUF, read: llama.cpp's file of a whole language model.
 *
 *   'GGUF' | u32 version | u64 tensors | u64 pairs | pairs … | tensor infos … | padding | data …
 *     pair: string key, u32 type, value                       string: u64 length, UTF-8
 *     info: string name, u32 dims, u64 sizes (fastest first), u32 type, u64 offset into the data (a multiple of general.alignment)
 *
 * As with safetensors a file is taken only when its tensors tile the data, padding apart: nothing overlaps, nothing hides between them, no
 * name or key stands twice. Counts are held against the bytes that are left before anything is allocated. Why not @huggingface/gguf: it
 * fetches asynchronously from addresses, reads the header only, and trusts its counts; blocks are needed here as well.
 */
import { ModelError, type Tensor } from '../../graph/graph.ts';
import type { Source } from '../safetensors.ts';
import { blockOf, dequantise, typeIds } from './quants.ts';

export type GgufValue = number | string | boolean | GgufArray;
/** Numbers as they are stored where that fits (64-bit integers as doubles), strings, booleans, or arrays again. */
export type GgufArray = ArrayLike<number> | readonly string[] | readonly boolean[] | readonly GgufArray[];

export interface GgufTensor {
  readonly name: string;
  /** 'F32', 'Q4_1' … */
  readonly dtype: string;
  /** Row-major: [out, in] of a matrix; blocks run along the last axis. */
  readonly shape: readonly number[];
  /** Absolute, in the source. */
  readonly begin: number;
  readonly end: number;
}

export interface Gguf {
  readonly label: string;
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly tensors: ReadonlyMap<string, GgufTensor>;
  /** The tensor's blocks as they lie in the file. */
  bytes(name: string): Uint8Array;
  /** The tensor in floats. */
  tensor(name: string): Tensor;
  close(): void;
}

const maxText = 1 << 24;
const maxDims = 4;
/** Arrays in arrays in arrays: nobody writes them deeper. */
const maxDepth = 3;

/** Bytes of a fixed-size value by GGUF's type number. 8 is a string, 9 an array. */
const widths: readonly (number | undefined)[] = [1, 1, 2, 2, 4, 4, 4, 1, undefined, undefined, 8, 8, 8];
const [STRING, ARRAY, BOOL] = [8, 9, 7];

/** From bytes in memory. */
export const parseGguf = (bytes: Uint8Array, label = 'gguf'): Gguf =>
  readGguf({ label, size: bytes.byteLength, read: (begin, end) => bytes.subarray(begin, end) });

export function readGguf(source: Source, close: () => void = () => {}): Gguf {
  const { label, size } = source;
  const fail = (reason: string): never => {
    throw new ModelError(`${label}: ${reason}`);
  };
  const c = new Cursor(source);
  if (size < 24 || c.u32() !== 0x46554747) fail('not a GGUF file');
  const version = c.u32();
  if (version !== 2 && version !== 3)
    fail(version > 0xffff ? 'a big-endian GGUF file; only little-endian ones are read' : `GGUF version ${version}; 2 and 3 are read`);
  const [tensorCount, pairCount] = [c.u64('number of tensors'), c.u64('number of metadata entries')];
  // The least a description takes: two lengths or counts, a type, an offset.
  if (tensorCount * 24 + pairCount * 13 > size) fail(`claims ${tensorCount} tensors and ${pairCount} entries in ${size} bytes`);

  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < pairCount; i++) {
    const key = c.text('a key');
    if (metadata.has(key)) fail(`metadata ${short(key)} stands twice`);
    metadata.set(key, value(c, key, c.u32(), 0));
  }
  const alignment = metadata.get('general.alignment') ?? 32;
  if (typeof alignment !== 'number' || !(alignment >= 1 && alignment <= 1 << 20) || (alignment & (alignment - 1)) !== 0)
    return fail(`general.alignment is ${short(alignment)}: a power of two is expected`);

  const infos: { name: string; dtype: string; shape: number[]; offset: number; bytes: number }[] = [];
  const names = new Set<string>();
  for (let i = 0; i < tensorCount; i++) {
    const name = c.text('a tensor');
    const bad = (reason: string): never => fail(`tensor ${short(name)} ${reason}`);
    if (names.has(name)) bad('stands twice');
    names.add(name);
    const dims = c.u32();
    if (dims > maxDims) bad(`has ${dims} dimensions, the limit is ${maxDims}`);
    const shape = Array.from({ length: dims }, () => c.u64(`size of ${short(name)}`)).reverse();
    const type = c.u32();
    const dtype = typeIds.get(type) ?? bad(`has type ${type}; known are ${[...typeIds.values()].join(', ')}`);
    const offset = c.u64(`offset of ${short(name)}`);
    const { size: block, bytes: width } = blockOf(dtype);
    if (block > 1 && (shape.at(-1) ?? 1) % block !== 0) bad(`is ${dtype} [${shape}]: its rows are no whole blocks of ${block}`);
    const count = shape.reduce((a, b) => a * b, 1);
    const bytes = (count / block) * width;
    if (!(bytes <= size)) bad(`is ${dtype} [${shape}], more than the whole file holds`);
    if (offset % alignment !== 0) bad(`begins at ${offset}, no multiple of ${alignment}`);
    infos.push({ name, dtype, shape, offset, bytes });
  }
  const up = (n: number): number => Math.ceil(n / alignment) * alignment;
  const start = up(c.at);
  if (start > size && infos.length > 0) fail(`cut short: its data begins at byte ${start}, the file ends at ${size}`);
  let end = 0;
  for (const t of [...infos].sort((a, b) => a.offset - b.offset || a.bytes - b.bytes)) {
    if (t.offset < end) fail(`tensor ${short(t.name)} overlaps the one before it: it begins at ${t.offset}, that ends at ${end}`);
    if (t.offset > up(end)) fail(`hole of ${t.offset - end} bytes before tensor ${short(t.name)}`);
    end = t.offset + t.bytes;
    if (start + end > size) fail(`cut short: tensor ${short(t.name)} ends at byte ${start + end}, the file at ${size}`);
  }
  if (size > start + up(end)) fail(`${size - start - end} bytes after the last tensor belong to none`);

  const tensors = new Map(
    infos.map(({ name, dtype, shape, offset, bytes }) => [
      name,
      { name, dtype, shape, begin: start + offset, end: start + offset + bytes },
    ]),
  );
  const info = (name: string): GgufTensor => tensors.get(name) ?? fail(`no tensor ${short(name)}`);
  const bytes = (name: string): Uint8Array => source.read(info(name).begin, info(name).end);
  const tensor = (name: string): Tensor => {
    const { dtype, shape } = info(name);
    return {
      dtype: 'f32',
      shape,
      data: dequantise(
        dtype,
        bytes(name),
        shape.reduce((a, b) => a * b, 1),
      ),
    };
  };
  return { label, metadata, tensors, bytes, tensor, close };
}

const short = (v: unknown): string => {
  const text = JSON.stringify(v) ?? String(v);
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
};

function value(c: Cursor, key: string, type: number, depth: number): GgufValue {
  if (type === STRING) return c.text(short(key));
  if (type === ARRAY) return array(c, key, depth);
  const width = widths[type];
  if (width === undefined) return c.fail(`metadata ${short(key)} has type ${type}, which is none`);
  const n = number(c.take(width, short(key)), 0, type, (reason) => c.fail(`metadata ${short(key)} ${reason}`));
  return type === BOOL ? n === 1 : n;
}

function array(c: Cursor, key: string, depth: number): GgufArray {
  if (depth >= maxDepth) return c.fail(`metadata ${short(key)}: arrays nested deeper than ${maxDepth}`);
  const type = c.u32();
  const count = c.u64(`length of ${short(key)}`);
  const width = widths[type];
  // A string takes at least its length, an array its type and length.
  const least =
    width ?? (type === STRING ? 8 : type === ARRAY ? 12 : c.fail(`metadata ${short(key)} has items of type ${type}, which is none`));
  if (count * least > c.left) return c.fail(`metadata ${short(key)} claims ${count} items in ${c.left} bytes`);
  if (type === STRING) return Array.from({ length: count }, () => c.text(short(key)));
  if (type === ARRAY) return Array.from({ length: count }, () => array(c, key, depth + 1));
  const view = c.take(count * least, short(key));
  const bad = (reason: string): never => c.fail(`metadata ${short(key)} ${reason}`);
  if (type === BOOL) return Array.from({ length: count }, (_, i) => number(view, i, type, bad) === 1);
  const out = type === 6 ? new Float32Array(count) : least <= 4 && type !== 4 ? new Int32Array(count) : new Float64Array(count);
  for (let i = 0; i < count; i++) out[i] = number(view, i * least, type, bad);
  return out;
}

function number(v: DataView, at: number, type: number, bad: (reason: string) => never): number {
  switch (type) {
    case 0:
      return v.getUint8(at);
    case 1:
      return v.getInt8(at);
    case 2:
      return v.getUint16(at, true);
    case 3:
      return v.getInt16(at, true);
    case 4:
      return v.getUint32(at, true);
    case 5:
      return v.getInt32(at, true);
    case 6:
      return v.getFloat32(at, true);
    case 7:
      return v.getUint8(at) > 1 ? bad(`is a boolean and holds ${v.getUint8(at)}`) : v.getUint8(at);
    case 12:
      return v.getFloat64(at, true);
    default: {
      const n = Number(type === 10 ? v.getBigUint64(at, true) : v.getBigInt64(at, true));
      return Number.isSafeInteger(n) ? n : bad(`holds ${n}, beyond 2^53`);
    }
  }
}

/** Reads onwards, a megabyte at a time. */
class Cursor {
  at = 0;
  private chunk: Uint8Array = new Uint8Array();
  private from = 0;
  private readonly decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

  constructor(private readonly source: Source) {}

  get left(): number {
    return this.source.size - this.at;
  }

  fail(reason: string): never {
    throw new ModelError(`${this.source.label}: ${reason}`);
  }

  take(n: number, what: string): DataView {
    if (n > this.left)
      this.fail(`cut short in its header, at ${what}: byte ${this.at + n} is wanted, the file ends at ${this.source.size}`);
    if (this.at < this.from || this.at + n > this.from + this.chunk.length) {
      this.from = this.at;
      this.chunk = this.source.read(this.at, Math.min(this.source.size, this.at + Math.max(n, 1 << 20)));
    }
    const view = new DataView(this.chunk.buffer, this.chunk.byteOffset + this.at - this.from, n);
    this.at += n;
    return view;
  }

  u32(): number {
    return this.take(4, 'a number').getUint32(0, true);
  }

  u64(what: string): number {
    const n = this.take(8, what).getBigUint64(0, true);
    return n <= Number.MAX_SAFE_INTEGER ? Number(n) : this.fail(`${what} is ${n}`);
  }

  text(what: string): string {
    const n = this.u64(`length of ${what}`);
    if (n > maxText) this.fail(`${what} is a text of ${n} bytes, the limit is ${maxText}`);
    const view = this.take(n, what);
    try {
      return this.decoder.decode(view);
    } catch {
      return this.fail(`${what} is not UTF-8`);
    }
  }
}
