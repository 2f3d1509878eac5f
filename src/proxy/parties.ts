/** Models that run at two parties: what leaves this machine is a share for each. */
import { type Client, type ConnectOptions, connect, SubrosaError } from '../client/index.ts';
import { type ClientModel, loadModel, loadTokenizer } from '../client/model.ts';
import { pipeline } from '../client/pipeline.ts';
import { Batch, limitsOf } from '../tasks/generate/index.ts';
import { type EmbeddingModel, type TextModel, textModel } from './models.ts';

export interface AtParties {
  readonly model: TextModel | EmbeddingModel;
  /** Ends its sessions. */
  close(): Promise<void>;
}

/** A language model or a sentence encoder that both parties serve. Throws SubrosaError. */
export async function modelAtParties(options: ConnectOptions): Promise<AtParties> {
  const client = await connect(options);
  try {
    const loaded = await loadModel(client);
    const model = loaded.generation ? await language(client, loaded) : await encoder(client, loaded);
    return { model, close: () => client.close() };
  } catch (e) {
    await client.close();
    throw e;
  }
}

async function language(client: Client, { generation, maxTokens, before, after }: ClientModel): Promise<TextModel> {
  const limits = limitsOf(client.manifest.params);
  // Texts that are made at the same time are sequences of one session, as many as it takes.
  const sessions: { readonly session: Client; readonly batch: Batch }[] = [];
  const file = async (name: string): Promise<object> => JSON.parse(new TextDecoder().decode(await client.file(name))) as object;
  const config = 'tokenizer_config.json';
  return {
    ...textModel({
      tokenizer: await loadTokenizer(client),
      tokenizerJson: await file('tokenizer.json'),
      tokenizerConfig: Object.hasOwn(client.manifest.files, config) ? await file(config) : {},
      generation: generation as NonNullable<typeof generation>,
      maxTokens: Math.min(maxTokens, limits.keys),
      after,
    }),
    // The caches are the parties', who make room for a whole sequence each time.
    bytesPerToken: 0,
    open() {
      let at = sessions.find(({ batch }) => batch.size < limits.sequences);
      if (!at) {
        const session = client.session();
        const run: ConstructorParameters<typeof Batch>[0] = (inputs, params, signal) => session.run(inputs, { params, signal });
        at = { session, batch: new Batch(run, { before, after }, limits) };
        sessions.push(at);
      }
      const { session, batch } = at;
      const decoder = batch.decoder();
      const leave = decoder.close;
      return Object.assign(decoder, {
        close: async () => {
          leave();
          if (batch.size > 0 || !sessions.includes(at)) return;
          sessions.splice(sessions.indexOf(at), 1);
          await session.close();
        },
      });
    },
  };
}

async function encoder(client: Client, { name, task, maxTokens }: ClientModel): Promise<EmbeddingModel> {
  if (task !== 'sentence-embedding')
    throw new SubrosaError('bad-input', `${name} is for ${task}: a language model, or a sentence encoder, is expected`);
  const embed = await pipeline('feature-extraction', client);
  const tokenizer = await loadTokenizer(client);
  return {
    kind: 'embedding',
    created: Math.floor(Date.now() / 1000),
    maxTokens,
    count: (text) => tokenizer.encode(text).ids.length,
    async embed(texts, signal) {
      const { data, dims } = await embed(texts, { signal });
      return texts.map((_, i) => data.subarray(i * dims[1], (i + 1) * dims[1]));
    },
  };
}
