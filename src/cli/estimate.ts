/**
 * Seconds from counts. Two kernels are timed for a few milliseconds each, the matrix product and the PRG; everything else is told in PRG
 * bytes, by factors read off profiles of whole models (2026-11, within about a third). A party's time is that of party 0, the slower.
 */
import { availableParallelism } from 'node:os';
import type { ProgramCost } from '../program/cost.ts';
import { gemmScratch, panelWords, prgScratch } from '../ring/kernels/kernels.ts';
import { firstFree, newMemory } from '../ring/kernels/memory.ts';
import { wasmKernels } from '../ring/kernels/wasm.ts';

/** Times of PRG bytes that a byte of each kind costs. */
const perCorrection = { party: 3, dealer: 5 };
const perOpened = { party: 1.5, dealer: 1.2 };
/** TLS, frames and copies of a byte, at each end. */
const perWire = 2.5;
/** Seconds a round takes besides: the event loop, the kernel's sockets; more when three processes share fewer cores. */
const perRound = { alone: 150e-6, crowded: 400e-6 };

export interface Network {
  readonly name: string;
  /** Seconds there and back; bits a second, each way. */
  readonly rtt: number;
  readonly bandwidth: number;
}
export const networks: readonly Network[] = [
  { name: 'LAN', rtt: 0.001, bandwidth: 5e9 },
  { name: 'WAN', rtt: 0.04, bandwidth: 100e6 },
];

export interface Machine {
  /** Multiply-adds a second, PRG bytes a second, of one thread. */
  readonly macs: number;
  readonly prg: number;
  readonly cores: number;
}

/** About 100 ms. */
export function measure(): Machine {
  const [M, N, K] = [64, 384, 384];
  const words = 1 << 16;
  const A = firstFree;
  const panels = A + 4 * K * N;
  const C = panels + 4 * panelWords(K, N);
  const scratch = C + 4 * Math.max(M * N, words);
  const k = wasmKernels(newMemory(scratch + Math.max(gemmScratch, prgScratch) + 65536));
  for (let i = 0; i < K * N; i++) k.u32[A / 4 + i] = Math.imul(i, 0x9e3779b9);
  k.packB(panels, A, K, N, N, 0, 4);
  const macs = rate(() => k.gemm(C, N, A, K, panels, M, N, K, 0, scratch), M * N * K);
  const prg = rate(() => k.prg(C, A, 0, 0, 0, 32, 0, words, scratch), 4 * words);
  return { macs, prg, cores: availableParallelism() };
}

/** Work a second: the best of a few runs, once the engine has compiled the kernel. */
function rate(work: () => void, amount: number): number {
  let best = Number.POSITIVE_INFINITY;
  const end = performance.now() + 40;
  for (let i = 0; i < 5 || performance.now() < end; i++) {
    const from = performance.now();
    work();
    best = Math.min(best, performance.now() - from);
  }
  return (1000 * amount) / best;
}

export interface Estimate {
  /** Three processes on this machine. */
  readonly here: number;
  /** Each role on a machine like this one. */
  readonly LAN: number;
  readonly WAN: number;
}

type Counts = Pick<ProgramCost, 'rounds' | 'partyMacs' | 'dealerMacs'> & { readonly opened: number; readonly correction: number };

/**
 * Both parties send at once, so a round is half a round trip. Party 1 hears from party 0 and the dealer over one line. The dealer runs
 * ahead: what counts is the slower of the two.
 */
export function estimate(c: Counts, m: Machine): Estimate {
  const [opened, correction] = [c.opened / m.prg, c.correction / m.prg];
  const party = c.partyMacs / m.macs + (perCorrection.party + perWire) * correction + (perOpened.party + perWire) * opened;
  const dealer = c.dealerMacs / m.macs + (perCorrection.dealer + perWire) * correction + perOpened.dealer * opened;
  const rounds = c.rounds * perRound.alone;
  const over = ({ rtt, bandwidth }: Network): number =>
    Math.max(party + rounds + (8 * c.opened) / 2 / bandwidth, dealer, (8 * (c.opened / 2 + c.correction)) / bandwidth) +
    (c.rounds * rtt) / 2;
  const [lan, wan] = networks.map(over);
  const here = m.cores >= 3 ? Math.max(party + rounds, dealer) : (2 * party + dealer) / m.cores + c.rounds * perRound.crowded;
  return { here, LAN: lan, WAN: wan };
}
