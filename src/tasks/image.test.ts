import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, describe, expect, test } from 'vitest';
import { ModelError, tensor } from '../graph/graph.ts';
import { decodeImage, loadImageSpec, readImage } from './image.ts';
import { type ImageSpec, plainSpec, specOf, toPixels, toTensor } from './pixels.ts';
import { bar, draw, wantsColor } from './show.ts';

const dir = mkdtempSync(join(tmpdir(), 'subrosa-image-'));
afterAll(() => rmSync(dir, { recursive: true }));

/** Pixels as a file of some kind. */
const encode = (
  width: number,
  height: number,
  channels: 1 | 3 | 4,
  at: (x: number, y: number) => number[],
  as: 'png' | 'jpeg' = 'png',
): Promise<Buffer> => {
  const data = Uint8Array.from(Array.from({ length: width * height }, (_, i) => at(i % width, Math.floor(i / width))).flat());
  return sharp(data, { raw: { width, height, channels } }).toFormat(as, { quality: 100 }).toBuffer();
};
const colour: ImageSpec = { ...plainSpec([3, 4, 4]), mean: [0.5, 0.4, 0.3], std: [0.5, 0.25, 0.1] };

describe('an image file becomes a tensor', () => {
  test('of the same size: channel by channel, scaled, less the mean, over the deviation', async () => {
    const t = await readImage(await encode(4, 4, 3, (x, y) => [x * 60, y * 60, 255]), colour);
    expect([t.dtype, t.shape]).toEqual(['f32', [1, 3, 4, 4]]);
    expect(t.data[1]).toBeCloseTo((60 / 255 - 0.5) / 0.5, 6);
    expect(t.data[16 + 4]).toBeCloseTo((60 / 255 - 0.4) / 0.25, 6);
    expect(t.data[32]).toBeCloseTo((1 - 0.3) / 0.1, 5);
  });
  test('from a JPEG as from a PNG, nearly', async () => {
    const t = await readImage(await encode(16, 16, 3, () => [200, 100, 50], 'jpeg'), plainSpec([3, 4, 4]));
    for (const [c, v] of [200, 100, 50].entries()) expect(t.data[c * 16 + 5] * 255).toBeCloseTo(v, -1);
  });
  test('a grey file for a colour model is grey in all channels, a colour file for a grey one its brightness', async () => {
    const grey = await readImage(await encode(4, 4, 1, (x) => [x * 80]), plainSpec([3, 4, 4]));
    expect([grey.data[3], grey.data[16 + 3], grey.data[32 + 3]].map((v) => Math.round(v * 255))).toEqual([240, 240, 240]);
    const one = await readImage(await encode(4, 4, 3, () => [255, 255, 255]), { ...plainSpec([1, 4, 4]), invert: false });
    expect([one.shape, one.data[0]]).toEqual([[1, 1, 4, 4], 1]);
  });
  test('transparency lies on white', async () => {
    const t = await readImage(await encode(4, 4, 4, () => [0, 0, 0, 0]), plainSpec([3, 4, 4]));
    expect(t.data[0]).toBe(1);
  });
  test('crop resizes the shorter edge, then takes the middle; fill stretches', async () => {
    const wide = await encode(24, 8, 3, (x) => (x < 8 ? [255, 0, 0] : x < 16 ? [0, 255, 0] : [0, 0, 255]));
    const spec = { ...plainSpec([3, 4, 4]), kernel: 'nearest' as const };
    const crop = await decodeImage(wide, { ...spec, fit: 'crop', resize: 4 });
    expect([...crop.data.subarray(0, 3)]).toEqual([0, 255, 0]);
    expect([...crop.data.subarray(-3)]).toEqual([0, 255, 0]);
    const square = await decodeImage(wide, { ...spec, fit: 'crop', resize: [6, 6] });
    expect([...square.data.subarray(0, 3), ...square.data.subarray(3, 6)]).toEqual([255, 0, 0, 0, 255, 0]);
    const fill = await decodeImage(wide, spec);
    expect([...fill.data.subarray(0, 3), ...fill.data.subarray(9, 12)]).toEqual([255, 0, 0, 0, 0, 255]);
  });
  test('dark ink on paper is turned into light on dark for a grey model, light on dark stays', async () => {
    const ring = (ink: number, paper: number) => encode(28, 28, 1, (x, y) => [Math.abs(Math.hypot(x - 14, y - 14) - 8) < 2 ? ink : paper]);
    const spec = plainSpec([1, 28, 28]);
    const [a, b] = [await readImage(await ring(0, 255), spec), await readImage(await ring(255, 0), spec)];
    expect([...a.data]).toEqual([...b.data]);
    expect([a.data[0], a.data[14 * 28 + 6]]).toEqual([0, 1]);
  });
  test('a shape that is not square gets bars of its corner for a grey model', async () => {
    const p = await decodeImage(await encode(28, 14, 1, () => [200]), plainSpec([1, 28, 28]));
    expect(new Set(p.data)).toEqual(new Set([200]));
  });
  test('what is no image is a ModelError that names the file', async () => {
    const path = join(dir, 'note.png');
    writeFileSync(path, 'not a picture');
    await expect(readImage(path, colour)).rejects.toThrow(ModelError);
    await expect(readImage(path, colour)).rejects.toThrow('note.png: cannot be read as an image');
    await expect(readImage(join(dir, 'absent.png'), colour)).rejects.toThrow('absent.png');
    const whole = await encode(64, 64, 3, (x, y) => [x * 4, y * 4, (x * y) % 256]);
    await expect(readImage(whole.subarray(0, whole.length >> 1), colour)).rejects.toThrow(ModelError);
  });
});

describe('preprocessor_config.json', () => {
  test('as ViT has it', () => {
    const spec = specOf([3, 224, 224], {
      do_normalize: true,
      do_resize: true,
      image_mean: [0.5, 0.5, 0.5],
      image_std: [0.5, 0.5, 0.5],
      resample: 2,
      size: 224,
    });
    expect(spec).toEqual({
      channels: 3,
      height: 224,
      width: 224,
      fit: 'fill',
      resize: undefined,
      kernel: 'linear',
      scale: 1 / 255,
      mean: [0.5, 0.5, 0.5],
      std: [0.5, 0.5, 0.5],
      invert: false,
    });
  });
  test('as DeiT has it', () => {
    const spec = specOf([3, 224, 224], {
      crop_size: { height: 224, width: 224 },
      do_center_crop: true,
      do_normalize: true,
      image_mean: [0.485, 0.456, 0.406],
      image_std: [0.229, 0.224, 0.225],
      resample: 3,
      size: { height: 256, width: 256 },
      rescale_factor: 0.00392156862745098,
      do_rescale: true,
    });
    expect(spec).toMatchObject({ fit: 'crop', resize: [256, 256], kernel: 'cubic', mean: [0.485, 0.456, 0.406] });
  });
  test('absent means 0…1, damaged is a ModelError', () => {
    expect(loadImageSpec(dir, [1, 28, 28])).toMatchObject({ scale: 1 / 255, mean: [0], std: [1], invert: 'auto', fit: 'contain' });
    writeFileSync(join(dir, 'preprocessor_config.json'), '{');
    expect(() => loadImageSpec(dir, [3, 8, 8])).toThrow('not JSON');
    for (const bad of [
      { image_mean: [0.5], image_std: [1, 1, 1] },
      { image_mean: [0, 0, 0], image_std: [1, 1, 0] },
      { image_mean: [0, 0, 0] },
    ])
      expect(() => specOf([3, 8, 8], bad)).toThrow(ModelError);
    expect(() => plainSpec([4, 8, 8])).toThrow('4 channels');
  });
});

test('pixels of another size are refused', () => {
  expect(() => toTensor({ width: 2, height: 2, channels: 3, data: new Uint8Array(12) }, colour)).toThrow(
    'expected 4x4 pixels of 3 channels, got 2x2 of 3 (12 bytes)',
  );
});

describe('a picture in the terminal', () => {
  const two = { width: 2, height: 3, channels: 1 as const, data: Uint8Array.of(0, 255, 255, 0, 128, 128) };
  test('in colour is two pixels a character', () => {
    const [first, second] = draw(two, { color: true }).split('\n');
    expect(first).toBe('\x1b[38;2;0;0;0;48;2;255;255;255m▀\x1b[38;2;255;255;255;48;2;0;0;0m▀\x1b[0m');
    expect(second).toBe('\x1b[38;2;128;128;128;49m▀▀\x1b[0m');
  });
  test('without colour is a ramp, and no escape', () => {
    expect(draw(two, { color: false })).toBe('  @@\n@@\n++++');
  });
  test('colour is for terminals, and NO_COLOR is honoured there', () => {
    expect([
      wantsColor({}, true),
      wantsColor({ NO_COLOR: '' }, true),
      wantsColor({ NO_COLOR: '1' }, true),
      wantsColor({ TERM: 'dumb' }, true),
      wantsColor({}, false),
    ]).toEqual([true, true, false, false, false]);
  });
  test('is shrunk to the columns there are', () => {
    const wide = { width: 100, height: 100, channels: 3 as const, data: new Uint8Array(30_000).fill(200) };
    const lines = draw(wide, { color: false, columns: 40 }).split('\n');
    expect(lines.length).toBe(20);
    expect(Math.max(...lines.map((l) => l.length))).toBeLessThanOrEqual(40);
  });
  test('of a tensor stretches its range', () => {
    expect(toPixels(tensor([-1, 0, 1, 0], [1, 1, 2, 2]))).toEqual({
      width: 2,
      height: 2,
      channels: 1,
      data: Uint8Array.of(0, 128, 255, 128),
    });
    expect(() => toPixels(tensor([1], [1]))).toThrow('no image');
  });
  test('a probability as a bar', () => {
    expect([bar(0, 4), bar(1, 4), bar(0.5, 4), bar(0.3, 4)]).toEqual(['    ', '████', '██  ', '█▎  ']);
  });
});
