import type { Pixels } from './pixels.ts';

/**
 * A small picture in the terminal. In colour a character is two pixels, one above the other: an upper half block whose foreground is the
 * upper one and whose background the lower. Without colour (NO_COLOR, a file, a pipe) a character is one pixel of a ramp from light to
 * dense, each drawn twice because a terminal's cell is about twice as high as wide.
 */
export interface ShowOptions {
  /** As no-color.org has it, and only on a terminal, unless said. */
  readonly color?: boolean;
  /** Widest line, in characters. */
  readonly columns?: number;
}

const RAMP = ' .:-=+*#%@';

export function draw(pixels: Pixels, { color = wantsColor(), columns = 64 }: ShowOptions = {}): string {
  const image = shrink(pixels, Math.max(1, color ? columns : columns >> 1));
  return (color ? blocks(image) : ramp(image)).join('\n');
}

export const wantsColor = (env: NodeJS.ProcessEnv = process.env, terminal = process.stdout.isTTY === true): boolean =>
  terminal && !env.NO_COLOR && env.TERM !== 'dumb';

type Rgb = readonly [number, number, number];
const at = ({ width, channels, data }: Pixels, x: number, y: number): Rgb => {
  const i = (y * width + x) * channels;
  return channels === 1 ? [data[i], data[i], data[i]] : [data[i], data[i + 1], data[i + 2]];
};

function blocks(image: Pixels): string[] {
  const lines: string[] = [];
  for (let y = 0; y < image.height; y += 2) {
    let line = '';
    let last = '';
    for (let x = 0; x < image.width; x++) {
      const above = `38;2;${at(image, x, y).join(';')}`;
      const below = y + 1 < image.height ? `48;2;${at(image, x, y + 1).join(';')}` : '49';
      const style = `\x1b[${above};${below}m`;
      line += style === last ? '▀' : `${style}▀`;
      last = style;
    }
    lines.push(`${line}\x1b[0m`);
  }
  return lines;
}

function ramp(image: Pixels): string[] {
  const lines: string[] = [];
  for (let y = 0; y < image.height; y++) {
    let line = '';
    for (let x = 0; x < image.width; x++) {
      const [r, g, b] = at(image, x, y);
      line += RAMP[Math.min(RAMP.length - 1, Math.floor(((299 * r + 587 * g + 114 * b) * RAMP.length) / 256_000))].repeat(2);
    }
    lines.push(line.trimEnd());
  }
  return lines;
}

/** The mean of each block of pixels. */
function shrink(image: Pixels, columns: number): Pixels {
  const step = Math.ceil(image.width / columns);
  if (step <= 1) return image;
  const [width, height, channels] = [Math.ceil(image.width / step), Math.ceil(image.height / step), image.channels];
  const data = new Uint8Array(width * height * channels);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++)
      for (let c = 0; c < channels; c++) {
        let [sum, count] = [0, 0];
        for (let v = y * step; v < Math.min(image.height, (y + 1) * step); v++)
          for (let u = x * step; u < Math.min(image.width, (x + 1) * step); u++, count++)
            sum += image.data[(v * image.width + u) * channels + c];
        data[(y * width + x) * channels + c] = Math.round(sum / count);
      }
  return { width, height, channels, data };
}

/** '███████▌  87 %': a probability as a bar. */
export function bar(share: number, width = 20): string {
  const eighths = Math.round(Math.min(1, Math.max(0, share)) * width * 8);
  const part = ' ▏▎▍▌▋▊▉'[eighths % 8];
  return `${'█'.repeat(eighths >> 3)}${eighths % 8 ? part : ''}`.padEnd(width);
}
