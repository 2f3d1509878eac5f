/**
 * Where a text model's embeddings are looked up, --embedding.
 *
 *   client   the client has the tables and shares the sum of their rows: the least work. What it means to hand out private tables, the
 *            owner must say
 *   dpf      inside the run: the client sends two keys a token and table, of 16·log₂(V) bytes each; the parties expand them to shares of rows
 *            that are 0 but for a one
 *   one-hot  inside the run: the client makes and shares those rows itself, 4·V bytes a token
 *
 * Public weights: client. Private ones: dpf or one-hot, whichever takes less time over the network in mind. By bench/embedding.ts (one core of
 * an EPYC, Zen 4) keys of 49,152 places take 0.05 ms to make and 0.4 ms to expand, the row 1.1 ms to make and share and 197 kB, which is
 * 0.3 ms over a LAN and 16 ms over a WAN. The times below are that bench's; keys win from 2,000 places on over any network.
 */
import type { Graph } from '../graph/graph.ts';
import type { Line } from '../program/timing.ts';
import { dpfKeyBytes } from '../ring/dpf.ts';
import type { BuildOptions } from './compiled.ts';
import { networks } from './estimate.ts';
import { UsageError } from './terminal.ts';

export const embeddings = ['client', 'dpf', 'one-hot'] as const;
export type Embedding = (typeof embeddings)[number];

/** Seconds: a key made; a word of its expansion; a word of a row made, shared and put in place. */
const perKey = 45e-6;
const perExpanded = 8e-9;
const perWord = 25e-9;

/** Throws UsageError for a model that looks nothing up. */
export function embeddingOf(options: BuildOptions, before: Graph): Embedding {
  const spans = before.nodes.filter((n) => n.op === 'Gather').map((n) => before.constants.get(n.inputs[0])?.shape[0] ?? 0);
  const typed = typedEmbedding(options);
  if (typed !== undefined && typed !== 'client' && spans.length === 0)
    throw new UsageError(`--embedding ${typed}: the model's clients look nothing up in a table`);
  if (typed !== undefined || options.weights === 'public' || spans.length === 0) return typed ?? 'client';
  return favoured(spans, networks.find(({ name }) => name === (options.network === 'wan' ? 'WAN' : 'LAN')) as Line);
}

/** What was asked for, if anything. Throws UsageError where two options contradict each other. */
export function typedEmbedding({ embedding, clientEmbedding }: Pick<BuildOptions, 'embedding' | 'clientEmbedding'>): Embedding | undefined {
  if (clientEmbedding && embedding !== undefined && embedding !== 'client')
    throw new UsageError(`--client-embedding is short for --embedding client, and --embedding ${embedding} was given too`);
  return clientEmbedding ? 'client' : embedding;
}

/** What takes less time for a token, its way from the client included. */
export function favoured(spans: readonly number[], { bandwidth }: Pick<Line, 'bandwidth'>): 'dpf' | 'one-hot' {
  const total = (f: (span: number) => number): number => spans.reduce((s, span) => s + f(span), 0);
  const keys = total((span) => perKey + perExpanded * span + (8 * dpfKeyBytes(span)) / bandwidth);
  const rows = total((span) => perWord * span + (8 * 4 * span) / bandwidth);
  return keys < rows ? 'dpf' : 'one-hot';
}
