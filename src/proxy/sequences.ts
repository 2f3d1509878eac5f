/**
 * Sequences kept for the next turn of their conversation. A prompt that begins with all that a kept sequence holds goes on from its cache.
 *
 * A sequence belongs to whoever presented its key and its model: how quickly a prompt is answered would otherwise tell one caller what
 * another one has said.
 */
import type { OpenDecoder, TextModel } from './models.ts';

export interface Sequence {
  readonly model: TextModel;
  readonly owner: string;
  readonly decoder: OpenDecoder;
  /** What the cache holds after the public prefix. */
  readonly ids: number[];
}

export interface KeepLimits {
  /** Of all kept caches together, by TextModel.bytesPerToken. */
  readonly bytes: number;
  /** Since it was last used. */
  readonly seconds: number;
}

interface Kept {
  readonly sequence: Sequence;
  readonly bytes: number;
  readonly timer: ReturnType<typeof setTimeout>;
}

export class Sequences {
  /** The one used longest ago first. */
  private readonly kept = new Set<Kept>();
  private bytes = 0;

  constructor(private readonly limits: KeepLimits) {}

  get size(): number {
    return this.kept.size;
  }

  /** The longest that `prompt` goes on from, which is its taker's from now on. */
  take(model: TextModel, owner: string, prompt: readonly number[]): Sequence | undefined {
    let best: Kept | undefined;
    for (const k of this.kept) {
      const { ids, ...of } = k.sequence;
      const longer = ids.length > (best?.sequence.ids.length ?? 0) && ids.length < prompt.length;
      if (longer && of.model === model && of.owner === owner && ids.every((id, i) => id === prompt[i])) best = k;
    }
    if (best) this.remove(best);
    return best?.sequence;
  }

  keep(sequence: Sequence): void {
    const bytes = sequence.ids.length * sequence.model.bytesPerToken;
    if (bytes > this.limits.bytes) {
      close(sequence);
      return;
    }
    const timer = setTimeout(() => this.drop(k), 1000 * this.limits.seconds);
    timer.unref();
    const k: Kept = { sequence, bytes, timer };
    this.kept.add(k);
    this.bytes += bytes;
    for (const oldest of this.kept) {
      if (this.bytes <= this.limits.bytes) break;
      this.drop(oldest);
    }
  }

  close(): void {
    for (const k of [...this.kept]) this.drop(k);
  }

  private drop(k: Kept): void {
    this.remove(k);
    close(k.sequence);
  }

  private remove(k: Kept): void {
    clearTimeout(k.timer);
    if (this.kept.delete(k)) this.bytes -= k.bytes;
  }
}

/** Nobody waits for it, and nobody could do anything about one that fails. */
export function close({ decoder }: Sequence): void {
  void (async () => decoder.close?.())().catch(() => {});
}
