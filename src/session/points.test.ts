/** Inputs that come as keys of point functions, over sessions: answers, bytes, and clients that send other keys. */
import { randomBytes } from 'node:crypto';
import { beforeEach, expect, test } from 'vitest';
import { encodeInputs, splitInputs } from '../client/share.ts';
import type { Link } from '../net/link.ts';
import { cost } from '../program/cost.ts';
import { shareBytes } from '../program/inputs.ts';
import { places } from '../runtime/small.case.ts';
import { ClientSession } from './client.ts';
import { encode, encodeInput, frames } from './messages.ts';
import { evicting, hash, Net, settle } from './net.case.ts';

const spans = [1000, 64, 2];
const width = 1066;
const program = places(spans);
const ids = (n: number): number[] => Array.from({ length: n }, (_, i) => [(977 * i + 999) % 1000, i, i % 2]).flat();
const inputs = (n: number) => ({
  x: { shape: [n, width], data: new Array<number>(n * width).fill(0) },
  places: { shape: [n, 3], data: ids(n) },
});
const rows = (n: number): number[] => {
  const all = new Array<number>(n * width).fill(0);
  ids(n).forEach((place, i) => {
    all[Math.floor(i / 3) * width + [0, 1000, 1064][i % 3] + place] = 1;
  });
  return all;
};

let net: Net;
beforeEach(() => {
  net = new Net({ stores: evicting({ [hash]: program }).stores });
});
const session = (links = net.client()): Promise<ClientSession> => ClientSession.open(links, program, hash);
const ask = async (s: ClientSession, n: number): Promise<void> => expect(Array.from((await s.run(inputs(n))).y.data)).toEqual(rows(n));
test('steps of one session add up to one-hot rows', async () => {
  const s = await session();
  for (const n of [1, 8, 3]) await ask(s, n);
});

test('bytes up are those that cost counts, and a token’s keys take less than 1 KB', async () => {
  const links = net.client();
  let sent = 0;
  for (const link of links) {
    const send = link.send.bind(link);
    link.send = (type, number, seq, payload, ...rest) => {
      sent += 16 + [payload].flat().reduce((sum, { length }) => sum + length, 0);
      return send(type, number, seq, payload, ...rest);
    };
  }
  const s = await session(links);
  const at = async (n: number): Promise<number> => {
    sent = 0;
    await ask(s, n);
    return sent;
  };
  for (const n of [1, 5]) {
    const output = 2 * (4 * n * width + 16);
    expect(await at(n)).toBe(cost(program, { n }).bytes.client - output);
  }
  const keys = (await at(3)) - (await at(2)) - 4 * width;
  expect(keys).toBeLessThan(1024);
  // BERT's three tables, SmolLM2's one.
  for (const [dpf, most] of [
    [[30_522, 512, 2], 844],
    [[49_152], 520],
  ] as const) {
    const [p0, p1] = shareBytes([{ shape: [1, dpf.length], encoding: { dpf } }], {});
    expect(p0 + p1 - 32).toBe(most);
  }
});

test('keys are new in every step', () => {
  const secrets = encodeInputs(program, inputs(2));
  const id = '00'.repeat(16);
  const [a, b] = [splitInputs(secrets, id), splitInputs(secrets, id)];
  for (const p of [0, 1] as const) expect(a[p].filter((v, i) => v === b[p][i]).length).toBeLessThan(a[p].length / 16);
  expect(secrets).toEqual(encodeInputs(program, inputs(2)));
});

test.each([
  ['beyond its span', 1000],
  ['negative', -1],
  ['between two', 0.5],
])('a place %s is refused before anything is sent', async (_, place) => {
  const s = await session();
  net.seen.length = 0;
  const given = inputs(1);
  given.places.data[0] = place;
  await expect(s.run(given)).rejects.toMatchObject({ code: 'bad-input', message: expect.stringContaining('one of 1000 places') });
  await settle();
  expect(net.seen).toEqual([]);
  await ask(s, 1);
});

const open = async (links: readonly [Link, Link]): Promise<string[][]> => {
  const id = randomBytes(16).toString('hex');
  for (const l of links) l.send(frames.open, 77, 0, encode({ id, hash }));
  await settle();
  return links.map((link) => {
    const codes: string[] = [];
    link.onFrame = (f) => {
      if (f.type === frames.failed) codes.push((JSON.parse(new TextDecoder().decode(f.payload)) as { code: string }).code);
      if (f.type === frames.output) codes.push('answered');
    };
    return codes;
  });
};
const bytes = shareBytes(program.inputs, { n: 2 });
const noKeys = shareBytes([program.inputs[0]], { n: 2 });

test.each([
  ['a byte short', bytes.map((b) => b - 1)],
  ['a byte long', bytes.map((b) => b + 1)],
  ['one too few', bytes.map((b) => b - 32)],
  ['none at all', noKeys],
])('keys %s end their client’s session, with a code, and no other', async (_, sizes) => {
  const other = await session();
  const links = net.client();
  const codes = await open(links);
  links.forEach((l, i) => void l.send(frames.input, 77, 0, encodeInput(0, { n: 2 }, randomBytes(sizes[i]))));
  await settle();
  for (const list of codes) expect(['bad-message', 'peer-failed', 'ended']).toContain(list[0]);
  expect(codes.flat()).toContain('bad-message');
  expect(codes.flat()).not.toContain('answered');
  await ask(other, 2);
  await ask(await session(links), 1);
});

test('keys of no point function are rows like any others: an answer, and no other session is touched', async () => {
  const other = await session();
  const links = net.client();
  const codes = await open(links);
  links.forEach((l, i) => void l.send(frames.input, 77, 0, encodeInput(0, { n: 2 }, randomBytes(bytes[i]))));
  await settle();
  expect(codes).toEqual([['answered'], ['answered']]);
  await ask(other, 8);
});
