/** From whatever a page has of a picture to its pixels. */
import type { ImageSpec, Pixels } from '../tasks/pixels.ts';
import { fitPixels, type RawPixels } from '../tasks/resize.ts';
import { SubrosaError } from './errors.ts';

/** Pixels (an ImageData too), what a browser can draw (File, Blob, img, canvas, video, ImageBitmap), or a URL. Elsewhere: what `decode` takes. */
export type Picture = RawPixels | ImageBitmapSource | string | URL | Uint8Array;

/** Decodes a picture where there is no canvas; in Node, `decodeImage` of subrosa/image does. */
export type Decode = (picture: never, spec: ImageSpec) => Promise<Pixels>;

export async function pixelsOf(picture: Picture, spec: ImageSpec, decode?: Decode): Promise<Pixels> {
  try {
    if (isRaw(picture)) return fitPixels(picture, spec);
    if (decode) return await decode(picture as never, spec);
    return fitPixels(await drawn(picture), spec);
  } catch (e) {
    throw e instanceof SubrosaError
      ? e
      : new SubrosaError('bad-input', `the picture cannot be read: ${(e as Error).message}`, { cause: e });
  }
}

const isRaw = (picture: Picture): picture is RawPixels =>
  typeof picture === 'object' &&
  'data' in picture &&
  ArrayBuffer.isView(picture.data) &&
  'width' in picture &&
  typeof picture.width === 'number';

/** At its own size, upright, on white: what a browser's scaling makes of it is its own affair, so none happens here. */
async function drawn(picture: Exclude<Picture, RawPixels>): Promise<RawPixels> {
  if (typeof createImageBitmap !== 'function')
    throw new SubrosaError('bad-input', 'there is no canvas here: give pixels, or the option `decode`');
  const source =
    typeof picture === 'string' || picture instanceof URL
      ? await (await fetch(picture)).blob()
      : picture instanceof Uint8Array
        ? new Blob([picture as Uint8Array<ArrayBuffer>])
        : picture;
  const bitmap = await createImageBitmap(source as ImageBitmapSource);
  try {
    const { width, height } = bitmap;
    const canvas =
      typeof OffscreenCanvas === 'function'
        ? new OffscreenCanvas(width, height)
        : Object.assign(document.createElement('canvas'), { width, height });
    const context = canvas.getContext('2d', { willReadFrequently: true }) as
      | CanvasRenderingContext2D
      | OffscreenCanvasRenderingContext2D
      | null;
    if (!context) throw new RangeError(`no canvas of ${width}x${height} pixels`);
    context.drawImage(bitmap, 0, 0);
    return context.getImageData(0, 0, width, height);
  } finally {
    bitmap.close();
  }
}
