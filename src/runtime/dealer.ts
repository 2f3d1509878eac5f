/**
 * One step of a program at the dealer, without I/O: blocks of corrections in the order in which P1 needs them.
 *
 * The dealer sees parameters and draws from both seeds; it never receives anything of a run.
 */
import type { Binding } from '../program/bind.ts';
import { type Moment, placeCaches } from './caches.ts';
import { DealerPart, type Place, planned } from './context.ts';
import type { Prepared } from './model.ts';
import type { Profile } from './party.ts';
import { dealerOrder } from './plan.ts';

const orders = new WeakMap<Binding, number[]>();
/** Found once for all steps of these parameters. */
function orderOf(binding: Binding): number[] {
  const order = orders.get(binding) ?? dealerOrder(binding);
  orders.set(binding, order);
  return order;
}

export class DealerStep {
  private readonly order: number[];
  private at = 0;
  private made = 0;
  private readonly place: Place;

  /** `keys`: the two parties' PRG keys of the session. */
  constructor(
    readonly prepared: Prepared,
    step: number,
    keys: readonly [Uint8Array, Uint8Array],
    private readonly profile?: Profile,
    moment?: Moment,
  ) {
    this.order = orderOf(prepared.binding);
    this.place = {
      k: prepared.model.k,
      keys: prepared.keys,
      scratch: prepared.scratch,
      step,
      params: { ...prepared.binding.params, ...moment?.params },
      kept: moment ? placeCaches(prepared, moment.caches) : [],
    };
    prepared.model.k.u8.set(keys[0], prepared.keys);
    prepared.model.k.u8.set(keys[1], prepared.keys + 32);
  }

  /** Blocks P1 must have let go before the next one may be sent; undefined when all are made. */
  get mayFollow(): number | undefined {
    return this.prepared.ring.after[this.made];
  }

  /** The next block: its number and its bytes, valid until the next call with this slot; undefined at the end. */
  next(slot = 0): { index: number; bytes: Uint8Array } | undefined {
    const { binding, gates, model } = this.prepared;
    const corrections = this.prepared.corrections + slot * this.prepared.slotBytes;
    if (this.made === binding.blocks.length) return undefined;
    const last = this.made === binding.blocks.length - 1;
    for (;;) {
      const id = this.order[this.at++];
      const g = gates[id];
      const def = binding.gates[id].def;
      const from = this.profile ? performance.now() : 0;
      const ctx = new DealerPart(this.place, planned(this.prepared.plan.memory[id]), id, corrections);
      def.dealer?.(ctx, g);
      if (this.profile) this.profile.set(g.gate, (this.profile.get(g.gate) ?? 0) + (performance.now() - from) / 1000);
      const block = binding.blocks[this.made];
      if (block.gate !== id) continue;
      const bytes = ctx.top - corrections;
      if (bytes !== block.bytes)
        throw new Error(`internal: gate ${id} (${g.gate}) made ${bytes} bytes of corrections, its cost says ${block.bytes}`);
      if (last) this.forget();
      return { index: this.made++, bytes: model.k.u8.subarray(corrections, corrections + bytes) };
    }
  }

  /** Wipes this step's keys from the kernels' memory: after the last block, or when the step is given up. */
  forget(): void {
    const { keys, model } = this.prepared;
    model.k.u8.fill(0, keys, keys + 64);
  }
}
