/** Between two roles, with the keys of both: it reads every frame, and may hold, repeat or change it. What TLS keeps everyone else from. */
import type { Frame, Link } from '../../src/net/link.ts';
import { dial, type Listener, listen } from '../../src/net/tls.ts';
import type { Role } from '../../src/runtime/model.ts';
import { frames } from '../../src/session/messages.ts';
import type { FaultCluster, Wire } from './cluster.ts';
import type { Witness } from './witness.ts';

export type Sent = Pick<Frame, 'type' | 'session' | 'seq' | 'payload'>;
/** What is passed on in place of a frame that goes `to` a role. */
export type Tamper = (frame: Sent, to: Role) => readonly Sent[];
const host = '127.0.0.1';

export const endsOf = (wire: Wire): readonly [dialler: Role, listener: Role] => wire.split('-') as [Role, Role];

export class Middle {
  tamper: Tamper = (f) => [f];
  private readonly links = new Set<Link>();
  private constructor(
    private readonly wire: Wire,
    private readonly listener: Listener,
    private readonly cluster: FaultCluster,
  ) {}

  /** From the next connection on, this wire goes through here; connections that stand are cut. */
  static async enter(cluster: FaultCluster, wire: Wire, witness: Witness, onBroken: (e: unknown) => void): Promise<Middle> {
    const [dialler, callee] = endsOf(wire);
    const { identities } = cluster.services;
    const listener = await listen(
      { host, port: 0, identity: identities[callee], peers: [{ name: dialler, spki: identities[dialler].spki }] },
      (near) => {
        middle.links.add(near);
        const port = Number(cluster.services.at('links', callee).split(':')[1]);
        dial({ host, port, identity: identities[dialler], peer: { name: callee, spki: identities[callee].spki } }).then(
          (far) => {
            middle.links.add(far);
            for (const [from, to, role] of [
              [near, far, callee],
              [far, near, dialler],
            ] as const) {
              from.onFrame = ({ type, session, seq, payload }) => {
                try {
                  if (type === frames.seed || type === frames.zero) witness.seed(payload, wire);
                } catch (e) {
                  onBroken(e);
                }
                const frame = { type, session, seq, payload: payload.slice() };
                for (const f of middle.tamper(frame, role)) to.send(f.type, f.session, f.seq, f.payload);
              };
              from.onClose = () => to.close();
            }
          },
          () => near.close(),
        );
      },
    );
    const middle: Middle = new Middle(wire, listener, cluster);
    const proxy = cluster.proxies[wire];
    proxy.detour = listener.port;
    proxy.cut();
    return middle;
  }

  async leave(): Promise<void> {
    this.cluster.proxies[this.wire].heal();
    for (const l of this.links) l.close();
    await this.listener.close();
  }
}
