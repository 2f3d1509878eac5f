/**
 * What a run will cost, without running: the sum of the gates' own formulas. A test holds it equal to what is counted on the wire.
 */
import type { Params, Program } from './program.ts';
import { bind } from './bind.ts';
import { shareBytes } from './inputs.ts';

/** Bytes of a frame's header on every link. */
export const frameHeader = 16;

export interface LayerCost {
  readonly layer: string;
  readonly gates: number;
  /** Rounds in which this layer opens something; layers that share rounds each count them. */
  readonly rounds: number;
  /** Between the parties, both directions; without frame headers. */
  readonly openedBytes: number;
  readonly correctionBytes: number;
  readonly partyMacs: number;
  readonly dealerMacs: number;
}

export interface ProgramCost {
  readonly rounds: number;
  /**
   * Payload and frame headers of one step. p0p1 and client: both directions. dealer: what it sends, corrections; towards it go a request
   * for the step and, where a window is full, credits of 16 bytes. Opening a session (some hundred bytes) is no part of a step.
   */
  readonly bytes: { readonly p0p1: number; readonly dealer: number; readonly client: number };
  readonly partyMacs: number;
  readonly dealerMacs: number;
  readonly layers: readonly LayerCost[];
  /** The same sums by kind of gate. */
  readonly kinds: readonly LayerCost[];
}

export function cost(program: Program, params: Params): ProgramCost {
  const b = bind(program, params);
  const roundsWithOpenings = new Set<number>();
  const sum = (key: (g: (typeof b.gates)[number]) => string): LayerCost[] => {
    const rows = new Map<string, { gates: number; rounds: Set<number>; openedBytes: number; correctionBytes: number; partyMacs: number; dealerMacs: number }>();
    for (const g of b.gates) {
      const k = key(g);
      const row = rows.get(k) ?? { gates: 0, rounds: new Set<number>(), openedBytes: 0, correctionBytes: 0, partyMacs: 0, dealerMacs: 0 };
      rows.set(k, row);
      row.gates++;
      for (let r = g.start; r < g.end; r++) {
        row.rounds.add(r);
        roundsWithOpenings.add(r);
      }
      row.openedBytes += 2 * g.cost.openedBytes;
      row.correctionBytes += g.cost.correctionBytes;
      row.partyMacs += g.cost.partyMacs;
      row.dealerMacs += g.cost.dealerMacs;
    }
    return [...rows].map(([layer, r]) => ({ ...r, layer, rounds: r.rounds.size }));
  };
  const layers = sum((g) => g.node.layer);
  const total = (f: (l: LayerCost) => number): number => layers.reduce((s, l) => s + f(l), 0);
  const rounds = roundsWithOpenings.size;
  return {
    rounds,
    bytes: {
      p0p1: total((l) => l.openedBytes) + 2 * rounds * frameHeader + agreement,
      dealer: total((l) => l.correctionBytes) + b.blocks.length * frameHeader,
      client: clientBytes(b),
    },
    partyMacs: total((l) => l.partyMacs),
    dealerMacs: total((l) => l.dealerMacs),
    layers,
    kinds: sum((g) => g.node.gate),
  };
}

/** Bytes before the share in an input frame: step and parameters as JSON, in a room that does not depend on the step. */
export const inputHead = (params: Params): number => 4 + 4 * Math.ceil(JSON.stringify({ step: 2 ** 32 - 1, params }).length / 4);

/** Between the parties beside openings: P1 has the input (a digest of it), P0 says go. */
const agreement = 32 + 2 * frameHeader;

/** Input: its share to each, behind step and parameters. Output: one share from each, in 4-byte words. */
function clientBytes(b: ReturnType<typeof bind>): number {
  const [p0, p1] = shareBytes(b.program.inputs, b.params);
  const outputs = b.program.outputs.reduce((s, o) => s + 2 * 4 * b.tensors[o.tensor].size, 0);
  return p0 + p1 + 2 * inputHead(b.params) + outputs + (2 + 2 * b.program.outputs.length) * frameHeader;
}
