/** Somebody with a role's key, or without one, in a role's place: what frames can be made to say. */
import { createServer as createTls, type TLSSocket, connect as tlsConnect } from 'node:tls';
import { headerSize, writeHeader } from '../../src/net/framing.ts';
import { type Identity, makeIdentity } from '../../src/net/keys.ts';
import type { Role } from '../../src/runtime/model.ts';
import { encode, frames } from '../../src/session/messages.ts';
import { Broken } from './clients.ts';
import { between, limits, type Wire } from './cluster.ts';
import type { Strike } from './fault.ts';
import { endsOf, Middle, type Sent } from './middle.ts';
import type { Random } from './random.ts';
import { sleep, type World } from './world.ts';

const host = '127.0.0.1';
const port = (address: string): number => Number(address.split(':')[1]);
const common = { during: true as const, detect: 0, hits: 'all' as const };
const gone = ['right', 'peer-failed', 'ended', 'not-ready'];

const secure = ({ keyPem, certPem }: Identity) => ({
  key: keyPem,
  cert: certPem,
  minVersion: 'TLSv1.3' as const,
  rejectUnauthorized: false,
  requestCert: true,
});

function frame(type: number, session: number, seq: number, payload: Uint8Array, said = payload.length): Buffer {
  const out = Buffer.alloc(headerSize + payload.length);
  writeHeader(out, 0, said, type, session, seq);
  out.set(payload, headerSize);
  return out;
}
const hello = frame(0, 0, 0, new Uint8Array(0));

/** What a rogue says once it is taken for the role. */
const speeches: Readonly<Record<string, (random: Random) => Buffer>> = {
  noise: (r) => r.bytes(r.int(16, 5000)),
  'an oversized frame': (r) => frame(frames.opening, r.int(0, 2 ** 31), 0, r.bytes(64), 2 ** 32 - 1),
  'half a frame': (r) => frame(frames.block, r.int(0, 2 ** 31), 0, r.bytes(100), 5000),
  'frames of any kind': (r) =>
    Buffer.concat(Array.from({ length: 60 }, () => frame(r.int(16, 40), r.int(0, 9), r.int(0, 50), r.bytes(r.int(0, 80))))),
  'frames that say what they should not': (r) =>
    Buffer.concat(
      Array.from({ length: 40 }, () => {
        const said = r.pick([
          { id: 'x' },
          { id: '0'.repeat(32), hash: 'f'.repeat(64) },
          { step: -1, params: {} },
          { step: 2 ** 33 },
          { code: 'none', message: 5 },
          [],
        ]);
        return frame(r.int(16, 31), r.int(0, 9), r.int(0, 3), encode(said));
      }),
    ),
  nothing: () => Buffer.alloc(0),
};

/** Connects with a key and speaks; the connection is given up after a while. Throws nothing: being refused is fine. */
function intrude(to: number, identity: Identity, words: Buffer, random: Random): () => void {
  const socket: TLSSocket = tlsConnect({ host, port: to, ...secure(identity) }, () => {
    socket.write(hello);
    socket.write(words);
  });
  socket.on('error', () => {});
  socket.resume();
  const timer = setTimeout(() => socket.destroy(), random.int(100, 400));
  return () => {
    clearTimeout(timer);
    socket.destroy();
  };
}

const intruders = [
  ['p1', 'p0'],
  ['p0', 'dealer'],
  ['p1', 'dealer'],
] as const;

/** Listens in a role's place, and lets whoever comes hear something. */
async function impostor(w: World, wire: Wire, identity: Identity, words: Buffer): Promise<() => Promise<void>> {
  const sockets = new Set<TLSSocket>();
  const server = createTls(secure(identity), (socket) => {
    sockets.add(socket);
    socket.on('error', () => {}).on('close', () => sockets.delete(socket));
    socket.resume();
    socket.write(hello);
    socket.write(words);
  });
  server.on('tlsClientError', () => {});
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  const proxy = w.cluster.proxies[wire];
  proxy.detour = (server.address() as { port: number }).port;
  proxy.cut();
  return async () => {
    proxy.heal();
    for (const s of sockets) s.destroy();
    await new Promise((resolve) => server.close(resolve));
  };
}

/** Changes one frame, or its place among others. Frames whose content cannot be checked (masked words) keep it: roles follow the protocol. */
const tampers: Readonly<Record<string, (m: Middle, to: Role, random: Random) => void>> = {
  'repeats a frame': (m, to, r) => next(m, to, r, (f) => [f, f]),
  'repeats an old frame': (m, to, r) => {
    let old: Sent | undefined;
    let skip = r.int(1, 8);
    m.tamper = (f, role) => {
      if (role !== to) return [f];
      old ??= f;
      if (skip-- !== 0) return [f];
      return [f, old];
    };
  },
  'swaps two frames': (m, to, r) => {
    let skip = r.int(0, 6);
    let kept: Sent | undefined;
    m.tamper = (f, role) => {
      if (role !== to) return [f];
      if (kept) {
        const both = [f, kept];
        kept = undefined;
        return both;
      }
      if (skip-- !== 0) return [f];
      kept = f;
      return [];
    };
  },
  'shortens a frame': (m, to, r) => next(m, to, r, (f) => [{ ...f, payload: f.payload.subarray(0, f.payload.length >> 1) }], 1),
  'lengthens a frame': (m, to, r) => next(m, to, r, (f) => [{ ...f, payload: Buffer.concat([f.payload, Buffer.alloc(8)]) }]),
};
function next(m: Middle, to: Role, r: Random, change: (f: Sent) => readonly Sent[], least = 0): void {
  let skip = r.int(0, 6);
  m.tamper = (f, role) => (role === to && f.payload.length >= least && skip-- === 0 ? change(f) : [f]);
}

export const rogues: readonly Strike[] = [
  {
    ...common,
    name: "with a role's key",
    weight: 8,
    variants: intruders.flatMap(([as, at]) => Object.keys(speeches).map((s) => `${as} at ${at} ${s}`)),
    codes: [...gone, 'timeout'],
    detect: limits.wait + 0.5,
    act({ cluster }, variant, random) {
      const [as, , at, ...speech] = variant.split(' ');
      return intrude(
        port(cluster.services.at('links', at as Role)),
        cluster.services.identities[as as Role],
        speeches[speech.join(' ')](random),
        random,
      );
    },
  },
  {
    ...common,
    name: 'with a key that is not pinned',
    weight: 6,
    // The dealer's own, valid one is the one that matters most: it knows every mask.
    variants: ["nobody's at p0", "nobody's at dealer", "dealer's at p0", "p0's at p0"],
    hits: 'nobody',
    codes: ['right'],
    act({ cluster }, variant, random) {
      const [whose, , at] = variant.split(' ');
      const { identities } = cluster.services;
      const identity = whose === "nobody's" ? makeIdentity('p1') : identities[whose.slice(0, -2) as Role];
      return intrude(port(cluster.services.at('links', at as Role)), identity, speeches.noise(random), random);
    },
  },
  {
    ...common,
    name: "answers in a role's place, with its key",
    weight: 4,
    variants: between.flatMap((wire) => ['noise', 'frames of any kind', 'nothing'].map((s) => `${wire} ${s}`)),
    codes: [...gone, 'timeout'],
    detect: limits.wait + 0.5,
    act(w, variant, random) {
      const [wire, ...speech] = variant.split(' ');
      return impostor(w, wire as Wire, w.cluster.services.identities[endsOf(wire as Wire)[1]], speeches[speech.join(' ')](random));
    },
  },
  {
    ...common,
    name: "answers in a role's place, with another key",
    weight: 4,
    variants: ['p1-p0 with dealer’s', 'p1-p0 with its own', 'p0-dealer with its own', 'p1-dealer with p0’s'],
    codes: gone,
    async act(w, variant, random) {
      const [wire, , whose] = variant.split(' ') as [Wire, string, string];
      const { identities } = w.cluster.services;
      const identity = whose === 'its' ? makeIdentity('p0') : identities[whose.split('’')[0] as Role];
      const undo = await impostor(w, wire, identity, speeches.noise(random));
      // For as long as it stands there the dialler must not take it for the role.
      await sleep(300);
      if (await w.cluster.isReady(endsOf(wire)[0])) throw new Broken(`${variant}: the role took a key that is not pinned`);
      return undo;
    },
  },
  {
    ...common,
    name: 'in the middle, with both keys',
    weight: 10,
    variants: between.flatMap((wire) => endsOf(wire).flatMap((to) => Object.keys(tampers).map((how) => `${wire} to ${to} ${how}`))),
    codes: [...gone, 'timeout'],
    // A frame that is kept back for the next one is missed only when the step has taken too long.
    detect: limits.step + 1,
    async prepare(w, variant) {
      const middle = await Middle.enter(w.cluster, variant.split(' ')[0] as Wire, w.witness, w.onBroken);
      w.middle = middle;
      return () => middle.leave();
    },
    act(w, variant, random) {
      const [, , to, ...how] = variant.split(' ');
      tampers[how.join(' ')](w.middle!, to as Role, random);
      return undefined;
    },
  },
];
