/** The proxy in front of two parties with a language model: the official client, and what parties see and forget. */
import { createHash } from 'node:crypto';
import OpenAI from 'openai';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { WeightTensor } from '../src/compile/builder.ts';
import { calibrate } from '../src/compile/calibrate.ts';
import { compile } from '../src/compile/compile.ts';
import { graphToJson } from '../src/folder/graph.ts';
import { canonical } from '../src/folder/index.ts';
import { programText } from '../src/folder/program.ts';
import { rewrite } from '../src/graph/rewrite/index.ts';
import { type TensorData, writeSafetensors } from '../src/import/safetensors.ts';
import { openaiApi } from '../src/proxy/app.ts';
import { listen } from '../src/proxy/listen.ts';
import { modelAtParties } from '../src/proxy/parties.ts';
import { Net, type Served } from '../src/server/net.case.ts';
import { generate, inputRows, plainDecoder, prefixCaches } from '../src/tasks/generate/index.ts';
import { makeTokenizer } from '../src/tasks/text.ts';
import { language } from './proxy-served.ts';

const [keys, prefix] = [64, [0]];
const imported = language();
const model = { ...imported, graph: { ...rewrite(imported.graph), name: 'tiny' } };
const tokenizer = makeTokenizer(model.tokenizer, model.tokenizerConfig);
const caches = prefixCaches(model, prefix);

function compiled(): Served {
  const size = model.client.after.inputs[0].shape[1] as number;
  const samples = Array.from({ length: 12 }, (_, i) => {
    const ids = Array.from({ length: 6 + i }, (_, j) => (i * 131 + j * j * 37 + j * 17) % size);
    return { ...inputRows(model.client.before, ids, 1), ...caches };
  });
  const { program, weights } = compile(model.graph, calibrate(model.graph, samples), {
    weights: 'public',
    max: { n: 32, keys },
    prefix: new Map(Object.entries(caches)),
  });
  const hash = createHash('sha256')
    .update(programText({ ...program, weightsHash: '0'.repeat(64) }))
    .digest('hex');
  const tensors = new Map<string, TensorData>();
  const text = (s: string): Uint8Array => new TextEncoder().encode(s);
  const info = {
    format: 'subrosa-client/1',
    name: 'tiny',
    program: hash,
    task: 'text-generation',
    family: 'llama',
    labels: [],
    maxTokens: keys,
    firstPosition: 0,
    generation: { prefix, eos: [...model.eos], chatTemplate: model.chatTemplate },
    tokenizer: true,
    calibration: 'random tokens',
  };
  return {
    program,
    hash,
    task: 'text-generation',
    weights: {
      words(name) {
        const { shape, data } = weights.get(name) as WeightTensor;
        return { shape: [...shape], data };
      },
      weightMask(_, name) {
        throw new Error(name);
      },
    },
    files: {
      'client.json': text(canonical(info)),
      'before.json': text(graphToJson(model.client.before, 'before/', tensors)),
      'after.json': text(graphToJson(model.client.after, 'after/', tensors)),
      'client.safetensors': writeSafetensors(tensors),
      'tokenizer.json': text(JSON.stringify(model.tokenizer)),
    },
  };
}

let net: Net;
let openai: OpenAI;
let close: () => Promise<void>;
beforeAll(async () => {
  net = new Net({ served: compiled() });
  const at = await modelAtParties({ parties: ['https://p0.test', 'https://p1.test'], model: 'tiny', token: 'token-a', fetch: net.fetch });
  const proxy = openaiApi({ models: new Map([['tiny', at.model]]) });
  const listener = await listen(proxy.app, '127.0.0.1', 0);
  openai = new OpenAI({ baseURL: `http://${listener.address}/v1`, apiKey: 'none', maxRetries: 0 });
  close = async () => {
    await listener.close(0);
    proxy.close();
    await at.close();
  };
}, 60_000);
afterAll(() => close?.());

const steps = (): number => net.asked.filter((r) => r.party === 0 && r.path.includes('/steps/')).length;
const messages: OpenAI.ChatCompletionMessageParam[] = [{ role: 'user', content: 'Hi' }];
const ask = (more: OpenAI.ChatCompletionMessageParam[] = [], max_tokens = 6) =>
  openai.chat.completions.create({ model: 'tiny', messages: [...messages, ...more], temperature: 0, max_tokens });

test('says what the plaintext model says, a step a token, in one session', async () => {
  const prompt = tokenizer.ids('<|user|>user:Hi<|end|><|user|>assistant:');
  let wanted = '';
  const run = generate(plainDecoder(model, caches), tokenizer, prompt, { maxTokens: 6, temperature: 0, eos: model.eos });
  for (let step = await run.next(); ; step = await run.next()) {
    wanted += step.value.text;
    if (step.done) break;
  }
  const c = await ask();
  expect(c.choices[0].message.content).toBe(wanted);
  expect(c.usage?.prompt_tokens).toBe(prompt.length);
  expect(steps()).toBe(6);
  expect(net.sessions).toEqual([1, 1]);
});
test('goes on from the session that is kept; and anew where the parties have ended it', async () => {
  const { content } = (await ask()).choices[0].message;
  expect(net.sessions).toEqual([1, 1]);
  const next = [
    { role: 'assistant' as const, content },
    { role: 'user' as const, content: 'x' },
  ];
  const c = await ask(next, 1);
  const cached = c.usage?.prompt_tokens_details?.cached_tokens;
  expect(cached).toBeGreaterThan(10);

  await ask();
  let gone = 0;
  net.instead = (_, path) => {
    if (!path.includes('/steps/') || gone >= 2) return undefined;
    gone++;
    return Response.json({ error: { code: 'ended', message: 'the session is over' } }, { status: 410 });
  };
  const again = await ask(next, 1);
  net.instead = () => undefined;
  expect(gone).toBe(2);
  expect(again.usage?.prompt_tokens_details?.cached_tokens).toBe(0);
  expect(again.choices[0].message.content).toBe(c.choices[0].message.content);
});
test('P0 gets a seed, P1 words that are others each time the same is asked', async () => {
  const from = net.asked.length;
  // The same prompt goes back in the kept sequence, and is shared anew.
  for (let i = 0; i < 2; i++) await ask([], 1);
  const bodies = [0, 1].map((party) =>
    net.asked.slice(from).flatMap((r) => (r.party === party && r.path.includes('/steps/') && r.body ? [r.body] : [])),
  );
  expect(bodies[0].map((b) => b.length)).toEqual([32, 32]);
  const [a, b] = bodies[1].map((body) => body.slice(-64));
  expect(a.filter((byte, i) => byte === b[i]).length).toBeLessThan(8);
});
test('texts that are made at the same time are rows of the same steps, and come out as if alone', async () => {
  const said = (content: string, n?: number, seed?: number) =>
    openai.chat.completions.create({
      model: 'tiny',
      messages: [{ role: 'user', content }],
      temperature: n ? 1 : 0,
      seed,
      n,
      max_tokens: 6,
    });
  const texts = (c: OpenAI.ChatCompletion): (string | null)[] => c.choices.map(({ message }) => message.content);
  // Rounding differs from step to step: texts that it cannot change.
  const questions: string[] = [];
  for (const q of ['Hi', 'Hello', 'x', 'yes', 'no', 'The river', 'a cat', 'dog', '1', 'Why?', 'Go on', 'tea', 'B', 'rain']) {
    const prompt = tokenizer.ids(`<|user|>user:${q}<|end|><|user|>assistant:`);
    const margins: number[] = [];
    const options = { maxTokens: 6, temperature: 0, eos: model.eos, alternatives: 2 };
    for await (const { alternatives: [a, b] = [] } of generate(plainDecoder(model, caches), tokenizer, prompt, options))
      margins.push(a.logprob - b.logprob);
    if (margins.length === 6 && Math.min(...margins) > 0.2 && questions.length < 3) questions.push(q);
  }
  expect(questions.length).toBe(3);
  const alone: (string | null)[] = [];
  let from = steps();
  for (const q of questions) alone.push(...texts(await said(q)));
  const apart = steps() - from;
  from = steps();
  const together = (await Promise.all(questions.map((q) => said(q)))).flatMap(texts);
  expect(together).toEqual(alone);
  // A step for each prompt, of which lengths differ, then one a token for all; their starts may be a step apart.
  expect(steps() - from).toBeLessThan(0.7 * apart);
  expect(net.asked.some((r) => /sequences=3/.test(r.path))).toBe(true);
  from = steps();
  const choices = await said('Hi', 3, 7);
  expect(steps() - from).toBeLessThan(0.7 * 18);
  expect(new Set(texts(choices)).size).toBeGreaterThan(1);
});
test('sessions end with the proxy', async () => {
  await close();
  close = async () => {};
  await expect.poll(() => net.sessions).toEqual([0, 0]);
});
