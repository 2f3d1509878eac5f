import { ModelError, sizeOf, type Tensor } from '../graph/graph.ts';

/**
 * NumPy's .npy, format versions 1–3: sample inputs in, outputs out.
 *
 *   | \x93NUMPY | major, minor | u16 (v1) or u32 header length | {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), } | data |
 *
 * Little-endian f4, f8, i4, i8, u1 and bool, in C order, and nothing after the data. f8 is rounded to f32.
 */
const KINDS = { '<f4': 4, '<f8': 8, '<i4': 4, '<i8': 8, '|u1': 1, '|b1': 1 } as const;
type Kind = keyof typeof KINDS;
const MAGIC = [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59];
const HEADER = /^\{\s*'descr':\s*'([^']*)',\s*'fortran_order':\s*(True|False),\s*'shape':\s*\(((?:\d+,\s*)*\d*)\),?\s*\}\s*$/;

export function readNpy(bytes: Uint8Array, label = 'npy'): Tensor {
  const fail: (reason: string) => never = (reason) => {
    throw new ModelError(`${label}: ${reason}`);
  };
  if (bytes.length < 12 || MAGIC.some((b, i) => bytes[i] !== b)) fail('not an .npy file');
  const major = bytes[6];
  if (major < 1 || major > 3) fail(`.npy version ${major} is not known`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const begin = major === 1 ? 10 : 12;
  const start = begin + (major === 1 ? view.getUint16(8, true) : view.getUint32(8, true));
  if (start > bytes.length) fail(`cut short: the header ends at byte ${start}, the file at ${bytes.length}`);
  const text = new TextDecoder().decode(bytes.subarray(begin, start));
  const [, descr, order, dims] = HEADER.exec(text) ?? fail(`the header is not understood: ${text.trim().slice(0, 100)}`);
  if (!Object.hasOwn(KINDS, descr)) fail(`dtype '${descr}' is not supported; ${Object.keys(KINDS).join(', ')} are`);
  if (order === 'True') fail('Fortran order is not supported: save numpy.ascontiguousarray(x)');
  const shape = dims.split(',').flatMap((d) => (d.trim() === '' ? [] : [Number(d)]));
  const size = sizeOf(shape) * KINDS[descr as Kind];
  if (!Number.isSafeInteger(size) || size !== bytes.length - start)
    fail(`${descr} [${shape}] takes ${size} bytes, the file has ${bytes.length - start}`);
  // A copy: the header ends at any byte, typed arrays begin at multiples of their width.
  // Not bytes.slice: a Buffer's is a view.
  const { buffer } = new Uint8Array(bytes.subarray(start));
  switch (descr as Kind) {
    case '<f4':
      return { dtype: 'f32', shape, data: new Float32Array(buffer) };
    case '<f8':
      return { dtype: 'f32', shape, data: Float32Array.from(new Float64Array(buffer)) };
    case '<i4':
      return { dtype: 'i64', shape, data: Float64Array.from(new Int32Array(buffer)) };
    case '<i8':
      return {
        dtype: 'i64',
        shape,
        data: Float64Array.from(new BigInt64Array(buffer), (v) =>
          Number.isSafeInteger(Number(v)) ? Number(v) : fail(`holds ${v}, beyond 2^53`),
        ),
      };
    case '|u1':
      return { dtype: 'i64', shape, data: Float64Array.from(new Uint8Array(buffer)) };
    case '|b1':
      return {
        dtype: 'bool',
        shape,
        data: Uint8Array.from(new Uint8Array(buffer), (b) => (b > 1 ? fail(`holds ${b} as a truth value`) : b)),
      };
  }
}

/** f32 as f4, i64 as i8, bool as b1. */
export function writeNpy({ dtype, shape, data }: Tensor): Uint8Array {
  const descr: Kind = dtype === 'f32' ? '<f4' : dtype === 'i64' ? '<i8' : '|b1';
  const words = dtype === 'i64' ? BigInt64Array.from(data as Float64Array, BigInt) : data;
  const dims = shape.length === 1 ? `${shape[0]},` : shape.join(', ');
  const text = `{'descr': '${descr}', 'fortran_order': False, 'shape': (${dims}), }`;
  // Spaces and a newline up to a multiple of 64, as NumPy writes it.
  const start = Math.ceil((10 + text.length + 1) / 64) * 64;
  const out = new Uint8Array(start + words.byteLength).fill(0x20, 0, start);
  out.set([...MAGIC, 1, 0]);
  new DataView(out.buffer).setUint16(8, start - 10, true);
  out.set(new TextEncoder().encode(text), 10);
  out[start - 1] = 0x0a;
  out.set(new Uint8Array(words.buffer, words.byteOffset, words.byteLength), start);
  return out;
}
