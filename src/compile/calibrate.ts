/**
 * calibrate: ranges of every value, per tensor and per channel, from sample inputs run through the plain interpreter.
 *
 * Beyond minima and maxima: variances of the rows that a normalisation sees; and for every row of attention scores its log-mean-exp at
 * temperatures 1, 2, 4 … 64, from which the softmax lowering reads how often it must square (docs/compile.md).
 */
import type { Graph, GraphNode, Tensor } from '../graph/graph.ts';
import { interpret } from '../graph/interpret.ts';
import type { Dim } from '../program/program.ts';

export interface ChannelRange {
  /** Axis the channels lie on. */
  readonly axis: number;
  readonly lo: Float64Array;
  readonly hi: Float64Array;
}

export interface RowRange {
  varianceLo: number;
  varianceHi: number;
  /** Mean squares, uncentred. */
  squareLo: number;
  squareHi: number;
  /** Largest |x − mean|, and the same uncentred. */
  centred: number;
}

/** Temperatures 2^0 … 2^6. */
export const temperatures = 7;

export interface HeadRange {
  /** Of the scores before their cap, where they have one; means and squares are of those after it. */
  lo: number;
  hi: number;
  readonly cap?: number;
  /** Smallest log of the row mean of exp(score/2^j), over all rows, for j = 0 … 6. */
  readonly logMean: number[];
  /** The largest. */
  readonly logMeanHi: number[];
  /** Smallest Σp² of a row's softmax at temperature 2^j, j = 0 … 6. */
  readonly squares: number[];
}

/** A score as the softmax sees it. */
export const capped = (score: number, cap: number | undefined): number => (cap ? cap * Math.tanh(score / cap) : score);

export interface ValueRange {
  /** Dimensions as expressions in the graph's parameters. */
  shape: Dim[];
  max: number;
  /** Set where a value is whole by its nature (one-hot rows): it needs no fraction bits. */
  integers?: boolean;
  channels?: ChannelRange;
  rows?: RowRange;
}

export interface Calibration {
  readonly values: Map<string, ValueRange>;
  /** By the name of the Attention node. */
  readonly heads: Map<string, HeadRange[]>;
  samples: number;
  /** Rows of the widest input seen: tokens, patches. */
  rows: number;
  /** Samples, by number, that ranges take no notice of: see `strange`. */
  strange: number[];
}

const widestChannels = 16384;

/** A sample whose rows are this much larger (mean square) than those of most, before some normalisation, is none to go by… */
const farBeyond = 64;
/** …as long as such samples are this rare. */
const rare = 1 / 50;
/** Samples that must have been seen before one can be told from the others. */
const enough = 8;

/**
 * Runs `samples` through the graph. `onProgress(done, total)` may be slow inputs' only sign of life.
 *
 * A few inputs drive a transformer's residual far beyond where all others leave it (SmolLM2: a text that begins with a smiley, 200 times). Ranges
 * that held them would leave no precision to anybody else, so such samples are left out, and named in `strange`: inputs like them are
 * answered wrongly.
 */
export function calibrate(graph: Graph, samples: readonly Record<string, Tensor>[], onProgress?: (done: number, total: number) => void): Calibration {
  const parameters = [...new Set(graph.inputs.flatMap((i) => i.shape.filter((d): d is string => typeof d === 'string')))];
  const normed = new Set(graph.nodes.filter((n) => /^(LayerNormalization|RMSNormalization)$/.test(n.op)).map((n) => n.inputs[0]));
  const attention = new Set(graph.nodes.filter((n) => n.op === 'Attention').flatMap((n) => n.inputs));
  const shapes: Shapes = new Map();
  let all: Calibration = { values: new Map(), heads: new Map(), samples: 0, rows: 0, strange: [] };
  const peaks = new Map<string, number[]>();
  let held: Part[] = [];
  const isStrange = (cal: Calibration): boolean => [...peaks].some(([name, list]) => (cal.values.get(name)?.rows?.squareHi ?? 0) > farBeyond * median(list));
  for (const [i, sample] of samples.entries()) {
    const one = rangesOf(graph, sample, { number: i, parameters, normed, attention, shapes });
    for (const name of normed) peaks.set(name, [...(peaks.get(name) ?? []), one.values.get(name)?.rows?.squareHi ?? 0]);
    held.push(one);
    if (i + 1 >= enough) {
      all = held.filter((h) => !isStrange(h)).reduce<Calibration>(merged, all);
      held = held.filter(isStrange);
    }
    onProgress?.(i + 1, samples.length);
  }
  const strange = samples.length < enough ? [] : held.filter(isStrange);
  const left = strange.length <= rare * samples.length ? strange : [];
  all = held.filter((h) => !left.includes(h)).reduce<Calibration>(merged, all);
  for (const [name, seen] of shapes) all.values.get(name)!.shape = symbolic(name, seen, parameters);
  return { ...all, strange: left.map((h) => h.number).sort((a, b) => a - b) };
}

const median = (list: readonly number[]): number => [...list].sort((a, b) => a - b)[list.length >> 1];

interface Watched {
  readonly number: number;
  readonly parameters: readonly string[];
  /** Inputs of normalisations, and of attention. */
  readonly normed: ReadonlySet<string>;
  readonly attention: ReadonlySet<string>;
  readonly shapes: Shapes;
}
type Shapes = Map<string, { at: number[]; shape: readonly number[] }[]>;
type Part = Calibration & { readonly number: number };

/** Ranges of one sample, without shapes. */
function rangesOf(graph: Graph, sample: Record<string, Tensor>, w: Watched): Part {
  const rows = Math.max(...Object.values(sample).map((t) => t.shape.at(-2) ?? 1));
  const cal: Part = { number: w.number, values: new Map(), heads: new Map(), samples: 1, rows, strange: [] };
  const params = w.parameters.map((p) => parameterOf(graph, sample, p));
  const held = new Map<string, Tensor>();
  const see = (name: string, t: Tensor): void => {
    if (t.dtype !== 'f32') return;
    observe(cal, name, t, w.normed.has(name));
    remember(w.shapes, name, params, t.shape);
    if (w.attention.has(name)) held.set(name, t);
  };
  for (const [name, t] of Object.entries(sample)) see(name, t);
  interpret(graph, sample, (name, t, node) => {
    see(name, t);
    if (node.op === 'Attention') observeHeads(cal, node, held);
  });
  return cal;
}

function parameterOf(graph: Graph, sample: Record<string, Tensor>, parameter: string): number {
  for (const input of graph.inputs) {
    const axis = input.shape.indexOf(parameter);
    if (axis >= 0 && sample[input.name]) return sample[input.name].shape[axis];
  }
  throw new RangeError(`calibration sample without a value for '${parameter}'`);
}

function observe(cal: Calibration, name: string, t: Tensor, normed: boolean): void {
  let v = cal.values.get(name);
  if (!v) {
    v = { shape: [], max: 0 };
    cal.values.set(name, v);
  }
  const axis = t.shape.length === 4 ? 1 : t.shape.length - 1;
  const count = t.shape[axis] ?? 0;
  const inner = t.shape.slice(axis + 1).reduce((a, b) => a * b, 1);
  const data = t.data as Float32Array;
  if (t.shape.length >= 2 && count <= widestChannels && (v.channels === undefined || v.channels.lo.length === count)) {
    v.channels ??= { axis, lo: new Float64Array(count).fill(Infinity), hi: new Float64Array(count).fill(-Infinity) };
    const { lo, hi } = v.channels;
    let c = 0;
    let left = inner;
    for (let i = 0; i < data.length; i++) {
      const x = data[i];
      if (x < lo[c]) lo[c] = x;
      if (x > hi[c]) hi[c] = x;
      if (--left === 0) {
        left = inner;
        if (++c === count) c = 0;
      }
    }
    for (c = 0; c < count; c++) v.max = Math.max(v.max, -lo[c], hi[c]);
  } else for (const x of data) v.max = Math.max(v.max, Math.abs(x));
  if (normed) observeRows(v, data, t.shape.at(-1)!);
}

function observeRows(v: ValueRange, x: Float32Array, d: number): void {
  v.rows ??= { varianceLo: Infinity, varianceHi: 0, squareLo: Infinity, squareHi: 0, centred: 0 };
  for (let r = 0; r < x.length; r += d) {
    let sum = 0;
    for (let i = 0; i < d; i++) sum += x[r + i];
    const mean = sum / d;
    let square = 0;
    for (let i = 0; i < d; i++) {
      const c = x[r + i] - mean;
      square += c * c;
      if (c > v.rows.centred) v.rows.centred = c;
      else if (-c > v.rows.centred) v.rows.centred = -c;
    }
    v.rows.varianceLo = Math.min(v.rows.varianceLo, square / d);
    v.rows.varianceHi = Math.max(v.rows.varianceHi, square / d);
    v.rows.squareLo = Math.min(v.rows.squareLo, square / d + mean * mean);
    v.rows.squareHi = Math.max(v.rows.squareHi, square / d + mean * mean);
  }
}

/**
 * Scores of one Attention node, head by head: those that a row sees. Queries are [tokens, heads·d], perhaps with a leading 1, keys
 * [tokens, kvHeads·d], after those of the cache.
 */
function observeHeads(cal: Calibration, node: GraphNode, held: ReadonlyMap<string, Tensor>): void {
  const [q, k, , , past] = node.inputs.map((name) => held.get(name)!);
  const heads = node.attrs.heads as number;
  const scale = node.attrs.scale as number;
  const window = (node.attrs.window as number | undefined) ?? 0;
  const causal = window > 0 || Boolean(node.attrs.causal);
  const cap = (node.attrs.softcap as number | undefined) || undefined;
  const shares = heads / ((node.attrs.kvHeads as number | undefined) ?? heads);
  const width = q.shape.at(-1)!;
  const d = width / heads;
  const kWidth = k.shape.at(-1)!;
  const n = q.shape.at(-2)!;
  const before = past?.shape[0] ?? 0;
  const keys = before + k.shape.at(-2)!;
  const Q = q.data as Float32Array;
  const K = before === 0 ? (k.data as Float32Array) : new Float32Array(keys * kWidth);
  if (before > 0) {
    K.set(past.data as Float32Array);
    K.set(k.data as Float32Array, before * kWidth);
  }
  let stats = cal.heads.get(node.name);
  if (!stats) {
    stats = Array.from({ length: heads }, () => ({ lo: Infinity, hi: -Infinity, ...(cap && { cap }), logMean: new Array<number>(temperatures).fill(Infinity), logMeanHi: new Array<number>(temperatures).fill(-Infinity), squares: new Array<number>(temperatures).fill(Infinity) }));
    cal.heads.set(node.name, stats);
  }
  const row = new Float64Array(keys);
  for (let h = 0; h < heads; h++) {
    const s = stats[h];
    for (let i = 0; i < n; i++) {
      let top = -Infinity;
      const end = causal ? keys - n + i + 1 : keys;
      const first = window > 0 ? Math.max(0, end - window) : 0;
      for (let j = first; j < end; j++) {
        let dot = 0;
        const a = i * width + h * d;
        const b = j * kWidth + Math.floor(h / shares) * d;
        for (let c = 0; c < d; c++) dot += Q[a + c] * K[b + c];
        const score = dot * scale;
        if (score > s.hi) s.hi = score;
        if (score < s.lo) s.lo = score;
        row[j] = capped(score, cap);
        if (row[j] > top) top = row[j];
      }
      const sums = new Float64Array(temperatures);
      for (let j = first; j < end; j++) {
        let e = Math.exp((row[j] - top) / 2 ** (temperatures - 1));
        for (let t = temperatures - 1; t >= 0; t--) {
          sums[t] += e;
          e *= e;
        }
      }
      for (let t = 0; t < temperatures; t++) {
        const logMean = Math.log(sums[t] / (end - first)) + top / 2 ** t;
        s.logMean[t] = Math.min(s.logMean[t], logMean);
        s.logMeanHi[t] = Math.max(s.logMeanHi[t], logMean);
        if (t > 0) s.squares[t] = Math.min(s.squares[t], sums[t - 1] / sums[t] ** 2);
      }
    }
  }
}

/** Ranges over both sets of samples. */
export function merged(a: Calibration, b: Calibration): Calibration {
  const values = new Map(a.values);
  for (const [name, v] of b.values) {
    const known = values.get(name);
    values.set(name, known ? mergedValue(known, v) : v);
  }
  const heads = new Map(a.heads);
  for (const [name, list] of b.heads) {
    const known = heads.get(name);
    heads.set(name, known ? known.map((h, i) => mergedHead(h, list[i])) : list);
  }
  return { values, heads, samples: a.samples + b.samples, rows: a.rows + b.rows, strange: [...a.strange, ...b.strange] };
}

function mergedValue(a: ValueRange, b: ValueRange): ValueRange {
  const channels =
    a.channels && b.channels && a.channels.lo.length === b.channels.lo.length
      ? {
          axis: a.channels.axis,
          lo: a.channels.lo.map((v, i) => Math.min(v, b.channels?.lo[i] as number)),
          hi: a.channels.hi.map((v, i) => Math.max(v, b.channels?.hi[i] as number)),
        }
      : undefined;
  const rows =
    a.rows && b.rows
      ? {
          varianceLo: Math.min(a.rows.varianceLo, b.rows.varianceLo),
          varianceHi: Math.max(a.rows.varianceHi, b.rows.varianceHi),
          squareLo: Math.min(a.rows.squareLo, b.rows.squareLo),
          squareHi: Math.max(a.rows.squareHi, b.rows.squareHi),
          centred: Math.max(a.rows.centred, b.rows.centred),
        }
      : undefined;
  // A part whose samples were all of one length takes a length for a constant.
  const shape = a.shape.map((d, i) => (typeof d === 'string' ? d : b.shape[i]));
  return { shape, max: Math.max(a.max, b.max), ...(channels ? { channels } : {}), ...(rows ? { rows } : {}) };
}

const mergedHead = (a: HeadRange, b: HeadRange): HeadRange => ({
  ...a,
  lo: Math.min(a.lo, b.lo),
  hi: Math.max(a.hi, b.hi),
  logMean: a.logMean.map((v, i) => Math.min(v, b.logMean[i])),
  logMeanHi: a.logMeanHi.map((v, i) => Math.max(v, b.logMeanHi[i])),
  squares: a.squares.map((v, i) => Math.min(v, b.squares[i])),
});

function remember(shapes: Map<string, { at: number[]; shape: readonly number[] }[]>, name: string, at: number[], shape: readonly number[]): void {
  const seen = shapes.get(name);
  if (!seen) shapes.set(name, [{ at, shape }]);
  else if (seen.length < 8 && !seen.some((s) => s.at.every((v, i) => v === at[i]))) seen.push({ at, shape });
}

/** Dimensions that stay are numbers; others must be a·p + b in one parameter, which the samples show. */
function symbolic(name: string, seen: readonly { at: number[]; shape: readonly number[] }[], parameters: readonly string[]): Dim[] {
  return seen[0].shape.map((d, axis) => {
    if (seen.every((s) => s.shape[axis] === d)) return d;
    for (const [p, parameter] of parameters.entries()) {
      const other = seen.find((s) => s.at[p] !== seen[0].at[p]);
      if (!other) continue;
      const a = (other.shape[axis] - d) / (other.at[p] - seen[0].at[p]);
      const b = d - a * seen[0].at[p];
      if (Number.isInteger(a) && seen.every((s) => s.shape[axis] === a * s.at[p] + b)) {
        const term = a === 1 ? parameter : `${a}*${parameter}`;
        return b === 0 ? term : b > 0 ? `${term}+${b}` : `${term}-${-b}`;
      }
    }
    throw new RangeError(`value '${name}': its dimension ${axis} does not follow from ${parameters.join(', ')}`);
  });
}
