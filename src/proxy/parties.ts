/** Models that run at two parties: what leaves this machine is a share for each. */
import { type ConnectOptions, connect, SubrosaError } from '../client/index.ts';
import { loadTokenizer } from '../client/model.ts';
import { pipeline } from '../client/pipeline.ts';
import type { EmbeddingModel } from './models.ts';

export interface AtParties {
  readonly model: EmbeddingModel;
  /** Ends its sessions. */
  close(): Promise<void>;
}

/** A sentence encoder that both parties serve. Throws SubrosaError. */
export async function encoderAtParties(options: ConnectOptions): Promise<AtParties> {
  const client = await connect(options);
  try {
    const embed = await pipeline('feature-extraction', client);
    const tokenizer = await loadTokenizer(client);
    return {
      model: {
        kind: 'embedding',
        created: Math.floor(Date.now() / 1000),
        maxTokens: embed.model.maxTokens,
        count: (text) => tokenizer.encode(text).ids.length,
        async embed(texts, signal) {
          const { data, dims } = await embed(texts, { signal });
          return texts.map((_, i) => data.subarray(i * dims[1], (i + 1) * dims[1]));
        },
      },
      close: () => client.close(),
    };
  } catch (e) {
    await client.close();
    throw e instanceof SubrosaError && e.code === 'bad-input' ? new SubrosaError('bad-input', `${options.model}: ${e.message}`) : e;
  }
}
