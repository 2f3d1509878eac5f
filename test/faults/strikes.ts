/** Roles that end or stand still, and connections that break, stall, slow down or change what passes. */
import type { Role } from '../../src/runtime/model.ts';
import { roles } from '../services.ts';
import { between, limits, toParties, type Wire, wires } from './cluster.ts';
import type { Strike } from './fault.ts';
import { sleep, type World } from './world.ts';

/** What follows from a role or link that is gone. */
const gone = ['right', 'peer-failed', 'ended', 'not-ready'];
const silent = [...gone, 'timeout'];
const signal = (w: World, role: string, name: NodeJS.Signals): void => void w.cluster.services.running.get(role as Role)?.child.kill(name);
const proxy = (w: World, wire: string) => w.cluster.proxies[wire as Wire];

const common = { during: true as const, detect: 0, hits: 'all' as const, codes: gone };

export const strikes: readonly Strike[] = [
  {
    ...common,
    name: 'kill -9',
    weight: 9,
    ends: true,
    variants: roles,
    codes: [...gone, 'unreachable'],
    async act({ cluster }, role, random) {
      await cluster.services.running.get(role as Role)!.kill('SIGKILL');
      return async () => {
        await sleep(random.int(0, 300));
        cluster.services.start(role as Role);
      };
    },
  },
  {
    ...common,
    name: 'SIGTERM',
    weight: 2,
    ends: true,
    variants: roles,
    codes: [...gone, 'unreachable', 'draining'],
    // What runs may go on so long.
    detect: 5,
    act({ cluster }, role) {
      const { child, ended } = cluster.services.running.get(role as Role)!;
      child.kill('SIGTERM');
      return async () => {
        await ended;
        cluster.services.start(role as Role);
      };
    },
  },
  {
    ...common,
    name: 'stopped for longer than the silence limit',
    weight: 2,
    variants: roles,
    codes: [...silent, 'unreachable'],
    detect: limits.wait + 0.5,
    act(w, role) {
      signal(w, role, 'SIGSTOP');
      return () => signal(w, role, 'SIGCONT');
    },
  },
  {
    ...common,
    name: 'stopped for a moment',
    weight: 4,
    variants: roles,
    hits: 'nobody',
    codes: ['right'],
    async act(w, role, random) {
      signal(w, role, 'SIGSTOP');
      await sleep(random.int(50, 250));
      signal(w, role, 'SIGCONT');
      return undefined;
    },
  },
  { ...common, name: 'cut', weight: 14, variants: between, act: (w, wire) => void proxy(w, wire).cut() },
  { ...common, name: 'closed', weight: 8, variants: between, act: (w, wire) => void proxy(w, wire).shut() },
  // A bit of a record's length makes TLS wait for what does not come: then it is the silence that tells.
  {
    ...common,
    name: 'a bit flipped',
    weight: 10,
    variants: between,
    codes: silent,
    detect: limits.wait + 0.5,
    act(w, wire) {
      proxy(w, wire).flip();
      return () => proxy(w, wire).heal();
    },
  },
  {
    ...common,
    name: 'stalled for longer than the silence limit',
    weight: 3,
    variants: between,
    codes: silent,
    detect: limits.wait + 0.5,
    act(w, wire) {
      proxy(w, wire).stall();
      return () => proxy(w, wire).release();
    },
  },
  {
    ...common,
    name: 'stalled for a moment',
    weight: 6,
    variants: wires,
    hits: 'nobody',
    codes: ['right'],
    async act(w, wire, random) {
      proxy(w, wire).stall();
      await sleep(random.int(50, 250));
      proxy(w, wire).release();
      return undefined;
    },
  },
  {
    ...common,
    name: 'delayed',
    weight: 5,
    variants: wires,
    hits: 'nobody',
    codes: ['right'],
    act(w, wire, random) {
      const { delay } = proxy(w, wire);
      proxy(w, wire).delay = random.int(5, 12);
      return () => {
        proxy(w, wire).delay = delay;
      };
    },
  },
  {
    ...common,
    name: 'throttled',
    weight: 5,
    variants: wires,
    hits: 'nobody',
    codes: ['right'],
    act(w, wire, random) {
      proxy(w, wire).rate = random.int(60, 200) * 1000;
      return () => {
        proxy(w, wire).rate = 0;
      };
    },
  },
  {
    ...common,
    name: 'the client cut',
    weight: 12,
    variants: toParties,
    hits: 'victim',
    codes: ['right', 'unreachable', 'ended'],
    act: (w, wire) => void proxy(w, wire).cut(),
  },
  {
    ...common,
    name: 'the client closed',
    weight: 8,
    variants: toParties,
    hits: 'victim',
    codes: ['right', 'unreachable', 'ended'],
    act: (w, wire) => void proxy(w, wire).shut(),
  },
  {
    ...common,
    name: "a bit flipped on the client's connection",
    weight: 8,
    variants: toParties,
    hits: 'victim',
    codes: ['right', 'unreachable', 'ended', 'timeout'],
    detect: limits.wait + 0.5,
    act(w, wire) {
      proxy(w, wire).flip();
      return () => {
        proxy(w, wire).heal();
        proxy(w, wire).cut();
      };
    },
  },
  {
    ...common,
    name: "the client's connection stalled",
    weight: 3,
    variants: toParties,
    hits: 'victim',
    codes: ['right', 'timeout', 'ended'],
    detect: limits.wait + 0.5,
    act(w, wire) {
      proxy(w, wire).stall();
      return () => proxy(w, wire).release();
    },
  },
  {
    ...common,
    name: 'the client goes away',
    weight: 14,
    variants: ['by its signal'],
    hits: 'victim',
    codes: ['right', 'aborted'],
    act: (w) => w.leave(),
  },
];
