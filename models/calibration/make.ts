/**
 * Writes texts.jsonl: what sentence encoders are calibrated on. Run once, on a machine with the sources below; the file is what ships.
 *
 *   npx tsx models/calibration/make.ts
 *
 * A calibrated range must hold for text nobody thought of, so kinds count for more than amount: prose, questions, chat, code, markup,
 * tables of digits, addresses, thirty languages in twenty scripts, emoji, and text that is hardly text. Each kind has lines of 4 tokens and
 * of more than 128. All choices come from one seeded generator. README.md names the sources and their licences.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadTokenizer } from '../../src/tasks/text-file.ts';
import { CHAT, LANGUAGES, ODD, TEMPLATES, WORDS } from './phrases.ts';

let state = 20240229;
/** xorshift32: 0 ≤ r < n. */
function below(n: number): number {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % n;
}
const pick = <T>(list: readonly T[]): T => list[below(list.length)];
const times = <T>(n: number, f: (i: number) => T): T[] => Array.from({ length: n }, (_, i) => f(i));
const shuffled = <T>(list: readonly T[]): T[] => {
  const out = [...list];
  for (let i = out.length - 1; i > 0; i--) {
    const j = below(i + 1);
    [out[i], out[j]] = [out[j], out[i]];
  }
  return out;
};
/** Word counts the lines are cut to: most are sentences, some fragments, some pages. */
const LENGTHS = [3, 6, 9, 12, 16, 20, 25, 30, 40, 55, 75, 100, 120];
const cut = (text: string, words = pick(LENGTHS)): string => new RegExp(`^\\s*(?:\\S+\\s*){1,${words}}`).exec(text)?.[0].trimEnd().slice(0, 900) ?? '';
const fill = (template: string): string => template.replace(/\{(\w+)\}/g, (_, kind: string) => (kind === 'n' ? `${1 + below(10 ** (1 + below(5)))}` : pick(WORDS[kind])));

const out: string[] = [];
const add = (n: number, f: (i: number) => string): void => void out.push(...times(n, f));

// ── Sources on the machine
const run = (command: string, ...args: string[]): string => execFileSync(command, args, { encoding: 'utf8' }).trim();
const python = run('python3', '-c', 'import sysconfig; print(sysconfig.get_path("stdlib"))');
const go = run('go', 'env', 'GOROOT');
const rust = join(run('rustc', '--print', 'sysroot'), 'share/doc/rust/html/book');
const read = (...path: string[]): string => readFileSync(join(...path), 'utf8');
const paragraphs = (text: string): string[] => text.split(/\n\s*\n/).map((p) => p.trim()).filter((p) => p.length > 40);
const flow = (p: string): string => p.replace(/\s+/g, ' ');

const newton = paragraphs(read(go, 'src/testdata/Isaac.Newton-Opticks.txt').slice(20_000, 400_000)).filter((p) => !/[_[\]|]/.test(p));
add(60, () => cut(flow(pick(newton))));
add(20, () => cut(flow(shuffled(newton).slice(0, 3).join(' ')), 180));
add(8, () => cut(flow(read(go, 'src/compress/testdata/gettysburg.txt').slice(below(1000)).replace(/^\S*\s/, ''))));

const reference = paragraphs(run('python3', '-c', 'from pydoc_data.topics import topics\nfor k in sorted(topics): print(topics[k])'));
add(70, () => cut(pick([flow, (p: string) => p])(pick(reference))));

const unescape = (html: string): string => html.replace(/<[^>]*>/g, '').replace(/&lt;/g, '<').replace(/&gt;/g, '>').replace(/&quot;/g, '"').replace(/&#(\d+);|&#x([0-9a-f]+);/gi, (_, d, h) => String.fromCodePoint(d ? Number(d) : Number.parseInt(h, 16))).replace(/&amp;/g, '&');
const book = existsSync(rust) ? readdirSync(rust).filter((f) => /^ch\d.*\.html$/.test(f)).sort().map((f) => read(rust, f)) : [];
const bookProse = book.flatMap((page) => [...page.matchAll(/<p>([\s\S]*?)<\/p>/g)].map((m) => unescape(m[1])));
const bookCode = book.flatMap((page) => [...page.matchAll(/<code class="language-rust[^"]*">([\s\S]*?)<\/code>/g)].map((m) => unescape(m[1])));
const bookHtml = book.flatMap((page) => [...page.matchAll(/<(?:p|ul|h2|pre)[\s>][\s\S]{80,700}?<\/(?:p|ul|h2|pre)>/g)].map((m) => m[0]));
add(50, () => cut(flow(pick(bookProse))));
add(12, (i) => cut(flow(bookProse.slice(37 * i, 37 * i + 8).join(' ')), 150));

// ── Code: a few whole lines of each
const block = (files: readonly string[], lines: readonly number[] = [1, 2, 4, 7, 10, 14]): string => {
  const text = readFileSync(pick(files), 'utf8').split('\n');
  for (;;) {
    const at = below(text.length);
    const piece = text.slice(at, at + pick(lines)).join('\n').trim();
    if (piece.length > 12) return piece.slice(0, 700);
  }
};
const under = (dir: string, kind: RegExp): string[] =>
  readdirSync(dir, { withFileTypes: true }).filter((f) => f.isFile() && kind.test(f.name)).map((f) => join(dir, f.name)).sort();
const pythonFiles = under(python, /\.py$/);
const goFiles = ['net/http', 'strings', 'encoding/json', 'sort', 'time', 'crypto/tls', 'go/parser', 'math/big'].flatMap((d) => under(join(go, 'src', d), /\.go$/));
add(36, () => block(pythonFiles));
add(30, () => block(goFiles));
add(20, () => cut(pick(bookCode), pick([8, 20, 40, 70])));
add(10, () => block(under(join(go, 'src/runtime/cgo'), /\.c$/)));
add(8, () => block(under(join(go, 'src/crypto/internal/fips140/sha256'), /\.s$/)));
add(10, () => block(under(join(go, 'src/cmd/vendor/github.com/google/pprof/internal/driver/html'), /\.(css|js|html)$/)));
add(20, () => pick(bookHtml));
const docstrings = pythonFiles.flatMap((f) => [...readFileSync(f, 'utf8').matchAll(/"""([^"]{40,1200})"""/g)].map((m) => m[1].trim()));
add(40, () => cut(pick([flow, (p: string) => p])(pick(docstrings))));

// ── English of every day, from templates
for (const list of Object.values(TEMPLATES)) for (const template of list) add(2, () => fill(template));
add(40, () => shuffled(Object.values(TEMPLATES).flat()).slice(0, 2 + below(4)).map(fill).join(pick([' ', '\n', '\n\n'])));
out.push(...CHAT, ...ODD);
add(25, () => times(2 + below(6), () => pick(CHAT)).join('\n'));
add(8, () => fill(pick(Object.values(TEMPLATES).flat())).toUpperCase());
add(8, () => fill(pick(Object.values(TEMPLATES).flat())).replace(/[.,!?']/g, '').toLowerCase());
add(8, () => fill(pick(Object.values(TEMPLATES).flat())).replace(/\w/g, (c) => (below(12) === 0 ? pick([...'aeiourstln']) : c)));

// ── Digits, tables, records
const digits = (n: number): string => times(n, () => below(10)).join('');
const hex = (n: number): string => times(n, () => below(16).toString(16)).join('');
const word = (): string => pick(WORDS[pick(Object.keys(WORDS))]).split(' ')[0].toLowerCase().replace(/\W/g, '');
const date = (): string => `${1900 + below(200)}-${`${1 + below(12)}`.padStart(2, '0')}-${`${1 + below(28)}`.padStart(2, '0')}`;
const host = (): string => `${pick(['www', 'api', 'mail', 'shop', 'docs', 'm'])}.${word()}-${word()}.${pick(['com', 'org', 'net', 'co.uk', 'de', 'io', 'gov.in', 'jp'])}`;
const uuid = (): string => [8, 4, 4, 4, 12].map(hex).join('-');
const base64 = (n: number): string => times(n, () => pick([...'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'])).join('');
const url = (): string => `https://${host()}/${times(1 + below(4), word).join('/')}${pick(['', '/', '.html', `?id=${digits(6)}`, `?q=${word()}+${word()}&page=${below(50)}&sort=${word()}`, `#${word()}-${word()}`])}`;
const number = (): string => pick([() => digits(1 + below(12)), () => `${below(1000)}.${digits(1 + below(8))}`, () => `-${below(100)},${digits(3)}`, () => `${1 + below(9)}e-${below(20)}`, () => `${below(100)}%`, () => `$${below(999)},${digits(3)}.${digits(2)}`, () => `${below(24)}:${digits(1)}${digits(1)}`, () => `+${1 + below(98)} ${digits(3)} ${digits(7)}`, date])();
const records: (() => string)[] = [
  () => times(1 + below(30), number).join(pick([' ', ', ', '\t', ' | '])),
  () => [['name', 'date', 'amount', 'city'].join(','), ...times(1 + below(6), () => [word(), date(), number(), pick(WORDS.place)].join(','))].join('\n'),
  () => [`| ${word()} | ${word()} | ${word()} |`, '|---|---:|:--|', ...times(1 + below(5), () => `| ${word()} | ${number()} | ${number()} |`)].join('\n'),
  () => JSON.stringify({ id: below(1e6), [word()]: word(), [word()]: times(below(5), () => below(1000)), nested: { at: date(), ok: below(2) === 1, note: fill(pick(TEMPLATES.notes)) } }, null, pick([0, 2])),
  () => `<${word()} id="${uuid()}" at='${date()}'><name>${pick(WORDS.person)}</name><total currency="EUR">${number()}</total><!-- ${fill(pick(TEMPLATES.notes))} --></${word()}>`,
  () => times(1 + below(5), () => `${word()}: ${pick([number, word, url])()}`).join('\n'),
  () => `${date()}T${digits(2)}:${digits(2)}:${digits(2)}Z ${pick(['INFO', 'WARN', 'ERROR', 'DEBUG'])} [${word()}-${below(9)}] ${word()}.${word()}(${hex(8)}): ${fill(pick(TEMPLATES.notes))} took=${below(9999)}ms`,
  () => `${times(4, () => below(256)).join('.')} - - [${date()}] "${pick(['GET', 'POST', 'PUT'])} /${word()}/${digits(4)} HTTP/1.1" ${pick([200, 301, 404, 500])} ${digits(5)}`,
  () => `SELECT ${word()}, SUM(${word()}) AS total FROM ${word()}s WHERE ${word()} ${pick(['=', '<', 'LIKE', 'IN'])} ('${word()}', ${number()}) GROUP BY 1 ORDER BY total DESC LIMIT ${below(100)};`,
  () => `git ${pick(['commit -m', 'checkout -b', 'rebase -i', 'log --oneline'])} "${fill(pick(TEMPLATES.notes))}" && sudo ${word()} --${word()}=${number()} /usr/${word()}/${word()}.${pick(['conf', 'log', 'sh'])} 2>&1 | grep -v '^#' > ~/${word()}.txt`,
  () => times(1 + below(3), url).join('\n'),
  () => `${word()}.${word()}${below(99)}@${host()}`,
  () => pick([uuid, () => hex(64), () => base64(20 + below(60)), () => `sha256:${hex(64)}`])(),
  () => `$$ ${pick(['\\frac', '\\binom'])}{${below(9)}x^{${below(9)}} + ${pick(['\\alpha', '\\pi', 'y'])}}{\\sqrt{${number()}}} ${pick(['=', '\\leq', '\\to'])} \\sum_{i=${below(3)}}^{n} ${pick(['a_i', '\\lambda^{i}', 'e^{-i t}'])} $$`,
  () => `∀x∈ℝ: ${pick(['∃y', '∫₀^∞', '∑ₙ', '∇·'])} f(x) ${pick(['≤', '≈', '→', '≠', '⊂'])} ${number()} ${pick(['±', '×', '÷', '∓'])} ${number()} ${pick(['Ω', 'µm', '°C', '‰', 'ℏ'])}`,
  () => `From: ${pick(WORDS.person)} <${word()}@${host()}>\nTo: ${word()}@${host()}\nSubject: ${pick(['Re: ', 'Fwd: ', ''])}${fill(pick(TEMPLATES.notes))}\nDate: ${date()}\n\n${fill(pick(TEMPLATES.letters))}`,
  () => `${times(2 + below(5), (i) => `${pick(['-', '*', `${i + 1}.`, '- [ ]', '- [x]'])} ${fill(pick(TEMPLATES.notes))}`).join('\n')}`,
  () => `# ${fill(pick(TEMPLATES.notes))}\n\n**${word()}** and *${word()}*: see [${word()}](${url()}).\n\n> ${fill(pick(TEMPLATES.news))}\n\n\`${word()}(${number()})\``,
  () => times(3 + below(8), () => `${pick([...'ACDEFGHIKLMNPQRSTVWY'])}${pick([...'ACDEFGHIKLMNPQRSTVWY'])}${pick(['ACGT', 'GATTACA', 'KLVFF', 'MSKGE'])}`).join(''),
  () => `${1 + below(8)}. ${pick(['e4 e5', 'd4 Nf6', 'c4 e5'])} ${2 + below(8)}. ${pick(['Nf3 Nc6', 'Nc3 Bb4', 'g3 d5'])} ${3 + below(8)}. ${pick(['Bb5 a6', 'O-O Be7', 'Qxd5+ Kf8', 'e8=Q#'])} ${pick(['1-0', '0-1', '½-½', ''])}`,
];
for (const record of records) add(8, record);

// ── Languages: sentences by hand, and what CLDR knows of each (days, countries, sums of money)
out.push(...Object.values(LANGUAGES).flat());
for (const [locale, sentences] of Object.entries(LANGUAGES)) {
  const when = new Date(Date.UTC(1970 + below(80), below(12), 1 + below(28), below(24), below(60)));
  const region = new Intl.DisplayNames(locale, { type: 'region' });
  const names = shuffled(['DE', 'JP', 'BR', 'EG', 'IN', 'KE', 'MX', 'KR', 'GR', 'TH', 'IL', 'UA', 'CN', 'FR', 'TR', 'ZA']).slice(0, 2 + below(10)).map((r) => region.of(r) ?? r);
  out.push(new Intl.DateTimeFormat(locale, { dateStyle: 'full', timeStyle: 'short', timeZone: 'UTC' }).format(when));
  out.push(new Intl.ListFormat(locale).format(names));
  out.push(`${new Intl.NumberFormat(locale, { style: 'currency', currency: 'EUR', currencyDisplay: 'name' }).format(below(1e6) / 100)} – ${new Intl.RelativeTimeFormat(locale).format(below(40) - 20, 'day')}`);
  if (sentences.length > 1) out.push(shuffled(sentences).slice(0, 3).join(' '));
}
const cjk = ['gb18030', 'big5', 'shift_jis', 'euc_kr'].map((f) => read(python, 'test/cjkencodings', `${f}-utf8.txt`));
add(16, (i) => [...cjk[i % 4]].slice(0, pick([10, 25, 60, 140])).join('').trim());
add(12, () => times(2 + below(3), () => pick(pick(Object.values(LANGUAGES)))).join(' '));

// ── Hardly text
const EMOJI = [...'😀😂🥰😭😡👍🙏🎉🔥💀🌍🚀🍕🐈🦄🎸⚽📈💔✨🤖🏆☕🌧'];
add(10, () => times(1 + below(20), () => pick(EMOJI)).join(pick(['', ' '])));
add(10, () => `${fill(pick(TEMPLATES.reviews))} ${times(1 + below(4), () => pick(EMOJI)).join('')} #${word()} #${word()} @${word()}${below(99)}`);
for (const unit of ['the ', 'ha', '!', '?', '. ', '- ', 'a', 'no ', '0', '9 9 ', '= ', '<br>', '\n', '🔥', '我', 'й ', '[', '"', 'aAaA', 'very ', '_ ', '… ', 'http:// ']) for (const n of [7, 60, 130]) out.push(`${n === 7 ? '' : 'so '}${unit.repeat(n)}.`);
// Words in no order, and letters of one script in no order: every row of an embedding table should have a chance to be seen.
const vocabulary = shuffled([...new Set([...newton, ...reference, ...bookProse, ...docstrings].flatMap((p) => p.match(/[A-Za-z]{3,}/g) ?? []).map((w) => w.toLowerCase()))].sort());
add(60, (i) => vocabulary.slice(70 * i, 70 * i + pick([5, 15, 40, 70])).join(' '));
for (const first of [0xa1, 0x100, 0x180, 0x250, 0x386, 0x400, 0x531, 0x5d0, 0x621, 0x905, 0x985, 0xb85, 0xe01, 0x10d0, 0x1100, 0x1e00, 0x2010, 0x20a0, 0x2100, 0x2190, 0x2200, 0x2500, 0x25a0, 0x2600, 0x3041, 0x30a1, 0x3105, 0x4e00, 0x5b00, 0x7530, 0x91d1, 0xac00, 0xff01, 0x1f300, 0x1f600])
  out.push(times(pick([6, 20, 50]), () => String.fromCodePoint(first + below(90)) + pick(['', ' '])).join(''));

const heldout = new Set(read(import.meta.dirname, 'heldout.jsonl').trim().split('\n').map((l) => JSON.parse(l) as string));
const tokenizer = loadTokenizer(process.argv[2] ?? join(import.meta.dirname, '../../.subrosa/models/minilm'));
const all = new Set(shuffled(out.map((t) => t.normalize('NFC').trim())));
const lines = [...all].filter((t) => !heldout.has(t) && tokenizer.encode(t).ids.length > 2);
writeFileSync(join(import.meta.dirname, 'texts.jsonl'), `${lines.map((t) => JSON.stringify(t)).join('\n')}\n`);

const counts = lines.map((t) => tokenizer.encode(t, { maxTokens: 256 }).ids.length).sort((a, b) => a - b);
const at = (q: number): number => counts[Math.floor(q * (counts.length - 1))];
console.log(`${lines.length} lines, ${counts.reduce((a, b) => a + b, 0)} tokens; length 0/10/50/90/100 %: ${[0, 0.1, 0.5, 0.9, 1].map(at).join(' ')}; over 128: ${counts.filter((c) => c > 128).length}`);
