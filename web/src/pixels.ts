/** Pictures between files, canvases and what a model takes. */
import { pixelsOf } from '../../src/client/picture.ts';
import { brightBorder, type ImageSpec, type Pixels } from '../../src/tasks/pixels.ts';

export function blank(width: number, height: number): ImageData {
  const image = new ImageData(width, height);
  for (let i = 3; i < image.data.length; i += 4) image.data[i] = 255;
  return image;
}

/** Grey or coloured pixels as a canvas has them. */
export function toImageData({ width, height, channels, data }: Pixels): ImageData {
  const image = blank(width, height);
  for (let i = 0; i < width * height; i++)
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = data[i * channels + (channels === 1 ? 0 : c)];
  return image;
}

export function fromImageData(image: ImageData, channels: 1 | 3): Pixels {
  const { width, height, data: rgba } = image;
  const data = new Uint8Array(width * height * channels);
  for (let i = 0; i < width * height; i++) {
    const [r, g, b] = [rgba[4 * i], rgba[4 * i + 1], rgba[4 * i + 2]];
    // Where all three are equal this is their value exactly.
    if (channels === 1) data[i] = Math.round((299 * r + 587 * g + 114 * b) / 1000);
    else data.set([r, g, b], 3 * i);
  }
  return { width, height, channels, data };
}

/** As the model gets it: ink on paper is turned round where it wants that. What it wants of `invert: 'auto'` holds then, and changes nothing more. */
export function asSeen(pixels: Pixels, spec: ImageSpec): Pixels {
  return spec.invert === 'auto' && brightBorder(pixels) ? { ...pixels, data: pixels.data.map((v) => 255 - v) } : pixels;
}

/** A file brought to the model's size. Throws SubrosaError when it is no picture. */
export const fromFile = async (file: File, spec: ImageSpec): Promise<ImageData> => toImageData(asSeen(await pixelsOf(file, spec), spec));
