/**
 * A language model that goes on from a text, in real processes: two parties, a dealer and this client on one machine, over mutual TLS.
 *
 *   npm run bench:generate -- [MODEL …] [--weights public|private] [--tokens N] [--sequences N] [--profile] [--json]
 *
 * MODEL: what 'subrosa compile' wrote; smollm2's folders in .subrosa/compiled unless told. Prefill (64 tokens) and decode apart, warm: the
 * median of three prefills and of N tokens (default 24), bytes and rounds as counted on the links, memory of each role, and the plaintext
 * interpreter's seconds (one thread) for the same tokens in the same run. Then several sequences (default 4) that step together, a token each.
 */
import { existsSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { readCompiled } from '../src/folder/index.ts';
import { fastProducts } from '../src/graph/fast.ts';
import { type RunStats, startCluster } from '../src/session/cluster.ts';
import { Batch, type Decoder, limitsOf, plainDecoder, prefixCaches } from '../src/tasks/generate/index.ts';
import { median } from './subjects.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    weights: { type: 'string' },
    tokens: { type: 'string', default: '24' },
    sequences: { type: 'string', default: '4' },
    profile: { type: 'boolean' },
    json: { type: 'boolean' },
  },
});
const tokens = Number(values.tokens);
const sequences = Number(values.sequences);
const prefills = 3;

const compiled = join(import.meta.dirname, '..', '.subrosa', 'compiled');
const usual = ['smollm2-public', 'smollm2-private-client-embedding'].map((name) => join(compiled, name));
const wanted = (positionals.length > 0 ? positionals : usual).filter((dir) => !values.weights || readWeights(dir) === values.weights);

function readWeights(dir: string): string {
  if (!existsSync(dir))
    throw new Error(
      `${dir} is not there yet: node bin/subrosa.js pull smollm2; node bin/subrosa.js compile smollm2${dir.includes('private') ? ' --weights private --client-embedding' : ''} -o ${dir}`,
    );
  return readCompiled(dir).program.weights;
}

/** Seconds of each. Ids at random: what a step takes does not depend on them. */
async function timed(decoder: Decoder, vocabulary: number, n: number): Promise<number> {
  const ids = Array.from({ length: n }, () => Math.floor(vocabulary * Math.random()));
  const from = performance.now();
  await decoder.step(ids);
  return (performance.now() - from) / 1000;
}

async function times(count: number, f: () => Promise<number>): Promise<number[]> {
  const list: number[] = [];
  for (let i = 0; i < count; i++) list.push(await f());
  return list;
}

interface Row {
  readonly model: string;
  readonly weights: string;
  readonly node: string;
  readonly prompt: number;
  readonly prefill: ReturnType<typeof spent>;
  readonly decode: ReturnType<typeof spent>;
  readonly batched: ReturnType<typeof spent>;
  /** Seconds of the interpreter. */
  readonly plaintext: { readonly prefill: number; readonly decode: number };
  readonly rss: Readonly<Record<string, number>>;
}

function spent(steps: readonly RunStats[], seconds: readonly number[]) {
  const last = steps[steps.length - 1];
  return {
    seconds: median(seconds),
    fastest: Math.min(...seconds),
    rounds: last.rounds,
    bytes: last.bytes,
    cpu: last.cpu,
    profile: last.profile,
  };
}

async function measure(dir: string): Promise<Row> {
  const folder = readCompiled(dir);
  const { client, program } = folder;
  const { generation } = client;
  if (!generation) throw new Error(`${dir} holds no language model`);
  const vocabulary = client.after.inputs[0].shape[1] as number;
  const model = { graph: folder.plain(), client, meta: { maxTokens: client.maxTokens } };
  const caches = prefixCaches(model, generation.prefix);
  const limits = limitsOf(program.params);
  const prompt = Math.min(64, limits.n);
  const plain = plainDecoder(model, caches);
  await timed(plain, vocabulary, 1);
  const plaintext = {
    prefill: await timed(plainDecoder(model, caches), vocabulary, prompt),
    decode: median(await times(8, () => timed(plain, vocabulary, 1))),
  };
  const cluster = await startCluster(dir, { profile: values.profile ?? false, timeoutSeconds: 60 });
  try {
    const steps: RunStats[] = [];
    const batch = new Batch(
      async (inputs, params) => {
        const { outputs, stats } = await cluster.run(inputs, params);
        steps.push(stats);
        return outputs;
      },
      client,
      limits,
    );
    const decoder = batch.decoder();
    const anew = (): Promise<number> => {
      decoder.rewind(limits.prefix);
      return timed(decoder, vocabulary, prompt);
    };
    await anew();
    const prefill = spent(steps, await times(prefills, anew));
    await timed(decoder, vocabulary, 1);
    const decode = spent(steps, await times(tokens, () => timed(decoder, vocabulary, 1)));
    const others = Array.from({ length: sequences - 1 }, () => batch.decoder());
    const all = [decoder, ...others];
    await Promise.all(all.map((d) => timed(d, vocabulary, 1)));
    const together = async (): Promise<number> => Math.max(...(await Promise.all(all.map((d) => timed(d, vocabulary, 1)))));
    const batched = spent(steps, await times(tokens, together));
    const row: Row = {
      model: client.name,
      weights: program.weights,
      node: process.version,
      prompt,
      prefill,
      decode,
      batched,
      plaintext,
      rss: await cluster.peakRss(),
    };
    if (!values.json) show(row);
    return row;
  } finally {
    await cluster.close();
  }
}

function show({ model, weights, prompt, prefill, decode, batched, plaintext, rss }: Row): void {
  console.log(`${model}, ${weights} weights`);
  const line = (name: string, s: typeof prefill, float: number): void => {
    const cpu = Object.values(s.cpu)
      .map((v) => v.toFixed(2))
      .join(' + ');
    const megabytes = ((s.bytes.p0p1 + s.bytes.dealer + s.bytes.client) / 1e6).toFixed(1);
    console.log(
      `  ${name.padEnd(22)} ${s.seconds.toFixed(3)} s (fastest ${s.fastest.toFixed(3)})  ${megabytes} MB  ${s.rounds} rounds  CPU ${cpu} s  plaintext ${float.toFixed(3)} s (×${(s.seconds / float).toFixed(1)})`,
    );
    for (const [role, list] of Object.entries(s.profile ?? {}))
      console.log(
        `    ${role}: ${[...list]
          .sort((a, b) => b[1] - a[1])
          .slice(0, 8)
          .map(([k, v]) => `${k} ${(1000 * v).toFixed(0)} ms`)
          .join(', ')}`,
      );
  };
  line(`prefill of ${prompt}`, prefill, plaintext.prefill);
  line('decode, a token', decode, plaintext.decode);
  const memory = Object.entries(rss).map(([role, bytes]) => `${role} ${Math.round(bytes / 2 ** 20)}`);
  line(`${sequences} together, a token each`, batched, sequences * plaintext.decode);
  console.log(
    `  ${(1 / decode.seconds).toFixed(2)} tokens a second, ${(sequences / batched.seconds).toFixed(2)} of ${sequences} sequences; ${memory.join(', ')} MiB`,
  );
}

fastProducts();
if (!values.json) console.log(`Node ${process.version}, ${cpus().length} cores (${cpus()[0]?.model.trim()})`);
const rows: Row[] = [];
for (const dir of wanted) rows.push(await measure(dir));
if (values.json) console.log(JSON.stringify(rows));
