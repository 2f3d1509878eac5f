/**
 * Functions a model may ask for. The model's template tells it of them; how it asks is text: `<tool_call>{"name", "arguments"}</tool_call>`
 * (Hermes, Qwen, SmolLM2), or an answer that is such an object and nothing else (LLaMA 3).
 */
import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import { bad } from './errors.ts';
import type { TextModel } from './models.ts';
import type { ChatRequest, Tool } from './schema.ts';

export interface ToolCall {
  readonly id: string;
  readonly type: 'function';
  readonly function: { readonly name: string; readonly arguments: string };
}

const opening = '<tool_call>';
const closing = '</tool_call>';

export interface ToolUse {
  /** What the template is given. */
  readonly tools: readonly Tool[];
  /** Names that may be called; none: text is text. */
  readonly names: ReadonlySet<string>;
  /** A call must come: the prompt ends with `begin`, and the model goes on with JSON of this schema. */
  readonly forced?: { readonly begin: string; readonly schema: object };
  /** At most so many calls. */
  readonly most: number;
}

/** Throws ApiError for what this model's template has no way to say. */
export function toolUse(model: TextModel, r: ChatRequest): ToolUse {
  const choice = r.tool_choice ?? 'auto';
  const tools = choice === 'none' ? [] : (r.tools ?? []);
  const named = typeof choice === 'object' ? choice.function.name : undefined;
  if (tools.length === 0 && (choice === 'required' || named !== undefined)) throw bad("'tool_choice': there are no tools", 'tool_choice');
  if (tools.length > 0 && !/\btools\b/.test(model.chatTemplate ?? ''))
    throw bad("'tools': this model's chat template has no place for them", 'tools');
  const wanted = named === undefined ? tools : tools.filter((t) => t.function.name === named);
  if (named !== undefined && wanted.length === 0) throw bad(`'tool_choice': there is no tool '${named}'`, 'tool_choice');
  const most = r.parallel_tool_calls === false ? 1 : Number.POSITIVE_INFINITY;
  const use = { tools, names: new Set(tools.map((t) => t.function.name)), most };
  if (choice === 'auto' || choice === 'none') return use;
  if (!model.chatTemplate?.includes(opening))
    throw bad("'tool_choice': this model's chat template does not say how a call begins, so that none can be required", 'tool_choice');
  if (r.response_format && r.response_format.type !== 'text')
    throw bad("'response_format': a call that is required has a format of its own", 'response_format');
  const calls = wanted.map(({ function: f }) => ({
    type: 'object',
    properties: { name: { const: f.name }, arguments: f.parameters ?? { type: 'object', additionalProperties: true } },
    required: ['name', 'arguments'],
  }));
  return { ...use, forced: { begin: `${opening}\n`, schema: calls.length === 1 ? calls[0] : { anyOf: calls } } };
}

const Call = z.object({ name: z.string(), arguments: z.unknown().optional(), parameters: z.unknown().optional() });

/** The calls that JSON text asks for; undefined where it asks for none. */
function callsIn(text: string): ToolCall[] | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  const found = z.array(Call).min(1).safeParse([value].flat());
  return found.data?.map((c) => {
    const given = c.arguments ?? c.parameters ?? {};
    const args = typeof given === 'string' ? given : JSON.stringify(given);
    return { id: `call_${randomUUID().replaceAll('-', '')}`, type: 'function', function: { name: c.name, arguments: args } };
  });
}

/** Tells calls from text while it comes: what may be part of a call, and blanks before one, are held back. */
export class ToolReader {
  private text: string;
  private given = 0;

  constructor(private readonly use: ToolUse) {
    this.text = use.forced?.begin ?? '';
  }

  /** The text that is certainly none of a call. */
  push(text: string): string {
    if (this.use.names.size === 0) return text;
    this.text += text;
    if (/^\s*\{/.test(this.text)) return '';
    const at = this.text.indexOf(opening);
    const before = at >= 0 ? this.text.slice(0, at) : this.text.slice(0, this.text.length - begun(this.text));
    const out = before.trimEnd().slice(this.given);
    this.given += out.length;
    return out;
  }

  /** Calls, or the rest of the text. */
  end(): { readonly text: string; readonly calls: readonly ToolCall[] } {
    const { names, forced, most } = this.use;
    const rest = { text: this.text.slice(Math.max(this.given, forced?.begin.length ?? 0)), calls: [] };
    if (names.size === 0) return rest;
    const blocks = this.text.split(opening).slice(1);
    if (blocks.length > 0) {
      const calls = blocks.map((b) => callsIn(b.split(closing)[0]));
      // A call that was cut off, or is no JSON, is what it is: text.
      return calls.includes(undefined) ? rest : { text: '', calls: calls.flatMap((c) => c ?? []).slice(0, most) };
    }
    const bare = callsIn(this.text);
    return bare?.every((c) => names.has(c.function.name)) ? { text: '', calls: bare.slice(0, most) } : rest;
  }
}

/** How much of the text's end may be the beginning of a call. */
function begun(text: string): number {
  for (let n = opening.length - 1; n > 0; n--) if (text.endsWith(opening.slice(0, n))) return n;
  return 0;
}
