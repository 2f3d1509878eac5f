/** subrosa chat: a conversation in the terminal, on shares. The cache of what was said stays with the parties from turn to turn. */
import { createInterface, type Interface } from 'node:readline';
import { ModelError } from '../graph/graph.ts';
import type { Decoder, Message, PrivateDecoder } from '../tasks/generate/index.ts';
import { chatPrompt, generate } from '../tasks/generate/index.ts';
import {
  type PrivateSpeaker,
  perToken,
  privateSpeaker,
  type Sampled,
  type Speaker,
  type SpeakerOptions,
  type Speaking,
  sampling,
  type Typed,
} from './speaker.ts';
import { bytesText, err, plural, print, say, secondsText, UsageError } from './terminal.ts';

interface Options extends SpeakerOptions, Sampled {
  readonly maxTokens: number;
  readonly system?: string;
}

const usualTemperature = 0.7;

export async function chatCommand(model: string, options: Options, command?: Typed): Promise<void> {
  const speaker = await privateSpeaker(model, options, command);
  if (speaker.chatTemplate === undefined)
    throw new UsageError(
      `${speaker.name} has no chat template: it goes on from texts, and does not talk`,
      `subrosa generate ${model} "A text"`,
    );
  const speaking = await speaker.start();
  try {
    say(
      err.dim(
        `${speaker.name}, ${speaker.weights} weights, set up in ${secondsText(speaking.setupSeconds)}; /quit ends it, Ctrl-C stops an answer`,
      ),
    );
    await converse(speaker, speaking, options);
  } finally {
    await speaking.close();
  }
}

async function converse(speaker: PrivateSpeaker, speaking: Speaking, options: Options): Promise<void> {
  const conversation = new Conversation(speaker, speaking.decoder, options.system);
  const terminal = process.stdin.isTTY === true;
  const lines = createInterface({ input: process.stdin, output: terminal ? process.stderr : undefined, terminal, prompt: '> ' });
  let answering: AbortController | undefined;
  lines.on('SIGINT', () => {
    if (answering) answering.abort();
    else lines.close();
  });
  if (terminal) lines.prompt();
  for await (const line of read(lines)) {
    const text = line.trim();
    if (text === '/quit') break;
    if (text !== '') {
      answering = new AbortController();
      const from = speaking.steps.length;
      const start = performance.now();
      try {
        const { tokens, prefills } = await answer(conversation, text, options, answering.signal, () => speaking.steps.length);
        say(err.dim(`  ${statsText(tokens, start, speaking.steps.slice(prefills || from))}`));
      } catch (e) {
        // Too long a message, or one the template refuses: the next may be fine.
        if (!(e instanceof UsageError || e instanceof ModelError)) throw e;
        say(`${err.red('subrosa:')} ${e.message}`);
      }
      answering = undefined;
    }
    if (terminal) lines.prompt();
  }
  lines.close();
}

/** Its lines until it is closed. Not its own iterator, which may lose what came before it was asked for. */
async function* read(lines: Interface): AsyncGenerator<string> {
  const waiting: string[] = [];
  let wake = (): void => {};
  let closed = false;
  lines.on('line', (line) => {
    waiting.push(line);
    wake();
  });
  lines.on('close', () => {
    closed = true;
    wake();
  });
  for (;;) {
    const line = waiting.shift();
    if (line !== undefined) yield line;
    else if (closed) return;
    else
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
  }
}

async function answer(
  conversation: Conversation,
  text: string,
  options: Options,
  signal: AbortSignal,
  steps: () => number,
): Promise<{ tokens: number; prefills: number }> {
  let said = '';
  let tokens = 0;
  let prefills = 0;
  try {
    const going = conversation.say(text, options, signal);
    for (;;) {
      const step = await going.next();
      prefills ||= steps();
      said += step.value.text;
      process.stdout.write(step.value.text);
      if (step.done) break;
      tokens++;
    }
  } catch (e) {
    if (!signal.aborted) throw e;
    process.stdout.write(' …');
  }
  conversation.heard(said);
  print();
  return { tokens, prefills };
}

function statsText(tokens: number, start: number, decoding: Speaking['steps']): string {
  const rate = tokens / ((performance.now() - start) / 1000);
  const each = perToken(decoding);
  return `${plural(tokens, 'token')}, ${rate.toFixed(2)} a second${each ? `, ${each.rounds} rounds and ${bytesText(each.bytes)} a token` : ''}`;
}

/** What was said, and how much of it the decoder's cache holds. */
export class Conversation {
  private readonly messages: Message[] = [];
  /** Tokens in the cache after the prefix. */
  private held: readonly number[] = [];

  constructor(
    private readonly speaker: Speaker,
    private readonly decoder: PrivateDecoder,
    system?: string,
  ) {
    if (system !== undefined) this.messages.push({ role: 'system', content: system });
  }

  /** The answer to a message, as `generate` gives it. The first messages are forgotten when the rest fills the model's sequence. */
  say(text: string, options: Pick<Options, 'maxTokens'> & Sampled, signal: AbortSignal): ReturnType<typeof generate> {
    this.messages.push({ role: 'user', content: text });
    const ids = this.prompt();
    const { prefix, tokenizer, eos } = this.speaker;
    let same = 0;
    while (same < this.held.length && same < ids.length - 1 && this.held[same] === ids[same]) same++;
    this.decoder.rewind(prefix.length + same);
    this.held = ids.slice(0, same);
    return generate(this.recorded(), tokenizer, ids.slice(same), {
      ...sampling(options, usualTemperature),
      maxTokens: options.maxTokens,
      eos,
      signal,
    });
  }

  /** What came of it, whole or cut off. */
  heard(text: string): void {
    this.messages.push({ role: 'assistant', content: text });
  }

  /** Tokens after the prefix, which templates may write out too. Throws UsageError for a message that does not fit. */
  private prompt(): number[] {
    const { prefix, tokenizer, limit, chatTemplate, specials } = this.speaker;
    const room = limit - prefix.length;
    for (;;) {
      let all: number[];
      try {
        all = tokenizer.ids(chatPrompt(chatTemplate as string, this.messages, specials));
      } catch (e) {
        this.messages.pop();
        throw e;
      }
      const ids = prefix.length > 0 && prefix.every((id, i) => all[i] === id) ? all.slice(prefix.length) : all;
      if (ids.length < room - leastAnswer) return ids;
      const first = this.messages.findIndex((m) => m.role === 'user');
      if (first === this.messages.length - 1) {
        this.messages.pop();
        throw new UsageError(`the message takes ${ids.length} tokens; the program takes ${limit} with the answer`);
      }
      this.messages.splice(first, 2);
      say(err.dim('  the beginning of the conversation no longer fits, and is forgotten'));
    }
  }

  /** The decoder, and what its cache holds: a prompt that was stopped may be there in part. */
  private recorded(): Decoder {
    const { decoder, speaker } = this;
    return {
      limit: decoder.limit,
      get length() {
        return decoder.length;
      },
      step: async (ids, signal) => {
        try {
          return await decoder.step(ids, signal);
        } finally {
          this.held = [...this.held, ...ids].slice(0, decoder.length - speaker.prefix.length);
        }
      },
    };
  }
}

/** Tokens that an answer must have room for, before older messages are forgotten. */
const leastAnswer = 16;
