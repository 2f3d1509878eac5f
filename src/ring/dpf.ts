/**
 * Distributed point functions: two short keys whose expansions are shares of a one-hot vector. A client that wants row α of a table of V
 * rows sends each party a key of about 16·log₂(V/4) bytes in place of V words.
 *
 * Boyle, Gilboa, Ishai: Function Secret Sharing, Improvements and Extensions (CCS 2016), figure 1, for the group Z_2^32, with early
 * termination (section 3.2.3 there): a leaf's 128-bit seed is read as the shares of four neighbouring places, so the tree has ⌈log₂ V⌉ − 2 levels.
 * The length-doubling PRG is one ChaCha12 block whose key is the seed, then 16 bytes of public salt: a guess at a seed counts against the keys
 * of one salt only, however many were collected (Guo, Katz, Wang, Weng, Yu: CRYPTO 2020, on the same matter in garbling).
 *
 * Each key alone is pseudorandom and says nothing of α: the root seeds are independent and uniform, and every correction word is masked
 * by a pseudorandom string of the lost branch that one party cannot compute. Seeds have 128 bits, as in the paper.
 *
 * No Node imports: clients make keys, parties expand them.
 */
import type { Kernels, Ptr } from './kernels/kernels.ts';
import { chachaBlock } from './kernels/plain/chacha.ts';
import { dpfTag } from './kernels/plain/dpf.ts';

/** Places of one leaf: 128 bits of seed over 32 bits a word. */
const leafWords = 4;
const levelsOf = (domain: number): number => Math.max(0, Math.ceil(Math.log2(domain / leafWords)));

/** Bytes of a key: root seed, one corrected seed a level, two bits a level, the last correction. */
export const dpfKeyBytes = (domain: number): number => 16 + 16 * levelsOf(domain) + Math.ceil((2 * levelsOf(domain)) / 8) + 16;

const key = new Uint32Array(8);
const block = new Uint32Array(16);
/** G(seed): `block` holds the left seed, the right seed, and in its ninth word's low bits t_L and t_R. */
function expand(seed: Uint32Array, salt: Uint32Array): void {
  key.set(seed);
  key.set(salt, 4);
  chachaBlock(block, 0, 1, key, 0, dpfTag, 0, 0, 12);
}

/** Places that a domain has at most. */
export const mostPlaces = 2 ** 24;

function checkDomain(domain: number): void {
  if (!(Number.isInteger(domain) && domain >= 1 && domain <= mostPlaces)) throw new RangeError(`a domain of 1 to 2^24 places is expected, got ${domain}`);
}

/**
 * Keys of the point function that is `value` (a word) at `alpha` and 0 at the domain's other places. `random` fills 32 bytes from the
 * system's CSPRNG; `salt` has 16 bytes, public and the same at both parties. Throws RangeError when alpha is no place of the domain.
 */
export function makeDpf(
  alpha: number,
  domain: number,
  value: number,
  salt: Uint8Array,
  random: (bytes: Uint8Array<ArrayBuffer>) => void,
): [Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>] {
  checkDomain(domain);
  const salted = saltOf(salt);
  if (!(Number.isInteger(alpha) && alpha >= 0 && alpha < domain)) throw new RangeError(`place ${alpha} of a domain of ${domain}`);
  const levels = levelsOf(domain);
  const leaf = Math.floor(alpha / leafWords);
  const roots = new Uint8Array(32);
  random(roots);
  const s = [wordsOf(roots.subarray(0, 16)), wordsOf(roots.subarray(16))];
  const t = [0, 1];
  const seeds = new Uint32Array(4 * levels);
  const bits = new Uint8Array(Math.ceil((2 * levels) / 8));
  for (let level = 0; level < levels; level++) {
    const right = (leaf >> (levels - 1 - level)) & 1;
    const both = s.map((seed) => {
      expand(seed, salted);
      return block.slice(0, 9);
    });
    const lost = right ? 0 : 4;
    const kept = 4 - lost;
    for (let i = 0; i < 4; i++) seeds[4 * level + i] = both[0][lost + i] ^ both[1][lost + i];
    const tOf = (side: number): number => ((both[0][8] ^ both[1][8]) >>> side) & 1;
    const tLeft = tOf(0) ^ right ^ 1;
    const tRight = tOf(1) ^ right;
    bits[level >> 2] |= (tLeft | (tRight << 1)) << (2 * (level & 3));
    for (const b of [0, 1]) {
      const on = t[b];
      for (let i = 0; i < 4; i++) s[b][i] = both[b][kept + i] ^ (on ? seeds[4 * level + i] : 0);
      t[b] = ((both[b][8] >>> right) & 1) ^ (on & (right ? tRight : tLeft));
    }
  }
  const last = new Uint32Array(leafWords);
  for (let j = 0; j < leafWords; j++) {
    const wanted = j === alpha % leafWords ? value : 0;
    last[j] = t[1] ? s[0][j] - s[1][j] - wanted : wanted - s[0][j] + s[1][j];
  }
  key.fill(0);
  block.fill(0);
  const shared = [...bytesOf(seeds), ...bits, ...bytesOf(last)];
  return [Uint8Array.from([...roots.subarray(0, 16), ...shared]), Uint8Array.from([...roots.subarray(16), ...shared])];
}

function saltOf(salt: Uint8Array): Uint32Array {
  if (salt.length !== 16) throw new RangeError(`a salt of 16 bytes is expected, got ${salt.length}`);
  return wordsOf(salt);
}

/** Leaves, and room for the nodes that a kernel adds to make four. */
const leavesOf = (domain: number): number => 8 * Math.ceil(domain / leafWords / 8);

/** Words that `expandDpf` writes at `dst`: the domain's, and what rounds them up. */
export const dpfWords = (domain: number): number => leafWords * leavesOf(domain);
/** Bytes of memory that it borrows. */
export const dpfScratch = (domain: number): number => 64 + 24 * (leavesOf(domain) + 16);

/**
 * The party's share of the vector, at `dst`: `domain` words, whose sum over both parties is `value` at alpha and 0 elsewhere. Throws
 * RangeError for a key of another length.
 */
export function expandDpf(k: Kernels, bytes: Uint8Array, salt: Uint8Array, party: 0 | 1, domain: number, dst: Ptr, scratch: Ptr): void {
  checkDomain(domain);
  if (bytes.length !== dpfKeyBytes(domain)) throw new RangeError(`a key of ${dpfKeyBytes(domain)} bytes is expected for ${domain} places, got ${bytes.length}`);
  const levels = levelsOf(domain);
  const corrections = wordsOf(bytes.subarray(16, 16 + 16 * levels));
  const bits = bytes.subarray(16 + 16 * levels, bytes.length - 16);
  const last = wordsOf(bytes.subarray(bytes.length - 16));
  // Levels take turns at two places, the last one's seeds at dst; t's likewise.
  const room = leavesOf(domain) + 16;
  const other = scratch + 64;
  const seedsAt = (level: number): Ptr => ((levels - level) % 2 === 0 ? dst : other);
  const tAt = (level: number): Ptr => other + 8 * room + (level % 2) * 4 * room;
  k.u32.set(wordsOf(bytes.subarray(0, 16)), seedsAt(0) / 4);
  k.u32[tAt(0) / 4] = -party;
  k.u32.set(saltOf(salt), scratch / 4 + 8);
  for (let level = 0; level < levels; level++) {
    // Subtrees beyond the domain are never needed.
    const parents = Math.min(2 ** level, Math.ceil(domain / (leafWords << (levels - level))));
    const t = [0, 1].map((side) => -((bits[level >> 2] >> (2 * (level & 3) + side)) & 1));
    k.u32.set([...corrections.subarray(4 * level, 4 * level + 4), ...t], scratch / 4);
    k.dpfLevel(seedsAt(level + 1), tAt(level + 1), seedsAt(level), tAt(level), scratch, 4 * Math.ceil(parents / 4));
  }
  const leaves = Math.ceil(domain / leafWords);
  correctLeaves(k.i32.subarray(dst / 4, dst / 4 + leafWords * leaves), k.i32.subarray(tAt(levels) / 4, tAt(levels) / 4 + leaves), last, party);
}

/** Adds the last correction where t is set; party 1's share is negated. Leaf by leaf on signed words: a third of the time of doubles. */
function correctLeaves(words: Int32Array, t: Int32Array, last: Uint32Array, party: 0 | 1): void {
  const [c0, c1, c2, c3] = last;
  const sign = party === 0 ? 0 : -1;
  for (let leaf = 0; leaf < t.length; leaf++) {
    const on = t[leaf];
    const x = leafWords * leaf;
    words[x] = ((words[x] + (c0 & on)) ^ sign) - sign;
    words[x + 1] = ((words[x + 1] + (c1 & on)) ^ sign) - sign;
    words[x + 2] = ((words[x + 2] + (c2 & on)) ^ sign) - sign;
    words[x + 3] = ((words[x + 3] + (c3 & on)) ^ sign) - sign;
  }
}

function wordsOf(bytes: Uint8Array): Uint32Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return Uint32Array.from({ length: bytes.length / 4 }, (_, i) => view.getUint32(4 * i, true));
}

function bytesOf(words: Uint32Array): Uint8Array {
  const out = new Uint8Array(4 * words.length);
  const view = new DataView(out.buffer);
  words.forEach((w, i) => {
    view.setUint32(4 * i, w, true);
  });
  return out;
}
