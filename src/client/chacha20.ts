/**
 * ChaCha20's keystream (RFC 8439): 20 rounds, nonce zero, counter from 0. In plain TypeScript, so that every platform has the same one
 * (WebCrypto has none). The rounds are written out on local variables: three times as fast as on an array.
 */

/** 'expand 32-byte k' */
const [c0, c1, c2, c3] = [0x61707865, 0x3320646e, 0x79622d32, 0x6b206574];
const rotl = (x: number, n: number): number => (x << n) | (x >>> (32 - n));

/** Fills `words` with the keystream of a 32-byte key, as little-endian words, from block `counter` on. `nonce`: three words. */
export function keystream(key: Uint8Array, words: Uint32Array, counter = 0, nonce: readonly [number, number, number] = [0, 0, 0]): void {
  if (key.length !== 32) throw new RangeError(`key: expected 32 bytes, got ${key.length}`);
  const view = new DataView(key.buffer, key.byteOffset, 32);
  const [k0, k1, k2, k3, k4, k5, k6, k7] = Array.from({ length: 8 }, (_, i) => view.getInt32(4 * i, true));
  const [n0, n1, n2] = nonce.map((n) => n | 0);
  const last = new Uint32Array(16);
  for (let at = 0; at < words.length; at += 16, counter++) {
    // biome-ignore format: a row of the state a line
    let x00 = c0, x01 = c1, x02 = c2, x03 = c3,
        x04 = k0, x05 = k1, x06 = k2, x07 = k3,
        x08 = k4, x09 = k5, x10 = k6, x11 = k7,
        x12 = counter | 0, x13 = n0, x14 = n1, x15 = n2;
    // biome-ignore format: a quarter round a line, columns then diagonals
    for (let round = 0; round < 20; round += 2) {
      x00 = (x00 + x04) | 0; x12 = rotl(x12 ^ x00, 16); x08 = (x08 + x12) | 0; x04 = rotl(x04 ^ x08, 12); x00 = (x00 + x04) | 0; x12 = rotl(x12 ^ x00, 8); x08 = (x08 + x12) | 0; x04 = rotl(x04 ^ x08, 7);
      x01 = (x01 + x05) | 0; x13 = rotl(x13 ^ x01, 16); x09 = (x09 + x13) | 0; x05 = rotl(x05 ^ x09, 12); x01 = (x01 + x05) | 0; x13 = rotl(x13 ^ x01, 8); x09 = (x09 + x13) | 0; x05 = rotl(x05 ^ x09, 7);
      x02 = (x02 + x06) | 0; x14 = rotl(x14 ^ x02, 16); x10 = (x10 + x14) | 0; x06 = rotl(x06 ^ x10, 12); x02 = (x02 + x06) | 0; x14 = rotl(x14 ^ x02, 8); x10 = (x10 + x14) | 0; x06 = rotl(x06 ^ x10, 7);
      x03 = (x03 + x07) | 0; x15 = rotl(x15 ^ x03, 16); x11 = (x11 + x15) | 0; x07 = rotl(x07 ^ x11, 12); x03 = (x03 + x07) | 0; x15 = rotl(x15 ^ x03, 8); x11 = (x11 + x15) | 0; x07 = rotl(x07 ^ x11, 7);
      x00 = (x00 + x05) | 0; x15 = rotl(x15 ^ x00, 16); x10 = (x10 + x15) | 0; x05 = rotl(x05 ^ x10, 12); x00 = (x00 + x05) | 0; x15 = rotl(x15 ^ x00, 8); x10 = (x10 + x15) | 0; x05 = rotl(x05 ^ x10, 7);
      x01 = (x01 + x06) | 0; x12 = rotl(x12 ^ x01, 16); x11 = (x11 + x12) | 0; x06 = rotl(x06 ^ x11, 12); x01 = (x01 + x06) | 0; x12 = rotl(x12 ^ x01, 8); x11 = (x11 + x12) | 0; x06 = rotl(x06 ^ x11, 7);
      x02 = (x02 + x07) | 0; x13 = rotl(x13 ^ x02, 16); x08 = (x08 + x13) | 0; x07 = rotl(x07 ^ x08, 12); x02 = (x02 + x07) | 0; x13 = rotl(x13 ^ x02, 8); x08 = (x08 + x13) | 0; x07 = rotl(x07 ^ x08, 7);
      x03 = (x03 + x04) | 0; x14 = rotl(x14 ^ x03, 16); x09 = (x09 + x14) | 0; x04 = rotl(x04 ^ x09, 12); x03 = (x03 + x04) | 0; x14 = rotl(x14 ^ x03, 8); x09 = (x09 + x14) | 0; x04 = rotl(x04 ^ x09, 7);
    }
    const whole = at + 16 <= words.length;
    const out = whole ? words : last;
    const o = whole ? at : 0;
    out[o] = (x00 + c0) | 0;
    out[o + 1] = (x01 + c1) | 0;
    out[o + 2] = (x02 + c2) | 0;
    out[o + 3] = (x03 + c3) | 0;
    out[o + 4] = (x04 + k0) | 0;
    out[o + 5] = (x05 + k1) | 0;
    out[o + 6] = (x06 + k2) | 0;
    out[o + 7] = (x07 + k3) | 0;
    out[o + 8] = (x08 + k4) | 0;
    out[o + 9] = (x09 + k5) | 0;
    out[o + 10] = (x10 + k6) | 0;
    out[o + 11] = (x11 + k7) | 0;
    out[o + 12] = (x12 + counter) | 0;
    out[o + 13] = (x13 + n0) | 0;
    out[o + 14] = (x14 + n1) | 0;
    out[o + 15] = (x15 + n2) | 0;
    if (!whole) words.set(last.subarray(0, words.length - at), at);
  }
  last.fill(0);
}
