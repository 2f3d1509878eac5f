/**
 * The answer of a step as a stream of records: | u8 type | u32 length, little-endian | bytes |.
 * Type 1: progress, JSON. 2: the output words. 3: an error, JSON. 2 or 3 comes once, last.
 */
import { SubrosaError } from './errors.ts';
import { parseJson } from './party.ts';

export const streamType = 'application/vnd.subrosa.stream';

const record = (type: number, bytes: Uint8Array): Uint8Array => {
  const out = new Uint8Array(5 + bytes.length);
  out[0] = type;
  new DataView(out.buffer).setUint32(1, bytes.length, true);
  out.set(bytes, 5);
  return out;
};
const utf8 = new TextEncoder();

export const records = {
  progress: (json: string): Uint8Array => record(1, utf8.encode(json)),
  output: (words: Uint8Array): Uint8Array => record(2, words),
  error: (json: string): Uint8Array => record(3, utf8.encode(json)),
};

/** The longest text record taken. */
const longestText = 1 << 16;

/**
 * Reads such a stream to its end: the output's bytes, `length` of them. Texts go to `text`, which may throw. Throws SubrosaError
 * 'bad-message' for anything else.
 */
export async function readRecords(
  body: ReadableStream<Uint8Array>,
  length: number,
  text: (type: 1 | 3, json: unknown) => void,
): Promise<Uint8Array<ArrayBuffer>> {
  const bad = (what: string): never => {
    throw new SubrosaError('bad-message', `the answer ${what}`);
  };
  const reader = body.getReader();
  let chunk = new Uint8Array(0);
  let at = 0;
  const fill = async (into: Uint8Array): Promise<boolean> => {
    for (let have = 0; have < into.length; ) {
      if (at === chunk.length) {
        const { done, value } = await reader.read();
        if (done) return have === 0 ? false : bad('was cut short');
        [chunk, at] = [value as Uint8Array<ArrayBuffer>, 0];
      }
      const part = chunk.subarray(at, at + into.length - have);
      into.set(part, have);
      have += part.length;
      at += part.length;
    }
    return true;
  };
  try {
    const head = new Uint8Array(5);
    while (await fill(head)) {
      const size = new DataView(head.buffer).getUint32(1, true);
      if (head[0] === 2 ? size !== length : (head[0] !== 1 && head[0] !== 3) || size > longestText)
        bad(`has a record of type ${head[0]} and ${size} bytes that is not due`);
      const bytes = new Uint8Array(size);
      if (size > 0 && !(await fill(bytes))) bad('was cut short');
      if (head[0] === 2) return bytes;
      text(head[0] as 1 | 3, parseJson(bytes) ?? bad('holds a text that is no JSON'));
    }
    return bad('ended without a result');
  } finally {
    reader.cancel().catch(() => {});
  }
}
