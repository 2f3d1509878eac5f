/** Checks that names connect, and puts nodes in running order. */
import { type GraphNode, ModelError } from '../../graph/graph.ts';
import { printable } from './tensor.ts';

/**
 * Nodes sorted so that each comes after what it reads, file order kept where it can be. `known` are inputs and constants.
 * Throws when a value is defined twice or nowhere, or when nodes wait for each other.
 */
export function inOrder(nodes: readonly GraphNode[], known: ReadonlySet<string>): GraphNode[] {
  const maker = new Map<string, number>();
  nodes.forEach((node, i) => {
    for (const name of node.outputs) {
      if (name === '') continue;
      if (known.has(name) || maker.has(name))
        throw new ModelError(`${node.name} (${node.op}): value '${printable(name)}' is defined twice`);
      maker.set(name, i);
    }
  });
  const waits = new Array<number>(nodes.length).fill(0);
  const readers = new Map<number, number[]>();
  nodes.forEach((node, i) => {
    for (const name of new Set(node.inputs)) {
      if (name === '' || known.has(name)) continue;
      const from = maker.get(name);
      if (from === undefined) throw new ModelError(`${node.name} (${node.op}): input '${printable(name)}' is defined nowhere`);
      waits[i]++;
      const list = readers.get(from);
      if (list) list.push(i);
      else readers.set(from, [i]);
    }
  });
  if (waits.every((_, i) => nodes[i].inputs.every((name) => name === '' || known.has(name) || (maker.get(name) ?? i) < i)))
    return [...nodes];
  const ready = nodes.map((_, i) => i).filter((i) => waits[i] === 0);
  const order: GraphNode[] = [];
  for (let at = 0; at < ready.length; at++) {
    order.push(nodes[ready[at]]);
    for (const r of readers.get(ready[at]) ?? []) if (--waits[r] === 0) ready.push(r);
  }
  if (order.length < nodes.length) {
    const stuck = nodes.filter((_, i) => waits[i] > 0).map((n) => n.name);
    throw new ModelError(`the nodes ${stuck.slice(0, 5).join(', ')}${stuck.length > 5 ? ', …' : ''} wait for each other (a cycle)`);
  }
  return order;
}
