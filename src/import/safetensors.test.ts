import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { ModelError, tensor } from '../graph/graph.ts';
import { duplicateKey, parseSafetensors, type SafeDType, type TensorData, toTensorData, writeSafetensors } from './safetensors.ts';
import { openSafetensors, openWeights, saveSafetensors } from './safetensors-file.ts';

const dir = mkdtempSync(join(tmpdir(), 'subrosa-safetensors-'));
afterAll(() => rmSync(dir, { recursive: true }));

const f32 = (shape: number[], ...data: number[]): TensorData => ({ dtype: 'F32', shape, data: Float32Array.from(data) });

/** A file as an attacker writes it: any header, any data. */
function raw(header: unknown, data = 0, length?: number | bigint): Uint8Array {
  const json = new TextEncoder().encode(typeof header === 'string' ? header : JSON.stringify(header));
  const out = new Uint8Array(8 + json.length + data);
  new DataView(out.buffer).setBigUint64(0, BigInt(length ?? json.length), true);
  out.set(json, 8);
  return out;
}
const t = (dtype: unknown, shape: unknown, data_offsets: unknown) => ({ dtype, shape, data_offsets });

describe('hostile files are refused, and the message says where', () => {
  const cases: [string, Uint8Array, string | RegExp][] = [
    ['empty', new Uint8Array(0), '0 bytes'],
    ['seven bytes', new Uint8Array(7), '7 bytes'],
    ['header longer than the file', raw({}, 0, 100), 'cut short'],
    ['header of 2^63', raw({}, 0, 2n ** 63n), 'the limit is'],
    ['header over the cap', raw({}, 0, 100_000_001), 'the limit is'],
    ['header empty', raw(''), 'does not begin with {'],
    ['header begins with a space', raw(' {}'), 'does not begin with {'],
    ['header an array', raw('[]'), 'does not begin with {'],
    ['header cut', raw('{"a":'), 'not JSON'],
    ['header with a tail', raw('{}x'), 'not JSON'],
    ['header not UTF-8', Uint8Array.of(3, 0, 0, 0, 0, 0, 0, 0, 0x7b, 0xff, 0x7d), 'not JSON'],
    ['header with a byte order mark', raw('\ufeff{}'), 'does not begin with {'],
    [
      'name twice',
      raw('{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', 1),
      '"a" stands twice',
    ],
    ['name twice, one escaped', raw('{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"\\u0061":0}'), '"a" stands twice'],
    ['field twice', raw('{"a":{"dtype":"U8","dtype":"I8","shape":[0],"data_offsets":[0,0]}}'), '"dtype" stands twice'],
    ['metadata a string', raw({ __metadata__: 'x' }), '__metadata__ is not an object'],
    ['metadata with a number', raw({ __metadata__: { a: 1 } }), '__metadata__ "a" is not a string'],
    ['tensor null', raw({ a: null }), 'tensor "a" has no description'],
    ['dtype missing', raw({ a: { shape: [], data_offsets: [0, 0] } }), 'tensor "a" has dtype'],
    ['dtype unknown', raw({ a: t('F33', [1], [0, 1]) }, 1), 'dtype "F33"'],
    ['dtype from the prototype', raw({ a: t('toString', [1], [0, 1]) }, 1), 'dtype "toString"'],
    ['field unknown', raw({ a: { ...t('U8', [1], [0, 1]), extra: 1 } }, 1), 'unknown field "extra"'],
    ['shape not a list', raw({ a: t('U8', 1, [0, 1]) }, 1), 'tensor "a" has shape 1'],
    ['shape negative', raw({ a: t('U8', [-1], [0, 1]) }, 1), 'has shape [-1]'],
    ['shape negative twice', raw({ a: t('U8', [-1, -1], [0, 1]) }, 1), 'has shape [-1,-1]'],
    ['shape fractional', raw({ a: t('U8', [0.5, 2], [0, 1]) }, 1), 'has shape [0.5,2]'],
    ['shape a string', raw({ a: t('U8', ['1'], [0, 1]) }, 1), 'has shape'],
    ['shape of a thousand axes', raw({ a: t('U8', Array(1000).fill(1), [0, 1]) }, 1), 'has shape'],
    ['shape whose product overflows', raw({ a: t('F32', [2 ** 52, 2 ** 52], [0, 4]) }, 4), 'offsets span 4'],
    ['shape huge times nothing, offsets empty', raw({ a: t('F32', [2 ** 52, 2 ** 52], [0, 0]) }), 'offsets span 0'],
    ['shape beyond 2^53', raw('{"a":{"dtype":"U8","shape":[9007199254740993],"data_offsets":[0,1]}}', 1), 'has shape'],
    ['offsets missing', raw({ a: { dtype: 'U8', shape: [1] } }, 1), 'has offsets'],
    ['offsets three', raw({ a: t('U8', [1], [0, 1, 2]) }, 2), 'has offsets'],
    ['offsets negative', raw({ a: t('U8', [1], [-1, 0]) }, 1), 'has offsets [-1,0]'],
    ['offsets reversed', raw({ a: t('U8', [1], [1, 0]) }, 1), 'before it begins'],
    ['offsets out of the file', raw({ a: t('U8', [9], [0, 9]) }, 1), 'ends at byte 9'],
    ['offsets huge', raw({ a: t('U8', [1], [2 ** 53 - 2, 2 ** 53 - 1]) }, 1), 'the header lies'],
    ['offsets infinite', raw('{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1e999]}}', 1), 'has offsets'],
    ['dtype and shape too long for the offsets', raw({ a: t('F32', [2], [0, 4]) }, 4), 'F32 [2]: 8 bytes'],
    ['dtype and shape too short', raw({ a: t('F32', [1], [0, 8]) }, 8), 'F32 [1]: 4 bytes'],
    ['two tensors overlap', raw({ a: t('U8', [2], [0, 2]), b: t('U8', [2], [1, 3]) }, 3), 'tensor "b" overlaps'],
    ['two tensors are one', raw({ a: t('U8', [2], [0, 2]), b: t('U8', [2], [0, 2]) }, 2), 'overlaps'],
    ['hole at the start', raw({ a: t('U8', [1], [1, 2]) }, 2), 'hole of 1 bytes before tensor "a"'],
    ['hole between', raw({ a: t('U8', [1], [0, 1]), b: t('U8', [1], [2, 3]) }, 3), 'hole of 1 bytes before tensor "b"'],
    ['bytes after the last', raw({ a: t('U8', [1], [0, 1]) }, 5), '4 bytes after the last tensor'],
    ['bytes and no tensor', raw({}, 5), '5 bytes after'],
  ];
  test.each(cases)('%s', (_, bytes, reason) => {
    expect(() => parseSafetensors(bytes, 'file')).toThrow(ModelError);
    expect(() => parseSafetensors(bytes, 'file')).toThrow(reason);
    const path = join(dir, 'hostile.safetensors');
    writeFileSync(path, bytes);
    expect(() => openSafetensors(path)).toThrow(reason);
  });

  test('values that no tensor of ours can hold are refused when they are read', () => {
    const big = parseSafetensors(writeSafetensors(new Map([['a', { dtype: 'I64', shape: [1], data: BigInt64Array.of(2n ** 53n) }]])));
    expect(() => big.tensor('a')).toThrow('beyond 2^53');
    const bool = parseSafetensors(writeSafetensors(new Map([['a', { dtype: 'BOOL', shape: [1], data: Uint8Array.of(2) }]])));
    expect(() => bool.tensor('a')).toThrow('other than 0 and 1');
    expect(() => bool.tensor('b')).toThrow('no tensor "b"');
  });
});

test('any damage to a good file is a ModelError or a file that reads to its end', () => {
  const good = writeSafetensors(
    new Map([
      ['one', f32([2, 2], 1, 2, 3, 4)],
      ['two', { dtype: 'I64', shape: [2], data: BigInt64Array.of(5n, -6n) }],
    ]),
    new Map([['format', 'pt']]),
  );
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { maxLength: 4 }), fc.nat(good.length), (edits, cut) => {
      const bytes = good.slice(0, cut % 3 === 0 ? cut : undefined);
      for (const [at, value] of edits) bytes[at % Math.max(bytes.length, 1)] = value;
      try {
        const file = parseSafetensors(bytes);
        for (const name of file.tensors.keys()) file.tensor(name);
      } catch (e) {
        if (!(e instanceof ModelError)) throw e;
      }
    }),
    { numRuns: 3000 },
  );
});

const WIDTH: Record<SafeDType, number> = {
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
};
test('what is written is read back, byte for byte, whatever its names, dtypes and order', () => {
  const one = fc
    .record({ dtype: fc.constantFrom(...(Object.keys(WIDTH) as SafeDType[])), shape: fc.array(fc.nat(4), { maxLength: 3 }) })
    .chain(({ dtype, shape }) => {
      const n = shape.reduce((a, b) => a * b, 1) * WIDTH[dtype];
      return fc.uint8Array({ minLength: n, maxLength: n }).map((data): TensorData => ({ dtype, shape, data }));
    });
  const name = fc.oneof(fc.string({ unit: 'binary' }), fc.constantFrom('__proto__', '7', 'constructor', '', '"\\'));
  fc.assert(
    fc.property(fc.array(fc.tuple(name, one)), fc.array(fc.tuple(name, fc.string())), (list, metadata) => {
      const tensors = new Map(list.filter(([n]) => n !== '__metadata__'));
      const file = parseSafetensors(writeSafetensors(tensors, new Map(metadata)));
      expect(new Set(file.tensors.keys())).toEqual(new Set(tensors.keys()));
      expect(file.metadata).toEqual(new Map(metadata));
      for (const [key, { dtype, shape, data }] of tensors) {
        expect(file.tensors.get(key)).toMatchObject({ dtype, shape });
        expect([...file.bytes(key)]).toEqual([...(data as Uint8Array)]);
      }
    }),
  );
});

test('each dtype reads as its value', () => {
  const u16 = (...v: number[]) => Uint16Array.from(v);
  const cases: [SafeDType, ArrayBufferView, string, number[]][] = [
    ['F64', Float64Array.of(0.1, -2), 'f32', [Math.fround(0.1), -2]],
    ['F16', u16(0x3c00, 0xc000, 0x0001, 0x7bff, 0x7c00, 0x8000), 'f32', [1, -2, 2 ** -24, 65504, Infinity, -0]],
    ['F16', u16(0x7e00), 'f32', [Number.NaN]],
    ['BF16', u16(0x3f80, 0xc000, 0x7f80), 'f32', [1, -2, Infinity]],
    ['F8_E4M3', Uint8Array.of(0x38, 0xc0, 0x01, 0x7e, 0x7f), 'f32', [1, -2, 2 ** -9, 448, Number.NaN]],
    ['F8_E5M2', Uint8Array.of(0x3c, 0xc0, 0x01, 0x7b), 'f32', [1, -2, 2 ** -16, 57344]],
    ['I64', BigInt64Array.of(-5n, 2n ** 53n - 1n), 'i64', [-5, 2 ** 53 - 1]],
    ['U64', BigUint64Array.of(5n), 'i64', [5]],
    ['I32', Int32Array.of(-5), 'i64', [-5]],
    ['U32', Uint32Array.of(2 ** 32 - 1), 'i64', [2 ** 32 - 1]],
    ['I16', Int16Array.of(-5), 'i64', [-5]],
    ['U16', u16(65535), 'i64', [65535]],
    ['I8', Int8Array.of(-5), 'i64', [-5]],
    ['U8', Uint8Array.of(250), 'i64', [250]],
    ['BOOL', Uint8Array.of(0, 1), 'bool', [0, 1]],
  ];
  for (const [dtype, data, kind, values] of cases) {
    const file = parseSafetensors(writeSafetensors(new Map([['x', { dtype, shape: [values.length], data }]])));
    const read = file.tensor('x');
    expect([read.dtype, [...read.data]]).toEqual([kind, values]);
  }
});

test('an aligned tensor is a view, an unaligned one a copy, both with the right values', () => {
  const file = writeSafetensors(new Map([['x', f32([3], 1, 2, 3)]]));
  expect(parseSafetensors(file).tensor('x').data.buffer).toBe(file.buffer);
  const shifted = new Uint8Array(file.length + 1);
  shifted.set(file, 1);
  expect([...parseSafetensors(shifted.subarray(1)).tensor('x').data]).toEqual([1, 2, 3]);
});

test('a file is read tensor by tensor, and saving leaves no temporary behind', () => {
  const path = join(dir, 'saved.safetensors');
  saveSafetensors(
    path,
    new Map([
      ['x', toTensorData(tensor([1, 2], [2]))],
      ['i', toTensorData(tensor([-1], [1], 'i64'))],
      ['b', toTensorData(tensor([1], [1], 'bool'))],
    ]),
  );
  const file = openSafetensors(path);
  expect(['x', 'i', 'b'].map((n) => [...file.tensor(n).data])).toEqual([[1, 2], [-1], [1]]);
  file.close();
  expect(() => openSafetensors(join(dir, 'absent.safetensors'))).toThrow('ENOENT');
});

describe('a sharded model', () => {
  const shards = mkdtempSync(join(dir, 'shards-'));
  const write = (map: unknown): void =>
    writeFileSync(join(shards, 'model.safetensors.index.json'), typeof map === 'string' ? map : JSON.stringify({ weight_map: map }));
  saveSafetensors(join(shards, 'a.safetensors'), new Map([['x', f32([1], 1)]]));
  saveSafetensors(
    join(shards, 'b.safetensors'),
    new Map([
      ['y', f32([1], 2)],
      ['z', f32([1], 3)],
    ]),
  );

  test('reads as one', () => {
    write({ x: 'a.safetensors', y: 'b.safetensors', z: 'b.safetensors' });
    const file = openWeights(shards);
    expect(['x', 'y', 'z'].map((n) => file.tensor(n).data[0])).toEqual([1, 2, 3]);
    file.close();
  });
  const bad: [string, unknown, string][] = [
    ['tensor in another shard', { x: 'b.safetensors', y: 'b.safetensors', z: 'b.safetensors' }, "tensor 'x' is not in b.safetensors"],
    ['tensor the index forgot', { x: 'a.safetensors', y: 'b.safetensors' }, "tensor 'z' in b.safetensors is not listed"],
    ['shard outside the folder', { x: '../a.safetensors' }, 'a .safetensors file beside the index'],
    ['shard absent', { x: 'c.safetensors' }, 'ENOENT'],
    ['shard not a string', { x: 1 }, 'a .safetensors file beside the index'],
    ['no map', '{}', 'has no weight_map'],
    ['not JSON', '{', 'not JSON'],
    ['name twice', '{"weight_map":{"x":"a.safetensors","x":"a.safetensors"}}', "'x' stands twice"],
  ];
  test.each(bad)('%s', (_, map, reason) => {
    write(map);
    expect(() => openWeights(shards)).toThrow(ModelError);
    expect(() => openWeights(shards)).toThrow(reason);
  });
});

test('a duplicate key is found at any depth, and the same key in two objects is none', () => {
  expect(duplicateKey('{"a":[{"b":1},{"b":2}],"c":{"a":"x,\\"a\\":"}}')).toBeUndefined();
  expect(duplicateKey('{"a":[{"b":1,"c":[1,2],"b":2}]}')).toBe('b');
});
