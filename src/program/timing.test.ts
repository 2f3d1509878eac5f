/** The play of a schedule against small ones worked out by hand. Bandwidths are chosen so that a byte takes a microsecond. */
import { describe, expect, test } from 'vitest';
import { initialWindow, longestQueue, payload, simulate, type Work } from './timing.ts';

const byte = 1e-6;
const line = (rtt: number) => ({ rtt, bandwidth: 8 / byte / payload });
const work = (w: Partial<Work>): Work => ({ rounds: [], blocks: [], input: 0, output: 0, ...w });
const round = (opened = 0, seconds = 0) => ({ opened, seconds });
const rtt = 0.04;
/** Input to P1, its word to P0, P0's to P1; then the answer's way. */
const [start0, start1, back] = [0.04, 0.06, 0.02];

describe('without a dealer', () => {
  test('a round takes half a round trip, its bytes, and the computing before it; P1 begins a way later', () => {
    const rounds = [round(1000, 0.001), round(2000, 0.002), round(0, 0.003)];
    // P0 waits for P1 in the first round, since P1 began later; then both send at about the same time.
    const first0 = start1 + 0.001 + 0.02 + 0.001;
    const first1 = Math.max(start1 + 0.001, start0 + 0.001 + 0.02 + 0.001);
    const second0 = Math.max(first0 + 0.002, first1 + 0.002 + 0.02 + 0.002);
    const second1 = Math.max(first1 + 0.002, first0 + 0.002 + 0.02 + 0.002);
    expect(simulate(work({ rounds }), line(rtt))).toBeCloseTo(Math.max(second0, second1) + 0.003 + back, 9);
  });

  test('input and output take their bytes', () => {
    const with_ = simulate(work({ rounds: [round()], input: 5000, output: 7000 }), line(rtt));
    expect(with_ - simulate(work({ rounds: [round()] }), line(rtt))).toBeCloseTo(0.012, 9);
  });

  test('a cold connection waits for an answer before it sends more than its first window; once warm it does not', () => {
    const one = simulate(work({ rounds: [round(initialWindow), round()] }), line(rtt));
    const more = simulate(work({ rounds: [round(initialWindow + 1000), round()] }), line(rtt));
    expect(more - one).toBeCloseTo(rtt + 0.001, 9);
    const twice = simulate(work({ rounds: [round(initialWindow + 1000), round(initialWindow + 1000), round()] }), line(rtt));
    expect(twice - more).toBeLessThan(rtt / 2 + 0.02);
  });
});

describe('the dealer', () => {
  const block = (bytes: number, needed: number, o: Partial<Work['blocks'][number]> = {}) => ({
    bytes,
    needed,
    done: needed,
    after: 0,
    seconds: 0,
    ...o,
  });
  const asked = start1 + 0.02;
  /** A cold stream's first window is spread over a round trip. */
  const slow = (bytes: number): number => (bytes * rtt) / initialWindow;

  test('P1 stands still until its block is there', () => {
    const t = simulate(work({ rounds: [round()], blocks: [block(1000, 0, { seconds: 0.005 })] }), line(rtt));
    expect(t).toBeCloseTo(asked + 0.005 + 0.02 + slow(1000) + back, 9);
  });

  test('blocks come while rounds go on: only what is left is waited for', () => {
    const rounds = [...Array.from({ length: 10 }, () => round()), round()];
    const free = simulate(work({ rounds }), line(rtt));
    expect(simulate(work({ rounds, blocks: [block(10_000, 10)] }), line(rtt))).toBeCloseTo(free, 9);
    // Half a second of bytes do not come in the fifth of a second that ten rounds take.
    const late = simulate(work({ rounds, blocks: [block(500_000, 10)] }), line(rtt));
    expect(late).toBeGreaterThan(asked + 0.5);
    expect(late).toBeLessThan(asked + 0.02 + 0.5 + 5 * rtt + back);
  });

  test('a block that needs the place of another is made when that one is let go', () => {
    const rounds = [round(), round()];
    const together = simulate(work({ rounds, blocks: [block(1000, 0), block(1000, 1)] }), line(rtt));
    const apart = simulate(work({ rounds, blocks: [block(1000, 0), block(1000, 1, { after: 1 })] }), line(rtt));
    const letGo = asked + 0.02 + slow(1000);
    // A round trip later the window has doubled.
    expect(apart).toBeCloseTo(letGo + 0.02 + 0.02 + slow(1000) / 2 + back, 9);
    expect(together).toBeLessThan(apart - rtt / 4);
  });

  test('openings queue behind a stream that fills the line, and no longer than the queue is', () => {
    const rounds = [...Array.from({ length: 200 }, () => round(1000)), round()];
    const quiet = simulate(work({ rounds }), line(rtt));
    const full = simulate(work({ rounds, blocks: [block(20_000_000, 200)] }), line(rtt));
    const stream = simulate(work({ rounds: [round()], blocks: [block(20_000_000, 0)] }), line(rtt));
    // All bytes go over one line: the stream ends later by what P0 sent.
    expect(full).toBeGreaterThan(Math.max(quiet, stream));
    expect(full - stream).toBeLessThan(200 * 0.001 + longestQueue + rtt);
  });
});
