/**
 * Sequences kept for the next turn of their conversation. A prompt that begins with all that a kept sequence holds goes on from its
 * cache; where a decoder can go back, with most of it.
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
  /** However small: parties hold memory for each. */
  readonly count: number;
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

  /** The one that holds most of `prompt`, cut to that, which is its taker's from now on. */
  take(model: TextModel, owner: string, prompt: readonly number[]): Sequence | undefined {
    let [best, most]: [Kept | undefined, number] = [undefined, 0];
    for (const k of this.kept) {
      if (k.sequence.model !== model || k.sequence.owner !== owner) continue;
      const common = shared(k.sequence, prompt);
      if (common > most) [best, most] = [k, common];
    }
    if (!best) return undefined;
    this.remove(best);
    const { decoder, ids } = best.sequence;
    if (ids.length > most) decoder.rewind?.(decoder.length - (ids.length - most));
    ids.length = most;
    return best.sequence;
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
      if (this.bytes <= this.limits.bytes && this.kept.size <= this.limits.count) break;
      this.drop(oldest);
    }
  }

  /** Makes room; false when nothing is kept. Resolves when the memory is free. */
  async dropOldest(): Promise<boolean> {
    const [oldest] = this.kept;
    if (!oldest) return false;
    this.remove(oldest);
    await closed(oldest.sequence);
    return true;
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

/** Rows that `prompt` can go on from; a token must be left to go on with. 0 where more would be lost than is gained. */
function shared({ ids, decoder }: Sequence, prompt: readonly number[]): number {
  const most = Math.min(ids.length, prompt.length - 1);
  let common = 0;
  while (common < most && ids[common] === prompt[common]) common++;
  return common === ids.length || (decoder.rewind && 2 * common >= ids.length) ? common : 0;
}

/** Nobody could do anything about one that fails. */
const closed = ({ decoder }: Sequence): Promise<void> => (async () => decoder.close?.())().catch(() => {});

export const close = (sequence: Sequence): void => void closed(sequence);
