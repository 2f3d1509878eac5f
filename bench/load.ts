/**
 * Embeddings a second and how long each takes, with 1, 4, 16 and 64 clients at once: three services as an operator starts them, clients that ask
 * again as soon as they are answered, every answer compared with the plaintext model's.
 *
 *     npm run bench:load -- [--tokens 32] [--clients 1,4,16,64] [--lanes 1,2,3] [--seconds 6] [--weights public]
 *
 * Everything shares this machine: on two cores the three roles and the clients compete for them.
 */
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { availableParallelism, cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { connect } from '../src/client/connect.ts';
import type { ClientInputs } from '../src/client/share.ts';
import { type Protected, protect, readCompiled } from '../src/folder/index.ts';
import { fastProducts } from '../src/graph/fast.ts';
import { interpret } from '../src/graph/interpret.ts';
import type { Role } from '../src/runtime/model.ts';
import { cosine, programInputs } from '../src/tasks/encoded.ts';
import { Random } from '../test/faults/random.ts';
import { roles, Services } from '../test/services.ts';

interface Question {
  readonly inputs: ClientInputs;
  readonly plain: ArrayLike<number>;
}
interface Figures {
  readonly rate: number;
  readonly p50: number;
  readonly p95: number;
  readonly furthest: number;
}

const { values } = parseArgs({
  options: {
    tokens: { type: 'string', default: '32' },
    clients: { type: 'string', default: '1,4,16,64' },
    lanes: { type: 'string', default: '1,2,3' },
    seconds: { type: 'string', default: '6' },
    weights: { type: 'string', default: 'public' },
  },
});
const numbers = (list: string): number[] => list.split(',').map(Number);
const [tokens, seconds] = [Number(values.tokens), Number(values.seconds)];
const output = 'sentence_embedding';
/** Least cosine of an answer to the plaintext model's. */
const nearest = 0.9999;

const suffix = values.weights === 'private' ? '-client-embedding' : '';
const dir = fileURLToPath(new URL(`../.subrosa/compiled/minilm-${values.weights}${suffix}`, import.meta.url));
if (!existsSync(dir)) {
  console.error(`${dir} is not there: node bin/subrosa.js pull minilm; node bin/subrosa.js compile minilm -o ${dir}`);
  process.exit(2);
}
const home = mkdtempSync(join(tmpdir(), 'subrosa-load-'));
process.once('exit', () => rmSync(home, { recursive: true, force: true }));
fastProducts();
const folder = readCompiled(dir);
const parts = protect(folder, join(home, 'parts'));
const questions = asked(12);

/** Sentences of random words, and what the model makes of them in the clear. */
function asked(count: number): Question[] {
  const random = new Random(1);
  const { client } = folder;
  const plain = folder.plain();
  return Array.from({ length: count }, () => {
    const ids = [101, ...Array.from({ length: tokens - 2 }, () => random.int(2000, 20_000)), 102];
    const inputs = programInputs(client, { ids, types: ids.map(() => 0), tokens: [], cut: 0 });
    const given = Object.fromEntries(
      Object.entries(inputs).map(([name, t]) => [name, { shape: [...t.shape], data: Float32Array.from(t.data) }]),
    );
    return { inputs: given, plain: interpret(plain, inputs)[output].data };
  });
}

async function measure(services: Services, model: Protected, clients: number): Promise<Figures> {
  const all = await Promise.all(
    Array.from({ length: clients }, () => connect({ parties: services.parties, model: model.hash, retries: 0 })),
  );
  const times: number[] = [];
  let furthest = 1;
  let next = 0;
  const one = async (client: (typeof all)[number]): Promise<void> => {
    const { inputs, plain } = questions[next++ % questions.length];
    const at = performance.now();
    const { [output]: got } = await client.run(inputs);
    times.push(performance.now() - at);
    furthest = Math.min(furthest, cosine(got.data, plain));
    if (furthest < nearest) throw new Error(`an answer has a cosine of ${furthest} to the plaintext model's`);
  };
  // Sessions are opened, models loaded and lanes warm before the clock starts.
  await Promise.all(all.map(one));
  times.length = 0;
  const from = performance.now();
  const until = from + 1000 * seconds;
  // Everyone is answered once at least, however long the queue is.
  await Promise.all(
    all.map(async (client) => {
      do await one(client);
      while (performance.now() < until);
    }),
  );
  const took = (performance.now() - from) / 1000;
  await Promise.all(all.map((c) => c.close()));
  times.sort((a, b) => a - b);
  const at = (q: number): number => times[Math.min(times.length - 1, Math.floor(q * times.length))];
  return { rate: times.length / took, p50: at(0.5), p95: at(0.95), furthest };
}

console.log(
  `MiniLM, ${tokens} tokens, ${values.weights} weights; ${availableParallelism()} cores of ${cpus()[0]?.model}, Node ${process.version}, load before ${loadavg()[0].toFixed(1)}`,
);
const table = new Table({
  head: ['lanes', 'clients', 'a second', 'p50 ms', 'p95 ms', 'least cosine'],
  style: { head: [], border: [] },
  colAligns: new Array<'right'>(6).fill('right'),
});
for (const lanes of numbers(values.lanes)) {
  const models = Object.fromEntries(
    roles.map((role) => {
      const at = join(home, `${role}-${lanes}`);
      mkdirSync(at);
      cpSync(parts.roles[role].dir, join(at, parts.hash), { recursive: true });
      return [role, at];
    }),
  ) as Record<Role, string>;
  const services = await Services.make({ models, more: () => ({ limits: { lanes }, log: { level: 'warn' } }) });
  try {
    for (const role of roles) services.start(role);
    for (const role of roles) {
      const ready = (): Promise<boolean> =>
        services.get(role, '/readyz').then(
          (r) => r.status === 200,
          () => false,
        );
      while (!(await ready())) await new Promise((resolve) => setTimeout(resolve, 50));
    }
    for (const clients of numbers(values.clients)) {
      const { rate, p50, p95, furthest } = await measure(services, parts, clients);
      table.push([lanes, clients, rate.toFixed(2), Math.round(p50), Math.round(p95), furthest.toFixed(6)]);
    }
  } finally {
    await services.close();
  }
}
console.log(table.toString());
