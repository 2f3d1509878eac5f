/** Pipelines in pages and in Node: every task against the float model, two real parties in between. */
import { describe, expect, test, vi } from 'vitest';
import { type PipelineOptions, pipeline, semanticSearch } from '../src/client/pipeline.ts';
import { Net } from '../src/server/net.case.ts';
import { cosine, textInputs } from '../src/tasks/encoded.ts';
import { plainSpec, toTensor } from '../src/tasks/pixels.ts';
import { makeTokenizer } from '../src/tasks/text.ts';
import { edge, type Made, plainAnswer, type TaskName, taskModel, tokenizerJson } from './tasks.ts';

const made = new Map<TaskName, Made>();
const modelFor = (task: TaskName): Made => {
  const model = made.get(task) ?? taskModel(task);
  made.set(task, model);
  return model;
};
const served = (task: TaskName): { net: Net; model: Made; options: PipelineOptions; name: string } => {
  const model = modelFor(task);
  const net = new Net({ served: model });
  return {
    net,
    model,
    name: `tiny ${task}`,
    options: { parties: ['https://p0.test', 'https://p1.test'], token: 'token-a', fetch: net.fetch },
  };
};
const tokenizer = makeTokenizer(tokenizerJson);
const plainText = (model: Made, text: string, pair?: string) => {
  const encoded = tokenizer.encode(text, { pair, maxTokens: 8 });
  const { input_ids } = textInputs(encoded);
  return { encoded, answer: plainAnswer(model, { input_ids }, encoded) };
};

describe('texts', () => {
  test('classification: labels and scores, most likely first', async () => {
    const { model, options, name } = served('text-classification');
    const classify = await pipeline('sentiment-analysis', name, options);
    const [best] = await classify('the cat sat');
    const { classes } = plainText(model, 'the cat sat').answer;
    expect(best.label).toBe(classes?.[0].label);
    expect(best.score).toBeCloseTo(classes?.[0].probability as number, 2);
    const both = await classify(['anna', 'paris'], { top_k: 2 });
    expect(both.map((b) => b.map((c) => c.label).sort())).toEqual([
      ['NEGATIVE', 'POSITIVE'],
      ['NEGATIVE', 'POSITIVE'],
    ]);
  });
  test('tokens: an entity each, none for special ones and those without', async () => {
    const { model, options, name } = served('token-classification');
    const ner = await pipeline('token-classification', name, options);
    const all = await ner('anna playing paris', { ignore_labels: [] });
    expect(all.map((e) => e.word)).toEqual(['anna', 'play', '##ing', 'paris']);
    expect(all.map((e) => e.index)).toEqual([1, 2, 3, 4]);
    const { tokens = [] } = plainText(model, 'anna playing paris').answer;
    all.forEach((e) => {
      expect(e.entity).toBe(tokens[e.index].label);
      expect(e.score).toBeCloseTo(tokens[e.index].probability, 2);
    });
    expect(await ner('anna playing paris')).toEqual(
      (await ner('anna playing paris', { ignore_labels: [] }))
        .filter((e) => e.entity !== 'O')
        .map((e) => ({ ...e, score: expect.closeTo(e.score, 2) })),
    );
  });
  test('questions: the words of the context', async () => {
    const { model, options, name } = served('question-answering');
    const ask = await pipeline('question-answering', name, options);
    const { answer, score } = await ask('anna', 'the cat sat');
    const { span } = plainText(model, 'anna', 'the cat sat').answer;
    expect(answer).toBe(span?.text);
    expect(score).toBeCloseTo(span?.probability as number, 2);
    await expect(ask('the cat sat playing', 'the cat sat playing')).rejects.toMatchObject({
      code: 'bad-input',
      message: expect.stringContaining('shorten one'),
    });
  });
  test('embeddings: a row a text, of length 1; a text that is too long loses its end', async () => {
    const { net, model, options, name } = served('sentence-embedding');
    const embed = await pipeline('feature-extraction', name, options);
    const texts = ['the cat sat', 'anna', 'paris paris paris paris paris paris paris paris', 'tax', '', 'the the'];
    const out = await embed(texts);
    expect([out.type, out.dims, out.data.length]).toEqual(['float32', [6, 4], 24]);
    out.tolist().forEach((row, i) => {
      expect(Math.hypot(...row)).toBeCloseTo(1, 5);
      expect(cosine(row, plainText(model, texts[i]).answer.outputs.sentence_embedding.data)).toBeGreaterThan(0.9999);
    });
    // Four at once, no more.
    expect(net.sessions).toEqual([4, 4]);
    await embed.dispose();
    expect(net.sessions).toEqual([0, 0]);
  });
  test('similarity and search by meaning', async () => {
    const { model, options, name } = served('sentence-embedding');
    const vectors = ['the cat sat', 'anna', 'tax'].map((t) => plainText(model, t).answer.outputs.sentence_embedding.data);
    const alike = await (await pipeline('sentence-similarity', name, options))('the cat sat', ['anna', 'tax']);
    for (const [i, a] of alike.entries()) expect(a).toBeCloseTo(cosine(vectors[0], vectors[i + 1]), 2);
    const search = await semanticSearch(await pipeline('sentence-embedding', name, options), ['anna', 'the cat sat', 'tax']);
    const found = await search('the cat sat', { top_k: 2 });
    expect(found).toHaveLength(2);
    expect(found[0]).toEqual({ text: 'the cat sat', index: 1, score: expect.closeTo(1, 3) });
  });
});

describe('pictures', () => {
  const data = Uint8Array.from({ length: edge * edge }, (_, i) => (i * 37) % 256);
  const spec = plainSpec([1, edge, edge]);
  const expected = (model: Made) => plainAnswer(model, { image: toTensor({ width: edge, height: edge, channels: 1, data }, spec) }).classes;
  test('pixels', async () => {
    const { model, options, name } = served('image-classification');
    const classify = await pipeline('image-classification', name, options);
    const scores = await classify({ width: edge, height: edge, data });
    expect(scores.map((s) => s.label)).toEqual(expected(model)?.map((c) => c.label));
    for (const [i, s] of scores.entries()) expect(s.score).toBeCloseTo(expected(model)?.[i].probability as number, 2);
    const [two] = await classify([{ width: edge, height: edge, data }], { top_k: 2 });
    expect(two).toHaveLength(2);
  });
  test('files, by what decodes them here', async () => {
    const { model, options, name } = served('image-classification');
    const asked: unknown[] = [];
    const classify = await pipeline('image-classification', name, {
      ...options,
      decode: (picture, wanted) => {
        asked.push([picture, wanted]);
        return Promise.resolve({ width: edge, height: edge, channels: 1, data });
      },
    });
    expect((await classify('shoe.png'))[0].label).toBe(expected(model)?.[0].label);
    expect(asked).toEqual([['shoe.png', spec]]);
  });
  test('what a browser draws', async () => {
    const { model, options, name } = served('image-classification');
    const rgba = Uint8ClampedArray.from({ length: 4 * edge * edge }, (_, i) => (i % 4 === 3 ? 255 : data[i >> 2]));
    const close = vi.fn();
    vi.stubGlobal('createImageBitmap', () => Promise.resolve({ width: edge, height: edge, close }));
    vi.stubGlobal(
      'OffscreenCanvas',
      class {
        getContext = () => ({
          drawImage: () => {},
          getImageData: (_x: number, _y: number, width: number, height: number) => ({ width, height, data: rgba }),
        });
      },
    );
    try {
      const classify = await pipeline('image-classification', name, options);
      expect((await classify(new Blob([])))[0].label).toBe(expected(model)?.[0].label);
      expect(close).toHaveBeenCalledOnce();
    } finally {
      vi.unstubAllGlobals();
    }
  });
  test('without either, what is missing is named', async () => {
    const { options, name } = served('image-classification');
    await expect((await pipeline('image-classification', name, options))(new Blob([]))).rejects.toMatchObject({
      code: 'bad-input',
      message: expect.stringContaining('decode'),
    });
    await expect(
      (await pipeline('image-classification', name, options))({ width: 2, height: 2, data: new Uint8Array(3) }),
    ).rejects.toMatchObject({ code: 'bad-input' });
  });
});

describe('what cannot be', () => {
  test.each([
    ['a task nobody knows', 'translation', /no task 'translation'/],
    ['a task the model is not for', 'text-classification', /is for sentence-embedding/],
    ['a name every object has', 'constructor', /no task/],
  ])('%s', async (_, task, message) => {
    const { net, options, name } = served('sentence-embedding');
    await expect(pipeline(task as 'ner', name, options)).rejects.toMatchObject({
      code: 'bad-input',
      message: expect.stringMatching(message),
    });
    expect(net.sessions).toEqual([0, 0]);
  });
  test('no parties', async () => {
    await expect(pipeline('ner', 'x')).rejects.toMatchObject({ code: 'bad-input', message: expect.stringContaining('parties') });
  });
  test('files of another program, or in a form that is newer', async () => {
    for (const [change, code] of [
      [{ program: 'cd'.repeat(32) }, 'mismatch'],
      [{ format: 'subrosa-client/2' }, 'bad-message'],
    ] as const) {
      const model = modelFor('sentence-embedding');
      const info = { ...JSON.parse(new TextDecoder().decode(model.files['client.json'])), ...change };
      const net = new Net({
        served: { ...model, files: { ...model.files, 'client.json': new TextEncoder().encode(JSON.stringify(info)) } },
      });
      await expect(
        pipeline('feature-extraction', model.hash, { parties: ['https://p0.test', 'https://p1.test'], token: 'token-a', fetch: net.fetch }),
      ).rejects.toMatchObject({ code });
    }
  });
  test('a signal ends a list of runs', async () => {
    const { options, name } = served('sentence-embedding');
    const embed = await pipeline('feature-extraction', name, options);
    await expect(embed(['anna', 'tax'], { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'aborted' });
  });
});
