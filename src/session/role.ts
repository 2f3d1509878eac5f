/**
 * One role as a process of its own, started by `cluster.ts`: its configuration comes over the parent's channel, keys included, so none of
 * it stands in an argument list. It ends when the parent does.
 */
import { getPriority, setPriority } from 'node:os';
import { readCompiled, weightSource } from '../folder/index.ts';
import type { Identity } from '../net/keys.ts';
import type { LinkOptions } from '../net/link.ts';
import { dial, listen, type Peer } from '../net/tls.ts';
import { check } from '../program/check.ts';
import { checkedKernels } from '../ring/kernels/check.ts';
import { newMemory } from '../ring/kernels/memory.ts';
import { parallelKernels } from '../ring/kernels/parallel.ts';
import { fitInto, storedBytes } from '../runtime/footprint.ts';
import { loadModel, type Role } from '../runtime/model.ts';
import type { Profile } from '../runtime/party.ts';
import { DealerHost } from './dealer.ts';
import { PartyHost } from './party.ts';
import { oneModel } from './store.ts';

export interface RoleConfig {
  readonly role: Role;
  /** Address to listen at. */
  readonly host: string;
  readonly dir: string;
  readonly hash: string;
  readonly identity: Identity;
  readonly peers: readonly Peer[];
  readonly links: LinkOptions;
  readonly keepReceived: boolean;
  readonly profile: boolean;
  /** Threads this role computes with, this one included. */
  readonly threads: number;
  /** Bytes of memory it keeps to, as much as one memory has unless told: matrices that go beyond it stay on disk. */
  readonly memory?: number;
}

export type ToRole =
  | { kind: 'start'; config: RoleConfig }
  | { kind: 'dial'; at: Record<string, { host: string; port: number }> }
  | { kind: 'stats' };
export interface RoleStats {
  rss: number;
  /** Payload and headers sent on this role's links, by peer. */
  sent: Record<string, number>;
  /** Openings a party has sent. */
  rounds: number;
  received: string;
  profile: [string, number][];
  cpu: number;
}
export type FromRole =
  | { kind: 'listening'; port: number }
  | { kind: 'connected' }
  | { kind: 'stats'; stats: RoleStats }
  | { kind: 'failed'; message: string };

const tell = (m: FromRole): void => void process.send?.(m);
const callersOf: Record<Role, readonly string[]> = { p0: ['p1', 'client'], p1: ['client'], dealer: ['p0', 'p1'] };

async function start(c: RoleConfig): Promise<void> {
  // Three roles share this machine's cores. The dealer works ahead, so it takes what the parties leave while they wait for each other;
  // at equal priority it stops one of them, and the other waits too (MiniLM-128 on 2 cores: 0.92 s against 0.82 s).
  if (c.role === 'dealer') setPriority(Math.min(19, getPriority() + 10));
  const { program, hash } = readCompiled(c.dir);
  if (hash !== c.hash)
    throw new Error(
      `${c.dir} holds program ${hash.slice(0, 16)}…, not ${c.hash.slice(0, 16)}…: copy the folder that was compiled to every role`,
    );
  check(program);
  const bytes = 2 ** 32 - 2 ** 16;
  const kernels = c.threads > 1 ? parallelKernels(newMemory(bytes, true), c.threads) : checkedKernels(newMemory(bytes));
  const weights = weightSource(c.dir, c.role);
  const memory = Math.min(bytes, c.memory ?? bytes);
  // Measuring takes up to a second: not where weights are a small part of the memory.
  const matrices = 4 * storedBytes(program, c.role, weights) < memory ? undefined : fitInto(program, c.role, weights, memory, 1).kept;
  const model = loadModel(program, c.role, kernels, weights, matrices === undefined ? undefined : { bytes: matrices, reader: weights.reader?.() });
  const spkiOf = (name: string): string => c.peers.find((p) => p.name === name)?.spki ?? c.identity.spki;
  const spki = [spkiOf('p0'), spkiOf('p1')] as const;
  const profile: Profile = new Map();
  const links = new Map<string, { counters: { sentBytes: number } }>();
  let received: Uint8Array[] = [];
  let kept = 0;
  const addUp = (step: { profile?: Profile }): void => {
    for (const [gate, seconds] of step.profile ?? []) profile.set(gate, (profile.get(gate) ?? 0) + seconds);
  };
  const keep = (_session: string, from: string, bytes: Uint8Array): void => {
    if (from === 'client') return;
    if (kept < 65536) received.push(bytes.slice(0, 65536 - kept));
    kept += bytes.length;
  };
  const common = { models: oneModel(c.hash, model), spki, profile: c.profile };
  const dealer = c.role === 'dealer' ? new DealerHost({ ...common, events: { stepDealt: addUp } }) : undefined;
  const party = dealer
    ? undefined
    : new PartyHost({
        ...common,
        index: c.role === 'p0' ? 0 : 1,
        events: { stepDone: addUp, received: c.keepReceived ? keep : undefined },
      });
  // Whoever may call, and no other: a dealer that could pass for the other party would be sent openings whose masks it knows.
  const callers = callersOf[c.role];
  const listener = await listen(
    { host: c.host, port: 0, identity: c.identity, peers: c.peers.filter((p) => callers.includes(p.name)), ...c.links },
    (link) => {
      links.set(link.peer, link);
      if (dealer) dealer.connect(link.peer === 'p0' ? 0 : 1, link);
      else if (link.peer === 'client') party!.connectClient(link);
      else if (link.peer === 'p1') party!.connectPeer(link);
    },
  );
  tell({ kind: 'listening', port: listener.port });

  process.on('message', async (m: ToRole) => {
    try {
      if (m.kind === 'dial') {
        // The receiver of the bulk dials: both parties the dealer, and party 1 party 0.
        for (const name of c.role === 'p0' ? ['dealer'] : c.role === 'p1' ? ['dealer', 'p0'] : []) {
          const link = await dial({ ...m.at[name], identity: c.identity, peer: c.peers.find((p) => p.name === name)!, ...c.links });
          links.set(name, link);
          if (name === 'dealer') party!.connectDealer(link);
          else party!.connectPeer(link);
        }
        tell({ kind: 'connected' });
      } else if (m.kind === 'stats') {
        const { user, system } = process.cpuUsage();
        tell({
          kind: 'stats',
          stats: {
            rss: process.resourceUsage().maxRSS * 1024,
            sent: Object.fromEntries([...links].map(([k, l]) => [k, l.counters.sentBytes])),
            rounds: party?.rounds ?? 0,
            received: Buffer.concat(received).toString('base64'),
            profile: [...profile],
            cpu: (user + system) / 1e6,
          },
        });
        received = [];
        kept = 0;
        profile.clear();
      }
    } catch (e) {
      tell({ kind: 'failed', message: (e as Error).message });
    }
  });
}

process.on('disconnect', () => process.exit(0));
process.on('SIGTERM', () => process.exit(0));
process.once('message', (m: ToRole) => {
  if (m.kind === 'start') start(m.config).catch((e: Error) => tell({ kind: 'failed', message: e.message }));
});
