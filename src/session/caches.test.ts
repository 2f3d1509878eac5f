/**
 * Sessions that keep rows from step to step: whose they are, where they lie, what is left of them. The same over real processes:
 * test/decoder.test.ts.
 */
import { randomBytes } from 'node:crypto';
import { beforeEach, describe, expect, test } from 'vitest';
import { integers, threeKernels } from '../gates/gate.case.ts';
import { type Params, sequenceParams, withUsual } from '../program/program.ts';
import { type Kernels, packedBytes } from '../ring/kernels/kernels.ts';
import { cacheBytes } from '../runtime/caches.ts';
import { stepBytes } from '../runtime/footprint.ts';
import { LocalCluster, type Transcript } from '../runtime/local.ts';
import { loadModel, type Role } from '../runtime/model.ts';
import { none, remembers } from '../runtime/small.case.ts';
import type { ClientSession } from './client.ts';
import { encode, encodeInput, frames } from './messages.ts';
import { ask as askSquares, hash, Net, settle } from './net.case.ts';
import { type ModelStore, oneModel } from './store.ts';

const [width, keys] = [32, 16];
const roles: readonly Role[] = ['p0', 'p1', 'dealer'];

const program = remembers(width, keys);
const whole = (params: Params): Params => withUsual(program.params, params);

/** Memory for so many sessions' caches at a party, filled with what is not zero; who holds the models is counted. */
function kept(sessions: number) {
  let held = 0;
  const all = roles.map((role, i) => {
    const k = threeKernels()[i];
    const model = loadModel(program, role, k, none);
    const room = Math.max(2 * sessions * cacheBytes(program, 'p0'), stepBytes(model) + sessions * cacheBytes(program, 'p0'));
    const end = model.end + 64 * Math.ceil(room / 64);
    k.u8.fill(0xee, model.end, end);
    const small = Object.assign(Object.create(k) as Kernels, { u8: k.u8.subarray(0, end) });
    const store = oneModel(hash, { ...model, k: small });
    const counted: ModelStore = {
      ...store,
      acquire(h) {
        held++;
        return store.acquire(h);
      },
      release(h) {
        held--;
        store.release(h);
      },
    };
    return { counted, top: () => k.u8.slice(end - cacheBytes(program, role), end) };
  });
  const net = new Net({ stores: all.map((a) => a.counted) });
  return { net, held: () => held, tops: () => all.map((a) => a.top()) };
}

const shaped = (x: number[], q: number[]) => ({
  x: { shape: [x.length / width, width], data: x },
  q: { shape: [q.length / width, width], data: q },
});
const same = (n: number, v = 1) => shaped(new Array<number>(n * width).fill(v), new Array<number>(n * width).fill(1));

/** A session as its client knows it. */
class Reader {
  readonly rows = new Float64Array(keys * width);
  past = 0;
  constructor(readonly session: ClientSession) {}

  async step(n: number, back = 0): Promise<void> {
    this.past -= back;
    this.rows.fill(0, (this.past + n) * width, this.most * width);
    const [x, q] = [integers(n * width, 2 ** 12), integers(n * width, 2 ** 12)];
    this.rows.set(x, this.past * width);
    const { y } = await this.session.run(shaped(x, q), { past: this.past });
    this.past += n;
    for (let i = 0; i < n; i++)
      for (let j = 0; j < keys; j++) {
        // What a longer past has left there is still consistent, and no one's business here.
        if (j >= this.past && j < this.most) continue;
        let sum = 0;
        for (let k = 0; k < width; k++) sum += q[i * width + k] * this.rows[j * width + k];
        expect(y.data[i * keys + j]).toBe(sum);
      }
    this.most = Math.max(this.most, this.past);
  }
  private most = 0;
}

let host: ReturnType<typeof kept>;
const reader = async (links = host.net.client()): Promise<Reader> => new Reader(await host.net.session(links, program));
beforeEach(() => {
  host = kept(3);
});

test('steps of interleaved sessions see the rows of their own, and rows that are made anew', async () => {
  const [a, b] = [await reader(), await reader()];
  for (const [n, back] of [
    [4, 0],
    [1, 0],
    [1, 0],
    [3, 2],
    [1, 0],
    [2, 7],
  ])
    await Promise.all([a.step(n, back), b.step(1)]);
  await b.step(2, 6);
});

test('sequences of one session step together and apart, each with its rows', async () => {
  const batched = remembers(width, keys, 2);
  const net = new Net({ stores: roles.map((role, i) => oneModel(hash, loadModel(batched, role, threeKernels()[i], none))) });
  const session = await net.session(undefined, batched);
  const rows = [new Float64Array(keys * width), new Float64Array(keys * width)];
  const past = [0, 0];
  for (const [n, ...slots] of [
    [2, 1],
    [1, 0, 1],
    [1, 1, 0],
    [2, 0],
    [2, 1, 0],
  ]) {
    const [x, q] = [integers(n * slots.length * width, 2 ** 12), integers(width, 2 ** 12)];
    slots.forEach((slot, i) => void rows[slot].set(x.slice(i * n * width, (i + 1) * n * width), past[slot] * width));
    const queries = slots.flatMap(() => Array.from({ length: n }, () => q).flat());
    const { y } = await session.run(shaped(x, queries), sequenceParams(slots.map((slot) => ({ slot, past: past[slot] }))));
    slots.forEach((slot, i) => {
      past[slot] += n;
      for (let j = 0; j < past[slot]; j++) {
        const sum = q.reduce((s, v, k) => s + v * rows[slot][j * width + k], 0);
        expect(y.data[i * n * keys + j]).toBe(sum);
      }
    });
  }
  const refused = (...sequences: { slot: number; past: number }[]) =>
    expect(session.run(same(sequences.length), sequenceParams(sequences))).rejects;
  await refused({ slot: 0, past: 0 }, { slot: 0, past: 1 }).toMatchObject({ code: 'bad-input', message: /one slot/ });
  await refused({ slot: 2, past: 0 }).toMatchObject({ code: 'bad-input' });
  await expect(session.run(same(3), sequenceParams([0, 1].map((slot) => ({ slot, past: 0 }))))).rejects.toMatchObject({
    code: 'bad-input',
    message: /3 rows are not those of 2 sequences/,
  });
  await refused({ slot: 0, past: 6 }, { slot: 1, past: 8 }).toMatchObject({ code: 'bad-message', message: /has 7 rows in slot 1/ });
});

describe('a past', () => {
  test.each([[{}], [{ past: -1 }], [{ past: keys + 1 }], [{ past: 0.5 }], [{ past: keys - 1 }], [{ past: 0, n: 1 }], [{ past: 0, m: 2 }]])(
    'is refused before anything is sent: %j',
    async (params) => {
      const { session } = await reader();
      host.net.seen.length = 0;
      await expect(session.run(same(2), params as Params)).rejects.toMatchObject({ code: 'bad-input' });
      expect(host.net.seen).toEqual([]);
      await session.run(same(2), { past: 0 });
    },
  );
  test('beyond what the session has is refused, in the first step and later', async () => {
    await expect((await reader()).session.run(same(1), { past: 1 })).rejects.toMatchObject({ code: 'bad-message', message: /has 0 rows/ });
    const a = await reader();
    await a.step(3);
    await expect(a.session.run(same(1), { past: 4 })).rejects.toMatchObject({ code: 'bad-message' });
    expect(host.net.of(frames.go)).toHaveLength(1);
  });
  test.each([0, 1] as const)('that only p%i is told is refused', async (party) => {
    const links = host.net.client();
    await reader(links);
    const number = host.net.of(frames.seed)[0].session;
    const input = (i: 0 | 1, past: number) => encodeInput(0, whole({ n: 1, past }), i === 0 ? randomBytes(32) : randomBytes(8 * width));
    for (const i of [0, 1] as const) links[i].send(frames.input, number, 0, input(i, i === party ? 1 : 0));
    await settle();
    expect(host.net.of(frames.opening)).toEqual([]);
    for (const p of host.net.parties) expect(p.load().sessions).toBe(0);
  });
  test.each([
    [{ n: 1, past: 3 }, /has 2 rows/],
    [{ n: 4, past: keys - 2 }, /has 2 rows/],
    [{ n: 1 }, /past = undefined/],
    [{ n: 2, sequences: 2, past: 0, 'past.1': 0, 'slot.1': 1 }, /parameters are n, sequences/],
  ])('that only the dealer is told is refused: %j', async (params, message) => {
    const a = await reader();
    await a.step(2);
    const number = host.net.of(frames.seed)[0].session;
    host.net.toDealer[1].send(frames.step, number, 0, encode({ step: 7, params: whole(params) }));
    await settle();
    expect(host.net.of(frames.failed, 'p1').map((f) => new TextDecoder().decode(f.payload))[0]).toMatch(message);
    expect(host.net.dealer.load().sessions).toBe(0);
  });
  test('that fits with too many rows is refused by both', async () => {
    const links = host.net.client();
    const a = await reader(links);
    for (let i = 0; i < 4; i++) await a.step(i === 3 ? 3 : 4);
    const number = host.net.of(frames.seed)[0].session;
    const before = host.net.of(frames.opening).length;
    const input = (i: 0 | 1) => encodeInput(9, whole({ n: 2, past: keys - 1 }), i === 0 ? randomBytes(32) : randomBytes(16 * width));
    for (const i of [0, 1] as const) links[i].send(frames.input, number, 9, input(i));
    await settle();
    expect(host.net.of(frames.opening)).toHaveLength(before);
    expect(host.net.parties[0].load().sessions).toBe(0);
  });
});

describe('memory', () => {
  test('of sessions that have ended serves the next: a thousand of them take no more than one, and nothing stays', async () => {
    const links = host.net.client();
    for (let i = 0; i < 1000; i++) {
      const a = await reader(links);
      if (i % 100 < 2) await a.step(2);
      else await a.session.run(same(1, 7), { past: 0 });
      if (i % 100 === 1) for (const top of host.tops()) expect(top.some((b) => b !== 0)).toBe(true);
      a.session.close();
    }
    await settle();
    for (const top of host.tops()) expect(top.every((b) => b === 0)).toBe(true);
    expect(host.held()).toBe(0);
  });
  test('is held with its model while the session is open, and given up when its client goes, or the session fails', async () => {
    const links = host.net.client();
    const [a, b] = [await reader(links), await reader()];
    expect(host.held()).toBe(0);
    await a.step(1);
    await b.step(1);
    await settle();
    expect(host.held()).toBe(6);
    for (const l of links) l.close();
    await settle();
    expect(host.held()).toBe(3);
    await expect(b.session.run(same(1), { past: 3 })).rejects.toMatchObject({ code: 'bad-message' });
    await settle();
    expect(host.held()).toBe(0);
  });
  test('is bounded: one session more is told so, and others go on; when one has ended there is place', async () => {
    const all = await Promise.all([0, 1, 2, 3].map(() => reader()));
    for (const s of all.slice(0, 3)) await s.step(2);
    await expect(all[3].step(1)).rejects.toMatchObject({ code: 'busy' });
    await Promise.all(all.slice(0, 3).map((s) => s.step(4)));
    all[1].session.close();
    await settle();
    await (await reader()).step(1);
    await all[0].step(2, 3);
  });
  test('of a session that has ended in the middle of a step is not written to again', async () => {
    const [a, b] = [await reader(), await reader()];
    await b.step(2);
    host.net.held = ({ frame, to }) => frame.type === frames.opening && to === 'p1';
    const run = a.step(4);
    run.catch(() => {});
    await settle();
    a.session.close();
    await settle();
    const c = await reader();
    host.net.letGo();
    await settle();
    await c.step(1);
    await b.step(3);
  });
  test('programs without caches take none', async () => {
    const net = new Net();
    await askSquares(await net.session());
    expect((net.parties[0] as unknown as { sessions: { all(): { caches?: unknown }[] } }).sessions.all()[0].caches).toEqual(new Map());
  });
});

describe('masks', () => {
  /** What both parties see of a row and a query: their words' sums. */
  const opened = (p0: Uint8Array, p1: Uint8Array): number[] => {
    const words = (bytes: Uint8Array, i: number): Uint32Array => new Uint32Array(bytes.slice(i * packedBytes(32, width)).buffer, 0, width);
    return [0, 1].flatMap((i) => Array.from(words(p0, i), (w, j) => (w + words(p1, i)[j]) % 2 ** 32));
  };

  test('of a row are its step’s and session’s alone: what is opened of the same values never repeats', async () => {
    for (let session = 0; session < 3; session++) {
      const { session: s } = await reader();
      // On, back, again, and all anew.
      for (const past of [0, 1, 2, 1, 2, 0, 0]) await s.run(same(1), { past });
    }
    const [to0, to1] = ['p0', 'p1'].map((to) => host.net.of(frames.opening, to));
    expect(to0).toHaveLength(21);
    const words = to0.flatMap((f, i) => opened(f.payload, to1[i].payload));
    expect(new Set(words).size).toBe(21 * 2 * width);
  });
  test('that repeated would be seen so', () => {
    const models = Object.fromEntries(roles.map((role, i) => [role, loadModel(program, role, threeKernels()[i], none)])) as never;
    const keysOf = [randomBytes(32), randomBytes(32), randomBytes(32)] as const;
    const seen = [0, 0, 1].map((step) => {
      const transcript: Transcript = { p0: [], p1: [], dealer: [] };
      new LocalCluster(models).run(
        { n: 1 },
        { x: same(1).x.data, q: same(1).q.data },
        { step, keys: keysOf, params: { past: 0 }, transcript },
      );
      return opened(transcript.p0[0], transcript.p1[0]);
    });
    expect(seen[1]).toEqual(seen[0]);
    expect(new Set([...seen[0], ...seen[2]]).size).toBe(4 * width);
  });
});
