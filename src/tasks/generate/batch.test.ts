import { describe, expect, test } from 'vitest';
import { SubrosaError } from '../../client/errors.ts';
import { type Graph, tensor } from '../../graph/graph.ts';
import { sequencesOf } from '../../program/program.ts';
import { Batch, type RunStep } from './batch.ts';

const graph = (name: string, input: string, shape: (number | string)[], output: string, dtype: 'i64' | 'f32' = 'f32'): Graph => ({
  name,
  inputs: [{ name: input, dtype, shape }],
  outputs: [output],
  nodes: [{ op: 'Gather', name: '/table', inputs: ['table', input], outputs: [output], attrs: { axis: 0 } }],
  constants: new Map([['table', tensor([0, 10, 20, 30, 40, 50, 60, 70], [8, 1])]]),
});
const client = {
  before: graph('before', 'input_ids', ['n'], 'embeddings', 'i64'),
  after: { ...graph('after', 'logits', ['rows', 1], 'logits'), nodes: [], outputs: ['logits'] },
};
const limits = { n: 8, keys: 64, prefix: 1, sequences: 3 };

/** Parties whose logits are the sum of a sequence's tokens so far; steps as they were asked for. */
function parties() {
  const steps: { rows: number[]; at: { slot: number; past: number }[]; keys: number; signal?: AbortSignal }[] = [];
  let sums = new Map<number, number[]>();
  let fail: unknown;
  let hold: Promise<void> | undefined;
  const run: RunStep = async ({ embeddings }, params, signal) => {
    const at = sequencesOf(params);
    steps.push({ rows: Array.from(embeddings.data), at, keys: params.keys, signal });
    await hold;
    if (fail !== undefined) {
      const e = fail;
      fail = undefined;
      sums = new Map();
      throw e;
    }
    const m = embeddings.data.length / at.length;
    const totals = at.map(({ slot, past }, i) => {
      const rows = [...(sums.get(slot) ?? [0]).slice(0, past), ...Array.from(embeddings.data).slice(i * m, (i + 1) * m)];
      sums.set(slot, rows);
      return rows.reduce((a, b) => a + b, 0);
    });
    return { logits: { shape: [at.length, 1], data: totals } };
  };
  const of = (r: PromiseSettledResult<Float32Array>): number | unknown => (r.status === 'fulfilled' ? r.value[0] : r.reason);
  return {
    steps,
    batch: new Batch(run, client, limits),
    failWith: (e: unknown) => void (fail = e),
    holdBack: () => {
      let go = (): void => {};
      hold = new Promise((resolve) => {
        go = resolve;
      });
      return () => {
        hold = undefined;
        go();
      };
    },
    settle: async (...all: Promise<Float32Array>[]) => (await Promise.allSettled(all)).map(of),
  };
}

describe('a batch', () => {
  test('takes what waits and brings as many tokens into one step, each sequence with its own rows', async () => {
    const p = parties();
    const [a, b, c] = [p.batch.decoder(), p.batch.decoder(), p.batch.decoder()];
    expect(await p.settle(a.step([1, 2]), b.step([3, 4]), c.step([5]))).toEqual([30, 70, 50]);
    expect(p.steps.map((s) => s.at)).toEqual([
      [
        { slot: 0, past: 1 },
        { slot: 1, past: 1 },
      ],
      [{ slot: 2, past: 1 }],
    ]);
    expect(p.steps[0].rows).toEqual([10, 20, 30, 40]);
    expect(await p.settle(a.step([1]), b.step([1]), c.step([1]))).toEqual([40, 80, 60]);
    expect(p.steps[2].at).toEqual([
      { slot: 0, past: 3 },
      { slot: 1, past: 3 },
      { slot: 2, past: 2 },
    ]);
    expect([a.length, b.length, c.length]).toEqual([4, 4, 3]);
  });
  test('no more rows than a step takes, and longer prompts in pieces', async () => {
    const p = parties();
    const [a, b, c] = [p.batch.decoder(), p.batch.decoder(), p.batch.decoder()];
    const three = [1, 1, 1];
    expect(await p.settle(a.step(three), b.step(three), c.step(three))).toEqual([30, 30, 30]);
    expect(p.steps.map((s) => s.rows.length)).toEqual([6, 3]);
    expect(await p.settle(a.step(new Array(10).fill(2)))).toEqual([230]);
    expect(p.steps.slice(2).map((s) => s.rows.length)).toEqual([8, 2]);
  });
  test('has places that are given back', async () => {
    const p = parties();
    const [, b] = [p.batch.decoder(), p.batch.decoder(), p.batch.decoder()];
    expect(() => p.batch.decoder()).toThrow('3 sequences are open');
    await b.step([7]);
    b.close();
    expect(p.batch.size).toBe(2);
    const again = p.batch.decoder();
    expect(await p.settle(again.step([1]))).toEqual([10]);
    expect(p.steps[1].at).toEqual([{ slot: 1, past: 1 }]);
  });
  test('one that is aborted leaves the others alone: in the queue, and under way', async () => {
    const p = parties();
    const [a, b, c] = [p.batch.decoder(), p.batch.decoder(), p.batch.decoder()];
    const go = p.holdBack();
    const [stopA, stopC] = [new AbortController(), new AbortController()];
    const [first, second, third] = [a.step([1], stopA.signal), b.step([2, 2]), c.step([3], stopC.signal)];
    await expect.poll(() => p.steps.length).toBe(1);
    expect(p.steps[0].at.map((s) => s.slot)).toEqual([0, 2]);
    stopA.abort(new Error('enough'));
    await expect(first).rejects.toThrow('enough');
    const fourth = a.step([4], AbortSignal.abort(new Error('never')));
    await expect(fourth).rejects.toThrow('never');
    // A step that waits is as if never asked for, also where nobody else is left.
    const stopB = new AbortController();
    const waits = b.step([6, 6, 6], stopB.signal);
    stopB.abort(new Error('not now'));
    await expect(waits).rejects.toThrow('not now');
    go();
    expect(await p.settle(second, third)).toEqual([40, 30]);
    await expect(a.step([1])).rejects.toMatchObject({ code: 'ended' });
    a.rewind(1);
    expect(await p.settle(a.step([7]))).toEqual([70]);
    expect(p.steps[0].signal).toBeUndefined();
    expect(await p.settle(b.step([1]), c.step([1]))).toEqual([50, 40]);
    expect([a.length, b.length, c.length]).toEqual([2, 4, 3]);
  });
  test('tokens that the model does not have are refused alone: the others keep their rows', async () => {
    const p = parties();
    const [a, b] = [p.batch.decoder(), p.batch.decoder()];
    await a.step([1, 1]);
    const answers = await p.settle(b.step([99]), a.step([2]));
    expect(answers[0]).toBeInstanceOf(Error);
    expect(answers[1]).toBe(40);
    expect(await p.settle(b.step([3]))).toEqual([30]);
    expect(p.steps.length).toBe(3);
  });
  test('of one hands its signal on', async () => {
    const p = parties();
    const stop = new AbortController();
    await p.batch.decoder().step([1], stop.signal);
    expect(p.steps[0].signal).toBe(stop.signal);
  });
  test('a step that fails takes every sequence that has rows with it, until it begins anew', async () => {
    const p = parties();
    const [a, b, c] = [p.batch.decoder(), p.batch.decoder(), p.batch.decoder()];
    await a.step([1, 1]);
    p.failWith(new Error('lost'));
    const answers = await p.settle(b.step([2]), a.step([3, 3]));
    expect(answers[0]).toMatchObject({ message: 'lost' });
    expect(answers[1]).toMatchObject({ code: 'ended', retryable: true });
    await expect(a.step([1])).rejects.toMatchObject({ code: 'ended' });
    expect(p.steps.length).toBe(2);
    // One that had none yet is untouched; one that goes back to its beginning reads all again.
    expect(await p.settle(c.step([5]))).toEqual([50]);
    a.rewind(1);
    expect(await p.settle(a.step([1, 1, 1]))).toEqual([30]);
    p.failWith(new SubrosaError('timeout', 'too long'));
    await expect(a.step([1])).rejects.toMatchObject({ code: 'timeout' });
    await expect(c.step([1])).rejects.toMatchObject({ code: 'timeout' });
  });
});
