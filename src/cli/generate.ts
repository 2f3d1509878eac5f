/** subrosa generate: a prompt goes on, on shares in processes on this machine; or by the interpreter, with the same public prefix. */
import type { Decoder, Ending } from '../tasks/generate/index.ts';
import { generate } from '../tasks/generate/index.ts';
import {
  constrain,
  type PlainSpeaker,
  type PrivateSpeaker,
  perToken,
  plainSpeaker,
  privateSpeaker,
  type Sampled,
  type Speaker,
  type SpeakerOptions,
  sampling,
  type Typed,
} from './speaker.ts';
import { bytesText, out, plural, print, say, secondsText, UsageError } from './terminal.ts';

interface Options extends SpeakerOptions, Sampled {
  readonly plain?: boolean;
  readonly json?: boolean;
  readonly maxTokens: number;
  readonly schema?: string;
}

interface Generated {
  readonly text: string;
  readonly tokens: readonly number[];
  readonly prompt_tokens: readonly number[];
  readonly prefix_tokens: readonly number[];
  readonly finish: Ending['reason'];
  readonly prefill_seconds: number;
  /** null: there was but one. */
  readonly seconds_per_token: number | null;
}

export async function generateCommand(model: string, prompt: string, options: Options, command?: Typed): Promise<void> {
  if (options.plain) return plainly(plainSpeaker(model, options), prompt, options);
  return privately(await privateSpeaker(model, options, command), prompt, options);
}

async function plainly(speaker: PlainSpeaker, prompt: string, options: Options): Promise<void> {
  const ids = promptOf(speaker, prompt);
  const made = await run(speaker, speaker.decoder(), ids, options);
  const peak = process.resourceUsage().maxRSS * 1024;
  if (options.json) return print(JSON.stringify({ ...made, peak_rss: { plain: peak } }));
  show(made, `${bytesText(peak)} of memory`);
}

async function privately(speaker: PrivateSpeaker, prompt: string, options: Options): Promise<void> {
  const ids = promptOf(speaker, prompt);
  const speaking = await speaker.start();
  try {
    let prefills = 0;
    const made = await run(speaker, speaking.decoder, ids, options, () => {
      prefills ||= speaking.steps.length;
    });
    const each = perToken(speaking.steps.slice(prefills));
    const peak = await speaking.peakRss();
    if (options.json)
      return print(
        JSON.stringify({
          ...made,
          rounds_per_token: each?.rounds ?? null,
          bytes_per_token: each?.bytes ?? null,
          setup_seconds: speaking.setupSeconds,
          peak_rss: peak,
        }),
      );
    const most = bytesText(Math.max(...Object.values(peak)));
    show(made, `${each ? `${each.rounds} rounds and ${bytesText(each.bytes)} each, ` : ''}${most} of memory in the largest process`);
  } finally {
    await speaking.close();
  }
}

/** Refused before anything is started. */
function promptOf({ tokenizer, prefix, limit }: Speaker, prompt: string): number[] {
  const ids = tokenizer.ids(prompt);
  if (ids.length === 0) throw new UsageError('the prompt is empty');
  if (prefix.length + ids.length >= limit)
    throw new UsageError(`the prompt takes ${ids.length} tokens after ${prefix.length}; the model takes ${limit} with its answer`);
  return ids;
}

/** `onToken` hears of each token, as soon as it is known. */
async function run(speaker: Speaker, decoder: Decoder, ids: readonly number[], options: Options, onToken?: () => void): Promise<Generated> {
  const { tokenizer, eos, prefix } = speaker;
  const constraint = options.schema === undefined ? undefined : await constrain(options.schema, speaker);
  const tokens: number[] = [];
  let text = '';
  const start = performance.now();
  let first = start;
  let ending: Ending;
  try {
    const going = generate(decoder, tokenizer, ids, { ...sampling(options, 1), maxTokens: options.maxTokens, eos, constraint });
    for (;;) {
      const step = await going.next();
      if (tokens.length === 0) first = performance.now();
      onToken?.();
      text += step.value.text;
      if (!options.json) process.stdout.write(step.value.text);
      if (step.done) {
        ending = step.value;
        break;
      }
      tokens.push(step.value.id);
    }
  } catch (e) {
    throw e instanceof RangeError ? new UsageError(e.message) : e;
  } finally {
    constraint?.dispose();
  }
  // The first token comes from the prefill, each other one from a step of its own.
  const per = tokens.length > 1 ? (performance.now() - first) / 1000 / (tokens.length - 1) : null;
  return {
    text,
    tokens,
    prompt_tokens: ids,
    prefix_tokens: prefix,
    finish: ending.reason,
    prefill_seconds: (first - start) / 1000,
    seconds_per_token: per,
  };
}

function show(
  { tokens, prompt_tokens: ids, prefix_tokens: prefix, prefill_seconds: prefill, seconds_per_token: per }: Generated,
  rest: string,
): void {
  print();
  const after = `${ids.length}${prefix.length > 0 ? ` and a prefix of ${prefix.length}` : ''}`;
  say(
    out.dim(
      `  ${plural(tokens.length, 'token')} after ${after}; prompt in ${secondsText(prefill)}${per === null ? '' : `, ${secondsText(per)} a token`}, ${rest}`,
    ),
  );
}
