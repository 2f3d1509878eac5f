/**
 * Pictures of any size → pixels as a model takes them, in plain TypeScript: the same on every platform, and what models were trained on.
 * (A canvas scales as its browser likes, without the low-pass a shrunk picture needs.) image.ts does the same with sharp, from files.
 *
 * A kernel is stretched by the factor a picture shrinks by, as in PIL and libvips; weights of each output pixel add up to 1. Enlarged, pixels'
 * centres stay where they are, as in PIL; libvips shifts them by half a pixel.
 */
import type { ImageSpec, Pixels } from './pixels.ts';

/** Row by row, channels together, 0–255: grey, RGB, or RGBA as a canvas gives it. */
export interface RawPixels {
  readonly width: number;
  readonly height: number;
  readonly data: ArrayLike<number>;
}

/** Between steps: floats, so that rounding happens once. */
interface Image {
  readonly width: number;
  readonly height: number;
  readonly channels: number;
  readonly data: Float32Array;
}

const sinc = (x: number): number => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));
/** Weight at a distance of |x| pixels, and beyond which distance it is 0. */
const kernels: Record<Exclude<ImageSpec['kernel'], 'nearest'>, readonly [weight: (x: number) => number, support: number]> = {
  linear: [(x) => Math.max(0, 1 - x), 1],
  // Catmull-Rom.
  cubic: [(x) => (x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0), 2],
  lanczos3: [(x) => (x < 3 ? sinc(x) * sinc(x / 3) : 0), 3],
};

/** Transparency is laid on white. Throws RangeError when the data is of no such form. */
export function fitPixels(raw: RawPixels, spec: ImageSpec): Pixels {
  const { width, height, channels } = spec;
  const whole = channels === 1 ? grey(opaque(raw)) : opaque(raw);
  const clamped = (image: Image): Pixels => ({ width, height, channels, data: Uint8ClampedArray.from(image.data) });
  if (spec.fit === 'fill') return clamped(resize(whole, width, height, spec.kernel));
  if (spec.fit === 'contain') {
    const scale = Math.min(width / whole.width, height / whole.height);
    const inner = resize(whole, atLeast1(whole.width * scale), atLeast1(whole.height * scale), spec.kernel);
    return clamped(framed(inner, width, height, whole.data.slice(0, channels)));
  }
  const { resize: to = 0 } = spec;
  const edge = Math.max(typeof to === 'number' ? to : 0, width, height);
  const scale = Math.max(edge / whole.width, edge / whole.height);
  const [w, h] =
    typeof to === 'number'
      ? [atLeast1(whole.width * scale), atLeast1(whole.height * scale)]
      : [Math.max(to[1], width), Math.max(to[0], height)];
  return clamped(cut(resize(whole, w, h, spec.kernel), width, height));
}

const atLeast1 = (x: number): number => Math.max(1, Math.round(x));

function opaque({ width, height, data }: RawPixels): Image {
  const area = width * height;
  const given = data.length / area;
  if (!(area > 0) || (given !== 1 && given !== 3 && given !== 4))
    throw new RangeError(`${width}x${height} pixels have 1, 3 or 4 values each, got ${data.length} in all`);
  const out = new Float32Array(3 * area);
  for (let i = 0; i < area; i++)
    for (let c = 0; c < 3; c++) {
      const value = data[i * given + (given === 1 ? 0 : c)];
      out[3 * i + c] = given === 4 ? 255 + (value - 255) * (data[4 * i + 3] / 255) : value;
    }
  return { width, height, channels: 3, data: out };
}

/** Luminance of linear light, then gamma again, as libvips has it. */
function grey({ width, height, data }: Image): Image {
  const out = new Float32Array(width * height);
  for (let i = 0; i < out.length; i++) {
    const [r, g, b] = [data[3 * i], data[3 * i + 1], data[3 * i + 2]];
    out[i] = r === g && g === b ? r : fromLinear(0.2126 * toLinear(r) + 0.7152 * toLinear(g) + 0.0722 * toLinear(b));
  }
  return { width, height, channels: 1, data: out };
}
const toLinear = (v: number): number => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
const fromLinear = (l: number): number => 255 * (l <= 0.0031308 ? 12.92 * l : 1.055 * l ** (1 / 2.4) - 0.055);

function resize(image: Image, width: number, height: number, kernel: ImageSpec['kernel']): Image {
  const { channels, data } = image;
  // Rows first, then columns; what is between has the new width.
  const rows = resample(data, image.height, image.width, channels, width, kernel);
  return { width, height, channels, data: columns(rows, image.height, width * channels, height, kernel) };
}

interface Taps {
  readonly from: number;
  readonly weights: Float64Array;
}

/** Which of `size` places make each of `to`, and how much of each. */
function taps(size: number, to: number, kernel: ImageSpec['kernel']): Taps[] {
  const scale = size / to;
  if (kernel === 'nearest')
    return Array.from({ length: to }, (_, i) => ({ from: Math.min(size - 1, Math.floor((i + 0.5) * scale)), weights: Float64Array.of(1) }));
  const [weight, support] = kernels[kernel];
  const stretch = Math.max(1, scale);
  return Array.from({ length: to }, (_, i) => {
    const centre = (i + 0.5) * scale;
    const from = Math.max(0, Math.floor(centre - support * stretch));
    const end = Math.min(size, Math.ceil(centre + support * stretch));
    const weights = Float64Array.from({ length: end - from }, (_, j) => weight(Math.abs((from + j + 0.5 - centre) / stretch)));
    const sum = weights.reduce((a, b) => a + b, 0);
    return { from, weights: weights.map((w) => w / sum) };
  });
}

function resample(
  data: Float32Array,
  height: number,
  width: number,
  channels: number,
  to: number,
  kernel: ImageSpec['kernel'],
): Float32Array {
  if (to === width) return data;
  const out = new Float32Array(height * to * channels);
  taps(width, to, kernel).forEach(({ from, weights }, x) => {
    for (let y = 0; y < height; y++)
      for (let c = 0; c < channels; c++) {
        let sum = 0;
        for (let j = 0, at = (y * width + from) * channels + c; j < weights.length; j++, at += channels) sum += weights[j] * data[at];
        out[(y * to + x) * channels + c] = sum;
      }
  });
  return out;
}

function columns(data: Float32Array, height: number, stride: number, to: number, kernel: ImageSpec['kernel']): Float32Array {
  if (to === height) return data;
  const out = new Float32Array(to * stride);
  taps(height, to, kernel).forEach(({ from, weights }, y) => {
    const row = out.subarray(y * stride, (y + 1) * stride);
    weights.forEach((weight, j) => {
      for (let x = 0, at = (from + j) * stride; x < stride; x++) row[x] += weight * data[at + x];
    });
  });
  return out;
}

/** In the middle of a larger picture of one colour. */
function framed(inner: Image, width: number, height: number, colour: Float32Array): Image {
  const { channels } = inner;
  const out = new Float32Array(width * height * channels);
  for (let i = 0; i < out.length; i++) out[i] = colour[i % channels];
  const [left, top] = [(width - inner.width) >> 1, (height - inner.height) >> 1];
  for (let y = 0; y < inner.height; y++)
    out.set(inner.data.subarray(y * inner.width * channels, (y + 1) * inner.width * channels), ((top + y) * width + left) * channels);
  return { width, height, channels, data: out };
}

/** The middle. */
function cut(image: Image, width: number, height: number): Image {
  const { channels } = image;
  const out = new Float32Array(width * height * channels);
  const [left, top] = [(image.width - width) >> 1, (image.height - height) >> 1];
  for (let y = 0; y < height; y++) {
    const from = ((top + y) * image.width + left) * channels;
    out.set(image.data.subarray(from, from + width * channels), y * width * channels);
  }
  return { width, height, channels, data: out };
}
