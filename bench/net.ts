/**
 * Whole models over networks: two parties, a dealer and a client, each in a network namespace of its own, with the delay and rate of a
 * LAN, of a region, of a WAN. Needs root.
 *
 *   npm run bench:net -- [vit] [minilm-32] [minilm-128] [bert-128] [--network LAN] [--weights public|private] [--runs N]
 *                        [--compiled-for lan|wan] [--congestion cubic] [--tuned] [--json]
 *
 * Prints the median of N warm runs (default 3) from the client's shares to its answer, what `subrosa cost` estimates for it, bytes and
 * rounds as counted on the links, and the plaintext model's seconds. Every role computes on this machine's cores, and the estimate knows.
 */
import { execFileSync, spawn } from 'node:child_process';
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { measure, type Network, networks, workOf } from '../src/cli/estimate.ts';
import { readCompiled } from '../src/folder/index.ts';
import { fastProducts } from '../src/graph/fast.ts';
import { tensor } from '../src/graph/graph.ts';
import { interpret } from '../src/graph/interpret.ts';
import { bind } from '../src/program/bind.ts';
import { simulate } from '../src/program/timing.ts';
import { type RunStats, startCluster } from '../src/session/cluster.ts';
import { missing, Namespaces } from './net/namespaces.ts';
import { inputsOf, median, subjects } from './subjects.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    network: { type: 'string', multiple: true },
    weights: { type: 'string', default: 'public' },
    runs: { type: 'string', default: '3' },
    congestion: { type: 'string' },
    tuned: { type: 'boolean' },
    json: { type: 'boolean' },
    'compiled-for': { type: 'string', default: 'lan' },
    inside: { type: 'string' },
  },
});

/** What the process inside the client's namespace is told, and answers with. */
interface Task {
  readonly dir: string;
  readonly tokens: number;
  readonly runs: number;
  readonly places: Record<string, { host: string; command: string[] }>;
}
interface Measured {
  readonly results: readonly RunStats[];
  readonly plaintext: number;
}

async function inside({ dir, tokens, runs, places }: Task): Promise<Measured> {
  fastProducts();
  const folder = readCompiled(dir);
  const inputs = inputsOf(folder.program, tokens);
  const plain = folder.plain();
  const tensors = Object.fromEntries(Object.entries(inputs()).map(([k, v]) => [k, tensor(v.data, v.shape)]));
  const seconds = [0, 1, 2].map(() => {
    const from = performance.now();
    interpret(plain, tensors);
    return (performance.now() - from) / 1000;
  });
  const cluster = await startCluster(dir, { place: (role) => places[role], timeoutSeconds: 60 });
  try {
    await cluster.run(inputs());
    const results: RunStats[] = [];
    for (let i = 0; i < runs; i++) results.push((await cluster.run(inputs())).stats);
    return { results, plaintext: Math.min(...seconds) };
  } finally {
    await cluster.close();
  }
}

function measured(net: Namespaces, task: Task): Promise<Measured> {
  const [command, ...args] = [
    ...net.at('client'),
    process.execPath,
    ...process.execArgv,
    import.meta.filename,
    '--inside',
    JSON.stringify(task),
  ];
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const kill = (): boolean => child.kill();
  process.once('exit', kill);
  child.once('exit', () => process.off('exit', kill));
  let text = '';
  child.stdout.on('data', (d) => {
    text += d;
  });
  return new Promise((resolve, reject) => {
    child.once('exit', (code) => (code === 0 ? resolve(JSON.parse(text)) : reject(new Error(`the run ended with exit code ${code}`))));
    child.once('error', reject);
  });
}

const roles = ['p0', 'p1', 'dealer'] as const;
const percent = (x: number): string => `${x < 0 ? '−' : '+'}${Math.abs(100 * x).toFixed(0)} %`;

async function over(network: Network): Promise<void> {
  const net = await Namespaces.open([...roles, 'client'], network, { congestion: values.congestion, tuned: values.tuned });
  try {
    for (const s of subjects.filter((s) => (positionals.length === 0 ? ['vit', 'minilm-32', 'bert-128'] : positionals).includes(s.name))) {
      const weights = values.weights as 'public' | 'private';
      const places = Object.fromEntries(roles.map((r) => [r, { host: net.host(r), command: net.at(r) }]));
      const dir = s.folder(weights, values['compiled-for'] as 'lan' | 'wan');
      const { program } = readCompiled(dir);
      const bound = bind(program, Object.fromEntries(Object.keys(program.params).map((name) => [name, s.tokens])));
      const estimate = simulate(workOf(bound, machine, true), network);
      const { results, plaintext } = await measured(net, { dir, tokens: s.tokens, runs: Number(values.runs), places });
      const seconds = results.map((r) => r.seconds);
      const last = results.at(-1)!;
      const row = {
        model: s.name,
        weights,
        network: network.name,
        seconds: median(seconds),
        estimate,
        all: seconds,
        rounds: last.rounds,
        bytes: last.bytes,
        plaintext,
      };
      if (values.json) console.log(JSON.stringify(row));
      else
        console.log(
          [
            s.name.padEnd(11),
            weights.padEnd(8),
            network.name.padEnd(9),
            `${row.seconds.toFixed(3).padStart(7)} s  estimated ${estimate.toFixed(3).padStart(7)} s (${percent(estimate / row.seconds - 1)})`,
            `${((last.bytes.p0p1 + last.bytes.dealer + last.bytes.client) / 1e6).toFixed(1).padStart(6)} MB  ${last.rounds} rounds  plaintext ${plaintext.toFixed(3)} s (×${(row.seconds / plaintext).toFixed(1)})`,
            `runs ${seconds.map((x) => x.toFixed(3)).join(' ')}`,
          ].join('  '),
        );
    }
  } finally {
    net.close();
  }
}

// Whatever ends this process takes the namespaces, and what runs in them, with it.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));
if (values.inside !== undefined) {
  console.log(JSON.stringify(await inside(JSON.parse(values.inside) as Task)));
  process.exit(0);
}
const lacking = missing();
if (lacking) {
  console.error(`bench:net: ${lacking}`);
  process.exit(1);
}
const wanted = networks.filter((n) => !values.network || values.network.includes(n.name));
if (!values.json)
  console.log(
    `Node ${process.version}, ${cpus().length} cores for all roles, delay by ${Namespaces.means}, ${values.congestion ?? execFileSync('sysctl', ['-n', 'net.ipv4.tcp_congestion_control'], { encoding: 'utf8' }).trim()}`,
  );
const machine = measure();
for (const n of wanted) await over(n);
