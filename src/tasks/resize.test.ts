/** What a page makes of a picture is what sharp makes of it on the command line. */
import sharp from 'sharp';
import { describe, expect, test } from 'vitest';
import { decodeImage } from './image.ts';
import { type ImageSpec, plainSpec } from './pixels.ts';
import { fitPixels } from './resize.ts';

/** Smooth, in colour; grey in the corner that bars are painted with, because sharp makes a colour grey otherwise than a picture. */
function picture(width: number, height: number): Uint8Array {
  const data = new Uint8Array(3 * width * height);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      const [u, v] = [x / width, y / height];
      const at = 3 * (y * width + x);
      data[at] = 127 + 120 * Math.sin(7 * u + 3 * v);
      data[at + 1] = 127 + 120 * Math.sin(5 * v * u);
      data[at + 2] = 127 + 120 * Math.sin(4 * u - 2 * v);
    }
  return data;
}
const spec = (change: Partial<ImageSpec>, channels: 1 | 3 = 3, size = 24): ImageSpec => ({
  ...plainSpec([channels, size, size]),
  ...change,
});

const cases: [string, [number, number], ImageSpec][] = [
  ['filled', [90, 60], spec({ fit: 'fill' })],
  ['filled by cubes', [90, 60], spec({ fit: 'fill', kernel: 'cubic' })],
  ['filled by Lanczos', [61, 83], spec({ fit: 'fill', kernel: 'lanczos3' })],
  ['cropped', [90, 60], spec({ fit: 'crop', resize: 32 })],
  ['cropped from a set size', [90, 60], spec({ fit: 'crop', resize: [40, 30] })],
  ['cropped to the edge', [60, 90], spec({ fit: 'crop' })],
  ['with bars', [90, 60], spec({ fit: 'contain' })],
  ['with bars, upright', [31, 77], spec({ fit: 'contain' })],
  ['grey, with bars', [90, 60], spec({ fit: 'contain' }, 1)],
  ['grey, of one size already', [28, 28], spec({ fit: 'contain' }, 1, 28)],
];
describe.each(cases)('%s', (_, [width, height], wanted) => {
  test('as sharp does it', async () => {
    const data = picture(width, height);
    const png = await sharp(data, { raw: { width, height, channels: 3 } })
      .png()
      .toBuffer();
    const [ours, theirs] = [fitPixels({ width, height, data }, wanted), await decodeImage(png, wanted)];
    expect([ours.width, ours.height, ours.channels, ours.data.length]).toEqual([
      theirs.width,
      theirs.height,
      theirs.channels,
      theirs.data.length,
    ]);
    const off = Array.from(ours.data, (v, i) => Math.abs(v - theirs.data[i]));
    expect(off.reduce((a, b) => a + b, 0) / off.length).toBeLessThan(1.5);
    expect(Math.max(...off)).toBeLessThan(16);
  });
});

test('transparency is white, grey is all three channels', () => {
  const out = fitPixels({ width: 2, height: 1, data: [255, 0, 0, 255, 0, 0, 0, 0] }, { ...spec({ fit: 'fill' }), width: 2, height: 1 });
  expect([...out.data]).toEqual([255, 0, 0, 255, 255, 255]);
  const grey = fitPixels({ width: 2, height: 1, data: [7, 9] }, { ...spec({ fit: 'fill' }), width: 2, height: 1 });
  expect([...grey.data]).toEqual([7, 7, 7, 9, 9, 9]);
});

test('an enlarged picture keeps its centres', () => {
  const out = fitPixels({ width: 4, height: 1, data: [0, 10, 20, 30] }, { ...spec({ fit: 'fill' }, 1), width: 8, height: 1 });
  expect([...out.data]).toEqual([0, 2.5, 7.5, 12.5, 17.5, 22.5, 27.5, 30].map((v) => Uint8ClampedArray.of(v)[0]));
});

test('nearest takes pixels as they are', () => {
  const out = fitPixels(
    { width: 4, height: 1, data: [1, 2, 3, 4] },
    { ...spec({ fit: 'fill', kernel: 'nearest' }, 1), width: 2, height: 1 },
  );
  expect([...out.data]).toEqual([2, 4]);
});

test('data of no such form is refused', () => {
  expect(() => fitPixels({ width: 2, height: 2, data: [1, 2] }, spec({}))).toThrow('1, 3 or 4 values each');
  expect(() => fitPixels({ width: 0, height: 0, data: [] }, spec({}))).toThrow(RangeError);
});
