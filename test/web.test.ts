/** The demo page in a real browser, in front of a real cluster: what it answers, what the servers saw of it, whom it spoke to. */
import axe from 'axe-core';
import type { Browser, BrowserContext, BrowserContextOptions, Page } from 'playwright-core';
import sharp from 'sharp';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { keystream } from '../src/client/chacha20.ts';
import { readCompiled } from '../src/folder/index.ts';
import type { Seen } from '../src/server/demo.ts';
import { decodeImage } from '../src/tasks/image.ts';
import { type ImageSpec, type Pixels, toTensor } from '../src/tasks/pixels.ts';
import { alive, browser, foldersOf, type Up, up } from './up.ts';
import { argmax, asFolder, calibrated, compiled, images, plainLogits, source } from './vit.ts';

const spec = source.info.image as ImageSpec;
const { labels } = source.info;
let model: ReturnType<typeof asFolder>;
let cluster: Up;
let chromium: Browser;
let context: BrowserContext | undefined;

beforeAll(async () => {
  model = asFolder(compiled(await calibrated(12), 'public'));
  [cluster, chromium] = await Promise.all([up([model.dir]), browser()]);
}, 120_000);
afterAll(async () => {
  await chromium?.close();
  if (cluster && alive(cluster.pid)) await cluster.end('SIGINT');
  model?.remove();
});

interface Visit {
  readonly page: Page;
  /** What went wrong on the page: errors, and what its policy forbade. */
  readonly wrong: string[];
  /** Origins of all requests. */
  readonly spokenTo: Set<string>;
}

async function visit(options: BrowserContextOptions = {}): Promise<Visit> {
  context = await chromium.newContext(options);
  const page = await context.newPage();
  const visit: Visit = { page, wrong: [], spokenTo: new Set() };
  page.on('pageerror', (e) => visit.wrong.push(e.message));
  page.on('console', (m) => m.type() === 'error' && visit.wrong.push(m.text()));
  page.on('request', (r) => visit.spokenTo.add(new URL(r.url()).origin));
  await page.goto(cluster.web);
  await page.getByRole('button', { name: 'Classify privately' }).waitFor();
  return visit;
}
afterEach(() => context?.close());

const verdict = async (page: Page): Promise<string> => (await page.locator('.verdict strong').innerText()).trim();
const classOf = (pixels: Pixels, invert: boolean): string =>
  labels[argmax(plainLogits({ label: 0, pixels: pixels.data as Uint8Array, image: toTensor(pixels, { ...spec, invert }) }))];
/** The grey values of the picture as the page shows it. */
const shown = async (page: Page): Promise<Pixels> => {
  const data = await page.locator('.drawing canvas').evaluate((c) => {
    const { data } = ((c as HTMLCanvasElement).getContext('2d') as CanvasRenderingContext2D).getImageData(0, 0, 28, 28);
    return Array.from({ length: 784 }, (_, i) => data[4 * i]);
  });
  return { width: 28, height: 28, channels: 1, data: Uint8Array.from(data) };
};
const seen = async (page: Page): Promise<[Seen, Seen]> => {
  const session = await page.locator('[data-session]').getAttribute('data-session');
  const ask = async (party: string): Promise<Seen> => (await fetch(`${party}/v1/demo/sessions/${session}`)).json() as Promise<Seen>;
  return Promise.all([ask(cluster.parties[0]), ask(cluster.parties[1])]);
};
const bits = (bytes: Uint8Array): number => {
  const counts = new Map<number, number>();
  for (const b of bytes) counts.set(b, (counts.get(b) ?? 0) + 1);
  return [...counts.values()].reduce((h, n) => h - (n / bytes.length) * Math.log2(n / bytes.length), 0);
};

test('subrosa up --json says where everything is, in one line', () => {
  expect(cluster.models).toEqual(['fashion-vit']);
  expect(cluster.stdout()).toMatch(/^\{"web":"http:\/\/127\.0\.0\.1:\d+","parties":\["[^"]+","[^"]+"\],"models":\["fashion-vit"\]\}\n$/);
  expect(new Set([cluster.web, ...cluster.parties]).size).toBe(3);
});

describe('a sample picture, by keyboard alone', () => {
  const trouser = images.find((i) => labels[i.label] === 'Trouser') as (typeof images)[number];
  test('gets the plaintext model’s class, and no server saw anything of it', async () => {
    const { page, wrong, spokenTo } = await visit();
    const focus = (): Promise<string> =>
      page.evaluate(() => document.activeElement?.getAttribute('aria-label') ?? document.activeElement?.textContent ?? '');
    const tabTo = async (name: RegExp): Promise<void> => {
      for (let i = 0; i < 12 && !name.test(await focus()); i++) await page.keyboard.press('Tab');
      expect(await focus()).toMatch(name);
    };
    await tabTo(/^Ankle boot$/);
    for (let i = 0; i < 10 && (await focus()) !== 'Trouser'; i++) await page.keyboard.press('ArrowLeft');
    expect((await shown(page)).data).toEqual(trouser.pixels);
    await tabTo(/^Classify privately$/);
    await page.keyboard.press('Enter');
    expect(await verdict(page)).toBe(labels[argmax(plainLogits(trouser))]);
    expect(await page.getByRole('status').first().innerText()).toMatch(/Trouser \d+\.\d %/);

    const [p0, p1] = await seen(page);
    const bytesOf = (s: Seen, from: keyof Seen['received']): Uint8Array => Buffer.from(s.received[from].first, 'base64');
    // One share is a seed, the other as large as the picture's words, and noise.
    expect([p0.received.client.bytes, p1.received.client.bytes]).toEqual([32, 4 * 784]);
    expect(bits(bytesOf(p1, 'client'))).toBeGreaterThan(7.9);
    expect(bits(trouser.pixels)).toBeLessThan(6);
    for (const s of [p0, p1]) {
      const peer = bytesOf(s, 'peer');
      expect(peer.length).toBe(65_536);
      expect(bits(peer)).toBeGreaterThan(7.9);
      expect(s.rounds.length).toBeGreaterThan(50);
    }
    expect(bits(bytesOf(p1, 'dealer'))).toBeGreaterThan(7.9);
    // It takes both: together they are this very picture.
    const words = new Uint32Array(784);
    keystream(bytesOf(p0, 'client'), words);
    const rest = new Uint32Array(Uint8Array.from(bytesOf(p1, 'client')).buffer);
    const { scale } = readCompiled(model.dir).program.inputs[0];
    expect(words.map((w, i) => w + rest[i])).toEqual(Uint32Array.from(trouser.pixels, (v) => Math.round(Math.fround(v / 255) * scale)));
    // Eight pixels in a row, wherever they are not all one colour, as bytes or as words: nowhere in what any server received.
    const rows = Array.from({ length: 98 }, (_, i) => trouser.pixels.subarray(8 * i, 8 * i + 8)).filter((r) => new Set(r).size > 4);
    expect(rows.length).toBeGreaterThan(20);
    for (const row of rows)
      for (const plain of [
        Buffer.from(row),
        Buffer.from(Int32Array.from(row).buffer),
        Buffer.from(Float32Array.from(row, (v) => v / 255).buffer),
      ])
        for (const s of [p0, p1])
          for (const from of ['client', 'peer', 'dealer'] as const) expect(Buffer.from(bytesOf(s, from)).includes(plain)).toBe(false);

    // What the page says of it is what they say.
    await expect.poll(() => page.getByRole('article', { name: 'P1' }).innerText()).toContain('3.14 kB came');
    for (const name of ['The share of the picture that P0 holds', 'Masked bytes that P1 received'])
      expect(await page.getByRole('img', { name }).first().getAttribute('aria-label')).toMatch(/: noise, 7\.\d\d bits/);
    expect(await page.getByRole('article', { name: 'Dealer' }).innerText()).toContain('Shapes and counts only');
    // A picture of noise is drawn: half of it is dark, half bright, and its neighbour has another.
    const drawn = await page.locator('.server canvas').evaluateAll((all) =>
      all.map((c) => {
        const { width, height } = c as HTMLCanvasElement;
        const context = (c as HTMLCanvasElement).getContext('2d') as CanvasRenderingContext2D;
        return [...context.getImageData(0, 0, width, height).data].filter((_, i) => i % 4 === 0);
      }),
    );
    expect(drawn).toHaveLength(4);
    for (const pixels of drawn) expect(Math.abs(pixels.reduce((a, b) => a + b, 0) / pixels.length - 127.5)).toBeLessThan(15);
    expect(drawn[0]).not.toEqual(drawn[2]);
    expect(await page.locator('.chart canvas').count()).toBe(1);

    expect(wrong).toEqual([]);
    expect([...spokenTo].sort()).toEqual([cluster.web, ...cluster.parties].sort());
  });
});

test('another origin, inline code and other pages around it are forbidden', async () => {
  const { page } = await visit();
  // Its own server included: the picture could not leave by mistake.
  for (const url of [cluster.web, 'http://127.0.0.1:9/', 'https://example.org/'])
    expect(
      await page.evaluate(
        (u) =>
          fetch(u).then(
            () => 'reached',
            (e) => (e as Error).message,
          ),
        url,
      ),
      url,
    ).toBe('Failed to fetch');
  const ran = await page.evaluate(() => {
    const script = document.createElement('script');
    script.textContent = 'window.ran = true';
    document.head.append(script);
    return (window as { ran?: boolean }).ran ?? false;
  });
  expect(ran).toBe(false);
  const policy = (await fetch(cluster.web)).headers.get('content-security-policy') ?? '';
  expect(policy).toContain("default-src 'none'");
  expect(policy).toContain(`connect-src ${cluster.parties.join(' ')};`);
  expect(policy).toContain("frame-ancestors 'none'");
  expect(policy).not.toContain('unsafe');
});

test('what is drawn with a pointer is classified as it is shown', async () => {
  const { page, wrong } = await visit({ viewport: { width: 360, height: 740 }, hasTouch: true });
  await page.getByRole('button', { name: 'clear and draw' }).click();
  const box = (await page.locator('.drawing canvas').boundingBox()) as { x: number; y: number; width: number; height: number };
  const at = (x: number, y: number): [number, number] => [box.x + x * box.width, box.y + y * box.height];
  for (const x of [0.4, 0.6]) {
    await page.mouse.move(...at(x, 0.1));
    await page.mouse.down();
    await page.mouse.move(...at(x - 0.05, 0.9), { steps: 8 });
    await page.mouse.up();
  }
  const picture = await shown(page);
  expect(picture.data.filter((v) => v > 200).length).toBeGreaterThan(60);
  await page.getByRole('button', { name: 'Classify privately' }).click();
  expect(await verdict(page)).toBe(classOf(picture, false));
  expect(wrong).toEqual([]);
});

test('it can be drawn upon with keys', async () => {
  const { page } = await visit();
  await page.locator('.drawing canvas').focus();
  await page.keyboard.press('Delete');
  expect(bits((await shown(page)).data as Uint8Array)).toBe(0);
  for (const key of ['Space', 'Shift+ArrowRight', 'Shift+ArrowRight', 'Shift+ArrowDown']) await page.keyboard.press(key);
  expect((await shown(page)).data.filter((v) => v > 200).length).toBeGreaterThan(4);
});

test('a file is brought to the model’s size, dark on light turned round', async () => {
  const { page, wrong } = await visit();
  const boot = images.find((i) => labels[i.label] === 'Ankle boot') as (typeof images)[number];
  const png = await sharp(Buffer.from(boot.pixels), { raw: { width: 28, height: 28, channels: 1 } })
    .negate()
    .resize(280, 280, { kernel: 'nearest' })
    .png()
    .toBuffer();
  await page.locator('input[type=file]').setInputFiles({ name: 'boot.png', mimeType: 'image/png', buffer: png });
  const picture = async (): Promise<Uint8Array> => (await shown(page)).data as Uint8Array;
  await expect.poll(async () => Buffer.compare(await picture(), boot.pixels)).not.toBe(0);
  // As the command line reads it, up to the two programs' resizing.
  const expected = await decodeImage(png, spec);
  const off = [...(await picture())].map((v, i) => Math.abs(v - (255 - expected.data[i])));
  expect(off.reduce((a, b) => a + b, 0) / 784).toBeLessThan(3);
  await page.getByRole('button', { name: 'Classify privately' }).click();
  expect(await verdict(page)).toBe('Ankle boot');
  expect(wrong).toEqual([]);
  await page.locator('input[type=file]').setInputFiles({ name: 'no.png', mimeType: 'image/png', buffer: Buffer.from('no picture') });
  expect(await page.getByRole('alert').innerText()).toMatch(/cannot be read/);
});

test('a party that is gone is named, and the next try works', async () => {
  const { page } = await visit();
  const gone = `${cluster.parties[1]}/**`;
  await page.route(gone, (route) => route.abort());
  await page.getByRole('button', { name: 'Classify privately' }).click();
  expect(await page.getByRole('alert').innerText()).toMatch(/p1 .*cannot be reached.* unreachable Trying again may help/);
  await page.unroute(gone);
  await page.getByRole('button', { name: 'Classify privately' }).click();
  expect(await verdict(page)).toBe('Ankle boot');
  expect(await page.getByRole('alert').count()).toBe(0);
});

test('nothing is wider than a phone, and assistive technology finds nothing amiss, in either scheme', async () => {
  for (const colorScheme of ['light', 'dark'] as const) {
    const { page } = await visit({ viewport: { width: 360, height: 740 }, colorScheme, reducedMotion: 'reduce' });
    await page.getByRole('button', { name: 'Classify privately' }).click();
    await page.locator('.chart canvas').waitFor();
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(360);
    await page.evaluate(axe.source);
    const { violations } = await page.evaluate(() => (window as unknown as { axe: typeof axe }).axe.run());
    expect(violations.map((v) => `${v.impact} ${v.id}: ${v.nodes.map((n) => n.html).join(' ')}`)).toEqual([]);
    await context?.close();
  }
});

test('a role that dies ends the command, which names it and leaves nothing', async () => {
  const other = await up([model.dir]);
  expect(foldersOf(other)).toHaveLength(1);
  process.kill(other.roles.p1, 'SIGKILL');
  expect(await other.ended).toBe(1);
  expect(other.stderr()).toContain('p1 ended by itself (SIGKILL)');
  expect(Object.values(other.roles).filter(alive)).toEqual([]);
  expect(foldersOf(other)).toEqual([]);
  await expect(fetch(other.web)).rejects.toThrow();
});

test('Ctrl-C ends all of it', async () => {
  expect(foldersOf(cluster)).toHaveLength(1);
  expect(await cluster.end('SIGINT')).toBe(0);
  expect(Object.values(cluster.roles).filter(alive)).toEqual([]);
  expect(foldersOf(cluster)).toEqual([]);
  expect(cluster.stdout().trim().split('\n')).toHaveLength(1);
});
