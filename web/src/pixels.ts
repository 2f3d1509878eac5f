/** Pictures between files, canvases and what a model takes. */
import { brightBorder, type ImageSpec, type Pixels } from '../../src/tasks/pixels.ts';
import { fitPixels } from '../../src/tasks/resize.ts';

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

/**
 * A file as the model is to get it: upright, brought to its size, turned round where it is ink on paper. Throws an Error with one line for a
 * person when the browser cannot read it.
 */
export async function fromFile(file: File, spec: ImageSpec): Promise<ImageData> {
  const bitmap = await createImageBitmap(file).catch(() => {
    throw new Error(`${file.name} cannot be read as a picture: PNG, JPEG, WebP or GIF is expected.`);
  });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext('2d') as OffscreenCanvasRenderingContext2D;
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const pixels = fitPixels(context.getImageData(0, 0, canvas.width, canvas.height), spec);
  const turn = spec.invert === 'auto' ? brightBorder(pixels) : spec.invert;
  return toImageData(turn ? { ...pixels, data: pixels.data.map((v) => 255 - v) } : pixels);
}
