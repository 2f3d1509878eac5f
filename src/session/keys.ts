/**
 * Keys of a session. The dealer draws one seed per session and party; what the PRG is keyed with is derived from it together with the
 * session's id, the program's hash and both parties' link keys, so a seed is worth nothing in another setting.
 */
import { hkdfSync, randomBytes } from 'node:crypto';

export interface Setting {
  readonly id: string;
  readonly hash: string;
  /** SHA-256 of P0's and P1's public keys on the links. */
  readonly spki: readonly [string, string];
}

export const newSeed = (): Uint8Array => new Uint8Array(randomBytes(32));

export function sessionKey(seed: Uint8Array, use: 'mask 0' | 'mask 1' | 'zero', s: Setting): Uint8Array {
  const info = `subrosa session|${use}|${s.id}|${s.hash}|${s.spki[0]}|${s.spki[1]}`;
  return new Uint8Array(hkdfSync('sha256', seed, new Uint8Array(32), info, 32));
}
