/**
 * Answers a second when several sessions ask at once, by the number of lanes: three roles as processes over mutual TLS, this process the clients.
 *
 *     node --import tsx bench/lanes.ts [COMPILED FOLDER] [--n 32] [--lanes 1,2,3] [--sessions 6] [--seconds 8] [--delay MS] [--repeats 2]
 *
 * `--delay`: milliseconds that every message between the parties is kept back, so a round costs as many. Runs of different lanes take turns.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { readCompiled, weightSource } from '../src/folder/index.ts';
import { type Identity, makeIdentity } from '../src/net/keys.ts';
import type { Frame, Link } from '../src/net/link.ts';
import { dial, listen, type Peer } from '../src/net/tls.ts';
import { check } from '../src/program/check.ts';
import { checkedKernels } from '../src/ring/kernels/check.ts';
import { newMemory } from '../src/ring/kernels/memory.ts';
import { loadModel, type Role } from '../src/runtime/model.ts';
import { ClientSession } from '../src/session/client.ts';
import { DealerHost } from '../src/session/dealer.ts';
import { PartyHost } from '../src/session/party.ts';
import { oneModel } from '../src/session/store.ts';

interface Setup {
  role: Role;
  dir: string;
  identity: Identity;
  peers: Peer[];
  lanes: number;
  delay: number;
}
type Ports = Record<string, number>;

const host = '127.0.0.1';
const roles = ['p0', 'p1', 'dealer'] as const;

/** What comes over the link is delivered `ms` later, in order. */
function delayed(link: Link, ms: number): Link {
  let deliver: (f: Frame) => void = () => {};
  link.onFrame = (f) => {
    const kept = { ...f, payload: f.payload.slice() };
    setTimeout(() => deliver(kept), ms);
  };
  return {
    peer: link.peer,
    counters: link.counters,
    send: (...a) => link.send(...a),
    pause: () => link.pause(),
    resume: () => link.resume(),
    awaiting: (on) => link.awaiting(on),
    close: () => link.close(),
    get onFrame() {
      return deliver;
    },
    set onFrame(f) {
      deliver = f;
    },
    get onDrain() {
      return link.onDrain;
    },
    set onDrain(f) {
      link.onDrain = f;
    },
    get onClose() {
      return link.onClose;
    },
    set onClose(f) {
      link.onClose = f;
    },
  };
}

async function work({ role, dir, identity, peers, lanes, delay }: Setup): Promise<void> {
  const { program, hash } = readCompiled(dir);
  check(program);
  const models = oneModel(hash, loadModel(program, role, checkedKernels(newMemory(2 ** 32 - 2 ** 16)), weightSource(dir, role)));
  const common = { models, spki: ['bench', 'bench'] as const, limits: { lanes } };
  const dealer = role === 'dealer' ? new DealerHost(common) : undefined;
  const party = dealer ? undefined : new PartyHost({ ...common, index: role === 'p0' ? 0 : 1 });
  const slow = (link: Link): Link => (delay > 0 ? delayed(link, delay) : link);
  const { port } = await listen({ host, port: 0, identity, peers }, (link) => {
    if (dealer) dealer.connect(link.peer === 'p0' ? 0 : 1, link);
    else if (link.peer === 'client') party!.connectClient(link);
    else party!.connectPeer(slow(link));
  });
  process.once('message', async (ports: Ports) => {
    const call = (name: string): Promise<Link> => dial({ host, port: ports[name], identity, peer: peers.find((p) => p.name === name)! });
    if (party) party.connectDealer(await call('dealer'));
    if (role === 'p1') party!.connectPeer(slow(await call('p0')));
    process.send!('connected');
  });
  process.send!(port);
}

const heard = <T>(child: ChildProcess): Promise<T> => new Promise((resolve) => child.once('message', (m) => resolve(m as T)));

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      n: { type: 'string', default: '32' },
      lanes: { type: 'string', default: '1,2,3' },
      sessions: { type: 'string', default: '6' },
      seconds: { type: 'string', default: '8' },
      delay: { type: 'string', default: '0' },
      repeats: { type: 'string', default: '2' },
    },
  });
  const dir = positionals[0] ?? fileURLToPath(new URL('../.subrosa/compiled/minilm-public', import.meta.url));
  const { program, hash } = readCompiled(dir);
  const inputs = Object.fromEntries(
    program.inputs.map(({ name, shape, bound }) => {
      const dims = shape.map((d) => (typeof d === 'number' ? d : Number(values.n)));
      return [
        name,
        { shape: dims, data: Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, (_, i) => (bound / 4) * Math.sin(i)) },
      ];
    }),
  );
  const results = new Map<number, { rate: number; latency: number }[]>();
  for (let repeat = 0; repeat < Number(values.repeats); repeat++)
    for (const lanes of values.lanes.split(',').map(Number)) {
      const identities = Object.fromEntries([...roles, 'client'].map((name) => [name, makeIdentity(name)]));
      const peers = [...roles, 'client'].map((name) => ({ name, spki: identities[name].spki }));
      const children = roles.map((role) => {
        const child = fork(fileURLToPath(import.meta.url), ['role'], { serialization: 'advanced' });
        child.send({ role, dir, identity: identities[role], peers, lanes, delay: Number(values.delay) } satisfies Setup);
        return child;
      });
      const ports = await Promise.all(children.map((c) => heard<number>(c)));
      const byRole = Object.fromEntries(roles.map((r, i) => [r, ports[i]]));
      await Promise.all(
        children.map((c) => {
          c.send(byRole);
          return heard(c);
        }),
      );
      const call = (i: 0 | 1): Promise<Link> => dial({ host, port: ports[i], identity: identities.client, peer: peers[i] });
      const sessions = await Promise.all(
        Array.from({ length: Number(values.sessions) }, async () => ClientSession.open([await call(0), await call(1)], program, hash)),
      );
      await Promise.all(sessions.map((s) => s.run(inputs)));
      const times: number[] = [];
      const from = performance.now();
      const until = from + 1000 * Number(values.seconds);
      await Promise.all(
        sessions.map(async (s) => {
          while (performance.now() < until) {
            const at = performance.now();
            await s.run(inputs);
            times.push(performance.now() - at);
          }
        }),
      );
      const rate = (1000 * times.length) / (performance.now() - from);
      const latency = times.sort((a, b) => a - b)[times.length >> 1];
      results.set(lanes, [...(results.get(lanes) ?? []), { rate, latency }]);
      for (const c of children) c.kill();
    }
  for (const [lanes, all] of results)
    console.log(`lanes ${lanes}: ${all.map((r) => `${r.rate.toFixed(2)} answers/s, median ${r.latency.toFixed(0)} ms`).join('; ')}`);
  process.exit(0);
}

if (process.argv[2] === 'role') process.once('message', (s: Setup) => void work(s));
else await main();
