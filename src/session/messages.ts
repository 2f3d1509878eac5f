/**
 * What the roles say to each other, frame by frame. Control frames are small JSON objects, checked on arrival; the rest are raw words.
 * No frame reveals a share to anyone but the client whose result it is.
 *
 *   client → party   open    {id, hash, progress?} a new session; both parties must answer `ready` with the same hash and id
 *   party → dealer   open    {id, hash}            the dealer answers when both parties asked
 *   dealer → party   seed    32 bytes              that party's seed of the session
 *   P0 → P1          zero    32 bytes              seed of the zero sharing, unknown to the dealer
 *   party → client   ready   {id, hash}
 *   client → party   input   JSON {step, params}, then P0: a 32-byte seed, P1: words; then keys
 *   P1 → P0          have    seq = step; SHA-256 of [step, params]: P1 has the input
 *   P0 → P1          go      seq = step: P0 has it too and runs it next
 *   P1 → dealer      step    {step, params}
 *   P0 ↔ P1          opening masked words, one frame a round
 *   dealer → P1      block   corrections; seq = number of the block
 *   P1 → dealer      credit  seq = blocks let go
 *   P1 → dealer      done    seq = step: nothing of it is needed any more
 *   party → client   output  one frame per output, in the program's order: words
 *   party → client   progress {queued} or {round, rounds}, when `open` asked for it
 *   anyone           failed  {code, message}       ends the session
 *   anyone           end                           ends the session
 *
 * Session numbers are chosen by clients, so two may choose the same one. Between roles, seed, zero, failed and end carry the session's tag in
 * `seq`: what is said of one session never touches another.
 */
import { z } from 'zod';
import { type ErrorCode, SubrosaError } from '../client/errors.ts';
import { type Link, LinkError } from '../net/link.ts';
import { inputHead } from '../program/cost.ts';
import type { Params } from '../program/program.ts';

export const frames = {
  open: 16,
  seed: 17,
  zero: 18,
  ready: 19,
  input: 20,
  step: 21,
  opening: 22,
  block: 23,
  credit: 24,
  output: 25,
  failed: 26,
  end: 27,
  have: 28,
  go: 29,
  progress: 30,
  done: 31,
} as const;

const hex = (n: number) => z.string().regex(new RegExp(`^[0-9a-f]{${2 * n}}$`));
export const Open = z.object({ id: hex(16), hash: hex(32), progress: z.boolean().optional() });
export type Open = z.infer<typeof Open>;
export const Step = z.object({
  step: z
    .int()
    .min(0)
    .max(2 ** 32 - 2),
  params: z.record(
    z.string().max(32),
    z
      .int()
      .min(0)
      .max(2 ** 31),
  ),
});
export type Step = z.infer<typeof Step>;
export const Failed = z.object({ code: z.string().max(64), message: z.string().max(1000) });
/** Steps before this one in the queue; or rounds completed, of how many. */
export const Progress = z.union([z.object({ queued: z.int().min(0) }), z.object({ round: z.int().min(0), rounds: z.int().min(0) })]);
export type Progress = z.infer<typeof Progress>;

/** What tells sessions of one number apart: bytes 4 to 7 of the id. */
export const tagOf = (id: string): number => Number.parseInt(id.slice(8, 16), 16);

/** Codes that say the same to whoever they are passed on to; any other is the fault of the role that said it. */
const passedOn: readonly ErrorCode[] = [
  'busy',
  'draining',
  'ended',
  'mismatch',
  'not-ready',
  'out-of-memory',
  'timeout',
  'too-large',
  'unknown-model',
];

/** What another role said, as this one says it to its client. */
export function relayed(payload: Uint8Array, from: string): { code: ErrorCode; message: string } {
  const { code, message } = decode(Failed, payload, from);
  return { code: passedOn.find((c) => c === code) ?? 'peer-failed', message };
}

/** Why sessions end that leaned on a link. */
export function lossOf(link: Link, error?: Error): SubrosaError {
  if (error instanceof SubrosaError) return error;
  const code = error instanceof LinkError && error.code === 'timeout' ? 'timeout' : 'peer-failed';
  return new SubrosaError(code, error?.message ?? `${link.peer} closed the connection`);
}

/** What an error says in a `failed` frame. */
export function failure(e: unknown): { code: ErrorCode; message: string } {
  if (e instanceof SubrosaError) return { code: e.code, message: e.message.slice(0, 900) };
  return { code: 'internal', message: e instanceof Error ? e.message.slice(0, 900) : 'failed' };
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();
export const encode = (value: unknown): Uint8Array => encoder.encode(JSON.stringify(value));

export function decode<T>(schema: z.ZodType<T>, payload: Uint8Array, from: string): T {
  try {
    return schema.parse(JSON.parse(decoder.decode(payload)));
  } catch {
    throw new SubrosaError('bad-message', `${from} sent a message that does not say what it should`);
  }
}

/** Input frame: u32 length of the JSON, the JSON, padding up to `inputHead` bytes, then the share. */
export function encodeInput(step: number, params: Params, bytes: Uint8Array): Uint8Array[] {
  const head = encode({ step, params });
  const out = new Uint8Array(inputHead(params));
  new DataView(out.buffer).setUint32(0, head.length, true);
  out.set(head, 4);
  return [out, bytes];
}

export function decodeInput(payload: Uint8Array, from: string): { step: number; params: Params; bytes: Uint8Array } {
  const length = payload.length >= 4 ? new DataView(payload.buffer, payload.byteOffset).getUint32(0, true) : Infinity;
  if (4 + length > payload.length) throw new SubrosaError('bad-message', `${from} sent a truncated input`);
  const { step, params } = decode(Step, payload.subarray(4, 4 + length), from);
  return { step, params, bytes: payload.subarray(inputHead(params)) };
}
