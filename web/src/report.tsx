/** A run, as each server saw it. */
import type { ComponentChildren } from 'preact';
import { useMemo } from 'preact/hooks';
import type { Seen } from '../../src/server/demo.ts';
import { bytesText, entropy, entropyOfNoise, fromBase64, secondsText } from './bytes.ts';
import { Noise } from './noise.tsx';
import { Timeline } from './timeline.tsx';

export interface Report {
  /** 'picture', 'sentence'. */
  readonly thing: string;
  readonly model: string;
  readonly weights: 'public' | 'private';
  readonly params: Readonly<Record<string, number>>;
  readonly session: string;
  /** Undefined while the run lasts. */
  readonly seconds?: number;
  /** What the person has: pixels, or the text's bytes. */
  readonly plain: Uint8Array;
  /** The tensor that is shared: how many words, and how many to a row when shown. */
  readonly words: number;
  readonly columns: number;
  /** Of each party's share of the answer. */
  readonly answerBytes: number;
  readonly seen: readonly [Seen, Seen];
  /** P0's share, which it makes of the seed it received, as P1's words. */
  readonly shares: readonly [Uint8Array, Uint8Array];
}

const maskedSide = 128;
const nothing = new Uint8Array(0);

/** The highest byte of each word: a word's own noise, as one grey pixel. */
const highBytes = (words: Uint8Array): Uint8Array => words.filter((_, i) => i % 4 === 3);

export function Servers({ report }: { report?: Report }) {
  return (
    <section aria-labelledby="servers">
      <h2 id="servers">What each server saw</h2>
      <div class="servers">
        <Party index={0} report={report} />
        <Party index={1} report={report} />
        <Dealer report={report} />
      </div>
      <p class="note">
        A byte of noise carries 8 bits; of few bytes even noise shows a little less, and the figure for as many is given beside. Messages
        are filled with zeros up to whole blocks, the same ones for every input: these are the black lines among the masked bytes, and what
        these fall short by.
      </p>
    </section>
  );
}

function Party({ index, report }: { index: 0 | 1; report?: Report }) {
  const seen = report?.seen[index];
  const share = report?.shares[index] ?? nothing;
  const drawn = useMemo(() => highBytes(share), [share]);
  const masked = useMemo(() => fromBase64(seen?.received.peer.first ?? ''), [seen]);
  const columns = report?.columns ?? 28;
  const rows = Math.min(64, Math.ceil((report?.words ?? 784) / columns));
  const other = index === 0 ? 'P1' : 'P0';
  const thing = report?.thing ?? 'input';
  return (
    <article class="card server" aria-labelledby={`p${index}`}>
      <h3 id={`p${index}`}>
        P{index} <span class="role">party</span>
      </h3>
      <div class="views">
        <figure>
          <Noise bytes={drawn} width={columns} height={rows} label={`The share of the ${thing} that P${index} holds: ${evenness(share)}`} />
          <figcaption>
            its share of your {thing}
            <small>{index === 0 ? '32 bytes came, a seed that it expands' : `${bytesText(seen?.received.client.bytes ?? 0)} came`}</small>
          </figcaption>
        </figure>
        <figure>
          <Noise
            bytes={masked}
            width={maskedSide}
            height={maskedSide}
            label={`Masked bytes that P${index} received from ${other}: ${evenness(masked)}`}
          />
          <figcaption>
            masked values from {other}
            <small>
              {seen
                ? `${bytesText(seen.received.peer.bytes)}, the first ${bytesText(Math.min(masked.length, maskedSide ** 2))} shown`
                : '—'}
            </small>
          </figcaption>
        </figure>
      </div>
      <dl>
        <Fact name="Bytes received">{seen && report ? bytesText(totalOf(seen)) : '—'}</Fact>
        <Fact name="Bits a byte carries: share">{bitsText(share)}</Fact>
        <Fact name="Bits a byte carries: masked">{bitsText(masked)}</Fact>
        <Fact name={`Your ${thing}, for comparison`}>{bitsText(report?.plain ?? nothing, false)}</Fact>
      </dl>
    </article>
  );
}

function Dealer({ report }: { report?: Report }) {
  const sent = report?.seen[1].received.dealer.bytes;
  return (
    <article class="card server" aria-labelledby="dealer">
      <h3 id="dealer">
        Dealer <span class="role">hands out random numbers</span>
      </h3>
      <div class="nothing">
        <p>
          <strong>Shapes and counts only.</strong> It receives nothing that depends on your data, and gets no answer.
        </p>
      </div>
      <dl>
        <Fact name="Told: program">{report?.model ?? '—'}</Fact>
        <Fact name="Told: sizes">{report ? sizesText(report.params) : '—'}</Fact>
        <Fact name="Told: step">{report ? `${report.seen[1].steps}` : '—'}</Fact>
        <Fact name="Random bytes sent to P1">{sent === undefined ? '—' : bytesText(sent)}</Fact>
      </dl>
    </article>
  );
}

function Fact({ name, children }: { name: string; children: ComponentChildren }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

const sizesText = (params: Readonly<Record<string, number>>): string =>
  Object.entries(params)
    .map(([k, v]) => `${k} = ${v}`)
    .join(', ') || 'fixed';

function bitsText(bytes: Uint8Array, noise = true): ComponentChildren {
  if (bytes.length === 0) return '—';
  return (
    <>
      {entropy(bytes).toFixed(3)}
      {noise && <small> noise: {entropyOfNoise(bytes.length).toFixed(3)}</small>}
    </>
  );
}

const evenness = (bytes: Uint8Array): string =>
  bytes.length === 0
    ? 'nothing yet'
    : `noise, ${entropy(bytes).toFixed(2)} bits a byte where perfect noise has ${entropyOfNoise(bytes.length).toFixed(2)}`;

const totalOf = ({ received }: Seen): number => received.client.bytes + received.peer.bytes + received.dealer.bytes;

export function Traffic({ report }: { report?: Report }) {
  const s = report?.seen;
  const links: readonly (readonly [string, string, number | undefined])[] = [
    ['You → P0', 'a seed', s?.[0].received.client.bytes],
    ['You → P1', 'a share', s?.[1].received.client.bytes],
    ['P0 → P1', 'masked values', s?.[1].received.peer.bytes],
    ['P1 → P0', 'masked values', s?.[0].received.peer.bytes],
    ['Dealer → P1', 'random numbers', s?.[1].received.dealer.bytes],
    ['P0, P1 → you', 'shares of the answer', report && 2 * report.answerBytes],
  ];
  const most = Math.max(1, ...links.map(([, , n]) => n ?? 0));
  return (
    <section aria-labelledby="traffic">
      <h2 id="traffic">
        What travelled{report?.seconds === undefined ? '' : <span class="aside"> in {secondsText(report.seconds)}</span>}
      </h2>
      <div class="traffic">
        <div class="card">{report ? <Timeline seen={report.seen[1]} /> : <p class="empty">The rounds of a run appear here.</p>}</div>
        <table class="card links">
          <caption class="hidden">Bytes on each link</caption>
          <thead class="hidden">
            <tr>
              <th scope="col">Link</th>
              <th scope="col">What</th>
              <th scope="col">Bytes</th>
            </tr>
          </thead>
          <tbody>
            {links.map(([link, what, n]) => (
              <tr key={link}>
                <th scope="row">{link}</th>
                <td>
                  {what}
                  <span class="bar" aria-hidden="true" style={{ width: `${(100 * (n ?? 0)) / most}%` }} />
                </td>
                <td class="number">{n === undefined ? '—' : bytesText(n)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}
