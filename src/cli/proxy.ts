/** subrosa proxy: OpenAI's API on this machine, private models behind it. */
import type { CompiledFolder } from '../folder/index.ts';
import { fastProducts } from '../graph/fast.ts';
import { generates } from '../import/families/index.ts';
import type { Language } from '../import/language.ts';
import { LinkError } from '../net/link.ts';
import { openaiApi } from '../proxy/app.ts';
import { listen } from '../proxy/listen.ts';
import type { EmbeddingModel, TextModel } from '../proxy/models.ts';
import { modelAtParties } from '../proxy/parties.ts';
import { plainEncoder, plainText } from '../proxy/plain.ts';
import { makeTokenizer } from '../tasks/text.ts';
import { loadTokenizer } from '../tasks/text-file.ts';
import { type BuildOptions, compiledOf } from './compiled.ts';
import { kernelBytes, loadLanguage, prefixOf } from './language.ts';
import { locate } from './locate.ts';
import { readSource } from './source.ts';
import { err, print, progress, say, UsageError } from './terminal.ts';
import { LocalRoles } from './up.ts';

interface Options extends Pick<BuildOptions, 'embedding' | 'clientEmbedding'> {
  readonly host: string;
  readonly port: number;
  readonly plain?: boolean;
  readonly weights: 'public' | 'private';
  /** Rows of a sequence that language models are compiled for. */
  readonly context?: number;
  readonly parties?: readonly [string, string];
  readonly model?: readonly string[];
  readonly token?: string;
  readonly insecure?: boolean;
  readonly apiKey?: readonly string[];
  readonly json?: boolean;
}

const loopback = /^(localhost|127\.\d+\.\d+\.\d+|::1)$/;

export async function proxyCommand(names: readonly string[], options: Options): Promise<void> {
  const { host, port, apiKey: apiKeys } = options;
  check(names, options);
  const models = new Map<string, TextModel | EmbeddingModel>();
  const closing: (() => Promise<void> | void)[] = [];
  const failures: Promise<never>[] = [];
  const ended = new Promise<void>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => resolve());
  });
  const until = <T>(started: Promise<T>): Promise<T | undefined> => Promise.race([started, ended.then(() => undefined)]);
  try {
    if (options.plain) for (const name of names) models.set(...plainModel(name));
    else if (names.length > 0) {
      const folders: CompiledFolder[] = [];
      for (const name of names) folders.push(await servable(name, options));
      const cluster = new LocalRoles();
      closing.push(() => cluster.close());
      failures.push(cluster.failed);
      const parties = await until(Promise.race([cluster.start(folders, []), cluster.failed]));
      if (!parties) return;
      for (const { program } of folders) await remote(program.name, parties);
    }
    for (const name of options.model ?? []) await remote(name, options.parties as [string, string]);
    const open = !loopback.test(host);
    const proxy = openaiApi({
      models,
      apiKeys,
      hosts: open ? () => true : undefined,
      onError: (e) => say(`proxy: ${(e as Error).message}`),
    });
    closing.push(() => proxy.close());
    const listener = await listen(proxy.app, host.includes(':') ? `[${host}]` : host, port).catch((e) => {
      throw e instanceof LinkError && e.code === 'port-in-use' ? new UsageError(`port ${port} is in use`, 'give another --port') : e;
    });
    closing.unshift(() => listener.close(1));
    ready(`http://${listener.address}/v1`, [...models.keys()], options);
    await Promise.race([ended, ...failures]);
  } finally {
    for (const close of closing) await close();
  }

  async function remote(name: string, parties: readonly [string, string]): Promise<void> {
    const { model, close } = await modelAtParties({ parties, model: name, token: options.token, insecure: options.insecure });
    closing.unshift(close);
    models.set(name, model);
  }
}

function check(names: readonly string[], { host, plain, parties, model, apiKey }: Options): void {
  if (parties && !model?.length) throw new UsageError('--parties without a --model', 'name what they serve: --model NAME');
  if (model?.length && !parties) throw new UsageError('--model without --parties', 'a model on this machine is named without an option');
  if (names.length === 0 && !parties)
    throw new UsageError(
      'no model to serve',
      'subrosa proxy minilm',
      'subrosa proxy --parties https://p0.example.org,https://p1.example.org --model minilm',
    );
  if (plain && parties) throw new UsageError('--plain is for models on this machine', 'leave --plain out, or --parties');
  if (!loopback.test(host) && !apiKey?.length)
    throw new UsageError(`${host} can be reached by others: a key is needed`, '--api-key KEY, or SUBROSA_API_KEY in the environment');
}

function ready(url: string, models: readonly string[], { json, plain, host }: Options): void {
  if (!loopback.test(host)) say(`prompts and answers travel to ${host} in the clear: put a server with TLS in front`);
  if (json) {
    print(JSON.stringify({ url, models }));
    return;
  }
  print(`base URL  ${err.bold(url)}`);
  print(`models    ${models.join(', ')}`);
  say(err.dim(`${plain ? 'in plaintext, in this process. ' : ''}Ctrl-C ends it`));
}

function plainModel(name: string): [string, TextModel | EmbeddingModel] {
  const at = locate(name);
  if (at.kind === 'compiled') throw new UsageError(`${at.dir} was compiled to run privately`, 'leave --plain out');
  if (at.kind === 'gguf' || (at.kind === 'folder' && generates(at.dir))) {
    const language = loadLanguage(name);
    const line = progress(`preparing ${name}`);
    line.update('the public prefix');
    try {
      return [at.name, plainLanguage(language, name)];
    } finally {
      line.done();
    }
  }
  const source = readSource(at);
  if (source.info.task !== 'sentence-embedding' || source.tokenizerDir === undefined) throw unserved(name, source.info.task);
  fastProducts();
  return [at.name, plainEncoder(source, loadTokenizer(source.tokenizerDir))];
}

function plainLanguage(language: Language, name: string): TextModel {
  const tokenizer = makeTokenizer(language.tokenizer, language.tokenizerConfig, `${name}: its tokenizer`);
  fastProducts(kernelBytes(language));
  return plainText(language, tokenizer, prefixOf(language, tokenizer, undefined));
}

async function servable(name: string, { weights, context, embedding, clientEmbedding }: Options): Promise<CompiledFolder> {
  const folder = await compiledOf(name, { weights, maxTokens: context, embedding, clientEmbedding });
  if (!tasks.includes(folder.client.task)) throw unserved(name, folder.client.task);
  return folder;
}
const tasks = ['sentence-embedding', 'text-generation'];

const unserved = (name: string, task: string): UsageError =>
  new UsageError(`${name} is for ${task}`, "OpenAI's API has text and embeddings: a language model, or a sentence encoder, is expected");
