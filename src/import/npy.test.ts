import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ModelError, tensor } from '../graph/graph.ts';
import { readNpy, writeNpy } from './npy.ts';

/** As numpy.save writes it: header text, then data. */
function file(header: string, data: ArrayBufferView | number[], version = 1): Uint8Array {
  const text = new TextEncoder().encode(`${header}\n`);
  const body = Array.isArray(data) ? Uint8Array.from(data) : new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  const out = new Uint8Array((version === 1 ? 10 : 12) + text.length + body.length);
  out.set([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, version, 0, text.length & 255, text.length >> 8]);
  out.set(text, out.length - body.length - text.length);
  out.set(body, out.length - body.length);
  return out;
}
const header = (descr: string, shape: string, order = 'False'): string =>
  `{'descr': '${descr}', 'fortran_order': ${order}, 'shape': ${shape}, }`;

test('what is written is read back', () => {
  const values = fc.oneof(
    fc.array(fc.float()).map((v) => tensor(v, [v.length])),
    fc.array(fc.maxSafeInteger()).map((v) => tensor(v, [1, v.length], 'i64')),
    fc.array(fc.nat(1)).map((v) => tensor(v, [v.length, 1, 1], 'bool')),
    fc.float().map((v) => tensor([v], [])),
  );
  fc.assert(fc.property(values, (t) => void expect(readNpy(writeNpy(t))).toEqual(t)));
});

test('data begins at a multiple of 64, as NumPy has it', () => {
  for (const shape of [[], [1], [1, 1], Array(40).fill(1)]) expect((writeNpy(tensor([1], shape)).length - 4) % 64).toBe(0);
});

test('each dtype and version reads as its value', () => {
  expect(readNpy(file(header('<f4', '(2,)'), Float32Array.of(1.5, -2)))).toEqual(tensor([1.5, -2], [2]));
  expect(readNpy(file(header('<f8', '(1, 2)'), Float64Array.of(0.1, -2), 2))).toEqual(tensor([0.1, -2], [1, 2]));
  expect(readNpy(file(header('<i4', '()'), Int32Array.of(-7), 3))).toEqual(tensor([-7], [], 'i64'));
  expect(readNpy(file(header('<i8', '(1,)'), BigInt64Array.of(-7n)))).toEqual(tensor([-7], [1], 'i64'));
  expect(readNpy(file(header('|u1', '(2, 1)'), [7, 255]))).toEqual(tensor([7, 255], [2, 1], 'i64'));
  expect(readNpy(file(header('|b1', '(0, 3)'), []))).toEqual(tensor([], [0, 3], 'bool'));
});

describe('a bad file is refused with its reason', () => {
  const cases: [string, Uint8Array, string][] = [
    ['empty', new Uint8Array(0), 'not an .npy file'],
    ['wrong magic', new Uint8Array(100), 'not an .npy file'],
    ['unknown version', file(header('<f4', '()'), [0, 0, 0, 0], 4), 'version 4'],
    ['header cut', file(header('<f4', '()'), []).subarray(0, 20), 'cut short'],
    ['not a header', file('{}', []), 'not understood'],
    ['code in the header', file(header('<f4', "(__import__('os'),)"), []), 'not understood'],
    ['big-endian', file(header('>f4', '()'), [0, 0, 0, 0]), "dtype '>f4'"],
    ['objects', file(header('|O', '()'), [0]), "dtype '|O'"],
    ['Fortran order', file(header('<f4', '(1, 1)', 'True'), [0, 0, 0, 0]), 'ascontiguousarray'],
    ['negative shape', file(header('<f4', '(-1,)'), []), 'not understood'],
    ['too short', file(header('<f4', '(2,)'), [0, 0, 0, 0]), 'takes 8 bytes, the file has 4'],
    ['too long', file(header('|u1', '(2,)'), [0, 0, 0]), 'takes 2 bytes, the file has 3'],
    ['shape overflow', file(header('|u1', '(99999999999, 99999999999)'), [0]), 'the file has 1'],
    ['beyond 2^53', file(header('<i8', '()'), BigInt64Array.of(2n ** 60n)), 'beyond 2^53'],
    ['truth value 2', file(header('|b1', '()'), [2]), 'truth value'],
  ];
  test.each(cases)('%s', (_, bytes, reason) => {
    expect(() => readNpy(bytes, 'x.npy')).toThrow(ModelError);
    expect(() => readNpy(bytes, 'x.npy')).toThrow(reason);
  });
});
