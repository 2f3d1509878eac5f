import { ModelError, type Tensor } from '../graph/graph.ts';

/**
 * Pixels → the tensor an image model takes, on the client's machine; no Node imports (image.ts decodes files with sharp, a browser has
 * its canvas). What a model wants is an ImageSpec, read from preprocessor_config.json where there is one.
 */
export interface Pixels {
  readonly width: number;
  readonly height: number;
  readonly channels: 1 | 3;
  /** Row by row, channels together, 0–255. */
  readonly data: Uint8Array | Uint8ClampedArray;
}

export interface ImageSpec {
  readonly channels: 1 | 3;
  readonly height: number;
  readonly width: number;
  /** How another shape is brought to this one. 'fill' stretches; 'crop' resizes to `resize`, then takes the middle; 'contain' adds bars. */
  readonly fit: 'fill' | 'crop' | 'contain';
  /** Before a crop: the shorter edge, or [height, width] exactly. */
  readonly resize?: number | readonly [number, number];
  readonly kernel: 'nearest' | 'linear' | 'cubic' | 'lanczos3';
  /** value · scale, then minus mean, then over std, a channel each. */
  readonly scale: number;
  readonly mean: readonly number[];
  readonly std: readonly number[];
  /** Digits are learnt white on black; 'auto' turns an image round whose border is brighter than its middle. */
  readonly invert: boolean | 'auto';
}

/** What a model with input [channels, height, width] and no word about preprocessing gets: 0…1. */
export function plainSpec([channels, height, width]: readonly [number, number, number]): ImageSpec {
  if (channels !== 1 && channels !== 3) throw new ModelError(`an image input of ${channels} channels; 1 and 3 are supported`);
  const grey = channels === 1;
  return {
    channels,
    height,
    width,
    fit: grey ? 'contain' : 'fill',
    kernel: 'linear',
    scale: 1 / 255,
    mean: Array(channels).fill(0),
    std: Array(channels).fill(1),
    invert: grey ? 'auto' : false,
  };
}

const KERNELS = ['nearest', 'lanczos3', 'linear', 'cubic'] as const;

/** preprocessor_config.json, old and new spelling. */
export function specOf(image: readonly [number, number, number], config: Readonly<Record<string, unknown>> | undefined): ImageSpec {
  const plain = plainSpec(image);
  if (config === undefined) return plain;
  const { channels, height, width } = plain;
  const flag = (key: string, or: boolean): boolean => (typeof config[key] === 'boolean' ? (config[key] as boolean) : or);
  const numbers = (key: string): number[] => {
    const value = config[key];
    const list = typeof value === 'number' ? Array(channels).fill(value) : value;
    if (!Array.isArray(list) || list.length !== channels || !list.every((v) => typeof v === 'number' && Number.isFinite(v)))
      throw new ModelError(`preprocessor_config.json: ${key} is ${JSON.stringify(value)}; ${channels} numbers are expected`);
    return list as number[];
  };
  // A bare number is a square for the families read here (older files), as transformers has it.
  const resize = (): ImageSpec['resize'] => {
    const size = config.size;
    if (typeof size === 'number') return [size, size];
    const sides = typeof size === 'object' && size !== null ? (size as Record<string, unknown>) : {};
    if (typeof sides.height === 'number' && typeof sides.width === 'number') return [sides.height, sides.width];
    return typeof sides.shortest_edge === 'number' ? sides.shortest_edge : undefined;
  };
  const crop = flag('do_center_crop', false);
  const normalize = flag('do_normalize', true) && config.image_mean !== undefined;
  const std = normalize ? numbers('image_std') : plain.std;
  if (std.some((v) => v === 0)) throw new ModelError('preprocessor_config.json: image_std has a zero');
  const rescale = config.rescale_factor;
  return {
    channels,
    height,
    width,
    fit: crop ? 'crop' : 'fill',
    resize: crop && flag('do_resize', true) ? resize() : undefined,
    kernel: KERNELS[config.resample as number] ?? 'linear',
    scale: flag('do_rescale', true) ? (typeof rescale === 'number' ? rescale : 1 / 255) : 1,
    mean: normalize ? numbers('image_mean') : plain.mean,
    std,
    invert: false,
  };
}

/** Pixels of the right size → [1, channels, height, width]. */
export function toTensor(pixels: Pixels, spec: ImageSpec): Tensor {
  const { width, height, channels, data } = pixels;
  if (width !== spec.width || height !== spec.height || channels !== spec.channels || data.length !== width * height * channels)
    throw new RangeError(
      `expected ${spec.width}x${spec.height} pixels of ${spec.channels} channels, got ${width}x${height} of ${channels} (${data.length} bytes)`,
    );
  const turn = spec.invert === 'auto' ? brightBorder(pixels) : spec.invert;
  const out = new Float32Array(data.length);
  const area = width * height;
  for (let c = 0; c < channels; c++)
    for (let i = 0; i < area; i++) {
      const value = data[i * channels + c];
      out[c * area + i] = ((turn ? 255 - value : value) * spec.scale - spec.mean[c]) / spec.std[c];
    }
  return { dtype: 'f32', shape: [1, channels, height, width], data: out };
}

/** Ink on paper: the border is brighter than the whole. */
export function brightBorder({ width, height, channels, data }: Pixels): boolean {
  let [border, count, all] = [0, 0, 0];
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++)
      for (let c = 0; c < channels; c++) {
        const value = data[(y * width + x) * channels + c];
        all += value;
        if (x === 0 || y === 0 || x === width - 1 || y === height - 1) {
          border += value;
          count++;
        }
      }
  return border / count > all / data.length;
}

/** A [1, c, h, w], [c, h, w] or [h, w] tensor as pixels again, its own range stretched to 0–255: to show what a model sees. */
export function toPixels({ shape, data }: Tensor): Pixels {
  const sides = shape.length === 4 && shape[0] === 1 ? shape.slice(1) : shape;
  const [channels, height, width] = sides.length === 2 ? [1, ...sides] : sides;
  if (sides.length < 2 || sides.length > 3 || (channels !== 1 && channels !== 3)) throw new RangeError(`no image: [${shape}]`);
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const v of data) {
    low = Math.min(low, v);
    high = Math.max(high, v);
  }
  const span = high > low ? high - low : 1;
  const area = height * width;
  const out = new Uint8Array(data.length);
  for (let c = 0; c < channels; c++)
    for (let i = 0; i < area; i++) out[i * channels + c] = Math.round(((data[c * area + i] - low) / span) * 255);
  return { width, height, channels, data: out };
}
