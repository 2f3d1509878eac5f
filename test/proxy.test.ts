/** The official client, unmodified, against the proxy. */
import OpenAI from 'openai';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { cosine } from '../src/tasks/encoded.ts';
import { type Served, serve } from './proxy-served.ts';

let served: Served;
let openai: OpenAI;
beforeAll(async () => {
  served = await serve();
  openai = new OpenAI({ baseURL: served.url, apiKey: 'none', maxRetries: 0 });
});
afterAll(() => served.close());
beforeEach(() => {
  served.talker.slow = 0;
  served.talker.fail = undefined;
});

const ask = [{ role: 'user' as const, content: 'The river' }];
const say = (text: string): void => served.talker.say(text);
const greedy = { model: 'tiny', messages: ask, temperature: 0, max_tokens: 8 };
const refused = (call: Promise<unknown>) =>
  call.then(
    () => expect.fail('it was answered'),
    (e: unknown) => e as InstanceType<typeof OpenAI.APIError>,
  );

describe('models', () => {
  test('are listed and looked up, names with slashes too', async () => {
    const { data } = await openai.models.list();
    expect(data.map((m) => m.id)).toEqual(['tiny', 'bare', 'talker', 'owner/encoder']);
    expect(await openai.models.retrieve('owner/encoder')).toMatchObject({ id: 'owner/encoder', object: 'model', owned_by: 'subrosa' });
  });
  test('that are not here are 404', async () => {
    for (const call of [openai.models.retrieve('gpt-5'), openai.chat.completions.create({ ...greedy, model: 'gpt-5' })]) {
      const e = await refused(call);
      expect(e).toBeInstanceOf(OpenAI.NotFoundError);
      expect(e).toMatchObject({ code: 'model_not_found', param: 'model', message: expect.stringContaining('tiny') });
    }
  });
});

describe('chat', () => {
  test('answers with a message, its ending and what it took', async () => {
    say('Bonjour, ville 7!');
    const c = await openai.chat.completions.create({ model: 'talker', messages: ask });
    expect(c).toMatchObject({ object: 'chat.completion', model: 'talker', id: expect.stringMatching(/^chatcmpl-/) });
    expect(c.choices).toEqual([
      { index: 0, message: { role: 'assistant', content: 'Bonjour, ville 7!', refusal: null }, logprobs: null, finish_reason: 'stop' },
    ]);
    const { ids } = served.talker.tokenizer;
    const prompt = ids('<|user|>user:The river<|end|><|user|>assistant:');
    expect(served.talker.given[0]).toEqual(prompt);
    expect(c.usage).toMatchObject({
      prompt_tokens: prompt.length,
      completion_tokens: ids('Bonjour, ville 7!').length,
      total_tokens: prompt.length + ids('Bonjour, ville 7!').length,
    });
  });
  test('is what the decoder says, greedily, and what a stream adds up to', async () => {
    const whole = await openai.chat.completions.create(greedy);
    expect(whole.choices[0].finish_reason).toBe('length');
    expect(whole.usage?.completion_tokens).toBe(8);
    const decoder = await served.tiny.open();
    const tokens: number[] = [];
    for (
      let next = served.tiny.tokenizer.ids('<|user|>user:The river<|end|><|user|>assistant:');
      tokens.length < 8;
      next = [tokens.at(-1) as number]
    ) {
      const logits = await decoder.step(next);
      tokens.push(logits.indexOf(Math.max(...logits)));
    }
    expect(whole.choices[0].message.content).toBe(served.tiny.tokenizer.decode(tokens));

    const stream = await openai.chat.completions.create({ ...greedy, stream: true, stream_options: { include_usage: true } });
    let text = '';
    const chunks = [];
    for await (const chunk of stream) {
      chunks.push(chunk);
      text += chunk.choices[0]?.delta.content ?? '';
    }
    expect(text).toBe(whole.choices[0].message.content);
    expect(chunks[0].choices[0].delta).toEqual({ role: 'assistant', content: '' });
    expect(chunks.at(-2)?.choices[0]).toMatchObject({ delta: {}, finish_reason: 'length' });
    expect(chunks.at(-1)).toMatchObject({ choices: [], usage: { completion_tokens: 8, total_tokens: whole.usage?.total_tokens } });
    expect(new Set(chunks.map((c) => c.id)).size).toBe(1);
  });
  test("runs through the client's own helper for streams", async () => {
    say('Bonjour');
    const run = openai.chat.completions.stream({ model: 'talker', messages: ask });
    expect(await run.finalContent()).toBe('Bonjour');
  });
  test('draws the same for the same seed, and n different choices', async () => {
    const draw = async (seed: number, n?: number) =>
      (await openai.chat.completions.create({ ...greedy, temperature: 2, seed, n, max_completion_tokens: 10 })).choices.map(
        (c) => c.message.content,
      );
    const [a, b] = [await draw(3), await draw(3)];
    expect(a).toEqual(b);
    expect(await draw(4)).not.toEqual(a);
    const three = await draw(3, 3);
    expect(new Set(three).size).toBe(3);
    expect(three[0]).toBe(a[0]);
  });
  test('ends before stop strings, one or more', async () => {
    for (const stop of ['ville', ['zzz', 'ville']]) {
      say('Bonjour, ville 7!');
      const c = await openai.chat.completions.create({ model: 'talker', messages: ask, stop });
      expect(c.choices[0]).toMatchObject({ message: { content: 'Bonjour, ' }, finish_reason: 'stop' });
    }
    say('Bonjour, ville 7!');
    let text = '';
    for await (const c of await openai.chat.completions.create({ model: 'talker', messages: ask, stop: 'ville', stream: true }))
      text += c.choices[0].delta.content ?? '';
    expect(text).toBe('Bonjour, ');
  });
  test('gives log-probabilities, and those of the tokens that did not come', async () => {
    say('é!');
    const c = await openai.chat.completions.create({ model: 'talker', messages: ask, logprobs: true, top_logprobs: 2 });
    const content = c.choices[0].logprobs?.content ?? [];
    expect(content.map((t) => t.token).join('')).toBe('é!');
    for (const t of content) {
      expect(t.logprob).toBeCloseTo(0, 5);
      expect(t.top_logprobs[0]).toEqual({ token: t.token, bytes: t.bytes, logprob: t.logprob });
      expect(t.top_logprobs[1].logprob).toBeLessThan(-15);
    }
    expect(Buffer.from(content.flatMap((t) => t.bytes ?? [])).toString()).toBe('é!');
  });
  test('follows biases and penalties', async () => {
    const [comma] = served.tiny.tokenizer.ids(',');
    const biased = await openai.chat.completions.create({ ...greedy, logit_bias: { [comma]: 100 } });
    expect(biased.choices[0].message.content).toBe(','.repeat(8));
    // The script has 30 and loses 2 at first and 2 each time; the comma has 25.
    say('aaaa');
    const [presence_penalty, frequency_penalty] = [2, 2];
    const logit_bias = { [comma]: 25 - ((comma * 7) % 11) };
    const spread = await openai.chat.completions.create({
      ...greedy,
      model: 'talker',
      logit_bias,
      presence_penalty,
      frequency_penalty,
    });
    expect(spread.choices[0].message.content).toBe('aa,a');
  });
  test.each([
    ['an object', { type: 'json_object' as const }, (v: unknown) => expect(v).toBeTypeOf('object')],
    [
      'an object of a schema',
      {
        type: 'json_schema' as const,
        json_schema: {
          name: 'n',
          strict: true,
          schema: { type: 'object', properties: { n: { enum: [1, 2] } }, required: ['n'], additionalProperties: false },
        },
      },
      (v: unknown) => expect([{ n: 1 }, { n: 2 }]).toContainEqual(v),
    ],
  ])('answers with JSON: %s', async (_, response_format, check) => {
    // '}' is what this model would never come to by itself.
    const [end] = served.tiny.tokenizer.ids('}');
    const c = await openai.chat.completions.create({ ...greedy, max_tokens: 100, response_format, logit_bias: { [end]: 100 } });
    expect(c.choices[0].finish_reason).toBe('stop');
    check(JSON.parse(c.choices[0].message.content as string));
  });
  test('takes parts of text and the developer', async () => {
    say('ok');
    served.talker.given.length = 0;
    await openai.chat.completions.create({
      model: 'talker',
      messages: [
        { role: 'developer', content: 'Be brief' },
        {
          role: 'user',
          content: [
            { type: 'text', text: 'a' },
            { type: 'text', text: 'b' },
          ],
        },
      ],
    });
    expect(served.talker.tokenizer.decode(served.talker.given[0], { specials: true })).toBe(
      '<|user|>system:Be brief<|end|><|user|>user:ab<|end|><|user|>assistant:',
    );
  });
});

describe('tools', () => {
  const tools = [
    {
      type: 'function' as const,
      function: { name: 'weather', parameters: { type: 'object', properties: { city: { enum: ['a', 'b'] } }, required: ['city'] } },
    },
  ];
  const call = '<tool_call>\n{"name": "weather", "arguments": {"city": "a"}}\n</tool_call>';
  const weather = { type: 'function', function: { name: 'weather', arguments: '{"city":"a"}' } };

  test.each([
    ['a block', call, null],
    ['a text and a block', `I ask.\n${call}`, 'I ask.'],
    ['a list in a block', '<tool_call>[{"name": "weather", "arguments": {"city": "a"}}]</tool_call>', null],
    ['the whole answer', '{"name": "weather", "parameters": {"city": "a"}}', null],
  ])('are called by %s', async (_, text, content) => {
    say(text);
    const { choices } = await openai.chat.completions.create({ model: 'talker', messages: ask, tools });
    expect(choices[0]).toMatchObject({ finish_reason: 'tool_calls', message: { content, tool_calls: [weather] } });
    say(text);
    const stream = openai.chat.completions.stream({ model: 'talker', messages: ask, tools });
    let said = '';
    stream.on('content', (delta) => {
      said += delta;
    });
    const { message, finish_reason } = (await stream.finalChatCompletion()).choices[0];
    expect([said, finish_reason]).toEqual([content ?? '', 'tool_calls']);
    expect(message.tool_calls).toMatchObject([weather]);
  });
  test.each(['just text', 'a <b> { c', '<tool_call>{"name": "wea', '{"name": "other", "arguments": {}}', ' {"x": 1}'])(
    'are not called by %j',
    async (text) => {
      say(text);
      const { choices } = await openai.chat.completions.create({ model: 'talker', messages: ask, tools });
      expect(choices[0].message).toMatchObject({ content: text });
      expect(choices[0].finish_reason).toBe('stop');
    },
  );
  test('are told to the model, unless none may be called', async () => {
    const prompt = async (tool_choice: 'auto' | 'none') => {
      say('<tool_call>{"name": "weather"}</tool_call>');
      served.talker.given.length = 0;
      const c = await openai.chat.completions.create({ model: 'talker', messages: ask, tools, tool_choice });
      return [c.choices[0].finish_reason, served.talker.tokenizer.decode(served.talker.given[0])];
    };
    expect(await prompt('auto')).toEqual(['tool_calls', expect.stringContaining('Tools: weather')]);
    expect(await prompt('none')).toEqual(['stop', expect.not.stringContaining('Tools')]);
  });
  test('answer, and the model is told by whom', async () => {
    say('ok');
    served.talker.given.length = 0;
    await openai.chat.completions.create({
      model: 'talker',
      tools,
      messages: [
        ...ask,
        {
          role: 'assistant',
          content: null,
          tool_calls: [{ id: 'c1', type: 'function', function: { name: 'weather', arguments: '{"city":"a"}' } }],
        },
        { role: 'tool', tool_call_id: 'c1', content: 'rain' },
      ],
    });
    expect(served.talker.tokenizer.decode(served.talker.given[0])).toContain('assistant:<tool_call>a</tool_call>');
    expect(served.talker.tokenizer.decode(served.talker.given[0])).toContain('tool:rain(weather)');
  });
  test.each(['required' as const, { type: 'function' as const, function: { name: 'weather' } }])(
    'must be called with tool_choice %j, by a model that says nothing of sense',
    async (tool_choice) => {
      // Left alone it would fill the room with blanks.
      const { decode, vocabulary } = served.tiny.tokenizer;
      const blanks = vocabulary().flatMap((_, id) => (decode([id], { specials: true }).trim() === '' ? [[id, -100]] : []));
      const request = { ...greedy, max_tokens: 100, tools, tool_choice, logit_bias: Object.fromEntries(blanks) };
      const { choices } = await openai.chat.completions.create(request);
      expect(choices[0].finish_reason).toBe('tool_calls');
      const [made] = choices[0].message.tool_calls ?? [];
      expect(made.type === 'function' && made.function.name).toBe('weather');
      expect(['a', 'b']).toContain(JSON.parse(made.type === 'function' ? made.function.arguments : '').city);
    },
  );
});

describe('completions', () => {
  test('go on from a text, or from tokens', async () => {
    const { ids } = served.tiny.tokenizer;
    const c = await openai.completions.create({ model: 'bare', prompt: 'The river', temperature: 0 });
    expect(c).toMatchObject({ object: 'text_completion', choices: [{ index: 0, logprobs: null, finish_reason: 'length' }] });
    expect(c.usage).toMatchObject({ prompt_tokens: ids('The river').length, completion_tokens: 16 });
    const many = await openai.completions.create({ model: 'bare', prompt: [ids('The river'), ids('x')], temperature: 0, echo: true });
    expect(many.choices.map((m) => m.index)).toEqual([0, 1]);
    expect(many.choices[0].text).toBe(`The river${c.choices[0].text}`);
    let text = '';
    for await (const chunk of await openai.completions.create({ model: 'bare', prompt: 'The river', temperature: 0, stream: true }))
      text += chunk.choices[0].text;
    expect(text).toBe(c.choices[0].text);
  });
  test('give log-probabilities', async () => {
    say('ab');
    const { choices } = await openai.completions.create({ model: 'talker', prompt: 'x', logprobs: 2 });
    const { tokens, token_logprobs, top_logprobs, text_offset } = choices[0].logprobs as NonNullable<(typeof choices)[0]['logprobs']>;
    expect(tokens?.join('')).toBe('ab');
    expect(token_logprobs?.[0]).toBeCloseTo(0, 5);
    expect(Object.keys(top_logprobs?.[0] ?? {})).toHaveLength(2);
    expect(text_offset?.[0]).toBe(0);
  });
  test('take the beginning of a text that the model begins with by itself only once', async () => {
    say('ok');
    served.talker.given.length = 0;
    await openai.completions.create({ model: 'talker', prompt: '<|end|>river' });
    expect(served.talker.given[0]).toEqual(served.talker.tokenizer.ids('river'));
  });
});

describe('embeddings', () => {
  test('come from two parties, as floats or base64', async () => {
    // The client asks for base64 by itself, and reads it.
    const a = await openai.embeddings.create({ model: 'owner/encoder', input: ['the cat sat', 'paris'] });
    const b = await openai.embeddings.create({ model: 'owner/encoder', input: 'the cat sat', encoding_format: 'float' });
    expect(a.data.map((d) => d.index)).toEqual([0, 1]);
    expect(Math.hypot(...a.data[0].embedding)).toBeCloseTo(1, 5);
    expect(cosine(a.data[0].embedding, b.data[0].embedding)).toBeGreaterThan(0.9999);
    expect(cosine(a.data[1].embedding, b.data[0].embedding)).toBeLessThan(0.9999);
    expect(a.usage).toEqual({ prompt_tokens: 8, total_tokens: 8 });
    expect(served.net.asked.filter((r) => r.path.includes('/steps/')).length).toBe(6);
  });
  test.each([
    ['token numbers', [1, 2, 3], {}, 'input'],
    ['nothing', '', {}, 'input'],
    ['a text too long', 'paris '.repeat(9), {}, 'input'],
    ['another width', 'paris', { dimensions: 3 }, 'dimensions'],
  ])('refuse %s', async (_, input, more, param) => {
    const e = await refused(openai.embeddings.create({ model: 'owner/encoder', input, ...more }));
    expect(e).toBeInstanceOf(OpenAI.BadRequestError);
    expect(e.param).toBe(param);
  });
});

describe('errors', () => {
  test.each([
    ['temperature', { temperature: 3 }, 'temperature'],
    ['an argument nobody knows', { temprature: 1 }, 'temprature'],
    ['a picture', { messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url: 'x' } }] }] }, 'messages.0.content'],
    ['no message', { messages: [] }, 'messages'],
    ['a conversation too long', { messages: [{ role: 'user', content: 'x '.repeat(300) }] }, 'messages'],
    ['a model without a template', { model: 'bare' }, 'model'],
    ['a model of embeddings', { model: 'owner/encoder' }, 'model'],
    ['a token that is none', { logit_bias: { 99999: 1 } }, 'logit_bias'],
    ['alternatives alone', { top_logprobs: 2 }, 'top_logprobs'],
    ['a choice of no tools', { tool_choice: 'required' }, 'tool_choice'],
    [
      'a schema that is none',
      { response_format: { type: 'json_schema', json_schema: { name: 'x', schema: { type: 'nothing' } } } },
      'response_format',
    ],
  ])('%s is a bad request', async (_, more, param) => {
    const e = await refused(openai.chat.completions.create({ ...greedy, ...(more as object) }));
    expect(e).toBeInstanceOf(OpenAI.BadRequestError);
    expect(e).toMatchObject({ status: 400, param, type: 'invalid_request_error' });
  });
  test('a failing decoder is 500, which says nothing of why, in a stream too', async () => {
    const { faults } = served;
    for (const stream of [false, true]) {
      served.talker.fail = new Error('what was said');
      say('a');
      const call = openai.chat.completions.create({ model: 'talker', messages: ask, stream }).then(async (r) => {
        if (stream) for await (const _ of r as AsyncIterable<unknown>);
      });
      const e = await refused(call);
      expect(e).toBeInstanceOf(OpenAI.APIError);
      expect(e.code).toBe('internal');
      expect(e.message).not.toContain('what was said');
      expect(faults.pop()).toBe(served.talker.fail);
    }
  });
  test('parties that are gone are 502', async () => {
    served.net.instead = () => Promise.reject(new TypeError('fetch failed'));
    const e = await refused(openai.embeddings.create({ model: 'owner/encoder', input: 'paris' }));
    served.net.instead = () => undefined;
    expect(e).toMatchObject({ status: 502, code: 'unreachable' });
  });
  test('other addresses, other bodies, other hosts', async () => {
    const body = JSON.stringify(greedy);
    const post = (path: string, headers: Record<string, string>, b = body) =>
      fetch(served.url + path, { method: 'POST', headers, body: b });
    const json = { 'content-type': 'application/json' };
    expect((await post('/audio/speech', json)).status).toBe(404);
    expect((await post('/chat/completions', { 'content-type': 'text/plain' })).status).toBe(415);
    expect((await post('/chat/completions', json, '{')).status).toBe(400);
    expect((await post('/chat/completions', json, `"${'x'.repeat(2 ** 24)}"`)).status).toBe(413);
    const { app } = (await import('../src/proxy/app.ts')).openaiApi({ models: new Map() });
    expect((await app.request('http://evil.example/v1/models')).status).toBe(403);
    expect((await app.request('http://localhost:8080/v1/models')).status).toBe(200);
  });
});

describe('whoever goes away', () => {
  test('ends the generation, streamed or not', async () => {
    for (const stream of [true, false]) {
      say('x'.repeat(1000));
      served.talker.slow = 5;
      served.talker.given.length = 0;
      const { closed } = served.talker.opened;
      const stop = new AbortController();
      const call = openai.chat.completions.create({ model: 'talker', messages: ask, stream }, { signal: stop.signal }).then(async (r) => {
        if (stream) for await (const _ of r as AsyncIterable<unknown>);
      });
      while (served.talker.given.length < 5) await new Promise((resolve) => setTimeout(resolve, 5));
      stop.abort();
      // A stream that its reader aborts just ends.
      await call.catch((e: unknown) => expect(e).toBeInstanceOf(OpenAI.APIUserAbortError));
      await expect.poll(() => served.talker.opened.closed).toBe(closed + 1);
      expect(served.talker.given.length).toBeLessThan(100);
    }
  });
});

describe('with keys', () => {
  test('only those who have one are answered, and no cache is shared between them', async () => {
    const guarded = await serve({ apiKeys: ['one', 'two'] });
    const as = (apiKey: string) => new OpenAI({ baseURL: guarded.url, apiKey, maxRetries: 0 });
    const e = await refused(as('three').models.list());
    expect(e).toBeInstanceOf(OpenAI.AuthenticationError);
    expect(e.code).toBe('invalid_api_key');

    const cached = async (key: string, messages: OpenAI.ChatCompletionMessageParam[]) => {
      guarded.talker.say('yes');
      const c = await as(key).chat.completions.create({ model: 'talker', messages });
      return c.usage?.prompt_tokens_details?.cached_tokens;
    };
    expect(await cached('one', ask)).toBe(0);
    const next = [...ask, { role: 'assistant' as const, content: 'yes' }, { role: 'user' as const, content: 'And?' }];
    expect(await cached('two', next)).toBe(0);
    const first = guarded.talker.tokenizer.ids('<|user|>user:The river<|end|><|user|>assistant:yes').length;
    expect(await cached('one', next)).toBe(first);
    await guarded.close();
    expect(guarded.talker.opened).toEqual({ count: 2, closed: 2 });
  });
});
