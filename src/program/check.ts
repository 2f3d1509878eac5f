/**
 * The checker: what every program must keep to, wherever it comes from. The compiler runs it on what it made, and each role before it
 * loads a program. A violation is a ProgramError that names the gate, its layer and the rule.
 *
 *  1. Names. Every gate is known; gate i has id i (ids are the nonces' gate numbers, so no two gates draw the same words); inputs and
 *     outputs have names of their own; tensors with one label (forms of one graph value) have one size.
 *  2. Order. A tensor is made once, by an input or by one gate, and before any gate uses it; every declared tensor is made.
 *  3. Kinds. Each gate gets and makes shares or wires as its protocol wants them (`signatures` below). An input that comes as keys of point
 *     functions has a place for each span in its last axis, and its words are whole.
 *  4. Rings. Local gates keep the ring; products and openings under full masks need and make 32 bits; an extension's share has 32 bits, its
 *     wire as many as were opened, and no more are opened than truncation leaves; a harmonic gate has its words' ring and opens no more
 *     angle bits than its input has; only a truncation takes a ring of more than 32 bits.
 *  5. Scales. Positive, and within 1 % (factors are rounded to integers) what the gate makes of its inputs': add, sub, concat, select and
 *     local moves keep them; rescales make in·mul/2^s; products the product. Public constants may be read into a scale:
 *     a. a sum may be a mean: the number of summands;  a product may be taken times a power of two (rows padded to a whole one);
 *     b. the factor of attention's scores, where only harmonic gates read them: those are fitted to the scale that is declared;
 *     c. a matrix's integers hold the ratio of its scales, a factor per channel under one scale holds a γ: both are free here.
 *  6. Bounds, in units: bound·scale. A bound has a factor of two over what calibration saw; the half of it must fit. So: shares and
 *     products stay below 2^(bits−1). What is extended must keep to 2^(bits−2) and is held to it at half its bound, before the truncation
 *     (times `mul`) in the input's ring and after it in the ring that is opened: beyond, the gate wraps.
 *     a. A tensor with a scale per channel still has one bound: its product with the smallest scale is held to the ring, not more. That
 *        each channel keeps to its own scale is the compiler's part (channelScales).
 *     b. What only harmonic gates read may use the whole ring, which is their period: there, below 2^bits, as row sums of squares do.
 *  7. Results. Outputs are made by reveal gates, which hide all but the result; nothing else is one, and no gate uses it again.
 *  8. Parameters. 1 ≤ min ≤ max (0 where no shape depends on it), and the program binds at both, and on either side of every choice by parameter, where 3 to 6 hold too.
 */

import type { BoundTensor } from '../gates/gate.ts';
import { gates } from '../gates/index.ts';
import { type Binding, bind, type ScheduledGate } from './bind.ts';
import { mostParams, type Params, type Program, ProgramError, varies } from './program.ts';

/** s: share, w: wire of any opening, o: wire opened under a full mask, e: anything; ? may be absent, + one or more. */
const signatures: Readonly<Record<string, readonly [ins: string, outs: string]>> = {
  add: ['s s', 's'],
  sub: ['s s', 's'],
  affine: ['s', 's'],
  sumAxis: ['s', 's'],
  centre: ['s', 's'],
  reshape: ['e', 'e'],
  permute: ['s', 's'],
  slice: ['s', 's'],
  lastRows: ['s', 's'],
  concat: ['s+', 's'],
  spread: ['s', 's'],
  im2col: ['s', 's'],
  constant: ['', 's'],
  addPrivate: ['s', 's'],
  open: ['s', 'o'],
  mul: ['w w', 's'],
  square: ['w', 's'],
  rowSquares: ['w', 's'],
  mulPrivate: ['o', 's'],
  matmulPublic: ['s', 's'],
  matmulPrivate: ['o', 's'],
  matmulShared: ['o o', 's'],
  truncate: ['s', 's'],
  extend: ['s', 's? w?'],
  harmonic: ['s', 's'],
  compare: ['e', 's'],
  relu: ['w', 's'],
  select: ['s s s', 's'],
  max: ['s', 's'],
  maxPool: ['s', 's'],
  argmax: ['s', 's s?'],
  cache: ['o', 'o'],
  attendScores: ['o o', 's'],
  attendValues: ['o o', 's'],
  causal: ['s', 's'],
  perSeen: ['s', 's'],
  rotary: ['s', 's'],
  reveal: ['s', 's'],
};

/** Gates that move or map words within their ring. */
const keepsRing = new Set([
  'add',
  'sub',
  'affine',
  'sumAxis',
  'centre',
  'reshape',
  'permute',
  'slice',
  'lastRows',
  'concat',
  'spread',
  'im2col',
  'addPrivate',
  'cache',
  'causal',
  'perSeen',
  'rotary',
  'matmulPublic',
  'select',
  'max',
  'maxPool',
]);
const keepsScale = new Set([
  'reshape',
  'permute',
  'slice',
  'lastRows',
  'im2col',
  'addPrivate',
  'cache',
  'causal',
  'perSeen',
  'open',
  'relu',
  'max',
  'maxPool',
  'add',
  'sub',
  'concat',
  'select',
]);
const wires32 = new Set([
  'open',
  'mul',
  'square',
  'rowSquares',
  'mulPrivate',
  'matmulPrivate',
  'matmulShared',
  'attendScores',
  'attendValues',
]);

interface Rescale {
  readonly s?: number;
  readonly bits?: number;
  readonly mul?: readonly number[];
  readonly after?: readonly number[];
}

/** Throws ProgramError at the first rule that the program breaks. */
export function check(program: Program): void {
  names(program);
  order(program);
  results(program);
  let periodic: ReadonlySet<number> | undefined;
  for (const params of corners(program)) {
    const b = bind(program, params);
    // What no parameter touches was seen at the first corner. These two have rules that read a shape.
    const anew = ({ node: { id, gate, ins, outs } }: ScheduledGate): boolean =>
      !periodic ||
      /^(sumAxis|centre)$/.test(gate) ||
      varies(program.gates[id].attrs) ||
      [...ins, ...outs].some((t) => varies(program.tensors[t.id]));
    for (const t of b.tensors) if (!periodic || varies(program.tensors[t.id])) positive(b, t);
    labels(b);
    for (const { def, node } of b.gates)
      if (def.stays && program.params.past?.shapes !== false)
        fail(node, 8, "keeps rows from step to step, which takes a parameter 'past' that no shape depends on");
    for (const input of program.inputs) {
      const t = b.tensors[input.tensor];
      if (t.kind !== 'share' || t.bits !== 32)
        fail(undefined, 3, `input '${input.name}' is a ${t.kind} of ${t.bits} bits: shares of 32 are what clients send`);
      if (t.scale !== input.scale || t.bound !== input.bound)
        fail(
          undefined,
          5,
          `input '${input.name}' has scale ${input.scale} and bound ${input.bound}, its tensor ${scaleText(t)} and ${t.bound}`,
        );
      if (input.encoding && !(input.shape.at(-1) === input.encoding.dpf.length && input.scale === 1))
        fail(
          undefined,
          3,
          `input '${input.name}' [${input.shape}] at scale ${input.scale} comes as keys of ${input.encoding.dpf.length} spans`,
        );
    }
    const changed = b.gates.filter(anew);
    periodic ??= onlyHarmonic(b);
    for (const g of changed) {
      kinds(g);
      rings(g);
      scales(g, periodic);
      bounds(g, periodic);
    }
  }
}

function fail(g: { id: number; gate: string; layer: string } | undefined, rule: number, text: string): never {
  throw new ProgramError(`${g ? `gate ${g.id} (${g.gate}, ${g.layer}): ` : ''}${text} (rule ${rule})`);
}

function names(program: Program): void {
  program.gates.forEach((g, i) => {
    if (g.id !== i) fail(g, 1, `is number ${i} of the list: ids count from 0`);
    if (!gates.has(g.gate)) fail(g, 1, 'no gate has this name');
    if (!(g.gate in signatures)) fail(g, 1, 'the checker does not know this gate');
  });
  unique(
    'input',
    program.inputs.map((i) => i.name),
  );
  unique(
    'output',
    program.outputs.map((o) => o.name),
  );
}

function labels(b: Binding): void {
  const sizes = new Map<string, number>();
  for (const t of b.tensors) {
    if (t.label === undefined) continue;
    if ((sizes.get(t.label) ?? t.size) !== t.size)
      fail(maker(b, t), 1, `the label '${t.label}' is on tensors of ${sizes.get(t.label)} and of ${t.size} values`);
    sizes.set(t.label, t.size);
  }
}

const maker = (b: Binding, t: BoundTensor): ScheduledGate['node'] | undefined =>
  b.gates.find(({ node }) => node.outs.some((o) => o.id === t.id))?.node;

function unique(what: string, list: readonly string[]): void {
  const twice = list.find((name, i) => list.indexOf(name) !== i);
  if (twice !== undefined) fail(undefined, 1, `the ${what} '${twice}' occurs twice`);
}

function order(program: Program): void {
  const made = new Set<number>();
  const make = (id: number, g?: Program['gates'][number]): void => {
    if (!program.tensors[id]) fail(g, 2, `makes tensor ${id}, which is not declared`);
    if (made.has(id)) fail(g, 2, `tensor ${id} is made a second time`);
    made.add(id);
  };
  for (const i of program.inputs) make(i.tensor);
  for (const g of program.gates) {
    for (const id of g.in) if (!made.has(id)) fail(g, 2, `uses tensor ${id} before anything makes it`);
    for (const id of g.out) make(id, g);
  }
  const never = program.tensors.findIndex((_, id) => !made.has(id));
  if (never >= 0) fail(undefined, 2, `tensor ${never} is declared and never made`);
}

function results(program: Program): void {
  const revealed = new Set(program.gates.flatMap((g) => (g.gate === 'reveal' ? g.out : [])));
  const outputs = new Set<number>();
  for (const o of program.outputs) {
    if (!revealed.has(o.tensor)) fail(undefined, 7, `output '${o.name}' is not made by a reveal gate`);
    if (outputs.has(o.tensor)) fail(undefined, 7, `output '${o.name}' is another output's tensor`);
    outputs.add(o.tensor);
  }
  for (const g of program.gates) {
    if (g.gate === 'reveal' && !outputs.has(g.out[0])) fail(g, 7, 'reveals what is no output');
    for (const id of g.in) if (revealed.has(id)) fail(g, 7, `uses tensor ${id}, a result`);
  }
}

/** Where a parameter is least and greatest, and on either side of every choice by it; other parameters at their greatest. */
function corners(program: Program): Params[] {
  const values = new Map(Object.keys(program.params).map((p) => [p, new Set<number>()]));
  for (const [name, { min, max, shapes }] of Object.entries(program.params)) {
    if (!(Number.isInteger(min) && Number.isInteger(max) && min >= (shapes === false ? 0 : 1) && min <= max))
      fail(undefined, 8, `parameter ${name} goes from ${min} to ${max}`);
    values.get(name)!.add(min).add(max);
  }
  const seen = (v: unknown): void => {
    if (v === null || typeof v !== 'object') return;
    if (Array.isArray(v)) {
      if (typeof v[0] !== 'number') v.forEach(seen);
      return;
    }
    const { by, upTo } = v as { by?: unknown; upTo?: unknown };
    const range = typeof by === 'string' ? program.params[by] : undefined;
    if (range && Array.isArray(upTo))
      for (const u of upTo as number[])
        for (const at of [u, u + 1]) if (at >= range.min && at <= range.max) values.get(by as string)!.add(at);
    Object.values(v).forEach(seen);
  };
  seen(program.tensors);
  seen(program.gates);
  const corner = (name: string, v: number): Params => {
    const most = { ...mostParams(program, name === 'sequences' ? v : undefined), [name]: v };
    return name === 'n' && most.sequences > 1 && v % most.sequences !== 0 ? { ...most, sequences: 1 } : most;
  };
  const list = [...values].flatMap(([name, at]) => [...at].sort((a, b) => a - b).map((v) => corner(name, v)));
  return list.length === 0 ? [{}] : list;
}

function positive(b: Binding, t: BoundTensor): void {
  const list = typeof t.scale === 'number' ? [t.scale] : t.scale;
  if (!Array.isArray(list) || list.length === 0 || !list.every((s) => s > 0 && Number.isFinite(s)))
    fail(maker(b, t), 5, `tensor ${t.id} has scale ${scaleText(t)}`);
  if (!(t.bound > 0 && Number.isFinite(t.bound))) fail(maker(b, t), 6, `tensor ${t.id} has bound ${t.bound}`);
}

function kinds({ node }: ScheduledGate): void {
  const [ins, outs] = signatures[node.gate];
  const side = (what: string, wanted: string, tensors: readonly BoundTensor[]): void => {
    const list = wanted.split(' ').filter(Boolean);
    let at = 0;
    for (const w of list) {
      const fits = (t: BoundTensor | undefined): boolean =>
        t !== undefined && (w[0] === 'e' || t.kind === (w[0] === 's' ? 'share' : 'wire')) && (w[0] !== 'o' || t.bits === 32);
      if (w.endsWith('+')) {
        if (!fits(tensors[at])) break;
        while (fits(tensors[at])) at++;
      } else if (fits(tensors[at])) at++;
      else if (!w.endsWith('?')) break;
    }
    const enough = list.filter((w) => !w.endsWith('?')).length;
    if (at !== tensors.length || at < Math.max(enough, outs === wanted ? 1 : 0))
      fail(node, 3, `${what} ${tensors.map((t) => `a ${t.kind} of ${t.bits} bits`).join(', ') || 'nothing'}; ${wants(list)} is wanted`);
  };
  side('takes', ins, node.ins);
  side('makes', outs, node.outs);
}

const words: Readonly<Record<string, string>> = { s: 'a share', w: 'a wire', o: 'a wire of 32 bits', e: 'a share or wire' };
const wants = (list: readonly string[]): string =>
  list.map((w) => `${words[w[0]]}${w.endsWith('?') ? ' if any' : w.endsWith('+') ? 's' : ''}`).join(', ') || 'nothing';

function rings({ node }: ScheduledGate): void {
  const { gate, ins, outs } = node;
  const need = (ok: boolean, text: string): void => void (ok || fail(node, 4, text));
  const [x, y] = [ins[0], outs[0]];
  for (const t of ins) need(t.bits <= 32 || gate === 'truncate' || gate === 'reshape', `a ring of ${t.bits} bits must be truncated first`);
  if (keepsRing.has(gate)) {
    // select's bit has a ring of its own
    const same = gate === 'select' ? ins.slice(1) : ins;
    for (const t of same) need(t.bits === y.bits, `takes a ring of ${t.bits} bits and makes one of ${y.bits}`);
  }
  if (wires32.has(gate)) need(y.bits === 32, `makes a ring of ${y.bits} bits; 32 is what comes out`);
  const a = (node.attrs ?? {}) as Rescale & { m?: number; w?: number };
  if (gate === 'truncate' || gate === 'reveal')
    need(y.bits === a.bits && a.bits! <= x.bits - a.s!, `makes a ring of ${y.bits} bits; ${a.bits} are kept, of ${x.bits} − ${a.s}`);
  if (gate === 'extend') {
    need(a.bits! <= x.bits - a.s!, `opens ${a.bits} bits of ${x.bits} − ${a.s}`);
    for (const t of outs)
      need(
        t.bits === (t.kind === 'wire' ? a.bits : 32),
        `makes a ${t.kind} of ${t.bits} bits; ${t.kind === 'wire' ? a.bits : 32} is what comes out`,
      );
  }
  if (gate === 'harmonic') {
    need(y.bits === a.w, `makes a ring of ${y.bits} bits, its words have ${a.w}`);
    need(a.m! <= x.bits, `opens ${a.m} bits of an input of ${x.bits}`);
  }
}

const scaleText = (t: BoundTensor): string =>
  typeof t.scale === 'number' ? `${Number(t.scale.toPrecision(5))}` : `[${t.scale.length} channels]`;
const channels = (t: BoundTensor): readonly number[] => (typeof t.scale === 'number' ? [t.scale] : t.scale);
const near = (a: number, b: number): boolean => Math.abs(a - b) <= 0.01 * Math.abs(b);

/** Whether `t` has, channel by channel, the scale that f of the channel number gives; lists of one serve all channels. */
function scaled(t: BoundTensor, count: number, f: (i: number) => number): boolean {
  const list = channels(t);
  const n = Math.max(list.length, count);
  return Array.from({ length: n }, (_, i) => near(list[list.length === 1 ? 0 : i], f(i))).every(Boolean);
}
const at = (list: readonly number[], i: number): number => list[list.length === 1 ? 0 : i];

function scales({ node }: ScheduledGate, periodic: ReadonlySet<number>): void {
  const { gate, ins, outs } = node;
  const x = ins[0];
  const want = (t: BoundTensor, count: number, f: (i: number) => number, from: string): void => {
    if (!scaled(t, count, f))
      fail(node, 5, `makes a scale of ${scaleText(t)}; ${from} gives ${count > 1 ? 'another' : Number(f(0).toPrecision(5))}`);
  };
  if (keepsScale.has(gate)) {
    const given = gate === 'select' ? ins.slice(1) : ins;
    // A slice along the channels has those channels' scales; what permutes or reshapes channels must have one scale.
    for (const t of given) {
      const list = channels(t);
      if (gate === 'slice' && list.length > 1 && channels(outs[0]).length !== list.length) {
        const a = node.attrs as { from: number };
        want(outs[0], channels(outs[0]).length, (i) => list[a.from + i], 'the input');
      } else want(outs[0], list.length, (i) => at(list, i), 'the input');
    }
  } else if (gate === 'spread') {
    const a = node.attrs as { places: readonly number[] };
    const list = channels(outs[0]);
    want(x, list.length > 1 ? a.places.length : 1, (i) => (list.length > 1 ? list[a.places[i]] : list[0]), 'the place');
  } else if (gate === 'rotary')
    want(
      outs[0],
      channels(x).length,
      (i) => at(channels(x), i) * 2 ** (node.attrs as { bits: number }).bits,
      'the input times its cosines',
    );
  else if (gate === 'centre') want(outs[0], channels(x).length, (i) => at(channels(x), i) * x.shape.at(-1)!, 'the row length');
  else if (gate === 'affine' || gate === 'truncate' || gate === 'extend' || gate === 'reveal') {
    const a = (node.attrs ?? {}) as Rescale;
    // affine's factor may as well be part of the value: a scale that stays says so.
    if (gate === 'affine' && scaled(outs[0], channels(x).length, (i) => at(channels(x), i))) return;
    const mul = a.mul ?? [1];
    const known = channels(x).length === 1 || mul.length === 1 || channels(x).length === mul.length;
    const f = (i: number): number => (at(channels(x), i) * Math.abs(at(mul, i))) / 2 ** (a.s ?? 0);
    for (const t of outs) {
      const count = Math.max(channels(x).length, mul.length);
      const comparable = known && (channels(t).length === 1 || channels(t).length === count || count === 1);
      if (!comparable) fail(node, 5, `has ${mul.length} factors for ${channels(x).length} channels and makes ${channels(t).length}`);
      if (folds(a, count, channels(t).length)) continue;
      want(t, count, f, 'scale·mul/2^s');
    }
  } else if (gate === 'sumAxis') {
    const summands = scaled(outs[0], 1, (i) => at(channels(x), i) * x.shape[(node.attrs as { axis: number }).axis]);
    if (!summands) want(outs[0], channels(x).length, (i) => at(channels(x), i), 'the input');
  } else if (gate === 'mul' || gate === 'matmulShared' || gate === 'attendScores' || gate === 'attendValues') {
    if (periodic.has(outs[0].id)) return;
    const product = at(channels(x), 0) * at(channels(ins[1]), 0);
    const shift = gate === 'mul' ? 2 ** Math.round(Math.log2(channels(outs[0])[0] / product)) : 1;
    want(outs[0], 1, (i) => shift * at(channels(x), i) * at(channels(ins[1]), i), 'the product');
  } else if (gate === 'square') want(outs[0], channels(x).length, (i) => at(channels(x), i) ** 2, 'the square');
}

/** Factors that differ while both scales are one number are part of the value (a folded γ, a padding to one scale). */
const folds = (a: Rescale, count: number, made: number): boolean => a.mul !== undefined && count > 1 && made === 1;

/** Tensors that only harmonic gates read, directly or moved about. */
function onlyHarmonic(b: Binding): ReadonlySet<number> {
  const moves = new Set(['reshape', 'slice', 'lastRows', 'permute', 'concat', 'perSeen']);
  const periodic = new Set<number>();
  const outputs = new Set(b.program.outputs.map((o) => o.tensor));
  const readers = new Map<number, ScheduledGate[]>();
  for (const g of b.gates) for (const t of g.node.ins) readers.set(t.id, [...(readers.get(t.id) ?? []), g]);
  for (const g of [...b.gates].reverse())
    for (const t of g.node.outs) {
      const r = readers.get(t.id) ?? [];
      if (
        r.length > 0 &&
        !outputs.has(t.id) &&
        r.every(({ node }) => node.gate === 'harmonic' || (moves.has(node.gate) && periodic.has(node.outs[0].id)))
      )
        periodic.add(t.id);
    }
  return periodic;
}

const smallest = (t: BoundTensor): number => channels(t).reduce((m, s) => Math.min(m, s), Infinity);
const bitsText = (u: number): string => `2^${Math.log2(u).toFixed(2)}`;

function bounds({ node }: ScheduledGate, periodic: ReadonlySet<number>): void {
  const { gate, ins, outs } = node;
  const below = (units: number, bits: number, what: string): void => {
    if (units > 2 ** bits) fail(node, 6, `${what} reaches ${bitsText(units)} units, more than 2^${bits}`);
  };
  const text = (t: BoundTensor): string =>
    `tensor ${t.id} (bound ${Number(t.bound.toPrecision(4))}, scale ${scaleText(t)}, ${t.bits} bits)`;
  for (const t of outs) below(t.bound * smallest(t), t.bits - (periodic.has(t.id) ? 0 : 1), text(t));
  if (gate !== 'extend') return;
  const a = node.attrs as Rescale;
  const x = ins[0];
  const mul = (a.mul ?? [1]).map(Math.abs);
  const made = channels(outs[0]).length;
  // Factors of channels under one scale belong to the value, and the output's bound speaks for them.
  const given =
    folds(a, mul.length, made) && channels(x).length === 1
      ? outs[0].bound * smallest(outs[0]) * 2 ** a.s!
      : x.bound * Math.min(...channels(x).map((s, i) => s * at(mul, i)));
  below(given / 2, x.bits - 2, `half of ${text(x)} times mul`);
  below(given / 2 / 2 ** a.s!, a.bits! - 2, `half of ${text(x)} over 2^${a.s}, opened in ${a.bits} bits,`);
  // What is added after the extension (a centre) is not opened.
  for (const t of outs)
    if (!a.after || t.kind === 'wire') below((t.bound * smallest(t)) / 2, a.bits! - 2, `half of ${text(t)}, opened in ${a.bits} bits,`);
}
