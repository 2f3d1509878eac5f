/** A proxy on a port of its own, in this process, with small models behind it: for tests of what OpenAI's clients get from it. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { importLanguage, type Language } from '../src/import/language.ts';
import { openaiApi, type ProxyOptions } from '../src/proxy/app.ts';
import { listen } from '../src/proxy/listen.ts';
import type { EmbeddingModel, TextModel } from '../src/proxy/models.ts';
import { modelAtParties } from '../src/proxy/parties.ts';
import { plainText } from '../src/proxy/plain.ts';
import { Net } from '../src/server/net.case.ts';
import { makeTokenizer } from '../src/tasks/text.ts';
import { taskModel } from './tasks.ts';
import { tinyLanguage } from './tiny-language.ts';

/** Qwen's way to write turns, tools and calls, as far as a tiny vocabulary goes. */
export const template =
  '{%- if tools %}<|user|>Tools:{% for t in tools %} {{ t.function.name }}{% endfor %} in <tool_call><|end|>{% endif -%}{% for m in messages %}<|user|>{{ m.role }}:{{ m.content }}{% for c in m.tool_calls or [] %}<tool_call>{{ c.function.arguments.city }}</tool_call>{% endfor %}{% if m.name %}({{ m.name }}){% endif %}<|end|>{% endfor %}{% if add_generation_prompt %}<|user|>assistant:{% endif %}';

export function language(chat: string | undefined = template): Language {
  const dir = mkdtempSync(join(tmpdir(), 'subrosa-proxy-'));
  try {
    const file = join(dir, 'tiny.gguf');
    writeFileSync(file, tinyLanguage(chat ? [['tokenizer.chat_template', chat]] : []));
    return importLanguage(file);
  } finally {
    rmSync(dir, { recursive: true });
  }
}

/** Says what it is told to, whatever it is asked, and remembers what it was given. */
export interface Scripted extends TextModel {
  say(text: string): void;
  /** What each step of each sequence was given. */
  readonly given: number[][];
  /** Sequences opened, and closed again. */
  readonly opened: { count: number; closed: number };
  /** Milliseconds a step takes. */
  slow: number;
  /** What the next step throws. */
  fail?: Error;
}

export function scripted(base: TextModel): Scripted {
  let script: number[] = [];
  const given: number[][] = [];
  const opened = { count: 0, closed: 0 };
  let at = 0;
  const model: Scripted = {
    ...base,
    given,
    opened,
    slow: 0,
    room: 4096,
    bytesPerToken: 1,
    say(text) {
      script = base.tokenizer.ids(text);
      at = 0;
    },
    open() {
      opened.count++;
      at = 0;
      let length = 0;
      return {
        limit: 4096,
        get length() {
          return length;
        },
        async step(ids, signal) {
          await new Promise((resolve) => setTimeout(resolve, model.slow));
          signal?.throwIfAborted();
          if (model.fail) throw model.fail;
          given.push([...ids]);
          length += ids.length;
          const next = script[at++] ?? base.eos[0];
          return Float32Array.from(base.tokenizer.vocabulary(), (_, id) => (id === next ? 30 : (id * 7) % 11));
        },
        close() {
          opened.closed++;
        },
      };
    },
  };
  return model;
}

export interface Served {
  readonly url: string;
  readonly talker: Scripted;
  readonly tiny: TextModel;
  /** The parties' side of 'encoder'. */
  readonly net: Net;
  readonly faults: unknown[];
  close(): Promise<void>;
}

/** Models: 'tiny' (a plain decoder), 'bare' (the same without a template), 'talker' (scripted), 'encoder' (at two parties). */
export async function serve(options: Omit<Partial<ProxyOptions>, 'models'> = {}): Promise<Served> {
  const l = language();
  const tokenizer = makeTokenizer(l.tokenizer, l.tokenizerConfig);
  const tiny = plainText(l, tokenizer, [0]);
  const talker = scripted(tiny);
  const served = taskModel('sentence-embedding');
  const net = new Net({ served });
  const parties = ['https://p0.test', 'https://p1.test'] as const;
  const encoder = await modelAtParties({ parties, model: served.program.name, token: 'token-a', fetch: net.fetch });
  const faults: unknown[] = [];
  const models = new Map<string, TextModel | EmbeddingModel>([
    ['tiny', tiny],
    ['bare', { ...tiny, chatTemplate: undefined }],
    ['talker', talker],
    ['owner/encoder', encoder.model],
  ]);
  const proxy = openaiApi({ models, onError: (e) => faults.push(e), ...options });
  const listener = await listen(proxy.app, '127.0.0.1', 0);
  return {
    url: `http://${listener.address}/v1`,
    talker,
    tiny,
    net,
    faults,
    async close() {
      await listener.close(0);
      proxy.close();
      await encoder.close();
    },
  };
}
