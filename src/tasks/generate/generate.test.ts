import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { type Graph, tensor } from '../../graph/graph.ts';
import { makeTokenizer } from '../text.ts';
import { chatPrompt } from './chat.ts';
import type { Decoder, PlainModel } from './decoder.ts';
import { type Ending, type GenerateOptions, generate, type Piece } from './generate.ts';
import { leadingTokens, measurePrefixes, prefixCandidates, residualPeak } from './prefix.ts';
import { schemaConstraint } from './schema.ts';
import { StopStrings, TextStream } from './text.ts';

const words = ['a', 'b', 'c', 'ab', '<end>', 'é'];
/** Each token is its text. */
const decode = (ids: readonly number[]): string => ids.map((id) => (id === 4 ? '' : words[id])).join('');

/** Says `script` whatever it is given, and remembers what it was given. */
function scripted(script: readonly number[], limit = 100): Decoder & { given: number[][] } {
  const given: number[][] = [];
  let length = 0;
  return {
    given,
    limit,
    get length() {
      return length;
    },
    async step(ids) {
      given.push([...ids]);
      length += ids.length;
      return Float32Array.from(words, (_, i) => (i === script[given.length - 1] ? 5 : 0));
    },
  };
}
async function all(
  decoder: Decoder,
  options: Partial<GenerateOptions> = {},
  prompt = [0],
): Promise<{ ids: number[]; text: string; pieces: Piece[]; end: Ending }> {
  const run = generate(decoder, { decode }, prompt, { maxTokens: 10, temperature: 0, eos: [4], ...options });
  const pieces: Piece[] = [];
  for (;;) {
    const { done, value } = await run.next();
    if (done) return { ids: pieces.map((p) => p.id), text: pieces.map((p) => p.text).join('') + value.text, pieces, end: value };
    pieces.push(value);
  }
}

describe('generation', () => {
  test('gives the prompt whole, then a token a step, to the end token', async () => {
    const d = scripted([1, 2, 4]);
    expect(await all(d, {}, [0, 1])).toMatchObject({ ids: [1, 2], text: 'bc', end: { reason: 'stop' } });
    expect(d.given).toEqual([[0, 1], [1], [2]]);
  });
  test('stops at maxTokens, or when the model takes no more', async () => {
    expect(await all(scripted([1, 1, 1]), { maxTokens: 2 })).toMatchObject({ ids: [1, 1], end: { reason: 'length' } });
    expect(await all(scripted([1, 1, 1, 1, 1], 4))).toMatchObject({ ids: [1, 1, 1], end: { reason: 'length' } });
  });
  test('stops before a stop string, even one that spans tokens', async () => {
    expect(await all(scripted([0, 1, 2, 2]), { stop: ['bc'] })).toMatchObject({
      text: 'a',
      ids: [0, 1, 2],
      end: { reason: 'stop', stopString: 'bc' },
    });
    expect((await all(scripted([0, 1, 0, 4]), { stop: ['bc'] })).text).toBe('aba');
    expect((await all(scripted([0, 1, 4]), { stop: ['bc'] })).text).toBe('ab');
  });
  test('tells how likely each token was, before biases', async () => {
    const { pieces } = await all(scripted([1, 4]), { alternatives: 2, logitBias: new Map([[2, 100]]), maxTokens: 1 });
    expect(pieces[0].id).toBe(2);
    expect(pieces[0].logprob).toBeCloseTo(-Math.log(5 + Math.exp(5)), 5);
    expect(pieces[0].alternatives?.[0]).toEqual({ id: 1, logprob: expect.closeTo(5 - Math.log(5 + Math.exp(5)), 5) });
  });
  test('follows a constraint', async () => {
    const accepted: number[] = [];
    const constraint = {
      next: async () => Int32Array.of(accepted.length < 2 ? 1 << 2 : 1 << 4),
      accept: (id: number) => accepted.push(id),
    };
    expect(await all(scripted([0, 0, 0]), { constraint })).toMatchObject({ ids: [2, 2], end: { reason: 'stop' } });
    expect(accepted).toEqual([2, 2]);
  });
  test('ends when it is aborted', async () => {
    const stop = new AbortController();
    const d = scripted([1, 1, 1, 1]);
    const run = generate(d, { decode }, [0], { maxTokens: 4, temperature: 0, signal: stop.signal });
    await run.next();
    stop.abort(new Error('enough'));
    await expect(run.next()).rejects.toThrow('enough');
    expect(d.given.length).toBe(1);
  });
  test.each([
    ['an empty prompt', [], {}, 'the prompt is empty'],
    ['a prompt without room', Array(100).fill(0), {}, 'the prompt takes 100 tokens after 0; the model takes 100'],
    ['settings out of range', [0], { topP: 2 }, 'topP 2'],
    ['an empty stop string', [0], { stop: [''] }, 'a stop string is empty'],
  ])('%s is refused', async (_, prompt, options, reason) => {
    await expect(all(scripted([1]), options, prompt as number[])).rejects.toThrow(new RegExp(reason));
  });
});

describe('stop strings', () => {
  const feed = (stops: string[], ...parts: string[]): [string[], string | undefined] => {
    const s = new StopStrings(stops);
    const out = parts.map((p) => s.push(p));
    return [s.found === undefined ? [...out, s.end()] : out, s.found];
  };
  test('hold back what may begin one, no more', () => {
    expect(feed(['###'], 'x#', 'y##', '#z')).toEqual([['x', '#y', ''], '###']);
    expect(feed(['abc', 'cd'], 'ab', 'x', 'c')).toEqual([['', 'abx', '', 'c'], undefined]);
  });
  test('the earliest counts', () => expect(feed(['er', 'la'], 'x later')).toEqual([['x '], 'la']));
  test('a stop string that overlaps itself is found', () => expect(feed(['aab'], 'a', 'a', 'a', 'b')).toEqual([['', '', 'a', ''], 'aab']));
});

describe('text of tokens as they come', () => {
  const json = JSON.parse(readFileSync(new URL('../../import/gguf/fixtures/tokenizers.json', import.meta.url), 'utf8')) as {
    model: string;
    pre?: string;
    tokens: string[];
    merges?: string[];
    texts: [string, number[], string][];
  }[];
  const bpe = json.find((m) => m.pre === 'gpt-2') as (typeof json)[0];
  const level = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
  const tokenizer = makeTokenizer({
    version: '1.0',
    added_tokens: [],
    normalizer: null,
    pre_tokenizer: level,
    post_processor: null,
    decoder: level,
    model: { type: 'BPE', vocab: Object.fromEntries(bpe.tokens.map((t, i) => [t, i])), merges: bpe.merges },
  });
  test.each(bpe.texts.map(([text]) => text).filter((t) => t !== '' && !t.includes('<|')))('adds up to the whole: %j', (text) => {
    const stream = new TextStream(tokenizer);
    const parts = tokenizer.ids(text).map((id) => stream.push(id));
    expect(parts.join('') + stream.end()).toBe(text);
    expect(parts.some((p) => p.includes('\ufffd'))).toBe(false);
  });
  test('a character comes when it is whole; one that stays unfinished comes at the end', () => {
    const ids = tokenizer.ids('🙂');
    expect(ids.length).toBeGreaterThan(1);
    const stream = new TextStream(tokenizer);
    expect(
      ids
        .map((id) => stream.push(id))
        .slice(0, -1)
        .join(''),
    ).toBe('');
    const cut = new TextStream(tokenizer);
    for (const id of ids.slice(0, -1)) cut.push(id);
    expect(cut.end()).toBe('\ufffd');
  });
});

describe('a chat template', () => {
  const template =
    '{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{{ eos_token }}\n{% endfor %}{% if tools %}{{ tools | length }} tools{% endif %}{% if add_generation_prompt %}<|assistant|>{% endif %}';
  const messages = [
    { role: 'system', content: 'Be brief.' },
    { role: 'user', content: 'Hi' },
  ];
  test('makes the prompt', () => {
    expect(chatPrompt(template, messages, { eosToken: '</s>' })).toBe('<|system|>Be brief.</s>\n<|user|>Hi</s>\n<|assistant|>');
    expect(chatPrompt(template, messages, { open: false, tools: [{}, {}] })).toBe('<|system|>Be brief.\n<|user|>Hi\n2 tools');
  });
  test('that is broken, or refuses, is one line', () => {
    expect(() => chatPrompt('{% for', messages)).toThrow('the chat template cannot render');
    expect(() => chatPrompt("{{ raise_exception('roles must alternate') }}", messages)).toThrow('roles must alternate');
  });
});

describe('the public prefix', () => {
  /** The first row is added to every row: under token 0 all are massive, under token 2 they are small. */
  const model: Pick<PlainModel, 'graph' | 'client'> = (() => {
    const table = tensor([1000, 0, 900, 0, 3, 4, 5, 6], [4, 2]);
    const places = ['from', 'to', 'axis'].map((name, i) => [name, tensor([i % 2], [1], 'i64')] as const);
    const node = (op: string, inputs: string[], output: string) => ({ op, name: `/${output}`, inputs, outputs: [output], attrs: {} });
    const before: Graph = {
      name: 'before',
      inputs: [{ name: 'input_ids', dtype: 'i64', shape: ['n'] }],
      outputs: ['embeddings'],
      nodes: [node('Gather', ['table', 'input_ids'], 'embeddings')],
      constants: new Map([['table', table]]),
    };
    const graph: Graph = {
      name: 'graph',
      inputs: [{ name: 'embeddings', dtype: 'f32', shape: ['n', 2] }],
      outputs: ['sum'],
      nodes: [node('Slice', ['embeddings', 'from', 'to', 'axis'], 'first'), node('Add', ['embeddings', 'first'], 'sum')],
      constants: new Map(places),
    };
    return { graph, client: { before, after: graph } };
  })();
  test('is measured by the rows after it', () => {
    expect(residualPeak(model, [], [0, 3])).toBe(2000);
    expect(residualPeak(model, [0], [3])).toBe(1005);
    expect(residualPeak(model, [2], [3])).toBe(10);
  });
  test('is the one that leaves the smallest rows; a shorter one where it makes no difference', () => {
    const measured = measurePrefixes(model, [[], [0], [2, 2], [2]], [[3], [3, 3]]);
    expect(measured.map((m) => m.prefix)).toEqual([[2], [2, 2], [], [0]]);
    expect(measured[0].peak).toBe(10);
  });
  const with_ = (post: object | null): ReturnType<typeof makeTokenizer> =>
    makeTokenizer({
      version: '1.0',
      added_tokens: [{ id: 1, content: '<s>', special: true, single_word: false, lstrip: false, rstrip: false, normalized: false }],
      normalizer: null,
      pre_tokenizer: null,
      decoder: null,
      post_processor: post,
      model: { type: 'BPE', vocab: { a: 0, '<s>': 1 }, merges: [] },
    });
  test('is the tokenizer own beginning where it has one, else the special tokens and none', () => {
    const own = with_({
      type: 'TemplateProcessing',
      single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
      pair: [],
      special_tokens: { '<s>': { id: '<s>', ids: [1], tokens: ['<s>'] } },
    });
    expect(leadingTokens(own)).toEqual([1]);
    expect(prefixCandidates(own, [0])).toEqual([[1]]);
    expect(prefixCandidates(with_(null), [0])).toEqual([[1], [0], []]);
  });
});

describe('a JSON schema', () => {
  const tokens = ['<end>', '{', '}', '"', 'age', ':', ' ', '1', '23', '[', ',', 'true', 'x', '"age":'];
  const vocabulary = { tokens, tokenizer: {}, size: 16, eos: [0] };
  const may = (mask: Int32Array | undefined): string[] => tokens.filter((_, i) => mask === undefined || (mask[i >> 5] >> (i & 31)) & 1);
  test('decides before each token which may come, and when it is over', async () => {
    const c = await schemaConstraint({ type: 'object', properties: { age: { type: 'integer' } }, required: ['age'] }, vocabulary);
    expect(may(await c.next())).toEqual(['{']);
    for (const t of ['{', '"age":', '1']) c.accept(tokens.indexOf(t));
    expect(may(await c.next())).toEqual(expect.arrayContaining(['}', '1', '23']));
    expect(may(await c.next())).not.toContain('"');
    c.accept(2);
    expect(may(await c.next())).toEqual(['<end>']);
    expect(() => c.accept(12)).toThrow('does not follow the schema');
    c.accept(0);
    expect(c.done).toBe(true);
    c.dispose();
  });
  test('of any shape is any JSON', async () => {
    const c = await schemaConstraint('any', vocabulary);
    for (const t of ['[', 'true', ',', '23', ',', '{']) c.accept(tokens.indexOf(t));
    expect(may(await c.next())).not.toContain('true');
    c.dispose();
  });
  test('leaves no global of a browser behind', () => expect('location' in globalThis).toBe(false));
});

test('no module here imports Node, so that a page can run it', () => {
  const dir = new URL('./', import.meta.url);
  for (const f of readdirSync(dir).filter((n) => n.endsWith('.ts') && !n.endsWith('.test.ts')))
    expect(readFileSync(new URL(f, dir), 'utf8'), f).not.toMatch(/from 'node:|require\(|process\.|Buffer/);
});
