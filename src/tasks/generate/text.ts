/** Tokens to text as they come, and where the text must stop. */
import type { TextTokenizer } from '../text.ts';

/**
 * Text of one token after another. A token may end inside a character, and how it reads may depend on the one before, so a few tokens are
 * decoded again each time and text is given out once it is certain.
 */
export class TextStream {
  private readonly ids: number[] = [];
  private from = 0;
  private read = 0;

  constructor(
    private readonly tokenizer: Pick<TextTokenizer, 'decode'>,
    /** Tokens before: what comes reads as it does after them. */
    before: readonly number[] = [],
  ) {
    this.ids.push(...before.slice(-6));
    this.read = this.ids.length;
  }

  push(id: number): string {
    this.ids.push(id);
    const [known, whole] = this.both();
    // U+FFFD at the end: a character whose other bytes are still to come.
    if (whole.length <= known.length || whole.endsWith('\ufffd')) return '';
    this.from = this.read;
    this.read = this.ids.length;
    return whole.slice(known.length);
  }

  /** What is left when nothing more comes: a character that stayed unfinished. */
  end(): string {
    const [known, whole] = this.both();
    this.from = this.read = this.ids.length;
    return whole.slice(known.length);
  }

  private both(): [string, string] {
    return [this.tokenizer.decode(this.ids.slice(this.from, this.read)), this.tokenizer.decode(this.ids.slice(this.from))];
  }
}

/** Holds text back while it could be the beginning of a stop string. */
export class StopStrings {
  private held = '';
  /** The stop string that came. */
  found?: string;

  constructor(private readonly stops: readonly string[]) {
    if (stops.some((s) => s === '')) throw new RangeError('a stop string is empty');
  }

  /** The text that is certain; nothing more once one was found, which is left out. */
  push(text: string): string {
    if (this.found !== undefined) return '';
    this.held += text;
    let at = -1;
    for (const stop of this.stops) {
      const i = this.held.indexOf(stop);
      if (i >= 0 && (at < 0 || i < at)) [at, this.found] = [i, stop];
    }
    if (at >= 0) return this.take(at, '');
    let keep = 0;
    for (const stop of this.stops)
      for (let n = Math.min(stop.length - 1, this.held.length); n > keep; n--) if (this.held.endsWith(stop.slice(0, n))) keep = n;
    return this.take(this.held.length - keep, this.held.slice(this.held.length - keep));
  }

  end(): string {
    return this.take(this.held.length, '');
  }

  private take(n: number, rest: string): string {
    const out = this.held.slice(0, n);
    this.held = rest;
    return out;
  }
}
