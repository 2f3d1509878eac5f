import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp, { type ResizeOptions } from 'sharp';
import { ModelError, type Tensor } from '../graph/graph.ts';
import { type ImageSpec, type Pixels, specOf, toTensor } from './pixels.ts';

/** Image files in Node: PNG, JPEG and what else sharp reads → pixels of the size a model takes. */
const MAX_PIXELS = 100_000_000;

/** How the model in this folder wants its images. */
export function loadImageSpec(dir: string, image: readonly [number, number, number]): ImageSpec {
  const path = join(dir, 'preprocessor_config.json');
  if (!existsSync(path)) return specOf(image, undefined);
  try {
    return specOf(image, JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>);
  } catch (e) {
    throw e instanceof ModelError ? e : new ModelError(`${path}: not JSON: ${(e as Error).message}`);
  }
}

/** A path or a file's bytes → pixels as `spec` has them. Turned upright by its EXIF, transparency laid on white. */
export async function decodeImage(file: string | Uint8Array, spec: ImageSpec): Promise<Pixels> {
  const { channels, width, height, kernel } = spec;
  try {
    const opened = sharp(file, { limitInputPixels: MAX_PIXELS, failOn: 'truncated' }).autoOrient().flatten({ background: '#fff' });
    const coloured = channels === 1 ? opened.grayscale() : opened.toColourspace('srgb');
    const resize = (w: number, h: number, fit: 'fill' | 'contain' | 'outside'): ResizeOptions => ({
      width: w,
      height: h,
      fit,
      kernel,
      fastShrinkOnLoad: false,
    });
    let sized = coloured;
    if (spec.fit === 'fill') sized = coloured.resize(resize(width, height, 'fill'));
    else if (spec.fit === 'contain') sized = coloured.resize({ ...resize(width, height, 'contain'), background: await paper(file) });
    else {
      const { resize: to = 0 } = spec;
      const edge = Math.max(typeof to === 'number' ? to : 0, width, height);
      const exact =
        typeof to !== 'number' ? resize(Math.max(to[1], width), Math.max(to[0], height), 'fill') : resize(edge, edge, 'outside');
      const whole = await coloured.resize(exact).raw().toBuffer({ resolveWithObject: true });
      const { width: w, height: h, channels: c } = whole.info;
      sized = sharp(whole.data, { raw: { width: w, height: h, channels: c } }).extract({
        left: (w - width) >> 1,
        top: (h - height) >> 1,
        width,
        height,
      });
      if (channels === 1) sized = sized.grayscale();
    }
    const { data, info } = await sized.raw({ depth: 'uchar' }).toBuffer({ resolveWithObject: true });
    // A grey PNG stays grey through sRGB: its one channel is all three.
    if (info.channels === channels) return { width, height, channels, data: new Uint8Array(data) };
    const out = new Uint8Array(width * height * channels);
    for (let i = 0; i < width * height; i++)
      for (let c = 0; c < channels; c++) out[i * channels + c] = data[i * info.channels + Math.min(c, info.channels - 1)];
    return { width, height, channels, data: out };
  } catch (e) {
    const what = typeof file === 'string' ? file : 'image';
    throw e instanceof ModelError ? e : new ModelError(`${what}: cannot be read as an image: ${(e as Error).message}`);
  }
}

/** The colour of the top left corner: bars in any other would be part of the picture. */
async function paper(file: string | Uint8Array): Promise<{ r: number; g: number; b: number }> {
  const { data } = await sharp(file, { limitInputPixels: MAX_PIXELS })
    .autoOrient()
    .flatten({ background: '#fff' })
    .toColourspace('srgb')
    .extract({ left: 0, top: 0, width: 1, height: 1 })
    .raw()
    .toBuffer({ resolveWithObject: true });
  return { r: data[0], g: data[1] ?? data[0], b: data[2] ?? data[0] };
}

export const readImage = async (file: string | Uint8Array, spec: ImageSpec): Promise<Tensor> =>
  toTensor(await decodeImage(file, spec), spec);
