/**
 * A client: shares its inputs, sends each party its share, adds up what comes back.
 *
 * P0 gets a 32-byte seed and expands it; P1 gets the rest, so the upload is one tensor, not two. The seed is fresh for every input.
 */
import { createCipheriv, randomBytes } from 'node:crypto';
import type { Link } from '../net/link.ts';
import type { BoundTensor } from '../gates/gate.ts';
import { bind } from '../program/bind.ts';
import { dim, type Params, type Program } from '../program/program.ts';
import { decode, encode, encodeInput, Failed, frames, Open, SessionError } from './messages.ts';

export interface ClientInput {
  readonly shape: readonly number[];
  /** Real values. */
  readonly data: ArrayLike<number>;
}

export interface ClientOutput {
  readonly shape: readonly number[];
  readonly data: Float64Array;
}

/** An input that the program cannot take: shape, range, NaN. Nothing was sent. */
export class InputError extends Error {
  override name = 'InputError';
}

/** Public parameters, read off the inputs' shapes. */
export function paramsOf(program: Program, inputs: Readonly<Record<string, ClientInput>>): Params {
  const params: Record<string, number> = {};
  for (const input of program.inputs) {
    const given = inputs[input.name];
    if (!given) throw new InputError(`input '${input.name}' is missing: the program takes ${program.inputs.map((i) => `${i.name} [${i.shape}]`).join(', ')}`);
    input.shape.forEach((d, i) => {
      if (typeof d === 'string' && /^[a-z_]\w*$/i.test(d)) params[d] = given.shape[i];
    });
    const expected = input.shape.map((d) => dim(d, params));
    if (given.shape.length !== expected.length || expected.some((d, i) => d !== given.shape[i])) throw new InputError(`input '${input.name}': expected shape [${input.shape}], got [${given.shape}]`);
    const size = expected.reduce((a, b) => a * b, 1);
    if (given.data.length !== size) throw new InputError(`input '${input.name}': shape [${given.shape}] has ${size} values, got ${given.data.length}`);
  }
  for (const [name, { min, max }] of Object.entries(program.params))
    if (params[name] < min || params[name] > max) throw new InputError(`${name} = ${params[name]}: the program was compiled for ${min} to ${max}; compile it again for longer inputs`);
  return params;
}

/** Real values as words at the input's scale. */
export function encodeWords(program: Program, inputs: Readonly<Record<string, ClientInput>>): Uint32Array {
  const total = program.inputs.reduce((s, i) => s + inputs[i.name].data.length, 0);
  const words = new Uint32Array(total);
  let at = 0;
  for (const input of program.inputs) {
    const { data } = inputs[input.name];
    for (let i = 0; i < data.length; i++) {
      if (!(Math.abs(data[i]) < input.bound)) throw new InputError(`input '${input.name}': value ${i} is ${data[i]}; the program was calibrated for values within ±${input.bound.toPrecision(4)}`);
      words[at++] = Math.round(data[i] * input.scale);
    }
  }
  return words;
}

let sessions = 0;

/** One session with two parties. One input a step; `run` may be called again and again, one at a time. */
export class ClientSession {
  private readonly number: number;
  private readonly id = randomBytes(16).toString('hex');
  private step = 0;
  private waiting?: { frame: (party: 0 | 1, type: number, seq: number, payload: Uint8Array) => void; fail: (e: Error) => void };
  private over?: Error;

  private constructor(private readonly links: readonly [Link, Link], private readonly program: Program, private readonly hash: string) {
    this.number = (randomBytes(4).readUInt32LE() ^ ++sessions) >>> 0;
    links.forEach((link, i) => {
      link.onFrame = (f) => {
        if (f.session !== this.number) return;
        if (f.type !== frames.failed) return this.waiting?.frame(i as 0 | 1, f.type, f.seq, f.payload);
        const { code, message } = decode(Failed, f.payload, link.peer);
        this.fail(new SessionError(code as 'internal', message));
      };
      link.onClose = (error) => this.fail(error ?? new SessionError('peer-failed', `${link.peer} closed the connection`));
    });
  }

  /** Both parties must answer with the same program and session before anything is sent. */
  static async open(links: readonly [Link, Link], program: Program, hash: string): Promise<ClientSession> {
    const s = new ClientSession(links, program, hash);
    await s.exchange((done) => {
      const answered = [false, false];
      return (party, type, _seq, payload) => {
        if (type !== frames.ready) return;
        const { id, hash: theirs } = decode(Open, payload, `p${party}`);
        if (id !== s.id || theirs !== hash) throw new SessionError('mismatch', `p${party} answered for another session or program`);
        answered[party] = true;
        if (answered[0] && answered[1]) done(undefined);
      };
    }, () => {
      for (const l of links) l.send(frames.open, s.number, 0, encode({ id: s.id, hash }));
    });
    return s;
  }

  /** Throws InputError before anything is sent, SessionError or LinkError when the run failed. */
  async run(inputs: Readonly<Record<string, ClientInput>>): Promise<Record<string, ClientOutput>> {
    const { program } = this;
    const params = paramsOf(program, inputs);
    const words = encodeWords(program, inputs);
    const seed = randomBytes(32);
    const mask = createCipheriv('chacha20', seed, new Uint8Array(16)).update(new Uint8Array(4 * words.length));
    const other = new Uint32Array(mask.buffer.slice(mask.byteOffset, mask.byteOffset + mask.length));
    for (let i = 0; i < words.length; i++) words[i] -= other[i];
    const { tensors } = bind(program, params);
    const sizes = program.outputs.map((o) => tensors[o.tensor].size);
    const step = this.step++;
    const shares: Uint32Array[][] = program.outputs.map(() => []);
    await this.exchange((done) => {
      let left = 2 * program.outputs.length;
      return (party, type, seq, payload) => {
        if (type !== frames.output) return;
        const size = sizes[seq];
        if (size === undefined || shares[seq][party] || payload.length !== 4 * size) throw new SessionError('bad-message', `p${party} sent an output of ${payload.length} bytes that is not due`);
        shares[seq][party] = new Uint32Array(payload.slice().buffer);
        if (--left === 0) done(undefined);
      };
    }, () => {
      this.links[0].send(frames.input, this.number, step, encodeInput(step, params, seed));
      this.links[1].send(frames.input, this.number, step, encodeInput(step, params, new Uint8Array(words.buffer)));
    });
    return Object.fromEntries(program.outputs.map((o, i) => [o.name, this.reconstruct(tensors[o.tensor], shares[i])]));
  }

  close(): void {
    if (this.over) return;
    for (const l of this.links) l.send(frames.end, this.number, 0, new Uint8Array(0));
    this.over ??= new SessionError('ended', 'the session was closed');
  }

  private reconstruct({ bits, scale, shape }: BoundTensor, [a, b]: Uint32Array[]): ClientOutput {
    const half = 2 ** (bits - 1);
    const data = Float64Array.from(a, (w, i) => {
      const v = (w + b[i]) % (2 * half);
      return (v >= half ? v - 2 * half : v) / (typeof scale === 'number' ? scale : scale[i % scale.length]);
    });
    return { shape, data };
  }

  private exchange<T>(handler: (done: (v: T) => void) => (party: 0 | 1, type: number, seq: number, payload: Uint8Array) => void, send: () => void): Promise<T> {
    if (this.over) return Promise.reject(this.over);
    if (this.waiting) return Promise.reject(new SessionError('bad-message', 'a session runs one input at a time'));
    return new Promise<T>((resolve, reject) => {
      const finish = (): void => {
        this.waiting = undefined;
        for (const l of this.links) l.awaiting(false);
      };
      const frame = handler((v) => {
        finish();
        resolve(v);
      });
      const fail = (e: Error): void => {
        finish();
        reject(e);
      };
      this.waiting = {
        fail,
        frame: (...a) => {
          try {
            frame(...a);
          } catch (e) {
            this.fail(e as Error);
          }
        },
      };
      for (const l of this.links) l.awaiting(true);
      send();
    });
  }

  private fail(e: Error): void {
    // Each party drops what it may still hold of the session.
    if (!this.over) for (const l of this.links) l.send(frames.end, this.number, 0, new Uint8Array(0));
    this.over ??= e;
    this.waiting?.fail(e);
  }
}
