/**
 * Images made for calibration, when the person gives none: gradients, noise at several grains, shapes, textures, and flat ones, in all
 * brightnesses. They reach the corners of the pixel range, which photographs seldom do, so ranges come out wide rather than narrow.
 */
import type { ImageSpec, Pixels } from '../tasks/pixels.ts';

/** A small generator of our own: the same images every time (calibration is public, nothing here is secret). */
export function generator(seed: number): () => number {
  let s = seed >>> 0;
  return () => {
    s = (s + 0x9e3779b9) >>> 0;
    let z = s;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return ((z ^ (z >>> 15)) >>> 0) / 2 ** 32;
  };
}

type Paint = (x: number, y: number, c: number) => number;
type Painter = (rnd: () => number, width: number, height: number) => Paint;

const colours = (rnd: () => number): [number, number, number] => [rnd() * 255, rnd() * 255, rnd() * 255];

/** Smooth noise: random values on a grid of `cell` pixels, interpolated. */
function valueNoise(rnd: () => number, width: number, height: number, cell: number): Paint {
  const columns = Math.ceil(width / cell) + 2;
  const grid = Float32Array.from({ length: 3 * columns * (Math.ceil(height / cell) + 2) }, () => 255 * rnd());
  return (x, y, c) => {
    const [gx, gy] = [x / cell, y / cell];
    const [ix, iy] = [Math.floor(gx), Math.floor(gy)];
    const at = (i: number, j: number): number => grid[3 * (j * columns + i) + c];
    const [fx, fy] = [gx - ix, gy - iy];
    return (at(ix, iy) * (1 - fx) + at(ix + 1, iy) * fx) * (1 - fy) + (at(ix, iy + 1) * (1 - fx) + at(ix + 1, iy + 1) * fx) * fy;
  };
}

const painters: readonly Painter[] = [
  // A gradient between two colours, in any direction.
  (rnd, w, h) => {
    const [a, b] = [colours(rnd), colours(rnd)];
    const angle = 2 * Math.PI * rnd();
    return (x, y, c) => {
      const t = 0.5 + (x / w - 0.5) * Math.cos(angle) + (y / h - 0.5) * Math.sin(angle);
      return a[c] + (b[c] - a[c]) * t;
    };
  },
  // Noise, every pixel for itself.
  (rnd) => {
    const [low, span] = [rnd() * 128, 64 + rnd() * 191];
    return () => low + span * rnd();
  },
  // Clouds: noise at three grains.
  (rnd, w, h) => {
    const layers = [w / 3, w / 8, w / 20].map((cell) => valueNoise(rnd, w, h, Math.max(1, cell)));
    return (x, y, c) => 0.55 * layers[0](x, y, c) + 0.3 * layers[1](x, y, c) + 0.15 * layers[2](x, y, c);
  },
  // Discs and boxes on a plain ground.
  (rnd, w, h) => {
    const ground = colours(rnd);
    const shapes = Array.from({ length: 3 + Math.floor(rnd() * 8) }, () => ({
      x: rnd() * w,
      y: rnd() * h,
      r: (0.05 + 0.3 * rnd()) * w,
      colour: colours(rnd),
      round: rnd() < 0.5,
    }));
    return (x, y, c) => {
      let v = ground[c];
      for (const s of shapes) {
        const [dx, dy] = [Math.abs(x - s.x), Math.abs(y - s.y)];
        if (s.round ? Math.hypot(dx, dy) < s.r : Math.max(dx, dy) < s.r) v = s.colour[c];
      }
      return v;
    };
  },
  // Stripes and checks.
  (rnd, w) => {
    const [a, b] = [colours(rnd), colours(rnd)];
    const period = 2 + rnd() * (w / 4);
    const [cos, sin] = [Math.cos(Math.PI * rnd()), Math.sin(Math.PI * rnd())];
    const checks = rnd() < 0.5;
    return (x, y, c) => {
      const u = Math.sin((2 * Math.PI * (x * cos + y * sin)) / period);
      const v = checks ? Math.sin((2 * Math.PI * (y * cos - x * sin)) / period) : 1;
      return u * v > 0 ? a[c] : b[c];
    };
  },
  // A bright thing in the middle of a dark picture, or the other way round, with grain.
  (rnd, w, h) => {
    const inside = colours(rnd);
    const dark = rnd() < 0.5 ? 0 : 255;
    const size = 0.2 + 0.3 * rnd();
    const grain = 40 * rnd();
    return (x, y, c) => {
      const d = Math.hypot((x / w - 0.5) / size, (y / h - 0.5) / (size * 1.3));
      return dark + (inside[c] - dark) / (1 + Math.exp(12 * (d - 1))) + grain * (rnd() - 0.5);
    };
  },
  // One colour; now and then pure black or white.
  (rnd) => {
    const colour = rnd() < 0.4 ? ([0, 0, 0].fill(rnd() < 0.5 ? 0 : 255) as [number, number, number]) : colours(rnd);
    return (_x, _y, c) => colour[c];
  },
];

/** `count` images of the size and depth a model takes. */
export function madeImages({ width, height, channels }: ImageSpec, count: number): Pixels[] {
  return Array.from({ length: count }, (_, i) => {
    const rnd = generator(7919 * i + 1);
    const paint = painters[i % painters.length](rnd, width, height);
    const data = new Uint8Array(width * height * channels);
    for (let y = 0; y < height; y++)
      for (let x = 0; x < width; x++)
        for (let c = 0; c < channels; c++) data[(y * width + x) * channels + c] = Math.max(0, Math.min(255, Math.round(paint(x, y, c))));
    return { width, height, channels, data };
  });
}

/** Standard normal values, for inputs of which nothing is known. */
export function madeNormals(n: number, seed: number): Float32Array {
  const rnd = generator(seed);
  return Float32Array.from({ length: n }, () => Math.sqrt(-2 * Math.log(1 - rnd())) * Math.cos(2 * Math.PI * rnd()));
}
