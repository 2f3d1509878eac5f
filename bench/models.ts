/**
 * Whole models in real processes: two parties, a dealer and this client on one machine, over mutual TLS.
 *
 *   npm run bench:models -- [minilm-32] [minilm-128] [bert-128] [vit] [--weights public|private] [--runs N] [--profile] [--json]
 *
 * Prints the median of N warm runs (default 5) from the client's shares to its answer, bytes and rounds as counted on the links, CPU seconds
 * and memory of each role, and the plaintext model's seconds (this project's interpreter, one thread) in the same run.
 */
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { readCompiled } from '../src/folder/index.ts';
import { fastProducts } from '../src/graph/fast.ts';
import { tensor } from '../src/graph/graph.ts';
import { interpret } from '../src/graph/interpret.ts';
import { type RunStats, startCluster } from '../src/session/cluster.ts';
import { inputsOf, median, type Subject, subjects } from './subjects.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { weights: { type: 'string' }, runs: { type: 'string', default: '5' }, profile: { type: 'boolean' }, json: { type: 'boolean' } },
});
const runs = Number(values.runs);

async function measure(s: Subject, weights: 'public' | 'private'): Promise<object> {
  const dir = s.folder(weights);
  const compiled = readCompiled(dir);
  const { program } = compiled;
  const inputs = inputsOf(program, s.tokens);
  const plain = compiled.plain();
  const tensors = Object.fromEntries(Object.entries(inputs()).map(([k, v]) => [k, tensor(v.data, v.shape)]));
  interpret(plain, tensors);
  const floatSeconds = median(
    Array.from({ length: 3 }, () => {
      const from = performance.now();
      interpret(plain, tensors);
      return (performance.now() - from) / 1000;
    }),
  );
  const cluster = await startCluster(dir, { profile: values.profile ?? false });
  try {
    await cluster.run(inputs());
    await cluster.run(inputs());
    const results: RunStats[] = [];
    for (let i = 0; i < runs; i++) results.push((await cluster.run(inputs())).stats);
    const seconds = results.map((r) => r.seconds);
    const last = results.at(-1)!;
    const total = last.bytes.p0p1 + last.bytes.dealer + last.bytes.client;
    const row = {
      model: s.name,
      weights,
      node: process.version,
      seconds: median(seconds),
      fastest: Math.min(...seconds),
      rounds: last.rounds,
      megabytes: total / 1e6,
      cpu: last.cpu,
      plaintextSeconds: floatSeconds,
      ratio: median(seconds) / floatSeconds,
      rss: await cluster.peakRss(),
      bytes: last.bytes,
    };
    if (!values.json) {
      const cpu = (['p0', 'p1', 'dealer'] as const).map((r) => median(results.map((x) => x.cpu[r])).toFixed(2)).join(' + ');
      const rss = Object.values(row.rss)
        .map((v) => `${Math.round(v / 2 ** 20)}`)
        .join(', ');
      console.log(
        `${s.name.padEnd(11)} ${weights.padEnd(8)} ${row.seconds.toFixed(3)} s (fastest ${row.fastest.toFixed(3)})  ${row.megabytes.toFixed(1).padStart(6)} MB  ${row.rounds} rounds  CPU ${cpu} s  plaintext ${floatSeconds.toFixed(3)} s (×${row.ratio.toFixed(1)})  ${rss} MiB`,
      );
      if (last.profile)
        for (const [role, list] of Object.entries(last.profile))
          console.log(
            `    ${role}: ${list
              .sort((a, b) => b[1] - a[1])
              .slice(0, 8)
              .map(([k, v]) => `${k} ${(1000 * v).toFixed(0)} ms`)
              .join(', ')}`,
          );
    }
    return row;
  } finally {
    await cluster.close();
  }
}

fastProducts();
const wanted = subjects.filter((s) => positionals.length === 0 || positionals.includes(s.name));
if (!values.json) console.log(`Node ${process.version}, ${cpus().length} cores (${cpus()[0]?.model.trim()}), median of ${runs} warm runs`);
const rows = [];
for (const s of wanted) for (const w of s.kinds) if (!values.weights || values.weights === w) rows.push(await measure(s, w));
if (values.json) console.log(JSON.stringify(rows));
