import { mkdirSync, mkdtempSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { describe, expect, test } from 'vitest';
import { buildModel, node } from '../../../test/fixtures/onnx/build.ts';
import { ModelError, tensor } from '../../graph/graph.ts';
import { interpret } from '../../graph/interpret.ts';
import {
  type ModelProto,
  ModelProtoSchema,
  StringStringEntryProtoSchema,
  TensorProto_DataType as T,
  TensorProto_DataLocation,
  TensorProtoSchema,
} from './onnx_pb.ts';
import { readOnnx } from './read.ts';

const input = { x: { dtype: 'f32', shape: [2, 2] } } as const;
const relu = (): Uint8Array => buildModel({ nodes: [node('Relu', ['x'], ['y'], {}, 'act')], inputs: input, outputs: ['y'] });

/** The model with one thing changed by hand. */
function changed(bytes: Uint8Array, change: (m: ModelProto & { graph: NonNullable<ModelProto['graph']> }) => void): Uint8Array {
  const m = fromBinary(ModelProtoSchema, bytes);
  change(m as ModelProto & { graph: NonNullable<ModelProto['graph']> });
  return toBinary(ModelProtoSchema, m);
}

const withTensor = (t: Parameters<typeof create<typeof TensorProtoSchema>>[1]): Uint8Array =>
  changed(buildModel({ nodes: [node('Identity', ['w'], ['y'])], inputs: {}, outputs: ['y'] }), (m) =>
    m.graph.initializer.push(create(TensorProtoSchema, t)),
  );

describe('element types', () => {
  const bytes = (data: ArrayBufferLike): Uint8Array => new Uint8Array(data);
  const half = (t: { dataType: number; rawData: Uint8Array }): number[] => [
    ...interpret(readOnnx(withTensor({ name: 'w', dims: [BigInt(2)], ...t })), {}).y.data,
  ];
  test.each([
    ['double', T.DOUBLE, bytes(Float64Array.of(1.5, -2).buffer), [1.5, -2]],
    ['float', T.FLOAT, bytes(Float32Array.of(1.5, -2).buffer), [1.5, -2]],
    ['float16', T.FLOAT16, bytes(Uint16Array.of(0x3c01, 0x8001).buffer), [1 + 2 ** -10, -(2 ** -24)]],
    ['float16 specials', T.FLOAT16, bytes(Uint16Array.of(0x7c00, 0x7e00).buffer), [Number.POSITIVE_INFINITY, Number.NaN]],
    ['bfloat16', T.BFLOAT16, bytes(Uint16Array.of(0x3f80, 0xc049).buffer), [1, -3.140625]],
    ['int8', T.INT8, bytes(Int8Array.of(-128, 5).buffer), [-128, 5]],
    ['uint8', T.UINT8, bytes(Uint8Array.of(255, 5).buffer), [255, 5]],
    ['int16', T.INT16, bytes(Int16Array.of(-300, 5).buffer), [-300, 5]],
    ['uint16', T.UINT16, bytes(Uint16Array.of(65535, 5).buffer), [65535, 5]],
    ['int32', T.INT32, bytes(Int32Array.of(-70000, 5).buffer), [-70000, 5]],
    ['uint32', T.UINT32, bytes(Uint32Array.of(4294967295, 5).buffer), [4294967295, 5]],
    ['int64', T.INT64, bytes(BigInt64Array.of(-(2n ** 40n), 2n ** 63n - 1n).buffer), [-(2 ** 40), Number.MAX_SAFE_INTEGER]],
    ['uint64', T.UINT64, bytes(BigUint64Array.of(2n ** 40n, 7n).buffer), [2 ** 40, 7]],
    ['bool', T.BOOL, Uint8Array.of(0, 2), [0, 1]],
  ])('%s', (_, dataType, rawData, want) => expect(half({ dataType, rawData })).toEqual(want));

  test('values kept in typed lists', () => {
    const list = (t: Parameters<typeof create<typeof TensorProtoSchema>>[1]): number[] => [
      ...interpret(readOnnx(withTensor({ name: 'w', dims: [1n], ...t })), {}).y.data,
    ];
    expect(list({ dataType: T.FLOAT, floatData: [2.5] })).toEqual([2.5]);
    expect(list({ dataType: T.DOUBLE, doubleData: [2.5] })).toEqual([2.5]);
    expect(list({ dataType: T.INT64, int64Data: [-3n] })).toEqual([-3]);
    expect(list({ dataType: T.INT32, int32Data: [-3] })).toEqual([-3]);
    expect(list({ dataType: T.UINT64, uint64Data: [3n] })).toEqual([3]);
    expect(list({ dataType: T.FLOAT16, int32Data: [0x3c00] })).toEqual([1]);
    expect(list({ dataType: T.BFLOAT16, int32Data: [0x3f80] })).toEqual([1]);
    expect(list({ dataType: T.BOOL, int32Data: [1] })).toEqual([1]);
  });
});

describe('dimensions', () => {
  const model = (...shape: (number | string)[]): Uint8Array =>
    buildModel({ nodes: [node('Relu', ['x'], ['y'])], inputs: { x: { dtype: 'f32', shape } }, outputs: ['y'] });
  test('a batch is 1, a length stays a parameter, a given size is used', () => {
    expect(readOnnx(model('batch_size', 'sequence', 8)).inputs[0].shape).toEqual([1, 'sequence', 8]);
    expect(readOnnx(model('N', 'n')).inputs[0].shape).toEqual([1, 'n']);
    expect(readOnnx(model('batch_size', 'sequence', 8), { dims: { batch_size: 2, sequence: 7 } }).inputs[0].shape).toEqual([2, 7, 8]);
  });
  test('a name the file does not have is refused', () => {
    expect(() => readOnnx(model('batch', 'len'), { dims: { length: 7 } })).toThrow(
      new ModelError('no dimension is named length; the file has batch, len'),
    );
  });
  test('a named dimension has one size', () => {
    const bytes = buildModel({
      nodes: [node('Concat', ['a', 'b'], ['y'], { axis: 0 })],
      inputs: { a: { dtype: 'f32', shape: ['n'] }, b: { dtype: 'f32', shape: ['n'] } },
      outputs: ['y'],
    });
    const graph = readOnnx(bytes);
    expect(() => interpret(graph, { a: tensor([1], [1]), b: tensor([1, 2], [2]) })).toThrow("input 'b': expected f32 [n], got f32 [2]");
  });
});

describe('what cannot be used is one ModelError of one line', () => {
  const fails = (bytes: Uint8Array, message: string | RegExp, options = {}): void => {
    let error: unknown;
    try {
      readOnnx(bytes, options);
    } catch (e) {
      error = e;
    }
    expect(error).toBeInstanceOf(ModelError);
    const text = (error as ModelError).message;
    expect(text).not.toMatch(/[\n\r]/);
    if (typeof message === 'string') expect(text).toBe(message);
    else expect(text).toMatch(message);
  };

  test('all unsupported operators are named at once', () => {
    const nodes = [
      node('Relu', ['x'], ['a']),
      node('Loop', ['a'], ['b'], {}, '/top/loop'),
      node('Foo', ['b'], ['c'], {}, '/foo', 'acme'),
      node('Loop', ['c'], ['y'], {}, '/other'),
    ];
    fails(
      buildModel({ nodes, inputs: input, outputs: ['y'] }),
      'operators that are not supported: Loop (/top/loop, /other); acme.Foo (/foo)',
    );
  });
  test('a cycle', () =>
    fails(
      buildModel({ nodes: [node('Add', ['x', 'b'], ['a'], {}, 'p'), node('Relu', ['a'], ['b'], {}, 'q')], inputs: input, outputs: ['b'] }),
      'the nodes p, q wait for each other (a cycle)',
    ));
  test('a value defined nowhere', () =>
    fails(
      buildModel({ nodes: [node('Add', ['x', 'z'], ['y'], {}, 'p')], inputs: input, outputs: ['y'] }),
      "p (Add): input 'z' is defined nowhere",
    ));
  test('a value defined twice', () =>
    fails(
      buildModel({ nodes: [node('Relu', ['x'], ['y'], {}, 'p'), node('Abs', ['x'], ['y'], {}, 'q')], inputs: input, outputs: ['y'] }),
      "q (Abs): value 'y' is defined twice",
    ));
  test('an output that is not made', () =>
    fails(buildModel({ nodes: [node('Relu', ['x'], ['a'])], inputs: input, outputs: ['y'] }), "graph output 'y' is defined nowhere"));
  test('nodes out of order are put in order', () => {
    const graph = readOnnx(buildModel({ nodes: [node('Relu', ['a'], ['y']), node('Neg', ['x'], ['a'])], inputs: input, outputs: ['y'] }));
    expect(graph.nodes.map((n) => n.op)).toEqual(['Neg', 'Relu']);
  });
  test('no graph, no opset, an old and a far opset', () => {
    fails(new Uint8Array(), 'the ONNX file is empty');
    fails(
      changed(relu(), (m) => ((m as ModelProto).graph = undefined)),
      'the ONNX file holds no graph',
    );
    fails(
      changed(relu(), (m) => (m.opsetImport = [])),
      'the ONNX file names no opset (cut short?)',
    );
    fails(
      changed(relu(), (m) => (m.opsetImport[0].version = 3n)),
      /^opset 3 is not supported/,
    );
    fails(
      changed(relu(), (m) => (m.opsetImport[0].version = 2n ** 62n)),
      /^opset \d+ is not supported/,
    );
  });
  test('names with line breaks are printed on one line', () => {
    fails(
      buildModel({ nodes: [node('Add', ['x', 'a\nb\u2028c'], ['y'], {}, 'p\r\nq')], inputs: input, outputs: ['y'] }),
      "p??q (Add): input 'a?b?c' is defined nowhere",
    );
  });
  test('tensors whose sizes do not fit their bytes', () => {
    const raw = (dims: bigint[], rawData = new Uint8Array(4)): Uint8Array => withTensor({ name: 'w', dataType: T.FLOAT, dims, rawData });
    fails(raw([2n]), "initializer 'w': shape [2] needs 8 bytes, the file has 4");
    fails(raw([-1n]), "initializer 'w': a dimension of -1");
    fails(raw([2n ** 62n]), "initializer 'w': a dimension of 4611686018427387904 is too large");
    fails(raw([2n ** 31n, 2n ** 31n]), /^initializer 'w': \d+ values are too many/);
    fails(raw([2n ** 30n]), /^initializer 'w': shape \[1073741824\] needs 4294967296 bytes/);
    fails(raw(new Array<bigint>(40).fill(1n)), "initializer 'w': 40 axes");
    fails(withTensor({ name: 'w', dataType: T.FLOAT, dims: [2n ** 28n], floatData: [1] }), /needs 268435456 values, the file has 1$/);
    fails(
      withTensor({ name: 'w', dataType: T.STRING, dims: [1n], stringData: [new Uint8Array(1)] }),
      "initializer 'w': element type 8 is not supported",
    );
    fails(withTensor({ name: '', dataType: T.FLOAT, dims: [1n], rawData: new Uint8Array(4) }), 'an initializer has no name');
  });
  test('inputs without a usable shape', () => {
    const shape = (...dims: (number | string)[]): Uint8Array =>
      buildModel({ nodes: [node('Relu', ['x'], ['y'])], inputs: { x: { dtype: 'f32', shape: dims } }, outputs: ['y'] });
    fails(shape(2, -3), "input 'x': a dimension of -3");
    fails(shape(2, 2 ** 40), "input 'x': a dimension of 1099511627776");
    fails(
      changed(shape(2), (m) => (m.graph.input[0].type = undefined)),
      "input 'x' is not a tensor",
    );
    fails(
      changed(shape(2), (m) => (m.graph.input[0].name = '')),
      'an input has no name',
    );
  });
  test('a graph that cannot run says where', () => {
    const graph = readOnnx(
      buildModel({ nodes: [node('MatMul', ['x', 'x'], ['y'], {}, '/m')], inputs: { x: { dtype: 'f32', shape: [2, 3] } }, outputs: ['y'] }),
    );
    expect(() => interpret(graph, { x: tensor([1, 2, 3, 4, 5, 6], [2, 3]) })).toThrow(new ModelError('/m (MatMul): [2,3] times [2,3]'));
  });

  describe('external data', () => {
    const dir = mkdtempSync(join(tmpdir(), 'onnx-'));
    const model = join(dir, 'model');
    mkdirSync(join(model, 'data'), { recursive: true });
    writeFileSync(join(model, 'data', 'w.bin'), new Uint8Array(Float32Array.of(9, 1, 2).buffer));
    writeFileSync(join(dir, 'secret.bin'), new Uint8Array(8));
    symlinkSync(join(dir, 'secret.bin'), join(model, 'link.bin'));
    const external = (location: string, more: Record<string, string> = {}): Uint8Array =>
      withTensor({
        name: 'w',
        dataType: T.FLOAT,
        dims: [2n],
        dataLocation: TensorProto_DataLocation.EXTERNAL,
        externalData: Object.entries({ location, ...more }).map(([key, value]) => create(StringStringEntryProtoSchema, { key, value })),
      });
    test('is read from the folder', () => {
      const graph = readOnnx(external('data/w.bin', { offset: '4', length: '8' }), { externalDir: model });
      expect([...interpret(graph, {}).y.data]).toEqual([1, 2]);
    });
    test.each(['../secret.bin', '/etc/passwd', 'data/../../secret.bin', 'C:\\x', '..\\secret.bin', 'link.bin', ''])(
      '%j is refused',
      (location) => {
        fails(
          external(location),
          location === ''
            ? "initializer 'w': external data without a location"
            : `initializer 'w': external data path '${location}' leaves the model's folder`,
          { externalDir: model },
        );
      },
    );
    test('must be there, and long enough', () => {
      fails(external('data/w.bin', { offset: '8' }), "initializer 'w': external data 'data/w.bin' has 12 bytes, 16 are needed", {
        externalDir: model,
      });
      fails(external('data/w.bin', { offset: '999999999999' }), /has 12 bytes/, { externalDir: model });
      fails(external('data/w.bin', { offset: '-1' }), /offset is '-1'/, { externalDir: model });
      fails(external('data/w.bin', { length: '4' }), /needs 8 bytes, its external data has 4/, { externalDir: model });
      fails(external('none.bin'), "initializer 'w': external data 'none.bin' cannot be opened (ENOENT)", { externalDir: model });
      fails(external('data'), /external data 'data'/, { externalDir: model });
      fails(external('data/w.bin'), "initializer 'w': its values are in 'data/w.bin', and no folder was given");
    });
  });
});
