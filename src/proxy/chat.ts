/** POST /v1/chat/completions */
import { randomUUID } from 'node:crypto';
import { checkSampling, type Piece } from '../tasks/generate/index.ts';
import type { TextTokenizer } from '../tasks/text.ts';
import { type Engine, promptTokens, settings, type Usage, usageOf } from './engine.ts';
import { bad } from './errors.ts';
import { interleave } from './interleave.ts';
import type { TextModel } from './models.ts';
import { promptOf } from './prompt.ts';
import type { ChatRequest } from './schema.ts';
import { type ToolCall, ToolReader, toolUse } from './tools.ts';

/** What became known with a token, or at the end. */
interface Delta {
  readonly text: string;
  readonly logprob?: object;
  readonly calls?: readonly ToolCall[];
  /** With the last one. */
  readonly finish?: Finish;
}
type Finish = 'stop' | 'length' | 'tool_calls';
interface Choice {
  readonly finish: Finish;
  readonly tokens: number;
  readonly cached: number;
}

/** A request that is sound, not yet begun. */
export interface Chat {
  /** The chunks of a stream, in order. */
  stream(signal: AbortSignal): AsyncGenerator<object, void>;
  answer(signal: AbortSignal): Promise<object>;
}

/** Throws ApiError for everything that is wrong with a request, before anything is computed. */
export function chat(engine: Engine, model: TextModel, owner: string, r: ChatRequest): Chat {
  if (r.top_logprobs != null && !r.logprobs) throw bad("'top_logprobs': it needs 'logprobs': true", 'top_logprobs');
  const use = toolUse(model, r);
  const prompt = promptTokens(model, promptOf(model, r.messages, use), 'messages');
  const choices = Array.from({ length: r.n ?? 1 }, (_, i) => ({
    ...settings(model, r, r.max_completion_tokens ?? r.max_tokens, i),
    alternatives: r.top_logprobs ?? 0,
  }));
  choices.forEach(checkSampling);
  const schema = use.forced?.schema ?? schemaOf(r);
  const head = { id: `chatcmpl-${randomUUID()}`, created: Math.floor(Date.now() / 1000), model: r.model };

  async function* run(i: number, signal: AbortSignal): AsyncGenerator<Delta, Choice> {
    const pieces = engine.run({ model, owner, prompt, options: choices[i], schema, signal });
    const reader = new ToolReader(use);
    let tokens = 0;
    for (;;) {
      const { done, value } = await pieces.next();
      const text = reader.push(value.text);
      if (done) {
        const { text: rest, calls } = reader.end();
        const finish = calls.length > 0 ? 'tool_calls' : value.reason;
        yield { text: text + rest, calls, finish };
        return { finish, tokens, cached: value.cached };
      }
      tokens++;
      yield { text, ...(r.logprobs ? { logprob: logprobOf(model.tokenizer, value) } : {}) };
    }
  }
  const all = (signal: AbortSignal) =>
    interleave(
      choices.map((_, i) => run(i, signal)),
      engine.atOnce,
    );
  const total = (done: readonly Choice[]): Usage =>
    usageOf(
      prompt.length,
      done.reduce((n, c) => n + c.tokens, 0),
      done[0].cached,
    );

  return {
    async *stream(signal) {
      const usage = r.stream_options?.include_usage ? { usage: null } : {};
      const chunk = (index: number, delta: object, finish: string | null, logprobs: object | null = null): object => ({
        ...head,
        object: 'chat.completion.chunk',
        choices: [{ index, delta, logprobs, finish_reason: finish }],
        ...usage,
      });
      for (const index of choices.keys()) yield chunk(index, { role: 'assistant', content: '' }, null);
      const deltas = all(signal);
      let step = await deltas.next();
      for (; !step.done; step = await deltas.next()) {
        const [index, { text, logprob, calls = [], finish }] = step.value;
        if (text !== '' || logprob) yield chunk(index, { content: text }, null, logprob && { content: [logprob], refusal: null });
        for (const [i, call] of calls.entries()) yield chunk(index, { tool_calls: [{ index: i, ...call }] }, null);
        if (finish) yield chunk(index, {}, finish);
      }
      const done = step.value;
      if (r.stream_options?.include_usage) yield { ...head, object: 'chat.completion.chunk', choices: [], usage: total(done) };
    },
    async answer(signal) {
      const made = choices.map(() => ({ content: '', logprobs: [] as object[], tool_calls: [] as readonly ToolCall[] }));
      const deltas = all(signal);
      let step = await deltas.next();
      for (; !step.done; step = await deltas.next()) {
        const [index, { text, logprob, calls }] = step.value;
        made[index].content += text;
        if (logprob) made[index].logprobs.push(logprob);
        if (calls) made[index].tool_calls = calls;
      }
      const done = step.value;
      const answers = made.map(({ content, logprobs, tool_calls }, index) => {
        const called = tool_calls.length > 0;
        return {
          index,
          message: {
            role: 'assistant',
            content: called && content === '' ? null : content,
            refusal: null,
            ...(called ? { tool_calls } : {}),
          },
          logprobs: r.logprobs ? { content: logprobs, refusal: null } : null,
          finish_reason: done[index].finish,
        };
      });
      return { ...head, object: 'chat.completion', choices: answers, usage: total(done) };
    },
  };
}

function schemaOf({ response_format: f }: ChatRequest): object | undefined {
  if (f?.type === 'json_object') return { type: 'object', additionalProperties: true };
  return f?.type === 'json_schema' ? (f.json_schema.schema ?? { type: 'object', additionalProperties: true }) : undefined;
}

const encoder = new TextEncoder();

/** A token's text; its bytes where it holds whole characters. */
function tokenText(tokenizer: TextTokenizer, id: number): { token: string; bytes: number[] | null } {
  const token = tokenizer.decode([id], { specials: true });
  return { token, bytes: token.includes('\ufffd') ? null : [...encoder.encode(token)] };
}

function logprobOf(tokenizer: TextTokenizer, { id, logprob, alternatives = [] }: Piece): object {
  const top_logprobs = alternatives.map((a) => ({ ...tokenText(tokenizer, a.id), logprob: a.logprob }));
  return { ...tokenText(tokenizer, id), logprob, top_logprobs };
}
