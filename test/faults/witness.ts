/** What must not come twice, and what must not be written down: seeds and shares, as clients and links carry them. */
import { createHash } from 'node:crypto';
import type { Fetch } from '../../src/client/party.ts';
import { Broken } from './clients.ts';

/** Bytes of a secret that a search looks for: long enough never to occur by chance. */
const sampleBytes = 12;
const mostSamples = 600;

export class Witness {
  private readonly seen = new Set<string>();
  /** Shares and seeds, some of all that passed, to look for in files and logs. */
  readonly secrets: Buffer[] = [];
  private count = 0;

  /** Throws Broken when this seed was seen before, in this session or another. */
  seed(bytes: Uint8Array, whose: string): void {
    const digest = createHash('sha256').update(bytes).digest('base64');
    if (this.seen.has(digest)) throw new Broken(`a seed of ${whose} was used twice`);
    this.seen.add(digest);
    this.secret(bytes);
  }
  get seeds(): number {
    return this.seen.size;
  }

  /** Keeps the beginning of every so manieth, evenly over the whole run. */
  secret(bytes: Uint8Array): void {
    if (bytes.length < sampleBytes) return;
    const at = this.count++;
    const kept = Buffer.from(bytes.subarray(0, sampleBytes));
    if (this.secrets.length < mostSamples) this.secrets.push(kept);
    else if (at % 7 === 0) this.secrets[(at / 7) % mostSamples] = kept;
  }

  /** A client's fetch, under observation. */
  fetch(inner: Fetch): Fetch {
    return async (input, init) => {
      const { body } = init;
      const steps = input.includes('/steps/');
      if (steps && body instanceof Uint8Array) {
        if (body.length === 32) this.seed(body, 'a client');
        else this.secret(body);
      }
      const response = await inner(input, init);
      if (steps && response.ok && this.count % 16 === 0) this.secret(new Uint8Array(await response.clone().arrayBuffer()));
      return response;
    };
  }
}
