/** From the messages of a request to the prompt of a model. */
import { ModelError } from '../graph/graph.ts';
import { chatPrompt, type Message } from '../tasks/generate/index.ts';
import { bad } from './errors.ts';
import type { TextModel } from './models.ts';
import type { ChatMessage } from './schema.ts';
import type { ToolUse } from './tools.ts';

/** The prompt as the model's template writes it. Throws ApiError. */
export function promptOf(model: TextModel, messages: readonly ChatMessage[], { tools, forced }: ToolUse): string {
  const { chatTemplate, bosToken, eosToken } = model;
  if (chatTemplate === undefined) throw bad('this model has no chat template: it completes texts, at /v1/completions', 'model');
  try {
    const text = chatPrompt(chatTemplate, named(messages), { tools: tools.length > 0 ? tools : undefined, bosToken, eosToken });
    return text + (forced?.begin ?? '');
  } catch (e) {
    throw e instanceof ModelError ? bad(e.message, 'messages') : e;
  }
}

/** As templates expect them: 'system' for 'developer', arguments of calls as objects, names on what tools answered. */
function named(messages: readonly ChatMessage[]): Message[] {
  const names = new Map<string, string>();
  return messages.map((m): Message => {
    if (m.role === 'tool') return { ...m, name: names.get(m.tool_call_id) };
    if (m.role !== 'assistant') return { ...m, role: m.role === 'developer' ? 'system' : m.role };
    for (const call of m.tool_calls ?? []) names.set(call.id, call.function.name);
    const tool_calls = m.tool_calls?.map((c) => ({ ...c, function: { ...c.function, arguments: parsed(c.function.arguments) } }));
    return { role: m.role, content: m.content ?? '', ...(tool_calls?.length ? { tool_calls } : {}) };
  });
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
