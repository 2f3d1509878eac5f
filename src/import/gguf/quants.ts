/**
 * ggml's block formats: how a few weights share a scale, and how they become floats again.
 *
 * A tensor's rows are cut into blocks of 32 or 256 weights; a block into groups of 16, 32 or all of them. Within a group
 *
 *   weight = scale · q            or        scale · q + min                       each operation rounded to float32, as ggml does
 *
 * with whole q of 4 to 8 bits. `unpack` gives q, scale and min of one block: what dequantisation multiplies out, and what a kernel on
 * integers takes as it is. Layouts follow ggml-common.h; the tests hold every bit to the `gguf` Python package.
 */
import { ModelError } from '../../graph/graph.ts';

/** One block, unpacked. Arrays are reused from block to block. */
export interface Block {
  readonly q: Int8Array;
  readonly scale: Float32Array;
  /** All zero in formats without. */
  readonly min: Float32Array;
}

export interface Format {
  readonly name: string;
  /** Weights a block, bytes a block. */
  readonly size: number;
  readonly bytes: number;
  /** Weights that share one scale. */
  readonly group: number;
  readonly hasMin: boolean;
  unpack(b: Uint8Array, at: number, to: Block): void;
}

let halves: Float32Array | undefined;
/** IEEE half precision, by table. */
export function halfToFloat(h: number): number {
  halves ??= Float32Array.from({ length: 1 << 16 }, (_, bits) => {
    const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
    const magnitude =
      exponent === 0 ? fraction * 2 ** -24 : exponent < 31 ? (1024 + fraction) * 2 ** (exponent - 25) : fraction ? Number.NaN : Infinity;
    return bits & 0x8000 ? -magnitude : magnitude;
  });
  return halves[h];
}
const half = (b: Uint8Array, at: number): number => halfToFloat(b[at] | (b[at + 1] << 8));

/** Sixteen bytes of two 4-bit values: the low ones first, then the high ones. */
function nibbles(b: Uint8Array, at: number, q: Int8Array, to: number, count: number, offset: number): void {
  for (let i = 0; i < count; i++) {
    q[to + i] = (b[at + i] & 15) - offset;
    q[to + count + i] = (b[at + i] >> 4) - offset;
  }
}

/** The fifth bits of 32 values, one bit each in four bytes. */
function fifthBits(b: Uint8Array, at: number, q: Int8Array): void {
  for (let i = 0; i < 32; i++) q[i] += ((b[at + (i >> 3)] >> (i & 7)) & 1) << 4;
}

/** Q4_K and Q5_K: eight 6-bit scales and eight 6-bit minima in twelve bytes, times the block's d and dmin. */
function scalesOfK(b: Uint8Array, at: number, { scale, min }: Block): void {
  const [d, dmin] = [half(b, at), half(b, at + 2)];
  const s = at + 4;
  for (let g = 0; g < 4; g++) {
    scale[g] = d * (b[s + g] & 63);
    min[g] = -(dmin * (b[s + 4 + g] & 63));
    scale[g + 4] = d * ((b[s + 8 + g] & 15) | ((b[s + g] >> 2) & 48));
    min[g + 4] = -(dmin * ((b[s + 8 + g] >> 4) | ((b[s + 4 + g] >> 2) & 48)));
  }
}

const list: readonly Format[] = [
  {
    name: 'Q4_0',
    size: 32,
    bytes: 18,
    group: 32,
    hasMin: false,
    unpack(b, at, { q, scale }) {
      scale[0] = half(b, at);
      nibbles(b, at + 2, q, 0, 16, 8);
    },
  },
  {
    name: 'Q4_1',
    size: 32,
    bytes: 20,
    group: 32,
    hasMin: true,
    unpack(b, at, { q, scale, min }) {
      scale[0] = half(b, at);
      min[0] = half(b, at + 2);
      nibbles(b, at + 4, q, 0, 16, 0);
    },
  },
  {
    name: 'Q5_0',
    size: 32,
    bytes: 22,
    group: 32,
    hasMin: false,
    unpack(b, at, { q, scale }) {
      scale[0] = half(b, at);
      nibbles(b, at + 6, q, 0, 16, 16);
      fifthBits(b, at + 2, q);
    },
  },
  {
    name: 'Q5_1',
    size: 32,
    bytes: 24,
    group: 32,
    hasMin: true,
    unpack(b, at, { q, scale, min }) {
      scale[0] = half(b, at);
      min[0] = half(b, at + 2);
      nibbles(b, at + 8, q, 0, 16, 0);
      fifthBits(b, at + 4, q);
    },
  },
  {
    name: 'Q8_0',
    size: 32,
    bytes: 34,
    group: 32,
    hasMin: false,
    unpack(b, at, { q, scale }) {
      scale[0] = half(b, at);
      for (let i = 0; i < 32; i++) q[i] = b[at + 2 + i];
    },
  },
  {
    name: 'Q4_K',
    size: 256,
    bytes: 144,
    group: 32,
    hasMin: true,
    unpack(b, at, to) {
      scalesOfK(b, at, to);
      for (let c = 0; c < 4; c++) nibbles(b, at + 16 + 32 * c, to.q, 64 * c, 32, 0);
    },
  },
  {
    name: 'Q5_K',
    size: 256,
    bytes: 176,
    group: 32,
    hasMin: true,
    unpack(b, at, to) {
      scalesOfK(b, at, to);
      for (let c = 0; c < 4; c++) nibbles(b, at + 48 + 32 * c, to.q, 64 * c, 32, 0);
      // Bit g of byte i belongs to weight i of group g.
      for (let g = 0; g < 8; g++) for (let i = 0; i < 32; i++) to.q[32 * g + i] += ((b[at + 16 + i] >> g) & 1) << 4;
    },
  },
  {
    name: 'Q6_K',
    size: 256,
    bytes: 210,
    group: 16,
    hasMin: false,
    unpack(b, at, { q, scale }) {
      const d = half(b, at + 208);
      for (let g = 0; g < 16; g++) scale[g] = d * ((b[at + 192 + g] << 24) >> 24);
      // Two halves of 128: the low four bits of 64 bytes twice, the high two of 32 bytes four times.
      for (let h = 0; h < 2; h++)
        for (let i = 0; i < 128; i++) {
          const low = (b[at + 64 * h + (i & 63)] >> (i < 64 ? 0 : 4)) & 15;
          const high = (b[at + 128 + 32 * h + (i & 31)] >> (2 * (i >> 5))) & 3;
          q[128 * h + i] = (low | (high << 4)) - 32;
        }
    },
  },
];

export const formats: ReadonlyMap<string, Format> = new Map(list.map((f) => [f.name, f]));

/** Formats of one number each. */
const plain: Readonly<Record<string, number>> = { F32: 4, F16: 2, BF16: 2 };

/** ggml's numbers for the types this program reads. */
export const typeIds: ReadonlyMap<number, string> = new Map([
  [0, 'F32'],
  [1, 'F16'],
  [2, 'Q4_0'],
  [3, 'Q4_1'],
  [6, 'Q5_0'],
  [7, 'Q5_1'],
  [8, 'Q8_0'],
  [12, 'Q4_K'],
  [13, 'Q5_K'],
  [14, 'Q6_K'],
  [30, 'BF16'],
]);

/** Weights and bytes of a type's block (1 weight for plain ones). */
export function blockOf(type: string): { size: number; bytes: number } {
  return formats.get(type) ?? { size: 1, bytes: plain[type] };
}

export const newBlock = (f: Format): Block => ({
  q: new Int8Array(f.size),
  scale: new Float32Array(f.size / f.group),
  min: new Float32Array(f.size / f.group),
});

/** `count` weights of a type, as float32. Throws ModelError when the bytes are not as many as that takes. */
export function dequantise(type: string, bytes: Uint8Array, count: number): Float32Array {
  const { size, bytes: width } = blockOf(type);
  if (bytes.length * size !== count * width) throw new ModelError(`${count} weights of ${type} do not fit ${bytes.length} bytes`);
  const out = new Float32Array(count);
  const format = formats.get(type);
  if (format === undefined) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (type === 'F32') for (let i = 0; i < count; i++) out[i] = view.getFloat32(4 * i, true);
    else if (type === 'F16') for (let i = 0; i < count; i++) out[i] = halfToFloat(view.getUint16(2 * i, true));
    else {
      const words = new Uint32Array(out.buffer);
      for (let i = 0; i < count; i++) words[i] = view.getUint16(2 * i, true) << 16;
    }
    return out;
  }
  const block = newBlock(format);
  const { q, scale, min } = block;
  const { group, hasMin } = format;
  for (let at = 0, o = 0; o < count; at += width) {
    format.unpack(bytes, at, block);
    for (let g = 0, i = 0; g < scale.length; g++) {
      const [s, m] = [scale[g], min[g]];
      // Not s·q + 0 where there is no minimum: a negative zero stays one.
      if (hasMin) for (const end = i + group; i < end; i++) out[o++] = Math.fround(s * q[i]) + m;
      else for (const end = i + group; i < end; i++) out[o++] = s * q[i];
    }
  }
  return out;
}
