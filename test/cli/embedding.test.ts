import { expect, test } from 'vitest';
import { embeddingOf, favoured, typedEmbedding } from '../../src/cli/embedding.ts';
import { networks } from '../../src/cli/estimate.ts';
import { type Graph, tensor } from '../../src/graph/graph.ts';

const looksUp = (rows: number): Graph => ({
  name: 'before',
  inputs: [{ name: 'input_ids', dtype: 'i64', shape: ['n'] }],
  outputs: ['embeddings'],
  nodes: [{ op: 'Gather', name: 'word', inputs: ['table', 'input_ids'], outputs: ['embeddings'], attrs: { axis: 0 } }],
  constants: new Map([['table', tensor(new Float32Array(rows), [rows, 1])]]),
});
const nothing: Graph = { ...looksUp(1), nodes: [] };

test('public tables stay with the client unless told; private ones go inside', () => {
  expect(embeddingOf({ weights: 'public' }, looksUp(49_152))).toBe('client');
  expect(embeddingOf({ weights: 'public', embedding: 'dpf' }, looksUp(49_152))).toBe('dpf');
  expect(embeddingOf({ weights: 'private' }, looksUp(49_152))).toBe('dpf');
  expect(embeddingOf({ weights: 'private', embedding: 'one-hot' }, looksUp(49_152))).toBe('one-hot');
  expect(embeddingOf({ weights: 'private', clientEmbedding: true }, looksUp(49_152))).toBe('client');
});

test('keys for every vocabulary of a real model over any network; rows where a table is so small that making keys costs more', () => {
  for (const line of networks) for (const spans of [[30_522, 512, 2], [49_152], [128_256]]) expect(favoured(spans, line)).toBe('dpf');
  const [lan, wan] = ['LAN', 'WAN'].map((name) => networks.find((n) => n.name === name) as (typeof networks)[number]);
  expect([favoured([1000], lan), favoured([1000], wan)]).toEqual(['one-hot', 'dpf']);
  expect(favoured([50], wan)).toBe('one-hot');
  expect(embeddingOf({ weights: 'private' }, looksUp(1000))).toBe('one-hot');
  expect(embeddingOf({ weights: 'private', network: 'wan' }, looksUp(1000))).toBe('dpf');
});

test('a model that looks nothing up has nothing to choose; two options that contradict each other are refused', () => {
  expect(embeddingOf({ weights: 'private' }, nothing)).toBe('client');
  expect(embeddingOf({ weights: 'private', clientEmbedding: true }, nothing)).toBe('client');
  expect(() => embeddingOf({ weights: 'private', embedding: 'dpf' }, nothing)).toThrow('look nothing up');
  expect(typedEmbedding({ clientEmbedding: true, embedding: 'client' })).toBe('client');
  expect(() => typedEmbedding({ clientEmbedding: true, embedding: 'dpf' })).toThrow('short for --embedding client');
});
