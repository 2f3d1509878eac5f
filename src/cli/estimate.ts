/**
 * Seconds from counts. Two kernels are timed for a few milliseconds each, the matrix product and the PRG; everything else is told in PRG
 * bytes, by factors read off profiles of whole models (2026-11, within about a third). A party's time is that of party 0, the slower.
 */
import { availableParallelism } from 'node:os';
import type { Binding } from '../program/bind.ts';
import { frameHeader, type ProgramCost } from '../program/cost.ts';
import { shareBytes } from '../program/inputs.ts';
import { type Line, simulate, type Work } from '../program/timing.ts';
import { gemmScratch, panelWords, prgScratch } from '../ring/kernels/kernels.ts';
import { firstFree, newMemory } from '../ring/kernels/memory.ts';
import { wasmKernels } from '../ring/kernels/wasm.ts';
import { planRing } from '../runtime/plan.ts';

/** Times of PRG bytes that a byte of each kind costs. */
const perCorrection = { party: 3, dealer: 5 };
const perOpened = { party: 1.5, dealer: 1.2 };
/** TLS, frames and copies of a byte, at each end. */
const perWire = 2.5;
/** Seconds a round takes besides: the event loop, the kernel's sockets; more when three processes share fewer cores. */
const perRound = { alone: 150e-6, crowded: 400e-6 };

export interface Network extends Line {
  readonly name: string;
}
export const networks: readonly Network[] = [
  { name: 'LAN', rtt: 0.001, bandwidth: 5e9 },
  { name: 'regional', rtt: 0.01, bandwidth: 1e9 },
  { name: 'WAN', rtt: 0.04, bandwidth: 100e6 },
];

export interface Machine {
  /** Multiply-adds a second, PRG bytes a second, of one thread. */
  readonly macs: number;
  readonly prg: number;
  readonly cores: number;
}

/** A core of 2024's servers, for choices that must not depend on the machine that makes them. */
export const usualMachine: Machine = { macs: 16e9, prg: 2.5e9, cores: 4 };

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
  /** By network: each role on a machine like this one. */
  readonly over: Readonly<Record<string, number>>;
}

type Counts = Pick<ProgramCost, 'partyMacs' | 'dealerMacs'> & { readonly opened: number; readonly correction: number };

/** Seconds of computing at one party and at the dealer. `opened` counts both directions. */
function computing(c: Counts, m: Machine): { party: number; dealer: number } {
  const [opened, correction] = [c.opened / m.prg, c.correction / m.prg];
  return {
    party: c.partyMacs / m.macs + (perCorrection.party + perWire) * correction + (perOpened.party + perWire) * opened,
    dealer: c.dealerMacs / m.macs + (perCorrection.dealer + perWire) * correction + perOpened.dealer * opened,
  };
}

/** All on this machine, without a network: the slower of a party and the dealer, or all three where they share fewer cores. */
export function alone(c: Counts & { readonly rounds: number }, m: Machine): number {
  const { party, dealer } = computing(c, m);
  return m.cores >= 3 ? Math.max(party + c.rounds * perRound.alone, dealer) : (2 * party + dealer) / m.cores + c.rounds * perRound.crowded;
}

/**
 * The work of a step as `simulate` plays it. A gate's openings, multiplications and corrections count where they are sent, finished and
 * read. `crowded`: all roles share this machine's cores, so that a party's work takes as many times longer as there are roles for a core.
 */
export function workOf(b: Binding, m: Machine, crowded = false): Work {
  const none: Counts = { partyMacs: 0, dealerMacs: 0, opened: 0, correction: 0 };
  const total = b.gates.reduce(
    (s, { cost: c }) => s + computing({ ...c, opened: 2 * c.openedBytes, correction: c.correctionBytes }, m).party,
    0,
  );
  const dealt = b.gates.reduce(
    (s, { cost: c }) => s + computing({ ...c, opened: 2 * c.openedBytes, correction: c.correctionBytes }, m).dealer,
    0,
  );
  const stretch = crowded ? Math.max(1, (2 * total + dealt) / m.cores / total) : 1;
  const round = crowded && m.cores < 3 ? perRound.crowded : perRound.alone;
  const rounds = Array.from({ length: b.rounds + 1 }, (_, r) => ({
    seconds: r < b.rounds ? round : 0,
    opened: r < b.rounds ? frameHeader : 0,
  }));
  const dealer = new Map<number, number>();
  for (const g of b.gates) {
    const { openedBytes, correctionBytes, partyMacs } = g.cost;
    for (let r = g.start; r < g.end; r++) {
      const opened = openedBytes / (g.end - g.start);
      rounds[r].opened += opened;
      rounds[r].seconds += stretch * computing({ ...none, opened: 2 * opened }, m).party;
    }
    rounds[g.end].seconds += stretch * computing({ ...none, partyMacs, correction: correctionBytes }, m).party;
    dealer.set(g.node.id, computing({ ...g.cost, opened: 2 * openedBytes, correction: correctionBytes }, m).dealer);
  }
  const { after } = planRing(b);
  return {
    rounds,
    blocks: b.blocks.map((k, i) => ({ ...k, bytes: k.bytes + frameHeader, after: after[i], seconds: dealer.get(k.gate)! })),
    input: shareBytes(b.program.inputs, b.params)[1] + frameHeader,
    output: b.program.outputs.reduce((s, { tensor }) => s + 4 * b.tensors[tensor].size, frameHeader),
  };
}

export const estimate = (b: Binding, c: ProgramCost, m: Machine): Estimate => {
  const work = workOf(b, m);
  return {
    here: alone({ ...c, opened: c.bytes.p0p1, correction: c.bytes.dealer }, m),
    over: Object.fromEntries(networks.map((n) => [n.name, simulate(work, n)])),
  };
};
