import { expect, test } from 'vitest';
import { demonstration, type Listeners, type Seen } from './demo.ts';

const id = (n: number): string => n.toString(16).padStart(32, '0');

const local = (of: Partial<Listeners> = {}): Listeners => ({
  links: { listen: '127.0.0.1:1' },
  api: { listen: '[::1]:2', origins: ['http://127.0.0.1:4'] },
  metrics: { listen: '127.0.0.1:3' },
  ...of,
});

test('a listener anyone else can reach refuses the demonstration', () => {
  expect(() => demonstration(0, local())).not.toThrow();
  for (const host of ['0.0.0.0', '[::]', '192.168.1.4', 'p0.example.org', '127.evil.example.org']) {
    const listen = `${host}:9`;
    for (const of of [{ links: { listen } }, { api: { listen, origins: [] } }, { metrics: { listen } }])
      expect(() => demonstration(0, local(of)), JSON.stringify(of)).toThrow(`must be on 127.0.0.1, and one is on ${listen}`);
  }
});

test('only the page of the demonstration may read it', async () => {
  const { routes, events } = demonstration(0, local());
  events.received(id(1), 'client', new Uint8Array(32));
  const allowed = async (origin: string): Promise<string | null> =>
    (await routes.request(`/v1/demo/sessions/${id(1)}`, { headers: { origin } })).headers.get('access-control-allow-origin');
  expect(await allowed('http://127.0.0.1:4')).toBe('http://127.0.0.1:4');
  expect(await allowed('http://127.0.0.1:5')).toBeNull();
});

test('what came is counted by source, kept up to 64 KiB, and begins anew with each input', async () => {
  let at = 100;
  const { events, routes } = demonstration(1, local(), () => at);
  const ask = async (session: string): Promise<Seen> => (await routes.request(`/v1/demo/sessions/${session}`)).json() as Promise<Seen>;
  events.received(id(1), 'client', new Uint8Array([9, 9]));
  at = 105;
  events.received(id(1), 'client', new Uint8Array([1, 2, 3]));
  at = 107;
  const kept = new Uint8Array([4]);
  events.received(id(1), 'peer', kept);
  kept.fill(0); // The host's buffers are used again.
  events.received(id(1), 'peer', new Uint8Array(70_000).fill(5));
  at = 109;
  events.round(id(1), 0, 70_001);
  events.received(id(2), 'client', new Uint8Array([7]));
  const first = await ask(id(1));
  expect(first).toMatchObject({ party: 1, steps: 2, rounds: [[4, 70_001]] });
  expect(first.received.client).toEqual({ bytes: 3, first: 'AQID' });
  expect(first.received.peer.bytes).toBe(70_001);
  const bytes = Buffer.from(first.received.peer.first, 'base64');
  expect([bytes.length, bytes[0], bytes[1]]).toEqual([65_536, 4, 5]);
  expect(first.received.dealer).toEqual({ bytes: 0, first: '' });
  expect(first.arrivals).toEqual({
    client: [[0, 3]],
    peer: [
      [2, 1],
      [2, 70_000],
    ],
    dealer: [],
  });
  expect((await ask(id(2))).received.client.bytes).toBe(1);
});

test('memory is bounded: old sessions are forgotten, arrivals put together', async () => {
  const { events, routes } = demonstration(0, local());
  for (let i = 0; i < 65; i++) events.received(id(i), 'client', new Uint8Array(32));
  const status = async (n: number): Promise<number> => (await routes.request(`/v1/demo/sessions/${id(n)}`)).status;
  expect([await status(0), await status(1), await status(64)]).toEqual([410, 200, 200]);
  expect((await routes.request('/v1/demo/sessions/nothex')).status).toBe(410);
  for (let i = 0; i < 5000; i++) events.received(id(64), 'dealer', new Uint8Array(2));
  const { arrivals, received } = (await (await routes.request(`/v1/demo/sessions/${id(64)}`)).json()) as Seen;
  expect(arrivals.dealer).toHaveLength(4096);
  expect(arrivals.dealer.reduce((s, [, n]) => s + n, 0)).toBe(10_000);
  expect(received.dealer.bytes).toBe(10_000);
});
