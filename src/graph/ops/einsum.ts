/** Einsum, by its definition: a loop over every label. Products of two operands that are matrix products are rewritten before they run. */
import { sizeOf, type Tensor } from '../graph.ts';
import { alloc, type Family, fail, need, strAttr, stridesOf } from './common.ts';

/** 'ij,jk->ik' as label lists; '...' becomes labels '0', '1', … counted from the right. */
export function parseEinsum(equation: string, ranks: readonly number[]): { terms: string[][]; out: string[] } {
  const [left, right, extra] = equation.replace(/\s/g, '').split('->');
  const parts = left.split(',');
  if (extra !== undefined || parts.length !== ranks.length || !/^[A-Za-z.,]*$/.test(left) || !/^[A-Za-z.]*$/.test(right ?? ''))
    return fail(`equation ${equation.slice(0, 80)}`);
  let dots = 0;
  const expand = (term: string, count: number): string[] => {
    const at = term.indexOf('...');
    const labels = (s: string): string[] => (s.includes('.') ? fail(`equation ${equation.slice(0, 80)}`) : [...s]);
    if (at < 0) return labels(term);
    return [...labels(term.slice(0, at)), ...Array.from({ length: count }, (_, i) => String(count - 1 - i)), ...labels(term.slice(at + 3))];
  };
  const terms = parts.map((term, i) => {
    const count = term.includes('...') ? ranks[i] - (term.length - 3) : 0;
    if (count < 0) fail(`equation ${equation.slice(0, 80)} on rank ${ranks[i]}`);
    dots = Math.max(dots, count);
    return expand(term, count);
  });
  const all = terms.flat();
  const out =
    right !== undefined
      ? expand(right, dots)
      : [
          ...Array.from({ length: dots }, (_, i) => String(dots - 1 - i)),
          ...[...new Set(all)].filter((l) => /[A-Za-z]/.test(l) && all.indexOf(l) === all.lastIndexOf(l)).sort(),
        ];
  if (new Set(out).size !== out.length || out.some((l) => !all.includes(l))) return fail(`equation ${equation.slice(0, 80)}`);
  return { terms, out };
}

function einsum(inputs: readonly Tensor[], equation: string): Tensor {
  const { terms, out } = parseEinsum(
    equation,
    inputs.map((t) => t.shape.length),
  );
  const size = new Map<string, number>();
  terms.forEach((labels, i) => {
    if (labels.length !== inputs[i].shape.length) fail(`${labels.join('')} on [${inputs[i].shape}]`);
    labels.forEach((l, a) => {
      const d = inputs[i].shape[a];
      const known = size.get(l) ?? 1;
      if (known !== 1 && d !== 1 && known !== d) fail(`${l} is both ${known} and ${d}`);
      size.set(l, Math.max(known, d === 0 ? 0 : d));
      if (d === 0) size.set(l, 0);
    });
  });
  const labels = [...out, ...[...size.keys()].filter((l) => !out.includes(l))];
  const dims = labels.map((l) => size.get(l) ?? 1);
  const total = sizeOf(dims);
  if (total > 2 ** 36) return fail(`${total} products`);
  const strides = inputs.map((t, i) => {
    const own = stridesOf(t.shape);
    return labels.map((l) => terms[i].reduce((s, m, a) => s + (m === l && t.shape[a] !== 1 ? own[a] : 0), 0));
  });
  const y = alloc(inputs[0].dtype, dims.slice(0, out.length));
  if (total === 0) return y;
  const inner = sizeOf(dims.slice(out.length));
  const index = dims.map(() => 0);
  const at = inputs.map(() => 0);
  for (let o = 0; o < y.data.length; o++) {
    let sum = 0;
    for (let k = 0; k < inner; k++) {
      let product = 1;
      for (let i = 0; i < inputs.length; i++) product *= inputs[i].data[at[i]];
      sum += product;
      for (let a = dims.length - 1; a >= 0; a--) {
        for (let i = 0; i < at.length; i++) at[i] += strides[i][a];
        if (++index[a] < dims[a]) break;
        for (let i = 0; i < at.length; i++) at[i] -= strides[i][a] * dims[a];
        index[a] = 0;
      }
    }
    y.data[o] = sum;
  }
  return y;
}

export const einsums: Family = {
  Einsum: (x, node) => [
    einsum(
      x.map((_, i) => need(x, i)),
      strAttr(node, 'equation', ''),
    ),
  ],
};
