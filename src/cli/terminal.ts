/**
 * Manners of the terminal. Answers go to stdout, all else to stderr; progress appears only when something takes a while, as one line that
 * rewrites itself on a terminal and as a line every few seconds elsewhere.
 */
import { createColors } from 'picocolors';

export const out = createColors();
export const err = createColors(process.stderr.isTTY === true && !process.env.NO_COLOR && process.env.TERM !== 'dumb');

/** An answer. */
export function print(text = ''): void {
  process.stdout.write(`${text}\n`);
}

/** Everything else. */
export function say(text = ''): void {
  clearLine();
  process.stderr.write(`${text}\n`);
}

/** A reader that goes away (`| head`) ends the program quietly. */
export function quietPipes(): void {
  for (const stream of [process.stdout, process.stderr])
    stream.on('error', (e: NodeJS.ErrnoException) => {
      if (e.code === 'EPIPE') process.exit(0);
      throw e;
    });
}

/** What was asked for cannot be: an option, an input, a file. Exit code 2; hints say what to type instead. */
export class UsageError extends Error {
  override name = 'UsageError';
  readonly hints: readonly string[];

  constructor(message: string, ...hints: string[]) {
    super(message);
    this.hints = hints;
  }
}

const patience = 2000;
/** Milliseconds between lines where there is no terminal: more as time goes by. */
const pause = (elapsed: number): number => Math.max(5000, elapsed / 4);
let drawn = false;

function clearLine(): void {
  if (drawn) process.stderr.write('\r\x1b[2K');
  drawn = false;
}

export interface Progress {
  /** Call as often as there is news; most calls print nothing. */
  update(text: string): void;
  /** Takes the line away. */
  done(): void;
}

/** `label: text` once it takes more than two seconds (at once on a terminal). */
export function progress(label: string): Progress {
  const start = performance.now();
  let last = 0;
  return {
    update(text) {
      const now = performance.now();
      if (process.stderr.isTTY) {
        if (now - last < 80) return;
        clearLine();
        process.stderr.write(`${err.dim(`${label}: `)}${text}`.slice(0, (process.stderr.columns || 80) + 8));
        drawn = true;
      } else {
        if (now - start < patience || now - last < pause(now - start)) return;
        process.stderr.write(`${label}: ${text}\n`);
      }
      last = now;
    },
    done: clearLine,
  };
}

/** 3 digits and a unit, 1000 to the step. */
function units(n: number, names: readonly string[]): string {
  let i = 0;
  while (Math.abs(n) >= 999.5 && i < names.length - 1) {
    n /= 1000;
    i++;
  }
  return `${i === 0 ? Math.round(n) : n.toPrecision(3)} ${names[i]}`.trim();
}
export const bytesText = (n: number): string => units(n, ['B', 'kB', 'MB', 'GB', 'TB']);
export const countText = (n: number): string => units(n, ['', 'k', 'M', 'G', 'T']);
export const secondsText = (s: number): string =>
  s < 0.9995
    ? `${(1000 * s).toPrecision(s < 0.0995 ? 2 : 3)} ms`
    : s < 120
      ? `${s.toPrecision(3)} s`
      : `${Math.floor(s / 60)} min ${Math.round(s % 60)} s`;
export const percent = (v: number, digits = 1): string => `${(100 * v).toFixed(digits)} %`;
export const plural = (n: number, word: string): string => `${n} ${word}${n === 1 ? '' : 's'}`;

/** Text that came from outside, fit for one line of a terminal. */
export function oneLine(text: string, most = 60): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is taken out
  const flat = text.replace(/[\x00-\x1f\x7f-\x9f]+/g, ' ').trim();
  return flat.length > most ? `${flat.slice(0, most - 1)}…` : flat;
}
