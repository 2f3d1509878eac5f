/**
 * The arithmetic a role runs on its shares, over one linear memory.
 *
 * Two implementations share this interface and one test suite: `wasm.ts` (AssemblyScript SIMD, what runs) and `plain.ts`
 * (scalar TypeScript, the twin that says what each kernel means). `parallel.ts` splits the same calls over worker threads.
 *
 * Conventions. A pointer (`Ptr`) is a byte offset into `memory`, a multiple of 16 unless said otherwise. Words are u32,
 * little-endian, arithmetic is modulo 2^32. A value of a smaller ring Z_2^b is a word whose low b bits count; kernels that
 * take `bits` return words masked to it. `n` counts values. A null pointer (0) means "absent" where a parameter says optional.
 * In-place use (dst equal to a source) is allowed wherever source and destination have the same index.
 * No kernel keeps state between calls; `scratch` is memory the caller lends for the call.
 */
export type Ptr = number;

export interface Kernels {
  readonly memory: WebAssembly.Memory;
  /** Views over the whole memory. The memory has its full size from the start, so views never detach. */
  readonly u8: Uint8Array;
  readonly u32: Uint32Array;
  readonly i32: Int32Array;
  readonly f32: Float32Array;
  readonly f64: Float64Array;

  // ── PRG ────────────────────────────────────────────────────────────────────────────────────────────────────────────
  /**
   * Values first … first+n−1, each of `bits` bits (1…32), of the ChaCha12 stream with this 32-byte key and nonce (step, gate, stream).
   * Word order: the stream is cut in groups of 8 ChaCha blocks (128 words); word p of a group is word (p >> 3) of block (p & 7).
   * Value order: values come in blocks of 128; block j of width b is 4·b consecutive stream words read as `unpack` reads them.
   * `first` is a multiple of 4096 (then it starts on a group boundary whatever b is). `scratch`: prgScratch bytes.
   */
  prg(dst: Ptr, key: Ptr, step: number, gate: number, stream: number, bits: number, first: number, n: number, scratch: Ptr): void;

  /**
   * One level of a point function's tree: from each of `parents` nodes (a multiple of 4; 4 words of seed, a word t of 0 or all ones) its
   * two children, side by side. correction: 4 words for the seeds, then t's of the left and the right child, as words of 0 or all ones, two
   * words that do not count, and the 4 words of the salt.
   */
  dpfLevel(below: Ptr, tBelow: Ptr, seeds: Ptr, t: Ptr, correction: Ptr, parents: number): void;

  // ── Bit-packing: 128 values of b bits ↔ 4·b words ─────────────────────────────────────────────────────────────────
  /**
   * Block of 128 values: value 4i+l (i < 32, l < 4) belongs to lane l; each lane's 32 values are concatenated, low bits first,
   * into b words; word j of lane l is stored at 4j+l. dst holds packedWords(bits, n) words; values past n count as zero;
   * values are masked to `bits` first. bits = 32 is a copy padded with zeros to 128 values.
   */
  pack(dst: Ptr, src: Ptr, bits: number, n: number): void;
  unpack(dst: Ptr, src: Ptr, bits: number, n: number): void;
  /** dst[i] = (mine[i] + unpack(theirs)[i]) mod 2^bits. Completes an opening. */
  openSum(dst: Ptr, mine: Ptr, theirs: Ptr, bits: number, n: number): void;

  // ── Elementwise ───────────────────────────────────────────────────────────────────────────────────────────────────
  fill(dst: Ptr, value: number, n: number): void;
  /** n 64-bit words low + 2^32·high. */
  fill64(dst: Ptr, low: number, high: number, n: number): void;
  copy(dst: Ptr, src: Ptr, n: number): void;
  add(dst: Ptr, a: Ptr, b: Ptr, n: number): void;
  sub(dst: Ptr, a: Ptr, b: Ptr, n: number): void;
  mul(dst: Ptr, a: Ptr, b: Ptr, n: number): void;
  /** dst = a[r,c] · b[r], rows × cols. */
  mulRow(dst: Ptr, a: Ptr, b: Ptr, rows: number, cols: number): void;
  /** dst[i] = (src[i] & mask) >>> shift. */
  bits(dst: Ptr, src: Ptr, mask: number, shift: number, n: number): void;
  /** dst[i] = x[i]·mul[ch] + add[ch], ch = floor(i / inner) mod channels; mul, add optional. n = multiple of channels·inner. */
  affine(dst: Ptr, x: Ptr, mul: Ptr, add: Ptr, channels: number, inner: number, n: number): void;
  /** dst[o,i] = Σ_a x[o,a,i]. */
  sumAxis(dst: Ptr, x: Ptr, outer: number, axis: number, inner: number): void;
  /** dst[r] = Σ_c a[r,c]·b[r,c]. */
  rowDot(dst: Ptr, a: Ptr, b: Ptr, rows: number, cols: number): void;
  /** dst[r,c] = factor·x[r,c] − Σ_c x[r,c]: `factor = cols` centres a row at `cols` times its scale. */
  centre(dst: Ptr, x: Ptr, factor: number, rows: number, cols: number): void;
  /** Strided copy of a d0×d1×d2×d3 box; s are src's strides, t dst's, in words; pointers word-aligned. Transposes, slices, concatenation. */
  copyBox(
    dst: Ptr,
    src: Ptr,
    d0: number,
    d1: number,
    d2: number,
    d3: number,
    s0: number,
    s1: number,
    s2: number,
    s3: number,
    t0: number,
    t1: number,
    t2: number,
    t3: number,
  ): void;
  /** Patches of one image x[C,H,W] as rows: dst[(oy·OW+ox), (c·KH+ky)·KW+kx], zero outside. */
  im2col(
    dst: Ptr,
    x: Ptr,
    C: number,
    H: number,
    W: number,
    KH: number,
    KW: number,
    strideY: number,
    strideX: number,
    padTop: number,
    padLeft: number,
    dilationY: number,
    dilationX: number,
    OH: number,
    OW: number,
  ): void;

  // ── Truncation, extension (docs/gates.md) ─────────────────────────────────────────────────────────────────────────
  /**
   * v = x[i]·mul[ch] + add[ch] mod 2^inBits (mul, add optional, ch as in `affine`);
   * y = ((v + 2^s − 1) mod 2^inBits) >>> s for party 0, v >>> s for party 1;
   * dst[i] = (y + offset + r[i]) mod 2^outBits (r optional). outBits ≤ inBits − s ≤ 32.
   */
  truncate(
    dst: Ptr,
    x: Ptr,
    mul: Ptr,
    add: Ptr,
    channels: number,
    inner: number,
    r: Ptr,
    offset: number,
    inBits: number,
    s: number,
    outBits: number,
    party: number,
    n: number,
  ): void;
  /** The same from 64-bit words (inBits ≤ 52) to 32-bit words, no channels: dst[i] = trunc(x[i]) mod 2^outBits. */
  truncate64(dst: Ptr, x: Ptr, inBits: number, s: number, outBits: number, party: number, n: number): void;
  /**
   * After the opening c = x + 2^(b−2) + r mod 2^b: X = c − 2^(b−2) as a signed word (written over c), g = 1 − msb(c),
   * rho = −r + 2^b·(w + g·mu), share = rho + X·[party = 0]. rho and share optional. w, mu: words whose low 32−b bits count.
   */
  extend(share: Ptr, rho: Ptr, c: Ptr, r: Ptr, w: Ptr, mu: Ptr, bits: number, party: number, n: number): void;
  /** Dealer's side: r = (r0 + r1) mod 2^b, w = (r0 + r1) >>> b, mu = r >>> (b−1); b ≤ 30. */
  dealExtend(r: Ptr, w: Ptr, mu: Ptr, r0: Ptr, r1: Ptr, bits: number, n: number): void;

  // ── Shared bits (docs/gates.md, compare) ──────────────────────────────────────────────────────────────────────────
  /** dst = a ^ b over n words: adds shares of packed bits, and completes their opening. */
  xor(dst: Ptr, a: Ptr, b: Ptr, n: number): void;
  /** dst ^= a & b over n words. */
  xorAnd(dst: Ptr, a: Ptr, b: Ptr, n: number): void;
  /** dst[i] = 1 << v, v = bits shift … shift+width−1 of ~m[i]; the last entry, v = 2^width − 1, is left out (0). width ≤ 5. */
  oneHot(dst: Ptr, m: Ptr, shift: number, width: number, n: number): void;
  /**
   * Looks the public chunk v = bits shift … shift+width−1 of c[i] up in a share of such a table (bits summed by xor): eq[i] = entry v,
   * where the last entry is [party = 0] ^ the parity of the others, and gt[i] = parity of the entries below v. eq optional. Words 0, 1.
   */
  pickBits(eq: Ptr, gt: Ptr, c: Ptr, table: Ptr, shift: number, width: number, party: number, n: number): void;

  // ── Products of opened wires x = X + ρ, y = Y + σ (docs/gates.md) ──────────────────────────────────────────────────
  /**
   * z = [party = 0]·X·Y + X·σ + Y·ρ + ρσ, where ρσ is assembled from correction shares:
   *   both plain (xBits = yBits = 32):  rs
   *   x extended (xBits = b < 32):      −rs + g·2^b·muS
   *   y extended (yBits = b' < 32):     −rs + h·2^b'·nuR
   *   both extended:                    rs − g·2^b·muS − h·2^b'·nuR + g·h·2^(b+b')·muNu   (muNu absent when b + b' ≥ 32)
   * g = (X < 2^(b−2)) as signed words, h likewise of Y. When rowY, y has one value per row of `cols`; corrections have rows·cols values.
   */
  mulWires(
    z: Ptr,
    X: Ptr,
    rho: Ptr,
    xBits: number,
    Y: Ptr,
    sigma: Ptr,
    yBits: number,
    rs: Ptr,
    muS: Ptr,
    nuR: Ptr,
    muNu: Ptr,
    rows: number,
    cols: number,
    rowY: number,
    party: number,
  ): void;
  /** z = [party = 0]·X² + 2Xρ + r2 − g·2^(b+1)·muR + g·2^(2b)·mu; bits = 32: plain, muR and mu absent; mu absent when 2b ≥ 32. */
  squareWire(z: Ptr, X: Ptr, rho: Ptr, bits: number, r2: Ptr, muR: Ptr, mu: Ptr, party: number, n: number): void;
  /** z[row] = Σ_cols of the same, with r2 one word per row. */
  rowSquares(z: Ptr, X: Ptr, rho: Ptr, bits: number, r2: Ptr, muR: Ptr, mu: Ptr, party: number, rows: number, cols: number): void;

  // ── Matrix products ───────────────────────────────────────────────────────────────────────────────────────────────
  /** Packed B: panels of 16 columns, panel p holds K rows of 16 words; N padded with zeros. Words: K·ceil(N/16)·16. ld in elements.
   *  transposed: src is N × K. elementBytes 1, 2 (signed) or 4. src needs only element alignment. */
  packB(dst: Ptr, src: Ptr, K: number, N: number, ld: number, transposed: number, elementBytes: number): void;
  /** C[M,N] (ldc) = (accumulate ? C : 0) + A[M,K] (lda, any word alignment)·B (packed). scratch: gemmScratch bytes. */
  gemm(C: Ptr, ldc: number, A: Ptr, lda: number, B: Ptr, M: number, N: number, K: number, accumulate: number, scratch: Ptr): void;
  /** A matrix of signed halves as panels (panels.ts). src needs only element alignment. */
  packHalves(dst: Ptr, src: Ptr, K: number, N: number, ld: number, transposed: number): void;
  /** `gemm` for a public B in few bits: panels of this format (panels.ts). */
  gemmSmall(
    C: Ptr,
    ldc: number,
    A: Ptr,
    lda: number,
    B: Ptr,
    format: number,
    M: number,
    N: number,
    K: number,
    accumulate: number,
    scratch: Ptr,
  ): void;
  /** Float twins for the plain interpreter; sums run in the order of k. */
  packBF32(dst: Ptr, src: Ptr, K: number, N: number, ld: number, transposed: number): void;
  gemmF32(C: Ptr, ldc: number, A: Ptr, lda: number, B: Ptr, M: number, N: number, K: number, accumulate: number, scratch: Ptr): void;

  // ── Harmonic gate (docs/gates.md) ─────────────────────────────────────────────────────────────────────────────────
  /**
   * A strip is rows × width elements, element (row, j) at word row·stride + j. Elements go in blocks of 4 along a row, the last block
   * of a row padded. A block owns 2K vectors of 4 correction values, in the order C_1, S_1, … C_K, S_K, each of w bits; the strip's
   * values run block by block: stripValues(rows, width, K) in all, packed as `pack` does.
   *
   * Dealer: for r in Z_2^m, C_k = round(2^t cos(2πkr/2^m)), S_k likewise; writes pack(C_k − PRG, …) where PRG is the stream's values at
   * width w — party 0's share. scratch: harmonicScratch bytes.
   */
  dealHarmonic(
    packed: Ptr,
    r: Ptr,
    stride: number,
    rows: number,
    width: number,
    K: number,
    t: number,
    w: number,
    m: number,
    key: Ptr,
    step: number,
    gate: number,
    stream: number,
    scratch: Ptr,
  ): void;
  /**
   * Party: out(element) += Σ_k p_k·C_k + q_k·S_k mod 2^32 (only the low w bits count), θ = 2πc/2^m,
   * p_k = round(a_k cos kθ + b_k sin kθ), q_k = round(a_k sin kθ − b_k cos kθ), round to nearest even in f32.
   * The rounding is exact below 2^22: |p_k|, |q_k| and 2^t stay under that.
   * coef: f32 vectors a_1, b_1, … a_K, b_K (already times 2^u), 4 lanes each: one block when splat, else one per block of the row.
   * Correction values come from `packed` (party 1) or, when packed is 0, from the PRG stream (party 0).
   * The sine and cosine are this module's own polynomials in IEEE f32 without fusing: both parties get the same bits on every machine.
   */
  harmonic(
    out: Ptr,
    c: Ptr,
    stride: number,
    rows: number,
    width: number,
    coef: Ptr,
    splat: number,
    K: number,
    w: number,
    m: number,
    packed: Ptr,
    key: Ptr,
    step: number,
    gate: number,
    stream: number,
    scratch: Ptr,
  ): void;
  /**
   * Row gates: large K, few elements, f64 angles, words of w ≤ 32 bits, or of 33…48 bits sent as 6 bytes each.
   * n elements, contiguous; values run element by element C_1, S_1, …, C_K, S_K.
   *   w ≤ 32: values packed as `pack` does, PRG values of width w.     out: u32
   *   w > 32: value i is bytes 6i…6i+5, low byte first, packed and PRG alike (PRG words as bytes).     out: u64 (16-aligned)
   * As in `harmonic` the sum is added to out.
   * coef: f64 a_1, b_1, … (times 2^u), one set per channel; channel = floor(i / inner) mod channels. p_k, q_k rounded as doubles to int64, exact below 2^51.
   */
  dealHarmonicRow(
    packed: Ptr,
    r: Ptr,
    n: number,
    K: number,
    t: number,
    w: number,
    m: number,
    key: Ptr,
    step: number,
    gate: number,
    stream: number,
    scratch: Ptr,
  ): void;
  harmonicRow(
    out: Ptr,
    c: Ptr,
    n: number,
    coef: Ptr,
    channels: number,
    inner: number,
    K: number,
    w: number,
    m: number,
    packed: Ptr,
    key: Ptr,
    step: number,
    gate: number,
    stream: number,
    scratch: Ptr,
  ): void;
}

/** Words that `pack` writes for n values of `bits` bits. */
export const packedWords = (bits: number, n: number): number => 4 * bits * Math.ceil(n / 128);
/** Bytes on the wire of n values of `bits` bits. */
export const packedBytes = (bits: number, n: number): number => 4 * packedWords(bits, n);
/** Words of a packed B. */
export const panelWords = (K: number, N: number): number => K * Math.ceil(N / 16) * 16;
/** Correction values of a harmonic strip. */
export const stripValues = (rows: number, width: number, K: number): number => rows * Math.ceil(width / 4) * 4 * 2 * K;
/** Bytes of the corrections of a strip or of row elements. */
export const stripBytes = (values: number, w: number): number => (w <= 32 ? packedBytes(w, values) : 6 * Math.ceil(values / 64) * 64);
/** Scratch bytes a kernel may use, for eight threads together. */
export const gemmScratch = 1 << 22;
export const harmonicScratch = 1 << 21;
export const prgScratch = 1 << 18;
