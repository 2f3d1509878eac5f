/**
 * A graph while it is being rewritten: who makes a value, who reads it, what is known of its shape. A rule looks at one node and what
 * feeds it, and returns nodes that compute the same outputs; they take that node's place, and what nobody reads any more is swept
 * away. Since a replacement reads only what its node could already reach, running order is kept and every rule is local.
 */
import type { DType, Graph, GraphNode, Tensor } from '../graph.ts';
import { type Fact, probe } from './probe.ts';

/** Nodes that compute `node`'s outputs in its stead, or undefined to leave it. */
export type Rule = (node: GraphNode, view: View) => GraphNode[] | undefined;

export interface Pass {
  readonly name: string;
  readonly rules: readonly Rule[];
}

export class View {
  readonly constants: Map<string, Tensor>;
  nodes: GraphNode[];
  private readonly graph: Graph;
  private readonly facts: Map<string, Fact>;
  private readonly names: Set<string>;
  private makers = new Map<string, GraphNode>();
  private readers = new Map<string, GraphNode[]>();

  constructor(graph: Graph) {
    this.graph = graph;
    this.nodes = [...graph.nodes];
    this.constants = new Map(graph.constants);
    this.facts = probe(graph);
    this.names = new Set([...this.facts.keys(), ...graph.nodes.map((n) => n.name)]);
    this.index();
  }

  private index(): void {
    this.makers = new Map();
    this.readers = new Map();
    for (const node of this.nodes) {
      for (const name of node.outputs) this.makers.set(name, node);
      for (const name of node.inputs) {
        const list = this.readers.get(name);
        if (list) list.push(node);
        else this.readers.set(name, [node]);
      }
    }
  }

  /** The node that computes this value, when its operator is one of `ops` (any, when none is given). */
  maker(name: string, ...ops: string[]): GraphNode | undefined {
    const node = this.makers.get(name);
    return node !== undefined && (ops.length === 0 || ops.includes(node.op)) ? node : undefined;
  }

  /** How many inputs and graph outputs read this value. */
  uses(name: string): number {
    return (this.readers.get(name)?.length ?? 0) + (this.graph.outputs.includes(name) ? 1 : 0);
  }

  isOutput(name: string): boolean {
    return this.graph.outputs.includes(name);
  }

  constant(name: string): Tensor | undefined {
    return this.constants.get(name);
  }

  /** The number a one-value constant holds. */
  scalar(name: string): number | undefined {
    const t = this.constants.get(name);
    return t !== undefined && t.data.length === 1 ? t.data[0] : undefined;
  }

  fact(name: string): Fact | undefined {
    return this.facts.get(name);
  }

  dtype(name: string): DType | undefined {
    return this.facts.get(name)?.dtype;
  }

  rank(name: string): number | undefined {
    return this.facts.get(name)?.shapes[0].length;
  }

  /** The size of an axis (negative counts from the end) when it does not depend on parameters. */
  dim(name: string, axis: number): number | undefined {
    const sizes = this.facts.get(name)?.shapes.map((s) => s.at(axis));
    return sizes?.every((d) => d === sizes[0]) ? sizes[0] : undefined;
  }

  /** The whole shape when no axis depends on parameters. */
  shape(name: string): number[] | undefined {
    const first = this.facts.get(name)?.shapes[0];
    const dims = first?.map((_, i) => this.dim(name, i));
    return dims?.every((d) => d !== undefined) ? dims : undefined;
  }

  /** Whether two values have the same shape at every setting of the parameters. */
  sameShape(a: string, b: string): boolean {
    const [p, q] = [this.facts.get(a), this.facts.get(b)];
    return (
      p !== undefined &&
      q !== undefined &&
      p.shapes.every((s, i) => s.length === q.shapes[i].length && s.every((d, axis) => d === q.shapes[i][axis]))
    );
  }

  /** Records what is known of a value a rule introduces. */
  note(name: string, fact: Fact): void {
    this.facts.set(name, fact);
  }

  fresh(hint: string): string {
    let name = hint;
    for (let i = 1; this.names.has(name); i++) name = `${hint}.${i}`;
    this.names.add(name);
    return name;
  }

  /** A new constant; returns its name. */
  add(hint: string, t: Tensor): string {
    const name = this.fresh(hint);
    this.define(name, t);
    return name;
  }

  /** Makes a value a constant. */
  define(name: string, t: Tensor): void {
    this.constants.set(name, t);
    const probes = this.facts.values().next().value?.shapes.length ?? 1;
    const shapes = new Array<readonly number[]>(probes).fill(t.shape);
    const ints = t.dtype === 'i64' && t.data.length <= 16 ? shapes.map(() => Array.from(t.data)) : undefined;
    this.facts.set(name, { dtype: t.dtype, shapes, ints });
  }

  /** A node name for what replaces `node`: '/norm1/Add_1' becomes '/norm1/LayerNormalization'. */
  nameFor(node: GraphNode, op: string): string {
    const cut = node.name.lastIndexOf('/') + 1;
    return this.fresh(cut > 0 ? node.name.slice(0, cut) + op : `${node.name}.${op}`);
  }

  /** Applies the rules over and over until none matches. Returns how often one did. */
  apply(pass: Pass): number {
    let total = 0;
    for (let round = 0; round < 100; round++) {
      let changed = 0;
      for (const rule of pass.rules) changed += this.sweep(rule);
      total += changed;
      if (changed === 0) break;
    }
    return total;
  }

  private sweep(rule: Rule): number {
    let changed = 0;
    const out: GraphNode[] = [];
    for (const node of this.nodes) {
      const instead = rule(node, this);
      if (instead === undefined) {
        out.push(node);
        continue;
      }
      changed++;
      for (const name of node.outputs) this.makers.delete(name);
      for (const n of instead) for (const name of n.outputs) this.makers.set(name, n);
      out.push(...instead);
    }
    if (changed > 0) {
      this.nodes = out;
      this.sweepDead();
    }
    return changed;
  }

  /** Drops nodes and constants that no output depends on, and reads through Identity nodes. */
  sweepDead(): void {
    const alias = new Map<string, string>();
    const through = (name: string): string => alias.get(name) ?? name;
    const kept = this.nodes.map((given) => {
      const n = given.inputs.some((i) => alias.has(i)) ? { ...given, inputs: given.inputs.map(through) } : given;
      if (n.op === 'Identity' && !this.isOutput(n.outputs[0])) alias.set(n.outputs[0], n.inputs[0]);
      return n;
    });
    const live = new Set(this.graph.outputs);
    const out: GraphNode[] = [];
    for (let i = kept.length - 1; i >= 0; i--) {
      const n = kept[i];
      if (!n.outputs.some((o) => live.has(o))) continue;
      for (const name of n.inputs) live.add(name);
      out.push(n);
    }
    this.nodes = out.reverse();
    for (const name of this.constants.keys()) if (!live.has(name)) this.constants.delete(name);
    this.index();
  }

  toGraph(): Graph {
    return { ...this.graph, nodes: this.nodes, constants: this.constants };
  }
}
