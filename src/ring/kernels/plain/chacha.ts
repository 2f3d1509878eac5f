/** The ChaCha block function (RFC 8439, section 2.3) with the number of rounds left open: 20 is the RFC's cipher, 12 is ours. */

const rotl = (x: number, n: number): number => (x << n) | (x >>> (32 - n));

function quarter(s: Int32Array, a: number, b: number, c: number, d: number): void {
  s[a] += s[b];
  s[d] = rotl(s[d] ^ s[a], 16);
  s[c] += s[d];
  s[b] = rotl(s[b] ^ s[c], 12);
  s[a] += s[b];
  s[d] = rotl(s[d] ^ s[a], 8);
  s[c] += s[d];
  s[b] = rotl(s[b] ^ s[c], 7);
}

const state = new Int32Array(16);
const start = new Int32Array([0x61707865, 0x3320646e, 0x79622d32, 0x6b206574, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);

/** Writes word i of the block to out[at + i·stride]. */
export function chachaBlock(
  out: Uint32Array,
  at: number,
  stride: number,
  key: Uint32Array,
  counter: number,
  n0: number,
  n1: number,
  n2: number,
  rounds: number,
): void {
  start.set(key, 4);
  start[12] = counter;
  start[13] = n0;
  start[14] = n1;
  start[15] = n2;
  state.set(start);
  for (let r = 0; r < rounds; r += 2) {
    quarter(state, 0, 4, 8, 12);
    quarter(state, 1, 5, 9, 13);
    quarter(state, 2, 6, 10, 14);
    quarter(state, 3, 7, 11, 15);
    quarter(state, 0, 5, 10, 15);
    quarter(state, 1, 6, 11, 12);
    quarter(state, 2, 7, 8, 13);
    quarter(state, 3, 4, 9, 14);
  }
  for (let i = 0; i < 16; i++) out[at + i * stride] = state[i] + start[i];
}

export const groupWords = 128;

/** `groups` groups of the stream from group `first` on: word p of a group is word p >> 3 of its block p & 7. */
export function streamWords(key: Uint32Array, step: number, gate: number, stream: number, first: number, groups: number): Uint32Array {
  const out = new Uint32Array(groups * groupWords);
  for (let g = 0; g < groups; g++)
    for (let b = 0; b < 8; b++) chachaBlock(out, g * groupWords + b, 8, key, 8 * (first + g) + b, step, gate, stream, 12);
  return out;
}
