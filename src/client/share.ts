/**
 * Sharing an input, adding up an answer.
 *
 * P0 gets a 32-byte seed and expands it by ChaCha20 (RFC 8439's block, counter and nonce zero); P1 gets words − keystream, modulo 2^32.
 * Either alone is uniform, so the upload is one tensor, not two. The seed is fresh for every input.
 *
 * Places of one-hot rows go as two keys of a point function each, one to either party (ring/dpf.ts), behind the seed or the words. They are
 * fresh for every input, too, and salted with the session's id.
 */
import { shareBytes } from '../program/inputs.ts';
import { dim, type Params, parametersOf, resolve, sequencesOf, withUsual } from '../program/program.ts';
import { dpfKeyBytes, makeDpf } from '../ring/dpf.ts';
import { keystream } from './chacha20.ts';
import { type ErrorCode, SubrosaError } from './errors.ts';
import type { Manifest } from './manifest.ts';

export interface ClientInput {
  readonly shape: readonly number[];
  /** Real values. */
  readonly data: ArrayLike<number>;
}
export type ClientInputs = Readonly<Record<string, ClientInput>>;

export interface ClientOutput {
  readonly shape: readonly number[];
  readonly data: Float64Array;
}

type Takes = Pick<Manifest, 'params' | 'inputs'>;
type Gives = Pick<Manifest, 'outputs'>;

const refuse = (message: string): never => {
  throw new SubrosaError('bad-input', message);
};

/**
 * Public parameters: read off the inputs' shapes, and those `given` that shapes do not tell (`keys`, `past`). Throws SubrosaError
 * 'bad-input' when one is missing, unknown, out of range, or not what a shape says.
 */
export function paramsOf(m: Takes, inputs: ClientInputs, given: Params = {}): Params {
  const params: Record<string, number> = { ...withUsual(m.params, given) };
  const all = parametersOf(m.params, params);
  for (const name of Object.keys(given))
    if (!all.some(([known]) => known === name))
      refuse(`the program has no parameter '${name}': it has ${all.map(([known]) => known).join(', ') || 'none'}`);
  for (const input of m.inputs) {
    const value =
      inputs[input.name] ??
      refuse(`input '${input.name}' is missing: the program takes ${m.inputs.map((i) => `${i.name} [${i.shape}]`).join(', ')}`);
    input.shape.forEach((d, i) => {
      if (typeof d === 'string' && /^[a-z_]\w*$/i.test(d)) params[d] ??= value.shape[i];
    });
    const expected = input.shape.map((d) => dim(d, params));
    if (value.shape.length !== expected.length || expected.some((d, i) => d !== value.shape[i]))
      refuse(`input '${input.name}': expected shape [${input.shape}], got [${value.shape}]`);
    const size = expected.reduce((a, b) => a * b, 1);
    if (value.data.length !== size) refuse(`input '${input.name}': shape [${value.shape}] has ${size} values, got ${value.data.length}`);
  }
  for (const [name, { min, max }] of all) {
    if (params[name] === undefined) refuse(`the parameter '${name}' is missing: no input's shape tells it`);
    if (!(Number.isInteger(params[name]) && params[name] >= min && params[name] <= max))
      refuse(`${name} = ${params[name]}: the program was compiled for ${min} to ${max}; compile it again for longer inputs`);
  }
  rowsAfter(m, params);
  return params;
}

/**
 * Rows, by slot, that this step's sequences have when it is done: `past` and the step's own, of which each has as many; the first input has them all.
 * Empty for programs that keep none. Throws SubrosaError when they are more than the step sees, or not sequences of their own.
 */
export function rowsAfter(m: Takes, params: Params, code: ErrorCode = 'bad-input'): { readonly slot: number; readonly rows: number }[] {
  if (!m.params.past) return [];
  const fail = (message: string): never => {
    throw new SubrosaError(code, message);
  };
  const sequences = sequencesOf(params);
  const own = dim(m.inputs[0].shape[0], params) / sequences.length;
  if (!Number.isInteger(own)) fail(`${own * sequences.length} rows are not those of ${sequences.length} sequences, as many of each`);
  if (new Set(sequences.map((s) => s.slot)).size < sequences.length) fail('two sequences of a step have one slot');
  const keys = params.keys ?? m.params.past.max;
  return sequences.map(({ slot, past }) => {
    if (!(past + own <= keys)) fail(`${own} rows after past = ${past} are more than keys = ${keys}`);
    return { slot, rows: past + own };
  });
}

/**
 * Real values as words at the inputs' scales, input after input, those aside that are sent as keys. Throws SubrosaError 'bad-input' for a value
 * out of range or NaN.
 */
export function encodeWords(m: Takes, inputs: ClientInputs): Uint32Array {
  const given = m.inputs.filter((i) => !i.encoding);
  const words = new Uint32Array(given.reduce((s, i) => s + inputs[i.name].data.length, 0));
  let at = 0;
  for (const { name, scale, bound } of given) {
    const { data } = inputs[name];
    for (let i = 0; i < data.length; i++) {
      if (!(Math.abs(data[i]) < bound))
        refuse(`input '${name}': value ${i} is ${data[i]}; the program was calibrated for values within ±${bound.toPrecision(4)}`);
      words[at++] = Math.round(data[i] * scale);
    }
  }
  return words;
}

/** Places of point functions, each in a domain of its own, input after input. */
export interface Points {
  readonly places: Uint32Array;
  readonly domains: readonly number[];
}

/** Throws SubrosaError 'bad-input' for what is no place of its span. */
export function encodePoints(m: Takes, inputs: ClientInputs): Points {
  const all: number[] = [];
  const domains: number[] = [];
  for (const { name, encoding } of m.inputs) {
    if (!encoding) continue;
    const { data } = inputs[name];
    for (let i = 0; i < data.length; i++) {
      const domain = encoding.dpf[i % encoding.dpf.length];
      if (!(Number.isInteger(data[i]) && data[i] >= 0 && data[i] < domain))
        refuse(`input '${name}': value ${i} is ${data[i]}; one of ${domain} places is expected, from 0`);
      all.push(data[i]);
      domains.push(domain);
    }
  }
  return { places: Uint32Array.from(all), domains };
}

/** Inputs as they are before they are shared. */
export interface Secrets extends Points {
  readonly words: Uint32Array;
}

/** Throws SubrosaError 'bad-input' for a value that the program does not take. */
export const encodeInputs = (m: Takes, inputs: ClientInputs): Secrets => ({ words: encodeWords(m, inputs), ...encodePoints(m, inputs) });

/** What P0 is sent, and P1. */
export type Uploads = readonly [Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>];

/** Two shares of the inputs, for the session of this id (hex). Every call draws a new seed and new keys. */
export function splitInputs({ words, ...points }: Secrets, id: string): Uploads {
  const shares = splitWords(words);
  const keys = splitPoints(points, saltOf(id));
  return [joined(shares.seed, keys[0]), joined(shares.words, keys[1])];
}

/** The salt of a session's keys: its id, which both parties know and no other session has. */
export const saltOf = (id: string): Uint8Array =>
  Uint8Array.from({ length: 16 }, (_, i) => Number.parseInt(id.slice(2 * i, 2 * i + 2), 16));

/** Two keys of a point function for each place, P0's one after the other and P1's. */
export function splitPoints({ places, domains }: Points, salt: Uint8Array): Uploads {
  const bytes = domains.reduce((s, d) => s + dpfKeyBytes(d), 0);
  const all = [new Uint8Array(bytes), new Uint8Array(bytes)] as const;
  let at = 0;
  for (let i = 0; i < places.length; i++) {
    const keys = makeDpf(places[i], domains[i], 1, salt, (b) => void crypto.getRandomValues(b));
    for (const p of [0, 1] as const) all[p].set(keys[p], at);
    at += keys[0].length;
  }
  return all;
}

function joined(a: Uint8Array, b: Uint8Array): Uint8Array<ArrayBuffer> {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  a.fill(0);
  b.fill(0);
  return both;
}

export interface Shares {
  /** P0's: 32 bytes. */
  readonly seed: Uint8Array<ArrayBuffer>;
  /** P1's: words − keystream of the seed, little-endian. */
  readonly words: Uint8Array<ArrayBuffer>;
}

/** Two shares of these words. Every call draws a new seed; `words` stays as it is. */
export function splitWords(words: Uint32Array): Shares {
  return splitBy(crypto.getRandomValues(new Uint8Array(32)), words);
}

/** The same under a given seed, for test vectors: a seed used for two inputs reveals their difference. */
export function splitBy(seed: Uint8Array<ArrayBuffer>, words: Uint32Array): Shares {
  const rest = new Uint32Array(words.length);
  keystream(seed, rest);
  for (let i = 0; i < rest.length; i++) rest[i] = words[i] - rest[i];
  return { seed, words: new Uint8Array(rest.buffer) };
}

/** Bytes of each party's share of the inputs. Throws SubrosaError 'bad-input' for parameters the program does not take. */
export function inputBytes(m: Takes, params: Params): readonly [p0: number, p1: number] {
  for (const [name, { min, max }] of parametersOf(m.params, params))
    if (!(params[name] >= min && params[name] <= max)) refuse(`${name} = ${params[name]}: the program takes ${min} to ${max}`);
  return shareBytes(m.inputs, params);
}

export interface Outputs {
  readonly shapes: readonly (readonly number[])[];
  readonly sizes: readonly number[];
}

/** Shapes of the outputs at these parameters, and their sizes in words. */
export function outputsAt(m: Gives, params: Params): Outputs {
  const shapes = m.outputs.map((o) => o.shape.map((d) => dim(d, params)));
  return { shapes, sizes: shapes.map((s) => s.reduce((a, b) => a * b, 1)) };
}

/** `shares[i]`: both parties' words of output i. */
export function reconstruct(
  m: Gives,
  params: Params,
  shares: readonly (readonly [Uint32Array, Uint32Array])[],
): Record<string, ClientOutput> {
  const { shapes } = outputsAt(m, params);
  return Object.fromEntries(
    m.outputs.map((o, i) => {
      const { bits, scale } = resolve({ bits: o.bits, scale: o.scale }, params);
      const [a, b] = shares[i];
      const half = 2 ** (bits - 1);
      const data = Float64Array.from(a, (w, j) => {
        const v = (w + b[j]) % (2 * half);
        return (v >= half ? v - 2 * half : v) / (typeof scale === 'number' ? scale : scale[j % scale.length]);
      });
      return [o.name, { shape: shapes[i], data }];
    }),
  );
}
