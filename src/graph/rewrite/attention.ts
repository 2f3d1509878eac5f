/**
 * softmax(c · Q·Kᵀ)·V, heads split and merged by reshapes and transposes, as one Attention(q, k, v).
 *
 * Exporters write the head split in many ways: reshape and transpose, one fused QKV product that is split or indexed, sequence-first
 * layouts. All of them only move values, so instead of matching each the rule runs them on numbered positions, at every probed
 * setting of the parameters, and reads off where each value comes from: a split is whatever has
 *     Q[head, row, j] = base[row, column(head, j)]
 * for a base value that holds one row per token. When the columns are not the base's own in order (fused QKV), the Linear that made
 * the base is cut to the columns wanted.
 */
import { type GraphNode, ModelError, sizeOf, type Tensor, tensor } from '../graph.ts';
import { runNode } from '../interpret.ts';
import { withScalar } from './norm.ts';
import { staticTarget } from './tidy.ts';
import type { Rule, View } from './view.ts';

/** Operators that only move values of their first input; the others must be constant. */
const moves = new Set(['Reshape', 'Transpose', 'Split', 'Slice', 'Gather', 'Squeeze', 'Unsqueeze', 'Flatten', 'Identity']);

interface Step {
  readonly node: GraphNode;
  readonly output: number;
}

/** From `name` back through moves (and, when `scaled`, factors): the places it may be based on, nearest first. */
function origins(name: string, v: View, scaled: boolean): { base: string; steps: Step[]; factor: number }[] {
  const found = [{ base: name, steps: [] as Step[], factor: 1 }];
  for (let at = found[0]; ; at = found[found.length - 1]) {
    const node = v.maker(at.base);
    if (node === undefined || found.length > 12) return found;
    if (moves.has(node.op) && node.inputs.slice(1).every((i) => i === '' || v.constant(i) !== undefined)) {
      found.push({ ...at, base: node.inputs[0], steps: [{ node, output: node.outputs.indexOf(at.base) }, ...at.steps] });
      continue;
    }
    const by = scaled ? factorOf(node, v) : undefined;
    if (by === undefined || !v.sameShape(by.of, at.base)) return found;
    found.push({ base: by.of, steps: at.steps, factor: at.factor * by.factor });
  }
}

/** y = factor · x, by a constant number. */
function factorOf(node: GraphNode, v: View): { of: string; factor: number } | undefined {
  if (node.op === 'Mul') {
    const joined = withScalar(node, v);
    return joined && { of: joined[0], factor: joined[1] };
  }
  const d = node.op === 'Div' ? v.scalar(node.inputs[1]) : undefined;
  return d ? { of: node.inputs[0], factor: 1 / d } : undefined;
}

/** The positions of `shape` carried through the steps. */
function carry(shape: readonly number[], steps: readonly Step[], v: View): Tensor | undefined {
  const n = sizeOf(shape);
  let t: Tensor = { dtype: 'i64', shape: [...shape], data: Float64Array.from({ length: n }, (_, i) => i) };
  try {
    for (const { node, output } of steps)
      t = runNode(node, [t, ...node.inputs.slice(1).map((i) => (i === '' ? undefined : v.constant(i)))])[output];
  } catch (e) {
    if (e instanceof ModelError) return undefined;
    throw e;
  }
  return t;
}

interface Heads {
  readonly base: string;
  readonly factor: number;
  /** base's column for value j of head h, at h·size + j. */
  readonly columns: number[];
  readonly batch: number;
  readonly heads: number;
}

/**
 * `name` is [.., rows, d] (or [.., d, rows] when turned), the leading axes batch × heads: finds the base value it was split from.
 * `heads` 0 accepts any count.
 */
function splitOf(name: string, turned: boolean, heads: number, v: View): Heads | undefined {
  const fact = v.fact(name);
  if (fact === undefined || fact.shapes[0].length < 2) return undefined;
  for (const { base, steps, factor } of origins(name, v, true).reverse()) {
    const from = v.fact(base);
    const width = v.dim(base, -1);
    if (from === undefined || width === undefined || from.shapes[0].length < 2) continue;
    let answer: Heads | undefined;
    const same = fact.shapes.every((shape, p) => {
      const rows = shape.at(turned ? -1 : -2) as number;
      const size = shape.at(turned ? -2 : -1) as number;
      const lead = sizeOf(shape.slice(0, -2));
      const tokens = sizeOf(from.shapes[p]) / width;
      const batch = tokens / rows;
      const count = lead / batch;
      if (!Number.isInteger(batch) || !Number.isInteger(count) || count < 1 || (heads > 0 && count !== heads) || lead * rows * size === 0)
        return false;
      const t = carry(from.shapes[p], steps, v);
      if (t === undefined || t.data.length !== lead * rows * size) return false;
      const at = (b: number, h: number, i: number, j: number): number =>
        t.data[(b * count + h) * rows * size + (turned ? j * rows + i : i * size + j)];
      const columns = Array.from({ length: count * size }, (_, c) => at(0, Math.floor(c / size), 0, c % size));
      if (columns.some((c) => c >= width)) return false;
      for (let b = 0; b < batch; b++)
        for (let h = 0; h < count; h++)
          for (let i = 0; i < rows; i++)
            for (let j = 0; j < size; j++) if (at(b, h, i, j) !== (b * rows + i) * width + columns[h * size + j]) return false;
      const before = answer;
      answer ??= { base, factor, columns, batch, heads: count };
      return before === undefined || (before.heads === count && before.batch === batch && before.columns.every((c, i) => c === columns[i]));
    });
    if (same && answer !== undefined) return answer;
  }
  return undefined;
}

/** A value [batch, rows, columns] with these columns of the split's base, and the nodes that make it. */
function takeColumns(
  split: Heads,
  rows: readonly number[],
  v: View,
  node: GraphNode,
  part: string,
): { name: string; nodes: GraphNode[] } | undefined {
  const width = v.dim(split.base, -1) as number;
  const wanted = split.columns;
  const nodes: GraphNode[] = [];
  let name = split.base;
  if (wanted.length !== width || wanted.some((c, i) => c !== i)) {
    const linear = v.maker(split.base, 'Linear');
    const [w, b] = [linear && v.constant(linear.inputs[1]), linear?.inputs[2] ? v.constant(linear.inputs[2]) : undefined];
    const contiguous = wanted.every((c, i) => c === wanted[0] + i);
    if (linear && w && (!linear.inputs[2] || b)) {
      const own = v.fresh(`${linear.name}.${part}`);
      const weight = v.add(
        `${own}.weight`,
        tensor(
          Array.from(
            { length: w.shape[0] * wanted.length },
            (_, i) => w.data[Math.floor(i / wanted.length) * width + wanted[i % wanted.length]],
          ),
          [w.shape[0], wanted.length],
        ),
      );
      const bias = b
        ? [
            v.add(
              `${own}.bias`,
              tensor(
                wanted.map((c) => b.data[c]),
                [wanted.length],
              ),
            ),
          ]
        : [];
      name = v.fresh(`${own}.out`);
      nodes.push({ op: 'Linear', name: own, inputs: [linear.inputs[0], weight, ...bias], outputs: [name], attrs: {} });
    } else if (contiguous) {
      const own = v.fresh(`${node.name}.${part}`);
      name = v.fresh(`${own}.out`);
      const list = (hint: string, value: number): string => v.add(`${own}.${hint}`, tensor([value], [1], 'i64'));
      nodes.push({
        op: 'Slice',
        name: own,
        inputs: [split.base, list('start', wanted[0]), list('end', wanted[0] + wanted.length), list('axis', -1)],
        outputs: [name],
        attrs: {},
      });
    } else return undefined;
    v.note(name, { dtype: 'f32', shapes: (v.fact(split.base)?.shapes ?? []).map((s) => [...s.slice(0, -1), wanted.length]) });
  }
  const shapes = v.fact(name)?.shapes ?? [];
  // Attention reads [.., rows, columns] with the batch in front: other layouts of one row per token are reshaped.
  if (shapes.every((s, p) => s.at(-2) === rows[p] && (s.length === 2 || s.length === 3))) return { name, nodes };
  const target = v.add(`${node.name}.${part}.target`, tensor([split.batch, -1, wanted.length], [3], 'i64'));
  const out = v.fresh(`${node.name}.${part}.rows`);
  nodes.push({ op: 'Reshape', name: v.fresh(`${node.name}.${part}.Reshape`), inputs: [name, target], outputs: [out], attrs: {} });
  v.note(out, { dtype: 'f32', shapes: rows.map((r) => [split.batch, r, wanted.length]) });
  return { name: out, nodes };
}

/** softmax over the last axis of factor · A·B: the two operands and the factor. */
function scoresOf(name: string, v: View): { a: string; b: string; factor: number } | undefined {
  const soft = v.maker(name, 'Softmax');
  if (soft === undefined) return undefined;
  const axis = Number(soft.attrs.axis ?? -1);
  if (axis !== -1 && axis + 1 !== v.rank(name)) return undefined;
  let factor = 1;
  let at = soft.inputs[0];
  for (let i = 0; i < 6; i++) {
    const node = v.maker(at);
    if (node?.op === 'MatMul') return { a: node.inputs[0], b: node.inputs[1], factor };
    const by = node && factorOf(node, v);
    if (by === undefined || !v.sameShape(by.of, at)) return undefined;
    factor *= by.factor;
    at = by.of;
  }
  return undefined;
}

/** Whether the heads' results [.., rows, e], carried to this node, lie as [batch, rows, heads·e] does. */
function merges(from: string, steps: readonly Step[], batch: number, heads: number, v: View): boolean {
  return (v.fact(from)?.shapes ?? []).every((shape) => {
    const [rows, e] = shape.slice(-2);
    const t = carry(shape, steps, v);
    if (t === undefined || t.data.length !== batch * heads * rows * e) return false;
    const width = heads * e;
    return t.data.every((at: number, i: number) => {
      const [c, row] = [i % width, Math.floor(i / width)];
      const [h, b] = [Math.floor(c / e), Math.floor(row / rows)];
      return at === ((b * heads + h) * rows + (row % rows)) * e + (c % e);
    });
  });
}

export const attention: Rule = (node, v) => {
  if (node.op !== 'MatMul' && !moves.has(node.op)) return undefined;
  if (node.outputs.length !== 1 || v.dtype(node.outputs[0]) !== 'f32') return undefined;
  const chain = origins(node.outputs[0], v, false);
  const { base, steps } = chain[chain.length - 1];
  const mix = v.maker(base, 'MatMul');
  if (mix === undefined || (steps.length > 0 && v.uses(base) !== 1)) return undefined;
  const scores = scoresOf(mix.inputs[0], v);
  if (scores === undefined) return undefined;
  const q = splitOf(scores.a, false, 0, v);
  const k = q && splitOf(scores.b, true, q.heads, v);
  const val = k && splitOf(mix.inputs[1], false, k.heads, v);
  if (!q || !k || !val || k.batch !== q.batch || val.batch !== q.batch || !merges(base, steps, q.batch, q.heads, v)) return undefined;
  const rowsOf = (name: string, axis: number): number[] => (v.fact(name)?.shapes ?? []).map((s) => s.at(axis) as number);
  const parts = [
    takeColumns(q, rowsOf(scores.a, -2), v, node, 'q'),
    takeColumns(k, rowsOf(scores.b, -1), v, node, 'k'),
    takeColumns(val, rowsOf(mix.inputs[1], -2), v, node, 'v'),
  ];
  if (parts.some((p) => p === undefined)) return undefined;
  const [qi, ki, vi] = parts as { name: string; nodes: GraphNode[] }[];
  const ranks = [qi, ki, vi].map((p) => v.rank(p.name));
  if (ranks.some((r) => r !== ranks[0])) return undefined;
  const rows = rowsOf(scores.a, -2);
  const width = val.columns.length;
  const shapes = rows.map((r, p) => [...(v.fact(qi.name)?.shapes[p] ?? []).slice(0, -2), r, width]);
  const attrs = { heads: q.heads, scale: scores.factor * q.factor * k.factor };
  const name = v.nameFor(node, 'Attention');
  const made = [...qi.nodes, ...ki.nodes, ...vi.nodes];
  const result = (out: string): GraphNode => ({ op: 'Attention', name, inputs: [qi.name, ki.name, vi.name], outputs: [out], attrs });
  const wanted = v.fact(node.outputs[0])?.shapes ?? [];
  const scaled = val.factor === 1 ? [] : undefined;
  if (scaled === undefined) return undefined;
  if (wanted.every((s, p) => s.length === shapes[p].length && s.every((d, i) => d === shapes[p][i])))
    return [...made, result(node.outputs[0])];
  const target = staticTarget(wanted);
  if (target === undefined) return undefined;
  const out = v.fresh(`${name}.out`);
  v.note(out, { dtype: 'f32', shapes });
  const to = v.add(`${name}.target`, tensor(target, [target.length], 'i64'));
  return [...made, result(out), { op: 'Reshape', name: v.fresh(`${name}.Reshape`), inputs: [out, to], outputs: node.outputs, attrs: {} }];
};
