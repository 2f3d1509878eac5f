/** Writes GGUF files, for tests. */
export type Item =
  | { u8: number }
  | { u32: number }
  | { u64: bigint }
  | { f32: number }
  | { bool: boolean }
  | string
  | { array: number; items: Item[] };
export interface Stored {
  readonly name: string;
  /** Row-major. */
  readonly shape: readonly number[];
  /** ggml's number. */
  readonly type: number;
  readonly bytes: Uint8Array;
  /** Where it claims to lie; in order and padded unless said. */
  readonly offset?: number;
}

class Bytes {
  readonly parts: Uint8Array[] = [];
  length = 0;
  put(bytes: Uint8Array): this {
    this.parts.push(bytes);
    this.length += bytes.length;
    return this;
  }
  with(size: number, write: (v: DataView) => void): this {
    const view = new DataView(new ArrayBuffer(size));
    write(view);
    return this.put(new Uint8Array(view.buffer));
  }
  u32 = (n: number): this => this.with(4, (v) => v.setUint32(0, n, true));
  u64 = (n: number | bigint): this => this.with(8, (v) => v.setBigUint64(0, BigInt(n), true));
  text(s: string): this {
    const bytes = new TextEncoder().encode(s);
    return this.u64(bytes.length).put(bytes);
  }
  pad(to: number): this {
    return this.put(new Uint8Array((to - (this.length % to)) % to));
  }
  all(): Uint8Array {
    const out = new Uint8Array(this.length);
    let at = 0;
    for (const p of this.parts) {
      out.set(p, at);
      at += p.length;
    }
    return out;
  }
}

const typeOf = (v: Item): number =>
  typeof v === 'string' ? 8 : 'u8' in v ? 0 : 'u32' in v ? 4 : 'u64' in v ? 10 : 'f32' in v ? 6 : 'bool' in v ? 7 : 9;
function value(b: Bytes, v: Item): void {
  if (typeof v === 'string') b.text(v);
  else if ('u8' in v) b.put(Uint8Array.of(v.u8));
  else if ('u32' in v) b.u32(v.u32);
  else if ('u64' in v) b.u64(v.u64);
  else if ('f32' in v) b.with(4, (d) => d.setFloat32(0, v.f32, true));
  else if ('bool' in v) b.put(Uint8Array.of(v.bool ? 1 : 0));
  else {
    b.u32(v.array).u64(v.items.length);
    for (const item of v.items) value(b, item);
  }
}

export const texts = (list: readonly string[]): Item => ({ array: 8, items: [...list] });
export const ints = (list: readonly number[]): Item => ({ array: 5, items: list.map((u32) => ({ u32 })) });
export const floats = (list: readonly number[]): Item => ({ array: 6, items: list.map((f32) => ({ f32 })) });

export interface Given {
  readonly metadata?: readonly (readonly [string, Item])[];
  readonly tensors?: readonly Stored[];
  readonly version?: number;
  readonly alignment?: number;
}

export function writeGguf({ metadata = [], tensors = [], version = 3, alignment = 32 }: Given): Uint8Array {
  const b = new Bytes().put(new TextEncoder().encode('GGUF')).u32(version).u64(tensors.length).u64(metadata.length);
  for (const [key, v] of metadata) {
    b.text(key).u32(typeOf(v));
    value(b, v);
  }
  let at = 0;
  for (const t of tensors) {
    b.text(t.name).u32(t.shape.length);
    for (const d of [...t.shape].reverse()) b.u64(d);
    b.u32(t.type).u64(t.offset ?? at);
    at += Math.ceil(t.bytes.length / alignment) * alignment;
  }
  b.pad(alignment);
  for (const t of tensors) b.put(t.bytes).pad(alignment);
  return b.all();
}

export const f32 = (name: string, shape: readonly number[], data: ArrayLike<number>): Stored => ({
  name,
  shape,
  type: 0,
  bytes: new Uint8Array(Float32Array.from(data).buffer),
});
