/** Memory of a step: nothing that is in use lies where something else does, and the dealer's stream cannot lock. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Case } from '../gates/gate.case.ts';
import { type Binding, bind } from '../program/bind.ts';
import { Allocator, dealerOrder, planRing } from './plan.ts';

test('what is allocated never overlaps, and what is freed is used again', () => {
  const step = fc.record({ take: fc.boolean(), bytes: fc.integer({ min: 0, max: 5000 }), which: fc.nat() });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const a = new Allocator();
      const live: { at: number; bytes: number }[] = [];
      let most = 0;
      for (const s of steps) {
        if (s.take || live.length === 0) {
          const at = a.take(s.bytes);
          const bytes = Math.max(64, s.bytes);
          expect(at % 64).toBe(0);
          for (const other of live) expect(at + bytes <= other.at || other.at + other.bytes <= at).toBe(true);
          live.push({ at, bytes });
        } else a.free(live.splice(s.which % live.length, 1)[0].at);
        most = Math.max(most, ...live.map((l) => l.at + l.bytes));
      }
      expect(a.peak).toBeGreaterThanOrEqual(most);
      for (const l of live) a.free(l.at);
      // All holes have grown together: everything fits at the bottom.
      expect(a.take(2 ** 30)).toBe(0);
    }),
    { numRuns: 100 },
  );
});

describe('the ring of corrections', () => {
  const binding = (blocks: readonly { bytes: number; needed: number; done: number }[]): Binding => ({
    ...bind(new Case().program(), {}),
    rounds: Math.max(0, ...blocks.map((b) => b.done)),
    blocks: blocks.map((b, gate) => ({ gate, ...b })).sort((a, b) => a.needed - b.needed || a.gate - b.gate),
  });
  const block = fc.record({
    bytes: fc.integer({ min: 1, max: 3000 }),
    needed: fc.integer({ min: 0, max: 20 }),
    length: fc.integer({ min: 0, max: 3 }),
  });

  test('the dealer may always send what the next round needs, and never over what is in use', () => {
    fc.assert(
      fc.property(fc.array(block, { minLength: 1, maxLength: 60 }), (list) => {
        const b = binding(list.map(({ bytes, needed, length }) => ({ bytes, needed, done: needed + length })));
        const ring = planRing(b, 1024);
        const inUse = new Set<number>();
        let sent = 0;
        let released = 0;
        for (let round = 0; round <= b.rounds; round++) {
          // P1 lets blocks go in order, when their gates have ended.
          const send = (): void => {
            while (sent < b.blocks.length && ring.after[sent] <= released) {
              const [from, to] = [ring.offsets[sent], ring.offsets[sent] + b.blocks[sent].bytes];
              expect(to).toBeLessThanOrEqual(ring.bytes);
              for (const i of inUse)
                if (i >= released) expect(to <= ring.offsets[i] || ring.offsets[i] + b.blocks[i].bytes <= from).toBe(true);
              inUse.add(sent++);
            }
          };
          send();
          expect(b.blocks.every((k, i) => k.needed > round || i < sent)).toBe(true);
          while (released < b.blocks.length && b.blocks[released].done <= round) released++;
        }
      }),
      { numRuns: 200 },
    );
  });

  test('the stream is spread over the rounds: a few MiB ahead of the line, those of a demanding round early enough', () => {
    const one = 1 << 20;
    const even = Array.from({ length: 100 }, (_, needed) => ({ bytes: one, needed, done: needed }));
    const { after } = planRing(binding(even), 1 << 30);
    // Each round reads one block; a round later one more may be sent.
    expect(after.slice(0, 5)).toEqual([0, 0, 0, 0, 0]);
    for (let i = 8; i < 100; i++) {
      expect(i - after[i]).toBeGreaterThanOrEqual(4);
      expect(i - after[i]).toBeLessThanOrEqual(6);
    }
    // Thirty blocks that the last round reads at once are on their way long before.
    const late = [...even, ...Array.from({ length: 30 }, () => ({ bytes: one, needed: 99, done: 99 }))];
    const spread = planRing(binding(late), 1 << 30).after;
    expect(129 - spread[129]).toBeLessThanOrEqual(40);
    expect(spread[129]).toBeLessThan(99);
    expect(spread.filter((a, i) => i > 0 && a > spread[i - 1]).length).toBeGreaterThan(50);
  });
});

test('the dealer prepares gates in the order P1 needs them, masks before what is made of them', () => {
  const c = new Case();
  const x = c.input([2, 8]);
  const late = c.gate('open', [x], null, { kind: 'wire' });
  const first = c.gate('extend', [x], { s: 4, bits: 20 });
  const y = c.gate('open', [first], null, { kind: 'wire' });
  c.output(c.gate('mul', [late, y], null));
  const order = dealerOrder(bind(c.program(), {}));
  expect(order.filter((id) => id !== 0 && id !== 2)).toEqual([1, 3]);
  expect(order.indexOf(3)).toBe(3);
});
