/** From a conversation to the model's own prompt, by the template that comes with it. */
import { Template } from '@huggingface/jinja';
import { ModelError } from '../../graph/graph.ts';

export interface Message {
  readonly role: string;
  readonly content: string | readonly object[] | null;
  readonly [field: string]: unknown;
}

export interface ChatOptions {
  /** Descriptions of functions, for templates that tell the model of them. */
  readonly tools?: readonly object[];
  /** End with the words that open the model's turn. True unless said. */
  readonly open?: boolean;
  /** How the template may name special tokens. */
  readonly bosToken?: string;
  readonly eosToken?: string;
}

/** The prompt, special tokens written out. Throws ModelError when the template is broken or refuses the conversation. */
export function chatPrompt(template: string, messages: readonly Message[], options: ChatOptions = {}): string {
  try {
    return new Template(template).render({
      messages,
      tools: options.tools ?? null,
      add_generation_prompt: options.open ?? true,
      bos_token: options.bosToken ?? '',
      eos_token: options.eosToken ?? '',
    });
  } catch (e) {
    throw new ModelError(`the chat template cannot render this conversation: ${(e as Error).message.split('\n')[0]}`, { cause: e });
  }
}
