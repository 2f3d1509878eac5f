/** Bodies of requests, checked at the border. What would change an answer and is not done here is refused, never passed over. */
import { z } from 'zod';
import { bad } from './errors.ts';

/** Taken and of no effect: who asks, what is billed or kept elsewhere. */
const nothing = z.unknown().optional();
const ignored = {
  user: nothing,
  store: nothing,
  metadata: nothing,
  service_tier: nothing,
  safety_identifier: nothing,
  prompt_cache_key: nothing,
  prompt_cache_retention: nothing,
  reasoning_effort: nothing,
  verbosity: nothing,
};

const whole = (least: number, most = 2 ** 31 - 1): z.ZodType<number | null | undefined> => z.int().min(least).max(most).nullish();
const between = (low: number, high: number): z.ZodType<number | null | undefined> => z.number().min(low).max(high).nullish();

const sampling = {
  model: z.string(),
  max_tokens: whole(1),
  temperature: between(0, 2),
  top_p: between(0, 1),
  frequency_penalty: between(-2, 2),
  presence_penalty: between(-2, 2),
  logit_bias: z.record(z.string().regex(/^\d{1,9}$/), z.number().min(-100).max(100)).nullish(),
  // Choice i of n is drawn with seed + i.
  seed: z
    .int()
    .max(Number.MAX_SAFE_INTEGER - 16)
    .nullish(),
  stop: z.union([z.string().min(1), z.array(z.string().min(1)).max(16)]).nullish(),
  n: whole(1, 16),
  stream: z.boolean().nullish(),
  stream_options: z.object({ include_usage: z.boolean().nullish() }).nullish(),
  // Not OpenAI's: names that other servers gave them.
  top_k: whole(0, 1 << 24),
  min_p: between(0, 1),
  repetition_penalty: between(0.01, 100),
  ...ignored,
};

const Text = z.union(
  [z.string(), z.array(z.object({ type: z.literal('text'), text: z.string() })).transform((parts) => parts.map((p) => p.text).join(''))],
  { error: 'a text, or a list of parts {"type": "text", "text"}, is expected: models here read text only' },
);

const ToolCall = z.object({
  id: z.string(),
  type: z.literal('function'),
  function: z.object({ name: z.string(), arguments: z.string() }),
});

const MessageSchema = z.discriminatedUnion('role', [
  z.object({ role: z.enum(['system', 'developer', 'user']), content: Text, name: z.string().optional() }),
  z.object({ role: z.literal('assistant'), content: Text.nullish(), name: z.string().optional(), tool_calls: z.array(ToolCall).nullish() }),
  z.object({ role: z.literal('tool'), content: Text, tool_call_id: z.string() }),
]);

const name = z.string().regex(/^[\w.-]{1,64}$/);
const Tool = z.object({
  type: z.literal('function', { error: 'tools are functions here' }),
  function: z.object({
    name,
    description: z.string().optional(),
    parameters: z.record(z.string(), z.unknown()).optional(),
    strict: z.boolean().nullish(),
  }),
});

const Format = z.discriminatedUnion('type', [
  z.object({ type: z.literal('text') }),
  z.object({ type: z.literal('json_object') }),
  z.object({
    type: z.literal('json_schema'),
    json_schema: z.object({
      name: z.string(),
      description: z.string().optional(),
      schema: z.record(z.string(), z.unknown()).optional(),
      strict: z.boolean().nullish(),
    }),
  }),
]);

export const ChatRequest = z.strictObject({
  ...sampling,
  messages: z.array(MessageSchema).min(1),
  max_completion_tokens: whole(1),
  logprobs: z.boolean().nullish(),
  top_logprobs: whole(0, 20),
  response_format: Format.nullish(),
  tools: z.array(Tool).max(128).nullish(),
  tool_choice: z
    .union([z.enum(['none', 'auto', 'required']), z.object({ type: z.literal('function'), function: z.object({ name }) })])
    .nullish(),
  parallel_tool_calls: z.boolean().nullish(),
  modalities: z.tuple([z.literal('text')]).nullish(),
});
export type ChatRequest = z.infer<typeof ChatRequest>;
export type ChatMessage = ChatRequest['messages'][number];
export type Tool = z.infer<typeof Tool>;

const tokens = z.array(z.int().min(0)).min(1);
export const CompletionRequest = z.strictObject({
  ...sampling,
  prompt: z.union([z.string(), tokens, z.array(z.string()).min(1).max(64), z.array(tokens).min(1).max(64)]),
  echo: z.boolean().nullish(),
  logprobs: whole(0, 5),
  best_of: z.int().nullish(),
  suffix: z.null().optional(),
});
export type CompletionRequest = z.infer<typeof CompletionRequest>;

const text = z.string().min(1);
export const EmbeddingRequest = z.strictObject({
  ...ignored,
  model: z.string(),
  input: z.union([text, z.array(text).min(1).max(2048)], {
    error: "a text, or a list of up to 2048 texts, none empty, is expected: token numbers of another model's tokenizer mean nothing here",
  }),
  encoding_format: z.enum(['float', 'base64']).nullish(),
  dimensions: whole(1),
});
export type EmbeddingRequest = z.infer<typeof EmbeddingRequest>;

export type SamplingRequest = Pick<ChatRequest, keyof typeof sampling>;

/** Throws ApiError 400 that names the first field that is wrong. */
export function parse<T>(schema: z.ZodType<T>, body: unknown): T {
  const result = schema.safeParse(body);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const at = issue.path.join('.') || undefined;
  if (issue.code === 'unrecognized_keys')
    throw bad(`Unrecognized request argument supplied: ${issue.keys[0]}`, at ?? issue.keys[0], 'unknown_parameter');
  throw bad(at ? `'${at}': ${issue.message}` : issue.message, at);
}
