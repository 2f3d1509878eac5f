/**
 * A walk over a protobuf file before it is decoded. Decoding turns two bytes into an object of hundreds, so a small hostile file
 * could ask for gigabytes: this counts what decoding would make, and refuses what no model has. It also finds truncation early,
 * and says at which byte.
 */
import { ModelError } from '../../graph/graph.ts';

const maxMessages = 300_000;
const maxRecords = 3_000_000;
/** Packed varints become a big integer each. */
const maxPacked = 1 << 22;
const maxDepth = 24;

/** Message fields by message, numbered as in onnx.proto; a string names the message, 'ints' a list of integers. */
const layout: Record<string, Record<number, string>> = {
  Model: { 7: 'Graph', 8: 'Leaf', 14: 'Leaf', 20: 'Training', 25: 'Function', 26: 'Leaf' },
  Graph: { 1: 'Node', 5: 'Tensor', 15: 'Sparse', 11: 'Value', 12: 'Value', 13: 'Value', 14: 'Annotation', 16: 'Leaf' },
  Node: { 5: 'Attribute', 9: 'Leaf', 10: 'Device' },
  Attribute: { 5: 'Tensor', 6: 'Graph', 22: 'Sparse', 14: 'Type', 8: 'ints', 10: 'Tensor', 11: 'Graph', 23: 'Sparse', 15: 'Type' },
  Tensor: { 1: 'ints', 3: 'Leaf', 5: 'ints', 7: 'ints', 11: 'ints', 13: 'Leaf', 16: 'Leaf' },
  Sparse: { 1: 'Tensor', 2: 'Tensor', 3: 'ints' },
  Value: { 2: 'Type', 4: 'Leaf' },
  Type: { 1: 'TensorType', 4: 'Element', 5: 'Map', 8: 'TensorType', 9: 'Element', 7: 'Leaf' },
  TensorType: { 2: 'Shape' },
  Shape: { 1: 'Leaf' },
  Element: { 1: 'Type' },
  Map: { 2: 'Type' },
  Annotation: { 2: 'Leaf' },
  Training: { 1: 'Graph', 2: 'Graph', 3: 'Leaf', 4: 'Leaf' },
  Function: { 7: 'Node', 9: 'Leaf', 11: 'Attribute', 12: 'Value', 14: 'Leaf' },
  Device: { 2: 'Sharding' },
  Sharding: { 2: 'ints', 3: 'Pair', 4: 'Dim' },
  Pair: { 2: 'ints' },
  Dim: { 2: 'Leaf' },
  Leaf: {},
};

/** Throws a ModelError for a file that is cut short, is not protobuf, or holds more objects than any model. */
export function scan(bytes: Uint8Array): void {
  let messages = 0;
  let records = 0;
  let packed = 0;
  let at = 0;
  const bad = (what: string): never => {
    throw new ModelError(`not a usable ONNX file: ${what} at byte ${at} of ${bytes.length}`);
  };
  const varint = (end: number): number => {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      if (at >= end) bad('cut short');
      if (shift > 63) bad('a number that does not end');
      const b = bytes[at++];
      if (shift < 49) value += (b & 127) * 2 ** shift;
      if (b < 128) return value;
    }
  };
  const walk = (kind: string, end: number, depth: number): void => {
    if (depth > maxDepth) bad(`messages nested deeper than ${maxDepth}`);
    if (++messages > maxMessages) bad(`more than ${maxMessages} objects`);
    const fields = layout[kind];
    while (at < end) {
      const tag = varint(end);
      const [field, wire] = [Math.floor(tag / 8), tag & 7];
      if (field === 0 || field >= 2 ** 29) bad('not protobuf');
      if (++records > maxRecords) bad(`more than ${maxRecords} records`);
      if (wire === 0) varint(end);
      else if (wire === 1 || wire === 5) at += wire === 1 ? 8 : 4;
      else if (wire === 2) {
        const length = varint(end);
        if (length > end - at) bad(`cut short (${length} bytes announced, ${end - at} left)`);
        const child = fields[field];
        const stop = at + length;
        if (child === 'ints') packed += length;
        if (packed > maxPacked) bad('more integers than any model');
        if (child !== undefined && child !== 'ints') walk(child, stop, depth + 1);
        at = stop;
      } else bad('not protobuf');
      if (at > end) bad('cut short');
    }
  };
  walk('Model', bytes.length, 0);
}
