/** POST /v1/completions: texts that go on, without a conversation. */
import { randomUUID } from 'node:crypto';
import { checkSampling, type Piece } from '../tasks/generate/index.ts';
import { type Ended, type Engine, promptTokens, settings, usageOf } from './engine.ts';
import { bad } from './errors.ts';
import { interleave } from './interleave.ts';
import type { TextModel } from './models.ts';
import type { CompletionRequest } from './schema.ts';

/** What OpenAI takes when nothing is said. */
const usualTokens = 16;

interface Choice {
  readonly ended: Ended;
  readonly tokens: number;
}

export interface Completion {
  stream(signal: AbortSignal): AsyncGenerator<object, void>;
  answer(signal: AbortSignal): Promise<object>;
}

/** Throws ApiError for everything that is wrong with a request, before anything is computed. */
export function completion(engine: Engine, model: TextModel, owner: string, r: CompletionRequest): Completion {
  const n = r.n ?? 1;
  if (r.best_of != null && r.best_of !== n) throw bad("'best_of': only n texts are made, and all are given", 'best_of');
  if (r.echo && r.logprobs != null) throw bad("'logprobs': there are none for the tokens of a prompt, which 'echo' would need", 'logprobs');
  const prompts = promptsOf(r).map((p) => ({ ids: promptTokens(model, p, 'prompt'), echo: r.echo ? textOf(model, p) : '' }));
  const options = Array.from({ length: n }, (_, i) => ({
    ...settings(model, r, r.max_tokens ?? usualTokens, i),
    alternatives: r.logprobs ?? 0,
  }));
  options.forEach(checkSampling);
  const choices = prompts.flatMap((p) => options.map((o) => ({ ...p, options: o })));
  const head = { id: `cmpl-${randomUUID()}`, object: 'text_completion', created: Math.floor(Date.now() / 1000), model: r.model };

  async function* run(index: number, signal: AbortSignal): AsyncGenerator<{ text: string; piece?: Piece; finish?: string }, Choice> {
    const { ids, echo, options } = choices[index];
    if (echo !== '') yield { text: echo };
    const pieces = engine.run({ model, owner, prompt: ids, options, signal });
    for (let tokens = 0; ; tokens++) {
      const { done, value } = await pieces.next();
      yield done ? { text: value.text, finish: value.reason } : { text: value.text, piece: value };
      if (done) return { ended: value, tokens };
    }
  }
  const all = (signal: AbortSignal) =>
    interleave(
      choices.map((_, i) => run(i, signal)),
      engine.atOnce,
    );
  const total = (done: readonly Choice[]): object =>
    usageOf(
      prompts.reduce((sum, p) => sum + p.ids.length, 0),
      done.reduce((sum, c) => sum + c.tokens, 0),
      done.reduce((sum, c) => sum + c.ended.cached, 0),
    );
  const logprobs = (pieces: readonly Piece[], from: number): object | null => {
    if (r.logprobs == null) return null;
    const word = (id: number): string => model.tokenizer.decode([id], { specials: true });
    let at = from;
    const text_offset = pieces.map((p) => {
      const here = at;
      at += word(p.id).length;
      return here;
    });
    return {
      tokens: pieces.map((p) => word(p.id)),
      token_logprobs: pieces.map((p) => p.logprob),
      top_logprobs: pieces.map((p) => Object.fromEntries((p.alternatives ?? []).map((a) => [word(a.id), a.logprob]))),
      text_offset,
    };
  };

  return {
    async *stream(signal) {
      const usage = r.stream_options?.include_usage ? { usage: null } : {};
      const lengths = choices.map(() => 0);
      const pieces = all(signal);
      let step = await pieces.next();
      for (; !step.done; step = await pieces.next()) {
        const [index, { text, piece, finish }] = step.value;
        if (text !== '' || (piece && r.logprobs != null))
          yield {
            ...head,
            choices: [{ index, text, logprobs: logprobs(piece ? [piece] : [], lengths[index]), finish_reason: null }],
            ...usage,
          };
        lengths[index] += text.length;
        if (finish) yield { ...head, choices: [{ index, text: '', logprobs: null, finish_reason: finish }], ...usage };
      }
      if (r.stream_options?.include_usage) yield { ...head, choices: [], usage: total(step.value) };
    },
    async answer(signal) {
      const made = choices.map(() => ({ text: '', pieces: [] as Piece[] }));
      const pieces = all(signal);
      let step = await pieces.next();
      for (; !step.done; step = await pieces.next()) {
        const [index, { text, piece }] = step.value;
        made[index].text += text;
        if (piece) made[index].pieces.push(piece);
      }
      const done = step.value;
      const answers = made.map(({ text, pieces }, index) => ({
        index,
        text,
        logprobs: logprobs(pieces, 0),
        finish_reason: done[index].ended.reason,
      }));
      return { ...head, choices: answers, usage: total(done) };
    },
  };
}

function promptsOf({ prompt }: CompletionRequest): (string | readonly number[])[] {
  if (typeof prompt === 'string') return [prompt];
  return typeof prompt[0] === 'number' ? [prompt as number[]] : (prompt as (string | number[])[]);
}

function textOf(model: TextModel, prompt: string | readonly number[]): string {
  return typeof prompt === 'string' ? prompt : model.tokenizer.decode(prompt, { specials: true });
}
