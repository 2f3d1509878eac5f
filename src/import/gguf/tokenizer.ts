/**
 * The tokenizer inside a GGUF file, in the words of tokenizer.json, so that one library runs it wherever it came from.
 *
 * 'gpt2': byte-level BPE with its merges in order; how text is cut before that has a name (tokenizer.ggml.pre).
 * 'llama': SentencePiece's BPE, which has a score for each piece and no merges. Two pieces merge when together they are a piece, best score
 * first: that list is the merges, as Hugging Face's own conversion makes it.
 */
import { ModelError } from '../../graph/graph.ts';
import type { Gguf, GgufValue } from './read.ts';

export interface GgufTokenizer {
  /** tokenizer.json and tokenizer_config.json. */
  readonly tokenizer: object;
  readonly config: object;
  readonly bos?: number;
  /** Tokens that end a text or a turn. */
  readonly eos: readonly number[];
  readonly chatTemplate?: string;
}

/** Token types of llama.cpp. */
const [UNKNOWN, CONTROL, USER, BYTE] = [2, 3, 4, 6];

const contractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const rest = '| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+';
const split = (regex: string): object[] => [
  { type: 'Split', pattern: { Regex: regex }, behavior: 'Isolated', invert: false },
  { type: 'ByteLevel', add_prefix_space: false, trim_offsets: false, use_regex: false },
];
const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
const llama3 = { cut: split(`${contractions}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}${rest}`), whole: true, bos: true };
const lower = '\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}';
const upper = '\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}';

interface Cutting {
  readonly cut: readonly object[];
  readonly normalizer?: object;
  /** A word that is a token stays whole, merges or not. */
  readonly whole?: boolean;
  /** A beginning-of-text token where the file does not say. */
  readonly bos?: boolean;
}
const cuttings: Readonly<Record<string, Cutting>> = {
  'gpt-2': { cut: [byteLevel] },
  smollm: { cut: [{ type: 'Digits', individual_digits: true }, byteLevel] },
  'llama-bpe': llama3,
  'smaug-bpe': llama3,
  qwen2: { cut: split(`${contractions}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}${rest}`), normalizer: { type: 'NFC' } },
  tekken: {
    cut: split(
      `[^\\r\\n\\p{L}\\p{N}]?[${upper}]*[${lower}]+|[^\\r\\n\\p{L}\\p{N}]?[${upper}]+[${lower}]*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`,
    ),
    whole: true,
    bos: true,
  },
};

export function ggufTokenizer(file: Gguf): GgufTokenizer {
  const get = (key: string): GgufValue | undefined => file.metadata.get(`tokenizer.${key}`);
  const fail = (reason: string): never => {
    throw new ModelError(`${file.label}: ${reason}`);
  };
  const flag = (key: string, otherwise: boolean): boolean => (typeof get(key) === 'boolean' ? (get(key) as boolean) : otherwise);
  const model = get('ggml.model');
  const tokens = texts(get('ggml.tokens')) ?? fail('no tokenizer.ggml.tokens in it');
  const types = numbers(get('ggml.token_type'), tokens.length) ?? new Int32Array(tokens.length).fill(1);
  const id = (key: string): number | undefined => {
    const v = get(`ggml.${key}_token_id`);
    return typeof v === 'number' && Number.isInteger(v) && v >= 0 && v < tokens.length ? v : undefined;
  };
  // A token that stands twice is found under its last number; the tokenizer needs numbers without holes.
  const vocab = new Map(tokens.map((t, i) => [t, i]));
  const bos = id('bos');
  let parts: { tokenizer: object; addBos: boolean };
  if (model === 'gpt2') {
    const pre = get('ggml.pre') ?? 'gpt-2';
    const cutting =
      typeof pre === 'string' && Object.hasOwn(cuttings, pre)
        ? cuttings[pre]
        : fail(`its tokenizer cuts text by '${String(pre).slice(0, 40)}'; ${Object.keys(cuttings).join(', ')} are known`);
    const merges = texts(get('ggml.merges')) ?? fail('no tokenizer.ggml.merges in it');
    parts = { addBos: flag('ggml.add_bos_token', cutting.bos ?? false), tokenizer: byteLevelBpe(vocab, merges, cutting) };
  } else if (model === 'llama') {
    const scores = numbers(get('ggml.scores'), tokens.length) ?? fail('no tokenizer.ggml.scores in it');
    const space = flag('ggml.add_space_prefix', true);
    const unknown = tokens[id('unknown') ?? types.indexOf(UNKNOWN)];
    parts = { addBos: flag('ggml.add_bos_token', true), tokenizer: sentencePieceBpe(tokens, vocab, types, scores, space, unknown) };
  } else return fail(`tokenizer '${String(model).slice(0, 40)}' is not supported; gpt2 and llama are`);

  const added = tokens.flatMap((content, i) =>
    types[i] === CONTROL || types[i] === USER
      ? [{ id: i, content, special: types[i] === CONTROL, single_word: false, lstrip: false, rstrip: false, normalized: false }]
      : [],
  );
  const first = parts.addBos && bos !== undefined ? [{ SpecialToken: { id: tokens[bos], type_id: 0 } }] : [];
  const last =
    flag('ggml.add_eos_token', false) && id('eos') !== undefined ? [{ SpecialToken: { id: tokens[id('eos') as number], type_id: 0 } }] : [];
  const template = [...first, { Sequence: { id: 'A', type_id: 0 } }, ...last];
  const used = [...first, ...last].map((t) => t.SpecialToken.id);
  const processor = {
    type: 'TemplateProcessing',
    single: template,
    pair: [...template, { Sequence: { id: 'B', type_id: 1 } }],
    special_tokens: Object.fromEntries(used.map((t) => [t, { id: t, ids: [vocab.get(t)], tokens: [t] }])),
  };
  const chat = get('chat_template');
  const ends = ['eos', 'eot', 'eom'].map(id).filter((v) => v !== undefined);
  return {
    tokenizer: { version: '1.0', added_tokens: added, ...parts.tokenizer, post_processor: processor },
    config: {},
    bos,
    eos: [...new Set(ends)],
    chatTemplate: typeof chat === 'string' ? chat : undefined,
  };
}

function texts(v: GgufValue | undefined): readonly string[] | undefined {
  return Array.isArray(v) && v.every((t) => typeof t === 'string') ? (v as string[]) : undefined;
}
function numbers(v: GgufValue | undefined, count: number): Float32Array | Int32Array | undefined {
  return (v instanceof Float32Array || v instanceof Int32Array) && v.length === count ? v : undefined;
}

function byteLevelBpe(vocab: ReadonlyMap<string, number>, merges: readonly string[], { cut, normalizer, whole }: Cutting): object {
  return {
    normalizer: normalizer ?? null,
    pre_tokenizer: { type: 'Sequence', pretokenizers: cut },
    decoder: byteLevel,
    model: { type: 'BPE', vocab: Object.fromEntries(vocab), merges, byte_fallback: false, ignore_merges: whole ?? false },
  };
}

function sentencePieceBpe(
  tokens: readonly string[],
  vocab: ReadonlyMap<string, number>,
  types: ArrayLike<number>,
  scores: ArrayLike<number>,
  space: boolean,
  unknown: string | undefined,
): object {
  const merges: { left: string; right: string; score: number; l: number; r: number }[] = [];
  for (const [i, piece] of tokens.entries()) {
    if (types[i] === CONTROL || types[i] === BYTE || types[i] === UNKNOWN) continue;
    const points = Array.from(piece);
    const local: typeof merges = [];
    for (let cut = 1, left = ''; cut < points.length; cut++) {
      left += points[cut - 1];
      const right = piece.slice(left.length);
      if (vocab.has(left) && vocab.has(right)) local.push({ left, right, score: scores[i], l: cut, r: points.length - cut });
    }
    const at = (t: string): number => vocab.get(t) as number;
    merges.push(...local.sort((a, b) => at(a.left) - at(b.left) || at(a.right) - at(b.right)));
  }
  merges.sort((a, b) => b.score - a.score || b.l - a.l || b.r - a.r);
  const replace = { type: 'Replace', pattern: { String: ' ' }, content: '▁' };
  return {
    normalizer: space ? { type: 'Sequence', normalizers: [{ type: 'Prepend', prepend: '▁' }, replace] } : replace,
    pre_tokenizer: null,
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        ...(space ? [{ type: 'Strip', content: ' ', start: 1, stop: 0 }] : []),
      ],
    },
    model: {
      type: 'BPE',
      vocab: Object.fromEntries(vocab),
      merges: merges.map((m) => [m.left, m.right]),
      unk_token: unknown ?? null,
      fuse_unk: true,
      byte_fallback: types.length > 0 && Array.prototype.includes.call(types, BYTE),
      ignore_merges: false,
    },
  };
}
