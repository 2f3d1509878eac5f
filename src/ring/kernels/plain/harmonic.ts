import { type Kernels, type Ptr, stripBytes } from '../kernels.ts';
import type { Views } from '../memory.ts';
import { streamWords } from './chacha.ts';
import { packedValue, packValues, prgValues } from './streams.ts';
import { cosSin32, cosSin64, round32, round64 } from './turns.ts';

type Names = 'dealHarmonic' | 'harmonic' | 'dealHarmonicRow' | 'harmonicRow';
const f = Math.fround;

/** z_1 … z_K of one element in single precision: z_{k+1} = z_k·z_1. Calls visit(k, cos, sin), k from 0. */
function harmonics32(c: number, m: number, K: number, visit: (k: number, cos: number, sin: number) => void): void {
  const [c1, s1] = cosSin32(c, m);
  let cos = c1;
  let sin = s1;
  for (let k = 0; k < K; k++) {
    visit(k, cos, sin);
    [cos, sin] = [f(f(cos * c1) - f(sin * s1)), f(f(sin * c1) + f(cos * s1))];
  }
}

/** The same in double precision, as four chains that each turn by z_4: shorter chains err less and run side by side. */
function harmonics64(c: number, m: number, K: number, visit: (k: number, cos: number, sin: number) => void): void {
  const times = ([a, b]: [number, number], [c, d]: [number, number]): [number, number] => [a * c - b * d, b * c + a * d];
  const z1 = cosSin64(c, m);
  const z2 = times(z1, z1);
  const chains = [z1, z2, times(z2, z1), times(z2, z2)];
  const z4 = chains[3];
  for (let k = 0; k < K; k++) {
    visit(k, ...chains[k & 3]);
    chains[k & 3] = times(chains[k & 3], z4);
  }
}

export function plainHarmonic(v: Views): Pick<Kernels, Names> {
  const { u8, u32, f32, f64 } = v;

  /** 48-bit values of a row gate's stream. */
  const wide = (bytes: Uint8Array, at: number, i: number): number => {
    let value = 0;
    for (let b = 5; b >= 0; b--) value = value * 256 + bytes[at + 6 * i + b];
    return value;
  };
  const wideStream = (key: Ptr, step: number, gate: number, stream: number, n: number): Uint8Array =>
    new Uint8Array(streamWords(u32.slice(key >>> 2, (key >>> 2) + 8), step, gate, stream, 0, Math.ceil((6 * n) / 512)).buffer);

  const packLess = (dst: Ptr, values: Uint32Array, prg: Uint32Array, w: number): void =>
    packValues(
      u32,
      dst >>> 2,
      values.map((value, i) => value - prg[i]),
      w,
    );

  return {
    dealHarmonic(packed, r, stride, rows, width, K, t, w, m, key, step, gate, stream) {
      const blocks = Math.ceil(width / 4);
      const values = new Uint32Array(rows * blocks * 8 * K);
      for (let row = 0; row < rows; row++)
        for (let j = 0; j < 4 * blocks; j++) {
          const at = (row * blocks + (j >>> 2)) * 8 * K + (j & 3);
          harmonics32(j < width ? u32[(r >>> 2) + row * stride + j] : 0, m, K, (k, cos, sin) => {
            values[at + 8 * k] = round32(f(cos * 2 ** t));
            values[at + 8 * k + 4] = round32(f(sin * 2 ** t));
          });
        }
      packLess(packed, values, prgValues(v, key, step, gate, stream, w, 0, values.length), w);
    },
    harmonic(out, c, stride, rows, width, coef, splat, K, w, m, packed, key, step, gate, stream) {
      const blocks = Math.ceil(width / 4);
      const prg = packed === 0 ? prgValues(v, key, step, gate, stream, w, 0, rows * blocks * 8 * K) : null;
      for (let row = 0; row < rows; row++)
        for (let j = 0; j < width; j++) {
          const first = (row * blocks + (j >>> 2)) * 8 * K + (j & 3);
          const at = (coef >>> 2) + (splat ? 0 : (j >>> 2) * 8 * K) + (j & 3);
          const word = (i: number): number => (prg ? prg[i] : packedValue(u32, packed >>> 2, w, i));
          let sum = u32[(out >>> 2) + row * stride + j];
          harmonics32(u32[(c >>> 2) + row * stride + j], m, K, (k, cos, sin) => {
            const a = f32[at + 8 * k];
            const b = f32[at + 8 * k + 4];
            const p = round32(f(f(a * cos) + f(b * sin)));
            const q = round32(f(f(a * sin) - f(b * cos)));
            sum = (sum + Math.imul(p, word(first + 8 * k)) + Math.imul(q, word(first + 8 * k + 4))) | 0;
          });
          u32[(out >>> 2) + row * stride + j] = sum;
        }
    },
    dealHarmonicRow(packed, r, n, K, t, w, m, key, step, gate, stream) {
      const values = new Float64Array(n * 2 * K);
      for (let i = 0; i < n; i++)
        harmonics64(u32[(r >>> 2) + i], m, K, (k, cos, sin) => {
          values[2 * (i * K + k)] = round64(cos * 2 ** t);
          values[2 * (i * K + k) + 1] = round64(sin * 2 ** t);
        });
      if (w <= 32)
        return packLess(
          packed,
          Uint32Array.from(values, (x) => x | 0),
          prgValues(v, key, step, gate, stream, w, 0, values.length),
          w,
        );
      const prg = wideStream(key, step, gate, stream, values.length);
      u8.fill(0, packed, packed + stripBytes(values.length, w));
      for (let i = 0; i < values.length; i++) {
        const word = (values[i] - wide(prg, 0, i) + 2 ** 50) % 2 ** 48;
        for (let b = 0; b < 6; b++) u8[packed + 6 * i + b] = Math.floor(word / 256 ** b);
      }
    },
    harmonicRow(out, c, n, coef, channels, inner, K, w, m, packed, key, step, gate, stream) {
      const total = n * 2 * K;
      const narrow = packed === 0 && w <= 32 ? prgValues(v, key, step, gate, stream, w, 0, total) : null;
      const broad = packed === 0 && w > 32 ? wideStream(key, step, gate, stream, total) : null;
      const big = new BigInt64Array(v.memory.buffer);
      for (let i = 0; i < n; i++) {
        const at = (coef >>> 3) + (Math.floor(i / inner) % channels) * 2 * K;
        let sum = 0;
        let wideSum = 0n;
        harmonics64(u32[(c >>> 2) + i], m, K, (k, cos, sin) => {
          const a = f64[at + 2 * k];
          const b = f64[at + 2 * k + 1];
          const p = round64(a * cos + b * sin);
          const q = round64(a * sin - b * cos);
          const j = 2 * (i * K + k);
          if (w <= 32) {
            const word = (i: number): number => (narrow ? narrow[i] : packedValue(u32, packed >>> 2, w, i));
            sum = (sum + Math.imul(p, word(j)) + Math.imul(q, word(j + 1))) | 0;
          } else {
            const word = (i: number): bigint => BigInt(broad ? wide(broad, 0, i) : wide(u8, packed, i));
            wideSum += BigInt(p) * word(j) + BigInt(q) * word(j + 1);
          }
        });
        if (w <= 32) u32[(out >>> 2) + i] += sum;
        else big[(out >>> 3) + i] += wideSum;
      }
    },
  };
}
