/** subrosa demo: ten pictures through the model that comes with this program, and what a server saw of them. */
import type { Client } from '../folder/index.ts';
import type { ImageSpec } from '../tasks/pixels.ts';
import { bar, draw, wantsColor } from '../tasks/show.ts';
import { compiledOf } from './compiled.ts';
import type { Given } from './inputs.ts';
import { acceptable, type Run, runOne, startHere } from './run.ts';
import { fashionImages, type LabelledImage } from './samples.ts';
import { bytesText, out, percent, print, say, secondsText } from './terminal.ts';

const side = 28;
const model = 'fashion-vit';

export async function demoCommand(options: { threads?: number; timeout?: number }): Promise<void> {
  const start = performance.now();
  const folder = await compiledOf(model, { weights: 'public' });
  const { client } = folder;
  const images = oneOfEach(fashionImages('fashion-test-200.bin', client.image as ImageSpec));
  const plain = folder.plain();
  print(out.bold('Ten pictures, classified by two servers that see none of them.'));
  print('Each picture is split here into two shares, noise each; the servers compute on shares, with random');
  print(`numbers from a dealer; the two shares of the answer are added up here. Model: ${model}, ${folder.program.gates.length} gates.\n`);
  const cluster = await startHere(folder, { ...options, keepReceived: true });
  const runs: Run[] = [];
  try {
    for (const [i, image] of images.entries()) {
      const given: Given = { title: client.labels[image.label], inputs: { [folder.program.inputs[0].name]: image.image } };
      const run = await runOne(folder, cluster, given, acceptable(folder, given), { warm: i === 0, plain });
      runs.push(run);
      print(panel(client, image, run, i));
    }
  } finally {
    await cluster.close();
  }
  summarise(client, images, runs, cluster.setupSeconds);
  say(out.dim(`${secondsText((performance.now() - start) / 1000)} in all`));
}

/** The first of each class, in the order of the classes. */
const oneOfEach = (all: readonly LabelledImage[]): LabelledImage[] =>
  [...new Map([...all].reverse().map((i) => [i.label, i])).values()].sort((a, b) => a.label - b.label);

/** Bits a byte carries: 8 for noise, less for anything with a pattern. */
export function entropy(bytes: Uint8Array): number {
  const counts = new Float64Array(256);
  for (const b of bytes) counts[b]++;
  return counts.reduce((h, n) => (n === 0 ? h : h - (n / bytes.length) * Math.log2(n / bytes.length)), 0);
}

const picture = (bytes: Uint8Array): string[] =>
  draw({ width: side, height: side, channels: 1, data: bytes }, { columns: side }).split('\n');

/** The picture, beside it as many bytes of what party 0 received, and the answer. */
function panel(client: Client, image: LabelledImage, { answer, stats, check }: Run, i: number): string {
  const received = stats.received ?? new Uint8Array(0);
  const [best] = answer.classes ?? [{ label: '?', probability: 0 }];
  const noise = new Uint8Array(side * side);
  noise.set(received.subarray(0, side * side));
  const text = [
    `${out.dim(`${i + 1} of 10`)}  ${out.bold(client.labels[image.label])}`,
    '',
    `private    ${out.bold(best.label.padEnd(12))} ${bar(best.probability, 12)} ${percent(best.probability)}`,
    `plaintext  ${check?.same_label ? best.label : out.red(check?.plain_label ?? '')}`,
    '',
    `time       ${secondsText(stats.seconds)}, ${stats.rounds} rounds`,
    `P0 - P1    ${bytesText(stats.bytes.p0p1)}`,
    `dealer     ${bytesText(stats.bytes.dealer)}`,
    `client     ${bytesText(stats.bytes.client)}`,
    '',
    'bits a byte carries (noise: 8)',
    `  the picture        ${entropy(image.pixels).toFixed(3)}`,
    `  what P0 received   ${received.length > 0 ? entropy(received).toFixed(3) : 'nothing was kept'}`,
  ];
  const [own, seen] = [picture(image.pixels), picture(noise)];
  const width = side;
  // Colour codes take no room on the screen: lines without them are padded, coloured ones are full already.
  const pad = (line: string | undefined): string => (line === undefined ? ' '.repeat(width) : wantsColor() ? line : line.padEnd(width));
  const rows = Math.max(own.length, text.length);
  const title = out.dim(`${'the picture'.padEnd(width)}  ${'received by P0'.padEnd(width)}`);
  return [title, ...Array.from({ length: rows }, (_, r) => `${pad(own[r])}  ${pad(seen[r])}  ${text[r] ?? ''}`.trimEnd()), ''].join('\n');
}

function summarise(client: Client, images: readonly LabelledImage[], runs: readonly Run[], setup: number): void {
  const right = runs.filter((r, i) => r.answer.classes?.[0].label === client.labels[images[i].label]).length;
  const same = runs.filter((r) => r.check?.same_label).length;
  const seconds = runs.map((r) => r.stats.seconds).sort((a, b) => a - b);
  print(
    `${out.bold(`${same} of ${runs.length}`)} answers are the plaintext model's, ${right} are right. Median ${secondsText(seconds[seconds.length >> 1])}; three processes set up in ${secondsText(setup)}.`,
  );
  print(`Largest difference of a logit or probability: ${Math.max(...runs.map((r) => r.check?.max_abs ?? 0)).toFixed(4)}.`);
  print(out.dim('What P0 received falls short of 8 bits a byte by the zeros that fill its messages up to whole'));
  print(out.dim('blocks, the same for every picture.\n'));
  print('Next:');
  const next: [string, string][] = [
    ['subrosa run fashion-vit PICTURE --check', 'a picture of your own'],
    ['subrosa compile fashion-vit --weights private -o private', 'the weights hidden from the servers too'],
    ['subrosa cost fashion-vit', 'where rounds and bytes go'],
    ['subrosa pull minilm && subrosa run minilm "a cat" "a dog"', 'texts'],
  ];
  for (const [command, what] of next) print(`  ${command.padEnd(60)}${out.dim(what)}`);
}
